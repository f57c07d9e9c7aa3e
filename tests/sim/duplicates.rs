//! No claim has two machines: each machine that runs must have a claim of its own, among those that it was
//! bought for.

use std::collections::{BTreeMap, BTreeSet};

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Bought<'claim> {
    pub(crate) id: String,
    /// The claims that have it or that its launch was for, by uid.
    pub(crate) claims: Vec<&'claim str>,
}

/// The machines that are left over when as many as possible have a claim of their own.
pub(crate) fn without_a_claim<'bought>(
    machines: &'bought [Bought<'_>],
) -> impl Iterator<Item = &'bought str> {
    let mut owners = BTreeMap::new();
    let all = machines.iter().enumerate();
    all.filter_map(move |(index, machine)| {
        let is_owned = finds(machines, index, &mut owners, &mut BTreeSet::new());
        (!is_owned).then_some(machine.id.as_str())
    })
}

/// Gives a machine a claim; who has that one already must find another: Kuhn's augmenting paths.
fn finds<'claim>(
    machines: &[Bought<'claim>],
    index: usize,
    owners: &mut BTreeMap<&'claim str, usize>,
    tried: &mut BTreeSet<&'claim str>,
) -> bool {
    let machine = machines.get(index);
    for claim in machine.into_iter().flat_map(|machine| &machine.claims) {
        if !tried.insert(claim) {
            continue;
        }
        let owner = owners.get(claim).copied();
        if owner.is_none_or(|owner| finds(machines, owner, owners, tried)) {
            owners.insert(claim, index);
            return true;
        }
    }
    false
}

/// Whether matching finds what it must: of two launches that share a claim, each with as many machines as claims, one
/// machine is too many; and no machine is, where only another order gives each a claim.
pub(crate) fn tells_machines_apart() -> bool {
    let left_over = |all: &[&[&'static str]]| {
        let bought = all.iter().enumerate().map(|(number, claims)| Bought {
            id: number.to_string(),
            claims: claims.to_vec(),
        });
        without_a_claim(&bought.collect::<Vec<_>>()).count()
    };
    left_over(&[&["a", "b"], &["a", "b"], &["b", "c"], &["b", "c"]]) == 1
        && left_over(&[&["a", "b"], &["a", "c"], &["a"]]) == 0
}
