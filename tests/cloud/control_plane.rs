//! Where nodes reach the API server, as EKS says it.

use aws_sdk_eks::types::VpcConfigRequest;
use tonnage::cloud::ec2::control_plane::endpoint;
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::launch::ErrorClass;

use crate::endpoint::variable;
use crate::scene::facts;

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_of_an_eks_cluster_need_not_be_given() {
    // Without it the SDK would talk to the real AWS.
    drop(variable("AWS_ENDPOINT_URL"));
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::v2026_01_12()).await;
    let eks = aws_sdk_eks::Client::new(&config);
    let made = eks
        .create_cluster()
        .name("with-a-control-plane")
        .role_arn("arn:aws:iam::123456789012:role/control-plane")
        .resources_vpc_config(VpcConfigRequest::builder().build());
    let made = made.send().await.unwrap().cluster.unwrap();
    let found = endpoint(&CloudSettings::new(facts("with-a-control-plane"))).await;
    assert_eq!(found.unwrap(), made.endpoint().unwrap());
    let gone = eks.delete_cluster().name("with-a-control-plane");
    gone.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_eks_does_not_know_is_named() {
    drop(variable("AWS_ENDPOINT_URL"));
    let error = endpoint(&CloudSettings::new(facts("no-eks-cluster"))).await;
    let error = error.unwrap_err();
    assert_eq!(error.operation, "DescribeCluster");
    assert_eq!(error.class, ErrorClass::NotFound, "{error}");
    assert!(error.to_string().contains("no-eks-cluster"), "{error}");
}
