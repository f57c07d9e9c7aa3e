//! When the nodes of a NodePool may be removed or replaced, and how many at once.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::{DurationOrNever, GoDuration};
use super::open_enum::open_enum;

/// Share or number of nodes: `10%`, `100%`, `5`.
const BUDGET_NODES_PATTERN: &str = "^((100|[0-9]{1,2})%|[0-9]+)$";
/// A budget's duration in hours and minutes, as Kubernetes' cron has no smaller step.
const BUDGET_DURATION_PATTERN: &str = "^((([0-9]+(h|m))|([0-9]+h[0-9]+m))(0s)?)$";
/// A cron macro or five fields.
const BUDGET_SCHEDULE_PATTERN: &str =
    r"^(@(annually|yearly|monthly|weekly|daily|midnight|hourly))|((.+)\s(.+)\s(.+)\s(.+)\s(.+))$";

open_enum! {
    /// Which nodes consolidation considers.
    pub enum ConsolidationPolicy {
        /// Only nodes without pods, daemons aside.
        WhenEmpty = "WhenEmpty",
        /// Empty nodes, and nodes whose pods fit elsewhere or on a cheaper node.
        WhenEmptyOrUnderutilized = "WhenEmptyOrUnderutilized",
        /// As before, but only where the saving is worth moving the pods.
        Balanced = "Balanced",
    }
}

open_enum! {
    /// Why a node is removed or replaced without anybody asking for it.
    pub enum DisruptionReason {
        /// Its pods fit elsewhere or on a cheaper node.
        Underutilized = "Underutilized",
        /// It has no pods.
        Empty = "Empty",
        /// It no longer matches its NodePool or node class.
        Drifted = "Drifted",
        /// It is broken and is to be repaired.
        Unhealthy = "Unhealthy",
    }
}

/// When nodes may be removed or replaced, and how many at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Disruption {
    /// How long a node must have had no change of its pods before it may be removed as empty or
    /// underutilized, for example `30s` or `10m`; `Never` keeps such nodes. Default: `0s`, at once.
    /// Static pools ignore it.
    #[serde(default = "default_consolidate_after")]
    pub consolidate_after: DurationOrNever,
    /// Which nodes may be removed to save money: `WhenEmpty`, `WhenEmptyOrUnderutilized` or
    /// `Balanced`. Default: `WhenEmptyOrUnderutilized`. Static pools ignore it.
    #[serde(default = "default_consolidation_policy")]
    pub consolidation_policy: ConsolidationPolicy,
    /// How many nodes of the pool may be disrupted at the same time. When several budgets are
    /// active, the smallest counts. At most 50. Default: one budget of `10%`.
    #[serde(default = "default_budgets")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub budgets: Vec<Budget>,
}

impl Default for Disruption {
    fn default() -> Self {
        Self {
            consolidate_after: default_consolidate_after(),
            consolidation_policy: default_consolidation_policy(),
            budgets: default_budgets(),
        }
    }
}

/// How many nodes may be disrupted at the same time, and when that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) == has(self.duration)")
        .message("schedule and duration go together: set both, or neither for a budget that always holds"),
)]
pub struct Budget {
    /// The reasons this budget holds for: `Underutilized`, `Empty`, `Drifted`, `Unhealthy`. Unset
    /// means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "set"))]
    pub reasons: Option<Vec<DisruptionReason>>,
    /// The number of nodes (`5`) or the share of the pool's nodes (`10%`, rounded up) that may be
    /// disrupted at the same time. `0` stops every disruption. Default: `10%`.
    #[schemars(regex(pattern = BUDGET_NODES_PATTERN), extend("default" = "10%"))]
    pub nodes: String,
    /// When the budget begins to hold: five cron fields in UTC, for example `0 9 * * mon-fri`, or
    /// one of `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`. Unset
    /// means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = BUDGET_SCHEDULE_PATTERN))]
    pub schedule: Option<String>,
    /// How long the budget holds from each time of the schedule, in hours and minutes, for example
    /// `8h` or `1h30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = BUDGET_DURATION_PATTERN))]
    pub duration: Option<GoDuration>,
}

fn default_consolidate_after() -> DurationOrNever {
    DurationOrNever::new("0s")
}

fn default_consolidation_policy() -> ConsolidationPolicy {
    ConsolidationPolicy::WhenEmptyOrUnderutilized
}

fn default_budgets() -> Vec<Budget> {
    vec![Budget {
        reasons: None,
        nodes: "10%".to_owned(),
        schedule: None,
        duration: None,
    }]
}
