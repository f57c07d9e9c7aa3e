//! Which place is best for the next pod of a class.
//!
//! Given the counts so far; given back the choice that the constraints allow, cheapest first. Why none is
//! allowed is said elsewhere.

use super::assign::Assignment;
use super::group::{Group, Kind};
use super::state::{Choice, Judgement, Tie};

/// How much dearer, in percent, a place may be that only a preference between pods asks for.
const PREFERENCE_PERCENT: i64 = 10;

/// What decides first between places; pods only prefer among those that are equal in it, or nearly so
/// in cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    excess: u32,
    level: usize,
    cost: i64,
}

impl Assignment {
    pub(super) fn best(
        &self,
        ties: &[Tie],
        position: &[usize],
        choices: &[Choice],
        prefers: bool,
    ) -> Option<usize> {
        let mut open: Vec<(Rank, i64, u64, usize)> = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let (level, cost) = match choice.cost {
                _ if choice.room > 0 => (0, 0),
                Some(cost) => (choice.level, cost),
                None => continue,
            };
            let mut excess = 0;
            let mut liking: i64 = 0;
            let mut crowd: u64 = 0;
            let mut allowed = true;
            for (tie, position) in ties.iter().zip(position) {
                let Some(value) = choice.values.get(*position) else {
                    continue;
                };
                match self.judge(tie, *value) {
                    Judgement::Forbidden => {
                        allowed = false;
                        break;
                    }
                    Judgement::Excess => excess += 1,
                    Judgement::Liked(weight, others) => {
                        liking = liking.saturating_add(weight);
                        crowd = crowd.saturating_add(others);
                    }
                }
            }
            if allowed {
                let rank = Rank {
                    excess,
                    level,
                    cost,
                };
                open.push((rank, -liking, crowd, index));
            }
        }
        let least = open.iter().map(|entry| entry.0).min()?;
        let ceiling = if prefers {
            let percent = least.cost / 100 * PREFERENCE_PERCENT;
            least.cost.saturating_add(percent)
        } else {
            least.cost
        };
        open.into_iter()
            .filter(|(rank, ..)| {
                (rank.excess, rank.level) == (least.excess, least.level) && rank.cost <= ceiling
            })
            .min_by_key(|(rank, dislike, crowd, index)| (*dislike, *crowd, rank.cost, *index))
            .map(|entry| entry.3)
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
