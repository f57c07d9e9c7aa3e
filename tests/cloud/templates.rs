//! Launch templates: named by content, made once, applied, and removed with their class.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::Cloud;
use tonnage::model::launch::ErrorClass;

use crate::scene::{Scene, claim, class};

#[tokio::test]
async fn a_template_is_made_once_and_found_again_after_a_restart() {
    let scene = Scene::new("templates").await;
    let class = class(&json!({}));
    let offerings = ["c5.xlarge/us-east-1a/spot", "c5.4xlarge/us-east-1b/spot"];
    let before = scene.endpoint.calls("CreateLaunchTemplate").await;
    let first = scene.prepared(&class, &offerings).await;
    let names: BTreeSet<&str> = first
        .iter()
        .map(|template| template.name.as_str())
        .collect();
    assert_eq!(names.len(), 2, "two sizes of node need two templates");
    assert_eq!(scene.prepared(&class, &offerings).await, first);
    let made = scene.endpoint.calls("CreateLaunchTemplate").await - before;
    assert_eq!(made, 2, "the second time nothing is asked");
    assert_eq!(scene.prepared_anew(&class, &offerings).await, first);
    scene.end().await;
}

#[tokio::test]
async fn machines_get_what_the_template_says() {
    let scene = Scene::new("applied").await;
    let class = class(&json!({
        "tags": { "team": "data" },
        "userData": "#!/bin/bash\necho own\n",
        "blockDeviceMappings": [
            { "deviceName": "/dev/xvda", "ebs": { "volumeSize": "100Gi", "volumeType": "gp3" } },
        ],
    }));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    assert_eq!(outcome.shortfalls, []);
    let launched = &outcome.instances[0];
    let machine = scene.endpoint.instance(&launched.id).await;
    let resolved = scene.resolved(&class).await;
    assert_eq!(machine["securityGroups"], json!(resolved.security_groups));
    assert_eq!(machine["subnetId"], launched.subnet_id);
    assert_eq!(machine["imageId"], resolved.images["amd64"][0].id);
    assert_eq!(machine["metadataOptions"]["httpTokens"], "required");
    assert_eq!(machine["metadataOptions"]["httpPutResponseHopLimit"], 1);
    assert_eq!(machine["volumes"][0]["sizeGiB"], 100);
    assert!(
        machine["instanceProfile"]
            .as_str()
            .unwrap()
            .ends_with("/tonnage-node")
    );
    for (key, value) in [
        ("team", "data"),
        ("tonnage.dev/cluster", scene.cluster.as_str()),
        ("tonnage.dev/nodepool", "executors"),
        ("tonnage.dev/ec2nodeclass", "default"),
        ("tonnage.dev/launch-batch", record.batch.as_str()),
    ] {
        assert_eq!(machine["tags"][key], value, "{key}");
    }
    let owned = format!("kubernetes.io/cluster/{}", scene.cluster);
    assert_eq!(machine["tags"][owned], "owned");
    let user_data = decoded(machine["userData"].as_str().unwrap());
    assert!(user_data.contains("echo own"), "{user_data}");
    assert!(
        user_data.contains("karpenter.sh/unregistered"),
        "{user_data}"
    );
    assert!(user_data.contains("maxPods: 58"), "{user_data}");
    scene.end().await;
}

/// User data as it reaches the machine, whether the endpoint shows it encoded or not.
pub(crate) fn decoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| text.to_owned())
}

