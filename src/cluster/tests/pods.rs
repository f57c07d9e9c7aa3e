//! Pods are bound as kube-scheduler binds them, and Nodes are kept closed for that.

use serde_json::{Value, json};

use super::script::{Script, failure};
use super::writing::{NODE, WRITES, node, node_object, writer};
use crate::api::labels;
use crate::cluster::apply::{Hold, NodeRegistration, Opening, WriteErrorClass};
use crate::cluster::observe;
use crate::model::pod::Pod;

const BINDING: &str = "/api/v1/namespaces/jobs/pods/p/binding";

fn pod() -> Pod {
    let manifest = json!({
        "metadata": {"name": "p", "namespace": "jobs", "uid": "pod-uid"},
        "spec": {"containers": []},
    });
    observe::pod::pod(&serde_json::from_value(manifest).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_binding_names_the_very_pod_and_who_comes_second_is_no_error() {
    let script = Script::new();
    let done = json!({"kind": "Status", "status": "Success"});
    script
        .on("POST", BINDING, 201, &done)
        .on(
            "POST",
            BINDING,
            409,
            &failure(409, "Conflict", "already assigned"),
        )
        .on("POST", BINDING, 404, &failure(404, "NotFound", "no pod p"));
    let kubernetes = writer(&script);
    let mut bound = Vec::new();
    for _time in 0..3 {
        bound.push(kubernetes.bind_pod(&pod(), "n1").await.unwrap());
    }
    assert_eq!(bound, [true, false, false]);
    let asked = script.asked(WRITES);
    assert_eq!(asked.len(), 3);
    let body = &asked[0].body;
    assert_eq!(body["kind"], "Binding");
    assert_eq!(body["metadata"]["uid"], "pod-uid");
    assert_eq!(body["target"]["kind"], "Node");
    assert_eq!(body["target"]["name"], "n1");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_to_bind_names_the_value_of_the_chart() {
    let script = Script::new();
    script.on("POST", BINDING, 403, &failure(403, "Forbidden", "no"));
    let error = writer(&script).bind_pod(&pod(), "n1").await.unwrap_err();
    assert_eq!(error.class, WriteErrorClass::Forbidden);
    let text = error.to_string();
    assert!(text.contains("verb create on pods/binding"), "{text}");
    assert!(text.contains("rbac.bindPods"), "{text}");
}

/// One that is not ready either: kube-scheduler would come first when it is.
#[tokio::test(start_paused = true)]
async fn a_node_that_pods_are_bound_to_first_loses_the_power_to_evict_and_stays_closed() {
    let taints = |object: &Value| object["spec"]["taints"].as_array().unwrap().clone();
    let script = Script::new();
    let mut held = node_object();
    for taint in held["spec"]["taints"].as_array_mut().unwrap() {
        if taint["key"] == labels::UNREGISTERED_TAINT {
            taint["effect"] = json!("NoSchedule");
        }
    }
    script
        .on("GET", NODE, 200, &node_object())
        .on("PATCH", NODE, 200, &held)
        .on("GET", NODE, 200, &held)
        .on("PATCH", NODE, 200, &{
            let mut open = held.clone();
            open["spec"]["taints"] = json!([]);
            open
        });
    let kubernetes = writer(&script);
    let registration = NodeRegistration::default();
    for (hold, opening) in [(Hold::Always, Opening::Held), (Hold::Over, Opening::Open)] {
        let node = node();
        let registered = kubernetes.register_node(&node, &registration, hold);
        assert_eq!(registered.await.unwrap(), opening);
    }
    let asked = script.asked(WRITES);
    let of_ours = |body: &Value| {
        let mut all = taints(body);
        all.retain(|taint| taint["key"] == labels::UNREGISTERED_TAINT);
        all
    };
    let effect = json!({"key": labels::UNREGISTERED_TAINT, "effect": "NoSchedule"});
    assert_eq!(of_ours(&asked[0].body), [effect]);
    assert_eq!(of_ours(&asked[1].body), [] as [Value; 0]);
}
