//! `CreateFleet` on the wire.
//!
//! What the request as a whole gets wrong, or may not do, is refused; what one choice of it cannot have
//! is an error inside the answer, beside the instances that others got. So it is with what the fleet
//! does in the caller's name: launching and passing a role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Desk;
use super::answer::{Element, set, text, texts, within};
use super::authorize::{self, Launch};
use super::form::Part;
use crate::cloud::interfaces;
use crate::cloud::launch_template::Reserving;
use crate::model::launch::{LaunchOverride, LaunchedInstance, TemplateOverrides};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::ec2::choice::Strategy;
use crate::sim::ec2::fleet::{Fleet, Order};
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::{LaunchTemplate, Tags};
use crate::sim::faults::CallFault;

/// Launch templates and overrides of one request at most. Source: "EC2 Fleet quotas" in the EC2 user
/// guide.
const MOST_CONFIGS: usize = 50;
const MOST_OVERRIDES: usize = 300;

/// What a request asks for, read.
struct Request {
    size: usize,
    capacity_type: CapacityType,
    strategy: Strategy,
    configs: Vec<Config>,
    tags: BTreeMap<String, Tags>,
}

struct Config {
    template: Arc<LaunchTemplate>,
    /// The role in its instance profile.
    role: Option<String>,
    overrides: Vec<LaunchOverride>,
    /// Choices that cannot be had whatever the market is like.
    errors: Vec<Vec<Element>>,
}

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let request = read(desk)?;
    for config in &request.configs {
        authorize::check(desk.policy, &request.launch(config).of_the_fleet())?;
    }
    if desk.is_dry_run()? {
        return Err(super::dry_run());
    }
    let token = desk.all.text("ClientToken");
    let parameters = desk.form.parameters();
    if let Some(known) = desk.state.known_fleet(token, &parameters)? {
        let size = u32::try_from(request.size).unwrap_or(u32::MAX);
        desk.state.did_not_start(size);
        return Ok(answer(&request, &known, Vec::new()));
    }
    let mut errors = Vec::new();
    let mut templates = Vec::new();
    for config in &request.configs {
        errors.extend(config.errors.iter().cloned());
        match authorize::check(desk.policy, &request.launch(config).of_the_machines()) {
            Ok(()) => templates.push(TemplateOverrides {
                name: config.template.name.clone(),
                overrides: config.overrides.clone(),
            }),
            Err(refusal) => {
                let denied = config.overrides.iter();
                errors.extend(
                    denied.map(|choice| error(&request, choice, refusal.code, &refusal.message)),
                );
            }
        }
    }
    let order = Order {
        token: token.map(str::to_owned),
        parameters,
        size: request.size,
        capacity_type: request.capacity_type,
        context: desk.all.text("Context").map(str::to_owned),
        strategy: request.strategy,
        templates,
        tags: request.tags.get("instance").cloned().unwrap_or_default(),
    };
    let most = match desk.fault {
        Some(CallFault::Short(most)) => Some(most),
        _ => None,
    };
    let fleet = desk.state.launch(&order, most)?;
    Ok(answer(&request, &fleet, errors))
}

/// How many instances a request may start.
pub(super) fn size(all: &Part<'_>) -> u32 {
    let target = all.part("TargetCapacitySpecification");
    let size = target.number("TotalTargetCapacity").ok().flatten();
    u32::try_from(size.unwrap_or(0).max(0)).unwrap_or(u32::MAX)
}

