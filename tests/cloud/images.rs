//! Images by alias, and what finds none.

use serde_json::json;
use tokio::sync::watch;
use tonnage::cloud::Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::node_class::{Accelerator, NodeClass};

use crate::scene::{Scene, claim, class};

fn name_of(class: &NodeClass, architecture: &str, accelerator: Accelerator) -> Option<String> {
    class
        .image(architecture, accelerator)
        .map(|image| image.name.clone())
}

#[tokio::test]
async fn an_alias_finds_the_published_image_of_each_kind_of_machine() {
    let scene = Scene::new("alias").await;
    let before = scene.endpoint.calls("GetParameters").await;
    let alias = class(&json!({
        "amiFamily": null, "amiSelectorTerms": [{ "alias": "al2023@latest" }],
    }));
    let found = scene.resolved(&alias).await;
    let name =
        |architecture, accelerator| name_of(&found, architecture, accelerator).unwrap_or_default();
    let published = "amazon-eks-node-al2023";
    assert_eq!(
        name("amd64", Accelerator::None),
        format!("{published}-x86_64-standard-1.33-v20250915")
    );
    assert_eq!(
        name("amd64", Accelerator::Neuron),
        format!("{published}-x86_64-neuron-1.33-v20250915")
    );
    assert_eq!(
        name("arm64", Accelerator::Nvidia),
        format!("{published}-arm64-nvidia-1.33-v20250915")
    );
    // What no image has drivers for is not offered, and GPUs get theirs.
    assert_eq!(name("amd64", Accelerator::Other), "");
    let types = &found.catalogue.types;
    assert!(types.contains_key("g4dn.xlarge") && types.contains_key("c5.xlarge"));
    assert!(!types.contains_key("g4ad.xlarge"));
    let offerings = ["g4dn.xlarge/us-east-1a/on-demand".parse().unwrap()];
    let templates = scene
        .cloud
        .prepare(&alias, &found, &claim(), &offerings)
        .await
        .unwrap();
    assert_eq!(templates.len(), 1);
    // The five parameters are one call, and are not asked for again with the next look.
    let mut again = alias.clone();
    again.metadata.generation = Some(2);
    assert_eq!(scene.resolved(&again).await.images, found.images);
    assert_eq!(scene.endpoint.calls("GetParameters").await - before, 1);
    scene.end().await;
}

#[tokio::test]
async fn releases_can_be_pinned_and_bottlerocket_gets_its_user_data() {
    let scene = Scene::new("pinned").await;
    for (generation, alias) in [
        "al2023@v20250915",
        "bottlerocket@1.46.0",
        "bottlerocket@latest",
    ]
    .into_iter()
    .enumerate()
    {
        let mut class = class(&json!({
            "amiFamily": null, "amiSelectorTerms": [{ "alias": alias }],
        }));
        class.metadata.generation = Some(i64::try_from(generation).unwrap() + 1);
        let found = scene.resolved(&class).await;
        let (family, _version) = alias.split_once('@').unwrap();
        let name = name_of(&found, "arm64", Accelerator::None).unwrap();
        assert!(name.contains(family), "{alias}: {name}");
    }
    let class = class(&json!({
        "amiFamily": null, "amiSelectorTerms": [{ "alias": "bottlerocket@latest" }],
        "userData": "[settings.host-containers.admin]\nenabled = true\n",
    }));
    let record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
        .await;
    let outcome = scene.launch(&record, &class).await;
    let machine = scene.endpoint.instance(&outcome.instances[0].id).await;
    let user_data = crate::templates::decoded(machine["userData"].as_str().unwrap());
    assert!(user_data.contains("max-pods = 58"), "{user_data}");
    assert!(
        user_data.contains("[settings.host-containers.admin]"),
        "{user_data}"
    );
    let sizes: Vec<i64> = machine["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| volume["sizeGiB"].as_i64())
        .collect();
    assert_eq!(sizes, [6, 20]);
    scene.end().await;
}

#[tokio::test]
async fn what_finds_no_image_is_named_with_the_reason() {
    let scene = Scene::new("no-image").await;
    for (generation, (terms, reason, message)) in [
        (
            json!([{ "alias": "al2023@v19990101" }]),
            "UnsupportedAlias",
            "spec.amiSelectorTerms[0] (alias al2023@v19990101): AWS publishes no such image for \
             Kubernetes 1.33",
        ),
        (
            json!([{ "ssmParameter": "/tonnage-test/absent" }]),
            "AMINotFound",
            "(SSM parameter /tonnage-test/absent): there is no such SSM parameter",
        ),
        (
            json!([{ "ssmParameter": "/tonnage-test/no-image" }, { "id": "ami-0123456789abcdef0" }]),
            "AMINotFound",
            "holds no image id; put one in, as in ami-0123456789abcdef0; no image matches \
             spec.amiSelectorTerms[1] (id ami-0123456789abcdef0)",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut class = class(&json!({ "amiFamily": "Custom", "amiSelectorTerms": terms }));
        class.metadata.generation = Some(i64::try_from(generation).unwrap() + 1);
        let resolution = scene.cloud.resolve(&class).await.unwrap();
        let why = resolution.conditions["AMIsReady"].clone().unwrap_err();
        assert_eq!(why.reason, reason, "{}", why.message);
        assert!(why.message.contains(message), "{}", why.message);
    }
    scene.end().await;
}

#[tokio::test]
async fn without_a_version_an_alias_waits_and_an_outage_of_ssm_changes_nothing() {
    let scene = Scene::new("outage").await;
    let alias = class(&json!({
        "amiFamily": null, "amiSelectorTerms": [{ "alias": "al2023@latest" }],
    }));
    let early = scene
        .connect(CloudSettings {
            kubernetes_version: watch::channel(None).1,
            ..scene.settings()
        })
        .await;
    let why = early.resolve(&alias).await.unwrap().conditions["AMIsReady"]
        .clone()
        .unwrap_err();
    assert!(
        why.message.contains("has not said its Kubernetes version"),
        "{}",
        why.message
    );
    let refusal = json!({ "status": 400, "code": "AccessDeniedException" });
    scene
        .endpoint
        .fault("GetParameters", "error", 2, refusal)
        .await;
    let error = scene.cloud.resolve(&alias).await.unwrap_err();
    assert!(error.message.contains("allow ssm:GetParameters"), "{error}");
    scene.endpoint.calm().await;
    drop(scene.resolved(&alias).await);
    scene.end().await;
}
