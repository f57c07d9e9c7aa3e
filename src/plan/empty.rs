//! Which nodes are empty for long enough to go.
//!
//! Given a snapshot, since when each claim is without work, and what the last planning round put pods
//! onto, [`decide`] gives back the claims to remove. Removal takes two steps with a look between them: the
//! node is fenced first, and only if it is still empty then is its claim deleted; pods that slipped
//! in lift the fence. A node with any pod beside DaemonSets' and static ones is never empty, whatever
//! those pods are worth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::budget;
use super::condition::ConditionChange;
use super::decision::Decision;
use crate::api::conditions::{ConditionReason, ConditionType};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::node_pool::NodePool;
use crate::model::pod::Pod;
use crate::model::snapshot::Snapshot;

/// How long at least a claim without a usable node stays after pods were last planned onto it: its
/// pods may be between two planning rounds.
const SPARE_UNUSED: SignedDuration = SignedDuration::from_secs(30);
/// How long a planning round is believed: planning is repeated more often than this while pods wait,
/// and kube-scheduler's longest back-off is 10 s.
const HELD: SignedDuration = SignedDuration::from_secs(20);
/// How often at most `status.lastPodEventTime` is written for one claim.
const TOUCH_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// What is remembered about work on claims. Lost with the process: after a restart the time in the
/// claim's status counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmptyMemory {
    claims: BTreeMap<String, Work>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Busy,
    Idle(Timestamp),
}

/// What the last planning round put pods onto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The instant of the snapshot that was planned for.
    pub at: Timestamp,
    /// Names of claims and Nodes.
    pub onto: BTreeSet<String>,
}

impl EmptyMemory {
    /// Takes in who has work now. `planned` is the last planning round, if there was any yet.
    pub fn observe(&mut self, snapshot: &Snapshot, planned: Option<&Planned>) {
        let busy = busy_nodes(snapshot);
        let waits = snapshot.pods.values().any(|pod| waits(pod));
        let now = snapshot.now;
        let fresh = planned.filter(|planned| waits && now.duration_since(planned.at) <= HELD);
        let mut claims = BTreeMap::new();
        for claim in snapshot.claims.values() {
            let before = self.claims.get(&claim.uid).copied();
            let used = claim.is(ConditionType::Initialized.as_str());
            let wanted = fresh.is_some_and(|planned| {
                planned.onto.contains(&claim.name) || planned.onto.contains(&claim.node_name)
            });
            // A machine on its way is spare only when a fresh plan finds no use for it: pods may
            // wait for nothing but its arrival, and boots take longer than any other delay here.
            let coming = !used && waits && fresh.is_none();
            let work = if busy.contains(claim.node_name.as_str()) || wanted || coming {
                Work::Busy
            } else {
                Work::Idle(match before {
                    Some(Work::Idle(since)) => since,
                    Some(Work::Busy) => now,
                    None if used => remembered(claim),
                    None => now,
                })
            };
            claims.insert(claim.uid.clone(), work);
        }
        self.claims = claims;
    }

    fn idle(&self, claim: &Claim) -> Option<Timestamp> {
        match self.claims.get(&claim.uid) {
            Some(Work::Idle(since)) => Some(*since),
            _ => None,
        }
    }
}

/// True for a pod that may still need a node.
fn waits(pod: &Pod) -> bool {
    pod.node_name.is_none()
        && !pod.phase.is_terminal()
        && pod.deleting_until.is_none()
        && !pod.is_daemon()
        && !pod.mirror
}

/// Since when a claim has no work as far as its status tells.
fn remembered(claim: &Claim) -> Timestamp {
    let initialized = claim
        .conditions
        .get(ConditionType::Initialized.as_str())
        .filter(|_found| claim.is(ConditionType::Initialized.as_str()))
        .map(|found| found.since);
    claim
        .last_pod_event
        .into_iter()
        .chain(initialized)
        .max()
        .unwrap_or(claim.created)
}

fn node_of<'world>(snapshot: &'world Snapshot, claim: &Claim) -> Option<&'world Arc<Node>> {
    if claim.node_name.is_empty() {
        None
    } else {
        snapshot.nodes.get(&claim.node_name)
    }
}

/// Nodes that a pod other than a DaemonSet's or a static one is on or on its way to.
fn busy_nodes(snapshot: &Snapshot) -> BTreeSet<&str> {
    snapshot
        .pods
        .values()
        .filter(|pod| !pod.phase.is_terminal() && !pod.is_daemon() && !pod.mirror)
        .filter_map(|pod| pod.node_name.as_deref().or(pod.nominated_node.as_deref()))
        .filter(|node| !node.is_empty())
        .collect()
}

