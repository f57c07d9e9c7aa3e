//! The API server's rules, as kube's client meets them.

use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};

use super::{ApiServer, Key, Resource};
use crate::api::NodePool;
use crate::api::labels::NAMESPACE_NAME;
use crate::sim::clock::VirtualClock;
use crate::sim::faults::Calm;
use crate::sim::history::{Detail, History};
use crate::sim::life::Life;
use crate::world::World;

struct Stage {
    server: ApiServer,
    client: kube::Client,
}

fn stage() -> Stage {
    let clock = VirtualClock::start();
    let history = History::new(Arc::clone(&clock), Detail::Events);
    let random = World::new(Arc::clone(&clock), 1).random("api-server");
    let server = ApiServer::new(clock, history, random);
    let client = server.client("test", Life::new(), Arc::new(Calm));
    Stage { server, client }
}

impl Stage {
    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn node(&self, name: &str) -> Value {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        self.server.create("user", node).unwrap()
    }

    /// A pod that runs on a node and is ready.
    fn running(&self, name: &str) -> Key {
        let key = Key::new(Resource::Pod, "default", name);
        self.server
            .create(
                "user",
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": { "name": name, "labels": { "app": "web" } },
                    "spec": { "containers": [] },
                }),
            )
            .unwrap();
        self.server.bind("scheduler", &key, "a").unwrap();
        self.server
            .change("kubelet", &key, Some("status"), |pod| {
                pod["status"]["phase"] = json!("Running");
                super::set_condition(pod, "Ready", "True", "", "2027-01-15T08:00:00Z");
            })
            .unwrap();
        key
    }

    fn budget(&self, name: &str, least: i64) {
        self.server
            .create("user", json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "minAvailable": least, "selector": { "matchLabels": { "app": "web" } } },
            }))
            .unwrap();
    }

    async fn evict(&self, name: &str) -> Result<(), u16> {
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "name": name, "namespace": "default" },
        });
        let answer = self
            .pods()
            .create_subresource::<_, Value>("eviction", name, &PostParams::default(), &body)
            .await;
        answer.map(drop).map_err(|error| code(&error))
    }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_of_one_moment_and_a_watch_goes_on_from_there() {
    let stage = stage();
    for name in ["a", "b", "c"] {
        stage.node(name);
    }
    let first = stage
        .nodes()
        .list(&ListParams::default().limit(2))
        .await
        .unwrap();
    assert_eq!(first.items.len(), 2);
    stage.node("d");
    let token = first.metadata.continue_.unwrap();
    let rest = ListParams::default().limit(2).continue_token(&token);
    let second = stage.nodes().list(&rest).await.unwrap();
    assert_eq!(second.items.len(), 1, "d came later");
    let version = second.metadata.resource_version.unwrap();
    assert_eq!(Some(&version), first.metadata.resource_version.as_ref());
    let watch = stage
        .nodes()
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap();
    let mut watch = std::pin::pin!(watch);
    let WatchEvent::Added(added) = watch.try_next().await.unwrap().unwrap() else {
        panic!("not added");
    };
    assert_eq!(added.metadata.name.as_deref(), Some("d"));
    let WatchEvent::Bookmark(_) = watch.try_next().await.unwrap().unwrap() else {
        panic!("no bookmark");
    };
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_window_gets_410() {
    let stage = stage();
    stage.node("a");
    stage.server.compact();
    let watch = stage
        .nodes()
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap();
    let mut watch = std::pin::pin!(watch);
    let event = watch.try_next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Error(status) if status.code == 410));
    assert!(watch.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn stale_writes_are_refused_and_writes_that_change_nothing_take_no_version() {
    let stage = stage();
    stage.node("a");
    let nodes = stage.nodes();
    let seen = nodes.get("a").await.unwrap();
    let params = PatchParams::default();
    let label = Patch::Merge(json!({ "metadata": { "labels": { "x": "y" } } }));
    let changed = nodes.patch("a", &params, &label).await.unwrap();
    let again = nodes.patch("a", &params, &label).await.unwrap();
    assert_eq!(
        changed.metadata.resource_version,
        again.metadata.resource_version
    );
    let stale = nodes.replace("a", &PostParams::default(), &seen).await;
    assert_eq!(code(&stale.unwrap_err()), 409);
    let stale = Patch::Merge(json!({
        "metadata": { "resourceVersion": seen.metadata.resource_version, "labels": { "x": "z" } },
    }));
    assert_eq!(
        code(&nodes.patch("a", &params, &stale).await.unwrap_err()),
        409
    );
    let other = Patch::Merge(json!({ "metadata": { "uid": "another" } }));
    assert_eq!(
        code(&nodes.patch("a", &params, &other).await.unwrap_err()),
        422
    );
    let test = serde_json::from_value(json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": "1" },
        { "op": "add", "path": "/metadata/finalizers", "value": ["x/y"] },
    ]));
    let test = Patch::<()>::Json(test.unwrap());
    assert_eq!(
        code(&nodes.patch("a", &params, &test).await.unwrap_err()),
        422
    );
    let mut again = seen.clone();
    let twice = nodes.create(&PostParams::default(), &again).await;
    assert_eq!(
        code(&twice.unwrap_err()),
        500,
        "a new object has no version"
    );
    again.metadata.resource_version = None;
    let twice = nodes.create(&PostParams::default(), &again).await;
    assert_eq!(code(&twice.unwrap_err()), 409);
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_what_is_being_deleted_and_none_can_be_added() {
    let stage = stage();
    stage.node("a");
    let (nodes, params) = (stage.nodes(), PatchParams::default());
    let finalizers = |list: Value| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    nodes
        .patch("a", &params, &finalizers(json!(["x/y"])))
        .await
        .unwrap();
    nodes.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(
        nodes
            .get("a")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let more = nodes
        .patch("a", &params, &finalizers(json!(["x/y", "z/z"])))
        .await;
    assert_eq!(code(&more.unwrap_err()), 422);
    nodes
        .patch("a", &params, &finalizers(json!([])))
        .await
        .unwrap();
    assert_eq!(code(&nodes.get("a").await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_node_ends_in_its_own_time_and_one_without_at_once() {
    let stage = stage();
    let key = stage.running("a");
    let pods = stage.pods();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let ending = pods.get("a").await.unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    let uid = ending.metadata.uid.unwrap();
    stage.server.finish("kubelet", &key, &uid).unwrap();
    assert_eq!(code(&pods.get("a").await.unwrap_err()), 404);
    let waiting =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "b-" } });
    let waiting = stage.server.create("user", waiting).unwrap();
    let name = waiting["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("b-") && name.len() == 7, "{name}");
    pods.delete(name, &DeleteParams::default()).await.unwrap();
    assert_eq!(code(&pods.get(name).await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn evictions_keep_disruption_budgets() {
    let stage = stage();
    stage.running("a");
    stage.running("b");
    stage.budget("web", 1);
    assert_eq!(stage.evict("a").await, Ok(()));
    assert_eq!(
        stage.evict("b").await,
        Err(429),
        "a is ending, b is the last one"
    );
    stage.budget("other", 0);
    assert_eq!(stage.evict("b").await, Err(500), "two budgets cover it");
}

#[tokio::test(start_paused = true)]
async fn custom_objects_are_completed_pruned_and_checked() {
    let stage = stage();
    let pool = |policy: &str| {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": policy.to_lowercase() },
            "spec": {
                "unheardOf": 1,
                "template": { "spec": {
                    "nodeClassRef": { "group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default" },
                    "requirements": [],
                } },
                "disruption": { "consolidationPolicy": policy, "consolidateAfter": "0s" },
            },
            "status": { "nodes": 3 },
        })
    };
    stage.server.create("user", pool("WhenEmpty")).unwrap();
    let pools: Api<NodePool> = Api::all(stage.client.clone());
    let stored = pools.get("whenempty").await.unwrap();
    assert_eq!(stored.metadata.generation, Some(1));
    assert!(stored.status.is_none(), "a new object has no status");
    let raw = stage
        .server
        .get(&Key::new(Resource::NodePool, "", "whenempty"))
        .unwrap();
    assert!(raw["spec"]["unheardOf"].is_null());
    assert_eq!(raw["spec"]["template"]["spec"]["expireAfter"], "720h");
    let refused = stage.server.create("user", pool("Sometimes")).unwrap_err();
    assert_eq!(refused.code, 422, "{refused}");
    let status = Patch::Merge(json!({ "spec": { "weight": 5 }, "status": { "nodes": 2 } }));
    let params = PatchParams::default();
    let written = pools
        .patch_status("whenempty", &params, &status)
        .await
        .unwrap();
    assert_eq!(
        (written.spec.weight, written.metadata.generation),
        (None, Some(1))
    );
    let spec = Patch::Merge(json!({ "spec": { "weight": 5 }, "status": { "nodes": 9 } }));
    let written = pools.patch("whenempty", &params, &spec).await.unwrap();
    assert_eq!(
        (written.spec.weight, written.metadata.generation),
        (Some(5), Some(2))
    );
    assert_eq!(written.status.unwrap().nodes, 2);
}

#[tokio::test(start_paused = true)]
async fn applying_again_takes_back_what_is_said_no_more() {
    let stage = stage();
    let params = PatchParams::apply("me");
    let apply = |labels: Value| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a", "labels": labels },
        }))
    };
    let nodes = stage.nodes();
    nodes
        .patch("a", &params, &apply(json!({ "x": "1", "y": "1" })))
        .await
        .unwrap();
    let theirs = Patch::Merge(json!({ "metadata": { "labels": { "z": "1" } } }));
    nodes
        .patch("a", &PatchParams::default(), &theirs)
        .await
        .unwrap();
    let after = nodes
        .patch("a", &params, &apply(json!({ "x": "2" })))
        .await
        .unwrap();
    let labels = after.metadata.labels.unwrap();
    assert_eq!(json!(labels), json!({ "x": "2", "z": "1" }));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_selects_is_told_of_comings_and_goings() {
    let stage = stage();
    stage.node("a");
    let (nodes, params) = (stage.nodes(), PatchParams::default());
    for value in ["web", "web", "other"] {
        let label = Patch::Merge(json!({ "metadata": { "labels": { "app": value } } }));
        nodes.patch("a", &params, &label).await.unwrap();
        let note = Patch::Merge(json!({ "metadata": { "annotations": { value: "1" } } }));
        nodes.patch("a", &params, &note).await.unwrap();
    }
    let watch = WatchParams::default().labels("app=web").timeout(5);
    let events: Vec<_> = nodes
        .watch(&watch, "2")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let words: Vec<&str> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => "bookmark",
            WatchEvent::Error(_) => "error",
        })
        .collect();
    assert_eq!(words, ["added", "modified", "deleted", "bookmark"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_ready_is_held_while_too_few_others_are() {
    let stage = stage();
    stage.running("a");
    let unready = stage.running("b");
    let status = Some("status");
    let not_ready = |pod: &mut Value| pod["status"]["conditions"] = json!([]);
    stage
        .server
        .change("kubelet", &unready, status, not_ready)
        .unwrap();
    stage.budget("web", 2);
    assert_eq!(stage.evict("b").await, Err(429), "one of two is healthy");
    let key = Key::new(Resource::DisruptionBudget, "default", "web");
    let fewer = |budget: &mut Value| budget["spec"]["minAvailable"] = json!(1);
    stage.server.change("user", &key, None, fewer).unwrap();
    assert_eq!(stage.evict("b").await, Ok(()), "the other is enough");
    assert_eq!(stage.evict("a").await, Err(429));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_its_name_as_a_label_whatever_is_written() {
    let stage = stage();
    let spaces: Api<Namespace> = Api::all(stage.client.clone());
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "data" } });
    stage.server.create("user", space).unwrap();
    let own = |space: &Namespace| space.metadata.labels.clone().unwrap_or_default();
    let made = spaces.get("data").await.unwrap();
    assert_eq!(own(&made)[NAMESPACE_NAME], "data");
    let patch = json!({ "metadata": { "labels": { NAMESPACE_NAME: null, "team": "a" } } });
    let patched = spaces
        .patch("data", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(own(&patched)[NAMESPACE_NAME], "data");
    assert_eq!(own(&patched)["team"], "a");
}
