//! Objects that worlds are furnished with: node classes, NodePools and workloads.
//!
//! Given a few figures; given back manifests as a user would write them.

use serde_json::{Value, json};

use super::cluster::RUN_SECONDS;
use super::ec2::account::DISCOVERY;

/// A node class that finds what the account of the cluster has, with a root volume of so many GiB.
pub fn node_class(name: &str, cluster: &str, root_gib: u32) -> Value {
    let tags = json!([{ "tags": { DISCOVERY: cluster } }]);
    json!({
        "apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass",
        "metadata": { "name": name },
        "spec": {
            "amiFamily": "AL2023",
            "amiSelectorTerms": tags,
            "subnetSelectorTerms": tags,
            "securityGroupSelectorTerms": tags,
            "instanceProfile": "node",
            "blockDeviceMappings": [{
                "deviceName": "/dev/xvda", "rootVolume": true,
                "ebs": { "volumeSize": format!("{root_gib}Gi"), "volumeType": "gp3", "encrypted": true },
            }],
        },
    })
}

/// What a NodePool allows.
#[derive(Debug, Clone)]
pub struct Pool<'text> {
    /// Its name.
    pub name: &'text str,
    /// Its node class.
    pub node_class: &'text str,
    /// Instance families.
    pub families: &'text [&'text str],
    /// Capacity types.
    pub capacity_types: &'text [&'text str],
    /// Key and value of a taint of effect NoSchedule.
    pub taint: Option<(&'text str, &'text str)>,
    /// Seconds after which an empty node goes.
    pub empty_seconds: u32,
    /// Higher is tried first.
    pub weight: Option<u32>,
    /// The most nodes.
    pub most_nodes: Option<u32>,
}

impl Pool<'_> {
    /// Its manifest.
    pub fn manifest(&self) -> Value {
        let mut template = json!({
            "nodeClassRef": { "group": "tonnage.dev", "kind": "EC2NodeClass", "name": self.node_class },
            "requirements": [
                { "key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": self.families },
                { "key": "karpenter.sh/capacity-type", "operator": "In", "values": self.capacity_types },
            ],
            "expireAfter": "Never",
        });
        if let Some((key, value)) = self.taint {
            template["taints"] = json!([{ "key": key, "value": value, "effect": "NoSchedule" }]);
        }
        let mut spec = json!({
            "template": { "spec": template },
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": format!("{}s", self.empty_seconds),
            },
        });
        if let Some(weight) = self.weight {
            spec["weight"] = json!(weight);
        }
        if let Some(most) = self.most_nodes {
            spec["limits"] = json!({ "nodes": most.to_string() });
        }
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": { "name": self.name }, "spec": spec,
        })
    }
}

/// What a workload's pods ask for.
#[derive(Debug, Clone)]
pub struct Work<'text> {
    /// The workload's name.
    pub name: &'text str,
    /// For example `500m`.
    pub cpu: &'text str,
    /// For example `4Gi`.
    pub memory: &'text str,
    /// GPUs of each pod.
    pub gpus: u32,
    /// The taint that its pods tolerate.
    pub tolerates: Option<&'text str>,
    /// Value of the label `spark-role`, as Spark sets it.
    pub role: Option<&'text str>,
    /// Pods at a time.
    pub pods: u32,
    /// Seconds that each pod runs; `None` is for ever.
    pub seconds: Option<u32>,
}

impl Work<'_> {
    fn template(&self) -> Value {
        let mut container = json!({
            "name": "main", "image": "example.invalid/work:1",
            "resources": { "requests": { "cpu": self.cpu, "memory": self.memory } },
        });
        if self.gpus > 0 {
            container["resources"]["limits"] = json!({ "nvidia.com/gpu": self.gpus });
        }
        let mut metadata = json!({ "labels": { "app": self.name } });
        if let Some(role) = self.role {
            metadata["labels"]["spark-role"] = json!(role);
        }
        if let Some(seconds) = self.seconds {
            metadata["annotations"] = json!({ RUN_SECONDS: seconds.to_string() });
        }
        let mut tolerations = Vec::new();
        if let Some(key) = self.tolerates {
            tolerations.push(json!({ "key": key, "operator": "Exists", "effect": "NoSchedule" }));
        }
        json!({
            "metadata": metadata,
            "spec": { "tolerations": tolerations, "containers": [container] },
        })
    }

    /// A Job of so many pods, all at once, that goes a while after it has ended.
    pub fn job(&self) -> Value {
        let mut template = self.template();
        template["spec"]["restartPolicy"] = json!("Never");
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": self.name, "namespace": "default" },
            "spec": {
                "parallelism": self.pods, "completions": self.pods, "backoffLimit": 100,
                "ttlSecondsAfterFinished": 60, "template": template,
            },
        })
    }

    /// A Deployment of so many pods.
    pub fn deployment(&self) -> Value {
        let mut template = self.template();
        template["spec"]["terminationGracePeriodSeconds"] = json!(1);
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": self.name, "namespace": "default" },
            "spec": {
                "replicas": self.pods,
                "selector": { "matchLabels": { "app": self.name } },
                "template": template,
            },
        })
    }
}
