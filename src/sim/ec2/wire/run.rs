//! `RunInstances` on the wire, as a dry run alone: machines of the region come from fleets.
//!
//! Given a request with `DryRun`; given back what EC2 would say to it: that it names what is not there, that
//! the caller may not do it, or that it would have succeeded.

use std::collections::{BTreeMap, BTreeSet};

use super::Desk;
use super::answer::Element;
use super::authorize::{self, Launch};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

pub(super) fn rehearse(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let all = &desk.all;
    for count in ["MinCount", "MaxCount"] {
        all.required(count)?;
        if all.number(count)?.is_none_or(|count| count < 1) {
            return Err(all.wrong(count, "It must be above zero."));
        }
    }
    if all.number("MinCount")? > all.number("MaxCount")? {
        return Err(all.wrong("MinCount", "It must not be above MaxCount."));
    }
    let template = desk.state.template_of(&all.part("LaunchTemplate"))?;
    let is_spot = all.part("InstanceMarketOptions").text("MarketType") == Some("spot");
    offered(desk, is_spot)?;
    let role = role(desk, &template.data.instance_profile)?;
    let tags: BTreeMap<String, Tags> = all.tag_specifications()?;
    let launch = Launch {
        template: &template,
        role: role.as_deref(),
        subnets: BTreeSet::from([subnet(desk)?]),
        is_spot,
        tags: &tags,
    };
    authorize::check(desk.policy, &launch.of_the_machines())?;
    if desk.is_dry_run()? {
        return Err(super::dry_run());
    }
    Err(Refusal::new(
        "UnsupportedOperation",
        "The simulated region launches through CreateFleet; RunInstances is served with DryRun only.",
    ))
}

/// The subnet that the machine would come into.
fn subnet<'call>(desk: &Desk<'call>) -> Result<&'call str, Refusal> {
    let interfaces = desk.all.parts("NetworkInterface");
    let beside = desk.all.text("SubnetId");
    if beside.is_some() && !interfaces.is_empty() {
        return Err(Refusal::new(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID may not be specified on the same request",
        ));
    }
    let of_interface = interfaces.first().and_then(|first| first.text("SubnetId"));
    let Some(id) = beside.or(of_interface) else {
        // The default network, which the account has not.
        return Err(desk.all.missing("SubnetId"));
    };
    let exists = desk.state.subnets.iter().any(|known| known.id == id);
    exists.then_some(id).ok_or_else(|| {
        Refusal::new(
            "InvalidSubnetID.NotFound",
            format!("The subnet ID '{id}' does not exist"),
        )
    })
}

/// Refuses a type that is not sold where the machine would come to.
fn offered(desk: &Desk<'_>, is_spot: bool) -> Result<(), Refusal> {
    let instance_type = desk.all.required("InstanceType")?;
    let subnet = subnet(desk)?;
    let place = desk.state.subnets.iter().find(|known| known.id == subnet);
    let zone = place.map_or("", |known| known.zone.as_str());
    let capacity_type = if is_spot {
        CapacityType::Spot
    } else {
        CapacityType::OnDemand
    };
    let offering = OfferingKey::new(instance_type, zone, capacity_type);
    let sold = desk.state.markets.price(&offering, desk.now);
    sold.map(|_price| ()).ok_or_else(|| {
        Refusal::new(
            "Unsupported",
            format!(
                "Your requested instance type ({instance_type}) is not supported in your requested \
                 Availability Zone ({zone})"
            ),
        )
    })
}

/// The role that the machine would be given.
fn role(desk: &Desk<'_>, profile: &str) -> Result<Option<String>, Refusal> {
    if profile.is_empty() {
        return Ok(None);
    }
    let found = desk.state.profiles.get(profile).ok_or_else(|| {
        Refusal::new(
            "InvalidParameterValue",
            format!(
                "Value ({profile}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance \
                 Profile name"
            ),
        )
    })?;
    Ok(found.role.filter(|role| !role.is_empty()))
}