fn read(desk: &Desk<'_>) -> Result<Request, Refusal> {
    let all = &desk.all;
    if all.text("Type") != Some("instant") {
        return Err(all.wrong("Type", "Only instant fleets are simulated."));
    }
    let target = all.part("TargetCapacitySpecification");
    target.required("TotalTargetCapacity")?;
    let size = target
        .number("TotalTargetCapacity")?
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size > 0)
        .ok_or_else(|| target.wrong("TotalTargetCapacity", "It must be above zero."))?;
    let (capacity_type, options) = match target.text("DefaultTargetCapacityType") {
        Some("spot") => (CapacityType::Spot, all.part("SpotOptions")),
        None | Some("on-demand") => (CapacityType::OnDemand, all.part("OnDemandOptions")),
        Some("capacity-block") => (CapacityType::Reserved, all.part("OnDemandOptions")),
        Some(_other) => {
            let wanted = "It must be spot, on-demand or capacity-block.";
            return Err(target.wrong("DefaultTargetCapacityType", wanted));
        }
    };
    let strategy = Strategy::parse(options.text("AllocationStrategy"), capacity_type)
        .ok_or_else(|| options.wrong("AllocationStrategy", "It is none of this capacity type."))?;
    let tags = all.tag_specifications()?;
    let parts = all.parts("LaunchTemplateConfigs");
    if parts.is_empty() {
        return Err(all.missing("LaunchTemplateConfigs"));
    }
    let mut configs = Vec::new();
    for part in &parts {
        configs.push(config(desk, part, capacity_type)?);
    }
    let overrides: usize = configs
        .iter()
        .map(|config| config.overrides.len() + config.errors.len())
        .sum();
    if configs.len() > MOST_CONFIGS || overrides > MOST_OVERRIDES {
        return Err(Refusal::new(
            "InvalidFleetConfiguration",
            format!(
                "{} launch templates with {overrides} overrides: {MOST_CONFIGS} and \
                 {MOST_OVERRIDES} are the most",
                configs.len()
            ),
        ));
    }
    Ok(Request {
        size,
        capacity_type,
        strategy,
        configs,
        tags,
    })
}

/// Reads one launch template with its overrides.
fn config(
    desk: &Desk<'_>,
    part: &Part<'_>,
    capacity_type: CapacityType,
) -> Result<Config, Refusal> {
    let template = desk
        .state
        .template_of(&part.part("LaunchTemplateSpecification"))?;
    let profile = desk.state.profiles.get(&template.data.instance_profile);
    let overrides = part.parts("Overrides");
    let mut config = Config {
        role: profile
            .and_then(|profile| profile.role)
            .filter(|role| !role.is_empty()),
        template,
        overrides: Vec::new(),
        errors: Vec::new(),
    };
    let is_block = matches!(&config.template.data.reserving, Some(Reserving::Block(_)));
    if is_block != (capacity_type == CapacityType::Reserved) {
        return Err(Refusal::new(
            "InvalidFleetConfiguration",
            "A capacity block is launched into by a template and a target of that kind.",
        ));
    }
    for choice in &overrides {
        config.add(desk, choice, capacity_type)?;
    }
    Ok(config)
}

impl Config {
    /// Reads one override.
    fn add(
        &mut self,
        desk: &Desk<'_>,
        part: &Part<'_>,
        capacity_type: CapacityType,
    ) -> Result<(), Refusal> {
        let instance_type = part.required("InstanceType")?;
        let subnet = part.text("SubnetId");
        let zone = part.text("AvailabilityZone");
        let found = desk
            .state
            .subnets
            .iter()
            .find(|known| match (subnet, zone) {
                (Some(subnet), _) => known.id == subnet,
                (None, zone) => Some(known.zone.as_str()) == zone,
            });
        let choice = LaunchOverride {
            instance_type: instance_type.to_owned(),
            zone: found
                .map_or_else(|| zone.unwrap_or(""), |known| &known.zone)
                .to_owned(),
            subnet: found
                .map_or_else(|| subnet.unwrap_or(""), |known| &known.id)
                .to_owned(),
            priority: priority(part)?,
        };
        let sold_as = match capacity_type {
            CapacityType::Reserved => CapacityType::OnDemand,
            other => other,
        };
        let offering = OfferingKey::new(instance_type, &choice.zone, sold_as);
        if found.is_none() {
            let message = format!("The subnet ID '{}' does not exist", choice.subnet);
            let error = unserved(&choice, capacity_type, "InvalidSubnetID.NotFound", &message);
            self.errors.push(error);
        } else if desk.state.markets.price(&offering, desk.now).is_none() {
            let message = format!(
                "Your requested instance type ({instance_type}) is not supported in your requested \
                 Availability Zone ({})",
                choice.zone
            );
            let error = unserved(&choice, capacity_type, "Unsupported", &message);
            self.errors.push(error);
        } else if !self.can_do_what_it_must(desk, instance_type) {
            let message = format!(
                "The instance type {instance_type} does not support what the template switches on."
            );
            let code = "InvalidParameterCombination";
            self.errors
                .push(unserved(&choice, capacity_type, code, &message));
        } else if !self.has_room_for_interfaces(desk, instance_type) {
            let message =
                format!("{instance_type} has no room for the network interfaces of the template");
            let code = "InvalidParameterCombination";
            self.errors
                .push(unserved(&choice, capacity_type, code, &message));
        } else {
            self.overrides.push(choice);
        }
        Ok(())
    }
}

