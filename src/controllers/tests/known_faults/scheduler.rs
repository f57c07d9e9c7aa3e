//! kube-scheduler, and the DaemonSets that come with every node.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::sim::api_server::Resource::{Node, Pod};

impl Stage {
    /// A small pod runs, and one of one core comes that another scheduler has in its hands, which says that it finds no
    /// node.
    async fn a_picky_pod_comes_where_another_runs(&self) {
        self.small("a", "1", &json!({}));
        self.until(120, "it runs", |stage| stage.running_pods() == 1)
            .await;
        self.pod_with(
            "picky",
            &json!({
                "schedulerName": "picky-scheduler",
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            }),
        );
        let says = |pod: &mut Value| {
            pod["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": "2027-01-15T08:00:00Z",
            }]);
        };
        let key = Self::key(Pod, "picky");
        self.world
            .api
            .change("picky-scheduler", &key, Some("status"), says)
            .unwrap();
    }

    /// A DaemonSet of one core on machines of either family.
    fn daemon_of_either(&self, families: [&str; 2]) {
        let term = |family: &str| {
            json!({ "matchExpressions": [
                {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": [family]},
            ]})
        };
        let spec = json!({
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": families.map(term),
            }}},
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "64Mi"}}}],
        });
        self.world
            .apply(json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": "agent", "namespace": "default"},
                "spec": {
                    "selector": {"matchLabels": {"app": "agent"}},
                    "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec},
                },
            }))
            .unwrap();
    }
}

/// Elsewhere a plan counts on kube-scheduler filling one node after the other, which it does not; here pods run
/// where it puts them, and nothing is bought beyond what they need.
#[tokio::test(start_paused = true)]
async fn pods_that_kube_scheduler_puts_elsewhere_than_planned_cost_nothing_more() {
    let stage = Stage::new();
    let _process = stage.run();
    for pod in ["a", "b"] {
        stage.small(pod, "2500m", &json!({}));
    }
    stage
        .until(120, "both pods run", |stage| stage.running_pods() == 2)
        .await;
    for pod in ["c", "d"] {
        stage.small(pod, "1", &json!({}));
    }
    stage
        .until(30, "they run in the room that is there", |stage| {
            stage.running_pods() == 4
        })
        .await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stage.machines().len(), 2);
}

/// Elsewhere a pod that its scheduler keeps off a node, for reasons that only it knows, is planned onto that node
/// for ever; here it is told after a while, and a machine is bought for it, which its scheduler does take.
#[tokio::test(start_paused = true)]
async fn a_pod_that_its_scheduler_keeps_off_a_node_gets_another() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.a_picky_pod_comes_where_another_runs().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.small("b", "500m", &json!({}));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(
        stage.machines().len(),
        1,
        "there is room, and nobody is blamed yet"
    );
    stage
        .until(180, "another machine joins and is usable", |stage| {
            let nodes = stage.all(Node);
            let usable =
                |node: &Value| node["metadata"]["labels"]["karpenter.sh/initialized"] == "true";
            nodes.len() == 2 && nodes.iter().all(usable)
        })
        .await;
    assert_eq!(stage.told("SchedulerDisagrees").len(), 1);
    let bought = stage.machines()[1].private_dns_name.clone();
    let key = Stage::key(Pod, "picky");
    stage
        .world
        .api
        .bind("picky-scheduler", &key, &bought)
        .unwrap();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.phase("picky"), "Running");
    assert_eq!(stage.running().len(), 2);
    assert_eq!(stage.machines().len(), 2);
}

/// A remedy for the above may buy for ever in its turn; here a pod that no node is good enough for costs one machine,
/// which goes again, and is told so.
#[tokio::test(start_paused = true)]
async fn a_pod_that_its_scheduler_puts_nowhere_costs_one_machine_and_no_more() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.a_picky_pod_comes_where_another_runs().await;
    let first = json!({ "kubernetes.io/hostname": stage.machines()[0].private_dns_name });
    for number in 0..8 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stage.small(&format!("small-{number}"), "50m", &first);
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.phase("picky"), "Pending");
    let told = stage.told("SchedulerDisagrees");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(stage.machines().len(), 2, "one was bought in vain");
    assert_eq!(stage.running().len(), 1, "and is gone again");
}

/// Elsewhere a DaemonSet for one kind of machine or another counts on those alone that were looked at first, and the
/// others are bought too small; here it has room on each, and every pod runs on the first machine bought for it.
#[tokio::test(start_paused = true)]
async fn a_daemon_set_for_either_of_two_families_has_room_on_both() {
    let stage = Stage::new();
    stage.allow(1, &["c5.xlarge", "c5.2xlarge", "m5.xlarge", "m5.2xlarge"]);
    stage.daemon_of_either(["m5", "c5"]);
    let _process = stage.run();
    let families = ["c5", "m5"];
    for family in families {
        let there = json!({ "karpenter.k8s.aws/instance-family": family });
        // With the DaemonSet's it is a little more than a machine of four cores has for pods.
        stage.small(family, "3", &there);
    }
    stage
        .until(120, "both run, and the DaemonSet on both", |stage| {
            stage.running_pods() == 4
        })
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let machines = stage.machines();
    let sizes: BTreeSet<&str> = machines
        .iter()
        .map(|machine| &*machine.offering.instance_type)
        .collect();
    assert_eq!(sizes, BTreeSet::from(["c5.2xlarge", "m5.2xlarge"]));
    assert_eq!(machines.len(), 2);
    assert_eq!(stage.running_pods(), 4);
}
