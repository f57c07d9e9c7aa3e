//! What a machine's kubelet learns from the user data.
//!
//! Given the text of the user data; given back labels, taints and settings of the last NodeConfig in
//! it, or nothing when there is none: such a machine never joins.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::observe::quantity;
use crate::model::resources::Resources;

const NODE_CONFIG: &str = "application/node.eks.aws";

/// What a kubelet is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KubeletSettings {
    pub(super) labels: BTreeMap<String, String>,
    /// As the API has them.
    pub(super) taints: Vec<Value>,
    pub(super) max_pods: i64,
    pub(super) kube_reserved: Resources,
    pub(super) system_reserved: Resources,
}

/// Reads user data.
pub(super) fn read(user_data: &str) -> Option<KubeletSettings> {
    let part = user_data.rsplit(NODE_CONFIG).next()?;
    if part.len() == user_data.len() {
        return None;
    }
    let (_headers, rest) = part
        .split_once("\n\n")
        .or_else(|| part.split_once("\r\n\r\n"))?;
    let body: Vec<&str> = rest
        .lines()
        .take_while(|line| !line.starts_with("--"))
        .collect();
    let config: Value = serde_saphyr::from_str(&body.join("\n")).ok()?;
    let kubelet = &config["spec"]["kubelet"];
    let flags = kubelet["flags"].as_array();
    let labels = flags
        .into_iter()
        .flatten()
        .filter_map(|flag| flag.as_str()?.strip_prefix("--node-labels="))
        .flat_map(|list| list.split(','))
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let config = &kubelet["config"];
    Some(KubeletSettings {
        labels,
        taints: config["registerWithTaints"]
            .as_array()
            .cloned()
            .unwrap_or_default(),
        max_pods: config["maxPods"].as_i64().unwrap_or(110),
        kube_reserved: amounts(&config["kubeReserved"]),
        system_reserved: amounts(&config["systemReserved"]),
    })
}

fn amounts(list: &Value) -> Resources {
    let list = serde_json::from_value(list.clone()).ok();
    quantity::amounts(list.as_ref())
}
