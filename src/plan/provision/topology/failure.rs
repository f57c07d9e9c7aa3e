//! What kept pods from a place by their constraints with other pods, and what would have let them in.
//!
//! Given the counts at the moment a pod found no place, and the places that it could have been at; given back
//! which constraint left none, and the place that the fewest constraints forbid with what each would have to
//! say. Nothing is placed here.

use std::collections::BTreeSet;

use super::assign::Assignment;
use super::group::{Group, Kind, Scope};
use super::state::{Choice, Judgement, State, Tie};

/// So many values at most are named in a reason.
const FEW: usize = 6;

/// Why a class has no place by its constraints with other pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which constraint leaves none.
    pub detail: String,
    /// The place that came closest and what would do there, or what to change where no place is close.
    pub nearest_miss: Option<String>,
}

impl Failure {
    fn of(detail: &str, nearest_miss: &str) -> Self {
        Self {
            detail: detail.to_owned(),
            nearest_miss: Some(nearest_miss.to_owned()),
        }
    }

    /// Nobody whom the affinity selects is there or can come first.
    pub(super) fn stuck() -> Self {
        Self::of(
            "no pod that the pod's affinity selects runs, and those that wait, if any, wait for this pod in turn",
            "one running pod with the labels that the affinity selects would do, or that the pod carries them itself",
        )
    }

    /// What must share a node is too large for one.
    pub(super) fn too_large() -> Self {
        Self::of(
            "no node that could be had is large enough for the pod together with the pods that its affinity over \
             kubernetes.io/hostname demands",
            "let the NodePool allow a larger instance type, lower requests, or use affinity over a zone",
        )
    }

    /// What must share a node must not share one: so many may.
    pub(super) fn contradiction(most: u32) -> Self {
        Self::of(
            &format!(
                "the pod's affinity over kubernetes.io/hostname puts it onto the node of pods that its anti-affinity, \
                 spread or host port keeps it away from: these contradict each other, and no more than {most} can \
                 share a node"
            ),
            "drop one of the two, or make it a preference",
        )
    }

    /// Nobody to follow is where the pod could be.
    pub(super) fn nobody_there() -> Self {
        Self::of(
            "no pod that the pod's affinity over kubernetes.io/hostname selects runs or waits where the pod could be",
            "let one of the pods that the affinity selects be where this pod may be, by its node affinity",
        )
    }

    /// Those that are followed run where there is no room.
    pub(super) fn no_room_there() -> Self {
        Self::of(
            "the node with the pods that the pod's affinity over kubernetes.io/hostname selects has no room",
            "lower the request to what that node has left, or use affinity over a zone",
        )
    }

    /// Pods whose constraints are about labels that no node has.
    pub(super) fn unlabelled<'keys>(keys: impl Iterator<Item = &'keys str>) -> Self {
        let keys = keys.collect::<Vec<_>>().join(" and ");
        Self::of(
            &format!(
                "no node that the pod could use carries the label {keys}, which its spread or affinity is about"
            ),
            &format!(
                "give the NodePool the label {keys} (spec.template.metadata.labels), or use topology.kubernetes.io/zone"
            ),
        )
    }

    /// What its constraints count on was left out.
    pub(in crate::plan::provision) fn no_company() -> Self {
        Self::of(
            "pods that its spread or affinity counts on have no place themselves",
            "what those pods need would do: they have reasons of their own",
        )
    }
}

impl Assignment {
    /// Which constraint leaves no choice, and how near the nearest is.
    pub(super) fn failure(&self, ties: &[Tie], position: &[usize], choices: &[Choice]) -> Failure {
        if choices.is_empty() {
            let keys: BTreeSet<&str> = ties
                .iter()
                .filter(|tie| tie.trigger)
                .filter_map(|tie| self.groups.groups.get(tie.group))
                .filter(|group| group.needs_label())
                .map(|group| group.key.as_str())
                .collect();
            return Failure::unlabelled(keys.into_iter());
        }
        Failure {
            detail: self.blocking(ties, position, choices),
            nearest_miss: self.nearest(ties, position, choices),
        }
    }

    /// The constraint that no choice meets.
    fn blocking(&self, ties: &[Tie], position: &[usize], choices: &[Choice]) -> String {
        let blocking = ties.iter().zip(position).find(|(tie, position)| {
            choices.iter().all(|choice| {
                let value = choice.values.get(**position);
                value.is_some_and(|value| self.forbids(tie, *value))
            })
        });
        let Some((group, state, position)) = blocking.and_then(|(tie, position)| {
            let group = self.groups.groups.get(tie.group)?;
            Some((group, self.states.get(&tie.group)?, *position))
        }) else {
            return "no place meets all of the pod's spread and affinity constraints at once"
                .to_owned();
        };
        if let Scope::Claim { name, .. } = &group.scope {
            return format!(
                "the volume of PersistentVolumeClaim {name} is made in the zone of the first pod that mounts it, and this pod cannot be there"
            );
        }
        let places = self.named(&group.key, position, choices);
        match &group.kind {
            Kind::Spread {
                max_skew,
                min_domains,
                ..
            } => {
                let there = state.counting();
                let missing = if there < *min_domains {
                    format!(
                        ", as minDomains is {min_domains} and {there} can be there, which counts as if one were empty"
                    )
                } else {
                    String::new()
                };
                format!("at {places} one more pod would break maxSkew {max_skew}{missing}")
            }
            Kind::Affinity => {
                format!("at {places} there is no pod that the pod's affinity selects")
            }
            Kind::Anti | Kind::Port => {
                format!("at {places} there is a pod that anti-affinity keeps this pod away from")
            }
        }
    }

