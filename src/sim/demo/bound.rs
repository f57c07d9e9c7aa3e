//! What the pods of the day had to cost at least: the integral over time of the lower bound of a
//! fleet for the pods that are bound or wait, at the prices of the time.
//!
//! A task follows the pods. Whenever another set of pods is there, or prices have moved, it asks the
//! planner for the proven lower bound of a fleet bought from nothing for just these pods. Fleets that
//! are equal at equal prices are asked for once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::api::{EC2NodeClass, NodePool};
use crate::cluster::observe;
use crate::model::money::UsdPerHour;
use crate::model::pod::{Pod, PodKey, PodPhase, PodSpec};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{ProvisionSettings, provision};
use crate::sim::Embedded;
use crate::sim::api_server::{Key, Resource};
use crate::sim::ec2::bill::Amount;
use crate::sim::ec2::market::PRICE_STEP;

/// Pods of one kind and how many there are.
type Fleet = Vec<(Arc<PodSpec>, usize)>;

/// What is known so far.
#[derive(Debug, Clone, Default)]
struct Sum {
    total: Amount,
    rate: UsdPerHour,
}

/// The integral; it grows as the world lives on.
#[derive(Debug, Clone)]
pub struct Bound(Arc<Mutex<Sum>>);

impl Bound {
    /// Follows a world from now on.
    pub fn new(world: &Embedded, plan_budget_ms: u64) -> Self {
        let bound = Self(Arc::default());
        let mut follower = Follower {
            sum: Arc::clone(&bound.0),
            settings: ProvisionSettings::default().with_budget_ms(plan_budget_ms),
            since: world.now(),
            pods: BTreeMap::new(),
            known: BTreeMap::new(),
            furniture: None,
            world: world.clone(),
        };
        let stop = world.world().stop().clone();
        let mut changes = world.api.listen();
        world.world().spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(key) = changes.recv() => {
                        follower.changed(&key);
                        // Everything of one moment is one change.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        while let Ok(key) = changes.try_recv() {
                            follower.changed(&key);
                        }
                    }
                    () = tokio::time::sleep(follower.until_prices_move()) => {}
                }
                follower.advance();
            }
            follower.advance();
        });
        bound
    }

    /// What it comes to so far.
    pub fn total(&self) -> Amount {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// The bound of the fleet of this moment.
    pub fn rate(&self) -> UsdPerHour {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rate
    }
}

struct Follower {
    sum: Arc<Mutex<Sum>>,
    settings: ProvisionSettings,
    since: Timestamp,
    pods: BTreeMap<Key, Pod>,
    known: BTreeMap<(i64, Fleet), UsdPerHour>,
    furniture: Option<(i64, Snapshot)>,
    world: Embedded,
}

impl Follower {
    fn changed(&mut self, key: &Key) {
        if key.resource != Resource::Pod {
            return;
        }
        let read = self
            .world
            .api
            .get(key)
            .and_then(|pod| serde_json::from_value::<core::Pod>(pod).ok())
            .map(|pod| observe::pod::pod(&pod))
            .filter(|pod| !pod.phase.is_terminal() && !pod.is_daemon());
        match read {
            Some(pod) => self.pods.insert(key.clone(), pod),
            None => self.pods.remove(key),
        };
    }

    fn until_prices_move(&self) -> Duration {
        let second = self.world.now().as_second();
        let left = PRICE_STEP - second.rem_euclid(PRICE_STEP);
        Duration::from_secs(left.unsigned_abs())
    }

    /// Adds what the last rate came to, and finds the rate from now on.
    fn advance(&mut self) {
        let now = self.world.now();
        let milliseconds = now.duration_since(self.since).as_millis();
        self.since = now;
        let rate = self.rate(now);
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = Amount::of_milliseconds(sum.rate, milliseconds);
        sum.total += passed;
        sum.rate = rate;
    }

    fn rate(&mut self, now: Timestamp) -> UsdPerHour {
        let mut counts: BTreeMap<Arc<PodSpec>, usize> = BTreeMap::new();
        for pod in self.pods.values() {
            *counts.entry(Arc::clone(&pod.spec)).or_default() += 1;
        }
        if counts.is_empty() {
            return UsdPerHour::ZERO;
        }
        let fleet: Fleet = counts.into_iter().collect();
        let step = now.as_second().div_euclid(PRICE_STEP);
        let question = (step, fleet);
        if let Some(known) = self.known.get(&question) {
            return *known;
        }
        let mut snapshot = self.furnished(step, now);
        for (number, pod) in self.pods.values().enumerate() {
            let key = PodKey::new(&pod.key.namespace, &format!("pod-{number}"));
            let waiting = Pod {
                key: key.clone(),
                phase: PodPhase::Pending,
                node_name: None,
                nominated_node: None,
                unschedulable: true,
                deleting_until: None,
                ..pod.clone()
            };
            snapshot.pods.insert(key, Arc::new(waiting));
        }
        let rate = provision(&snapshot, &self.settings).lower_bound;
        self.known.insert(question, rate);
        rate
    }

    /// A snapshot with pools and classes at the prices of a step, and nothing else.
    fn furnished(&mut self, step: i64, now: Timestamp) -> Snapshot {
        if let Some((known, snapshot)) = &self.furniture
            && *known == step
        {
            return snapshot.clone();
        }
        let mut snapshot = Snapshot::empty(now);
        for object in self.world.api.all(Resource::NodeClass) {
            if let Ok(object) = serde_json::from_value::<EC2NodeClass>(object)
                && let Some(class) = self.world.node_class(&object)
            {
                snapshot
                    .node_classes
                    .insert(class.name.clone(), Arc::new(class));
            }
        }
        for object in self.world.api.all(Resource::NodePool) {
            if let Ok(object) = serde_json::from_value::<NodePool>(object) {
                let mut pool = observe::node_pool::node_pool(&object);
                // Without limits the bound is lower, and holds with them too.
                pool.limits = Resources::new();
                pool.zero_limits.clear();
                snapshot
                    .node_pools
                    .insert(pool.name.clone(), Arc::new(pool));
            }
        }
        self.furniture = Some((step, snapshot.clone()));
        snapshot
    }
}
