//! A NodePool as decisions see it: validated, quantities and durations parsed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::money::UsdPerHour;
use super::requirement::Requirements;
use super::resources::Resources;
use super::taint::Taint;

/// A NodePool of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePool {
    /// The object's name.
    pub name: String,
    /// The object's uid, for owner references.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Set while the object is being deleted.
    pub deleting_since: Option<Timestamp>,
    /// Problems that keep the pool from provisioning, each naming field and fix; empty when valid.
    pub problems: Vec<String>,
    /// True while `tonnage.dev/paused` stops new actions for the pool.
    pub paused: bool,
    /// Name of the EC2NodeClass.
    pub node_class: String,
    /// Spec requirements, template labels, and the pool's and class's own labels.
    pub requirements: Requirements,
    /// Labels of the template.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the template.
    pub annotations: BTreeMap<String, String>,
    /// Taints that nodes keep.
    pub taints: Vec<Taint>,
    /// Taints that something else removes before pods start.
    pub startup_taints: Vec<Taint>,
    /// Highest total of each resource over the pool's nodes; `nodes` counts nodes.
    pub limits: Resources,
    /// Names in `limits` whose limit is zero, which `Resources` does not store.
    pub zero_limits: Vec<String>,
    /// Higher is tried first; 0 when unset.
    pub weight: i32,
    /// How many nodes may be disrupted at once: `spec.disruption.budgets`.
    pub budgets: Vec<PoolBudget>,
    /// How long a node stays empty before it goes; `None` is for ever.
    pub consolidate_after: Option<SignedDuration>,
    /// Hard deadline of a drain; `None` waits for ever.
    pub termination_grace: Option<SignedDuration>,
    /// Age at which nodes are replaced; `None` is never.
    pub expire_after: Option<SignedDuration>,
    /// The static hash that new claims record.
    pub hash: String,
    /// The fee `tonnage.dev/usd-per-node-hour`.
    pub fee: UsdPerHour,
    /// How long a claim may take to launch before it is given up.
    pub launch_timeout: SignedDuration,
    /// How long a launched instance may take to register before it is given up.
    pub registration_timeout: SignedDuration,
    /// How long a registered node may take to become usable before it is given up; `None` is for
    /// ever.
    pub initialization_timeout: Option<SignedDuration>,
    /// The annotation `tonnage.dev/acknowledge-orphans`: the token of a halted collection that a
    /// person allows to go on.
    pub acknowledged_orphans: Option<String>,
    /// It buys no machine whose price per hour, fees apart, is above this.
    pub max_price: Option<UsdPerHour>,
    /// It buys no spot machine that costs more than this share of its on-demand price, in percent.
    pub max_percent_of_on_demand: Option<u32>,
    /// How much the expected cost of a spot interruption counts when offerings are compared, in
    /// thousandths.
    pub risk_weight_thousandths: u32,
    /// The least number of on-demand nodes.
    pub on_demand_base: u32,
    /// The share of nodes above the base that may be spot, in percent; `None` leaves it to the price.
    pub spot_percent: Option<u32>,
    /// How much more an alternative of a launch may cost than the best of its capacity type, in
    /// percent; `None` is what all pools have.
    pub price_band_percent: Option<u32>,
}

impl NodePool {
    /// A pool that is valid, asks for nothing and has the defaults of the API.
    pub fn named(name: &str, node_class: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: String::new(),
            generation: 1,
            deleting_since: None,
            problems: Vec::new(),
            paused: false,
            node_class: node_class.to_owned(),
            requirements: Requirements::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            startup_taints: Vec::new(),
            limits: Resources::new(),
            zero_limits: Vec::new(),
            weight: 0,
            budgets: Vec::new(),
            consolidate_after: None,
            termination_grace: None,
            expire_after: None,
            hash: String::new(),
            fee: UsdPerHour::ZERO,
            launch_timeout: SignedDuration::from_mins(5),
            registration_timeout: SignedDuration::from_mins(15),
            initialization_timeout: None,
            acknowledged_orphans: None,
            max_price: None,
            max_percent_of_on_demand: None,
            risk_weight_thousandths: 500,
            on_demand_base: 0,
            spot_percent: None,
            price_band_percent: None,
        }
    }
}

/// One of a NodePool's disruption budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolBudget {
    /// How many nodes may be disrupted at once.
    pub nodes: BudgetNodes,
    /// The reasons it holds for (`Empty`, `Underutilized`, ...), as written; empty is every reason.
    pub reasons: Vec<String>,
    /// When it holds; `None` is always.
    pub window: Option<BudgetWindow>,
}

/// The number of nodes of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetNodes {
    /// A number of nodes.
    Count(i64),
    /// A percentage of the pool's nodes, rounded up.
    Percent(i64),
}

/// A recurring time in which a budget holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetWindow {
    /// Five cron fields or a macro such as `@daily`, as written; in UTC.
    pub schedule: String,
    /// How long it holds from each hit of the schedule.
    pub duration: SignedDuration,
}
