//! Machines: bought for claims, booted, billed, taken back and terminated.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::agenda::{Event, MachineId};
use super::engine::{Engine, condition};
use super::places::Place;
use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::{Claim, ConditionStatus};
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchedInstance, Shortfall};
use crate::model::money::UsdPerHour;
use crate::model::node::Node;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::model::resources::Resources;
use crate::model::taint::{Taint, TaintEffect};
use crate::plan::launch::{BatchInstance, LaunchStep, Proposal, decide, launched_status};
use crate::plan::notices::INTERRUPTION_GRACE;
use crate::plan::provision::daemons::Daemons;
use crate::plan::provision::labels::NodeLabels;
use crate::sim::cluster::kubelet::NETWORK;
use crate::sim::ec2::bill::Amount;
use crate::sim::ec2::choice::{self, Choice, Strategy};
use crate::sim::ec2::machine::{BOOT, START};

/// From the decision to end a machine until EC2 ends it, milliseconds: fence, look again, terminate.
const ENDING: i64 = 1_500;
/// The same for a machine that is drained first, once its pods are gone: the rest that a drain takes.
const DRAINED: i64 = 6_000;
/// Draws of luck without which a machine is not taken back at all, in hours.
const LONGEST_LIFE: u64 = 24 * 365;

/// A machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// Its claim.
    pub(super) claim: String,
    /// What its Node is called.
    pub(super) node: Arc<str>,
    /// Its NodePool.
    pub(super) node_pool: String,
    /// What it is.
    pub(super) offering: OfferingKey,
    /// What it costs beside the instance.
    pub(super) fees: UsdPerHour,
    /// What pods and DaemonSets may use of it.
    pub(super) allocatable: Resources,
    /// From when on it is billed, milliseconds from the beginning.
    pub(super) running: i64,
    /// It ends, or has ended.
    pub(super) ending: bool,
    /// Billed seconds and what they came to, once it has ended.
    pub(super) ended: Option<(i64, Amount)>,
}

