//! Writes: idempotent, bound to the very object, and honest about what failed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::script::{Asked, Script, failure, yaml};
use super::watching::world;
use crate::api::{ConditionReason, ConditionType, ConditionUpdate, NodeClaim, labels};
use crate::cluster::apply::{
    Access, ApplyOptions, ClaimMetadataChange, ClaimStatusChange, Eviction, FinalizedKind, Hold,
    Kubernetes, NodeRegistration, Opening, WriteErrorClass,
};
use crate::cluster::events::{Event, EventKind, Recorder, Subject};
use crate::cluster::lease::Term;
use crate::cluster::{Mirror, observe};
use crate::metrics::Metrics;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::pod::Pod;
use crate::model::taint::{Taint, TaintEffect};
use crate::world::World;

pub(super) const WRITES: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
pub(super) const CLAIM: &str = "/apis/karpenter.sh/v1/nodeclaims/general-x7k2p";
pub(super) const NODE: &str = "/api/v1/nodes/n1";

fn kubernetes(script: &Script, access: Access, world: &World) -> Kubernetes {
    let options = ApplyOptions {
        access,
        term: Term::without_lease(),
        per_second: NonZeroU32::new(200).unwrap(),
        burst: NonZeroU32::new(300).unwrap(),
        metrics: Arc::new(Metrics::new()),
    };
    Kubernetes::new(script.client(), Mirror::new(), world.clone(), options)
}

pub(super) fn writer(script: &Script) -> Kubernetes {
    kubernetes(script, Access::ReadWrite, &world())
}

pub(super) fn claim_object(resource_version: &str) -> Value {
    yaml(&format!(
        r#"
apiVersion: karpenter.sh/v1
kind: NodeClaim
metadata:
  name: general-x7k2p
  uid: claim-uid
  generation: 1
  creationTimestamp: 2026-11-25T00:00:00Z
  resourceVersion: "{resource_version}"
  finalizers: [karpenter.sh/termination]
  ownerReferences: [{{apiVersion: karpenter.sh/v1, kind: NodePool, name: general, uid: pool-uid}}]
spec:
  requirements: []
  nodeClassRef: {{group: tonnage.dev, kind: EC2NodeClass, name: default}}
"#
    ))
}

pub(super) fn going_claim_object(resource_version: &str) -> Value {
    let mut going = claim_object(resource_version);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:01:00Z");
    going
}

pub(super) fn claim() -> Claim {
    observe::claim::claim(&serde_json::from_value::<NodeClaim>(claim_object("7")).unwrap())
}

pub(super) fn node_object() -> Value {
    yaml(
        r#"
apiVersion: v1
kind: Node
metadata: {name: n1, uid: node-uid, resourceVersion: "40", labels: {a: b}}
spec:
  providerID: aws:///us-east-1a/i-1
  taints:
    - {key: karpenter.sh/unregistered, effect: NoExecute}
    - {key: node.kubernetes.io/not-ready, effect: NoSchedule}
    - {key: node.kubernetes.io/not-ready, effect: NoExecute, timeAdded: 2026-11-25T00:00:00Z}
"#,
    )
}

pub(super) fn node() -> Node {
    observe::node::node(&serde_json::from_value(node_object()).unwrap())
}

fn pod() -> Pod {
    let manifest = json!({
        "metadata": {"name": "p", "namespace": "jobs", "uid": "pod-uid"},
        "spec": {"nodeName": "n1", "containers": []},
    });
    observe::pod::pod(&serde_json::from_value(manifest).unwrap())
}

fn only(asked: &[Asked]) -> &Asked {
    assert_eq!(asked.len(), 1, "{asked:#?}");
    &asked[0]
}

#[tokio::test(start_paused = true)]
async fn a_created_claim_whose_answer_was_lost_is_the_same_claim() {
    let script = Script::new();
    let list = "/apis/karpenter.sh/v1/nodeclaims";
    script
        .on(
            "POST",
            list,
            503,
            &failure(503, "ServiceUnavailable", "away"),
        )
        .on("POST", list, 409, &failure(409, "AlreadyExists", "exists"))
        .on("GET", CLAIM, 200, &claim_object("7"));
    let kubernetes = writer(&script);
    let object: NodeClaim = serde_json::from_value(claim_object("7")).unwrap();
    let made = kubernetes.create_claim(&object).await.unwrap();
    assert_eq!(made.uid, "claim-uid");
    let view = kubernetes.mirror().view();
    assert_eq!(view.claims["general-x7k2p"].uid, "claim-uid");
}

