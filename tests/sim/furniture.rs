//! What a world has before anything happens in it, drawn for each seed: a node class, NodePools, and what runs on every
//! Node.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::scene::{Pool, node_class};
use tonnage::world::RandomStream;

use crate::limits::{self, Limits};
use crate::phases::holds;
use crate::trial::{CLUSTER, LIMITED, Trial};

/// The families that the region sells.
pub(crate) const FAMILIES: [&str; 3] = ["c5", "m5", "t3"];
/// The key of the taint of the NodePool that has limits.
pub(crate) const DEDICATED: &str = "dedicated";
/// The DaemonSet that some worlds have.
const AGENT: &str = "agent";
/// What the names of its pods begin with.
pub(crate) const AGENT_PODS: &str = "default/agent-";
/// The startup taint that Nodes have in some worlds.
const STARTUP: &str = "example.com/starting";
/// How long after its Node is ready whoever takes it off does, seconds.
const STARTS_WITHIN: u64 = 5;
/// How long pods have to leave a machine whose claim is deleted, where a NodePool says it.
const LEAVE_WITHIN: &str = "3m";

/// What there is.
#[derive(Debug)]
pub(crate) struct Furniture {
    /// Node class, NodePools and DaemonSets.
    pub(crate) manifests: Vec<Value>,
    /// Those of the NodePool that has some.
    pub(crate) limits: Limits,
}

impl Furniture {
    /// That of one world.
    pub(crate) fn draw(dice: &RandomStream) -> Self {
        let limits = Limits::draw(dice);
        let mut manifests = vec![node_class("default", CLUSTER, 20), general(dice)];
        if dice.below(2) == 0 {
            // What is liked better has less to choose from.
            manifests.push(
                Pool {
                    families: &["m5"],
                    weight: Some(10),
                    ..pool("preferred")
                }
                .manifest(),
            );
        }
        let mut limited = Pool {
            families: limits::FAMILIES,
            taint: Some((DEDICATED, "limited")),
            ..pool(LIMITED)
        }
        .manifest();
        limited["spec"]["limits"] = limits.manifest();
        manifests.push(limited);
        if dice.below(2) == 0 {
            manifests.push(agent());
        }
        Self { manifests, limits }
    }
}

fn pool(name: &str) -> Pool<'_> {
    Pool {
        name,
        node_class: "default",
        families: &FAMILIES,
        capacity_types: &["spot", "on-demand"],
        taint: None,
        empty_seconds: 10,
        weight: None,
        most_nodes: None,
    }
}

/// The NodePool that every other pod may use.
fn general(dice: &RandomStream) -> Value {
    let mut general = pool("general").manifest();
    let template = &mut general["spec"]["template"]["spec"];
    if dice.below(4) == 0 {
        template["startupTaints"] = json!([{ "key": STARTUP, "effect": "NoSchedule" }]);
    }
    if dice.below(4) == 0 {
        template["terminationGracePeriod"] = json!(LEAVE_WITHIN);
    }
    general
}

fn agent() -> Value {
    let tolerations = json!([{ "key": DEDICATED, "operator": "Exists", "effect": "NoSchedule" }]);
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": AGENT, "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": AGENT } },
            "template": {
                "metadata": { "labels": { "app": AGENT } },
                "spec": {
                    "tolerations": tolerations,
                    "containers": [{
                        "name": "main", "image": "example.invalid/agent:1",
                        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                    }],
                },
            },
        },
    })
}

/// Nodes that are ready and have the startup taint, and when it is taken off, in seconds from the beginning.
pub(crate) type Starting = BTreeMap<String, u64>;

impl Trial {
    /// Whoever prepares Nodes takes their startup taint off a while after they are ready.
    pub(crate) fn take_off_startup_taints(&mut self) {
        let mut starting = BTreeSet::new();
        self.world.api.each(Resource::Node, |key, node| {
            if has_startup_taint(node) && holds(node, "Ready") {
                starting.insert(key.name.clone());
            }
        });
        self.starting.retain(|name, _due| starting.contains(name));
        let second = self.second;
        for name in starting {
            let due = second + STARTS_WITHIN;
            let due = *self.starting.entry(name.clone()).or_insert(due);
            if second >= due {
                self.take_off(&name);
            }
        }
    }

    fn take_off(&self, node: &str) {
        let key = Key::new(Resource::Node, "", node);
        let change = |node: &mut Value| {
            if let Some(taints) = node["spec"]["taints"].as_array_mut() {
                taints.retain(|taint| taint["key"] != STARTUP);
            }
        };
        // It may be gone by now.
        self.world.api.change(AGENT, &key, None, change).ok();
    }
}

fn has_startup_taint(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array();
    let mut taints = taints.into_iter().flatten();
    taints.any(|taint| taint["key"] == STARTUP)
}