    fn forbids(&self, tie: &Tie, value: Option<usize>) -> bool {
        matches!(self.judge(tie, value), Judgement::Forbidden)
    }

    /// The choice that the fewest constraints forbid, and what each of them would have to say.
    fn nearest(&self, ties: &[Tie], position: &[usize], choices: &[Choice]) -> Option<String> {
        let forbidding = |choice: &Choice| -> Vec<(Tie, usize)> {
            let all = ties.iter().zip(position);
            all.filter(|(tie, position)| {
                let value = choice.values.get(**position);
                value.is_some_and(|value| self.forbids(tie, *value))
            })
            .map(|(tie, position)| (*tie, *position))
            .collect()
        };
        let forbidden = choices.iter().map(|choice| (choice, forbidding(choice)));
        let (choice, faults) = forbidden
            .filter(|(_choice, faults)| !faults.is_empty())
            .min_by_key(|(choice, faults)| {
                let is_closed = choice.room == 0 && choice.cost.is_none();
                (is_closed, faults.len(), choice.level, choice.cost)
            })?;
        let changes: Vec<String> = faults
            .iter()
            .filter_map(|(tie, position)| {
                let value = choice.values.get(*position).copied()?;
                let elsewhere = self.elsewhere(tie, *position, choices);
                self.change((tie, value), elsewhere, faults.len() == 1)
            })
            .collect();
        (!changes.is_empty()).then(|| changes.join("; and "))
    }

    /// What would let one more pod be at a value. `alone` is false where other constraints forbid it too.
    fn change(
        &self,
        (tie, value): (&Tie, Option<usize>),
        elsewhere: Option<&str>,
        alone: bool,
    ) -> Option<String> {
        let group = self.groups.groups.get(tie.group)?;
        let state = self.states.get(&tie.group)?;
        let key = &group.key;
        let Some(value) = value else {
            return Some(format!("a node with the label {key} would do"));
        };
        let name = self.keys.get(state.key)?.values.get(value)?;
        let there = elsewhere.filter(|_value| alone);
        let or = there.map_or_else(String::new, |value| format!(", or the pod at {value}"));
        let place = format!("{key} {name}");
        if let Scope::Claim { name, .. } = &group.scope {
            return Some(format!(
                "{place}: node affinity that lets all pods of PersistentVolumeClaim {name} be in one zone would do"
            ));
        }
        Some(match &group.kind {
            Kind::Spread { .. } => {
                format!("{place}: {} would do{or}", looser(group, state, tie, value))
            }
            Kind::Affinity => {
                let also = if tie.trigger { "selects" } else { "counts" };
                format!("{place}: a pod there that the affinity {also} would do{or}")
            }
            Kind::Anti | Kind::Port if there.is_some() => {
                format!("{place}: anti-affinity over {key} as a preference would do{or}")
            }
            Kind::Anti | Kind::Port => format!(
                "{place}: anti-affinity over {key} as a preference would do, or one more {key} that the pod may be at"
            ),
        })
    }

    /// A value that the constraint would allow, and at which the pod cannot be for other reasons.
    fn elsewhere(&self, tie: &Tie, position: usize, choices: &[Choice]) -> Option<&str> {
        let group = self.groups.groups.get(tie.group)?;
        let state = self.states.get(&tie.group)?;
        let key = self.keys.get(state.key)?;
        let chosen: BTreeSet<usize> = choices
            .iter()
            .filter_map(|choice| choice.values.get(position).copied().flatten())
            .collect();
        let spreads = matches!(group.kind, Kind::Spread { .. });
        let mut values = key.values.iter().enumerate();
        let found = values.find(|(value, _name)| {
            let counts = !spreads || state.eligible.get(*value) == Some(&true);
            counts && !chosen.contains(value) && !self.forbids(tie, Some(*value))
        });
        found.map(|(_value, name)| name.as_str())
    }

    /// The values that the choices have of a key, as people would say it.
    fn named(&self, key: &str, position: usize, choices: &[Choice]) -> String {
        let known = self.keys.iter().find(|known| known.name == key);
        let values: BTreeSet<&str> = choices
            .iter()
            .filter_map(|choice| choice.values.get(position).copied().flatten())
            .filter_map(|value| Some(known?.values.get(value)?.as_str()))
            .collect();
        let count = values.len();
        let mut list: Vec<&str> = values.into_iter().collect();
        if let [only] = list.as_slice() {
            return format!("{key} {only}, the only value that the pod could use,");
        }
        list.truncate(FEW);
        let more = if count > FEW { ", ..." } else { "" };
        format!(
            "each of the {count} values of {key} that the pod could use ({}{more})",
            list.join(", ")
        )
    }
}

/// How a spread would have to be written to allow one more pod at a value.
fn looser(group: &Group, state: &State, tie: &Tie, value: usize) -> String {
    let Kind::Spread {
        max_skew,
        min_domains,
        ..
    } = &group.kind
    else {
        return String::new();
    };
    let members = state.members.get(value).copied().unwrap_or(0);
    let after = i64::from(members) + i64::from(tie.member);
    let needed = after - i64::from(state.least(*min_domains));
    let there = state.counting();
    let by_fewer = after - i64::from(state.least(there)) <= i64::from(*max_skew);
    if there < *min_domains && by_fewer {
        format!("minDomains {} or maxSkew {needed}", there.max(1))
    } else {
        format!("maxSkew {needed}")
    }
}
