//! What the history says to people, with the reason: for whose pods a machine was bought, and why it went.
//!
//! Given every line of the history in order; given back a sentence for those that people want to know of: most are only
//! for the file. What a line does not carry itself is taken from the lines before it: the controllers' events say
//! which NodeClaim a pod waits for, what was bought for it, and why it is let go. Nothing is asked of the world.

use std::collections::BTreeMap;

use crate::sim::history::Line;

/// Workloads that a sentence names; of more it says how many.
const NAMED: usize = 2;
/// Characters of the hash by which a Deployment tells its ReplicaSets apart.
const HASH: usize = 8;

/// Tells what happens.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    /// The NodeClaim that each pod waits for, as the pod's event says.
    wanted: BTreeMap<String, String>,
    /// What each instance costs, USD per hour.
    prices: BTreeMap<String, String>,
    /// The instance of each NodeClaim and of each Node.
    instances: BTreeMap<String, String>,
    /// Why an instance is let go.
    reasons: BTreeMap<String, String>,
}

impl Narrator {
    /// Takes in a line, and says what it means to people.
    pub(super) fn tell(&mut self, line: &Line) -> Option<String> {
        let instance = field(line, "instance");
        match line.event {
            // Whom it is for is known once the controller has told what it bought for which claim.
            "InstanceLaunched" => {
                let price = field(line, "usdPerHour");
                self.prices.insert(instance.to_owned(), price.to_owned());
                None
            }
            "InterruptionNotice" => {
                let reason = "as EC2 takes it back".to_owned();
                self.reasons.insert(instance.to_owned(), reason);
                Some(format!("reclaim {instance}: EC2 takes it in two minutes"))
            }
            "InstanceEnds" if field(line, "cause") == "terminated" => Some(self.gone(line)),
            "NodeJoined" => {
                let node = field(line, "node").to_owned();
                self.instances.insert(node, instance.to_owned());
                None
            }
            "NodeUsable" => Some(format!(
                "joined  {} {} in {}: {}",
                field(line, "instanceType"),
                field(line, "capacityType"),
                field(line, "nodePool"),
                field(line, "node"),
            )),
            "Told" => self.told(line),
            _ => None,
        }
    }

    /// What an event of the controllers says.
    fn told(&mut self, line: &Line) -> Option<String> {
        let (name, note) = (field(line, "name"), field(line, "note"));
        match field(line, "reason") {
            "Nominated" => {
                let (_words, claim) = note.rsplit_once("nodeclaim/")?;
                self.wanted.insert(name.to_owned(), claim.to_owned());
                None
            }
            "Launched" => self.bought(name, note),
            "DisruptionTerminating" => {
                let instance = self.instances.get(name)?.clone();
                let reason = note.strip_prefix("removed ").unwrap_or(note).to_owned();
                // A machine that EC2 takes goes for that reason, whatever else is said of it.
                self.reasons.entry(instance).or_insert(reason);
                None
            }
            "FailedScheduling" => Some(format!("waits   {name}: {note}")),
            "InsufficientCapacityError" => Some(format!("short   {note}")),
            _ => None,
        }
    }

    /// What was bought for a NodeClaim, as its event says: `bought OFFERING as INSTANCE`.
    fn bought(&mut self, claim: &str, note: &str) -> Option<String> {
        let mut words = note.strip_prefix("bought ")?.split(' ');
        let (offering, _as, instance) = (words.next()?, words.next()?, words.next()?);
        self.instances.insert(claim.to_owned(), instance.to_owned());
        let price = self.prices.get(instance)?;
        let whom = self.whom(claim);
        Some(format!(
            "bought  {offering} {whom}, {price} USD per hour: {instance}"
        ))
    }

    /// The pods that a NodeClaim was made for.
    fn whom(&self, claim: &str) -> String {
        let mut workloads: BTreeMap<&str, usize> = BTreeMap::new();
        for (pod, _claim) in self.wanted.iter().filter(|(_pod, of)| *of == claim) {
            *workloads.entry(workload(pod)).or_default() += 1;
        }
        let count: usize = workloads.values().sum();
        if count == 0 {
            return format!("for NodeClaim {claim}");
        }
        let mut names: Vec<&str> = workloads.keys().copied().take(NAMED).collect();
        let others = workloads.len().saturating_sub(NAMED);
        let others = format!("{others} more");
        if workloads.len() > NAMED {
            names.push(&others);
        }
        let names = match names.split_last() {
            Some((last, before)) if !before.is_empty() => {
                format!("{} and {last}", before.join(", "))
            }
            _ => names.concat(),
        };
        let pods = if count == 1 { "pod" } else { "pods" };
        format!("for {count} {pods} of {names}")
    }

