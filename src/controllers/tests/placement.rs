//! Placement groups that a node class selects.

use serde_json::json;

use super::Stage;
use crate::model::placement_group::{PlacementGroup, Strategy};
use crate::sim::api_server::Resource;

const PARTITION: &str = "karpenter.k8s.aws/placement-group-partition";

#[tokio::test(start_paused = true)]
async fn claim_and_node_say_which_partition_their_machine_is_in() {
    let stage = Stage::new();
    stage.world.ec2.place(PlacementGroup {
        id: "pg-1".to_owned(),
        name: "training".to_owned(),
        strategy: Strategy::Partition,
    });
    stage.change(Resource::NodeClass, "default", |class| {
        class["spec"]["placementGroupSelector"] = json!({ "name": "training" });
    });
    let _process = stage.run();
    stage.one_pod_runs().await;
    let said = [Resource::NodeClaim, Resource::Node].map(|resource| {
        let labels = stage.all(resource)[0]["metadata"]["labels"].clone();
        assert_eq!(labels["karpenter.k8s.aws/placement-group-id"], "pg-1");
        labels[PARTITION].as_str().map(str::to_owned)
    });
    let partition: u32 = said[0].as_deref().unwrap().parse().unwrap();
    assert!((1..=7).contains(&partition), "{partition}");
    assert_eq!(said[0], said[1]);
}
