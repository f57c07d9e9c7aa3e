//! In which order EC2 tries what a fleet request allows.
//!
//! Given what may be bought, with prices and room; given back the same in the order of an allocation
//! strategy.

use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, OfferingKey};

/// An allocation strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// Cheap among the deepest pools.
    PriceCapacityOptimized,
    /// The deepest pools first.
    CapacityOptimized,
    /// The cheapest first.
    LowestPrice,
    /// In the order of the request.
    Prioritized,
}

impl Strategy {
    /// What Tonnage asks for unless it is told otherwise.
    pub const fn usual(capacity_type: CapacityType) -> Self {
        match capacity_type {
            CapacityType::Spot => Self::PriceCapacityOptimized,
            CapacityType::OnDemand | CapacityType::Reserved => Self::LowestPrice,
        }
    }

    /// Reads EC2's word for a strategy that exists for a capacity type; without one EC2 takes the
    /// cheapest.
    pub fn parse(text: Option<&str>, capacity_type: CapacityType) -> Option<Self> {
        let is_spot = capacity_type == CapacityType::Spot;
        match text {
            None | Some("lowest-price" | "lowestPrice") => Some(Self::LowestPrice),
            Some("price-capacity-optimized") if is_spot => Some(Self::PriceCapacityOptimized),
            Some("capacity-optimized" | "capacityOptimized") if is_spot => {
                Some(Self::CapacityOptimized)
            }
            Some("prioritized") if !is_spot => Some(Self::Prioritized),
            Some(_other) => None,
        }
    }
}

/// One thing that may be bought.
#[derive(Debug, Clone)]
pub struct Choice<What> {
    /// What asks for it.
    pub of: What,
    /// The offering.
    pub offering: OfferingKey,
    /// Its price now.
    pub price: UsdPerHour,
    /// How many machines of it are to be had.
    pub room: usize,
    /// Its place in the order of the request, lowest first.
    pub rank: u32,
}

/// Puts choices into the order in which EC2 tries them.
pub fn order<What>(choices: &mut [Choice<What>], strategy: Strategy) {
    choices.sort_by(|one, other| (one.price, &one.offering).cmp(&(other.price, &other.offering)));
    match strategy {
        Strategy::LowestPrice => {}
        Strategy::Prioritized => choices.sort_by_key(|choice| choice.rank),
        Strategy::CapacityOptimized => {
            choices.sort_by_key(|choice| std::cmp::Reverse(choice.room));
        }
        Strategy::PriceCapacityOptimized => order_near_prices_by_depth(choices),
    }
}

fn order_near_prices_by_depth<What>(choices: &mut [Choice<What>]) {
    let Some(cheapest) = choices.iter().find(|choice| choice.room > 0) else {
        return;
    };
    // Among pools that cost nearly the same, the deepest is the least likely to be reclaimed. Equals stay
    // in the order of their prices, which they are in.
    let near = cheapest.price.times(11).units() / 10;
    choices.sort_by_key(|choice| {
        let dear = choice.price.units() > near;
        (dear, if dear { 0 } else { usize::MAX - choice.room })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(zone: &str, cents: i64, room: usize) -> Choice<()> {
        Choice {
            of: (),
            offering: OfferingKey::new("c5.large", zone, CapacityType::Spot),
            price: UsdPerHour::from_micros(cents * 10_000),
            room,
            rank: u32::try_from(room).unwrap_or(0),
        }
    }

    #[test]
    fn each_strategy_has_its_order() {
        let mut choices = [
            choice("c", 120, 99),
            choice("a", 100, 1),
            choice("b", 109, 9),
        ];
        let zones = |choices: &[Choice<()>]| -> Vec<String> {
            let zone = |choice: &Choice<()>| choice.offering.zone.to_string();
            choices.iter().map(zone).collect()
        };
        for (strategy, expected) in [
            (Strategy::PriceCapacityOptimized, ["b", "a", "c"]),
            (Strategy::LowestPrice, ["a", "b", "c"]),
            (Strategy::CapacityOptimized, ["c", "b", "a"]),
            (Strategy::Prioritized, ["a", "b", "c"]),
        ] {
            order(&mut choices, strategy);
            assert_eq!(zones(&choices), expected, "{strategy:?}");
        }
    }

    #[test]
    fn a_strategy_belongs_to_a_capacity_type() {
        let spot = |text| Strategy::parse(text, CapacityType::Spot);
        assert_eq!(spot(None), Some(Strategy::LowestPrice));
        assert_eq!(
            spot(Some("price-capacity-optimized")),
            Some(Strategy::usual(CapacityType::Spot))
        );
        assert_eq!(spot(Some("prioritized")), None);
        let on_demand = |text| Strategy::parse(text, CapacityType::OnDemand);
        assert_eq!(on_demand(Some("prioritized")), Some(Strategy::Prioritized));
        assert_eq!(on_demand(Some("capacity-optimized")), None);
    }
}
