//! What NodePools and pods ask of machines by the values of their labels.

use serde_json::{Value, json};

use super::Stage;
use crate::api::labels::{INSTANCE_CPU, INSTANCE_TYPE, ZONE};
use crate::sim::api_server::Resource::{NodeClaim, NodePool};

/// A requirement for a number of processors.
fn cores(operator: &str, number: &str) -> Value {
    json!({ "key": INSTANCE_CPU, "operator": operator, "values": [number] })
}

impl Stage {
    /// The NodePool keeps at least so many values of its requirement for capacity types, sizes and zones, in this order.
    fn keep_values(&self, requirement: usize, least: u32) {
        self.change(NodePool, "general", |pool| {
            let requirements = &mut pool["spec"]["template"]["spec"]["requirements"];
            requirements[requirement]["minValues"] = json!(least);
        });
    }

    /// What the claims of the NodePool require of a label, in the order in which they say it.
    fn required(&self, key: &str) -> Vec<Value> {
        let claims = self.all(NodeClaim);
        let own = claims
            .iter()
            .filter(|claim| claim["metadata"]["labels"]["karpenter.sh/nodepool"] == "general");
        let said = own.filter_map(|claim| claim["spec"]["requirements"].as_array());
        said.flatten()
            .filter(|entry| entry["key"] == key)
            .cloned()
            .collect()
    }
}

/// Elsewhere an exclusion is lost on the claim when a bound of the same label stands beside it, and a launch may take
/// what is excluded; here the NodePool's exclusion and the pod's hold, also when the first choice is sold out.
#[tokio::test(start_paused = true)]
async fn a_size_that_is_excluded_within_a_bound_is_never_bought() {
    let stage = Stage::new();
    stage.allow(1, &["c5.xlarge", "c5.2xlarge", "c5.4xlarge", "m5.4xlarge"]);
    let of_pool = [cores("Gt", "2"), cores("NotIn", "4")];
    stage.change(NodePool, "general", |pool| {
        let requirements = &mut pool["spec"]["template"]["spec"]["requirements"];
        let requirements = requirements.as_array_mut().unwrap();
        requirements.extend_from_slice(&of_pool);
    });
    stage.sold_out("c5.4xlarge", 60);
    let _process = stage.run();
    stage.pod_with(
        "a",
        &json!({
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [cores("Gt", "2"), cores("NotIn", "8")]}],
            }}},
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
        }),
    );
    stage
        .until(120, "it runs", |stage| stage.running_pods() == 1)
        .await;
    let machines = stage.machines();
    assert_eq!(machines.len(), 1);
    assert_eq!(&*machines[0].offering.instance_type, "m5.4xlarge");
    let types = stage.required(INSTANCE_TYPE);
    assert_eq!(types[0]["values"], json!(["c5.4xlarge", "m5.4xlarge"]));
    assert_eq!(stage.required(INSTANCE_CPU), of_pool);
}

/// Elsewhere types that nobody can have count for minValues; here a pod waits while too few are to be had, with a word
/// about why, and what is bought for it in the end could have been as many as were asked for.
#[tokio::test(start_paused = true)]
async fn min_values_do_not_count_what_is_sold_out() {
    let stage = Stage::new();
    stage.another_pool(|pool| {
        let requirements = &mut pool["spec"]["template"]["spec"]["requirements"];
        requirements[1]["values"] = json!(["m5.xlarge"]);
    });
    stage.allow(1, &["c5.xlarge", "m5.xlarge"]);
    stage.keep_values(1, 2);
    stage.sold_out("m5.xlarge", 1);
    let _process = stage.run();
    stage.pod_of_another_pool("other");
    stage
        .until(30, "another NodePool finds it sold out", |stage| {
            let claims = stage.all(NodeClaim);
            let mut said = claims.iter().map(Value::to_string);
            said.any(|claim| claim.contains("EC2 has no capacity now for any of"))
        })
        .await;
    stage.pod("a");
    stage
        .until(20, "it is told why it waits", |stage| {
            let told = stage.told("FailedScheduling");
            told.iter().any(|why| why.contains("1 of the 2 values"))
        })
        .await;
    assert!(stage.machines().is_empty(), "one type alone is not bought");
    stage
        .until(180, "both run", |stage| stage.running_pods() == 2)
        .await;
    let types = stage.required(INSTANCE_TYPE);
    let bought = &types.last().unwrap()["values"];
    assert_eq!(*bought, json!(["c5.xlarge", "m5.xlarge"]));
}

/// The same of zones that the pod itself cannot use: it waits, and one that can be anywhere is bought for.
#[tokio::test(start_paused = true)]
async fn min_values_do_not_count_what_the_pod_cannot_use() {
    let stage = Stage::new();
    let zones = ["us-east-1a", "us-east-1b", "us-east-1c"];
    stage.allow(2, &zones);
    stage.keep_values(2, 3);
    let _process = stage.run();
    stage.small("pinned", "3", &json!({ ZONE: zones[0] }));
    stage.pod("anywhere");
    stage
        .until(120, "the other runs", |stage| {
            stage.phase("anywhere") == "Running"
        })
        .await;
    let of_zones = stage.required(ZONE);
    assert_eq!(of_zones.last().unwrap()["values"], json!(zones));
    assert_eq!(stage.machines().len(), 1);
    assert_eq!(stage.phase("pinned"), "Pending");
    let told = stage.told("FailedScheduling");
    assert!(
        told.iter().any(|why| why.contains("1 of the 3 values")),
        "{told:?}"
    );
}
