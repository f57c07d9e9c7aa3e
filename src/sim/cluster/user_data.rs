//! What a machine's kubelet learns from the user data.
//!
//! Given the text of the user data; given back labels, taints and settings of the last NodeConfig in
//! it, or of Bottlerocket's settings, or nothing when it is neither: such a machine never joins.

use std::collections::BTreeMap;

use serde_json::{Value, json};

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
    read_node_config(user_data).or_else(|| read_bottlerocket(user_data))
}

fn read_bottlerocket(user_data: &str) -> Option<KubeletSettings> {
    let document: Value = toml::from_str(user_data).ok()?;
    let settings = &document["settings"]["kubernetes"];
    // Without them the machine boots, and knows of no cluster.
    settings["api-server"].as_str()?;
    settings["cluster-certificate"].as_str()?;
    let entries = |name: &str| settings[name].as_object().into_iter().flatten();
    let labels = entries("node-labels")
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let taints = entries("node-taints")
        .flat_map(|(key, values)| {
            values
                .as_array()
                .into_iter()
                .flatten()
                .map(move |value| (key, value))
        })
        .filter_map(|(key, value)| {
            let (value, effect) = value.as_str()?.split_once(':')?;
            Some(json!({ "key": key, "value": value, "effect": effect }))
        })
        .collect();
    Some(KubeletSettings {
        labels,
        taints,
        max_pods: settings["max-pods"].as_i64().unwrap_or(110),
        kube_reserved: amounts(&settings["kube-reserved"]),
        system_reserved: amounts(&settings["system-reserved"]),
    })
}

fn read_node_config(user_data: &str) -> Option<KubeletSettings> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::class::Family;
    use crate::cloud::cluster::ClusterFacts;
    use crate::cloud::user_data::{self, Bootstrap};
    use crate::model::resources::{CPU, MEMORY};
    use crate::model::taint::{Taint, TaintEffect};

    #[test]
    fn every_family_that_joins_tells_its_kubelet_the_same() {
        let cluster = ClusterFacts {
            name: "blue".to_owned(),
            endpoint: "https://blue.example".to_owned(),
            certificate_authority: "Q0E=".to_owned(),
            service_cidr: "10.100.0.0/16".to_owned(),
            dns_address: None,
        };
        let of = |family: Family| {
            let text = user_data::of_family(
                family,
                &Bootstrap {
                    cluster: &cluster,
                    labels: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
                    taints: vec![Taint::new("dedicated", "x", TaintEffect::NoSchedule)],
                    kubelet: &serde_json::Map::new(),
                    max_pods: 58,
                    kube_reserved: Resources::new().with(CPU, 80).with(MEMORY, 893 << 20),
                    instance_store_raid0: true,
                    custom: None,
                },
            );
            read(&text.unwrap())
        };
        let told = of(Family::Bottlerocket).unwrap();
        assert_eq!(told.labels["team"], "data");
        assert_eq!(told.max_pods, 58);
        assert_eq!(told.taints.len(), 2);
        assert_eq!(Some(told), of(Family::Al2023));
        assert_eq!(of(Family::Custom), None);
    }
}
