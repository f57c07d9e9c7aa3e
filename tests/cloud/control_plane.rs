//! Where nodes reach the API server, as EKS says it.

use aws_sdk_eks::types::VpcConfigRequest;
use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::cloud::cluster::ClusterFacts;
use tonnage::cloud::settings::{CloudSettings, EndpointSource};

use crate::scene::{Scene, claim, class};
use crate::templates::decoded;

const OFFERING: &str = "c5.xlarge/us-east-1a/on-demand";

/// The settings of a scene's controllers, which leave the endpoint to EKS.
fn asking(scene: &Scene) -> CloudSettings {
    let settings = scene.settings();
    CloudSettings {
        cluster: ClusterFacts {
            endpoint: String::new(),
            ..settings.cluster
        },
        endpoint: EndpointSource::Eks,
        ..settings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_of_an_eks_cluster_need_not_be_given() {
    let scene = Scene::new("control-plane").await;
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::v2026_01_12()).await;
    let eks = aws_sdk_eks::Client::new(&config);
    let made = eks
        .create_cluster()
        .name(&scene.cluster)
        .role_arn("arn:aws:iam::123456789012:role/control-plane")
        .resources_vpc_config(VpcConfigRequest::builder().build());
    let made = made.send().await.unwrap().cluster.unwrap();
    let cloud = scene.connect(asking(&scene)).await;
    let class = class(&json!({}));
    let resolved = cloud.resolve(&class).await.unwrap().class;
    assert_eq!(resolved.not_ready, "");
    let mut record = scene.record(&class, 1, &[OFFERING]).await;
    let offerings = [OFFERING.parse().unwrap()];
    let prepared = cloud.prepare(&class, &resolved, &claim(), &offerings).await;
    record.templates = prepared.unwrap();
    let outcome = cloud.launch(&record, &claim(), &class).await.unwrap();
    let machine = scene.endpoint.instance(&outcome.instances[0].id).await;
    let user_data = decoded(machine["userData"].as_str().unwrap());
    let endpoint = made.endpoint().unwrap();
    assert!(user_data.contains(endpoint), "{endpoint}: {user_data}");
    let gone = eks.delete_cluster().name(&scene.cluster);
    gone.send().await.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_eks_does_not_know_is_named() {
    let scene = Scene::new("no-eks-cluster").await;
    let cloud = scene.connect(asking(&scene)).await;
    let resolution = cloud.resolve(&class(&json!({}))).await.unwrap();
    let why = resolution.conditions["ValidationSucceeded"].clone();
    let why = why.unwrap_err();
    assert_eq!(why.reason, "ClusterEndpointUnknown");
    assert!(why.message.contains(&scene.cluster), "{}", why.message);
    scene.end().await;
}
