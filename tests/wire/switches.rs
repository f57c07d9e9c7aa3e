//! What a class switches on in its machines, and what it passes on to EC2 as it is.

use serde_json::{Value, json};
use tonnage::api::fields;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::facts::Feature;
use tonnage::cloud::{Cloud, InstanceQuery};
use tonnage::model::launch::ErrorClass;

use crate::scene::{Scene, class};

const OFFERING: &str = "c5.xlarge/us-east-1a/on-demand";

/// A class that is acted on in full.
fn switched(spec: &Value) -> EC2NodeClass {
    let class = class(spec);
    assert_eq!(fields::node_class_notices(&class), []);
    class
}

#[tokio::test]
async fn enclaves_are_switched_on_where_types_have_them() {
    let scene = Scene::new("enclaves").await;
    let class = switched(&json!({ "enclaveOptions": { "enabled": true } }));
    let types = scene.resolved(&class).await.catalogue.types.clone();
    assert!(types.contains_key("c5.xlarge"));
    assert!(!types.contains_key("t3.xlarge") && !types.contains_key("c5.large"));
    let mut record = scene.record(&class, 1, &[OFFERING]).await;
    let outcome = scene.launch(&record, &class).await;
    let machine = scene
        .endpoint
        .ec2
        .machine(&outcome.instances[0].id)
        .unwrap();
    let features = &machine.template.as_ref().unwrap().data.features;
    assert!(features.contains(&Feature::Enclaves));
    // A type without them is refused, whoever asks.
    for template in &mut record.templates {
        for choice in &mut template.overrides {
            "t3.xlarge".clone_into(&mut choice.instance_type);
        }
    }
    record.attempt = 2;
    let refused = scene.launch(&record, &class).await;
    assert_eq!(refused.instances, []);
    assert_eq!(refused.shortfalls[0].class, ErrorClass::Invalid);
    scene.end().await;
}

#[tokio::test]
async fn nothing_is_bought_for_a_switch_that_no_type_has() {
    let scene = Scene::new("nested").await;
    let class = switched(&json!({ "cpuOptions": { "nestedVirtualization": "enabled" } }));
    assert!(scene.resolved(&class).await.catalogue.types.is_empty());
    let mut off = switched(&json!({ "cpuOptions": { "nestedVirtualization": "disabled" } }));
    off.metadata.generation = Some(2);
    assert!(!scene.resolved(&off).await.catalogue.types.is_empty());
    scene.end().await;
}

#[tokio::test]
async fn the_context_is_passed_on() {
    let scene = Scene::new("context").await;
    let class = switched(&json!({ "context": "told-by-aws" }));
    let record = scene.record(&class, 1, &[OFFERING]).await;
    let outcome = scene.launch(&record, &class).await;
    let machine = scene
        .endpoint
        .ec2
        .machine(&outcome.instances[0].id)
        .unwrap();
    assert_eq!(machine.context.as_deref(), Some("told-by-aws"));
    scene.end().await;
}

/// The context is read anew for each call, so an edit makes another request of a repeated one.
#[tokio::test]
async fn a_launch_repeated_after_its_context_was_edited_buys_nothing_twice() {
    let scene = Scene::new("edited-context").await;
    let before = switched(&json!({ "context": "told-by-aws" }));
    let record = scene.record(&before, 1, &[OFFERING]).await;
    let first = scene.launch(&record, &before).await;
    let after = switched(&json!({ "context": "told-otherwise" }));
    scene
        .refused(&record, &after, ErrorClass::TokenMismatch)
        .await;
    let bought = InstanceQuery::Batch(record.batch.clone());
    let found = scene.cloud.instances(&bought).await.unwrap();
    let found: Vec<&String> = found.iter().map(|instance| &instance.id).collect();
    assert_eq!(found, [&first.instances[0].id]);
    scene.end().await;
}