/// What to do next about an empty node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmptyStep {
    /// Keep pods off the node and write down why.
    Fence {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
        /// The condition DisruptionReason.
        change: Option<ConditionChange>,
    },
    /// The node is not empty any more: let pods in again.
    Unfence {
        /// The claim.
        claim: Arc<Claim>,
        /// Its Node.
        node: Arc<Node>,
    },
    /// Nothing can slip in any more: delete the claim.
    Remove {
        /// The claim.
        claim: Arc<Claim>,
        /// For people.
        message: String,
    },
    /// Write down when the claim's work last changed.
    Touch {
        /// The claim.
        claim: Arc<Claim>,
        /// When.
        at: Timestamp,
    },
}

impl EmptyStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        match self {
            Self::Fence { claim, .. }
            | Self::Unfence { claim, .. }
            | Self::Remove { claim, .. }
            | Self::Touch { claim, .. } => format!("claim/{}", claim.name),
        }
    }
}

/// Decides about every claim of a NodePool that lets empty nodes go.
pub fn decide(snapshot: &Snapshot, memory: &EmptyMemory) -> Decision<EmptyStep> {
    let mut decision = Decision::default();
    for pool in snapshot.node_pools.values() {
        let claims: Vec<&Arc<Claim>> = snapshot
            .claims
            .values()
            .filter(|claim| claim.node_pool.as_deref() == Some(pool.name.as_str()))
            .collect();
        decide_pool(snapshot, memory, pool, &claims, &mut decision);
    }
    decision
}

fn decide_pool(
    snapshot: &Snapshot,
    memory: &EmptyMemory,
    pool: &NodePool,
    claims: &[&Arc<Claim>],
    decision: &mut Decision<EmptyStep>,
) {
    let mut allowance = budget::allowance(snapshot, pool, claims, "Empty");
    if let Some(until) = allowance.changes_at {
        decision.wake_at(until);
    }
    for claim in claims {
        if claim.deleting_since.is_some() {
            continue;
        }
        let fenced = claim
            .conditions
            .get(ConditionType::DisruptionReason.as_str())
            .is_some_and(|found| found.reason == ConditionReason::Empty.as_str())
            && claim.is(ConditionType::DisruptionReason.as_str());
        let node = node_of(snapshot, claim);
        let idle = memory.idle(claim);
        let after = pool.consolidate_after.filter(|_after| !pool.paused);
        let (Some(idle), Some(after), false) = (idle, after, is_kept(claim, node)) else {
            if let (true, Some(node)) = (fenced, node) {
                decision.push(EmptyStep::Unfence {
                    claim: Arc::clone(claim),
                    node: Arc::clone(node),
                });
            }
            continue;
        };
        let used = claim.is(ConditionType::Initialized.as_str());
        let after = if used { after } else { after.max(SPARE_UNUSED) };
        let due = idle.saturating_add(after).unwrap_or(Timestamp::MAX);
        if snapshot.now < due {
            decision.wake_at(due);
            touch(snapshot, claim, idle, decision);
            continue;
        }
        // A fenced node has its share of the budget already.
        if !fenced && !allowance.take() {
            continue;
        }
        remove(claim, node, fenced, after, decision);
    }
}

fn is_kept(claim: &Claim, node: Option<&Arc<Node>>) -> bool {
    let says = |annotations: &BTreeMap<String, String>| {
        annotations
            .get(labels::DO_NOT_DISRUPT)
            .is_some_and(|value| value == "true")
    };
    says(&claim.annotations) || node.is_some_and(|node| says(&node.annotations))
}

fn remove(
    claim: &Arc<Claim>,
    node: Option<&Arc<Node>>,
    fenced: bool,
    after: SignedDuration,
    decision: &mut Decision<EmptyStep>,
) {
    let tainted = node.is_none_or(|node| {
        node.taints
            .iter()
            .any(|taint| taint.key == labels::DISRUPTED_TAINT)
    });
    if let Some(node) = node
        && (!fenced || !tainted)
    {
        let change = ConditionChange::holds_because(
            ConditionType::DisruptionReason,
            ConditionReason::Empty,
            "no pods were left on the node",
        )
        .news_for(claim);
        decision.push(EmptyStep::Fence {
            claim: Arc::clone(claim),
            node: Arc::clone(node),
            change,
        });
        return;
    }
    decision.push(EmptyStep::Remove {
        claim: Arc::clone(claim),
        message: format!("no pods for {after:#}"),
    });
}

