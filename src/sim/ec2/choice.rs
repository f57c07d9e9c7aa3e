//! In which order EC2 tries what a fleet request allows.
//!
//! Given what may be bought, with prices and room; given back the same in the order of the allocation
//! strategies that Tonnage asks for: spot price-capacity-optimized, on-demand at the lowest price.

use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, OfferingKey};

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
}

/// Puts choices into the order in which EC2 tries them.
pub fn order<What>(choices: &mut [Choice<What>], capacity_type: CapacityType) {
    choices.sort_by(|one, other| (one.price, &one.offering).cmp(&(other.price, &other.offering)));
    if capacity_type == CapacityType::Spot
        && let Some(cheapest) = choices.iter().find(|choice| choice.room > 0)
    {
        // Among pools that cost nearly the same, the deepest is the least likely to be reclaimed.
        let near = cheapest.price.times(11).units() / 10;
        choices.sort_by_key(|choice| {
            let dear = choice.price.units() > near;
            let shallow = usize::MAX - choice.room;
            (
                dear,
                if dear { 0 } else { shallow },
                choice.price,
                choice.offering.clone(),
            )
        });
    }
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
        }
    }

    #[test]
    fn spot_prefers_depth_among_near_prices_and_on_demand_the_price() {
        let mut choices = [
            choice("a", 100, 1),
            choice("b", 109, 9),
            choice("c", 120, 99),
        ];
        let zones = |choices: &[Choice<()>]| -> Vec<String> {
            let zone = |choice: &Choice<()>| choice.offering.zone.to_string();
            choices.iter().map(zone).collect()
        };
        order(&mut choices, CapacityType::Spot);
        assert_eq!(zones(&choices), ["b", "a", "c"]);
        order(&mut choices, CapacityType::OnDemand);
        assert_eq!(zones(&choices), ["a", "b", "c"]);
    }
}
