//! Launch templates on the wire: made once under a name and a client token, described, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Desk;
use super::answer::{Element, set, tag_set, text, within};
use super::filter::Filters;
use super::form::Part;
use super::page::{Length, page};
use crate::cloud::interfaces::{Interface, Traffic};
use crate::cloud::launch_template::{Metadata, PREFIX, Reserving};
use crate::sim::ec2::State;
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::{LaunchTemplate, MachineData, Volume, features};

/// User data at most, bytes before they are encoded. Source: "Run commands when you launch an EC2
/// instance" in the EC2 user guide: 16 KB.
const MOST_USER_DATA: usize = 16_384;

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let name = desk.all.required("LaunchTemplateName")?;
    let data = data(&desk.all.part("LaunchTemplateData"))?;
    let token = desk.all.text("ClientToken").map(str::to_owned);
    let asked = token.map(|token| (token, desk.form.parameters()));
    if let Some(known) = desk.state.repeated(asked.as_ref())? {
        return Ok(vec![within("launchTemplate", described(&known))]);
    }
    if desk.state.templates.contains_key(name) {
        return Err(Refusal::new(
            "InvalidLaunchTemplateName.AlreadyExistsException",
            "Launch template name already in use.",
        ));
    }
    let mut tags = desk.all.tag_specifications()?;
    let own = tags.remove("launch-template").unwrap_or_default();
    let made = desk.state.keep_template(name, own, data);
    let answer = vec![within("launchTemplate", described(&made))];
    if let Some((token, parameters)) = asked {
        desk.state.template_tokens.insert(token, (parameters, made));
    }
    Ok(answer)
}

impl State {
    /// The template of an earlier call with the same token, which must have asked for the same. A token is
    /// remembered for longer than its template: a repeated call succeeds and makes nothing.
    fn repeated(
        &self,
        asked: Option<&(String, String)>,
    ) -> Result<Option<Arc<LaunchTemplate>>, Refusal> {
        let Some((token, parameters)) = asked else {
            return Ok(None);
        };
        match self.template_tokens.get(token) {
            None => Ok(None),
            Some((known, template)) if known == parameters => Ok(Some(Arc::clone(template))),
            Some(_other) => Err(Refusal::new(
                "IdempotentParameterMismatch",
                "The client token was used before with other parameters",
            )),
        }
    }

    /// A template by name or id, of which a request has one.
    pub(super) fn template_of(&self, part: &Part<'_>) -> Result<Arc<LaunchTemplate>, Refusal> {
        if let Some(name) = part.text("LaunchTemplateName") {
            let found = self.templates.get(name);
            return found
                .map(Arc::clone)
                .ok_or_else(|| Refusal::no_template(name));
        }
        let id = part.required("LaunchTemplateId")?;
        let found = self.templates.values().find(|template| template.id == id);
        found.map(Arc::clone).ok_or_else(|| {
            Refusal::new(
                "InvalidLaunchTemplateId.NotFound",
                format!("The specified launch template, with template ID {id}, does not exist."),
            )
        })
    }
}

pub(super) fn describe(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &["create-time", "launch-template-name"])?;
    let names = desk.all.texts("LaunchTemplateName");
    let ids = desk.all.texts("LaunchTemplateId");
    for name in &names {
        if !desk.state.templates.contains_key(*name) {
            return Err(Refusal::no_template(name));
        }
    }
    let of = |template: &LaunchTemplate, filter: &str| match filter {
        "create-time" => vec![super::time(template.made)],
        _ => vec![template.name.clone()],
    };
    let found: BTreeMap<String, Vec<Element>> = desk
        .state
        .templates
        .values()
        .filter(|template| names.is_empty() || names.contains(&template.name.as_str()))
        .filter(|template| ids.is_empty() || ids.contains(&template.id.as_str()))
        .filter(|template| filters.meet(&template.tags, |filter| of(template, filter)))
        .map(|template| (template.name.clone(), described(template)))
        .collect();
    let length = Length {
        least: 1,
        most: 200,
        usual: 200,
    };
    let page = page(found, &desk.all, length)?;
    let mut answer = vec![set("launchTemplates", page.things)];
    answer.extend(page.next);
    Ok(answer)
}