impl Engine<'_> {
    /// Asks the planner which claims are bought together, and buys until it has nothing to propose.
    pub(super) fn launch(&mut self) {
        loop {
            self.snapshot.now = self.time();
            let decision = decide(&self.snapshot, &self.launches);
            self.launch_due = decision.wake.map(|at| self.millis(at));
            let mut bought = false;
            for step in decision.steps {
                if let LaunchStep::Propose(proposal) = step {
                    bought |= self.buy(&proposal);
                }
            }
            if !bought {
                return;
            }
        }
    }

    /// True when anything came of it: machines, or the knowledge that there are none.
    fn buy(&mut self, proposal: &Proposal) -> bool {
        let now = self.time();
        let offerings = proposal.offerings.iter().filter_map(|offering| {
            let price = self.prices.markets().price(offering, now)?;
            let used = self.alive.get(offering).copied().unwrap_or(0);
            Some(Choice {
                of: (),
                offering: offering.clone(),
                price,
                room: self.prices.markets().room(offering, now, used),
                rank: 0,
            })
        });
        let mut choices: Vec<Choice<()>> = offerings.collect();
        choice::order(&mut choices, Strategy::usual(proposal.capacity_type));
        let mut claims = proposal.claims.iter();
        let mut left = proposal.claims.len();
        let mut outcome = LaunchOutcome::default();
        for choice in &choices {
            for claim in claims.by_ref().take(choice.room.min(left)) {
                outcome.instances.push(self.start(claim, &choice.offering));
                left -= 1;
            }
            if left == 0 {
                break;
            }
            outcome.shortfalls.push(Shortfall {
                offering: Some(choice.offering.clone()),
                class: ErrorClass::InsufficientCapacity,
                code: String::new(),
                message: String::new(),
            });
        }
        let record = proposal.record(Vec::new());
        self.launches.shortages.learn(&record, &outcome, now);
        !choices.is_empty()
    }

    /// EC2 starts a machine for a claim.
    fn start(&mut self, claim: &Arc<Claim>, offering: &OfferingKey) -> LaunchedInstance {
        let id = self.machines.len();
        let index = u64::try_from(id).unwrap_or(0);
        let instance = BatchInstance {
            id: format!("i-{id:017x}"),
            offering: offering.clone(),
            image_id: String::new(),
            claim: Some(claim.name.clone()),
            ending: false,
        };
        let class = self.snapshot.node_classes.get(&claim.node_class);
        let status = launched_status(&instance, class.map(|class| &**class), &claim.requests);
        let known = class.and_then(|class| {
            let offerings = &class.catalogue.offerings;
            let place = offerings.binary_search_by(|known| known.key.cmp(offering));
            place.ok().and_then(|place| offerings.get(place))
        });
        let pool = self
            .snapshot
            .node_pools
            .get(&claim.node_pool.clone().unwrap_or_default());
        let fees = known.map_or(UsdPerHour::ZERO, |known| known.fees)
            + pool.map_or(UsdPerHour::ZERO, |pool| pool.fee);
        let running = self.now + self.chance.milliseconds("start", index, START);
        let ready = running
            + self.chance.milliseconds("boot", index, BOOT)
            + self.chance.milliseconds("network", index, NETWORK);
        self.machines.push(Machine {
            claim: claim.name.clone(),
            node: format!("node-{id:07}").into(),
            node_pool: claim.node_pool.clone().unwrap_or_default(),
            offering: offering.clone(),
            fees,
            allocatable: status.allocatable.clone(),
            running,
            ending: false,
            ended: None,
        });
        let launched = condition(ConditionStatus::True, self.time());
        if let Some(known) = self.snapshot.claims.get_mut(&claim.name) {
            let claim = Arc::make_mut(known);
            claim.provider_id = status.provider_id;
            Arc::make_mut(&mut claim.labels).extend(status.labels);
            claim.capacity = status.capacity;
            claim.allocatable = status.allocatable;
            claim
                .conditions
                .insert(ConditionType::Launched.as_str().to_owned(), launched);
        }
        *self.alive.entry(offering.clone()).or_default() += 1;
        self.machine_of.insert(claim.name.clone(), id);
        self.tally.figures.nodes_bought += 1;
        self.tally.figures.most_nodes =
            self.tally.figures.most_nodes.max(self.alive.values().sum());
        self.agenda.plan(running, Event::Running(id));
        self.agenda.plan(ready, Event::Ready(id));
        if let Some(at) = self.reclaimed_at(offering, index, running) {
            self.agenda.plan(at, Event::Notice(id));
        }
        LaunchedInstance {
            id: instance.id,
            offering: instance.offering,
            image_id: instance.image_id,
            subnet_id: String::new(),
        }
    }

    /// When EC2 takes a machine back, if it ever does.
    fn reclaimed_at(&self, offering: &OfferingKey, index: u64, running: i64) -> Option<i64> {
        let rate = self.prices.markets().weather().reclaimed_per_mille;
        if offering.capacity_type != CapacityType::Spot || rate == 0 {
            return None;
        }
        let hour = (0..LONGEST_LIFE).find(|hour| {
            let draw = index.wrapping_mul(LONGEST_LIFE).wrapping_add(*hour);
            self.chance.below("reclaim", draw, 1_000) < rate
        })?;
        let within = self.chance.below("reclaim/second", index, 3_600);
        let seconds = i64::try_from(hour * 3_600 + within).unwrap_or(i64::MAX / 2_000);
        Some(running + seconds * 1_000)
    }

    /// A machine's Node is ready: pods may come.
    pub(super) fn ready(&mut self, id: MachineId) {
        let Some(machine) = self.machines.get(id).filter(|machine| !machine.ending) else {
            return;
        };
        let (name, now) = (Arc::clone(&machine.node), self.time());
        let Some(claim) = self.snapshot.claims.get_mut(&machine.claim) else {
            return;
        };
        let claim = Arc::make_mut(claim);
        name.as_ref().clone_into(&mut claim.node_name);
        for met in [ConditionType::Registered, ConditionType::Initialized] {
            let met = met.as_str().to_owned();
            claim
                .conditions
                .insert(met, condition(ConditionStatus::True, now));
        }
        let node = Arc::new(node_of(claim, &name, now));
        let daemons = Daemons::of(&self.snapshot);
        let labelled = NodeLabels {
            name: &node.name,
            labels: &node.labels,
        };
        let landing = daemons.landing_on(&labelled, &node.taints);
        let mut usable = node.allocatable.clone();
        usable.subtract(&daemons.requests(&landing));
        let shut = Node {
            unschedulable: true,
            ..Node::clone(&node)
        };
        self.shut.insert(name.to_string(), Arc::new(shut));
        self.snapshot.nodes.insert(name.to_string(), node);
        self.places.insert(Arc::clone(&name), Place::new(usable));
        self.dirty.insert(name);
        self.look_at_empties = true;
        self.bind_expected(id);
        self.look_for_strays();
    }

    /// EC2 gives notice: the machine is drained with what is left of two minutes.
    pub(super) fn notice(&mut self, id: MachineId) {
        let Some(machine) = self.machines.get(id).filter(|machine| !machine.ending) else {
            return;
        };
        let (offering, now) = (machine.offering.clone(), self.time());
        self.tally.figures.interruptions += 1;
        let short = ErrorClass::InsufficientCapacity;
        self.launches.shortages.note(&offering, short, now);
        self.fence(id);
        let protected = self.evict_all(id, false);
        if protected == 0 {
            self.agenda.plan(self.now + DRAINED, Event::Terminate(id));
        } else {
            // What is protected goes when its own time to end would not fit any more: 30 s by default.
            let grace = i64::try_from(INTERRUPTION_GRACE.as_millis()).unwrap_or(0) - 30_000;
            self.agenda.plan(self.now + grace, Event::Force(id));
        }
    }

    /// The time of an interrupted machine is up.
    pub(super) fn force(&mut self, id: MachineId) {
        self.evict_all(id, true);
        self.agenda.plan(self.now + DRAINED, Event::Terminate(id));
    }

    /// A machine takes no more pods, and its claim goes.
    pub(super) fn fence(&mut self, id: MachineId) {
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        machine.ending = true;
        let (claim, node) = (machine.claim.clone(), Arc::clone(&machine.node));
        let now = self.time();
        if let Some(claim) = self.snapshot.claims.get_mut(&claim) {
            Arc::make_mut(claim).deleting_since = Some(now);
        }
        if let Some(node) = self.snapshot.nodes.get_mut(&*node) {
            let fence = Taint::new(labels::DISRUPTED_TAINT, "", TaintEffect::NoSchedule);
            Arc::make_mut(node).taints.push(fence);
        }
        if let Some(place) = self.places.get_mut(&node) {
            place.closed = true;
        }
        self.look_at_empties = true;
        self.look_for_strays();
    }

    /// An empty machine is ended.
    pub(super) fn remove(&mut self, claim: &str) {
        if let Some(id) = self.machine_of.get(claim).copied() {
            self.fence(id);
            self.agenda.plan(self.now + ENDING, Event::Terminate(id));
        } else {
            self.snapshot.claims.remove(claim);
        }
    }
}

fn node_of(claim: &Claim, name: &str, now: Timestamp) -> Node {
    let mut known = (*claim.labels).clone();
    for (label, value) in [
        (labels::HOSTNAME, name),
        (labels::REGISTERED, "true"),
        (labels::INITIALIZED, "true"),
    ] {
        known.insert(label.to_owned(), value.to_owned());
    }
    Node {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        created: now,
        deleting_since: None,
        provider_id: claim.provider_id.clone(),
        labels: known.into(),
        annotations: BTreeMap::new(),
        finalizers: Vec::new(),
        taints: claim.taints.clone(),
        unschedulable: false,
        ready: true,
        capacity: claim.capacity.clone(),
        allocatable: claim.allocatable.clone(),
    }
}