fn touch(
    snapshot: &Snapshot,
    claim: &Arc<Claim>,
    at: Timestamp,
    decision: &mut Decision<EmptyStep>,
) {
    // Only news, only while it is news, and only of nodes in use.
    let news = at.duration_since(remembered(claim)) >= TOUCH_INTERVAL;
    let fresh = snapshot.now.duration_since(at) < TOUCH_INTERVAL;
    if news && fresh && !claim.node_name.is_empty() {
        decision.push(EmptyStep::Touch {
            claim: Arc::clone(claim),
            at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::claim::ConditionStatus;
    use crate::model::node_pool::{BudgetNodes, PoolBudget};
    use crate::model::pod::PodPhase;
    use crate::model::taint::{Taint, TaintEffect};
    use crate::plan::examples::{at, claim, daemon, initialized, node, node_pool, pod, set, world};

    /// Plays seconds of a world in which pods come and go; gives back the last decision.
    fn play(story: &[(i64, &[Pod])], claims: &[Claim], nodes: &[Node]) -> Decision<EmptyStep> {
        let mut memory = EmptyMemory::default();
        let mut last = Decision::default();
        for (second, pods) in story {
            let snapshot = world(*second, claims, nodes, pods);
            memory.observe(&snapshot, None);
            last = decide(&snapshot, &memory);
        }
        last
    }

    fn fence(node: &mut Node, claim: &mut Claim) {
        node.taints.push(Taint::new(
            labels::DISRUPTED_TAINT,
            "",
            TaintEffect::NoSchedule,
        ));
        set(claim, "DisruptionReason", ConditionStatus::True, at(100));
        if let Some(found) = claim.conditions.get_mut("DisruptionReason") {
            found.reason = "Empty".to_owned();
            found.message = "no pods were left on the node".to_owned();
        }
    }

    #[test]
    fn a_node_goes_after_consolidate_after_without_work_fenced_first() {
        let mut claim = initialized("a");
        let mut machine = node("a");
        let busy = [pod("job", "ip-a"), daemon("logs", "ip-a")];
        let idle = [daemon("logs", "ip-a")];
        let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &idle), (229, &idle)];
        let waiting = play(story, &[claim.clone()], &[machine.clone()]);
        assert_eq!(waiting.wake, Some(at(230)));
        assert!(
            waiting
                .steps
                .iter()
                .all(|step| matches!(step, EmptyStep::Touch { .. }))
        );

        let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &idle), (230, &idle)];
        let due = play(story, &[claim.clone()], &[machine.clone()]);
        assert!(matches!(due.steps.as_slice(), [EmptyStep::Fence { .. }]));

        fence(&mut machine, &mut claim);
        let gone = play(story, &[claim.clone()], &[machine.clone()]);
        assert!(matches!(gone.steps.as_slice(), [EmptyStep::Remove { .. }]));

        let story: &[(i64, &[Pod])] = &[(230, &idle), (231, &busy)];
        let back = play(story, &[claim], &[machine]);
        assert!(matches!(back.steps.as_slice(), [EmptyStep::Unfence { .. }]));
    }

    #[test]
    fn when_a_node_fell_idle_is_written_down_once() {
        let busy = [pod("job", "ip-a")];
        let story: &[(i64, &[Pod])] = &[(100, &busy), (200, &[])];
        let decision = play(story, &[initialized("a")], &[node("a")]);
        assert!(matches!(
            decision.steps.as_slice(),
            [EmptyStep::Touch { at: time, .. }] if *time == at(200)
        ));
        let mut written = initialized("a");
        written.last_pod_event = Some(at(200));
        assert_eq!(play(story, &[written.clone()], &[node("a")]).steps, []);
        // After a restart the status counts.
        let restarted = play(&[(215, &[])], &[written], &[node("a")]);
        assert_eq!(restarted.wake, Some(at(230)));
    }

    #[test]
    fn an_ended_pod_is_no_work_and_a_nominated_one_is() {
        let mut ended = pod("job", "ip-a");
        ended.phase = PodPhase::Succeeded;
        let decision = play(&[(500, &[ended])], &[initialized("a")], &[node("a")]);
        assert!(matches!(
            decision.steps.as_slice(),
            [EmptyStep::Fence { .. }]
        ));
        let mut coming = pod("next", "");
        coming.node_name = None;
        coming.nominated_node = Some("ip-a".to_owned());
        assert_eq!(
            play(&[(500, &[coming])], &[initialized("a")], &[node("a")]).steps,
            []
        );
    }

    fn waiting_pod() -> Pod {
        let mut waiting = pod("next", "");
        waiting.node_name = None;
        waiting.phase = PodPhase::Pending;
        waiting
    }

    fn planned(second: i64, onto: &[&str]) -> Planned {
        Planned {
            at: at(second),
            onto: onto.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_node_that_waiting_pods_are_planned_onto_stays() {
        let snapshot = world(500, &[initialized("a")], &[node("a")], &[waiting_pod()]);
        let steps = |planned: Option<&Planned>| {
            let mut memory = EmptyMemory::default();
            memory.observe(&snapshot, planned);
            decide(&snapshot, &memory).steps.len()
        };
        assert_eq!(steps(Some(&planned(490, &["ip-a"]))), 0);
        assert_eq!(steps(Some(&planned(490, &["ip-b"]))), 1);
        assert_eq!(
            steps(Some(&planned(400, &["ip-a"]))),
            1,
            "an old plan holds nothing"
        );
    }

    #[test]
    fn a_machine_on_its_way_stays_until_a_fresh_plan_finds_no_use_for_it() {
        let coming = claim("a", &["c5.xlarge/us-east-1a/spot"]);
        let mut memory = EmptyMemory::default();
        let mut steps = |second: i64, pods: &[Pod], planned: Option<&Planned>| {
            let snapshot = world(second, &[coming.clone()], &[], pods);
            memory.observe(&snapshot, planned);
            decide(&snapshot, &memory).steps.len()
        };
        assert_eq!(
            steps(100, &[waiting_pod()], None),
            0,
            "no plan was made yet"
        );
        assert_eq!(
            steps(200, &[waiting_pod()], Some(&planned(100, &[]))),
            0,
            "the plan is old"
        );
        assert_eq!(steps(210, &[waiting_pod()], Some(&planned(209, &["a"]))), 0);
        assert_eq!(steps(220, &[waiting_pod()], Some(&planned(219, &["b"]))), 0);
        assert_eq!(steps(249, &[waiting_pod()], Some(&planned(248, &["b"]))), 0);
        assert_eq!(steps(250, &[waiting_pod()], Some(&planned(249, &["b"]))), 1);
        assert_eq!(steps(250, &[], None), 1, "nobody waits");
    }

    #[test]
    fn a_claim_whose_pods_went_away_before_it_was_usable_goes_too_but_not_at_once() {
        let unused = claim("a", &["c5.xlarge/us-east-1a/spot"]);
        let mut snapshot = world(10, &[unused], &[], &[]);
        let mut pool = node_pool("general");
        pool.consolidate_after = Some(SignedDuration::ZERO);
        snapshot
            .node_pools
            .insert("general".to_owned(), Arc::new(pool));
        let mut memory = EmptyMemory::default();
        memory.observe(&snapshot, None);
        assert_eq!(decide(&snapshot, &memory).wake, Some(at(40)));
        snapshot.now = at(40);
        memory.observe(&snapshot, None);
        assert!(matches!(
            decide(&snapshot, &memory).steps.as_slice(),
            [EmptyStep::Remove { .. }]
        ));
    }

    #[test]
    fn what_people_keep_is_kept() {
        let mut machine = node("a");
        machine
            .annotations
            .insert(labels::DO_NOT_DISRUPT.to_owned(), "true".to_owned());
        assert_eq!(
            play(&[(500, &[])], &[initialized("a")], &[machine]).steps,
            []
        );
        for change in [
            |pool: &mut NodePool| pool.paused = true,
            |pool: &mut NodePool| pool.consolidate_after = None,
        ] {
            let mut snapshot = world(500, &[initialized("a")], &[node("a")], &[]);
            let mut pool = node_pool("general");
            change(&mut pool);
            snapshot
                .node_pools
                .insert("general".to_owned(), Arc::new(pool));
            let mut memory = EmptyMemory::default();
            memory.observe(&snapshot, None);
            assert_eq!(decide(&snapshot, &memory).steps, []);
        }
    }

    #[test]
    fn the_default_budget_does_not_hold_empty_nodes_back_but_one_that_names_them_does() {
        let claims: Vec<Claim> = ["a", "b", "c"].into_iter().map(initialized).collect();
        let nodes: Vec<Node> = ["a", "b", "c"].into_iter().map(node).collect();
        let steps = |nodes_allowed, reasons: &[&str]| {
            let mut snapshot = world(500, &claims, &nodes, &[]);
            let mut pool = node_pool("general");
            pool.budgets = vec![PoolBudget {
                nodes: nodes_allowed,
                reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
                window: None,
            }];
            snapshot
                .node_pools
                .insert("general".to_owned(), Arc::new(pool));
            let mut memory = EmptyMemory::default();
            memory.observe(&snapshot, None);
            decide(&snapshot, &memory).steps.len()
        };
        assert_eq!(steps(BudgetNodes::Percent(10), &[]), 3);
        assert_eq!(steps(BudgetNodes::Percent(34), &["Empty"]), 2);
        assert_eq!(steps(BudgetNodes::Count(1), &["Drifted"]), 3);
        assert_eq!(steps(BudgetNodes::Count(0), &[]), 0, "zero is a freeze");
    }
}
