//! No claim has two machines: each machine that runs must have a claim of its own, among those that it was
//! bought for.

use std::collections::{BTreeMap, BTreeSet};

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Bought {
    pub(crate) id: String,
    /// The claims that have it or that its launch was for, by uid.
    pub(crate) claims: Vec<String>,
}

/// The machines that are left over when as many as possible have a claim of their own.
pub(crate) fn without_a_claim(machines: &[Bought]) -> Vec<&str> {
    let mut owners = BTreeMap::new();
    let mut left_over = Vec::new();
    for (index, machine) in machines.iter().enumerate() {
        if !finds(machines, index, &mut owners, &mut BTreeSet::new()) {
            left_over.push(machine.id.as_str());
        }
    }
    left_over
}

/// Gives a machine a claim; who has that one already must find another: Kuhn's augmenting paths.
fn finds<'claim>(
    machines: &'claim [Bought],
    index: usize,
    owners: &mut BTreeMap<&'claim str, usize>,
    tried: &mut BTreeSet<&'claim str>,
) -> bool {
    let claims = machines
        .get(index)
        .map_or(&[][..], |machine| &machine.claims);
    for claim in claims {
        if !tried.insert(claim) {
            continue;
        }
        let owner = owners.get(claim.as_str()).copied();
        if owner.is_none_or(|owner| finds(machines, owner, owners, tried)) {
            owners.insert(claim, index);
            return true;
        }
    }
    false
}
