//! Instances on the wire: described, terminated, tagged.
//!
//! EC2 is eventually consistent: a machine that is not shown yet is not there for anybody who asks.

use std::collections::BTreeMap;

use super::Desk;
use super::answer::{Element, set, tag_set, text, within};
use super::filter::Filters;
use super::page::{Length, page};
use crate::model::instance::{Instance, InstanceState};
use crate::model::offering::CapacityType;
use crate::sim::ec2::State;
use crate::sim::ec2::account::{ACCOUNT, GROUP, NETWORK};
use crate::sim::ec2::machine::{EndCause, Machine};
use crate::sim::ec2::profiles;
use crate::sim::ec2::refusal::Refusal;

/// What instances can be filtered by beside tags.
const FILTERS: [&str; 10] = [
    "availability-zone",
    "iam-instance-profile.arn",
    "image-id",
    "instance-id",
    "instance-lifecycle",
    "instance-state-name",
    "instance-type",
    "private-dns-name",
    "subnet-id",
    "vpc-id",
];

/// The ids that a request names, each of which must be one.
pub(super) fn ids<'form>(desk: &Desk<'form>, name: &str) -> Result<Vec<&'form str>, Refusal> {
    let ids = desk.all.texts(name);
    let is_id = |id: &&str| {
        id.strip_prefix("i-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    match ids.iter().find(|id| !is_id(id)) {
        Some(wrong) => Err(Refusal::new(
            "InvalidInstanceID.Malformed",
            format!("Invalid id: \"{wrong}\" (expecting \"i-...\")"),
        )),
        None => Ok(ids),
    }
}

pub(super) fn describe(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &FILTERS)?;
    let ids = ids(desk, "InstanceId")?;
    if !ids.is_empty() && desk.all.text("MaxResults").is_some() {
        return Err(Refusal::new(
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        ));
    }
    if let Some(unknown) = ids.iter().find(|id| desk.state.seen(id).is_none()) {
        return Err(Refusal::no_instance(unknown));
    }
    let found: BTreeMap<String, (&Machine, Instance)> = desk
        .state
        .machines
        .keys()
        .filter(|id| ids.is_empty() || ids.contains(&id.as_str()))
        .filter_map(|id| Some((id.clone(), desk.state.seen(id)?)))
        .filter(|(_id, (machine, shown))| {
            filters.meet(&shown.tags, |filter| {
                of_instance(desk.state, machine, shown, filter)
            })
        })
        .collect();
    let page = page(found, &desk.all, Length::OLD)?;
    let reservations = page.things.iter().map(|(machine, shown)| {
        vec![
            text("reservationId", shown.id.replacen("i-", "r-", 1)),
            text("ownerId", ACCOUNT),
            set("instancesSet", [described(desk.state, machine, shown)]),
        ]
    });
    let mut answer = vec![set("reservationSet", reservations)];
    answer.extend(page.next);
    Ok(answer)
}

/// The ARN of a machine's instance profile, if it has one that is still there.
fn profile_of(state: &State, machine: &Machine) -> Option<String> {
    let name = &machine.template.as_ref()?.data.instance_profile;
    let profile = state.profiles.get(name)?;
    (!name.is_empty()).then(|| profiles::arn(&profile.path, name))
}

fn of_instance(state: &State, machine: &Machine, shown: &Instance, filter: &str) -> Vec<String> {
    let is_spot = shown.offering.capacity_type == CapacityType::Spot;
    match filter {
        "availability-zone" => vec![shown.offering.zone.to_string()],
        "iam-instance-profile.arn" => profile_of(state, machine).into_iter().collect(),
        "image-id" => vec![shown.image_id.clone()],
        "instance-id" => vec![shown.id.clone()],
        "instance-lifecycle" if is_spot => vec!["spot".to_owned()],
        "instance-state-name" => vec![state_of(shown.state).1.to_owned()],
        "instance-type" => vec![shown.offering.instance_type.to_string()],
        "private-dns-name" => vec![shown.private_dns_name.clone()],
        "subnet-id" => vec![shown.subnet_id.clone()],
        "vpc-id" => vec![NETWORK.to_owned()],
        _ => Vec::new(),
    }
}

/// EC2's code and word for a state. Source: "InstanceState" in the EC2 API reference.
const fn state_of(state: InstanceState) -> (u16, &'static str) {
    match state {
        InstanceState::Pending => (0, "pending"),
        InstanceState::Running => (16, "running"),
        InstanceState::ShuttingDown => (32, "shutting-down"),
        InstanceState::Terminated => (48, "terminated"),
        InstanceState::Stopping => (64, "stopping"),
        InstanceState::Stopped => (80, "stopped"),
    }
}

