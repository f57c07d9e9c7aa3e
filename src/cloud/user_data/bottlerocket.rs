//! User data of Bottlerocket: one TOML document of settings.
//!
//! Given: a [`Bootstrap`]. Given back: the user's own settings with ours laid over them. Where both
//! set the same value ours wins, because capacity is planned with the numbers that are written here;
//! labels and taints of both are kept. Nothing is run on the machine but what Bottlerocket's own API
//! offers.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::map::Entry;
use toml::{Table, Value};

use super::{Bootstrap, UserDataError, kubelet_labels, registration_taints, within_limit};
use crate::model::quantity;
use crate::model::resources::{CPU, EPHEMERAL_STORAGE, MEMORY};

/// Where containers, pods and their logs keep their data: what moves to joined instance stores. Named
/// one by one because older versions of Bottlerocket have no default.
const SCRATCH_FOLDERS: [&str; 3] = ["/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"];
/// First in the order of names, which is the order in which Bottlerocket runs them.
const STORAGE_COMMAND: &str = "000-mount-instance-storage";

/// The user data of a node.
pub fn user_data(bootstrap: &Bootstrap<'_>) -> Result<String, UserDataError> {
    let mut document = own(bootstrap.custom)?;
    let taints = taints(
        bootstrap,
        at(&document, &["settings", "kubernetes", "node-taints"]),
    );
    let mut kubernetes = kubernetes(bootstrap);
    kubernetes.insert("node-taints".to_owned(), Value::Table(taints));
    let mut settings = Table::new();
    settings.insert("kubernetes".to_owned(), Value::Table(kubernetes));
    if bootstrap.instance_store_raid0 {
        let commands = Table::from_iter([(STORAGE_COMMAND.to_owned(), join_instance_stores())]);
        settings.insert("bootstrap-commands".to_owned(), Value::Table(commands));
    }
    lay_over(
        &mut document,
        Table::from_iter([("settings".to_owned(), Value::Table(settings))]),
    );
    let text =
        toml::to_string(&document).map_err(|error| UserDataError::Unwritable(error.to_string()))?;
    within_limit(text)
}

/// The user's own settings.
pub(super) fn own(text: Option<&str>) -> Result<Table, UserDataError> {
    let text = text.unwrap_or("");
    text.parse::<Table>().map_err(|error| {
        // Not the error's own text: it quotes the document, which may hold what nobody should read.
        let before = error.span().map_or(0, |span| span.start);
        let line = text
            .bytes()
            .take(before)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1;
        UserDataError::Unreadable(format!(
            "Bottlerocket takes TOML, and line {line} is none ({}): write settings as in \
             [settings.host-containers.admin]",
            error.message()
        ))
    })
}

/// Ours wins where both have a value; tables are laid over each other key by key.
fn lay_over(into: &mut Table, ours: Table) {
    for (key, value) in ours {
        match into.entry(key) {
            Entry::Vacant(free) => {
                free.insert(value);
            }
            Entry::Occupied(mut taken) => match (taken.get_mut(), value) {
                (Value::Table(theirs), Value::Table(ours)) => lay_over(theirs, ours),
                (slot, value) => *slot = value,
            },
        }
    }
}

fn at<'document>(document: &'document Table, path: &[&str]) -> Option<&'document Table> {
    path.iter().try_fold(document, |table, key| {
        table.get(*key).and_then(Value::as_table)
    })
}

