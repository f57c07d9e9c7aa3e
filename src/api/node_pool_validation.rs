//! What is wrong with a NodePool that the CRD cannot know.
//!
//! Given a NodePool, [`validate`] gives back every problem at once, each with its field and its fix.
//! The rules of the CRD are checked too where breaking them would mislead the planner, since a
//! manifest may come from a file and a cluster may have another version of the CRD. A pool with
//! problems gets condition `ValidationSucceeded` False and no new nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::disruption::Budget;
use super::node_pool::{NodePool, NodePoolSpec};
use super::problem::Problem;
use super::requirement::{Requirement, RequirementOperator};
use super::settings::NodePoolSettings;
use super::syntax::{is_label_value, is_qualified_name, is_quantity, is_whole_number};
use super::taint::Taint;
use super::{claims_of_pool, labels};

const TEMPLATE: &str = "spec.template.spec";
/// How machines can be paid for.
const CAPACITY_TYPES: &[&str] = &["spot", "on-demand", "reserved"];
const NAME_FIX: &str =
    "write a name of letters, digits, '-', '_' and '.', with an optional domain and '/'";
const VALUE_FIX: &str = "write at most 63 letters, digits, '-', '_' and '.'";

/// Everything that is wrong with a NodePool; empty when it is usable.
pub fn validate(pool: &NodePool) -> Vec<Problem> {
    let spec = &pool.spec;
    let mut problems = Vec::new();
    template_labels(&spec.template.metadata.labels, &mut problems);
    taints(
        &spec.template.spec.taints,
        &spec.template.spec.startup_taints,
        &mut problems,
    );
    for (index, requirement) in spec.template.spec.requirements.iter().enumerate() {
        check_requirement(
            &format!("{TEMPLATE}.requirements[{index}]"),
            requirement,
            &mut problems,
        );
    }
    node_class_ref(spec, &mut problems);
    durations(spec, &mut problems);
    disruption(spec, &mut problems);
    limits(spec, &mut problems);
    static_pool(spec, &mut problems);
    problems.extend(claims_of_pool::problems(pool));
    let annotations = pool.metadata.annotations.clone().unwrap_or_default();
    problems.extend(NodePoolSettings::parse(&annotations).1);
    problems
}

fn template_labels(template: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    for (key, value) in template {
        let field = format!("spec.template.metadata.labels[{key}]");
        if key == labels::NODE_POOL {
            problems.push(Problem::new(
                field,
                "the label is set by the controller",
                "remove it",
            ));
            continue;
        }
        label_key(&field, key, problems);
        if !is_label_value(value) {
            problems.push(Problem::new(
                field,
                format!("{value:?} is not a label value"),
                VALUE_FIX,
            ));
        }
    }
}

/// A key must be a name, and not one that users may not set.
fn label_key(field: &str, key: &str, problems: &mut Vec<Problem>) {
    if !is_qualified_name(key) {
        problems.push(Problem::new(
            field,
            format!("{key:?} is not a label key"),
            NAME_FIX,
        ));
    } else if labels::is_restricted(key) {
        let fix = match nearest_well_known(key) {
            Some(known) => format!("write {known}, or a key of a domain of your own"),
            None => "use a key of a domain of your own".to_owned(),
        };
        problems.push(Problem::new(
            field,
            format!("{key} belongs to the provisioner and means nothing to it"),
            fix,
        ));
    }
}

/// The well-known label that a mistyped key most likely means.
fn nearest_well_known(key: &str) -> Option<&'static str> {
    let limit = key.len() / 5;
    let distance = |known: &&&'static str| edit_distance(key, known);
    labels::WELL_KNOWN
        .iter()
        .min_by_key(distance)
        .filter(|known| edit_distance(key, known) <= limit)
        .copied()
}

/// How many characters must be added, removed or changed to make one text the other.
pub(super) fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
        for (column, to) in right.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

