//! What an offering is expected to cost beside its price.
//!
//! Given an offering with its outlook, and how much a NodePool cares; given back dollars per hour that
//! are added to its price while offerings are compared, and to no bill. Integers only.

use crate::model::money::UsdPerHour;
use crate::model::offering::Offering;

/// What certain shortage would add to a price, in percent. A refused offering costs a moment, since
/// the call has others and the next plan knows; so a doubt only decides between offerings that cost
/// nearly the same, and what is half believed short must be 5 % cheaper to be tried first.
const SHORTAGE_PERCENT: i128 = 10;

/// Hours of a machine that an interruption costs: work since the last result is done again, and what
/// replaces the machine takes minutes to boot. Half of an hour-long task and the start of another, to
/// the full hour; a NodePool with shorter or longer tasks says so by its weight.
const HOURS_LOST: i128 = 1;

/// A whole, in millionths.
const WHOLE: i128 = 1_000_000;

/// What is added to the price of an offering while it is compared with others: for shortage always,
/// for interruptions by the weight, in thousandths.
pub fn surcharge(offering: &Offering, weight_thousandths: u32) -> UsdPerHour {
    let price = i128::from(offering.price.units());
    let shortage = price * i128::from(offering.outlook.shortage) * SHORTAGE_PERCENT / 100 / WHOLE;
    let lost = price * i128::from(offering.outlook.interruptions) * HOURS_LOST / WHOLE;
    let weighed = lost * i128::from(weight_thousandths) / 1_000;
    UsdPerHour::from_units(i64::try_from(shortage + weighed).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offering::Outlook;
    use crate::plan::examples::offering;

    fn of(price_micros: i64, outlook: Outlook) -> Offering {
        Offering {
            key: offering("c5.xlarge/us-east-1a/spot"),
            price: UsdPerHour::from_micros(price_micros),
            fees: UsdPerHour::from_micros(1_000_000),
            available: true,
            outlook,
        }
    }

    #[test]
    fn without_experience_the_price_is_the_price() {
        assert_eq!(
            surcharge(&of(170_000, Outlook::default()), 1_000),
            UsdPerHour::ZERO
        );
    }

    #[test]
    fn a_half_believed_shortage_adds_a_twentieth() {
        let doubted = Outlook {
            shortage: 500_000,
            ..Outlook::default()
        };
        assert_eq!(surcharge(&of(200_000, doubted), 0).to_string(), "0.010");
        let dearest = of(i64::MAX / 20_000, doubted);
        assert!(surcharge(&dearest, 0) < dearest.price);
    }

    #[test]
    fn an_interruption_costs_an_hour_of_the_machine_by_its_weight() {
        let taken = Outlook {
            interruptions: 50_000,
            ..Outlook::default()
        };
        let offering = of(200_000, taken);
        for (weight, expected) in [
            (0, "0.000"),
            (500, "0.005"),
            (1_000, "0.010"),
            (4_000, "0.040"),
        ] {
            assert_eq!(
                surcharge(&offering, weight).to_string(),
                expected,
                "{weight}"
            );
        }
        let most = Outlook {
            interruptions: u32::MAX,
            shortage: u32::MAX,
            ..Outlook::default()
        };
        assert!(surcharge(&of(i64::MAX / 20_000, most), u32::MAX) > UsdPerHour::ZERO);
    }
}
