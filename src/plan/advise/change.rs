//! Small changes of requests that let one more pod onto a machine.
//!
//! Given what can be bought and a pod's requests; given back the changes worth trying: for each
//! instance type, the requests at which one pod more fits it, where that takes no more than a
//! modest cut.

use std::collections::BTreeSet;

use super::workload::Workload;
use crate::model::pod::PodSpec;
use crate::model::quantity;
use crate::model::resources::{CPU, MEMORY, Resources};
use crate::model::snapshot::Snapshot;
use crate::plan::provision::class;
use crate::plan::provision::daemons::Daemons;
use crate::plan::provision::demand::PodClass;
use crate::plan::provision::supply;

/// The largest cut of a request that is proposed, in percent.
const MOST_CUT_PERCENT: i64 = 20;
/// Most changes that are tried for one workload.
const MOST_CHANGES: usize = 12;
/// Cuts end on multiples of these, as people write them.
const CPU_STEP: i64 = 50;
const MEMORY_STEP: i64 = 64 << 20;
/// Spark's default share of memory that is asked for on top: a tenth, at least 384 MiB.
const SPARK_OVERHEAD_MIN: i64 = 384 << 20;

/// Other amounts for some requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The new amounts of what changes.
    pub requests: Resources,
    /// For Spark executors: what `spark.executor.memory` would be, in bytes, with the default
    /// overhead factor of 0.1.
    pub spark_executor_memory: Option<i64>,
}

impl Change {
    /// The spec with the change.
    pub fn apply(&self, spec: &PodSpec) -> PodSpec {
        let mut changed = spec.clone();
        for (name, amount) in self.requests.iter() {
            changed.requests.set(name, amount);
        }
        changed
    }

    /// As people write it: `cpu 1950m, memory 3400Mi`.
    pub fn text(&self) -> String {
        self.requests
            .iter()
            .map(|(name, amount)| format!("{name} {}", quantity::text(name, amount)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The changes worth trying.
pub fn changes(world: &Snapshot, workload: &Workload, spec: &PodSpec) -> Vec<Change> {
    let waiting = vec![PodClass {
        spec: std::sync::Arc::new(spec.clone()),
        pods: Vec::new(),
    }];
    let daemons = Daemons::of(world);
    let mut classes = class::read(world, waiting);
    let supply = supply::supply(world, &daemons, &class::wanted_values(&classes));
    let dimensions = class::dimensions(&classes);
    class::match_candidates(&mut classes, &supply, &dimensions, false);
    let Some(suitable) = classes.first().map(|class| class.suitable.clone()) else {
        return Vec::new();
    };
    let mut found: BTreeSet<(i64, Resources)> = BTreeSet::new();
    for candidate in suitable
        .iter()
        .filter_map(|index| supply.candidates.get(index))
    {
        if let Some((cut, requests)) = one_more(&candidate.free, &spec.requests) {
            found.insert((cut, requests));
        }
    }
    let mut seen: BTreeSet<Resources> = BTreeSet::new();
    found
        .into_iter()
        .filter(|(_cut, requests)| seen.insert(requests.clone()))
        .take(MOST_CHANGES)
        .map(|(_cut, requests)| Change {
            spark_executor_memory: workload
                .is_spark
                .then(|| spark_memory(requests.get(MEMORY)))
                .flatten(),
            requests,
        })
        .collect()
}

/// The requests at which one pod more fits, and the largest cut in percent; `None` when that takes
/// too much, or nothing.
fn one_more(free: &Resources, requests: &Resources) -> Option<(i64, Resources)> {
    let times = requests
        .iter()
        .map(|(name, amount)| free.get(name).max(0) / amount.max(1))
        .min()?;
    let wanted = times.checked_add(1)?;
    let mut changed = Resources::new();
    let mut most = 0;
    for (name, amount) in requests.iter() {
        if free.get(name) / wanted >= amount {
            continue;
        }
        let step = match name {
            CPU => CPU_STEP,
            MEMORY => MEMORY_STEP,
            // Devices and pod slots do not come in parts.
            _ => return None,
        };
        let target = free.get(name) / wanted / step * step;
        let cut = amount.saturating_sub(target).saturating_mul(100) / amount.max(1);
        if target <= 0 || cut > MOST_CUT_PERCENT {
            return None;
        }
        most = most.max(cut);
        changed.set(name, target);
    }
    (!changed.is_empty()).then_some((most, changed))
}

/// `spark.executor.memory` for a request, less the overhead that Spark adds by itself.
fn spark_memory(request: i64) -> Option<i64> {
    if request <= 0 {
        return None;
    }
    let by_factor = i64::try_from(i128::from(request) * 10 / 11).ok()?;
    let memory = if request - by_factor >= SPARK_OVERHEAD_MIN {
        by_factor
    } else {
        request - SPARK_OVERHEAD_MIN
    };
    (memory > 0).then_some(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_fits_after_a_small_cut_of_what_is_short() {
        let free = Resources::new()
            .with(CPU, 7910)
            .with(MEMORY, 14_162 << 20)
            .with("pods", 58);
        let requests = Resources::new()
            .with(CPU, 2000)
            .with(MEMORY, 4 << 30)
            .with("pods", 1);
        let (_cut, changed) = one_more(&free, &requests).unwrap();
        assert_eq!(changed.get(CPU), 1950);
        assert_eq!(changed.get(MEMORY), 3520 << 20);
    }

    #[test]
    fn devices_are_never_cut() {
        let free = Resources::new().with(CPU, 8000).with("nvidia.com/gpu", 1);
        let requests = Resources::new().with(CPU, 4000).with("nvidia.com/gpu", 1);
        assert_eq!(one_more(&free, &requests), None);
    }

    #[test]
    fn spark_adds_a_tenth_but_at_least_384_mib() {
        assert_eq!(spark_memory(11 << 30), Some(10 << 30));
        assert_eq!(spark_memory(1408 << 20), Some(1024 << 20));
        assert_eq!(spark_memory(100 << 20), None);
    }
}
