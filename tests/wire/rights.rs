//! The adapter under the policy that ships with Tonnage: everything it calls is allowed, and what is
//! not allowed is named.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::ErrorClass;
use tonnage::sim::ec2::machine::EndCause;
use tonnage::sim::ec2::wire::policy::{Names, Policy};

use crate::endpoint::Endpoint;
use crate::scene::{Scene, claim, class};

/// The shipped policy for the cluster of a test, whose machines have the role `tonnage-node`.
fn shipped(name: &str) -> Value {
    let cluster = format!("{name}-{}", std::process::id());
    let text = Policy::shipped_text(&Names {
        cluster: &cluster,
        region: "us-east-1",
        account: "123456789012",
        node_role: "tonnage-node",
    });
    serde_json::from_str(&text).unwrap()
}

async fn scene(name: &str, policy: &Value) -> Scene {
    let policy = Policy::parse(&policy.to_string()).unwrap();
    Scene::at(Endpoint::begin().await.under(policy), name).await
}

#[tokio::test]
async fn the_adapter_lives_under_the_shipped_policy() {
    let scene = scene("rights", &shipped("rights")).await;
    let class = class(&json!({ "tags": { "team": "data" } }));
    for capacity_type in ["spot", "on-demand"] {
        let offering = format!("c5.xlarge/us-east-1a/{capacity_type}");
        let mut record = scene.record(&class, 2, &[&offering]).await;
        capacity_type.clone_into(&mut record.batch);
        let outcome = scene.launch(&record, &class).await;
        assert_eq!(outcome.shortfalls, []);
        let id = &outcome.instances[0].id;
        let tags = ["Name", "tonnage.dev/nodeclaim"].map(|key| (key.to_owned(), "x".to_owned()));
        scene.cloud.tag(id, &BTreeMap::from(tags)).await.unwrap();
    }
    assert_eq!(
        scene
            .cloud
            .instances(&InstanceQuery::All)
            .await
            .unwrap()
            .len(),
        4
    );
    let templates = scene.cloud.templates().await.unwrap();
    assert_eq!(templates.len(), 2);
    scene.cloud.remove_template(&templates[0]).await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn what_the_policy_leaves_out_is_named() {
    let mut policy = shipped("missing");
    for statement in policy["Statement"].as_array_mut().unwrap() {
        if statement["Sid"] == "MakeOnlyTaggedTemplates" {
            statement["Action"] = json!("ec2:CreateFleet");
        }
    }
    let scene = scene("missing", &policy).await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let keys = ["c5.xlarge/us-east-1a/spot".parse().unwrap()];
    let prepared = scene
        .cloud
        .prepare(&class, &resolved, &claim(), &keys)
        .await;
    let error = prepared.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized);
    let advice = "; allow ec2:CreateLaunchTemplate for the controller's role controller";
    assert!(error.message.ends_with(advice), "{error}");
    scene.end().await;
}

#[tokio::test]
async fn machines_cannot_be_given_another_role() {
    let scene = scene("role", &shipped("role")).await;
    let class = class(&json!({ "instanceProfile": "administrators" }));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.instances, []);
    let shortfall = &outcome.shortfalls[0];
    assert_eq!(shortfall.class, ErrorClass::Unauthorized);
    let advice = "; allow iam:PassRole for the controller's role controller";
    assert!(shortfall.message.ends_with(advice), "{}", shortfall.message);
    scene.end().await;
}

#[tokio::test]
async fn a_controller_cannot_end_what_is_another_clusters() {
    let scene = scene("own", &shipped("own")).await;
    let offering = "c5.xlarge/us-east-1a/spot".parse().unwrap();
    let theirs = scene.endpoint.ec2.stray("red", &offering);
    let error = scene.cloud.terminate(&[theirs]).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized, "{error}");
    assert_eq!(scene.endpoint.ec2.alive().len(), 1);
    scene.end().await;
}

/// EC2 keeps no tags of it, and the policy allows by tag.
#[tokio::test]
async fn what_ec2_has_forgotten_may_not_be_ended() {
    let scene = scene("forgotten", &shipped("forgotten")).await;
    let offering = "c5.xlarge/us-east-1a/spot".parse().unwrap();
    let ours = scene.endpoint.ec2.stray(&scene.cluster, &offering);
    scene.endpoint.ec2.end(&ours, EndCause::Failed);
    tokio::time::advance(Duration::from_hours(2)).await;
    let error = scene.cloud.terminate(&[ours]).await.unwrap_err();
    assert_eq!(error.code, "UnauthorizedOperation", "{error}");
    scene.end().await;
}

/// It costs money as long as it is there, so it is not taken for gone; the policy lets nobody end it.
#[tokio::test]
async fn a_machine_that_has_lost_its_tag_is_seen_and_another_clusters_is_not() {
    let scene = scene("untagged", &shipped("untagged")).await;
    let offering = "c5.xlarge/us-east-1a/spot".parse().unwrap();
    let theirs = scene.endpoint.ec2.stray("red", &offering);
    let ours = scene.endpoint.ec2.stray(&scene.cluster, &offering);
    let ids = || InstanceQuery::Ids([theirs.clone(), ours.clone()].into());
    scene.endpoint.ec2.untag(&ours, "tonnage.dev/cluster");
    let seen = scene.cloud.instances(&ids()).await.unwrap();
    let seen: Vec<&String> = seen.iter().map(|instance| &instance.id).collect();
    assert_eq!(seen, [&ours]);
    assert_eq!(
        scene.cloud.instances(&InstanceQuery::All).await.unwrap(),
        []
    );
    let error = scene.cloud.terminate(&[ours]).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized, "{error}");
    scene.end().await;
}

#[tokio::test]
async fn a_profile_is_made_for_the_role_of_nodes_and_for_no_other() {
    let scene = scene("profiles", &shipped("profiles")).await;
    let of = |role: &str, generation: i64| {
        let mut class = class(&json!({ "instanceProfile": null, "role": role }));
        class.metadata.generation = Some(generation);
        class
    };
    let nodes = of("tonnage-node", 1);
    scene.cloud.keep_profile(&nodes).await.unwrap();
    let record = scene
        .record(&nodes, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let outcome = scene.launch(&record, &nodes).await;
    assert_eq!(outcome.shortfalls, []);
    let administrators = of("administrators", 2);
    scene.cloud.keep_profile(&administrators).await.unwrap();
    let resolution = scene.cloud.resolve(&administrators).await.unwrap();
    let why = resolution.conditions["InstanceProfileReady"]
        .clone()
        .unwrap_err();
    assert_eq!(why.reason, "Unauthorized");
    assert!(why.message.contains("iam:PassRole"), "{}", why.message);
    let ids: Vec<String> = scene.alive().await.into_iter().collect();
    scene.cloud.terminate(&ids).await.unwrap();
    let made = scene.cloud.profiles().await.unwrap();
    assert_eq!(made.len(), 2);
    for profile in made {
        assert_eq!(scene.cloud.remove_profile(&profile.name).await, Ok(true));
    }
    assert_eq!(scene.endpoint.ec2.profiles(), Vec::<String>::new());
    scene.end().await;
}