/// Everything of `settings.kubernetes` but the taints.
fn kubernetes(bootstrap: &Bootstrap<'_>) -> Table {
    let cluster = bootstrap.cluster;
    let mut settings = Table::from_iter([
        (
            "api-server".to_owned(),
            Value::from(cluster.endpoint.as_str()),
        ),
        (
            "cluster-certificate".to_owned(),
            Value::from(cluster.certificate_authority.as_str()),
        ),
        (
            "cluster-name".to_owned(),
            Value::from(cluster.name.as_str()),
        ),
        ("max-pods".to_owned(), Value::from(bootstrap.max_pods)),
        ("node-labels".to_owned(), Value::Table(labels(bootstrap))),
        (
            "kube-reserved".to_owned(),
            Value::Table(kube_reserved(bootstrap)),
        ),
    ]);
    let dns = bootstrap
        .kubelet
        .get("clusterDNS")
        .and_then(|addresses| addresses.get(0));
    let dns = dns
        .and_then(Json::as_str)
        .map(str::to_owned)
        .or_else(|| Some(cluster.dns()?.to_string()));
    if let Some(address) = dns {
        settings.insert("cluster-dns-ip".to_owned(), Value::from(address));
    }
    for (field, setting) in [
        ("systemReserved", "system-reserved"),
        ("evictionHard", "eviction-hard"),
        ("evictionSoft", "eviction-soft"),
        ("evictionSoftGracePeriod", "eviction-soft-grace-period"),
    ] {
        let entries = texts(bootstrap.kubelet.get(field));
        if !entries.is_empty() {
            settings.insert(setting.to_owned(), Value::Table(entries));
        }
    }
    for (field, setting) in [
        (
            "imageGCHighThresholdPercent",
            "image-gc-high-threshold-percent",
        ),
        (
            "imageGCLowThresholdPercent",
            "image-gc-low-threshold-percent",
        ),
    ] {
        // Older versions of Bottlerocket take these as text only.
        if let Some(percent) = bootstrap.kubelet.get(field) {
            settings.insert(setting.to_owned(), Value::from(text(percent)));
        }
    }
    let grace = bootstrap.kubelet.get("evictionMaxPodGracePeriod");
    if let Some(seconds) = grace.and_then(Json::as_i64) {
        settings.insert(
            "eviction-max-pod-grace-period".to_owned(),
            Value::from(seconds),
        );
    }
    if let Some(enforced) = bootstrap.kubelet.get("cpuCFSQuota").and_then(Json::as_bool) {
        settings.insert("cpu-cfs-quota-enforced".to_owned(), Value::from(enforced));
    }
    settings
}

fn labels(bootstrap: &Bootstrap<'_>) -> Table {
    kubelet_labels(&bootstrap.labels)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect()
}

/// What the user reserved, and the planned amounts of the rest.
fn kube_reserved(bootstrap: &Bootstrap<'_>) -> Table {
    let mut reserved = texts(bootstrap.kubelet.get("kubeReserved"));
    for resource in [CPU, EPHEMERAL_STORAGE, MEMORY] {
        let amount = bootstrap.kube_reserved.get(resource);
        reserved
            .entry(resource)
            .or_insert_with(|| Value::from(quantity::text(resource, amount)));
    }
    reserved
}

/// Ours by key as `value:Effect`, beside what the user's own settings have under the same key.
fn taints(bootstrap: &Bootstrap<'_>, theirs: Option<&Table>) -> Table {
    let mut by_key: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for taint in registration_taints(&bootstrap.taints) {
        let of_key = by_key.entry(taint.key.clone()).or_insert_with(|| {
            match theirs.and_then(|theirs| theirs.get(&taint.key)) {
                Some(Value::Array(values)) => values.clone(),
                // The form of early versions.
                Some(Value::String(value)) => vec![Value::from(value.as_str())],
                _ => Vec::new(),
            }
        });
        let written = Value::from(format!("{}:{}", taint.value, taint.effect.as_str()));
        if !of_key.contains(&written) {
            of_key.push(written);
        }
    }
    by_key
        .into_iter()
        .map(|(key, values)| (key, Value::Array(values)))
        .collect()
}

