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

/// What a wish of pods may cost, in percent: of the price of what it is about, for a wish of full weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Premium(pub u32);

impl Premium {
    /// From here on wishes come before every price.
    pub const UNBOUNDED: u32 = 10_000;
    /// The full weight of a wish.
    pub const FULL_WEIGHT: i64 = 100;

    /// True when prices do not count against wishes.
    pub const fn is_unbounded(self) -> bool {
        self.0 >= Self::UNBOUNDED
    }

    /// The most that something may cost for a wish of this weight which costs so much without: for no wish no more.
    pub fn ceiling(self, price: i64, weight: i64) -> i64 {
        if weight <= 0 {
            return price;
        }
        if self.is_unbounded() {
            return i64::MAX;
        }
        let share = i128::from(self.0) * i128::from(weight);
        let extra = i128::from(price) * share / (100 * i128::from(Self::FULL_WEIGHT));
        price.saturating_add(i64::try_from(extra).unwrap_or(i64::MAX))
    }
}

impl Default for Premium {
    fn default() -> Self {
        Self(10)
    }
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
    /// What a wish of pods may cost.
    pub preference_premium: Premium,
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
    /// 100 ms of search, 60 offerings within twice the cheapest price, a tenth more for wishes, drivers
    /// on-demand, contested pods left alone, no spread by default.
    fn default() -> Self {
        Self {
            contested_pods: ContestedPods::Leave,
            budget_units: 100 * UNITS_PER_MILLISECOND,
            max_alternatives: MOST_OFFERINGS,
            price_band_percent: Some(100),
            preference_premium: Premium::default(),
            drivers_on_demand: true,
            default_spread: Vec::new(),
        }
    }
}
