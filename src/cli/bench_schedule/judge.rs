//! What planning must reach: the aims of docs/planner.md.
//!
//! Given the figures of one case; given back everything that misses, in words. Money is compared in integers.

use crate::model::money::UsdPerHour;

/// The most that a fleet may cost, in percent of the bound that the same constraints allow.
const MOST_PERCENT_OF_BOUND: i128 = 102;
/// Aims for time and memory are about at most so many types.
const TYPES: i64 = 400;
/// Diverse pods, and what they may take: milliseconds and MiB.
const DIVERSE: [(u64, u64, u64); 2] = [(20_000, 1_000, 150), (100_000, 5_000, 400)];
/// Pods whose preferences cannot all be met, and the milliseconds that they may take.
const WISHES: (u64, u64) = (4_000, 200);

/// What one case came to.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// Pods.
    pub(super) pods: u64,
    /// Instance types.
    pub(super) types: i64,
    /// The pods have preferences that cannot all be met.
    pub(super) wishes: bool,
    /// Time of planning.
    pub(super) elapsed_ms: u64,
    /// Peak memory of the process.
    pub(super) memory_mb: u64,
    /// Price of the fleet.
    pub(super) price: UsdPerHour,
    /// The plan's own bound.
    pub(super) lower_bound: UsdPerHour,
}

/// Every aim that is missed.
pub(super) fn misses(figures: &Figures) -> Vec<String> {
    let mut misses = Vec::new();
    let (price, bound) = (
        i128::from(figures.price.units()),
        i128::from(figures.lower_bound.units()),
    );
    if price * 100 > bound * MOST_PERCENT_OF_BOUND {
        misses.push(format!(
            "price: {} USD per hour is more than {MOST_PERCENT_OF_BOUND} % of the lower bound {}",
            figures.price, figures.lower_bound
        ));
    }
    let mut at_most = |what: &str, unit: &str, found: u64, most: u64| {
        if found > most {
            misses.push(format!(
                "{what}: {found} {unit}, at most {most} are aimed at"
            ));
        }
    };
    if figures.wishes {
        if figures.pods <= WISHES.0 {
            at_most("time", "ms", figures.elapsed_ms, WISHES.1);
        }
        return misses;
    }
    let aim = DIVERSE.iter().find(|(pods, _, _)| figures.pods <= *pods);
    if let (Some((_pods, time, memory)), true) = (aim, figures.types <= TYPES) {
        at_most("time", "ms", figures.elapsed_ms, *time);
        at_most("memory", "MiB", figures.memory_mb, *memory);
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pods: u64, elapsed_ms: u64, memory_mb: u64, cents: i64) -> Figures {
        Figures {
            pods,
            types: 400,
            wishes: false,
            elapsed_ms,
            memory_mb,
            price: UsdPerHour::from_micros(cents * 10_000),
            lower_bound: UsdPerHour::from_micros(1_000_000),
        }
    }

    #[test]
    fn each_miss_is_named() {
        assert_eq!(misses(&figures(20_000, 1_000, 150, 102)), [""; 0]);
        for (figures, name) in [
            (figures(20_000, 1_001, 150, 102), "time"),
            (figures(20_000, 1_000, 151, 102), "memory"),
            (figures(20_000, 1_000, 150, 103), "price"),
            (figures(100_000, 5_001, 400, 102), "time"),
        ] {
            let found = misses(&figures);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(name), "{found:?}");
        }
        let wishes = Figures {
            wishes: true,
            types: 700,
            ..figures(4_000, 201, 1_000, 100)
        };
        assert_eq!(misses(&wishes).len(), 1);
        let many_types = Figures {
            types: 700,
            ..figures(20_000, 9_000, 900, 100)
        };
        assert_eq!(misses(&many_types), [""; 0]);
    }
}
