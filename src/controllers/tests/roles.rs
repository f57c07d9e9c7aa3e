//! Instance profiles follow the roles and the lives of node classes.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use crate::settings::Mode;
use crate::sim::api_server::Resource;
use crate::sim::life::Life;

impl Stage {
    /// Gives the node class a role instead of a profile.
    fn role(&self, role: &str) {
        let mut class = self.all(Resource::NodeClass).remove(0);
        let spec = class["spec"].as_object_mut().unwrap();
        spec.remove("instanceProfile");
        spec.insert("role".to_owned(), json!(role));
        self.world
            .apply(json!({
                "apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass",
                "metadata": { "name": "default" }, "spec": spec,
            }))
            .unwrap();
    }

    fn profile(&self) -> Value {
        self.all(Resource::NodeClass)[0]["status"]["instanceProfile"].clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_there_before_the_first_launch_and_goes_with_the_class() {
    let stage = Stage::new();
    stage.role("nodes");
    let _process = stage.run();
    stage.one_pod_runs().await;
    let profile = stage.profile();
    assert!(
        profile.as_str().unwrap().starts_with("tonnage-"),
        "{profile}"
    );
    let made = stage.world.ec2.profiles();
    assert_eq!(made, [profile.as_str().unwrap()]);
    // The class waits for its machines, and its profile with it. No other machine is made through it.
    stage.delete(Resource::NodeClass, "default");
    stage.pod("b");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stage.machines().len(), 1);
    let told = stage.told("FailedScheduling").join(" ");
    assert!(told.contains("it is being deleted"), "{told}");
    assert_eq!(stage.world.ec2.profiles(), made);
    for pod in ["a", "b"] {
        stage.delete(Resource::Pod, pod);
    }
    stage
        .until(300, "the class is gone", |stage| {
            stage.all(Resource::NodeClass).is_empty()
        })
        .await;
    assert_eq!(stage.world.ec2.profiles(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_profile_of_an_earlier_role_stays_while_machines_have_it() {
    let stage = Stage::new();
    stage.role("nodes");
    let _process = stage.run();
    stage.one_pod_runs().await;
    let first = stage.profile();
    stage.role("others");
    stage
        .until(60, "the status names the new profile", |stage| {
            stage.profile() != first
        })
        .await;
    tokio::time::sleep(Duration::from_hours(5)).await;
    assert_eq!(
        stage.world.ec2.profiles().len(),
        2,
        "a machine has the first one"
    );
    stage.delete(Resource::Pod, "a");
    stage.until(300, "nothing is left", Stage::is_bare).await;
    tokio::time::sleep(Duration::from_hours(3)).await;
    let second = stage.profile();
    assert_eq!(stage.world.ec2.profiles(), [second.as_str().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn who_only_observes_makes_no_profile() {
    let stage = Stage::new();
    stage.role("nodes");
    let _process = stage.start(Mode::Observe, 7, Life::new());
    stage.pod("a");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.world.ec2.profiles(), Vec::<String>::new());
}
