//! Advice: what requests cost, and what a small change would save.
//!
//! Given a snapshot and settings; given back, for each workload whose pods wait, what it costs as a part
//! of the whole plan, and the changes of its requests that make the whole plan cheaper or give pods a
//! place. Every change is verified by planning again for everything that waits, with the change: what
//! that plan does not confirm is not said, and the dollars are its dollars. Nothing is changed here.

pub mod change;
pub mod share;
#[cfg(test)]
mod tests;
pub mod whole;
pub mod workload;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::money::UsdPerHour;
use crate::model::pod::{Pod, PodSpec};
use crate::model::report::ProvisioningPlan;
use crate::model::resources::Resources;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::ProvisionSettings;
use change::{Change, changes};
use whole::{Edit, Effect, Effort, Planner};
use workload::{Workload, workloads};

/// A saving below this share of a workload's cost, in percent, is not worth a change.
const WORTH_PERCENT: i64 = 3;
/// A resource sets the price when a tenth less of it saves at least this share, in percent.
const SETS_PERCENT: i64 = 1;
/// Workloads that changes are looked for, the dearest first: each costs plans of the whole world.
pub const MOST_EXAMINED: usize = 20;
/// Resources of one workload that may set its price: a quick plan each.
const MOST_SETTERS: usize = 4;
/// Changes of one workload that a quick plan looks at.
const MOST_SCREENED: usize = 8;
/// Of those the ones that a full plan confirms or refutes.
const MOST_CONFIRMED: usize = 3;

/// What all workloads cost, and what would make the plan cheaper.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What the plan costs as things are.
    pub price: UsdPerHour,
    /// No fleet for the same pods costs less.
    pub lower_bound: UsdPerHour,
    /// The workloads, in the order of their names.
    pub workloads: Vec<Advice>,
    /// Workloads that can have no place as their pods are written, with what is wrong: there is no advice on them.
    pub invalid: Vec<(Workload, String)>,
    /// What the first change of every workload does together; `None` with fewer than two.
    pub together: Option<Together>,
    /// How many plans of the whole world were made.
    pub plans: usize,
}

/// What one workload costs, and what would make it cheaper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The workload.
    pub workload: Workload,
    /// Requests of one pod.
    pub requests: Resources,
    /// Its share of the price of the new nodes in the whole plan.
    pub price: UsdPerHour,
    /// The instance types that it is bought, with the most of its pods on one.
    pub fits: BTreeMap<String, usize>,
    /// How many of its pods the plan leaves out.
    pub left_out: usize,
    /// Why it leaves out the first of them; empty when it leaves out none.
    pub left_out_reason: String,
    /// False for what is too cheap to be among the [`MOST_EXAMINED`].
    pub examined: bool,
    /// The resource that sets the price: the one that a reduction by a tenth makes cheaper.
    pub price_setter: Option<String>,
    /// Changes that a plan of everything confirms, each by itself: what places most pods and saves
    /// most comes first.
    pub changes: Vec<ConfirmedChange>,
}

/// A change of requests with what it does to the whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmedChange {
    /// The change.
    pub change: Change,
    /// What it does.
    pub effect: Effect,
    /// Saved of what the workload costs, in percent rounded down; `None` when it costs nothing.
    pub percent: Option<i64>,
    /// The instance types that would be bought, with the most of its pods on one.
    pub fits: BTreeMap<String, usize>,
}

/// Several changes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Together {
    /// How many workloads change.
    pub changes: usize,
    /// What the plan with all of them is; `None` when it leaves out a pod that has a place now.
    pub effect: Option<Effect>,
}

