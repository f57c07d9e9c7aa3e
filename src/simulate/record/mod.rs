//! A cluster's work as a trace: which pods came when, what scheduling reads of them, how long they ran.
//!
//! Given pods as the API has them, one after the other; given back the text of a trace. A pod is read field
//! by field into a [`Sighting`] that has room for nothing else, and dropped: environment, arguments,
//! commands, images, volumes' contents and annotations have no way into a trace. Names of namespaces and
//! owners and the values of labels become short hashes unless they are asked for.

mod hide;
mod volumes;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

pub use hide::Hide;
pub use volumes::Zones;
pub use watch::{RecordError, Recorded, record};

use super::input::trace::{FORMAT, Header, Line, Port};
use crate::cluster::observe::{quantity, requests};
use crate::model::pod::DEFAULT_SCHEDULER;

/// The label by which Spark tells drivers from executors: it is kept as it is.
const SPARK_ROLE: &str = "spark-role";
/// The annotation that protects a pod; only whether it does is kept.
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    line: Line,
    labels: BTreeMap<String, String>,
    claims: Vec<String>,
    created: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// What became of a pod, as far as a sighting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Over,
}

/// Reads the fields that scheduling reads, and those that tell how long the pod ran.
///
/// `None` for pods that no simulation schedules: those of DaemonSets, static pods, pods of another
/// scheduler.
fn sighting(pod: &core::Pod, hide: &Hide) -> Option<(Sighting, End)> {
    let spec = pod.spec.as_ref()?;
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true));
    let foreign = spec
        .scheduler_name
        .as_deref()
        .is_some_and(|name| name != DEFAULT_SCHEDULER);
    if foreign || owner.is_some_and(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "Node")) {
        return None;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let protected = pod.metadata.annotations.as_ref().is_some_and(|all| {
        all.get(DO_NOT_DISRUPT)
            .is_some_and(|value| value != "false")
    });
    let wanted = requests::of_pod(spec, &[]);
    if wanted.problem.is_some() {
        return None;
    }
    let mut asked = quantity::quantities(&wanted.requests);
    // Every pod takes one slot; it need not be written.
    asked.remove("pods");
    let line = Line {
        at_seconds: 0,
        count: 1,
        parallelism: None,
        run_seconds: None,
        run_seconds_most: None,
        name: owner.map(|owner| hide.name(&owner.kind, namespace, &owner.name)),
        namespace: hide.namespace(namespace),
        owner_kind: owner.map(|owner| owner.kind.clone()),
        do_not_disrupt: protected,
        labels: BTreeMap::new(),
        requests: asked
            .into_iter()
            .map(|(name, amount)| (name, amount.0))
            .collect(),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        affinity: spec
            .affinity
            .clone()
            .map(|affinity| hide.affinity(affinity)),
        tolerations: spec
            .tolerations
            .iter()
            .flatten()
            .filter(|toleration| is_own(toleration))
            .cloned()
            .collect(),
        topology_spread_constraints: hide
            .spread(spec.topology_spread_constraints.clone().unwrap_or_default()),
        priority: spec.priority.unwrap_or(0),
        host_ports: ports(spec),
        zones: Vec::new(),
    };
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let over = matches!(phase, Some("Succeeded" | "Failed"));
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let sighting = Sighting {
        line,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        claims: claims(spec, pod),
        created,
        started: status.and_then(|status| status.start_time.as_ref().map(|time| time.0)),
        ended: over.then(|| finished(status)).flatten(),
    };
    Some((sighting, if over { End::Over } else { End::Open }))
}

/// Tolerations that the API server adds to every pod say nothing.
fn is_own(toleration: &core::Toleration) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let added = matches!(
        key,
        "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"
    );
    !(added && toleration.toleration_seconds.is_some())
}

fn ports(spec: &core::PodSpec) -> Vec<Port> {
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(Port {
                port: u16::try_from(port.host_port?).ok()?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            })
        });
    ports.collect()
}

/// The volume claims of a pod as `namespace/name`: they are looked up, not written.
fn claims(spec: &core::PodSpec, pod: &core::Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        Some(format!("{namespace}/{}", claim.claim_name))
    });
    claims.collect()
}

/// When the last container of a pod ended.
fn finished(status: Option<&core::PodStatus>) -> Option<Timestamp> {
    let containers = status?.container_statuses.iter().flatten();
    containers
        .filter_map(|container| {
            let ended = container.state.as_ref()?.terminated.as_ref()?;
            Some(ended.finished_at.as_ref()?.0)
        })
        .max()
}

