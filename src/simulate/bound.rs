//! What the work had to cost at least, whatever bought the machines.
//!
//! Given which pods were on nodes when, and the prices; given back, for each price step, an amount that
//! no fleet that ran the same pods at the same times could have cost less than. The planner buys a fleet
//! from nothing for the most pods of each class that the step saw at a time; its certificate says what
//! one pod of each class is worth. No content of a machine is worth more than the machine costs, for so
//! many pods or for fewer, so what all pods of the step are worth, each for as long as it was there, is
//! what they cost at least. Limits and weights of NodePools are left out, which only lowers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use jiff::{SignedDuration, Timestamp};

use super::demand::Step;
use super::prices::Prices;
use super::scenario::{Scenario, Variant};
use crate::model::money::UsdPerHour;
use crate::model::node_pool::NodePool;
use crate::model::pod::{Pod, PodKey, PodSpec};
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{ProvisionSettings, provision};
use crate::sim::ec2::bill::Amount;

/// Search time of each bound, milliseconds' worth of work.
const BUDGET_MS: u64 = 1;

/// What one pod of each class is worth, by price step and the most pods of each class.
type Known = BTreeMap<(i64, Vec<(usize, u32)>), BTreeMap<usize, UsdPerHour>>;

/// The bound of each step, in order, by the step's beginning.
pub(super) fn integrate(
    scenario: &Scenario,
    variant: &Variant,
    classes: &[Arc<PodSpec>],
    steps: &[Step],
    threads: usize,
) -> Vec<(i64, Amount)> {
    let each = steps.len().div_ceil(threads.max(1)).max(1);
    let part = |steps: &[Step]| {
        let mut question = Question::new(scenario, variant, classes);
        let bounds = steps.iter().map(|step| (step.begins, question.bound(step)));
        bounds.collect::<Vec<_>>()
    };
    let part = &part;
    thread::scope(|scope| {
        let parts: Vec<_> = steps
            .chunks(each)
            .map(|steps| (steps, scope.spawn(move || part(steps))))
            .collect();
        parts
            .into_iter()
            // A part whose thread is gone is asked for again here, where a fault shows.
            .flat_map(|(steps, running)| running.join().unwrap_or_else(|_gone| part(steps)))
            .collect()
    })
}

struct Question<'run> {
    begin: Timestamp,
    classes: &'run [Arc<PodSpec>],
    prices: Prices,
    stage: Snapshot,
    settings: ProvisionSettings,
    pods: BTreeMap<usize, Vec<(PodKey, Arc<Pod>)>>,
    known: Known,
}

impl<'run> Question<'run> {
    fn new(scenario: &Scenario, variant: &Variant, classes: &'run [Arc<PodSpec>]) -> Self {
        let mut stage = variant.furnished(scenario.begin);
        for pool in stage.node_pools.values_mut() {
            *pool = Arc::new(NodePool {
                limits: Resources::new(),
                zero_limits: Vec::new(),
                weight: 0,
                ..NodePool::clone(pool)
            });
        }
        Self {
            begin: scenario.begin,
            classes,
            prices: Prices::new(scenario, variant),
            stage,
            settings: variant.settings.clone().with_budget_ms(BUDGET_MS),
            pods: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    fn bound(&mut self, step: &Step) -> Amount {
        let at = SignedDuration::from_millis(step.begins);
        let now = self.begin.saturating_add(at).unwrap_or(self.begin);
        let most = step.shares.iter().map(|share| (share.class, share.most));
        let key = (self.prices.step(now), most.collect::<Vec<_>>());
        let worth = if let Some(known) = self.known.get(&key) {
            known.clone()
        } else {
            let worth = self.worth(now, &key.1);
            // Moving prices do not come back.
            if self
                .known
                .keys()
                .next()
                .is_some_and(|(step, _most)| *step != key.0)
            {
                self.known.clear();
            }
            self.known.insert(key, worth.clone());
            worth
        };
        let amounts = step.shares.iter().map(|share| {
            let rate = worth.get(&share.class).copied().unwrap_or(UsdPerHour::ZERO);
            Amount::of_milliseconds(rate, i128::from(share.milliseconds))
        });
        amounts.sum()
    }

    /// What one pod of each class is worth at a moment, if there are so many of each.
    fn worth(&mut self, now: Timestamp, most: &[(usize, u32)]) -> BTreeMap<usize, UsdPerHour> {
        self.stage.now = now;
        self.stage.node_classes = self.prices.classes(now).clone();
        self.stage.pods.clear();
        let mut asked: BTreeMap<PodKey, usize> = BTreeMap::new();
        for (class, count) in most {
            let Some(spec) = self.classes.get(*class) else {
                continue;
            };
            let count = usize::try_from(*count).unwrap_or(0);
            let pods = self.pods.entry(*class).or_default();
            while pods.len() < count {
                let pod = waiting(spec, *class, pods.len());
                pods.push((pod.key.clone(), Arc::new(pod)));
            }
            for (key, pod) in pods.iter().take(count) {
                asked.insert(key.clone(), *class);
                self.stage.pods.insert(key.clone(), Arc::clone(pod));
            }
        }
        let certificate = provision(&self.stage, &self.settings).certificate;
        let mut worth: BTreeMap<usize, UsdPerHour> = BTreeMap::new();
        for priced in &certificate.class_prices {
            let Some(class) = priced.example.as_ref().and_then(|key| asked.get(key)) else {
                continue;
            };
            // A class that two proofs speak of is worth what both allow.
            worth
                .entry(*class)
                .and_modify(|known| *known = (*known).min(priced.price))
                .or_insert(priced.price);
        }
        worth
    }
}

fn waiting(spec: &Arc<PodSpec>, class: usize, number: usize) -> Pod {
    let key = PodKey::new(&spec.namespace, &format!("class-{class}-{number}"));
    Pod::waiting(key, Arc::clone(spec))
}
