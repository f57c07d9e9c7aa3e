//! The pods of a run: a record each, and who waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::agenda::PodId;
use super::workload::Load;
use crate::model::pod::{Pod, PodConstraints, PodKey, PodPhase, PodSpec};
use crate::model::snapshot::Snapshot;

/// Where a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no node.
    Waiting,
    /// It is on a node; its containers start, or have started, at that time.
    On {
        /// The node.
        node: Arc<str>,
        /// Milliseconds from the beginning.
        starts: i64,
    },
    /// It has ended, well or not.
    Over,
}

/// A pod.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Index of its load.
    pub(super) load: usize,
    /// Index of its class.
    pub(super) class: usize,
    /// Counts the pods of the load.
    pub(super) ordinal: u32,
    /// Counts the pods that were made for this place.
    pub(super) attempt: u32,
    /// When it arrived, milliseconds from the beginning.
    pub(super) arrived: i64,
    /// Where it is.
    pub(super) stage: Stage,
}

/// Pods that ask for the same.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// What they ask for.
    pub(super) spec: Arc<PodSpec>,
    /// They look at other pods, at ports or at volumes, so where one of them may be changes with others.
    pub(super) social: bool,
}

/// Every pod so far.
#[derive(Debug)]
pub(super) struct Pods {
    /// By id.
    pub(super) records: Vec<Record>,
    /// The classes.
    pub(super) classes: Vec<Class>,
    /// The class of each load.
    pub(super) of_load: Vec<usize>,
    /// Who waits, by class, those that came first first.
    pub(super) waiting: BTreeMap<usize, BTreeSet<(i64, PodId)>>,
    /// Pods on nodes that want to keep away from others.
    pub(super) guards: BTreeSet<PodId>,
    ids: BTreeMap<PodKey, PodId>,
}

fn is_social(constraints: &PodConstraints) -> bool {
    !(constraints.spread.is_empty()
        && constraints.affinity.is_empty()
        && constraints.anti_affinity.is_empty()
        && constraints.host_ports.is_empty())
}

fn keeps_away(spec: &PodSpec) -> bool {
    let constraints = spec.constraints.as_deref();
    constraints.is_some_and(|constraints| !constraints.anti_affinity.is_empty())
}

impl Pods {
    /// No pods yet, of the classes of some loads.
    pub(super) fn new(loads: &[Load]) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut known: BTreeMap<&PodSpec, usize> = BTreeMap::new();
        let mut of_load = Vec::new();
        for load in loads {
            let class = *known.entry(&*load.spec).or_insert_with(|| {
                classes.push(Class {
                    spec: Arc::clone(&load.spec),
                    social: load.spec.constraints.as_deref().is_some_and(is_social),
                });
                classes.len() - 1
            });
            of_load.push(class);
        }
        Self {
            records: Vec::new(),
            classes,
            of_load,
            waiting: BTreeMap::new(),
            guards: BTreeSet::new(),
            ids: BTreeMap::new(),
        }
    }

    /// What pods of a class ask for.
    pub(super) fn spec(&self, class: usize) -> Option<&Arc<PodSpec>> {
        self.classes.get(class).map(|class| &class.spec)
    }

    /// The specs of all classes.
    pub(super) fn specs(&self) -> Vec<Arc<PodSpec>> {
        let specs = self.classes.iter().map(|class| Arc::clone(&class.spec));
        specs.collect()
    }

    /// The pod with a key, unless it has ended.
    pub(super) fn id(&self, key: &PodKey) -> Option<PodId> {
        self.ids.get(key).copied()
    }

    /// True while a pod has no node.
    pub(super) fn is_waiting(&self, id: PodId) -> bool {
        self.records
            .get(id)
            .is_some_and(|record| record.stage == Stage::Waiting)
    }

    /// A pod of a load arrives: it is written into the snapshot and waits.
    pub(super) fn arrive(
        &mut self,
        (number, load): (usize, &Load),
        (ordinal, attempt): (u32, u32),
        now: (i64, Timestamp),
        snapshot: &mut Snapshot,
    ) -> PodId {
        let id = self.records.len();
        let class = self.of_load.get(number).copied().unwrap_or(0);
        let key = key_of(number, load, ordinal, attempt);
        self.records.push(Record {
            load: number,
            class,
            ordinal,
            attempt,
            arrived: now.0,
            stage: Stage::Waiting,
        });
        let spec = self
            .spec(class)
            .map_or_else(|| Arc::clone(&load.spec), Arc::clone);
        let waits = !spec.gated && spec.problem.is_none();
        let pod = Pod {
            uid: format!("pod-{id}"),
            created: now.1,
            owner: load.owner.clone(),
            do_not_disrupt: load.do_not_disrupt,
            ..Pod::waiting(key.clone(), spec)
        };
        snapshot.pods.insert(key.clone(), Arc::new(pod));
        self.ids.insert(key, id);
        if waits {
            self.waiting.entry(class).or_default().insert((now.0, id));
        }
        id
    }

    /// A pod that waits goes onto a node; its containers start at a time.
    pub(super) fn bind(
        &mut self,
        (id, key): (PodId, &PodKey),
        node: &Arc<str>,
        (starts, starts_at): (i64, Timestamp),
        snapshot: &mut Snapshot,
    ) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        record.stage = Stage::On {
            node: Arc::clone(node),
            starts,
        };
        let (class, place) = (record.class, (record.arrived, id));
        self.stop_waiting(class, place);
        if let Some(pod) = snapshot.pods.get_mut(key) {
            let pod = Arc::make_mut(pod);
            pod.node_name = Some(node.to_string());
            pod.phase = PodPhase::Running;
            pod.started = Some(starts_at);
            pod.unschedulable = false;
            if keeps_away(&pod.spec) {
                self.guards.insert(id);
            }
        }
    }

    fn stop_waiting(&mut self, class: usize, place: (i64, PodId)) {
        if let Some(queue) = self.waiting.get_mut(&class) {
            queue.remove(&place);
            if queue.is_empty() {
                self.waiting.remove(&class);
            }
        }
    }

    /// A pod ends, wherever it is; gives back where it was.
    pub(super) fn end(&mut self, id: PodId, key: &PodKey, snapshot: &mut Snapshot) -> Stage {
        let Some(record) = self.records.get_mut(id) else {
            return Stage::Over;
        };
        let was = std::mem::replace(&mut record.stage, Stage::Over);
        let (class, place) = (record.class, (record.arrived, id));
        if was == Stage::Waiting {
            self.stop_waiting(class, place);
        }
        self.guards.remove(&id);
        self.ids.remove(key);
        snapshot.pods.remove(key);
        was
    }
}

/// The name of a pod: told apart by load, place and attempt, in order of their making.
pub(super) fn key_of(number: usize, load: &Load, ordinal: u32, attempt: u32) -> PodKey {
    let again = if attempt == 0 {
        String::new()
    } else {
        format!("-again-{attempt}")
    };
    let name = format!("{}-{number}-{ordinal:04}{again}", load.name);
    PodKey::new(&load.spec.namespace, &name)
}