/// Advice for every workload whose pods wait.
pub fn advise(snapshot: &Snapshot, settings: &ProvisionSettings) -> Report {
    let found = workloads(snapshot);
    let invalid = workload::invalid(snapshot);
    if found.is_empty() {
        return Report {
            invalid,
            ..Report::default()
        };
    }
    let mut planner = Planner::new(snapshot, settings);
    let now = planner.plan(&[], Effort::Full);
    let quick = planner.plan(&[], Effort::Quick);
    let mut advice: Vec<Advice> = found
        .iter()
        .map(|(workload, pods)| unexamined(snapshot, &now, workload, pods))
        .collect();
    for index in dearest(&advice) {
        let (Some(advice), Some((_, pods))) = (advice.get_mut(index), found.get(index)) else {
            continue;
        };
        let mut subject = Subject {
            snapshot,
            now: &now,
            quick: &quick,
            pods,
            planner: &mut planner,
        };
        subject.examine(advice);
    }
    let together = together(&mut planner, &now, &found, &advice);
    Report {
        price: now.price,
        lower_bound: now.lower_bound,
        workloads: advice,
        invalid,
        together,
        plans: planner.plans,
    }
}

fn unexamined(
    snapshot: &Snapshot,
    now: &ProvisioningPlan,
    workload: &Workload,
    pods: &[Arc<Pod>],
) -> Advice {
    let share = share::of(snapshot, now, pods);
    let mut left_out = pods
        .iter()
        .filter_map(|pod| now.unschedulable.get(&pod.key))
        .peekable();
    Advice {
        workload: workload.clone(),
        requests: pods
            .first()
            .map_or_else(Resources::new, |pod| pod.spec.requests.clone()),
        price: share.price,
        fits: share.fits,
        left_out_reason: left_out
            .peek()
            .map_or_else(String::new, |why| why.message()),
        left_out: left_out.count(),
        examined: false,
        price_setter: None,
        changes: Vec::new(),
    }
}

/// Which workloads are examined: those that cost most, then those that leave most pods waiting.
fn dearest(advice: &[Advice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..advice.len()).collect();
    order.sort_by_key(|index| {
        let found = advice.get(*index);
        (
            Reverse(found.map(|advice| (advice.price, advice.left_out))),
            *index,
        )
    });
    order.truncate(MOST_EXAMINED);
    order
}

/// One workload in the whole plan.
struct Subject<'advice, 'world> {
    snapshot: &'world Snapshot,
    now: &'advice ProvisioningPlan,
    quick: &'advice ProvisioningPlan,
    pods: &'advice [Arc<Pod>],
    planner: &'advice mut Planner<'world>,
}

impl Subject<'_, '_> {
    fn examine(&mut self, advice: &mut Advice) {
        advice.examined = true;
        let Some(spec) = self.pods.first().map(|pod| Arc::clone(&pod.spec)) else {
            return;
        };
        advice.price_setter = self.price_setter(&spec, advice.price);
        let mut confirmed: Vec<ConfirmedChange> = self
            .promising(&advice.workload, &spec, advice.price)
            .into_iter()
            .filter_map(|change| self.confirmed(change, advice.price))
            .collect();
        confirmed.sort_by(|left, right| rank(left).cmp(&rank(right)));
        advice.changes = without_excess(&confirmed, &spec);
    }

    /// The changes whose quick plan is best against the quick plan without them.
    fn promising(&mut self, workload: &Workload, spec: &PodSpec, price: UsdPerHour) -> Vec<Change> {
        let mut found: Vec<(Reverse<usize>, UsdPerHour, Change)> = Vec::new();
        let tried = changes(self.snapshot, workload, spec);
        for change in tried.into_iter().take(MOST_SCREENED) {
            let effect = self
                .effect(&change, Effort::Quick)
                .map(|(effect, _)| effect);
            if let Some(effect) = effect.filter(|effect| is_worth(effect, price, WORTH_PERCENT)) {
                found.push((Reverse(effect.places), effect.price, change));
            }
        }
        found.sort();
        found
            .into_iter()
            .map(|(_places, _price, change)| change)
            .take(MOST_CONFIRMED)
            .collect()
    }