#[tokio::test]
async fn a_class_that_goes_takes_its_templates_along_and_no_others() {
    let scene = Scene::new("release").await;
    let other = scene.connect_beside("release-other").await;
    let class = class(&json!({}));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    let resolved = other.resolve(&class).await.unwrap().class;
    let keys = ["c5.xlarge/us-east-1a/spot".parse().unwrap()];
    let kept = other
        .prepare(&class, &resolved, &claim(), &keys)
        .await
        .unwrap();
    scene.cloud.release("default").await.unwrap();
    scene.cloud.release("default").await.unwrap();
    scene.refused(&record, &class, ErrorClass::NotFound).await;
    // The name is made anew after EC2 said that it is gone.
    let again = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    assert_eq!(again, record);
    let outcome = scene.launch(&again, &class).await;
    assert_eq!(outcome.instances.len(), 1);
    // The other cluster's template was not touched.
    let mut theirs = record.clone();
    theirs.batch = format!("{}-theirs", record.batch);
    theirs.templates = kept;
    let outcome = scene.launch(&theirs, &class).await;
    assert_eq!(outcome.instances.len(), 1);
    other.release("default").await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn user_data_that_is_too_long_with_our_part_is_refused_before_a_call() {
    let scene = Scene::new("too-long").await;
    let long = format!("#!/bin/bash\n{}", "#".repeat(16_300));
    let class = class(&json!({ "userData": long }));
    let resolved = scene.resolved(&class).await;
    let keys = ["c5.xlarge/us-east-1a/spot".parse().unwrap()];
    let error = scene
        .cloud
        .prepare(&class, &resolved, &claim(), &keys)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(error.message.contains("EC2 takes 16384"), "{error}");
    scene.end().await;
}

/// The volumes of a machine that a class makes, and whether they are encrypted.
async fn volumes(scene: &Scene, class: &EC2NodeClass) -> BTreeMap<String, bool> {
    let mut record = scene
        .record(class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let generation = class.metadata.generation.unwrap();
    record.batch = format!("{}-{generation}", record.batch);
    let outcome = scene.launch(&record, class).await;
    assert_eq!(outcome.shortfalls, []);
    let machine = scene.endpoint.instance(&outcome.instances[0].id).await;
    let volumes = machine["volumes"].as_array().unwrap().iter();
    let told = volumes.map(|volume| {
        let device = volume["deviceName"].as_str().unwrap().to_owned();
        (device, volume["encrypted"].as_bool().unwrap())
    });
    told.collect()
}

#[tokio::test]
async fn the_root_volume_is_encrypted_unless_its_own_mapping_says_otherwise() {
    let scene = Scene::new("encrypted").await;
    let on = |device: &str| json!([{ "deviceName": device, "ebs": { "volumeSize": "50Gi" } }]);
    let open =
        json!([{ "deviceName": "/dev/xvda", "ebs": { "volumeSize": "50Gi", "encrypted": false } }]);
    let (root, data) = (("/dev/xvda", true), ("/dev/xvdb", true));
    let cases = [
        ("AL2023", json!([]), vec![root]),
        ("AL2023", on("/dev/xvda"), vec![root]),
        ("AL2023", on("/dev/xvdb"), vec![root, data]),
        ("AL2023", open.clone(), vec![("/dev/xvda", false)]),
        ("Bottlerocket", json!([]), vec![root, data]),
        ("Bottlerocket", on("/dev/xvda"), vec![root]),
        ("Bottlerocket", on("/dev/xvdb"), vec![root, data]),
        ("Bottlerocket", open.clone(), vec![("/dev/xvda", false)]),
        ("Custom", json!([]), vec![root]),
        ("Custom", on("/dev/xvda"), vec![root]),
        ("Custom", on("/dev/xvdb"), vec![root, data]),
        ("Custom", open, vec![("/dev/xvda", false)]),
    ];
    for (generation, (family, mappings, expected)) in (1..).zip(cases) {
        let mut class = class(&json!({ "amiFamily": family, "blockDeviceMappings": mappings }));
        class.metadata.generation = Some(generation);
        let expected: BTreeMap<String, bool> = expected
            .into_iter()
            .map(|(device, encrypted)| (device.to_owned(), encrypted))
            .collect();
        assert_eq!(
            volumes(&scene, &class).await,
            expected,
            "{family} {mappings}"
        );
    }
    scene.end().await;
}

#[tokio::test]
async fn what_is_learned_of_an_images_root_volume_makes_the_same_template_every_time() {
    let scene = Scene::new("root-learned").await;
    let class = class(&json!({ "amiFamily": "Custom" }));
    let offering = "c5.xlarge/us-east-1a/spot";
    let before = scene.endpoint.calls("CreateLaunchTemplate").await;
    let first = scene.prepared(&class, &[offering]).await;
    let mut looked_at_again = class.clone();
    looked_at_again.metadata.generation = Some(2);
    assert_eq!(scene.prepared(&looked_at_again, &[offering]).await, first);
    let made = scene.endpoint.calls("CreateLaunchTemplate").await - before;
    assert_eq!(made, 1);
    assert_eq!(scene.prepared_anew(&class, &[offering]).await, first);
    scene.end().await;
}