/// Instance stores become one file system that carries what pods write.
fn join_instance_stores() -> Value {
    let command = |words: &[&str]| -> Value {
        let words = words.iter().map(|word| Value::from(*word));
        Value::Array(
            [Value::from("apiclient"), Value::from("ephemeral-storage")]
                .into_iter()
                .chain(words)
                .collect(),
        )
    };
    let bind: Vec<&str> = ["bind", "--dirs"]
        .into_iter()
        .chain(SCRATCH_FOLDERS)
        .collect();
    Value::Table(Table::from_iter([
        (
            "commands".to_owned(),
            Value::Array(vec![command(&["init"]), command(&bind)]),
        ),
        // A node that promised this space and does not have it would fail its pods one by one.
        ("essential".to_owned(), Value::from(true)),
        ("mode".to_owned(), Value::from("always")),
    ]))
}

/// A map of the kubelet's configuration with its values as text.
fn texts(map: Option<&Json>) -> Table {
    map.and_then(Json::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), Value::from(text(value))))
        .collect()
}

fn text(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::cloud::cluster::ClusterFacts;
    use crate::model::resources::Resources;
    use crate::model::taint::{Taint, TaintEffect};

    fn written(kubelet: &Json, raid0: bool, own: Option<&str>) -> Result<String, UserDataError> {
        let cluster = ClusterFacts {
            name: "blue".to_owned(),
            endpoint: "https://blue.example".to_owned(),
            certificate_authority: "Q0E=".to_owned(),
            service_cidr: "10.100.0.0/16".to_owned(),
            dns_address: None,
        };
        let kubelet: Map<String, Json> = kubelet.as_object().cloned().unwrap_or_default();
        user_data(&Bootstrap {
            cluster: &cluster,
            labels: BTreeMap::from([
                ("karpenter.sh/nodepool".to_owned(), "executors".to_owned()),
                ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            ]),
            taints: vec![
                Taint::new("dedicated", "executor", TaintEffect::NoSchedule),
                Taint::new("example.com/agent", "", TaintEffect::NoExecute),
            ],
            kubelet: &kubelet,
            max_pods: 58,
            kube_reserved: Resources::new()
                .with(CPU, 80)
                .with(MEMORY, 893 << 20)
                .with(EPHEMERAL_STORAGE, 1 << 30),
            instance_store_raid0: raid0,
            custom: own,
        })
    }

    #[test]
    fn the_node_joins_with_labels_taints_and_planned_numbers() {
        insta::assert_snapshot!(written(&json!({}), false, None).unwrap());
    }

    #[test]
    fn the_users_settings_stay_and_ours_win() {
        let kubelet = json!({
            "clusterDNS": ["10.0.0.10"],
            "kubeReserved": { "cpu": "250m" },
            "systemReserved": { "memory": "512Mi" },
            "evictionHard": { "memory.available": "5%" },
            "evictionSoft": { "memory.available": "10%" },
            "evictionSoftGracePeriod": { "memory.available": "1m30s" },
            "evictionMaxPodGracePeriod": 60,
            "imageGCHighThresholdPercent": 70,
            "imageGCLowThresholdPercent": 60,
            "cpuCFSQuota": false,
        });
        let own = "settings.kubernetes.max-pods = 9\n\
                   [settings.host-containers.admin]\nenabled = true\n\
                   [settings.kubernetes.node-labels]\n\"team\" = \"data\"\n\
                   [settings.kubernetes.node-taints]\n\"dedicated\" = [\"other:NoExecute\"]\n\
                   \"mine\" = \"x:NoSchedule\"\n\"example.com/agent\" = \":NoExecute\"\n";
        insta::assert_snapshot!(written(&kubelet, true, Some(own)).unwrap());
    }

    #[test]
    fn what_is_no_toml_names_the_line_and_shows_nothing_of_it() {
        let own = "[settings.motd]\nsecret\n";
        let error = written(&json!({}), false, Some(own))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("spec.userData: Bottlerocket takes TOML, and line 2"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn too_much_is_refused_with_the_size() {
        let own = format!("settings.motd = \"{}\"\n", "x".repeat(17_000));
        let error = written(&json!({}), false, Some(&own)).unwrap_err();
        assert!(
            matches!(error, UserDataError::TooLarge(17_000..)),
            "{error}"
        );
    }
}
