//! NodePools, ours and other provisioners'.
//!
//! Given the object; given back the pool as decisions see it. Whatever makes no sense is among its
//! problems, and a pool with problems buys nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::{pool_taint, quantity};
use crate::api;
use crate::api::node_pool_validation::validate;
use crate::api::settings::NodePoolSettings;
use crate::api::settings_table::Key;
use crate::api::{hash, labels};
use crate::model::money::UsdPerHour;
use crate::model::node_pool::{BudgetNodes, BudgetWindow, NodePool, PoolBudget};
use crate::model::requirement::{Requirement, Requirements};

/// What holds for pools whose annotations do not say; flags of the controller.
#[expect(
    clippy::struct_field_names,
    reason = "named as the annotations and flags are"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolDefaults {
    /// `tonnage.dev/launch-timeout`.
    pub launch_timeout: SignedDuration,
    /// `tonnage.dev/registration-timeout`.
    pub registration_timeout: SignedDuration,
    /// `tonnage.dev/initialization-timeout`; `None` is never.
    pub initialization_timeout: Option<SignedDuration>,
}

impl PoolDefaults {
    /// Puts these in place of the built-in defaults, where the pool itself says nothing.
    pub fn apply(&self, object: &api::NodePool, pool: &mut NodePool) {
        let annotations = object.metadata.annotations.as_ref();
        let unsaid = |key: Key| {
            annotations.is_none_or(|annotations| !annotations.contains_key(key.annotation()))
        };
        if unsaid(Key::LaunchTimeout) {
            pool.launch_timeout = self.launch_timeout;
        }
        if unsaid(Key::RegistrationTimeout) {
            pool.registration_timeout = self.registration_timeout;
        }
        if unsaid(Key::InitializationTimeout) {
            pool.initialization_timeout = self.initialization_timeout;
        }
    }
}

/// What decisions see of a NodePool.
pub fn node_pool(object: &api::NodePool) -> NodePool {
    let metadata = &object.metadata;
    let spec = &object.spec;
    let template = &spec.template;
    let (settings, bad_settings) =
        NodePoolSettings::parse(metadata.annotations.as_ref().unwrap_or(&BTreeMap::new()));
    let mut problems = validate(object);
    problems.extend(bad_settings);
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let (limits, unreadable) = spec
        .limits
        .as_ref()
        .map(quantity::resources)
        .unwrap_or_default();
    problems.extend(
        unreadable
            .into_iter()
            .map(|problem| format!("spec.limits: {problem}")),
    );
    let zero_limits = spec
        .limits
        .iter()
        .flat_map(|list| list.keys())
        .filter(|name| limits.get(name) == 0)
        .cloned()
        .collect();
    NodePool {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        deleting_since: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        problems,
        paused: settings.paused,
        node_class: template.spec.node_class_ref.name.clone(),
        requirements: requirements(object),
        labels: template.metadata.labels.clone(),
        annotations: template.metadata.annotations.clone(),
        taints: template.spec.taints.iter().filter_map(pool_taint).collect(),
        startup_taints: template
            .spec
            .startup_taints
            .iter()
            .filter_map(pool_taint)
            .collect(),
        limits,
        zero_limits,
        weight: spec.weight.unwrap_or(0),
        budgets: spec.disruption.budgets.iter().map(budget).collect(),
        consolidate_after: or_never(spec.disruption.consolidate_after.value()),
        termination_grace: template
            .spec
            .termination_grace_period
            .as_ref()
            .and_then(|text| or_never(text.value().map(Some))),
        expire_after: or_never(template.spec.expire_after.value()),
        // Without a readable duration there is nothing to compare; validation has named it.
        hash: hash::node_pool_hash(template).unwrap_or_default(),
        fee: UsdPerHour::from_units(settings.node_fee),
        launch_timeout: signed(settings.launch_timeout),
        registration_timeout: signed(settings.registration_timeout),
        initialization_timeout: settings.initialization_timeout.map(signed),
        acknowledged_orphans: settings.acknowledged_orphans,
        max_price: settings.max_price.map(UsdPerHour::from_units),
        max_percent_of_on_demand: settings.max_percent_of_on_demand,
        risk_weight_thousandths: settings.risk_weight_thousandths,
        on_demand_base: settings.on_demand_base,
        spot_percent: settings.spot_percent,
        price_band_percent: settings.alternative_price_band_percent,
    }
}