fn taints(taints: &[Taint], startup_taints: &[Taint], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (list, items) in [("taints", taints), ("startupTaints", startup_taints)] {
        for (index, taint) in items.iter().enumerate() {
            let field = format!("{TEMPLATE}.{list}[{index}]");
            if !is_qualified_name(&taint.key) {
                let what = format!("{:?} is not a taint key", taint.key);
                problems.push(Problem::new(format!("{field}.key"), what, NAME_FIX));
            }
            if !is_label_value(taint.value()) {
                let what = format!("{:?} is not a taint value", taint.value());
                problems.push(Problem::new(format!("{field}.value"), what, VALUE_FIX));
            }
            if !taint.effect.is_known() {
                let what = format!("{:?} is not a taint effect", taint.effect.as_str());
                let fix = "write NoSchedule, PreferNoSchedule or NoExecute";
                problems.push(Problem::new(format!("{field}.effect"), what, fix));
            }
            if !seen.insert((taint.key.clone(), taint.effect.clone())) {
                let what = format!(
                    "a taint with key {} and effect {} is there already",
                    taint.key, taint.effect
                );
                problems.push(Problem::new(
                    field,
                    what,
                    "remove one of the two from taints and startupTaints",
                ));
            }
        }
    }
}

fn check_requirement(field: &str, requirement: &Requirement, problems: &mut Vec<Problem>) {
    let key = labels::normalize(&requirement.key);
    let key_field = format!("{field}.key");
    if key == labels::NODE_POOL {
        problems.push(Problem::new(
            key_field,
            "a NodePool cannot require a NodePool's label",
            "remove the requirement",
        ));
    } else {
        label_key(&key_field, key, problems);
    }
    if !requirement.operator.is_known() {
        let what = format!("{:?} is not an operator", requirement.operator.as_str());
        let fix = format!("write one of {}", RequirementOperator::KNOWN.join(", "));
        problems.push(Problem::new(format!("{field}.operator"), what, fix));
        return;
    }
    for value in requirement
        .values
        .iter()
        .filter(|value| !is_label_value(value))
    {
        problems.push(Problem::new(
            format!("{field}.values"),
            format!("{value:?} is not a label value"),
            VALUE_FIX,
        ));
    }
    requirement_values(field, requirement, problems);
    if key == labels::CAPACITY_TYPE && requirement.operator == RequirementOperator::In {
        capacity_types(field, requirement, problems);
    }
}

fn requirement_values(field: &str, requirement: &Requirement, problems: &mut Vec<Problem>) {
    let values = &requirement.values;
    let operator = &requirement.operator;
    let values_field = format!("{field}.values");
    if *operator == RequirementOperator::In && values.is_empty() {
        problems.push(Problem::new(
            &values_field,
            "operator In has no value",
            "list at least one value",
        ));
    }
    if operator.is_numeric() && !matches!(values.as_slice(), [value] if is_whole_number(value)) {
        let what = format!("operator {operator} cannot compare with {values:?}");
        problems.push(Problem::new(
            &values_field,
            what,
            "write exactly one whole number of 0 or more",
        ));
    }
    let Some(least) = requirement.min_values else {
        return;
    };
    let min_field = format!("{field}.minValues");
    if !(1..=50).contains(&least) {
        problems.push(Problem::new(
            min_field,
            format!("{least} is out of range"),
            "write a number from 1 to 50",
        ));
    } else if *operator == RequirementOperator::In
        && usize::try_from(least).is_ok_and(|least| least > values.len())
    {
        let what = format!(
            "{least} different values are wanted of {} listed",
            values.len()
        );
        problems.push(Problem::new(
            min_field,
            what,
            "list more values or lower minValues",
        ));
    }
}

fn capacity_types(field: &str, requirement: &Requirement, problems: &mut Vec<Problem>) {
    let known = requirement
        .values
        .iter()
        .filter(|value| CAPACITY_TYPES.contains(&value.as_str()))
        .count();
    let wanted = usize::try_from(requirement.min_values.unwrap_or(1)).unwrap_or(1);
    if !requirement.values.is_empty() && known < wanted {
        let what = format!(
            "only {known} of {:?} can be bought, {wanted} needed",
            requirement.values
        );
        let fix = format!("write values of {}", CAPACITY_TYPES.join(", "));
        problems.push(Problem::new(format!("{field}.values"), what, fix));
    }
}

fn node_class_ref(spec: &NodePoolSpec, problems: &mut Vec<Problem>) {
    let reference = &spec.template.spec.node_class_ref;
    for (part, text, fix) in [
        ("group", &reference.group, "write tonnage.dev"),
        ("kind", &reference.kind, "write EC2NodeClass"),
        ("name", &reference.name, "write the name of an EC2NodeClass"),
    ] {
        if text.is_empty() {
            problems.push(Problem::new(
                format!("{TEMPLATE}.nodeClassRef.{part}"),
                "it is empty",
                fix,
            ));
        }
    }
}

