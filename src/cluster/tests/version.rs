//! The cluster's version is known as soon as the API server says it, and follows upgrades.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::script::{Script, failure};
use super::watching::world;
use crate::cluster::version;

fn said(minor: &str) -> Value {
    json!({
        "major": "1", "minor": minor, "gitVersion": "", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
    })
}

#[tokio::test(start_paused = true)]
async fn the_version_is_asked_for_until_it_is_known_and_again_after_that() {
    let script = Script::new();
    let silence = failure(500, "InternalError", "not now");
    script
        .on("GET", "/version", 500, &silence)
        .on("GET", "/version", 200, &said("33"))
        .on("GET", "/version", 500, &silence)
        .on("GET", "/version", 200, &said("34+"));
    let world = world();
    let follower = version::follow(script.client(), &world);
    let known = || follower.borrow().map(|version| version.to_string());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(known(), None);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(known().as_deref(), Some("1.33"));
    sleep(Duration::from_mins(5)).await;
    assert_eq!(known().as_deref(), Some("1.33"), "what was known stays");
    sleep(Duration::from_mins(5)).await;
    assert_eq!(known().as_deref(), Some("1.34"));
    world.shut_down().await;
}
