//! Which place is best for the next pod of a class.
//!
//! Given the counts so far; given back the choice that the constraints allow, cheapest first but for what wishes are
//! worth. Why none is allowed is said elsewhere.

use super::assign::Assignment;
use super::group::{Group, Kind};
use super::state::{Choice, Judgement, Tie};
use crate::plan::provision::settings::Premium;

/// What decides first between places; pods only prefer among those that are equal in it, or nearly so
/// in cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    excess: u32,
    level: usize,
    cost: i64,
}

/// A place that is allowed.
#[derive(Debug, Clone, Copy)]
struct Open {
    rank: Rank,
    /// Sum of the weights that speak for it, and against it.
    liking: i64,
    /// How many are there already of what is spread.
    crowd: u64,
    /// Of those the ones that are only spread if that can be.
    wished_crowd: u64,
    index: usize,
}

impl Open {
    /// The weight of the wishes that are met better here than there.
    fn gain_over(&self, other: &Self) -> i64 {
        let spread = if self.wished_crowd < other.wished_crowd {
            Premium::FULL_WEIGHT
        } else {
            0
        };
        (self.liking - other.liking).max(0).saturating_add(spread)
    }

    /// What decides among places that are worth their price.
    const fn order(&self) -> (i64, u64, i64, usize) {
        (-self.liking, self.crowd, self.rank.cost, self.index)
    }
}

impl Assignment {
    /// The place where the next pod is best: the cheapest, or one that meets wishes better and is worth its price.
    pub(super) fn best(
        &self,
        ties: &[Tie],
        position: &[usize],
        choices: &[Choice],
        prefers: bool,
    ) -> Option<usize> {
        let open: Vec<Open> = choices
            .iter()
            .enumerate()
            .filter_map(|(index, choice)| self.open(ties, position, choice, index))
            .collect();
        let least = open.iter().min_by_key(|open| (open.rank, open.order()))?;
        open.iter()
            .filter(|open| {
                let gain = if prefers { open.gain_over(least) } else { 0 };
                let ceiling = self.premium.ceiling(least.rank.cost, gain);
                (open.rank.excess, open.rank.level) == (least.rank.excess, least.rank.level)
                    && open.rank.cost <= ceiling
            })
            .min_by_key(|open| open.order())
            .map(|open| open.index)
    }

    /// What speaks for a place and against it; `None` where the constraints forbid it, or there is nothing.
    fn open(
        &self,
        ties: &[Tie],
        position: &[usize],
        choice: &Choice,
        index: usize,
    ) -> Option<Open> {
        let (level, cost) = if choice.room > 0 {
            (0, 0)
        } else {
            (choice.level, choice.cost?)
        };
        let mut open = Open {
            rank: Rank {
                excess: 0,
                level,
                cost,
            },
            liking: 0,
            crowd: 0,
            wished_crowd: 0,
            index,
        };
        for (tie, position) in ties.iter().zip(position) {
            let Some(value) = choice.values.get(*position) else {
                continue;
            };
            match self.judge(tie, *value) {
                Judgement::Forbidden => return None,
                Judgement::Excess => open.rank.excess += 1,
                Judgement::Liked(weight, others) => {
                    open.liking = open.liking.saturating_add(weight);
                    open.crowd = open.crowd.saturating_add(others);
                    let group = self.groups.groups.get(tie.group);
                    if group.is_some_and(|group| !group.required) {
                        open.wished_crowd = open.wished_crowd.saturating_add(others);
                    }
                }
            }
        }
        Some(open)
    }

    pub(super) fn judge(&self, tie: &Tie, value: Option<usize>) -> Judgement {
        let (Some(group), Some(state)) = (
            self.groups.groups.get(tie.group),
            self.states.get(&tie.group),
        ) else {
            return Judgement::Liked(0, 0);
        };
        let Some(value) = value else {
            return without_label(group, tie);
        };
        let members = state.members.get(value).copied().unwrap_or(0);
        let owners = state.owners.get(value).copied().unwrap_or(0);
        let weight = i64::from(tie.weight);
        match (&group.kind, group.required) {
            (
                Kind::Spread {
                    max_skew,
                    min_domains,
                    ..
                },
                true,
            ) => {
                let after = i64::from(members) + i64::from(tie.member);
                let least = i64::from(state.least(*min_domains));
                let within = after - least <= i64::from(*max_skew);
                match (within, tie.trigger) {
                    (true, _) => Judgement::Liked(0, u64::from(members)),
                    (false, true) => Judgement::Forbidden,
                    (false, false) => Judgement::Excess,
                }
            }
            (Kind::Spread { .. }, false) => Judgement::Liked(0, u64::from(members)),
            (Kind::Affinity, true) if tie.trigger => {
                let first = tie.member && state.members.iter().all(|count| *count == 0);
                if members > 0 || first {
                    Judgement::Liked(0, 0)
                } else {
                    Judgement::Forbidden
                }
            }
            (Kind::Affinity, false) => Judgement::Liked(if members > 0 { weight } else { 0 }, 0),
            (Kind::Anti, true) => {
                if (tie.trigger && members > 0) || (tie.member && owners > 0) {
                    Judgement::Forbidden
                } else {
                    // Those that must be avoided keep together, so that the others have room.
                    Judgement::Liked(i64::from(!tie.trigger && members > 0), 0)
                }
            }
            (Kind::Anti, false) => Judgement::Liked(if members > 0 { -weight } else { 0 }, 0),
            (Kind::Affinity | Kind::Port, _) => Judgement::Liked(0, 0),
        }
    }
}

/// A node without the label is in no domain: nothing can be spread to it or be near others there, and
/// nothing on it is in the way of anti-affinity.
fn without_label(group: &Group, tie: &Tie) -> Judgement {
    if tie.trigger && group.needs_label() {
        return Judgement::Forbidden;
    }
    let shunned = tie.trigger && matches!(group.kind, Kind::Spread { .. });
    Judgement::Liked(0, if shunned { u64::from(u32::MAX) } else { 0 })
}
