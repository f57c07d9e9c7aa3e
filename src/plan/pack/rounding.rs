//! From how often the relaxation buys each pattern to whole machines.

use super::budget::Meter;
use super::fleet::Fleet;
use super::greedy::{Effort, Greedy, RENEW};
use super::patterns::Bought;
use super::real::whole_count;
use super::reduced::Reduced;
use super::rows::Rows;

/// A pattern is bought once more when at least this part of one is left; above 1 never.
const THRESHOLDS: [f64; 4] = [2.0, 0.7, 0.5, 0.3];

/// What greedy goes by for what is left.
#[derive(Debug)]
pub struct Guide<'solve> {
    /// What one of each class is worth.
    pub values: &'solve [f64],
    /// Orders to fill in.
    pub orders: &'solve [Vec<u32>],
    /// Kinds to try.
    pub kinds: &'solve [usize],
}

/// Buys whole patterns and greedily the rest; the cheapest of some ways to round.
pub fn round<const D: usize>(
    reduced: &Reduced<D>,
    rows: &Rows<D>,
    bought: &[Bought],
    guide: &Guide<'_>,
    meter: &mut Meter<'_>,
) -> Option<Fleet> {
    let mut largest: Vec<&Bought> = bought.iter().collect();
    largest.sort_by(|left, right| right.amount.total_cmp(&left.amount));
    let mut best: Option<Fleet> = None;
    for threshold in THRESHOLDS {
        let mut left: Vec<u32> = reduced.classes.iter().map(|class| class.count).collect();
        let mut fleet = Fleet::default();
        for pattern in &largest {
            let often = whole_count(pattern.amount + 1e-6);
            add(reduced, &mut fleet, pattern, often, &mut left);
        }
        for pattern in &largest {
            let rest = pattern.amount - pattern.amount.floor();
            if rest >= threshold && rest < 1.0 - 1e-6 {
                clip(reduced, &mut fleet, pattern, &mut left);
            }
        }
        let effort = Effort {
            enough: 0.9999,
            units: u64::MAX,
            renew: RENEW,
        };
        let rest = Greedy::of(reduced, rows, guide.values, guide.orders, &left).run(
            guide.kinds,
            effort,
            meter,
        );
        fleet.price = fleet.price.saturating_add(rest.price);
        fleet.nodes.extend(rest.nodes);
        if best.as_ref().is_none_or(|known| fleet.price < known.price) {
            best = Some(fleet);
        }
    }
    best
}

/// Buys a pattern so often, as far as there is something left for all of it.
fn add<const D: usize>(
    reduced: &Reduced<D>,
    fleet: &mut Fleet,
    pattern: &Bought,
    often: u32,
    left: &mut [u32],
) {
    let often = pattern
        .contents
        .iter()
        .map(|(class, count)| left[*class as usize] / (*count).max(1))
        .min()
        .unwrap_or(0)
        .min(often);
    if often == 0 {
        return;
    }
    buy(reduced, fleet, pattern.kind, &pattern.contents, often, left);
}

/// Buys a pattern once with what is left of it.
fn clip<const D: usize>(
    reduced: &Reduced<D>,
    fleet: &mut Fleet,
    pattern: &Bought,
    left: &mut [u32],
) {
    let contents: Vec<(u32, u32)> = pattern
        .contents
        .iter()
        .map(|(class, count)| (*class, (*count).min(left[*class as usize])))
        .filter(|(_class, count)| *count > 0)
        .collect();
    if !contents.is_empty() {
        buy(reduced, fleet, pattern.kind, &contents, 1, left);
    }
}

fn buy<const D: usize>(
    reduced: &Reduced<D>,
    fleet: &mut Fleet,
    kind: usize,
    contents: &[(u32, u32)],
    often: u32,
    left: &mut [u32],
) {
    let mut contents = contents.to_vec();
    contents.sort_unstable();
    fleet.add(reduced, kind, &contents, often);
    for (class, count) in &contents {
        let left = &mut left[*class as usize];
        *left = left.saturating_sub(count.saturating_mul(often));
    }
}