    fn gone(&mut self, line: &Line) -> String {
        let instance = field(line, "instance");
        let reason = self.reasons.remove(instance);
        let reason = reason.map_or_else(String::new, |reason| format!(" {reason};"));
        format!("gone    {instance}{reason} {} USD", field(line, "usd"))
    }
}

/// A field of a line; empty where there is none.
fn field<'line>(line: &'line Line, name: &str) -> &'line str {
    let value = line.fields.get(name).and_then(|value| value.as_str());
    value.unwrap_or_default()
}

/// What a pod is of: its name without what its controllers added to theirs.
fn workload(pod: &str) -> &str {
    let (owner, _suffix) = pod.rsplit_once('-').unwrap_or((pod, ""));
    match owner.rsplit_once('-') {
        Some((deployment, hash)) if is_hash(hash) => deployment,
        _ => owner,
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Everything that is said of these events.
    fn said(events: &[(&'static str, Value)]) -> Vec<String> {
        let mut narrator = Narrator::default();
        let lines = events.iter().map(|&(event, ref fields)| Line {
            at: "2027-01-15T08:00:00Z".to_owned(),
            event,
            fields: fields.as_object().unwrap().clone(),
        });
        lines.filter_map(|line| narrator.tell(&line)).collect()
    }

    fn nominated(pod: &str, claim: &str) -> (&'static str, Value) {
        let note = format!("a node is bought for the pod: nodeclaim/{claim}");
        (
            "Told",
            json!({ "reason": "Nominated", "kind": "Pod", "name": pod, "note": note }),
        )
    }

    /// A machine that is bought for a claim.
    fn launched(instance: &str, claim: &str) -> [(&'static str, Value); 2] {
        let note = format!("bought c5.large/us-east-1a/spot as {instance} at 0.0409 USD per hour");
        [
            (
                "InstanceLaunched",
                json!({ "instance": instance, "usdPerHour": "0.0385" }),
            ),
            (
                "Told",
                json!({ "reason": "Launched", "kind": "NodeClaim", "name": claim, "note": note }),
            ),
        ]
    }

    #[test]
    fn a_purchase_says_for_whose_pods_it_is() {
        let mut events = vec![
            nominated("executor-586b6c37-b2l87", "executors-a"),
            nominated("executor-586b6c37-snmj4", "executors-a"),
            nominated("large-nhhnw", "general-b"),
            nominated("train-00-7xg87", "general-c"),
            nominated("a-jv9n5", "general-c"),
            nominated("b-jv9n5", "general-c"),
            // It was planned anew, onto another machine.
            nominated("large-nhhnw", "general-c"),
            nominated("small-jv9n5", "general-b"),
        ];
        events.extend(launched("i-1", "executors-a"));
        events.extend(launched("i-2", "general-b"));
        events.extend(launched("i-3", "general-c"));
        let said = said(&events);
        let offering = "bought  c5.large/us-east-1a/spot";
        assert_eq!(
            said,
            [
                format!("{offering} for 2 pods of executor, 0.0385 USD per hour: i-1"),
                format!("{offering} for 1 pod of small, 0.0385 USD per hour: i-2"),
                format!("{offering} for 4 pods of a, b and 2 more, 0.0385 USD per hour: i-3"),
            ]
        );
    }

    #[test]
    fn a_machine_that_goes_says_why() {
        let mut events: Vec<(&'static str, Value)> = Vec::new();
        for (instance, claim) in [("i-1", "general-a"), ("i-2", "general-b")] {
            events.extend(launched(instance, claim));
        }
        events.extend([
            ("NodeJoined", json!({ "node": "one", "instance": "i-1" })),
            ("InterruptionNotice", json!({ "instance": "i-2" })),
        ]);
        for (kind, name) in [("Node", "one"), ("NodeClaim", "general-b")] {
            let note = "removed as empty: no pods for 30s";
            events.push((
                "Told",
                json!({ "reason": "DisruptionTerminating", "kind": kind, "name": name, "note": note }),
            ));
        }
        for (instance, cause) in [
            ("i-1", "terminated"),
            ("i-2", "reclaimed"),
            ("i-2", "terminated"),
        ] {
            events.push((
                "InstanceEnds",
                json!({ "instance": instance, "cause": cause, "usd": "0.0042" }),
            ));
        }
        let said = said(&events);
        assert_eq!(
            said[2..],
            [
                "reclaim i-2: EC2 takes it in two minutes",
                "gone    i-1 as empty: no pods for 30s; 0.0042 USD",
                "gone    i-2 as EC2 takes it back; 0.0042 USD",
            ]
        );
    }

    #[test]
    fn pods_are_called_by_what_their_user_made() {
        for (pod, expected) in [
            ("executor-586b6c37-b2l87", "executor"),
            ("spark-00-exec-b2l87", "spark-00-exec"),
            ("train-00-7xg87", "train-00"),
            ("bare", "bare"),
        ] {
            assert_eq!(workload(pod), expected);
        }
    }
}