fn durations(spec: &NodePoolSpec, problems: &mut Vec<Problem>) {
    let template = &spec.template.spec;
    let mut check = |field: String, failure: Option<super::duration::DurationError>| {
        if let Some(error) = failure {
            problems.push(Problem::new(
                field,
                error.to_string(),
                "correct the duration",
            ));
        }
    };
    check(
        "spec.disruption.consolidateAfter".to_owned(),
        spec.disruption.consolidate_after.value().err(),
    );
    check(
        format!("{TEMPLATE}.expireAfter"),
        template.expire_after.value().err(),
    );
    let grace_period = template.termination_grace_period.as_ref();
    check(
        format!("{TEMPLATE}.terminationGracePeriod"),
        grace_period.and_then(|text| text.value().err()),
    );
}

fn disruption(spec: &NodePoolSpec, problems: &mut Vec<Problem>) {
    let policy = &spec.disruption.consolidation_policy;
    if !policy.is_known() {
        let what = format!("{:?} is not a policy", policy.as_str());
        let fix = "write WhenEmpty, WhenEmptyOrUnderutilized or Balanced";
        problems.push(Problem::new(
            "spec.disruption.consolidationPolicy",
            what,
            fix,
        ));
    }
    for (index, budget) in spec.disruption.budgets.iter().enumerate() {
        check_budget(
            &format!("spec.disruption.budgets[{index}]"),
            budget,
            problems,
        );
    }
}

fn check_budget(field: &str, budget: &Budget, problems: &mut Vec<Problem>) {
    for reason in budget
        .reasons
        .iter()
        .flatten()
        .filter(|reason| !reason.is_known())
    {
        let what = format!("{:?} is not a reason", reason.as_str());
        let fix = "write Underutilized, Empty, Drifted or Unhealthy";
        problems.push(Problem::new(format!("{field}.reasons"), what, fix));
    }
    let number = budget.nodes.strip_suffix('%').unwrap_or(&budget.nodes);
    let in_range =
        number.len() == budget.nodes.len() || number.parse::<u32>().is_ok_and(|share| share <= 100);
    if !is_whole_number(number) || !in_range {
        let what = format!("{:?} is not a number or share of nodes", budget.nodes);
        problems.push(Problem::new(
            format!("{field}.nodes"),
            what,
            "write for example 5 or 10%",
        ));
    }
    if budget.schedule.is_some() != budget.duration.is_some() {
        problems.push(Problem::new(
            field,
            "schedule and duration go together",
            "set both, or neither",
        ));
    }
    if let Some(Err(error)) = budget.duration.as_ref().map(super::GoDuration::value) {
        problems.push(Problem::new(
            format!("{field}.duration"),
            error.to_string(),
            "correct the duration",
        ));
    }
}

fn limits(spec: &NodePoolSpec, problems: &mut Vec<Problem>) {
    for (name, quantity) in spec.limits.iter().flatten() {
        if !is_quantity(&quantity.0) {
            let what = format!("{:?} is not a quantity of 0 or more", quantity.0);
            let fix = "write for example 100, 500m or 4000Gi";
            problems.push(Problem::new(format!("spec.limits[{name}]"), what, fix));
        }
    }
    if spec
        .weight
        .is_some_and(|weight| !(1..=100).contains(&weight))
    {
        problems.push(Problem::new(
            "spec.weight",
            "it is out of range",
            "write a number from 1 to 100, or remove it",
        ));
    }
}