pub(super) fn delete(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let template = desk.state.template_of(&desk.all)?;
    desk.state.templates.remove(&template.name);
    Ok(vec![within("launchTemplate", described(&template))])
}

fn described(template: &LaunchTemplate) -> Vec<Element> {
    vec![
        text("launchTemplateId", &template.id),
        text("launchTemplateName", &template.name),
        text("createTime", super::time(template.made)),
        text("defaultVersionNumber", 1),
        text("latestVersionNumber", 1),
        tag_set(&template.tags),
    ]
}

/// What a template says of machines.
fn data(part: &Part<'_>) -> Result<MachineData, Refusal> {
    let profile = part.part("IamInstanceProfile");
    let interfaces_asked = part.parts("NetworkInterface");
    let of_interfaces = interfaces_asked
        .iter()
        .flat_map(|interface| interface.texts("SecurityGroupId"));
    let groups = part.texts("SecurityGroupId").into_iter();
    let metadata = part.part("MetadataOptions");
    let word = |name: &str, usual: &str| metadata.text(name).unwrap_or(usual).to_owned();
    let hops = metadata.number("HttpPutResponseHopLimit")?.unwrap_or(1);
    Ok(MachineData {
        image_id: part.text("ImageId").unwrap_or("").to_owned(),
        user_data: user_data(part)?,
        instance_profile: profile
            .text("Name")
            .or_else(|| profile.text("Arn")?.rsplit('/').next())
            .unwrap_or("")
            .to_owned(),
        security_groups: groups.chain(of_interfaces).map(str::to_owned).collect(),
        volumes: volumes(part)?,
        metadata: Metadata {
            endpoint: word("HttpEndpoint", "enabled"),
            ipv6: metadata.text("HttpProtocolIpv6").map(str::to_owned),
            hop_limit: i32::try_from(hops)
                .ok()
                .filter(|hops| (1..=64).contains(hops))
                .ok_or_else(|| {
                    metadata.wrong("HttpPutResponseHopLimit", "It must be from 1 to 64.")
                })?,
            tokens: word("HttpTokens", "optional"),
        },
        tags: part.tag_specifications()?,
        reserving: reserving(part)?,
        features: features(
            part.part("EnclaveOptions").flag("Enabled")? == Some(true),
            part.part("CpuOptions").text("NestedVirtualization") == Some("enabled"),
        ),
        interfaces: interfaces(&interfaces_asked)?,
        addresses: addresses(&interfaces_asked)?,
        placement_group: part.part("Placement").text("GroupId").map(str::to_owned),
    })
}

/// The interfaces of machines; empty where there is one of the usual kind. Sources: "NetworkInterfaces" of
/// "RequestLaunchTemplateData" in the EC2 API reference; public addresses are refused beside a second interface
/// ("Assign a public IPv4 address at launch" in the EC2 user guide).
fn interfaces(asked: &[Part<'_>]) -> Result<Vec<Interface>, Refusal> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for part in asked {
        let index = |name: &str| -> Result<u32, Refusal> {
            let index = part.number(name)?.unwrap_or(0);
            u32::try_from(index).map_err(|_negative| part.wrong(name, "It must not be negative."))
        };
        if asked.len() > 1 && part.text("AssociatePublicIpAddress").is_some() {
            return Err(Refusal::new(
                "InvalidParameterCombination",
                "The associatePublicIPAddress parameter cannot be specified when launching with multiple network \
                 interfaces.",
            ));
        }
        let word = part.text("InterfaceType").unwrap_or("interface");
        let traffic = Traffic::parse(word)
            .ok_or_else(|| part.wrong("InterfaceType", "It must be interface, efa or efa-only."))?;
        let interface = Interface {
            card: index("NetworkCardIndex")?,
            device: index("DeviceIndex")?,
            traffic,
        };
        let takes_its_place =
            |other: &Interface| (other.card, other.device) == (interface.card, interface.device);
        if interfaces.iter().any(takes_its_place) {
            return Err(part.wrong("DeviceIndex", "Another interface has that place."));
        }
        interfaces.push(interface);
    }
    let is_usual = matches!(interfaces.as_slice(), [only] if only.traffic == Traffic::Interface);
    Ok(if is_usual { Vec::new() } else { interfaces })
}

