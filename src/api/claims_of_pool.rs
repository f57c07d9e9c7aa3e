//! What of a NodePool the API server would refuse in every NodeClaim that is made from it.
//!
//! Given a NodePool; given back a problem for each such part. The CRD takes them all: a pool may have a long
//! name, but its claims carry the name as the value of a label. Nothing is looked at that the pool's own
//! validation sees.

use super::labels;
use super::node_pool::NodePool;
use super::problem::Problem;
use super::syntax::{is_label_value, is_qualified_name};

/// Requirements of a NodeClaim at most, as its CRD says.
const MOST_REQUIREMENTS: usize = 100;
/// What a claim says of itself: type, zone and capacity type.
const OWN: [&str; 3] = [labels::INSTANCE_TYPE, labels::ZONE, labels::CAPACITY_TYPE];

/// Everything that would be refused.
pub(super) fn problems(pool: &NodePool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let template = &pool.spec.template;
    let names = [
        ("metadata.name", pool.metadata.name.as_deref().unwrap_or("")),
        (
            "spec.template.spec.nodeClassRef.name",
            &template.spec.node_class_ref.name,
        ),
    ];
    for (field, name) in names
        .into_iter()
        .filter(|(_field, name)| !is_label_value(name))
    {
        let what = format!("{name:?} becomes a label of nodes and is no label value");
        problems.push(Problem::new(
            field,
            what,
            "choose a name of at most 63 characters",
        ));
    }
    // The API server compares keys of annotations in lower case.
    let keys = template.metadata.annotations.keys();
    for key in keys.filter(|key| !is_qualified_name(&key.to_lowercase())) {
        problems.push(Problem::new(
            format!("spec.template.metadata.annotations[{key}]"),
            format!("{key:?} is no key of an annotation"),
            "write a name of letters, digits, '-', '_' and '.', with an optional domain and '/'",
        ));
    }
    let others = template.spec.requirements.iter().filter(|requirement| {
        requirement.min_values.is_some() || !OWN.contains(&labels::normalize(&requirement.key))
    });
    let count = others.count() + OWN.len();
    if count > MOST_REQUIREMENTS {
        problems.push(Problem::new(
            "spec.template.spec.requirements",
            format!(
                "with type, zone and capacity type, which each NodeClaim names, there are {count} of at most \
                 {MOST_REQUIREMENTS}"
            ),
            format!("leave out {}", count - MOST_REQUIREMENTS),
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(name: &str, class: &str, annotation: &str, requirements: usize) -> Vec<String> {
        let requirements: Vec<_> = (0..requirements)
            .map(|index| {
                serde_json::json!({"key": format!("example.com/key-{index}"), "operator": "Exists"})
            })
            .collect();
        let pool: NodePool = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"template": {
                "metadata": {"annotations": {annotation: "x"}},
                "spec": {
                    "requirements": requirements,
                    "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": class},
                },
            }},
        }))
        .unwrap();
        problems(&pool).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_every_claim_would_be_refused_for_is_named_on_the_pool() {
        let long = "a".repeat(64);
        assert_eq!(
            problems_of("general", "default", "Example.com/Team", 97),
            [""; 0]
        );
        let cases = [
            (problems_of(&long, "default", "team", 0), "metadata.name"),
            (
                problems_of("general", &long, "team", 0),
                "nodeClassRef.name",
            ),
            (
                problems_of("general", "default", "not a key!", 0),
                "annotations[not a key!]",
            ),
            (
                problems_of("general", "default", "team", 98),
                "101 of at most 100",
            ),
        ];
        for (problems, part) in cases {
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(part), "{problems:?}");
        }
    }
}
