//! Why pods may be moved off a machine, and by when they must have left it: EC2 takes it or it has ended, or a user has
//! deleted its claim or its Node. All of it follows from what EC2 and users did, none of it from what controllers say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::history::Line;

use crate::acts::field;
use crate::checks::instance_of;
use crate::phases::text;

/// How long before EC2 takes a machine its pods must have left it: the rest is for ending the machine itself.
const LAST_SECONDS: SignedDuration = SignedDuration::from_secs(10);

/// What was announced, ended and asked for so far.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    /// The machine of each Node.
    machines: BTreeMap<String, String>,
    /// Machines that have ended, or that EC2 has announced to take.
    lost: BTreeSet<String>,
    /// Claims that a user has deleted, by uid.
    claims: BTreeSet<String>,
    /// Nodes that a user has deleted.
    nodes: BTreeSet<String>,
    /// Machines whose claim or Node a user has deleted.
    given_up: BTreeSet<String>,
    /// By when pods must have left each Node.
    deadlines: BTreeMap<String, Timestamp>,
}

impl Reasons {
    /// A user deletes a claim.
    pub(crate) fn claim_deleted(&mut self, uid: &str) {
        self.claims.insert(uid.to_owned());
    }

    /// A user deletes a Node.
    pub(crate) fn node_deleted(&mut self, name: &str, provider_id: &str) {
        self.nodes.insert(name.to_owned());
        self.given_up.insert(instance_of(provider_id).to_owned());
    }

    /// True for a Node that a user has deleted.
    pub(crate) fn is_deleted_by_user(&self, node: &str) -> bool {
        self.nodes.contains(node)
    }

    /// True when pods may be moved off a Node. One that a restore has unbound is moved off none.
    pub(crate) fn excuse(&self, node: &str) -> bool {
        let machine = self.machines.get(node);
        node.is_empty()
            || machine.is_some_and(|id| self.lost.contains(id) || self.given_up.contains(id))
    }

    /// By when pods must have left a Node, if they must.
    pub(crate) fn deadline(&self, node: &str) -> Option<Timestamp> {
        self.deadlines.get(node).copied()
    }

    /// Looks at claims before what happened is taken in: one that gives its pods so long to leave may be gone by the
    /// next look, and one that a user has deleted may have learned of its machine since.
    pub(crate) fn look(&mut self, world: &Embedded) {
        let mut due = Vec::new();
        world.api.each(Resource::NodeClaim, |_key, claim| {
            let id = instance_of(text(claim, "/status/providerID"));
            if id.is_empty() {
                return;
            }
            if self.claims.contains(text(claim, "/metadata/uid")) {
                self.given_up.insert(id.to_owned());
            }
            due.extend(deadline_of(claim).map(|deadline| (id.to_owned(), deadline)));
        });
        for (id, deadline) in due {
            self.due(world, &id, deadline);
        }
    }

    /// Takes in what happened.
    pub(crate) fn take(&mut self, world: &Embedded, line: &Line) {
        let instance = field(line, "instance");
        match line.event {
            "NodeJoined" => {
                self.machines
                    .insert(field(line, "node").to_owned(), instance.to_owned());
            }
            "InterruptionNotice" => {
                self.lost.insert(instance.to_owned());
                if let Ok(ends) = field(line, "endsAt").parse::<Timestamp>() {
                    self.due(world, instance, ends - LAST_SECONDS);
                }
            }
            "InstanceEnds" => {
                self.lost.insert(instance.to_owned());
            }
            _ => {}
        }
    }

    /// Pods must have left the Node of a machine by then: the earliest that was said counts, as a restore takes back
    /// what the API server knows of it and nothing else.
    fn due(&mut self, world: &Embedded, id: &str, deadline: Timestamp) {
        let machine = world.ec2.machine(id);
        let Some(shown) = machine.and_then(|machine| machine.shown(world.now())) else {
            return;
        };
        let known = self
            .deadlines
            .entry(shown.private_dns_name)
            .or_insert(deadline);
        *known = deadline.min(*known);
    }
}

/// The one rule by which pods must leave although EC2 has announced nothing: a claim that is deleted gives them as long
/// as its NodePool says.
fn deadline_of(claim: &Value) -> Option<Timestamp> {
    let deleted: Timestamp = text(claim, "/metadata/deletionTimestamp").parse().ok()?;
    let given = text(claim, "/spec/terminationGracePeriod");
    let given: SignedDuration = given.parse().ok()?;
    deleted.checked_add(given).ok()
}