fn static_pool(spec: &NodePoolSpec, problems: &mut Vec<Problem>) {
    let Some(replicas) = spec.replicas else {
        return;
    };
    if replicas < 0 {
        problems.push(Problem::new(
            "spec.replicas",
            "it is negative",
            "write a number of 0 or more",
        ));
    }
    if spec.weight.is_some() {
        let what = "a NodePool with replicas cannot have a weight";
        problems.push(Problem::new(
            "spec.weight",
            what,
            "remove weight or replicas",
        ));
    }
    if spec
        .limits
        .iter()
        .flatten()
        .any(|(name, _)| name != "nodes")
    {
        let what = "a NodePool with replicas may only have the limit nodes";
        problems.push(Problem::new("spec.limits", what, "remove the other limits"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(changes: &str) -> Vec<String> {
        let mut manifest: serde_json::Value = serde_saphyr::from_str(
            "{metadata: {name: general}, spec: {template: {spec: {requirements: [], nodeClassRef: \
             {group: tonnage.dev, kind: EC2NodeClass, name: default}}}}}",
        )
        .unwrap();
        merge(&mut manifest, serde_saphyr::from_str(changes).unwrap());
        let pool: NodePool = serde_json::from_value(manifest).unwrap();
        validate(&pool).iter().map(ToString::to_string).collect()
    }

    fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    #[test]
    fn a_plain_pool_is_valid() {
        assert_eq!(problems("{}"), Vec::<String>::new());
    }

    /// What a user writes, and a part of the one sentence that comes back.
    const WRONG: &[(&str, &str)] = &[
        (
            "{spec: {template: {metadata: {labels: {karpenter.k8s.aws/instance-cpus: '4'}}}}}",
            "karpenter.k8s.aws/instance-cpus belongs to the provisioner and means nothing to it; write \
             karpenter.k8s.aws/instance-cpu",
        ),
        (
            "{spec: {template: {metadata: {labels: {a/b/c: x}}}}}",
            "\"a/b/c\" is not a label key",
        ),
        (
            "{spec: {template: {metadata: {labels: {team: 'a b'}}}}}",
            "\"a b\" is not a label value",
        ),
        (
            "{spec: {template: {metadata: {labels: {karpenter.sh/nodepool: x}}}}}",
            "set by the controller; remove it",
        ),
        (
            "{spec: {template: {spec: {taints: [{key: a, effect: NoSchedule}], startupTaints: [{key: a, value: b, \
             effect: NoSchedule}]}}}}",
            "spec.template.spec.startupTaints[0]: a taint with key a and effect NoSchedule is there already",
        ),
        (
            "{spec: {template: {spec: {taints: [{key: a, effect: Never}]}}}}",
            "\"Never\" is not a taint effect",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: karpenter.sh/nodepool, operator: Exists}]}}}}",
            "requirements[0].key: a NodePool cannot require a NodePool's label",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: kubernetes.io/hostname, operator: Exists}]}}}}",
            "kubernetes.io/hostname belongs to the provisioner",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: beta.kubernetes.io/arch, operator: In}]}}}}",
            "operator In has no value; list at least one value",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: karpenter.k8s.aws/instance-cpu, operator: Gt, values: \
             [many]}]}}}}",
            "operator Gt cannot compare with [\"many\"]; write exactly one whole number of 0 or more",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: team, operator: Matches, values: [a]}]}}}}",
            "\"Matches\" is not an operator; write one of In, NotIn",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: team, operator: In, values: [a], minValues: 2}]}}}}",
            "2 different values are wanted of 1 listed",
        ),
        (
            "{spec: {template: {spec: {requirements: [{key: karpenter.sh/capacity-type, operator: In, values: \
             [cheap]}]}}}}",
            "only 0 of [\"cheap\"] can be bought, 1 needed; write values of spot, on-demand, reserved",
        ),
        (
            "{spec: {disruption: {consolidateAfter: 99999999999999999999h}}}",
            "is too long",
        ),
        (
            "{spec: {disruption: {consolidationPolicy: Sometimes}}}",
            "\"Sometimes\" is not a policy",
        ),
        (
            "{spec: {disruption: {budgets: [{nodes: 110%}]}}}",
            "\"110%\" is not a number or share of nodes",
        ),
        (
            "{spec: {disruption: {budgets: [{nodes: '5', schedule: '@daily'}]}}}",
            "schedule and duration go together",
        ),
        (
            "{spec: {limits: {cpu: '-5'}}}",
            "spec.limits[cpu]: \"-5\" is not a quantity of 0 or more",
        ),
        (
            "{spec: {replicas: 3, weight: 10}}",
            "a NodePool with replicas cannot have a weight",
        ),
        (
            "{spec: {replicas: 3, limits: {cpu: 10}}}",
            "may only have the limit nodes",
        ),
        (
            "{spec: {template: {spec: {nodeClassRef: {name: ''}}}}}",
            "nodeClassRef.name: it is empty",
        ),
        (
            "{metadata: {annotations: {tonnage.dev/spot-percent: most}}}",
            "tonnage.dev/spot-percent]: \"most\" is not",
        ),
    ];

    #[test]
    fn each_mistake_is_named_with_its_fix() {
        for (changes, expected) in WRONG {
            let found = problems(changes);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{changes}\n{found:#?}"
            );
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let found = problems("{spec: {limits: {cpu: few, memory: lots}, weight: 500}}");
        assert_eq!(found.len(), 3, "{found:#?}");
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
