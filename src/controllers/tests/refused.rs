//! Launches that EC2 refuses, and how claims learn of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::settings::Mode;
use crate::sim::api_server::Resource::NodeClaim;
use crate::sim::embedded::{ProcessOptions, default_settings};
use crate::sim::faults::{About, CallFault, Calm, Faults, Journey};

/// Calls of one operation that go wrong, and an API server whose answers to writes of conditions are slow.
#[derive(Debug, Clone, Copy)]
struct Failing {
    operation: &'static str,
    fault: CallFault,
}

impl Faults for Failing {
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey {
        let mut journey = Calm.request(who, method, path);
        if path.contains("/nodeclaims/") && path.ends_with("/status") {
            journey.there = Duration::from_secs(1);
        }
        journey
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        let (takes, _never) = Calm.call(who, operation, about);
        let is_it = operation == self.operation;
        (takes, is_it.then_some(self.fault))
    }
}

impl Stage {
    fn run_failing(&self, operation: &'static str, fault: CallFault) -> crate::sim::Process {
        self.world.start(ProcessOptions {
            faults: Arc::new(Failing { operation, fault }),
            ..ProcessOptions::new(7, default_settings(Mode::Run, 1))
        })
    }

    /// How many claims give such a reason for not being launched.
    fn saying(&self, reason: &str) -> usize {
        let says = json!(reason);
        let claims = self.all(NodeClaim);
        let conditions = claims
            .iter()
            .filter_map(|claim| claim["status"]["conditions"].as_array())
            .flatten();
        let of_launch = conditions.filter(|condition| condition["type"] == "Launched");
        of_launch
            .filter(|condition| condition["reason"] == says)
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_batch_learns_at_once_why_it_was_refused() {
    const PODS: usize = 40;
    let stage = Stage::new();
    let _process = stage.run_failing("CreateFleet", CallFault::Denied);
    for number in 0..PODS {
        stage.pod(&format!("p{number}"));
    }
    stage
        .until(20, "every claim says why", |stage| {
            stage.saying("Unauthorized") == PODS
        })
        .await;
    assert!(!stage.told("LaunchFailed").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_throttled_is_repeated_and_no_claim_is_told() {
    let stage = Stage::new();
    let _process = stage.run_failing("CreateLaunchTemplate", CallFault::Throttled);
    stage.pod("a");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.all(NodeClaim).len(), 1);
    assert_eq!(stage.saying("LaunchFailed"), 0);
    assert_eq!(stage.told("LaunchFailed"), Vec::<String>::new());
    let calls = stage.world.ec2.calls();
    assert!(calls["CreateLaunchTemplate"].calls > 3, "it is repeated");
}