#[tokio::test(start_paused = true)]
async fn a_name_taken_by_another_claim_is_an_error() {
    let script = Script::new();
    let mut other = claim_object("7");
    other["spec"]["expireAfter"] = json!("1h");
    script
        .on(
            "POST",
            "/apis/karpenter.sh/v1/nodeclaims",
            409,
            &failure(409, "AlreadyExists", "exists"),
        )
        .on("GET", CLAIM, 200, &other);
    let object: NodeClaim = serde_json::from_value(claim_object("7")).unwrap();
    let error = writer(&script).create_claim(&object).await.unwrap_err();
    assert_eq!(error.class, WriteErrorClass::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn the_launch_record_is_written_only_onto_the_claim_as_it_was_seen() {
    let script = Script::new();
    script
        .on("PATCH", CLAIM, 409, &failure(409, "Conflict", "modified"))
        .on("PATCH", CLAIM, 200, &claim_object("8"));
    let kubernetes = writer(&script);
    let change = ClaimMetadataChange {
        annotations: BTreeMap::from([(labels::LAUNCH.to_owned(), Some("{}".to_owned()))]),
        ..ClaimMetadataChange::default()
    };
    let error = kubernetes
        .patch_claim_metadata(&claim(), &change)
        .await
        .unwrap_err();
    assert!(error.is_conflict());
    let asked = script.asked(WRITES);
    let body = &only(&asked).body;
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(body["metadata"]["annotations"][labels::LAUNCH], "{}");
    let written = kubernetes
        .patch_claim_metadata(&claim(), &change)
        .await
        .unwrap();
    assert_eq!(written.resource_version, "8");
    assert_eq!(kubernetes.mirror().unseen_writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_carries_ready_and_is_written_only_when_it_changes() {
    let script = Script::new();
    let mut answered = claim_object("8");
    answered["status"] = json!({"providerID": "aws:///us-east-1a/i-1", "conditions": [
        {"type": "Launched", "status": "True", "reason": "Launched", "message": "",
         "observedGeneration": 1, "lastTransitionTime": "1970-01-01T00:00:00Z"},
    ]});
    let path = "/apis/karpenter.sh/v1/nodeclaims/general-x7k2p/status";
    script.on("PATCH", path, 200, &answered);
    let kubernetes = writer(&script);
    let change = ClaimStatusChange {
        provider_id: Some("aws:///us-east-1a/i-1".to_owned()),
        conditions: vec![ConditionUpdate::holds(ConditionType::Launched)],
        ..ClaimStatusChange::default()
    };
    kubernetes
        .patch_claim_status(&claim(), &change)
        .await
        .unwrap();
    let asked = script.asked(WRITES);
    let status = &only(&asked).body["status"];
    let conditions = status["conditions"].as_array().unwrap();
    let kinds: Vec<&str> = conditions
        .iter()
        .map(|condition| condition["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.last(), Some(&"Ready"), "{kinds:?}");
    assert!(kinds.contains(&"Launched") && kinds.contains(&"Registered"));

    let unchanged = ClaimStatusChange {
        provider_id: Some(String::new()),
        cleared: vec![ConditionType::Drifted],
        ..ClaimStatusChange::default()
    };
    let mut settled = claim();
    settled.conditions = status_conditions(status);
    kubernetes
        .patch_claim_status(&settled, &unchanged)
        .await
        .unwrap();
    assert_eq!(script.asked(WRITES).len(), 1);
}

/// The conditions of a written status as the next look sees them.
fn status_conditions(status: &Value) -> BTreeMap<String, crate::model::claim::ClaimCondition> {
    let mut object = claim_object("8");
    object["status"] = status.clone();
    observe::claim::claim(&serde_json::from_value::<NodeClaim>(object).unwrap()).conditions
}

#[tokio::test(start_paused = true)]
async fn an_eviction_names_the_very_pod_and_a_budget_is_no_error() {
    let path = "/api/v1/namespaces/jobs/pods/p/eviction";
    let script = Script::new();
    let mut budget = failure(429, "TooManyRequests", "Cannot evict pod");
    budget["details"] = json!({"causes": [{"reason": "DisruptionBudget", "message": "needs 1"}]});
    script
        .on("POST", path, 429, &budget)
        .on(
            "POST",
            path,
            429,
            &failure(429, "TooManyRequests", "slow down"),
        )
        .on(
            "POST",
            path,
            201,
            &json!({"kind": "Status", "status": "Success"}),
        )
        .on("POST", path, 409, &failure(409, "Conflict", "uid differs"));
    let kubernetes = writer(&script);
    let blocked = kubernetes.evict_pod(&pod()).await.unwrap();
    assert_eq!(blocked, Eviction::Blocked("Cannot evict pod".to_owned()));
    assert_eq!(script.asked(WRITES).len(), 1);
    // Mere throttling is waited out.
    assert_eq!(
        kubernetes.evict_pod(&pod()).await.unwrap(),
        Eviction::Evicted
    );
    assert_eq!(kubernetes.evict_pod(&pod()).await.unwrap(), Eviction::Gone);
    let asked = script.asked(WRITES);
    assert_eq!(asked.len(), 4);
    assert_eq!(
        asked[0].body["deleteOptions"]["preconditions"]["uid"],
        "pod-uid"
    );
}

#[tokio::test(start_paused = true)]
async fn registration_is_one_write_that_keeps_what_others_wrote() {
    let script = Script::new();
    script
        .on("GET", NODE, 200, &node_object())
        .on("PATCH", NODE, 409, &failure(409, "Conflict", "modified"))
        .on("GET", NODE, 200, &node_object())
        .on("PATCH", NODE, 200, &node_object());
    let registration = NodeRegistration {
        labels: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
        annotations: BTreeMap::new(),
        taints: vec![
            Taint::new("dedicated", "executor", TaintEffect::NoSchedule),
            Taint::new("node.kubernetes.io/not-ready", "", TaintEffect::NoExecute),
        ],
    };
    writer(&script)
        .register_node(&node(), &registration, Hold::IfTaken)
        .await
        .unwrap();
    let asked = script.asked(WRITES);
    let body = &asked[1].body;
    assert_eq!(body["metadata"]["resourceVersion"], "40");
    assert_eq!(body["metadata"]["labels"][labels::REGISTERED], "true");
    assert_eq!(body["metadata"]["labels"]["team"], "data");
    assert_eq!(
        body["metadata"]["finalizers"],
        json!([labels::TERMINATION_FINALIZER])
    );
    assert!(
        body["metadata"]["ownerReferences"].is_null(),
        "lost claims must not take their Nodes along"
    );
    let taints = body["spec"]["taints"].as_array().unwrap();
    let keys: Vec<&str> = taints
        .iter()
        .map(|taint| taint["key"].as_str().unwrap())
        .collect();
    let not_ready = "node.kubernetes.io/not-ready";
    assert_eq!(keys, [not_ready, not_ready, "dedicated"]);
    assert_eq!(taints[1]["timeAdded"], "2026-11-25T00:00:00Z");
}

/// Pods come to a ready Node at once, and whoever still sees the taint that evicts would delete them.
#[tokio::test(start_paused = true)]
async fn a_ready_node_loses_the_power_to_evict_before_it_opens() {
    let mut ready = node_object();
    ready["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    loses_the_power_to_evict_before_it_opens(ready).await;
}

/// Not ready for a moment, and kube-controller-manager has not closed it for that.
#[tokio::test(start_paused = true)]
async fn so_does_a_node_that_was_ready_a_moment_ago() {
    let mut flapping = node_object();
    flapping["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    loses_the_power_to_evict_before_it_opens(flapping).await;
}

async fn loses_the_power_to_evict_before_it_opens(mut ready: Value) {
    ready["spec"]["taints"] = json!([{ "key": labels::UNREGISTERED_TAINT, "effect": "NoExecute" }]);
    let mut held = ready.clone();
    held["spec"]["taints"][0]["effect"] = json!("NoSchedule");
    let mut open = ready.clone();
    open["spec"]["taints"] = json!([]);
    let script = Script::new();
    script
        .on("GET", NODE, 200, &ready)
        .on("PATCH", NODE, 200, &held)
        // Whoever takes over does not know for how long it was held.
        .on("GET", NODE, 200, &held)
        .on("PATCH", NODE, 200, &held)
        .on("GET", NODE, 200, &held)
        .on("PATCH", NODE, 200, &open);
    let kubernetes = writer(&script);
    let registration = NodeRegistration::default();
    let (kept, gone) = (held["spec"]["taints"].clone(), json!([]));
    for (hold, opening, taints) in [
        (Hold::IfTaken, Opening::Held, &kept),
        (Hold::IfTaken, Opening::Held, &kept),
        (Hold::Over, Opening::Open, &gone),
    ] {
        let node = node();
        let registered = kubernetes.register_node(&node, &registration, hold);
        let registered = registered.await;
        assert_eq!(registered.unwrap(), opening);
        let asked = script.asked(WRITES);
        assert_eq!(&asked.last().unwrap().body["spec"]["taints"], taints);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registered_node_does_not_get_its_startup_taints_back() {
    let script = Script::new();
    let mut registered = node_object();
    registered["metadata"]["labels"][labels::REGISTERED] = json!("true");
    script
        .on("GET", NODE, 200, &registered)
        .on("PATCH", NODE, 200, &registered);
    let registration = NodeRegistration {
        taints: vec![Taint::new("startup", "", TaintEffect::NoSchedule)],
        ..NodeRegistration::default()
    };
    writer(&script)
        .register_node(&node(), &registration, Hold::IfTaken)
        .await
        .unwrap();
    let asked = script.asked(WRITES);
    assert!(!only(&asked).body.to_string().contains("startup"));
}

#[tokio::test(start_paused = true)]
async fn another_node_of_the_same_name_is_never_touched() {
    let script = Script::new();
    let mut other = node_object();
    other["metadata"]["uid"] = json!("another");
    script.on("GET", NODE, 200, &other);
    let error = writer(&script)
        .taint_node_disrupted(&node())
        .await
        .unwrap_err();
    assert!(error.is_gone());
    assert_eq!(script.asked(WRITES), []);
}

#[tokio::test(start_paused = true)]
async fn the_disrupted_taint_is_set_once_and_taken_back_whole() {
    let script = Script::new();
    let mut tainted = node_object();
    tainted["metadata"]["labels"][labels::EXCLUDE_FROM_LOAD_BALANCERS] = json!("karpenter");
    tainted["spec"]["taints"] = json!([{"key": labels::DISRUPTED_TAINT, "effect": "NoSchedule"}]);
    script
        .on("GET", NODE, 200, &tainted)
        .on("GET", NODE, 200, &tainted)
        .on("PATCH", NODE, 200, &node_object());
    let kubernetes = writer(&script);
    kubernetes.taint_node_disrupted(&node()).await.unwrap();
    assert_eq!(script.asked(WRITES), []);
    kubernetes.untaint_node_disrupted(&node()).await.unwrap();
    let asked = script.asked(WRITES);
    let body = &only(&asked).body;
    assert_eq!(body["spec"]["taints"], json!([]));
    assert_eq!(
        body["metadata"]["labels"][labels::EXCLUDE_FROM_LOAD_BALANCERS],
        Value::Null
    );
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_is_removed_with_a_test_and_tried_again() {
    let script = Script::new();
    let mut gone = going_claim_object("9");
    gone["metadata"]["finalizers"] = json!([]);
    script
        .on("GET", CLAIM, 200, &going_claim_object("7"))
        .on(
            "PATCH",
            CLAIM,
            422,
            &failure(422, "Invalid", "testing value failed"),
        )
        .on("GET", CLAIM, 200, &going_claim_object("8"))
        .on("PATCH", CLAIM, 200, &gone);
    let kubernetes = writer(&script);
    let removed = kubernetes
        .remove_finalizer(
            FinalizedKind::Claim,
            "general-x7k2p",
            "claim-uid",
            labels::TERMINATION_FINALIZER,
        )
        .await;
    assert_eq!(removed, Ok(()));
    let asked = script.asked(WRITES);
    assert_eq!(
        asked[1].body,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "claim-uid"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "8"},
            {"op": "add", "path": "/metadata/finalizers", "value": []},
        ])
    );
    assert!(
        !kubernetes
            .mirror()
            .view()
            .claims
            .contains_key("general-x7k2p")
    );
}

#[tokio::test(start_paused = true)]
async fn observe_mode_lets_nothing_out() {
    let script = Script::new();
    let world = world();
    let kubernetes = kubernetes(&script, Access::ReadOnly, &world);
    let object: NodeClaim = serde_json::from_value(claim_object("7")).unwrap();
    let refused = [
        kubernetes.create_claim(&object).await.map(drop),
        kubernetes.delete_claim(&claim()).await,
        kubernetes.evict_pod(&pod()).await.map(drop),
        kubernetes.delete_pod(&pod(), 0).await,
        kubernetes.delete_node(&node()).await,
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().class, WriteErrorClass::ReadOnly);
    }
    let recorder = Recorder::start(&kubernetes, "pod-1", Arc::new(Metrics::new()), &world);
    recorder.publish(event("m"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(script.asked(WRITES), []);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_names_verb_and_resource() {
    let script = Script::new();
    script.on("DELETE", CLAIM, 403, &failure(403, "Forbidden", "no"));
    let error = writer(&script).delete_claim(&claim()).await.unwrap_err();
    assert_eq!(error.class, WriteErrorClass::Forbidden);
    let text = error.to_string();
    assert!(text.contains("verb delete on nodeclaims"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_asked_again_and_then_given_up() {
    let script = Script::new();
    for _attempt in 0..10 {
        script.late("DELETE", NODE, Duration::from_hours(1), &json!({}));
    }
    let error = writer(&script).delete_node(&node()).await.unwrap_err();
    assert_eq!(error.class, WriteErrorClass::Transient);
    assert_eq!(script.asked(WRITES).len(), 4);
}

fn event(message: &str) -> Event {
    Event {
        subject: Subject::claim("general-x7k2p", "claim-uid"),
        kind: EventKind::Warning,
        reason: "LaunchFailed",
        action: "Launching",
        message: message.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_written_once_and_then_counted() {
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let script = Script::new();
    script.on("POST", events, 201, &json!({"metadata": {"name": "e"}}));
    let world = world();
    let kubernetes = kubernetes(&script, Access::ReadWrite, &world);
    let recorder = Recorder::start(&kubernetes, "pod-1", Arc::new(Metrics::new()), &world);
    let long = "é".repeat(2000);
    for _repeat in 0..50 {
        recorder.publish(event(&long));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let asked = script.asked(WRITES);
    let body = &only(&asked).body;
    assert_eq!(body["reason"], "LaunchFailed");
    assert_eq!(body["reportingController"], "tonnage");
    assert_eq!(body["regarding"]["kind"], "NodeClaim");
    assert!(body["note"].as_str().unwrap().len() <= 1024);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_events_is_bounded() {
    let script = Script::new();
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    for _event in 0..5000 {
        script.on("POST", events, 201, &json!({"metadata": {"name": "e"}}));
    }
    let (world, metrics) = (world(), Arc::new(Metrics::new()));
    let kubernetes = kubernetes(&script, Access::ReadWrite, &world);
    let recorder = Recorder::start(&kubernetes, "pod-1", Arc::clone(&metrics), &world);
    for number in 0..3000 {
        recorder.publish(event(&number.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let written = script.asked(WRITES).len();
    assert!((200..=320).contains(&written), "{written}");
    assert!(metrics.text().contains("tonnage_events_dropped_total 2"));
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn unknown_reasons_do_not_break_a_status() {
    let script = Script::new();
    let path = "/apis/karpenter.sh/v1/nodeclaims/general-x7k2p/status";
    script.on("PATCH", path, 200, &claim_object("8"));
    let change = ClaimStatusChange {
        conditions: vec![ConditionUpdate::unknown(
            ConditionType::Launched,
            &ConditionReason::LaunchFailed,
            "InsufficientInstanceCapacity in us-east-1a",
        )],
        ..ClaimStatusChange::default()
    };
    writer(&script)
        .patch_claim_status(&claim(), &change)
        .await
        .unwrap();
    let asked = script.asked(WRITES);
    let text = only(&asked).body.to_string();
    assert!(
        text.contains("LaunchFailed") && text.contains("us-east-1a"),
        "{text}"
    );
}
