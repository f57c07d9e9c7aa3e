//! Where claims are in their lives at a moment, by the objects that the API server holds.

use std::collections::BTreeSet;

use serde_json::Value;
use tonnage::api::labels;
use tonnage::cloud::tags;
use tonnage::cluster::observe;
use tonnage::model::offering::OfferingKey;
pub(crate) use tonnage::sim::api_server::text;
use tonnage::sim::api_server::{ApiServer, Key, Resource};
use tonnage::sim::ec2::Ec2;
use tonnage::sim::ec2::machine::Machine;
use tonnage::sim::faults::About;

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
        let holds = |kind: &str| holds(claim, kind);
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

/// True when a condition of an object is.
pub(crate) fn holds(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Where the record of a launch is.
const LAUNCH: &str = "/metadata/annotations/tonnage.dev~1launch";

/// What a fault touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'name> {
    /// Every claim there is: it touches what all of them hang on, a controller, the API server or its watches.
    Everything,
    /// Nothing of any one claim.
    Nothing,
    /// The claim of a name.
    Claim(&'name str),
    /// The claim of the Node of a name.
    Node(&'name str),
    /// The claim of the Node that a pod of the trial is on.
    Pod(&'name str),
    /// The claim of the machine with an id, which may not know it yet.
    Machine(&'name str),
    /// The claims of machines.
    Machines(&'name [String]),
    /// The claims that have a machine, or whose launch is written down.
    Launched,
    /// The claims of a batch.
    Batch(&'name str),
    /// The claims of a batch that wait for its launch.
    Waiting(&'name str),
}

impl<'name> Target<'name> {
    /// What a request to the API server is about. One that names no object is about none: what a list or a watch
    /// tells of a claim late is counted when it is told.
    pub(crate) fn of_path(path: &'name str) -> Self {
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
            Self::Nothing
        }
    }

    /// What a call to EC2 is about.
    pub(crate) fn of_call(operation: &str, about: &'name About) -> Self {
        match about {
            About::Nobody => Self::Nothing,
            About::Claim(name) => Self::Claim(name),
            About::Launch(batch) if operation == "CreateFleet" => Self::Waiting(batch),
            About::Launch(batch) => Self::Batch(batch),
            About::Machines(ids) => Self::Machines(ids),
            // What is known of every machine, and whether a launch has one, comes from there.
            About::AllMachines => Self::Launched,
        }
    }

    /// The phases of the claims that it touches now.
    pub(crate) fn phases(self, api: &ApiServer, ec2: &Ec2) -> BTreeSet<Phase> {
        match self {
            Self::Nothing => BTreeSet::new(),
            Self::Everything => those(api, |_claim| true),
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
            Self::Machines(ids) => {
                let all = ids.iter().map(|id| of_machine(id, api, ec2));
                all.flatten().collect()
            }
            Self::Launched => those(api, |claim| {
                !text(claim, "/status/providerID").is_empty() || !text(claim, LAUNCH).is_empty()
            }),
            Self::Batch(batch) => those(api, |claim| batch_of(claim) == batch),
            Self::Waiting(batch) => those(api, |claim| {
                batch_of(claim) == batch && Phase::of(claim) == Phase::Launching
            }),
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
    let known = those(api, |claim| names(claim, id));
    match ec2.machine(id) {
        Some(machine) if known.is_empty() => those(api, |claim| is_of(claim, &machine)),
        _ => known,
    }
}

/// True for a claim that names the machine with an id.
fn names(claim: &Value, id: &str) -> bool {
    text(claim, "/status/providerID").ends_with(id)
}

/// True when a machine is a claim's: the claim names it, or waits for one of the launch that it comes from.
pub(crate) fn is_of(claim: &Value, machine: &Machine) -> bool {
    if !text(claim, "/status/providerID").is_empty() {
        return names(claim, machine.id());
    }
    let batch = machine.tags().get(tags::BATCH);
    batch.is_some_and(|batch| batch_of(claim) == batch)
}

/// True when a claim names a machine.
pub(crate) fn is_claimed(claims: &[Value], machine: &Machine) -> bool {
    claims.iter().any(|claim| names(claim, machine.id()))
}

/// What may be bought for a claim that has no machine yet: what its launch asks for, or what it was planned with.
pub(crate) fn wanted(claim: &Value) -> Vec<OfferingKey> {
    match Phase::of(claim) {
        Phase::Planned => {
            let offerings = &claim["metadata"]["annotations"][labels::OFFERINGS];
            observe::claim::offerings(offerings.as_str().unwrap_or_default())
        }
        Phase::Launching => {
            let record = observe::claim::launch(text(claim, LAUNCH));
            record.map_or_else(Vec::new, |record| record.offerings().collect())
        }
        _ => Vec::new(),
    }
}

/// The batch of a claim's launch, empty when no launch is written down. It is read out of the text of the
/// record, which is long and looked at every second.
pub(crate) fn batch_of(claim: &Value) -> &str {
    let after = text(claim, LAUNCH).split_once("\"batch\":\"");
    let batch = after.and_then(|(_before, after)| after.split('"').next());
    batch.unwrap_or_default()
}
