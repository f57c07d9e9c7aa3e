//! User data of Amazon Linux 2023: a MIME document whose last part is nodeadm's NodeConfig.
//!
//! Given: a [`Bootstrap`]. Given back: the user's own parts first, ours last, because nodeadm merges
//! NodeConfigs in order and the later wins. Capacity is planned with the numbers that are written
//! here, so what the plan saw and what the kubelet does are the same.

use serde_json::{Map, Value, json};

use super::{Bootstrap, UserDataError, kubelet_labels, mime, registration_taints, within_limit};
use crate::model::quantity;
use crate::model::resources::{CPU, EPHEMERAL_STORAGE, MEMORY};

const NODE_CONFIG: &str = "application/node.eks.aws";
const SHELL_SCRIPT: &str = "text/x-shellscript; charset=\"us-ascii\"";
const CLOUD_CONFIG: &str = "text/cloud-config; charset=\"us-ascii\"";

/// The user data of a node.
pub fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, UserDataError> {
    let mut parts = own(bootstrap.custom)?;
    let node_config = serde_saphyr::to_string(&node_config(bootstrap))
        .map_err(|error| UserDataError::Unwritable(error.to_string()))?;
    parts.push(mime::Part::new(NODE_CONFIG, &node_config));
    within_limit(mime::write(&parts))
}

/// The user's own parts.
pub(super) fn own(text: Option<&str>) -> Result<Vec<mime::Part>, UserDataError> {
    match text {
        Some(own) if !own.trim().is_empty() => own_parts(own),
        _ => Ok(Vec::new()),
    }
}

/// A MIME document gives its parts; a NodeConfig, a cloud-config or a script is one part.
fn own_parts(own: &str) -> Result<Vec<mime::Part>, UserDataError> {
    if mime::is_multipart(own) {
        return mime::parse(own).map_err(UserDataError::Unreadable);
    }
    let content_type = if own.starts_with("#cloud-config") {
        CLOUD_CONFIG
    } else if !own.starts_with("#!") && is_node_config(own) {
        NODE_CONFIG
    } else {
        SHELL_SCRIPT
    };
    Ok(vec![mime::Part::new(content_type, own)])
}

fn is_node_config(own: &str) -> bool {
    own.lines().any(|line| {
        line.strip_prefix("apiVersion:").is_some_and(|version| {
            version
                .trim()
                .trim_matches(['"', '\''])
                .starts_with("node.eks.aws/")
        })
    })
}

fn node_config(bootstrap: &Bootstrap<'_>) -> Value {
    let cluster = bootstrap.cluster;
    let mut identity = json!({
        "name": cluster.name,
        "apiServerEndpoint": cluster.endpoint,
        "certificateAuthority": cluster.certificate_authority,
    });
    if let (Value::Object(fields), false) = (&mut identity, cluster.service_cidr.is_empty()) {
        fields.insert("cidr".to_owned(), json!(cluster.service_cidr));
    }
    let mut spec = json!({
        "cluster": identity,
        "kubelet": {
            "config": kubelet_config(bootstrap),
            "flags": [format!("--node-labels={}", label_list(bootstrap))],
        },
    });
    if let (Value::Object(fields), true) = (&mut spec, bootstrap.instance_store_raid0) {
        fields.insert(
            "instance".to_owned(),
            json!({ "localStorage": { "strategy": "RAID0" } }),
        );
    }
    json!({
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": spec,
    })
}

fn label_list(bootstrap: &Bootstrap<'_>) -> String {
    kubelet_labels(&bootstrap.labels)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The user's fields, with those that the plan depends on made explicit.
fn kubelet_config(bootstrap: &Bootstrap<'_>) -> Map<String, Value> {
    let mut config = bootstrap.kubelet.clone();
    config.insert("maxPods".to_owned(), json!(bootstrap.max_pods));
    let reserved = config
        .entry("kubeReserved")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(reserved) = reserved {
        for resource in [CPU, EPHEMERAL_STORAGE, MEMORY] {
            let amount = bootstrap.kube_reserved.get(resource);
            reserved
                .entry(resource)
                .or_insert_with(|| json!(quantity::text(resource, amount)));
        }
    }
    let taints: Vec<Value> = registration_taints(&bootstrap.taints)
        .into_iter()
        .map(|taint| {
            json!({ "key": taint.key, "value": taint.value, "effect": taint.effect.as_str() })
        })
        .collect();
    config.insert("registerWithTaints".to_owned(), json!(taints));
    if let (Some(address), false) = (
        bootstrap.cluster.dns_address,
        config.contains_key("clusterDNS"),
    ) {
        config.insert("clusterDNS".to_owned(), json!([address.to_string()]));
    }
    config
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cloud::cluster::ClusterFacts;
    use crate::model::resources::Resources;
    use crate::model::taint::{Taint, TaintEffect};

    fn cluster() -> ClusterFacts {
        ClusterFacts {
            name: "blue".to_owned(),
            endpoint: "https://blue.example".to_owned(),
            certificate_authority: "Q0E=".to_owned(),
            service_cidr: "10.100.0.0/16".to_owned(),
            dns_address: None,
        }
    }

    fn bootstrap<'call>(
        cluster: &'call ClusterFacts,
        kubelet: &'call Map<String, Value>,
        custom: Option<&'call str>,
    ) -> Bootstrap<'call> {
        Bootstrap {
            cluster,
            labels: BTreeMap::from([
                ("karpenter.sh/nodepool".to_owned(), "executors".to_owned()),
                ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            ]),
            taints: vec![
                Taint::new("dedicated", "executor", TaintEffect::NoSchedule),
                Taint::new("example.com/agent", "", TaintEffect::NoSchedule),
            ],
            kubelet,
            max_pods: 58,
            kube_reserved: Resources::new()
                .with(CPU, 80)
                .with(MEMORY, 893 << 20)
                .with(EPHEMERAL_STORAGE, 1 << 30),
            instance_store_raid0: false,
            custom,
        }
    }

    #[test]
    fn the_node_joins_with_labels_taints_and_planned_numbers() {
        let cluster = cluster();
        let text = user_data(&bootstrap(&cluster, &Map::new(), None)).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_users_parts_come_first_and_their_kubelet_fields_stay() {
        let cluster = cluster();
        let kubelet: Map<String, Value> = serde_json::from_value(json!({
            "kubeReserved": { "cpu": "250m" },
            "imageGCHighThresholdPercent": 70,
            "clusterDNS": ["10.0.0.10"],
        }))
        .unwrap();
        let mut bootstrap = bootstrap(&cluster, &kubelet, Some("#!/bin/bash\necho own\n"));
        bootstrap.instance_store_raid0 = true;
        let text = user_data(&bootstrap).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_users_own_node_config_is_a_part_of_its_kind() {
        let own = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {}\n";
        let parts = own_parts(own).unwrap();
        assert_eq!(parts[0].headers, ["Content-Type: application/node.eks.aws"]);
        let parts = own_parts("yum install -y jq\n").unwrap();
        assert_eq!(
            parts[0].headers,
            ["Content-Type: text/x-shellscript; charset=\"us-ascii\""]
        );
    }

    #[test]
    fn too_much_is_refused_with_the_size() {
        let cluster = cluster();
        let own = "#!/bin/bash\n".to_owned() + &"#".repeat(17_000);
        let error = user_data(&bootstrap(&cluster, &Map::new(), Some(&own))).unwrap_err();
        assert!(error.to_string().contains("EC2 takes 16384"), "{error}");
    }
}
