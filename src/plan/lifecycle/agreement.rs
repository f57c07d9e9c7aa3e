//! Whether claim, Node and instance say the same.
//!
//! Given them as they were last seen; given back what does not agree. Nothing is decided here.

use jiff::SignedDuration;

use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState, tags};
use crate::model::node::Node;
use crate::model::offering::CapacityType;
use crate::plan::instances::{InstanceView, Sight};

/// So far apart are looks that count as two: what EC2 tells of one machine may be wrong for moments.
const BETWEEN_LOOKS: SignedDuration = SignedDuration::from_secs(5);

/// What does not agree between a claim, a Node with its provider id, and the instance.
pub(super) fn disagreement(claim: &Claim, node: &Node, instance: &Instance) -> Option<String> {
    if instance.provider_id() != claim.provider_id {
        return Some(format!(
            "the instance's provider id is {}, not {}",
            instance.provider_id(),
            claim.provider_id
        ));
    }
    if let Some(tag) = instance.tags.get(tags::CLAIM)
        && *tag != claim.name
    {
        return Some(format!("the instance is tagged as that of NodeClaim {tag}"));
    }
    let named = instance.host().map_or_else(
        || instance.tags.get(tags::CLAIM) == Some(&claim.name),
        |host| node.name.split('.').next() == Some(host),
    );
    (!named).then(|| {
        format!(
            "the host name of instance {} is {}, not {}",
            instance.id, instance.private_dns_name, node.name
        )
    })
}

/// True when the claim says reserved and EC2 has the running machine for on-demand, in more than one answer.
pub(super) fn has_left_its_reservation(claim: &Claim, instances: &InstanceView) -> bool {
    let said = claim.labels.get(labels::CAPACITY_TYPE);
    if said.map(String::as_str) != Some(CapacityType::Reserved.as_str()) {
        return false;
    }
    let id = claim.instance_id().unwrap_or_default();
    let Sight::Seen(instance) = instances.get(id) else {
        return false;
    };
    instance.state == InstanceState::Running
        && instance.offering.capacity_type == CapacityType::OnDemand
        && instances.billed_alike_for(id) >= BETWEEN_LOOKS
}
