//! The controller's own credentials: none of them reaches a machine, and a wrong one is said once.

use serde_json::json;
use tonnage::cloud::Cloud;
use tonnage::model::launch::ErrorClass;

use crate::endpoint::SECRETS;
use crate::scene::{Scene, class};
use crate::templates::decoded;

#[tokio::test]
async fn no_credential_is_in_the_user_data_of_any_family() {
    let scene = Scene::new("secrets").await;
    let families = [
        ("AL2023", "#!/bin/bash\necho own\n"),
        ("Bottlerocket", "[settings.motd]\nvalue = \"own\"\n"),
        ("Custom", "own"),
    ];
    for (family, own) in families {
        let mut class = class(&json!({ "amiFamily": family, "userData": own }));
        class.metadata.name = Some(family.to_lowercase());
        let mut record = scene
            .record(&class, 1, &["c5.xlarge/us-east-1a/on-demand"])
            .await;
        record.batch = format!("batch-{family}");
        let outcome = scene.launch(&record, &class).await;
        let machine = scene.endpoint.instance(&outcome.instances[0].id).await;
        let user_data = decoded(machine["userData"].as_str().unwrap());
        assert!(user_data.contains("own"), "{family}: {user_data}");
        for secret in SECRETS {
            assert!(!user_data.contains(secret), "{family}: {user_data}");
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn a_wrong_key_is_one_clear_error_after_one_call() {
    let scene = Scene::new("wrong-key").await;
    let wrong = json!({ "status": 401 });
    scene
        .endpoint
        .fault("DescribeSubnets", "error", 100, wrong)
        .await;
    let before = scene.endpoint.calls("DescribeSubnets").await;
    let error = scene.cloud.resolve(&class(&json!({}))).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized);
    assert_eq!(error.code, "AuthFailure");
    assert!(
        error.message.contains("the credentials were not accepted"),
        "{error}"
    );
    let calls = scene.endpoint.calls("DescribeSubnets").await - before;
    assert_eq!(
        calls, 1,
        "nothing is repeated before somebody changes something"
    );
    scene.end().await;
}
