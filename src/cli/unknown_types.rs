//! What NodePools name that the catalogue in use does not know.
//!
//! Given NodePools and the names of the types that are known; given back one warning for each pool that names others.
//! A pool is planned with what is known of what it names, so without a warning a plan would look complete that
//! buys something dearer, or nothing.

use std::collections::BTreeSet;

use crate::api::labels::{INSTANCE_FAMILY, INSTANCE_TYPE};
use crate::model::node_pool::NodePool;
use crate::model::requirement::Requirement;

/// The warnings, each a line; `advice` says what to do about it.
pub(super) fn warnings<'pool, 'name>(
    pools: impl IntoIterator<Item = &'pool NodePool>,
    known: impl IntoIterator<Item = &'name str>,
    advice: &str,
) -> Vec<String> {
    let types: BTreeSet<&str> = known.into_iter().collect();
    let families: BTreeSet<&str> = types.iter().map(|name| family(name)).collect();
    let of_pool = |pool: &NodePool| {
        let mut unknown = named(pool.requirements.get(INSTANCE_FAMILY));
        unknown.retain(|name| !families.contains(name));
        let mut of_types = named(pool.requirements.get(INSTANCE_TYPE));
        of_types.retain(|name| !types.contains(name));
        unknown.extend(of_types);
        let list = unknown.join(", ");
        (!list.is_empty()).then(|| {
            format!(
                "warning: NodePool {} names what the catalogue does not know, so it is planned without: {list}; {advice}\n",
                pool.name
            )
        })
    };
    pools.into_iter().filter_map(of_pool).collect()
}

/// The values that a requirement names, in order; what it excludes need not be known.
fn named(requirement: Option<&Requirement>) -> Vec<&str> {
    let values = requirement.filter(|requirement| !requirement.complement);
    let values = values
        .into_iter()
        .flat_map(|requirement| &requirement.values);
    values.map(String::as_str).collect()
}

fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(family, _size)| family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::node_pool;

    fn pool(name: &str, key: &str, requirement: &Requirement) -> NodePool {
        let mut pool = node_pool(name);
        pool.requirements.add(key, requirement);
        pool
    }

    #[test]
    fn families_and_types_that_nobody_knows_are_named_with_their_pool() {
        let all_known = pool("c", INSTANCE_FAMILY, &Requirement::one_of(["c5"]));
        let family = pool(
            "f",
            INSTANCE_FAMILY,
            &Requirement::one_of(["c5", "r6i", "x2idn"]),
        );
        let types = ["c5.large", "c5.colossal"];
        let of_types = pool("t", INSTANCE_TYPE, &Requirement::one_of(types));
        let excluding = pool("n", INSTANCE_FAMILY, &Requirement::none_of(["r6i"]));
        let pools = [&all_known, &family, &of_types, &excluding];
        let said = warnings(pools, ["c5.large", "m5.large"], "do this");
        let expected = ["f", "t"].map(|pool| format!("warning: NodePool {pool} names what"));
        assert_eq!(said.len(), 2, "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(&expected), "{said}");
        }
        assert!(
            said[0].ends_with("without: r6i, x2idn; do this\n"),
            "{}",
            said[0]
        );
        assert!(
            said[1].ends_with("without: c5.colossal; do this\n"),
            "{}",
            said[1]
        );
    }
}
