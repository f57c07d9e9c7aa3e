//! Which place is best for the next pod of a class.
//!
//! Given the counts so far; given back the choice that the constraints allow, cheapest first, or
//! which constraint leaves none.

use super::assign::Assignment;
use super::group::{Kind, Scope};
use super::state::{Choice, Judgement, Tie};

/// How much dearer, in percent, a place may be that only a preference between pods asks for.
const PREFERENCE_PERCENT: i64 = 10;

impl Assignment {
    pub(super) fn best(
        &self,
        ties: &[Tie],
        position: &[usize],
        choices: &[Choice],
        prefers: bool,
    ) -> Option<usize> {
        let mut open: Vec<(u32, i64, i64, u64, usize)> = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let cost = match choice.cost {
                _ if choice.room > 0 => 0,
                Some(cost) => cost,
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
                open.push((excess, cost, -liking, crowd, index));
            }
        }
        let least = open.iter().map(|entry| (entry.0, entry.1)).min()?;
        let ceiling = if prefers {
            least.1.saturating_add(least.1 / 100 * PREFERENCE_PERCENT)
        } else {
            least.1
        };
        open.into_iter()
            .filter(|entry| entry.0 == least.0 && entry.1 <= ceiling)
            .min_by_key(|(_excess, cost, dislike, crowd, index)| (*dislike, *crowd, *cost, *index))
            .map(|entry| entry.4)
    }

    pub(super) fn judge(&self, tie: &Tie, value: usize) -> Judgement {
        let (Some(group), Some(state)) = (
            self.groups.groups.get(tie.group),
            self.states.get(&tie.group),
        ) else {
            return Judgement::Liked(0, 0);
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

    pub(super) fn failure(&self, ties: &[Tie], position: &[usize], choices: &[Choice]) -> String {
        if choices.is_empty() {
            let keys: Vec<&str> = self
                .keys_of(ties)
                .into_iter()
                .filter_map(|key| Some(self.keys.get(key)?.name.as_str()))
                .collect();
            return format!(
                "no node that the pod could use carries the label {}, which its spread or affinity is about",
                keys.join(" and ")
            );
        }
        let blocking = ties.iter().zip(position).find(|(tie, position)| {
            choices.iter().all(|choice| {
                choice
                    .values
                    .get(**position)
                    .is_some_and(|value| matches!(self.judge(tie, *value), Judgement::Forbidden))
            })
        });
        let group = blocking.and_then(|(tie, _)| self.groups.groups.get(tie.group));
        if let Some(Scope::Claim { name, .. }) = group.map(|group| &group.scope) {
            return format!(
                "the volume of PersistentVolumeClaim {name} is made in the zone of the first pod that mounts it, and this pod cannot be there"
            );
        }
        match group.map(|group| (&group.kind, group.key.as_str())) {
            Some((Kind::Spread { max_skew, .. }, key)) => {
                format!(
                    "no value of {key} may take one more pod without breaking maxSkew {max_skew}"
                )
            }
            Some((Kind::Affinity, key)) => {
                format!(
                    "no node that could be had shares {key} with a pod that the pod's affinity selects"
                )
            }
            Some((Kind::Anti, key)) => {
                format!(
                    "every value of {key} has a pod that anti-affinity keeps this pod away from"
                )
            }
            _ => {
                "no place meets all of the pod's spread and affinity constraints at once".to_owned()
            }
        }
    }
}