impl Config {
    /// True when a type can do what the template switches on.
    fn can_do_what_it_must(&self, desk: &Desk<'_>, instance_type: &str) -> bool {
        let facts = desk.state.markets.sold().types.get(instance_type);
        facts.is_some_and(|facts| self.template.data.features.is_subset(&facts.features))
    }

    /// True when machines of a type have a place for every interface of the template.
    fn has_room_for_interfaces(&self, desk: &Desk<'_>, instance_type: &str) -> bool {
        let Some(facts) = desk.state.markets.sold().types.get(instance_type) else {
            return false;
        };
        let data = &self.template.data;
        data.efa_devices() <= i64::from(facts.efa_interfaces)
            && interfaces::have_places(&data.interfaces, facts)
    }
}

/// The rank of an override, in thousandths; without one it comes last.
fn priority(part: &Part<'_>) -> Result<u32, Refusal> {
    let Some(text) = part.text("Priority") else {
        return Ok(u32::MAX);
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let read = || {
        let whole: u32 = whole.parse().ok()?;
        whole
            .checked_mul(1_000)?
            .checked_add(fraction.parse().ok()?)
    };
    read().ok_or_else(|| part.wrong("Priority", "It must be a number from zero on."))
}

impl Request {
    fn launch<'call>(&'call self, config: &'call Config) -> Launch<'call> {
        let choices = config.overrides.iter();
        Launch {
            template: &config.template,
            role: config.role.as_deref(),
            subnets: choices
                .map(|choice| choice.subnet.as_str())
                .collect::<BTreeSet<_>>(),
            is_spot: self.capacity_type == CapacityType::Spot,
            tags: &self.tags,
        }
    }

    /// The template and override that an offering came from.
    fn source_of(&self, offering: &OfferingKey) -> Option<(&Config, &LaunchOverride)> {
        self.configs.iter().find_map(|config| {
            let choice = config.overrides.iter().find(|choice| {
                choice.instance_type == *offering.instance_type && choice.zone == *offering.zone
            });
            Some((config, choice?))
        })
    }
}

/// EC2's word for how machines were launched.
const fn lifecycle(capacity_type: CapacityType) -> &'static str {
    match capacity_type {
        CapacityType::Reserved => "capacity-block",
        other => other.as_str(),
    }
}

fn overrides(choice: &LaunchOverride) -> Element {
    within(
        "overrides",
        vec![
            text("instanceType", &choice.instance_type),
            text("subnetId", &choice.subnet),
            text("availabilityZone", &choice.zone),
        ],
    )
}

fn unserved(
    choice: &LaunchOverride,
    capacity_type: CapacityType,
    code: &str,
    message: &str,
) -> Vec<Element> {
    vec![
        within("launchTemplateAndOverrides", vec![overrides(choice)]),
        text("lifecycle", lifecycle(capacity_type)),
        text("errorCode", code),
        text("errorMessage", message),
    ]
}

fn error(request: &Request, choice: &LaunchOverride, code: &str, message: &str) -> Vec<Element> {
    unserved(choice, request.capacity_type, code, message)
}

fn answer(request: &Request, fleet: &Fleet, mut errors: Vec<Vec<Element>>) -> Vec<Element> {
    let mut groups: BTreeMap<(&OfferingKey, &str), Vec<&LaunchedInstance>> = BTreeMap::new();
    for instance in &fleet.outcome.instances {
        let key = (&instance.offering, instance.subnet_id.as_str());
        groups.entry(key).or_default().push(instance);
    }
    let instances = groups.into_iter().map(|((offering, _subnet), members)| {
        let mut source = Vec::new();
        if let Some((config, choice)) = request.source_of(offering) {
            let specification = vec![
                text("launchTemplateId", &config.template.id),
                text("version", 1),
            ];
            source.push(within("launchTemplateSpecification", specification));
            source.push(overrides(choice));
        }
        vec![
            within("launchTemplateAndOverrides", source),
            text("lifecycle", lifecycle(request.capacity_type)),
            texts("instanceIds", members.iter().map(|member| &member.id)),
            text("instanceType", &offering.instance_type),
        ]
    });
    let instances = set("fleetInstanceSet", instances);
    for shortfall in &fleet.outcome.shortfalls {
        let source = shortfall
            .offering
            .as_ref()
            .and_then(|offering| request.source_of(offering));
        if let Some((_config, choice)) = source {
            errors.push(error(request, choice, &shortfall.code, &shortfall.message));
        }
    }
    vec![
        text("fleetId", &fleet.id),
        instances,
        set("errorSet", errors),
    ]
}