/// The pods that were seen so far.
#[derive(Debug)]
pub struct Recorder {
    begin: Timestamp,
    hide: Hide,
    open: BTreeMap<String, Sighting>,
    over: BTreeMap<String, Sighting>,
    /// Pods that were gone before they had started.
    pub unstarted: usize,
}

impl Recorder {
    /// Nothing was seen yet.
    pub const fn new(begin: Timestamp, hide: Hide) -> Self {
        Self {
            begin,
            hide,
            open: BTreeMap::new(),
            over: BTreeMap::new(),
            unstarted: 0,
        }
    }

    /// A pod is there, or has changed.
    pub fn see(&mut self, pod: &core::Pod, now: Timestamp) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if uid.is_empty() || self.over.contains_key(&uid) {
            return;
        }
        let Some((sighting, end)) = sighting(pod, &self.hide) else {
            return;
        };
        let known = self.open.remove(&uid).is_some();
        match end {
            End::Open => {
                self.open.insert(uid, sighting);
            }
            // What was over before anybody looked is no work of this time.
            End::Over if known || sighting.created >= self.begin => self.end(uid, sighting, now),
            End::Over => {}
        }
    }

    /// A pod is gone.
    pub fn gone(&mut self, uid: &str, now: Timestamp) {
        if let Some(sighting) = self.open.remove(uid) {
            self.end(uid.to_owned(), sighting, now);
        }
    }

    /// These are all the pods that there are: every other is gone.
    pub fn only(&mut self, uids: &BTreeSet<String>, now: Timestamp) {
        let gone: Vec<String> = self
            .open
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.gone(&uid, now);
        }
    }

    fn end(&mut self, uid: String, mut sighting: Sighting, now: Timestamp) {
        if sighting.started.is_none() {
            self.unstarted += 1;
            return;
        }
        sighting.ended.get_or_insert(now);
        self.over.insert(uid, sighting);
    }

    /// Pods that are there, and pods that have ended.
    pub fn counts(&self) -> (usize, usize) {
        (self.open.len(), self.over.len())
    }

    /// The trace up to now: equal pods that arrived in one second and ran equally long are one line.
    pub fn trace(&self, zones: &Zones, now: Timestamp) -> String {
        let all = || self.open.values().chain(self.over.values());
        let mut keys: BTreeSet<String> = BTreeSet::from([SPARK_ROLE.to_owned()]);
        for sighting in all() {
            hide::selected_keys(&sighting.line, &mut keys);
        }
        let mut lines: BTreeMap<(u32, String), (Line, u32)> = BTreeMap::new();
        for sighting in all() {
            let line = self.line(sighting, &keys, zones);
            let text = serde_json::to_string(&line).unwrap_or_default();
            let entry = lines.entry((line.at_seconds, text)).or_insert((line, 0));
            entry.1 += 1;
        }
        let seconds = now.duration_since(self.begin).as_secs();
        let header = Header {
            format: FORMAT.to_owned(),
            begin: Some(self.begin),
            seconds: Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)),
        };
        let mut text = serde_json::to_string(&header).unwrap_or_default() + "\n";
        for (mut line, count) in lines.into_values() {
            line.count = count;
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        text
    }

    fn line(&self, sighting: &Sighting, keys: &BTreeSet<String>, zones: &Zones) -> Line {
        let since = |at: Timestamp| at.duration_since(self.begin).as_secs();
        // A pod that was there before arrives at once, and has run for a while: only the rest is work.
        let arrived = since(sighting.created).max(0);
        let run = sighting
            .started
            .zip(sighting.ended)
            .map(|(started, ended)| {
                let seconds = since(ended) - since(started).max(0);
                u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
            });
        let labels = sighting
            .labels
            .iter()
            .filter(|(key, _value)| keys.contains(*key));
        Line {
            at_seconds: u32::try_from(arrived).unwrap_or(u32::MAX),
            run_seconds: run,
            labels: labels
                .map(|(key, value)| {
                    let shown = if key == SPARK_ROLE {
                        value.clone()
                    } else {
                        self.hide.value(value)
                    };
                    (key.clone(), shown)
                })
                .collect(),
            zones: zones.of(&sighting.claims),
            ..sighting.line.clone()
        }
    }
}

#[cfg(test)]
mod tests;
