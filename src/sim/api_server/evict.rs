//! Evictions, as far as disruption budgets allow them.
//!
//! Given a pod; it is deleted, or the answer says which budget holds it. What a budget allows is read
//! from the pods of this very moment, so that two evictions at once can never both be the last one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::delete::DeleteOptions;
use super::refusal::Refusal;
use super::resource::{Key, Resource, text};
use super::route::Query;
use super::store::Store;
use super::write::set_condition;
use crate::cluster::observe::constraints;

/// What a budget says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct BudgetState {
    /// Pods it covers that are ready and not being deleted.
    pub(in crate::sim) healthy: i64,
    /// Pods that must stay healthy.
    pub(in crate::sim) desired: i64,
    /// Pods it covers.
    pub(in crate::sim) expected: i64,
    /// Pods that are not ready may go in any case.
    always_unhealthy: bool,
}

impl BudgetState {
    /// How many may be disrupted now.
    pub(in crate::sim) fn allowed(self) -> i64 {
        (self.healthy - self.desired).max(0)
    }

    /// True when a pod that is not ready may go although none may be disrupted: where the budget says
    /// so, or where the others are enough.
    fn frees_unhealthy(self) -> bool {
        self.always_unhealthy || (self.desired > 0 && self.healthy >= self.desired)
    }
}

impl Store {
    /// Evicts a pod.
    pub(super) fn evict(&mut self, who: &str, key: &Key, body: &Value) -> Result<(), Refusal> {
        let named = text(body, "/metadata/name");
        if !named.is_empty() && named != key.name {
            return Err(Refusal::bad_request(format!(
                "name in URL does not match name in Eviction object: {named}"
            )));
        }
        let pod = self.present(key)?.clone();
        let node = text(&pod, "/spec/nodeName").to_owned();
        let mut options =
            DeleteOptions::read(key.resource, &body["deleteOptions"], &Query::default())?;
        let ended = matches!(
            text(&pod, "/status/phase"),
            "Succeeded" | "Failed" | "Pending"
        );
        let going = pod["metadata"]["deletionTimestamp"].is_string();
        if !ended && !going {
            let budgets = self.budgets_of(&pod);
            match budgets.as_slice() {
                [] => {}
                [(name, state)] => {
                    if state.allowed() == 0 && (is_ready(&pod) || !state.frees_unhealthy()) {
                        return Err(blocked(name, *state));
                    }
                }
                [_, _, ..] => {
                    return Err(Refusal::new(
                        500,
                        "",
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                    ));
                }
            }
        }
        options.check(&pod)?;
        // The pod is marked first, so it is not as it was seen any more.
        options.resource_version = None;
        if !going {
            let marked = target_of_disruption(pod, &self.api_now());
            drop(self.commit(key, marked, (who, "evict")));
            self.history.event(
                "PodEvicted",
                json!({
                    "pod": format!("{}/{}", key.namespace, key.name),
                    "node": node,
                    "by": who,
                }),
            );
        }
        self.delete(who, key, &options).map(drop)
    }

    /// The budgets that cover a pod.
    fn budgets_of(&self, pod: &Value) -> Vec<(String, BudgetState)> {
        let namespace = text(pod, "/metadata/namespace");
        self.of(Resource::DisruptionBudget, namespace)
            .filter(|(_key, budget)| covers(&budget.value, pod))
            .map(|(key, budget)| (key.name.clone(), self.budget_state(&budget.value)))
            .collect()
    }

    /// What a budget says now.
    pub(super) fn budget_state(&self, budget: &Value) -> BudgetState {
        let namespace = text(budget, "/metadata/namespace");
        let pods: Vec<&Value> = self
            .of(Resource::Pod, namespace)
            .map(|(_key, pod)| &pod.value)
            .filter(|pod| {
                covers(budget, pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
            })
            .collect();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let expected = count(pods.len());
        let healthy = pods
            .iter()
            .filter(|pod| is_ready(pod) && !pod["metadata"]["deletionTimestamp"].is_string())
            .count();
        let spec = &budget["spec"];
        let desired = if spec["minAvailable"].is_null() {
            expected - amount(&spec["maxUnavailable"], expected).min(expected)
        } else {
            amount(&spec["minAvailable"], expected)
        };
        BudgetState {
            healthy: count(healthy),
            desired,
            expected,
            always_unhealthy: spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow",
        }
    }
}

/// A number, or a percentage rounded up.
fn amount(value: &Value, of: i64) -> i64 {
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent = value
        .as_str()
        .and_then(|text| text.strip_suffix('%'))
        .and_then(|text| text.parse::<i64>().ok())
        .unwrap_or(0);
    of.saturating_mul(percent).saturating_add(99) / 100
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = serde_json::from_value::<LabelSelector>(budget["spec"]["selector"].clone());
    let labels = serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default();
    selector.is_ok_and(|selector| constraints::selector(&selector).matches(&labels))
}

/// True when a pod's condition Ready holds.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The pod with the condition that says why it goes, for whoever counts failures.
fn target_of_disruption(mut pod: Value, time: &str) -> Value {
    const KIND: &str = "DisruptionTarget";
    set_condition(&mut pod, KIND, "True", "EvictionByEvictionAPI", time);
    let conditions = pod["status"]["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        if condition["type"] == KIND {
            condition["message"] = json!("Eviction API: evicting");
        }
    }
    pod
}

fn blocked(budget: &str, state: BudgetState) -> Refusal {
    let mut refusal = Refusal::new(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    refusal.cause = Some((
        "DisruptionBudget",
        format!(
            "The disruption budget {budget} needs {} healthy pods and has {} currently",
            state.desired, state.healthy
        ),
    ));
    refusal
}
