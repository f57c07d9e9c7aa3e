//! What a NodePool may have at most.

use std::time::Duration;

use serde_json::json;

use super::Stage;

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
