//! How many nodes of a NodePool may be disrupted now.
//!
//! Given the pool's budgets and its claims, [`allowance`] gives back how many more may go for a
//! reason. Emptiness takes no work from anybody, so only budgets that name it, or that freeze the
//! pool with zero nodes, hold it back; the default budget of 10 % does not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::cron;
use crate::api::conditions::ConditionType;
use crate::model::claim::Claim;
use crate::model::node_pool::{BudgetNodes, NodePool, PoolBudget};
use crate::model::snapshot::Snapshot;

/// How many nodes may be disrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many are left; `None` is no limit.
    pub left: Option<i64>,
    /// When a budget's schedule may change that.
    pub changes_at: Option<Timestamp>,
}

impl Allowance {
    /// Takes one if there is one.
    pub fn take(&mut self) -> bool {
        match &mut self.left {
            None => true,
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) => false,
        }
    }
}

/// How many of a pool's nodes may be disrupted for a reason.
pub fn allowance(
    snapshot: &Snapshot,
    pool: &NodePool,
    claims: &[&Arc<Claim>],
    reason: &str,
) -> Allowance {
    let counted = claims.iter().filter(|claim| {
        claim.is(ConditionType::Initialized.as_str())
            && !claim.is(ConditionType::InstanceTerminating.as_str())
    });
    let (mut total, mut disrupting) = (0_i64, 0_i64);
    for claim in counted {
        total += 1;
        let ready = snapshot
            .nodes
            .get(&claim.node_name)
            .is_some_and(|node| node.ready);
        let going = claim.deleting_since.is_some()
            || claim.is(ConditionType::DisruptionReason.as_str())
            || !ready;
        disrupting += i64::from(going);
    }
    let smallest = pool
        .budgets
        .iter()
        .filter(|budget| is_active(budget, snapshot.now))
        .filter_map(|budget| limit(budget, total, reason))
        .min();
    let scheduled = pool.budgets.iter().any(|budget| budget.window.is_some());
    Allowance {
        left: smallest.map(|limit| (limit - disrupting).max(0)),
        changes_at: (scheduled && smallest.is_some()).then(|| next_minute(snapshot.now)),
    }
}

/// The number of nodes a budget allows for a reason, `None` when it says nothing about it.
fn limit(budget: &PoolBudget, total: i64, reason: &str) -> Option<i64> {
    let scaled = match budget.nodes {
        BudgetNodes::Count(count) => count,
        BudgetNodes::Percent(percent) => total
            .saturating_mul(percent)
            .saturating_add(99)
            .div_euclid(100),
    };
    let frozen = matches!(
        budget.nodes,
        BudgetNodes::Count(0) | BudgetNodes::Percent(0)
    );
    let named = budget.reasons.iter().any(|named| named == reason);
    let general = budget.reasons.is_empty() && (frozen || reason != "Empty");
    (named || general).then_some(scaled)
}

/// A schedule that cannot be read holds always: a typo must not lift a freeze.
fn is_active(budget: &PoolBudget, now: Timestamp) -> bool {
    budget.window.as_ref().is_none_or(|window| {
        cron::Schedule::parse(&window.schedule)
            .is_none_or(|schedule| schedule.hit_within(window.duration, now))
    })
}

fn next_minute(now: Timestamp) -> Timestamp {
    let seconds = now.as_second();
    let rest = SignedDuration::from_secs(60 - seconds.rem_euclid(60));
    now.saturating_add(rest).unwrap_or(now)
}
