//! Learns which machines join and which never do.
//!
//! Given claims whose Node has registered, or that were given up because it did not; what follows is remembered with
//! the launches, and told on the EC2NodeClass. Nothing is learned of a machine that was taken away, by whomever.

use super::context::Acting;
use crate::api::{ConditionType, labels};
use crate::cluster::events::{EventKind, Subject};
use crate::metrics::Loop;
use crate::model::claim::Claim;
use crate::plan::instances::Sight;
use crate::plan::launch::{WHAT_TO_LOOK_AT, offering_of};

/// The Node of a claim has registered.
pub(super) fn joined(context: &Acting, claim: &Claim) {
    let known = context.class(&claim.node_class);
    let Some((bought, known)) = offering_of(claim).zip(known) else {
        return;
    };
    let now = context.now();
    context.launches(|memory| {
        let no_shows = &mut memory.no_shows;
        no_shows.joined(&known.class, &bought.instance_type, now);
    });
}

/// The Node of a claim, which is given up, did not register in time.
pub(super) fn learn(context: &Acting, claim: &Claim) {
    let id = claim.instance_id().unwrap_or_default();
    let Sight::Seen(instance) = context.instances(|view| view.get(id)) else {
        return;
    };
    let view = context.mirror.view();
    let mut nodes = view.nodes.values();
    let is_there = nodes.any(|node| node.provider_id == claim.provider_id);
    let is_maintained = claim.annotations.contains_key(labels::MAINTENANCE);
    if instance.state.is_off() || is_there || is_maintained {
        return;
    }
    let Some(known) = context.class(&claim.node_class) else {
        return;
    };
    let class = &known.class;
    let launched = claim.conditions.get(ConditionType::Launched.as_str());
    let launched = launched.map_or(claim.created, |found| found.since);
    let name = &instance.offering.instance_type;
    let now = context.now();
    let rest = context.launches(|memory| {
        let no_shows = &mut memory.no_shows;
        no_shows.timed_out(class, (name, launched), &claim.uid, now)
    });
    let Some(rest) = rest else {
        return;
    };
    let message = format!(
        "{} machines of {name} in a row, {id} the last, did not join the cluster: no more of it is bought through this \
         class until {:.0}, then one at a time until one joins, or until the class is changed; look at {WHAT_TO_LOOK_AT} \
         (aws ec2 get-console-output --instance-id {id})",
        rest.in_a_row, rest.until
    );
    tracing::warn!(class = class.name, "{message}");
    let subject = Subject::node_class(&class.name, &class.uid);
    let words = ("MachinesDoNotJoin", "Registering");
    context.tell(subject, EventKind::Warning, words, message);
    context.wake(Loop::Provisioning);
}
