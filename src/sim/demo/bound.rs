//! What the pods of the day had to cost at least: the integral over time of the lower bound of a
//! fleet for the pods that are bound or wait, at the prices of the time.
//!
//! A task follows the pods. Whenever another set of pods is there, or prices have moved, it asks the
//! planner for the proven lower bound of a fleet bought from nothing for just these pods. Fleets that
//! are equal at equal prices are asked for once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::api::{EC2NodeClass, NodePool};
use crate::cluster::observe;
use crate::model::pod::{Pod, PodKey, PodPhase, PodSpec};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::ProvisionSettings;
use crate::sim::Embedded;
use crate::sim::api_server::{Key, Resource};
use crate::sim::ec2::market::PRICE_STEP;

pub use super::reckoner::Bound;
use super::reckoner::{Change, Fleet, Question, Reckoner};

impl Bound {
    /// Follows a world from now on.
    pub fn new(world: &Embedded, plan_budget_ms: u64) -> Self {
        let reckoner = Reckoner::start(ProvisionSettings::default().with_budget_ms(plan_budget_ms));
        let bound = reckoner.bound();
        let mut follower = Follower {
            reckoner,
            since: world.now(),
            pods: BTreeMap::new(),
            asked: BTreeSet::new(),
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
}

struct Follower {
    reckoner: Reckoner,
    since: Timestamp,
    pods: BTreeMap<Key, Pod>,
    asked: BTreeSet<Question>,
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

    /// Says for how long the last fleet was there, and which one is there from now on.
    fn advance(&mut self) {
        let now = self.world.now();
        let milliseconds = now.duration_since(self.since).as_millis();
        self.since = now;
        let question = self.question(now);
        let news = question
            .clone()
            .filter(|question| self.asked.insert(question.clone()));
        let snapshot = news.map(|(step, _fleet)| self.fleet(step, now));
        self.reckoner.ask(Change {
            milliseconds,
            question,
            snapshot,
        });
    }

    fn question(&self, now: Timestamp) -> Option<Question> {
        let mut counts: BTreeMap<Arc<PodSpec>, usize> = BTreeMap::new();
        for pod in self.pods.values() {
            *counts.entry(Arc::clone(&pod.spec)).or_default() += 1;
        }
        if counts.is_empty() {
            return None;
        }
        let fleet: Fleet = counts.into_iter().collect();
        Some((now.as_second().div_euclid(PRICE_STEP), fleet))
    }

    /// The pods of this moment, all waiting.
    fn fleet(&mut self, step: i64, now: Timestamp) -> Snapshot {
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
        snapshot
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
