//! Which pods were on nodes when, by class and price step: what a lower bound is asked for.

use std::collections::BTreeMap;

use crate::sim::ec2::market::PRICE_STEP;

/// A price step, milliseconds.
pub(super) const STEP: i64 = PRICE_STEP * 1_000;

/// Pods of one class within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share {
    /// The class.
    pub(super) class: usize,
    /// The most at a time.
    pub(super) most: u32,
    /// For how long in all, milliseconds of single pods.
    pub(super) milliseconds: i64,
}

/// Everything within a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// When the step begins, milliseconds from the beginning of the run: the first may begin before it.
    pub(super) begins: i64,
    /// By class, in order.
    pub(super) shares: Vec<Share>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    pods: u32,
    most: u32,
    milliseconds: i64,
    since: i64,
}

/// The demand so far.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// How long before the beginning of the run the first step begins, milliseconds.
    offset: i64,
    step: i64,
    counts: BTreeMap<usize, Count>,
    steps: Vec<Step>,
}

impl Demand {
    /// No demand yet, in a run that begins at a second of Unix time: steps begin when prices move.
    pub(super) fn new(begin: i64) -> Self {
        Self {
            offset: begin.rem_euclid(PRICE_STEP) * 1_000,
            ..Self::default()
        }
    }

    fn begins(&self, step: i64) -> i64 {
        step * STEP - self.offset
    }

    /// One more pod of a class, or one less, from a moment on. Moments never go back.
    pub(super) fn change(&mut self, now: i64, class: usize, more: bool) {
        self.advance(now);
        let count = self.counts.entry(class).or_default();
        count.milliseconds += (now - count.since.max(0)) * i64::from(count.pods);
        count.since = now;
        count.pods = if more {
            count.pods.saturating_add(1)
        } else {
            count.pods.saturating_sub(1)
        };
        count.most = count.most.max(count.pods);
    }

    /// Closes the steps that are over.
    pub(super) fn advance(&mut self, now: i64) {
        let current = (now + self.offset).div_euclid(STEP);
        while current > self.step {
            if self.counts.is_empty() {
                self.step = current;
                return;
            }
            let end = self.begins(self.step + 1);
            let shares = self.counts.iter().map(|(class, count)| Share {
                class: *class,
                most: count.most,
                milliseconds: count.milliseconds + (end - count.since) * i64::from(count.pods),
            });
            self.steps.push(Step {
                begins: self.begins(self.step),
                shares: shares.filter(|share| share.milliseconds > 0).collect(),
            });
            self.counts.retain(|_class, count| count.pods > 0);
            for count in self.counts.values_mut() {
                *count = Count {
                    pods: count.pods,
                    most: count.pods,
                    milliseconds: 0,
                    since: end,
                };
            }
            self.step += 1;
        }
    }

    /// Every step with pods, once all of them are over.
    pub(super) fn finish(mut self, now: i64) -> Vec<Step> {
        self.advance(now + STEP);
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_counted_by_step() {
        let mut demand = Demand::default();
        demand.change(100, 4, true);
        demand.change(200, 4, true);
        demand.change(300, 4, false);
        demand.change(STEP + 50, 4, false);
        demand.change(5 * STEP, 7, true);
        demand.change(5 * STEP + 10, 7, false);
        let share = |class, most, milliseconds| {
            vec![Share {
                class,
                most,
                milliseconds,
            }]
        };
        let steps: Vec<(i64, Vec<Share>)> = demand
            .finish(5 * STEP + 10)
            .into_iter()
            .map(|step| (step.begins, step.shares))
            .collect();
        assert_eq!(
            steps,
            [
                (0, share(4, 2, STEP)),
                (STEP, share(4, 1, 50)),
                (5 * STEP, share(7, 1, 10)),
            ]
        );
    }

    #[test]
    fn steps_begin_when_prices_move() {
        let mut demand = Demand::new(1_200 + 240);
        demand.change(0, 1, true);
        demand.change(STEP, 1, false);
        let steps: Vec<(i64, i64)> = demand
            .finish(STEP)
            .iter()
            .map(|step| (step.begins, step.shares[0].milliseconds))
            .collect();
        assert_eq!(steps, [(-240_000, 360_000), (360_000, 240_000)]);
    }
}
