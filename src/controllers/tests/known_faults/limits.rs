//! What a NodePool may have at most.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::sim::api_server::Resource::Pod;

impl Stage {
    /// A pod that keeps away from its like, so that each needs a machine whatever its size.
    fn apart(&self, name: &str) {
        self.pod_with(
            name,
            &json!({
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
                ]}},
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}}],
            }),
        );
    }

    /// A pod of this priority for machines of one zone.
    fn ranked(&self, name: &str, priority: i32, zone: &str, cpu: &str) {
        self.pod_with(
            name,
            &json!({
                "priority": priority,
                "nodeSelector": {"topology.kubernetes.io/zone": zone},
                "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}],
            }),
        );
    }

    /// How many of these pods run.
    fn running_of(&self, pods: &[&str]) -> usize {
        let phases = pods.iter().map(|pod| self.phase(pod));
        phases.filter(|phase| phase == "Running").count()
    }

    /// Processors of the machines that run.
    fn processors(&self) -> usize {
        let sizes = [("c5.xlarge", 4), ("c5.2xlarge", 8)];
        let machines = self.running();
        let of = |size: &str| sizes.iter().find(|(name, _)| *name == size).unwrap().1;
        machines
            .iter()
            .map(|machine| of(&machine.offering.instance_type))
            .sum()
    }
}

/// Elsewhere the nodes that one plan opens are not counted against the limit, and a burst passes it; here as many
/// are bought as may be, the other pods are told so, and one more runs when the limit is raised by one.
#[tokio::test(start_paused = true)]
async fn a_limit_on_nodes_is_exact_within_one_burst() {
    let stage = Stage::new();
    stage.limit(&json!({ "nodes": "2" }));
    let _process = stage.run();
    for name in ["a", "b", "c", "d", "e"] {
        stage.apart(name);
    }
    stage
        .until(120, "as many run as may", |stage| stage.running_pods() == 2)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!((stage.claims_made(), stage.machines().len()), (2, 2));
    let told = stage.told("FailedScheduling");
    assert!(
        told.iter().any(|message| message.contains("limit")),
        "{told:?}"
    );
    stage.limit(&json!({ "nodes": "3" }));
    stage
        .until(120, "one more runs", |stage| stage.running_pods() == 3)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!((stage.claims_made(), stage.machines().len()), (3, 3));
}

/// Elsewhere each claim is charged with the largest machine that it may become, and pods wait for one another's
/// machines near a limit; here both small machines that fit under it are bought in one plan.
#[tokio::test(start_paused = true)]
async fn two_small_machines_under_a_limit_of_one_large_one_are_bought_at_once() {
    let stage = Stage::new();
    stage.allow(1, &["c5.xlarge", "c5.2xlarge"]);
    stage.limit(&json!({ "cpu": "8" }));
    let _process = stage.run();
    tokio::time::sleep(Duration::from_secs(10)).await;
    stage.apart("a");
    stage.apart("b");
    stage
        .until(5, "two machines are bought", |stage| {
            stage.machines().len() == 2
        })
        .await;
    assert_eq!(stage.processors(), 8);
    stage
        .until(120, "both run", |stage| stage.running_pods() == 2)
        .await;
}

/// Elsewhere a limit is checked against what was launched before, and several claims that grow pass it together;
/// here it holds also while claims walk on to larger machines because the small ones are sold out.
#[tokio::test(start_paused = true)]
async fn claims_that_walk_on_to_larger_machines_stay_under_the_limit_together() {
    let stage = Stage::new();
    stage.allow(1, &["c5.xlarge", "c5.2xlarge"]);
    stage.limit(&json!({ "cpu": "12" }));
    stage.sold_out("c5.xlarge", 60);
    let _process = stage.run();
    stage.apart("a");
    stage.apart("b");
    stage
        .until(180, "one runs on a larger machine", |stage| {
            stage.running_pods() == 1
        })
        .await;
    for _minute in 0..10 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(stage.processors() <= 12, "{}", stage.processors());
    }
    assert_eq!(stage.machines().len(), 1);
    assert_eq!(stage.running_pods(), 1);
}

/// Elsewhere large pods are planned before small ones, whatever their priorities, and take what a limit leaves; here
/// those of high priority have it, then as many others as there is room for, and the rest once there is more.
#[tokio::test(start_paused = true)]
async fn what_a_limit_leaves_goes_to_the_pods_of_high_priority() {
    let stage = Stage::new();
    stage.allow(2, &["us-east-1a", "us-east-1b"]);
    stage.limit(&json!({ "cpu": "8" }));
    let _process = stage.run();
    let (low, high) = (["low-1", "low-2", "low-3"], ["high-1", "high-2"]);
    for pod in low {
        stage.ranked(pod, 0, "us-east-1a", "3");
    }
    for pod in high {
        stage.ranked(pod, 1_000, "us-east-1b", "1");
    }
    stage
        .until(120, "as many run as may", |stage| stage.running_pods() == 3)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!((stage.running_of(&high), stage.running_of(&low)), (2, 1));
    assert_eq!(stage.machines().len(), 2);
    let told = stage.told("FailedScheduling");
    assert!(
        told.iter().any(|message| message.contains("limit")),
        "{told:?}"
    );
    for pod in high {
        stage.delete(Pod, pod);
    }
    stage
        .until(180, "another runs where there is room now", |stage| {
            stage.running_of(&low) == 2
        })
        .await;
    assert_eq!(stage.processors(), 8);
}