/// A duration that may be `Never`. One that cannot be read, which validation names, counts as never:
/// that takes no node away.
fn or_never(value: Result<Option<Duration>, api::DurationError>) -> Option<SignedDuration> {
    value.ok().flatten().map(signed)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// What nodes of the pool may be: spec requirements, template labels, and the labels that every
/// node of the pool has.
fn requirements(object: &api::NodePool) -> Requirements {
    let template = &object.spec.template;
    let mut requirements = Requirements::new();
    for entry in &template.spec.requirements {
        // One that cannot be read is among the problems; until it is mended nothing satisfies it.
        let requirement = Requirement::parse(entry.operator.as_str(), &entry.values)
            .unwrap_or_else(|_named| Requirement::nothing());
        let min_values = entry.min_values.and_then(|count| u32::try_from(count).ok());
        requirements.add(
            labels::normalize(&entry.key),
            &requirement.keeping(min_values),
        );
    }
    for (key, value) in &template.metadata.labels {
        requirements.add_label(labels::normalize(key), value);
    }
    requirements.add_label(
        labels::NODE_POOL,
        object.metadata.name.as_deref().unwrap_or_default(),
    );
    let class = &template.spec.node_class_ref;
    if class.is_ours() {
        requirements.add_label(labels::NODE_CLASS, &class.name);
    } else {
        let key = format!("{}/{}", class.group, class.kind.to_lowercase());
        requirements.add_label(&key, &class.name);
    }
    requirements
}

/// A budget. One that cannot be read, which validation names, allows nothing.
fn budget(item: &api::disruption::Budget) -> PoolBudget {
    let nodes = match item.nodes.strip_suffix('%') {
        Some(percent) => percent.parse().map(BudgetNodes::Percent),
        None => item.nodes.parse().map(BudgetNodes::Count),
    };
    let window = item.schedule.as_ref().map(|schedule| BudgetWindow {
        schedule: schedule.clone(),
        duration: item
            .duration
            .as_ref()
            .and_then(|text| or_never(text.value().map(Some)))
            .unwrap_or(SignedDuration::MAX),
    });
    PoolBudget {
        nodes: nodes.unwrap_or(BudgetNodes::Count(0)),
        reasons: item
            .reasons
            .iter()
            .flatten()
            .map(|reason| reason.as_str().to_owned())
            .collect(),
        window,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
metadata:
  name: executors
  uid: 1111
  generation: 3
  annotations: {tonnage.dev/paused: "true"}
spec:
  weight: 10
  limits: {cpu: "100", nodes: "20", nvidia.com/gpu: "0"}
  disruption: {consolidateAfter: 30s, budgets: [{nodes: 10%}, {nodes: "0", schedule: "@daily", duration: 8h}]}
  template:
    metadata:
      labels: {team: data}
    spec:
      nodeClassRef: {group: tonnage.dev, kind: EC2NodeClass, name: default}
      expireAfter: Never
      taints: [{key: dedicated, value: executor, effect: NoSchedule}]
      requirements:
        - {key: beta.kubernetes.io/arch, operator: In, values: [amd64]}
        - {key: kubernetes.io/arch, operator: In, values: [amd64, arm64]}
        - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
"#;

    fn seen(manifest: &str) -> NodePool {
        node_pool(&serde_saphyr::from_str(manifest).unwrap())
    }

    #[test]
    fn a_pool_is_seen_with_quantities_and_durations_read() {
        let pool = seen(MANIFEST);
        assert_eq!(pool.problems, Vec::<String>::new());
        assert!(pool.paused);
        assert_eq!(pool.limits.get("cpu"), 100_000);
        assert_eq!(pool.limits.get("nodes"), 20);
        assert_eq!(pool.zero_limits, ["nvidia.com/gpu"]);
        assert_eq!(pool.consolidate_after, Some(SignedDuration::from_secs(30)));
        assert_eq!(pool.expire_after, None);
        assert_eq!(pool.budgets[0].nodes, BudgetNodes::Percent(10));
        assert_eq!(
            pool.budgets[1].window.as_ref().unwrap().duration,
            SignedDuration::from_hours(8)
        );
        let single = |key: &str| pool.requirements.get(key).unwrap().single();
        assert_eq!(single(labels::ARCH), Some("amd64"));
        assert_eq!(single(labels::NODE_POOL), Some("executors"));
        assert_eq!(single(labels::NODE_CLASS), Some("default"));
        assert_eq!(single("team"), Some("data"));
    }

    #[test]
    fn flags_hold_where_the_pool_says_nothing() {
        let manifest = MANIFEST.replace(
            "tonnage.dev/paused: \"true\"",
            "tonnage.dev/launch-timeout: 2m",
        );
        let object: api::NodePool = serde_saphyr::from_str(&manifest).unwrap();
        let mut pool = node_pool(&object);
        let defaults = PoolDefaults {
            launch_timeout: SignedDuration::from_mins(7),
            registration_timeout: SignedDuration::from_mins(8),
            initialization_timeout: Some(SignedDuration::from_mins(9)),
        };
        defaults.apply(&object, &mut pool);
        assert_eq!(pool.launch_timeout, SignedDuration::from_mins(2));
        assert_eq!(pool.registration_timeout, SignedDuration::from_mins(8));
        assert_eq!(
            pool.initialization_timeout,
            Some(SignedDuration::from_mins(9))
        );
    }

    #[test]
    fn what_makes_no_sense_is_a_problem_and_hides_nothing_else() {
        let manifest = MANIFEST
            .replace("operator: In, values: [spot, on-demand]", "operator: Maybe")
            .replace("cpu: \"100\"", "cpu: lots")
            .replace("consolidateAfter: 30s", "consolidateAfter: soon");
        let pool = seen(&manifest);
        let problems = pool.problems.join("\n");
        for word in ["Maybe", "lots", "soon"] {
            assert!(problems.contains(word), "{word}: {problems}");
        }
        assert_eq!(pool.consolidate_after, None);
        assert_eq!(pool.limits.get("nodes"), 20);
        let capacity = pool.requirements.get(labels::CAPACITY_TYPE).unwrap();
        assert!(capacity.is_impossible());
    }
}
