//! Instance profiles: made for a role, kept, and removed with their class.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::{Cloud, Unresolved};

use crate::scene::{Scene, class};

fn of_role(role: &str, generation: i64) -> EC2NodeClass {
    let mut class = class(&json!({ "instanceProfile": null, "role": role }));
    class.metadata.generation = Some(generation);
    class
}

async fn profile_state(scene: &Scene, class: &EC2NodeClass) -> Result<(), Unresolved> {
    scene.cloud.keep_profile(class).await.unwrap();
    let resolution = scene.cloud.resolve(class).await.unwrap();
    resolution.conditions["InstanceProfileReady"].clone()
}

async fn names(scene: &Scene) -> BTreeSet<String> {
    let found = scene.cloud.profiles().await.unwrap();
    found.into_iter().map(|profile| profile.name).collect()
}

#[tokio::test]
async fn a_role_gets_a_profile_that_machines_have_and_that_goes_when_they_are_gone() {
    let scene = Scene::new("role").await;
    let class = of_role("teams/tonnage-node", 1);
    assert_eq!(profile_state(&scene, &class).await, Ok(()));
    let name = scene.cloud.profile_of(&class);
    assert_eq!(names(&scene).await, BTreeSet::from([name.clone()]));
    // Another controller finds it and makes none.
    let before = scene.endpoint.calls("CreateInstanceProfile").await;
    let restarted = scene.restarted().await;
    restarted.keep_profile(&class).await.unwrap();
    let resolution = restarted.resolve(&class).await.unwrap();
    assert_eq!(resolution.conditions["InstanceProfileReady"], Ok(()));
    assert_eq!(resolution.instance_profile, name);
    assert_eq!(scene.endpoint.calls("CreateInstanceProfile").await, before);
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    let id = outcome.instances[0].id.clone();
    let machine = scene.endpoint.instance(&id).await;
    let arn = machine["instanceProfile"].as_str().unwrap();
    assert!(
        arn.ends_with(&format!(
            "/tonnage/us-east-1/{}/class-uid/{name}",
            scene.cluster
        )),
        "{arn}"
    );
    assert_eq!(
        scene.cloud.remove_profile(&name).await,
        Ok(false),
        "a machine has it"
    );
    scene.cloud.terminate(&[id]).await.unwrap();
    assert_eq!(scene.cloud.remove_profile(&name).await, Ok(true));
    assert_eq!(
        scene.cloud.remove_profile(&name).await,
        Ok(true),
        "gone is gone"
    );
    assert_eq!(names(&scene).await, BTreeSet::new());
    scene.end().await;
}

#[tokio::test]
async fn another_role_is_another_profile_and_other_clusters_profiles_are_left_alone() {
    let scene = Scene::new("roles").await;
    let other = scene.connect_beside("roles-other").await;
    let first = of_role("tonnage-node", 1);
    assert_eq!(profile_state(&scene, &first).await, Ok(()));
    other.keep_profile(&first).await.unwrap();
    let theirs = other.profile_of(&first);
    assert_ne!(theirs, scene.cloud.profile_of(&first));
    assert_eq!(names(&scene).await.len(), 1);
    let second = of_role("tonnage-other", 2);
    assert_eq!(profile_state(&scene, &second).await, Ok(()));
    assert_eq!(
        names(&scene).await.len(),
        2,
        "machines of the first role keep theirs"
    );
    let refused = scene.cloud.remove_profile(&theirs).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("is not tagged tonnage.dev/cluster="),
        "{refused}"
    );
    for name in names(&scene).await {
        assert_eq!(scene.cloud.remove_profile(&name).await, Ok(true));
    }
    assert_eq!(other.remove_profile(&theirs).await, Ok(true));
    scene.end().await;
}

#[tokio::test]
async fn a_profile_that_was_made_just_now_is_waited_for() {
    let scene = Scene::settling("settling", Duration::from_hours(1)).await;
    let class = of_role("tonnage-node", 1);
    let why = profile_state(&scene, &class).await.unwrap_err();
    assert_eq!(why.reason, "InstanceProfileSettling");
    // Also by one who did not make it.
    let restarted = scene.restarted().await;
    restarted.keep_profile(&class).await.unwrap();
    let resolution = restarted.resolve(&class).await.unwrap();
    assert!(!resolution.class.ready);
    let name = scene.cloud.profile_of(&class);
    assert_eq!(scene.cloud.remove_profile(&name).await, Ok(true));
    scene.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_role_or_profile_is_said_with_the_fix() {
    let scene = Scene::new("wrong-role").await;
    let absent = of_role("no-such-role", 1);
    let why = profile_state(&scene, &absent).await.unwrap_err();
    assert_eq!(why.reason, "RoleNotFound");
    assert!(
        why.message
            .starts_with("spec.role no-such-role does not exist"),
        "{}",
        why.message
    );
    for name in names(&scene).await {
        assert_eq!(scene.cloud.remove_profile(&name).await, Ok(true));
    }
    let mut given = class(&json!({ "instanceProfile": "no-such-profile" }));
    given.metadata.generation = Some(2);
    let why = profile_state(&scene, &given).await.unwrap_err();
    assert!(
        why.message
            .starts_with("spec.instanceProfile no-such-profile does not exist"),
        "{}",
        why.message
    );
    let refusal: Value = json!({ "status": 403, "code": "AccessDenied" });
    scene
        .endpoint
        .fault("CreateInstanceProfile", "error", 2, refusal)
        .await;
    let why = profile_state(&scene, &of_role("tonnage-node", 3))
        .await
        .unwrap_err();
    assert_eq!(why.reason, "Unauthorized");
    assert!(
        why.message
            .contains("allow iam:CreateInstanceProfile and iam:TagInstanceProfile"),
        "{}",
        why.message
    );
    scene.end().await;
}

#[tokio::test]
async fn a_user_profile_that_cannot_be_looked_at_is_trusted() {
    let scene = Scene::new("trusted").await;
    let refusal: Value = json!({ "status": 403, "code": "AccessDenied" });
    scene
        .endpoint
        .fault("GetInstanceProfile", "error", 2, refusal)
        .await;
    let class = class(&json!({ "instanceProfile": "of-another-team" }));
    assert_eq!(profile_state(&scene, &class).await, Ok(()));
    assert_eq!(scene.cloud.profile_of(&class), "of-another-team");
    scene.end().await;
}
