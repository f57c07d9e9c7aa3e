//! Which class is divided before which.
//!
//! Given what each class has to do with the groups, and its choices; given back the classes in order. No class is divided
//! here.

use super::group::{Groups, Kind};
use super::state::{Choice, Tie};
use crate::plan::provision::class::Class;

/// How far chains of pods that follow other pods are followed.
const CHAIN: usize = 4;

/// Classes that only wait for their own kind first, those that follow other classes after them;
/// within that by priority, then the ones with the least choice.
pub(super) fn order(
    classes: &[Class],
    groups: &Groups,
    ties: &[Vec<Tie>],
    choices: &[Vec<Choice>],
) -> Vec<usize> {
    let rank = ranks(groups, ties);
    let mut order: Vec<usize> = (0..classes.len())
        .filter(|index| {
            classes
                .get(*index)
                .is_some_and(|class| class.problem.is_none())
        })
        .collect();
    order.sort_by_key(|index| {
        let (priority, pods) = classes
            .get(*index)
            .map_or((0, 0), |class| (class.spec.priority, class.pods.len()));
        (
            rank.get(*index).copied().unwrap_or(0),
            std::cmp::Reverse(priority),
            choices.get(*index).map_or(0, Vec::len),
            std::cmp::Reverse(pods),
            *index,
        )
    });
    order
}

/// How long the chain of classes is that each class follows.
fn ranks(groups: &Groups, ties: &[Vec<Tie>]) -> Vec<usize> {
    let mut rank = vec![0; ties.len()];
    for _link in 0..CHAIN {
        let most = |classes: &mut dyn Iterator<Item = &usize>| {
            classes.filter_map(|class| rank.get(*class).copied()).max()
        };
        // Of each group those that classes outside follow, and those that classes inside do: pods with
        // affinity that select each other follow only those that do not.
        let ahead: Vec<[Option<usize>; 2]> = groups
            .groups
            .iter()
            .map(|group| {
                let leads = |class: &&usize| {
                    group.kind == Kind::Affinity && !group.triggers.contains_key(class)
                };
                [
                    most(&mut group.members.iter()),
                    most(&mut group.members.iter().filter(leads)),
                ]
            })
            .collect();
        for (own, ties) in rank.iter_mut().zip(ties) {
            let followed = ties
                .iter()
                .filter(|tie| tie.trigger)
                .filter(|tie| {
                    let group = groups.groups.get(tie.group);
                    group.is_some_and(|group| group.required)
                })
                .filter_map(|tie| {
                    let [outside, inside] = *ahead.get(tie.group)?;
                    if tie.member { inside } else { outside }
                })
                .max();
            if let Some(followed) = followed {
                *own = (followed + 1).min(CHAIN);
            }
        }
    }
    rank
}