    fn confirmed(&mut self, change: Change, price: UsdPerHour) -> Option<ConfirmedChange> {
        let (effect, then) = self.effect(&change, Effort::Full)?;
        is_worth(&effect, price, WORTH_PERCENT).then(|| ConfirmedChange {
            fits: share::of(self.snapshot, &then, self.pods).fits,
            percent: percent(effect.saves, price),
            effect,
            change,
        })
    }

    fn effect(&mut self, change: &Change, effort: Effort) -> Option<(Effect, ProvisioningPlan)> {
        let edit = Edit {
            pods: self.pods,
            change,
        };
        let then = self.planner.plan(&[edit], effort);
        let before = match effort {
            Effort::Quick => self.quick,
            Effort::Full => self.now,
        };
        Effect::of(before, &then).map(|effect| (effect, then))
    }

    /// The resource whose reduction by a tenth makes the whole plan cheapest, if any makes it cheaper.
    fn price_setter(&mut self, spec: &PodSpec, price: UsdPerHour) -> Option<String> {
        let mut best: Option<(UsdPerHour, String)> = None;
        let divisible = spec.requests.iter().filter(|(_name, amount)| *amount >= 10);
        for (name, amount) in divisible.take(MOST_SETTERS) {
            let less = Change {
                requests: Resources::new().with(name, amount - amount / 10),
                spark_executor_memory: None,
            };
            let Some((effect, _then)) = self.effect(&less, Effort::Quick) else {
                continue;
            };
            let cheaper = effect.places == 0 && is_worth(&effect, price, SETS_PERCENT);
            if cheaper && best.as_ref().is_none_or(|(most, _)| effect.saves > *most) {
                best = Some((effect.saves, name.to_owned()));
            }
        }
        best.map(|(_saves, name)| name)
    }
}

/// True for what gives pods a place, or saves at least so much of what the workload costs.
fn is_worth(effect: &Effect, price: UsdPerHour, least_percent: i64) -> bool {
    let saves = effect.saves > UsdPerHour::ZERO
        && percent(effect.saves, price).is_none_or(|percent| percent >= least_percent);
    effect.places > 0 || saves
}

/// A part of a price, in percent rounded down; `None` of nothing.
fn percent(part: UsdPerHour, whole: UsdPerHour) -> Option<i64> {
    if whole <= UsdPerHour::ZERO {
        return None;
    }
    let percent = i128::from(part.units()) * 100 / i128::from(whole.units());
    i64::try_from(percent).ok()
}

/// The order of advice: most pods placed, cheapest plan.
fn rank(confirmed: &ConfirmedChange) -> (Reverse<usize>, UsdPerHour, &Change) {
    let effect = &confirmed.effect;
    (Reverse(effect.places), effect.price, &confirmed.change)
}

/// Drops every change that cuts at least as much as another one everywhere and does no more.
fn without_excess(changes: &[ConfirmedChange], spec: &PodSpec) -> Vec<ConfirmedChange> {
    let milder = |one: &ConfirmedChange, other: &ConfirmedChange| {
        one.effect.price <= other.effect.price
            && one.effect.places >= other.effect.places
            && one.change != other.change
            && spec.requests.iter().all(|(name, amount)| {
                let left = |change: &Change| match change.requests.get(name) {
                    0 => amount,
                    changed => changed,
                };
                left(&one.change) >= left(&other.change)
            })
    };
    changes
        .iter()
        .filter(|change| !changes.iter().any(|other| milder(other, change)))
        .cloned()
        .collect()
}

/// The first change of every workload at once.
fn together(
    planner: &mut Planner<'_>,
    now: &ProvisioningPlan,
    found: &[(Workload, Vec<Arc<Pod>>)],
    advice: &[Advice],
) -> Option<Together> {
    let edits: Vec<Edit<'_>> = found
        .iter()
        .zip(advice)
        .filter_map(|((_workload, pods), advice)| {
            let change = &advice.changes.first()?.change;
            Some(Edit { pods, change })
        })
        .collect();
    (edits.len() > 1).then(|| Together {
        changes: edits.len(),
        effect: Effect::of(now, &planner.plan(&edits, Effort::Full)),
    })
}