/// Addresses that machines take: one for each interface but those for EFA alone, and a /28 for each prefix.
fn addresses(asked: &[Part<'_>]) -> Result<i64, Refusal> {
    let mut addresses: i64 = 0;
    for part in asked {
        if part.text("InterfaceType") != Some(Traffic::EfaOnly.as_str()) {
            let prefixes = part.number("Ipv4PrefixCount")?.unwrap_or(0).max(0);
            let of_prefixes = prefixes.saturating_mul(PREFIX);
            addresses = addresses.saturating_add(of_prefixes).saturating_add(1);
        }
    }
    Ok(addresses.max(1))
}

/// Which capacity reservations machines may be placed in. Source: "CapacityReservationSpecification" and
/// "InstanceMarketOptionsRequest" in the EC2 API reference.
fn reserving(data: &Part<'_>) -> Result<Option<Reserving>, Refusal> {
    const PREFERENCE: &str = "CapacityReservationPreference";
    let part = data.part("CapacityReservationSpecification");
    let market = data.part("InstanceMarketOptions");
    let is_block = market.text("MarketType") == Some("capacity-block");
    let target = part.part("CapacityReservationTarget");
    match (part.text(PREFERENCE), target.text("CapacityReservationId")) {
        (_preference, None) if is_block => {
            Err(market.wrong("MarketType", "A capacity block needs a target."))
        }
        (None | Some("open"), None) => Ok(None),
        (Some("none"), None) => Ok(Some(Reserving::Nowhere)),
        (None | Some("capacity-reservations-only"), Some(id)) => {
            let of_kind = if is_block {
                Reserving::Block
            } else {
                Reserving::Only
            };
            Ok(Some(of_kind(id.to_owned())))
        }
        (Some(_preference), _target) => {
            let wanted = "It must be open or none, or capacity-reservations-only with a target.";
            Err(part.wrong(PREFERENCE, wanted))
        }
    }
}

fn user_data(part: &Part<'_>) -> Result<String, Refusal> {
    let Some(encoded) = part.text("UserData") else {
        return Ok(String::new());
    };
    let malformed = || {
        Refusal::new(
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        )
    };
    let decoded = STANDARD
        .decode(encoded)
        .map_err(|_not_encoded| malformed())?;
    if decoded.len() > MOST_USER_DATA {
        let message = format!("User data is limited to {MOST_USER_DATA} bytes");
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    Ok(String::from_utf8_lossy(&decoded).into_owned())
}

fn volumes(part: &Part<'_>) -> Result<Vec<Volume>, Refusal> {
    let mut volumes = Vec::new();
    for mapping in part.parts("BlockDeviceMapping") {
        let ebs = mapping.part("Ebs");
        if ebs.is_empty() {
            continue;
        }
        volumes.push(Volume {
            device_name: mapping.required("DeviceName")?.to_owned(),
            kind: ebs.text("VolumeType").unwrap_or("gp3").to_owned(),
            gib: ebs.number("VolumeSize")?,
            iops: ebs.number("Iops")?,
            throughput: ebs.number("Throughput")?,
            encrypted: ebs.flag("Encrypted")?,
        });
    }
    Ok(volumes)
}
