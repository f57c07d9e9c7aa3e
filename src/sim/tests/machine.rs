//! A world in which a machine was bought, and then nobody of ours is there any more: what is done to its Node is done
//! by the cluster alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::settings::Mode;
use crate::sim::api_server::{DeleteOptions, Key, Resource};
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::scene::{Pool, node_class};
use crate::sim::{Embedded, Options};

/// The scheduler of pods that are bound by hand.
pub(super) const BY_HAND: &str = "by-hand";

/// A world with one machine of four processors, on which the pod `first` runs.
pub(super) struct Scene {
    pub(super) world: Embedded,
    pub(super) node: Key,
}

fn pod_key(name: &str) -> Key {
    Key::new(Resource::Pod, "default", name)
}

/// The spec of a pod of so many processors.
pub(super) fn spec(cpu: &str) -> Value {
    let requests = json!({ "cpu": cpu, "memory": "64Mi" });
    json!({ "containers": [{ "name": "main", "resources": { "requests": requests } }] })
}

/// A spec whose pods are bound by hand.
pub(super) fn by_hand(mut spec: Value) -> Value {
    spec["schedulerName"] = json!(BY_HAND);
    spec
}

pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Scene {
    pub(super) async fn begin() -> Self {
        let world = Embedded::begin(Options::calm(5));
        world.apply(node_class("default", "embedded", 20)).unwrap();
        let pool = Pool {
            name: "general",
            node_class: "default",
            families: &["c5"],
            capacity_types: &["on-demand"],
            taint: None,
            empty_seconds: 10,
            weight: None,
            most_nodes: None,
        };
        let mut pool = pool.manifest();
        pool["spec"]["template"]["spec"]["requirements"][0] = json!({
            "key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["c5.xlarge"],
        });
        world.apply(pool).unwrap();
        let process = world.start(ProcessOptions::new(5, default_settings(Mode::Run, 1)));
        let mut scene = Self {
            world,
            node: Key::new(Resource::Node, "", ""),
        };
        scene.pod("first", &spec("1"));
        for _second in 0..120 {
            if scene.phase("first") == "Running" {
                break;
            }
            pass(1).await;
        }
        // It is usable, and nothing of the controllers is on its way.
        pass(5).await;
        process.stop().await;
        let name = scene.of_pod("first", "/spec/nodeName");
        scene.node.name = name.as_str().expect("the pod has a node").to_owned();
        scene
    }

    pub(super) fn pod(&self, name: &str, spec: &Value) {
        self.world
            .apply(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": "default" },
                "spec": spec,
            }))
            .unwrap();
    }

    /// Somebody who asks nobody binds every pod to the Node that is bound by hand and has none.
    pub(super) fn bind_by_hand(&self) {
        let mut waiting = Vec::new();
        self.world.api.each(Resource::Pod, |key, pod| {
            let spec = &pod["spec"];
            if spec["schedulerName"] == BY_HAND && spec["nodeName"].is_null() {
                waiting.push(key.clone());
            }
        });
        assert!(!waiting.is_empty(), "nobody waits");
        for key in waiting {
            self.world
                .api
                .bind("somebody", &key, &self.node.name)
                .unwrap();
        }
    }

    /// A user deletes a pod.
    pub(super) fn delete(&self, pod: &str) {
        let options = DeleteOptions::default();
        self.world
            .api
            .delete("user", &pod_key(pod), &options)
            .unwrap();
    }

    pub(super) fn of_pod(&self, name: &str, pointer: &str) -> Value {
        let pod = self.world.api.get(&pod_key(name)).unwrap_or_default();
        pod.pointer(pointer).cloned().unwrap_or_default()
    }

    pub(super) fn phase(&self, pod: &str) -> String {
        let phase = self.of_pod(pod, "/status/phase");
        phase.as_str().unwrap_or("gone").to_owned()
    }

    pub(super) fn change_node(&self, change: impl FnOnce(&mut Value)) {
        self.world
            .api
            .change("user", &self.node, None, change)
            .unwrap();
    }

    pub(super) fn set_taints(&self, taints: Value) {
        self.change_node(|node| node["spec"]["taints"] = taints);
    }
}
