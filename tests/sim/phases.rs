//! Where claims are in their lives at a moment, by the objects that the API server holds.

use std::collections::BTreeSet;

use serde_json::Value;
use tonnage::cloud::tags;
use tonnage::sim::api_server::{ApiServer, Key, Resource};
use tonnage::sim::ec2::Ec2;

/// A phase of a claim's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It exists, and nothing is written about its launch.
    Planned,
    /// Its launch is written down, its machine is not.
    Launching,
    /// Its machine is known, its Node is not.
    Booting,
    /// Its Node is bound to it and not usable yet.
    Joining,
    /// Its Node is usable.
    Used,
    /// It is being deleted, and its machine is not being terminated yet.
    Draining,
    /// Its machine is being terminated.
    Ending,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] = [
        Self::Planned,
        Self::Launching,
        Self::Booting,
        Self::Joining,
        Self::Used,
        Self::Draining,
        Self::Ending,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Launching => "launching",
            Self::Booting => "booting",
            Self::Joining => "joining",
            Self::Used => "used",
            Self::Draining => "draining",
            Self::Ending => "ending",
        }
    }

    /// The phase of a NodeClaim as it is stored.
    pub(crate) fn of(claim: &Value) -> Self {
        let holds = |kind: &str| {
            let conditions = claim["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == kind && condition["status"] == "True")
        };
        if claim["metadata"]["deletionTimestamp"].is_string() {
            return if holds("InstanceTerminating") {
                Self::Ending
            } else {
                Self::Draining
            };
        }
        if text(claim, "/status/providerID").is_empty() {
            return if text(claim, LAUNCH).is_empty() {
                Self::Planned
            } else {
                Self::Launching
            };
        }
        match (holds("Registered"), holds("Initialized")) {
            (false, _) => Self::Booting,
            (true, false) => Self::Joining,
            (true, true) => Self::Used,
        }
    }
}

/// Where the record of a launch is.
const LAUNCH: &str = "/metadata/annotations/tonnage.dev~1launch";

/// What a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'name> {
    /// Every claim there is.
    Everything,
    /// What no claim needs.
    Nothing,
    /// Claims in these phases, whichever they are.
    Those(&'static [Phase]),
    /// The claim of a name.
    Claim(&'name str),
    /// The claim of the Node of a name.
    Node(&'name str),
    /// The claim of the Node that a pod of the trial is on.
    Pod(&'name str),
    /// The claim of the machine with an id, which may not know it yet.
    Machine(&'name str),
}

impl<'path> Target<'path> {
    /// What a request to the API server is about.
    pub(crate) fn of_path(path: &'path str) -> Self {
        let named = |kind: &str| {
            let (_before, after) = path.split_once(kind)?;
            after.split('/').next()
        };
        if path.contains("/events") || path.contains("/leases") {
            Self::Nothing
        } else if let Some(claim) = named("/nodeclaims/") {
            Self::Claim(claim)
        } else if let Some(node) = named("/nodes/") {
            Self::Node(node)
        } else if let Some(pod) = named("/pods/") {
            Self::Pod(pod)
        } else {
            Self::Everything
        }
    }

    /// What a call to EC2 is about.
    pub(crate) fn of_call(operation: &str) -> Self {
        match operation {
            "CreateFleet" => Self::Those(&[Phase::Launching]),
            "CreateLaunchTemplate" => Self::Those(&[Phase::Planned, Phase::Launching]),
            "CreateTags" => Self::Those(&[Phase::Booting, Phase::Joining, Phase::Used]),
            "TerminateInstances" => Self::Those(&[Phase::Draining, Phase::Ending]),
            // What is known of every claim's machine, and whether it has one, comes from there.
            "DescribeInstances" => Self::Everything,
            _ => Self::Nothing,
        }
    }

    /// The phases of the claims that it strikes now.
    pub(crate) fn phases(self, api: &ApiServer, ec2: &Ec2) -> BTreeSet<Phase> {
        match self {
            Self::Nothing => BTreeSet::new(),
            Self::Everything => those(api, |_claim| true),
            Self::Those(wanted) => those(api, |claim| wanted.contains(&Phase::of(claim))),
            Self::Claim(name) => those(api, |claim| text(claim, "/metadata/name") == name),
            Self::Node(name) => {
                let key = Key::new(Resource::Node, "", name);
                let id = api.read(&key, |node| text(node, "/spec/providerID").to_owned());
                let id = id.filter(|id| !id.is_empty());
                id.map_or_else(BTreeSet::new, |id| {
                    those(api, |claim| text(claim, "/status/providerID") == id)
                })
            }
            Self::Pod(name) => {
                let key = Key::new(Resource::Pod, "default", name);
                let node = api.read(&key, |pod| text(pod, "/spec/nodeName").to_owned());
                node.map_or_else(BTreeSet::new, |node| Target::Node(&node).phases(api, ec2))
            }
            Self::Machine(id) => of_machine(id, api, ec2),
        }
    }
}

fn those(api: &ApiServer, are: impl Fn(&Value) -> bool) -> BTreeSet<Phase> {
    let mut phases = BTreeSet::new();
    api.each(Resource::NodeClaim, |_key, claim| {
        if are(claim) {
            phases.insert(Phase::of(claim));
        }
    });
    phases
}

fn of_machine(id: &str, api: &ApiServer, ec2: &Ec2) -> BTreeSet<Phase> {
    let known = those(api, |claim| text(claim, "/status/providerID").ends_with(id));
    if !known.is_empty() {
        return known;
    }
    let machine = ec2.machine(id);
    let shown = machine.and_then(|machine| machine.shown(machine.running_at));
    let batch = shown.and_then(|shown| shown.tags.get(tags::BATCH).cloned());
    batch.map_or_else(BTreeSet::new, |batch| {
        those(api, |claim| {
            text(claim, "/status/providerID").is_empty() && batch_of(claim) == batch
        })
    })
}

/// The batch of a claim's launch, empty when no launch is written down. It is read out of the text of the
/// record, which is long and looked at every second.
pub(crate) fn batch_of(claim: &Value) -> &str {
    let after = text(claim, LAUNCH).split_once("\"batch\":\"");
    let batch = after.and_then(|(_before, after)| after.split('"').next());
    batch.unwrap_or_default()
}

/// A text in an object, empty when it is not there.
pub(crate) fn text<'object>(object: &'object Value, pointer: &str) -> &'object str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}
