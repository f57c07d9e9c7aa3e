//! Kubernetes resource lists as amounts, and back.
//!
//! Given a list of an object; given back its amounts in the units of [`crate::model::resources`],
//! and a sentence for each entry that could not be read, which then counts as absent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::model::quantity;
use crate::model::resources::Resources;

/// The amounts of a resource list, and what could not be read.
pub fn resources(list: &BTreeMap<String, Quantity>) -> (Resources, Vec<String>) {
    let mut amounts = Resources::new();
    let mut problems = Vec::new();
    for (name, text) in list {
        match quantity::amount(name, &text.0) {
            Ok(amount) => amounts.set(name, amount),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    (amounts, problems)
}

/// The amounts of a resource list that the API server or the kubelet wrote; what cannot be read
/// counts as absent.
pub fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Resources {
    list.map(|list| resources(list).0).unwrap_or_default()
}

/// Amounts as the API writes them.
pub fn quantities(amounts: &Resources) -> BTreeMap<String, Quantity> {
    amounts
        .iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(quantity::text(name, amount))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_survive_the_round_trip_and_bad_ones_are_named() {
        let list = BTreeMap::from(
            [("cpu", "3920m"), ("memory", "7168Ki"), ("pods", "many")]
                .map(|(name, text)| (name.to_owned(), Quantity(text.to_owned()))),
        );
        let (amounts, problems) = resources(&list);
        assert_eq!(amounts.get("cpu"), 3920);
        assert_eq!(amounts.get("memory"), 7168 * 1024);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("pods: `many`"), "{problems:?}");
        let back = quantities(&amounts);
        assert_eq!(back["cpu"].0, "3920m");
        assert_eq!(back["memory"].0, "7Mi");
    }
}
