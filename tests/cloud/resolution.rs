//! Node classes, resolved: what their selectors find and what can be bought through them.

use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::model::launch::ErrorClass;
use tonnage::model::offering::Offering;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};
use crate::waiting::eventually;

#[tokio::test]
async fn a_class_finds_its_network_images_and_offerings() {
    let scene = Scene::new("resolve").await;
    let found = scene.resolved(&class(&json!({}))).await;
    let zones: Vec<&str> = found.subnets.keys().map(String::as_str).collect();
    assert_eq!(zones, Endpoint::ZONES);
    assert_eq!(found.security_groups.len(), 1);
    let architectures: Vec<&str> = found.images.keys().map(String::as_str).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let offering = |key: &str| -> &Offering {
        let all = &found.catalogue.offerings;
        let found = all.iter().find(|offering| offering.key.to_string() == key);
        found.unwrap_or_else(|| panic!("no offering {key}"))
    };
    let on_demand = offering("c5.xlarge/us-east-1a/on-demand").price;
    assert_eq!(on_demand.to_string(), "0.170");
    assert!(offering("c5.xlarge/us-east-1a/spot").price < on_demand);
    // EC2 gives a hundred types a page.
    assert!(
        found.catalogue.types.len() > 200,
        "{}",
        found.catalogue.types.len()
    );
    scene.end().await;
}

#[tokio::test]
async fn what_matches_nothing_is_named_with_the_fix_and_the_rest_is_resolved() {
    let scene = Scene::new("unresolved").await;
    let class = class(&json!({
        "subnetSelectorTerms": [{ "tags": { "team": "nobody" } }],
        "securityGroupSelectorTerms": [{ "name": "no-such-group" }],
    }));
    let resolution = scene.cloud.resolve(&class).await.unwrap();
    assert!(!resolution.class.ready);
    let message = |condition: &str| {
        let result = &resolution.conditions[condition];
        result.clone().unwrap_err().message
    };
    assert_eq!(
        message("SubnetsReady"),
        "no subnet matches spec.subnetSelectorTerms[0] (tag team=nobody): correct the terms, or \
         tag the subnets so that they match"
    );
    assert!(message("SecurityGroupsReady").contains("name no-such-group"));
    assert_eq!(resolution.conditions["AMIsReady"], Ok(()));
    assert!(resolution.class.not_ready.contains("team=nobody"));
    scene.end().await;
}

#[tokio::test]
async fn terms_that_match_nothing_beside_others_are_named_too() {
    let scene = Scene::new("partly").await;
    let tags = json!({ "tags": { "tonnage.dev/discovery": "demo" } });
    let class = class(&json!({
        "subnetSelectorTerms": [tags, { "id": "subnet-0123456789abcdef0" }, { "tags": { "a": "b" } }],
        "securityGroupSelectorTerms": [{ "name": "nobodys" }, tags],
        "amiSelectorTerms": [{ "id": "ami-0123456789abcdef0" }, tags],
    }));
    let resolution = scene.cloud.resolve(&class).await.unwrap();
    assert_eq!(resolution.class.not_ready, "");
    let remark = |condition: &str| resolution.remarks[condition].message.clone();
    assert!(
        remark("SubnetsReady").starts_with(
            "no subnet matches spec.subnetSelectorTerms[2] (tag a=b) or \
             spec.subnetSelectorTerms[1] (id subnet-0123456789abcdef0): "
        ),
        "{}",
        remark("SubnetsReady")
    );
    assert!(remark("SecurityGroupsReady").contains("[0] (name nobodys)"));
    assert!(remark("AMIsReady").contains("[0] (id ami-0123456789abcdef0)"));
    scene.end().await;
}

#[tokio::test]
async fn ids_and_wildcards_select_too() {
    let scene = Scene::new("selectors").await;
    let all = scene.resolved(&class(&json!({}))).await;
    let subnet = &all.subnets["us-east-1b"][0].id;
    let image = &all.images["arm64"][0].id;
    let group = &all.security_groups[0];
    let mut narrow = class(&json!({
        "subnetSelectorTerms": [{ "id": subnet }, { "id": "subnet-0123456789abcdef0" }],
        "securityGroupSelectorTerms": [{ "id": group }],
        "amiSelectorTerms": [{ "id": image }],
    }));
    narrow.metadata.generation = Some(2);
    let found = scene.resolved(&narrow).await;
    assert_eq!(found.subnets.keys().collect::<Vec<_>>(), ["us-east-1b"]);
    assert_eq!(found.images.keys().collect::<Vec<_>>(), ["arm64"]);
    assert_eq!(found.security_groups, std::slice::from_ref(group));
    let mut any_tag = class(&json!({
        "amiSelectorTerms": [{ "tags": { "tonnage.dev/discovery": "*" } }],
    }));
    any_tag.metadata.generation = Some(3);
    assert_eq!(scene.resolved(&any_tag).await.images.len(), 2);
    scene.end().await;
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let scene = Scene::new("permission").await;
    let refusal = json!({ "status": 403, "code": "UnauthorizedOperation" });
    scene
        .endpoint
        .fault("DescribeSubnets", "error", 2, refusal)
        .await;
    let error = scene.cloud.resolve(&class(&json!({}))).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized);
    assert!(
        error.message.contains("allow ec2:DescribeSubnets"),
        "{error}"
    );
    scene.endpoint.calm().await;
    // An error is not remembered: the next look-up is a new one.
    drop(scene.resolved(&class(&json!({}))).await);
    scene.end().await;
}

#[tokio::test]
async fn a_catalogue_that_cannot_be_read_at_first_is_read_later() {
    let scene = Scene::new("recovery").await;
    // The scene's own controller has its catalogue before things go wrong.
    drop(scene.resolved(&class(&json!({}))).await);
    let failure = json!({ "status": 500, "code": "InternalError" });
    scene
        .endpoint
        .fault("DescribeInstanceTypeOfferings", "error", 2, failure)
        .await;
    let fresh = scene.restarted().await;
    let class = class(&json!({}));
    let class_of_error = fresh.resolve(&class).await.err().map(|error| error.class);
    assert_eq!(class_of_error, Some(ErrorClass::Transient));
    eventually("the catalogue is read", 60, async || {
        let resolved = fresh.resolve(&class).await;
        resolved.map(drop).map_err(|error| error.to_string())
    })
    .await;
    scene.end().await;
}
