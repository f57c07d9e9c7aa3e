//! The cluster's default topology spread constraints, as kube-scheduler's configuration has them.
//!
//! Given the text of `--default-spread`; given back constraints without a selector, which follows from each
//! pod.

use serde::Deserialize;

use crate::model::pod::TopologySpread;

/// Most constraints that a cluster may have by default: each is looked at for every class of pods.
const MOST: usize = 8;

/// The longest label key: a domain of 253 characters, a slash and a name of 63.
const LONGEST_KEY: usize = 317;

/// One constraint as `defaultConstraints` of kube-scheduler's `PodTopologySpreadArgs` spells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Constraint {
    max_skew: i32,
    topology_key: String,
    when_unsatisfiable: WhenUnsatisfiable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum WhenUnsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

/// Reads the flag.
///
/// # Errors
/// What is wrong with which constraint, for people.
pub fn default_spread(text: &str) -> Result<DefaultSpread, String> {
    let form = "write a JSON list such as \
        [{\"maxSkew\":1,\"topologyKey\":\"topology.kubernetes.io/zone\",\"whenUnsatisfiable\":\"DoNotSchedule\"}]";
    let read: Vec<Constraint> =
        serde_json::from_str(text).map_err(|error| format!("{error}: {form}"))?;
    if read.len() > MOST {
        return Err(format!("{} constraints; {MOST} at most", read.len()));
    }
    let mut constraints: Vec<TopologySpread> = Vec::new();
    for (index, constraint) in read.into_iter().enumerate() {
        if constraint.max_skew < 1 {
            return Err(format!("[{index}].maxSkew must be at least 1"));
        }
        let key = &constraint.topology_key;
        if key.is_empty() || key.len() > LONGEST_KEY || key.contains(char::is_whitespace) {
            return Err(format!("[{index}].topologyKey `{key}` is not a label key"));
        }
        let required = constraint.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule;
        let same = |known: &TopologySpread| {
            known.topology_key == constraint.topology_key && known.required == required
        };
        if constraints.iter().any(same) {
            return Err(format!(
                "[{index}] repeats topologyKey and whenUnsatisfiable of another constraint"
            ));
        }
        constraints.push(TopologySpread {
            topology_key: constraint.topology_key,
            max_skew: constraint.max_skew,
            min_domains: None,
            required,
            selector: None,
            match_label_keys: Vec::new(),
            honor_node_affinity: true,
            honor_node_taints: false,
        });
    }
    Ok(DefaultSpread(constraints))
}

/// The constraints: a type of its own, as a flag's list would else be a flag that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefaultSpread(pub Vec<TopologySpread>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_kube_scheduler_has_it() {
        let text = r#"[
            {"maxSkew": 3, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ]"#;
        let read = default_spread(text).unwrap().0;
        let found: Vec<(&str, i32, bool)> = read
            .iter()
            .map(|spread| {
                (
                    spread.topology_key.as_str(),
                    spread.max_skew,
                    spread.required,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("kubernetes.io/hostname", 3, false),
                ("topology.kubernetes.io/zone", 1, true)
            ]
        );
        assert_eq!(default_spread("[]").unwrap(), DefaultSpread::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |max_skew: i32, key: &str, when: &str| {
            format!(
                r#"{{"maxSkew": {max_skew}, "topologyKey": "{key}", "whenUnsatisfiable": "{when}"}}"#
            )
        };
        let good = one(1, "zone", "DoNotSchedule");
        for (text, part) in [
            ("zone".to_owned(), "JSON list"),
            ("[{}]".to_owned(), "maxSkew"),
            (
                format!("[{}]", one(0, "zone", "DoNotSchedule")),
                "[0].maxSkew",
            ),
            (
                format!("[{}]", one(1, "a b", "DoNotSchedule")),
                "[0].topologyKey",
            ),
            (format!("[{}]", one(1, "zone", "Maybe")), "ScheduleAnyway"),
            (format!("[{good}, {good}]"), "[1] repeats"),
            (format!("[{}]", vec![good; 9].join(",")), "8 at most"),
            (r#"[{"labelSelector": {}}]"#.to_owned(), "labelSelector"),
        ] {
            let problem = default_spread(&text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
