//! What a history comes to: pods and how long they waited, machines, interruptions, evictions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::sim::history::{History, Line};

/// Counts over the history so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    read: usize,
    /// Pods that were made.
    pub pods: usize,
    /// Machines that were bought.
    pub nodes_bought: usize,
    /// Spot machines that EC2 took back.
    pub interruptions: usize,
    /// Evictions from machines that nothing was wrong with.
    pub voluntary_evictions: usize,
    /// Seconds from a pod's creation to its start, in order of the starts.
    pub latencies: Vec<i64>,
    /// The latest lines, for people.
    pub latest: Vec<Line>,
    created: BTreeMap<String, Timestamp>,
    instances: BTreeMap<String, String>,
    going: BTreeSet<String>,
}

impl Tally {
    /// Takes in what was not read yet.
    pub fn read(&mut self, history: &History) {
        let lines = history.since(self.read);
        self.read += lines.len();
        for line in &lines {
            self.take(line);
        }
        self.latest = lines;
    }

    fn take(&mut self, line: &Line) {
        let text = |field: &str| {
            let value = line.fields.get(field).and_then(|value| value.as_str());
            value.unwrap_or_default().to_owned()
        };
        let at: Option<Timestamp> = line.at.parse().ok();
        match line.event {
            "PodCreated" => {
                self.pods += 1;
                if let Some(at) = at {
                    self.created.insert(text("pod"), at);
                }
            }
            "PodStarted" => {
                if let (Some(at), Some(created)) = (at, self.created.remove(&text("pod"))) {
                    self.latencies.push(at.duration_since(created).as_secs());
                }
            }
            "PodEvicted" => {
                let node = text("node");
                let instance = self.instances.get(&node);
                let lost = instance.is_some_and(|instance| self.going.contains(instance));
                // A pod that a restore has unbound is evicted from nothing.
                self.voluntary_evictions += usize::from(!lost && !node.is_empty());
            }
            "InstanceLaunched" => self.nodes_bought += 1,
            "InterruptionNotice" => {
                self.interruptions += 1;
                self.going.insert(text("instance"));
            }
            // A restored API server may have a Node back whose machine was terminated long before.
            "InstanceEnds" => {
                self.going.insert(text("instance"));
            }
            "NodeJoined" => {
                self.instances.insert(text("node"), text("instance"));
            }
            _ => {}
        }
    }

    /// The share of starts, in percent, that took at most so many seconds; `None` before any.
    pub fn percentile(&self, percent: usize) -> Option<i64> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied()
    }
}
