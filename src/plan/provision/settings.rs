//! What a planning round may be told beside the snapshot.

use crate::model::offering::MOST_OFFERINGS;
use crate::model::pod::TopologySpread;
pub use crate::plan::pack::budget::UNITS_PER_MILLISECOND;

/// What to do with pods that a NodePool of another provisioner could serve as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ContestedPods {
    /// Leave them to the other provisioner.
    #[default]
    Leave,
    /// Buy for them.
    Take,
}

/// Settings of one planning round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionSettings {
    /// Pods that a foreign NodePool could serve too.
    pub contested_pods: ContestedPods,
    /// Units of work that the search for a cheaper fleet may spend; see [`UNITS_PER_MILLISECOND`].
    pub budget_units: u64,
    /// Most offerings that one planned node lists; never more than [`MOST_OFFERINGS`].
    pub max_alternatives: usize,
    /// An alternative may cost this many percent more than the cheapest; `None` lists all that fit.
    pub price_band_percent: Option<u32>,
    /// Drivers of Spark applications go on-demand unless their pod says otherwise.
    pub drivers_on_demand: bool,
    /// Spread constraints of pods that have none of their own, without selectors.
    pub default_spread: Vec<TopologySpread>,
}

impl ProvisionSettings {
    /// The same settings with a search budget of so many milliseconds.
    pub fn with_budget_ms(mut self, milliseconds: u64) -> Self {
        self.budget_units = milliseconds.saturating_mul(UNITS_PER_MILLISECOND);
        self
    }
}

impl Default for ProvisionSettings {
    /// 100 ms of search, 60 offerings within twice the cheapest price, drivers on-demand, contested
    /// pods left alone, no spread by default.
    fn default() -> Self {
        Self {
            contested_pods: ContestedPods::Leave,
            budget_units: 100 * UNITS_PER_MILLISECOND,
            max_alternatives: MOST_OFFERINGS,
            price_band_percent: Some(100),
            drivers_on_demand: true,
            default_spread: Vec::new(),
        }
    }
}
