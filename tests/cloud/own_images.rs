//! Images of the account's own: by SSM parameter and by owner.

use serde_json::json;
use tonnage::cloud::Cloud;

use crate::scene::{Scene, class};

#[tokio::test]
async fn a_parameter_of_ones_own_selects_an_image() {
    let scene = Scene::new("parameter").await;
    let class = class(&json!({
        "amiSelectorTerms": [{ "ssmParameter": "/tonnage-test/image" }],
    }));
    let found = scene.resolved(&class).await;
    assert_eq!(found.images["amd64"][0].name, "tonnage-test-deprecated");
    assert!(found.images["amd64"][0].deprecated);
    let resolution = scene.cloud.resolve(&class).await.unwrap();
    let remark = &resolution.remarks["AMIsReady"];
    assert_eq!(remark.reason, "ImageDeprecated", "{}", remark.message);
    scene.end().await;
}

#[tokio::test]
async fn an_owner_narrows_what_is_found() {
    let scene = Scene::new("owner").await;
    let by = |owner: &str, generation: i64| {
        let mut class = class(&json!({
            "amiSelectorTerms": [{ "name": "tonnage-test-node-*", "owner": owner }],
        }));
        class.metadata.generation = Some(generation);
        class
    };
    let own = scene.resolved(&by("self", 1)).await;
    assert_eq!(own.images.len(), 2);
    let others = scene.cloud.resolve(&by("210987654321", 2)).await.unwrap();
    let message = others.conditions["AMIsReady"].clone().unwrap_err().message;
    assert!(
        message.contains("(name tonnage-test-node-*, owner 210987654321)"),
        "{message}"
    );
    scene.end().await;
}