fn state_element(name: &'static str, of: InstanceState) -> Element {
    let (code, word) = state_of(of);
    within(name, vec![text("code", code), text("name", word)])
}

fn placement(state: &State, machine: &Machine, shown: &Instance) -> Vec<Element> {
    let mut placement = vec![
        text("availabilityZone", &shown.offering.zone),
        text("tenancy", "default"),
    ];
    let group = machine
        .template
        .as_ref()
        .and_then(|template| template.data.placement_group.as_ref())
        .and_then(|id| state.placement_groups.get(id));
    if let Some(group) = group {
        placement.push(text("groupName", &group.name));
        placement.push(text("groupId", &group.id));
    }
    placement.extend(
        shown
            .partition
            .map(|number| text("partitionNumber", number)),
    );
    placement
}

fn described(state: &State, machine: &Machine, shown: &Instance) -> Vec<Element> {
    let mut found = vec![
        text("instanceId", &shown.id),
        text("imageId", &shown.image_id),
        state_element("instanceState", shown.state),
        text("privateDnsName", &shown.private_dns_name),
        text("instanceType", &shown.offering.instance_type),
        text("launchTime", super::time(shown.launched)),
        within("placement", placement(state, machine, shown)),
        text("subnetId", &shown.subnet_id),
        text("vpcId", NETWORK),
        tag_set(&shown.tags),
    ];
    if let Some(ending) = &shown.ending {
        let reason = vec![
            text("code", &ending.code),
            text("message", format!("{}: {}", ending.code, ending.message)),
        ];
        found.push(within("stateReason", reason));
    }
    if shown.offering.capacity_type == CapacityType::Spot {
        found.push(text("instanceLifecycle", "spot"));
        let request = shown.id.replacen("i-", "sir-", 1);
        found.push(text("spotInstanceRequestId", request));
    }
    if machine.is_in_block() {
        found.push(text("instanceLifecycle", "capacity-block"));
    }
    if let Some(id) = machine.reservation() {
        let target = vec![text("capacityReservationId", id)];
        if shown.offering.capacity_type == CapacityType::Reserved {
            found.push(text("capacityReservationId", id));
        }
        found.push(within(
            "capacityReservationSpecification",
            vec![
                text(
                    "capacityReservationPreference",
                    "capacity-reservations-only",
                ),
                within("capacityReservationTarget", target),
            ],
        ));
    }
    if let Some(template) = &machine.template {
        let data = &template.data;
        let group = |id: &String| {
            let name = if id == GROUP.0 { GROUP.1 } else { "" };
            vec![text("groupId", id), text("groupName", name)]
        };
        found.push(set("groupSet", data.security_groups.iter().map(group)));
        found.push(within(
            "metadataOptions",
            vec![
                text("httpTokens", &data.metadata.tokens),
                text("httpPutResponseHopLimit", data.metadata.hop_limit),
                text("httpEndpoint", &data.metadata.endpoint),
            ],
        ));
    }
    let profile =
        profile_of(state, machine).map(|arn| within("iamInstanceProfile", vec![text("arn", arn)]));
    found.extend(profile);
    found
}

pub(super) fn terminate(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let ids = ids(desk, "InstanceId")?;
    let before = desk.state.known_all(&ids)?;
    desk.state.may_end(ids.iter().copied())?;
    let mut changes = Vec::new();
    for was in before {
        desk.state.end(&was.id, desk.now, EndCause::Terminated);
        let after = desk.state.machines.get(&was.id);
        let after = after.map_or(was.state, |machine| machine.state(desk.now));
        changes.push(vec![
            text("instanceId", &was.id),
            state_element("currentState", after),
            state_element("previousState", was.state),
        ]);
    }
    Ok(vec![set("instancesSet", changes)])
}

pub(super) fn tag(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let ids = ids(desk, "ResourceId")?;
    desk.state.known_all(&ids)?;
    let tags = desk.all.tags()?;
    if tags.is_empty() {
        return Err(desk.all.missing("Tag"));
    }
    for id in ids {
        if let Some(machine) = desk.state.machines.get_mut(id) {
            machine.instance.tags.extend(tags.clone());
        }
    }
    Ok(vec![text("return", true)])
}
