//! A launch is rehearsed before a node class is ready, and what the controller may not do is named.

use std::time::Duration;

use serde_json::{Value, json};
use tonnage::cloud::Cloud;
use tonnage::cloud::rehearsal::Rehearsal;
use tonnage::model::launch::ErrorClass;
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::wire::policy::{Names, Policy};
use tonnage::sim::faults::CallFault;

use crate::endpoint::Endpoint;
use crate::scene::{Scene, class};
use crate::waiting::eventually;
use crate::whole::{Controller, begin, over, shipped};

/// What a rehearsal calls.
const STEPS: [&str; 3] = ["CreateLaunchTemplate", "CreateFleet", "RunInstances"];

/// A policy without an action.
pub(crate) fn without(policy: &str, action: &str) -> String {
    let mut policy: Value = serde_json::from_str(policy).unwrap();
    let mut found = 0;
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let actions = match statement["Action"].take() {
            Value::Array(actions) => actions,
            one => vec![one],
        };
        let (left_out, mut kept): (Vec<Value>, Vec<Value>) =
            actions.into_iter().partition(|known| known == action);
        found += left_out.len();
        if kept.is_empty() {
            kept.push(json!("ec2:Nothing"));
        }
        statement["Action"] = Value::Array(kept);
    }
    assert!(found > 0, "{action} is in no statement");
    policy.to_string()
}

fn policy_of(name: &str) -> String {
    Policy::shipped_text(&Names {
        cluster: &format!("{name}-{}", std::process::id()),
        region: "us-east-1",
        account: "123456789012",
        node_role: "tonnage-node",
    })
}

async fn scene(name: &str, policy: &str) -> Scene {
    let policy = Policy::parse(policy).unwrap();
    Scene::at(Endpoint::begin().await.under(policy), name).await
}

/// How often each step was called.
async fn steps(scene: &Scene) -> [u64; 3] {
    let mut calls = [0; 3];
    for (count, step) in calls.iter_mut().zip(STEPS) {
        *count = scene.endpoint.calls(step).await;
    }
    calls
}

#[tokio::test]
async fn the_shipped_policy_passes_and_an_answer_serves_for_an_hour() {
    let scene = scene("rehearsed", &policy_of("rehearsed")).await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    // Once on-demand and once spot.
    for (pause, calls) in [(0, [2, 2, 2]), (3_500, [2, 2, 2]), (200, [2, 4, 4])] {
        tokio::time::advance(Duration::from_secs(pause)).await;
        let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
        assert_eq!(rehearsal, Ok(Rehearsal::Passed));
        assert_eq!(steps(&scene).await, calls, "after {pause} s");
    }
    assert!(
        scene.endpoint.ec2.machines().is_empty(),
        "nothing is bought"
    );
    // Another content is another question.
    let mut other = class.clone();
    other.spec.tags.insert("team".to_owned(), "data".to_owned());
    other.metadata.generation = Some(2);
    let resolved = scene.resolved(&other).await;
    let rehearsal = scene.cloud.rehearse(&other, &resolved).await;
    assert_eq!(rehearsal, Ok(Rehearsal::Passed));
    assert_eq!(steps(&scene).await, [4, 6, 6]);
    scene.end().await;
}

/// A controller without an action is told which, with its role, and EC2 is left alone for a while.
async fn is_named(name: &str, action: &str, reason: &str) {
    let scene = scene(name, &without(&policy_of(name), action)).await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
    let Ok(Rehearsal::Failed(why)) = rehearsal else {
        panic!("{action}: {rehearsal:?}");
    };
    assert_eq!(why.reason, reason, "{action}: {}", why.message);
    let advice = format!("; allow {action} for the controller's role controller");
    assert!(why.message.contains(&advice), "{}", why.message);
    let before = steps(&scene).await;
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(scene.cloud.rehearse(&class, &resolved).await.is_ok());
    assert_eq!(steps(&scene).await, before, "no hot loop");
    scene.end().await;
}

#[tokio::test]
async fn a_template_that_may_not_be_made_is_named() {
    let reason = "CreateLaunchTemplateAuthCheckFailed";
    is_named("lacks-templates", "ec2:CreateLaunchTemplate", reason).await;
}

#[tokio::test]
async fn tags_that_may_not_be_put_on_are_named() {
    let reason = "CreateLaunchTemplateAuthCheckFailed";
    is_named("lacks-tags", "ec2:CreateTags", reason).await;
}

#[tokio::test]
async fn a_fleet_that_may_not_be_made_is_named() {
    is_named(
        "lacks-fleets",
        "ec2:CreateFleet",
        "CreateFleetAuthCheckFailed",
    )
    .await;
}

#[tokio::test]
async fn machines_that_may_not_be_run_are_named() {
    is_named(
        "lacks-machines",
        "ec2:RunInstances",
        "RunInstancesAuthCheckFailed",
    )
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_be_passed_is_named() {
    is_named("lacks-role", "iam:PassRole", "RunInstancesAuthCheckFailed").await;
}

#[tokio::test]
async fn a_profile_that_ec2_does_not_know_fails_the_class() {
    let scene = Scene::new("no-profile").await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    scene.endpoint.ec2.lack(&["tonnage-node"]);
    let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
    let Ok(Rehearsal::Failed(why)) = rehearsal else {
        panic!("{rehearsal:?}");
    };
    assert_eq!(why.reason, "InstanceProfileNotFound", "{}", why.message);
    scene.end().await;
}

/// A policy may allow some types alone: what is refused for one machine is asked for another.
#[tokio::test]
async fn a_machine_that_may_not_be_run_is_no_verdict_on_others() {
    let scene = Scene::new("one-type").await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let refuse = async |times| {
        let refusal = json!({ "status": 403, "code": "UnauthorizedOperation" });
        scene
            .endpoint
            .fault("RunInstances", "error", times, refusal)
            .await;
    };
    refuse(2).await;
    let said = scene.cloud.rehearse(&class, &resolved).await.unwrap();
    assert!(matches!(said, Rehearsal::Failed(_)), "{said:?}");
    tokio::time::advance(Duration::from_secs(31)).await;
    refuse(1).await;
    let said = scene.cloud.rehearse(&class, &resolved).await.unwrap();
    assert!(matches!(said, Rehearsal::Doubtful(_)), "{said:?}");
    scene.end().await;
}

/// What spot needs beside on-demand is found out before the first launch, and keeps nobody from on-demand.
#[tokio::test]
async fn a_right_that_only_spot_lacks_is_named_and_on_demand_goes_on() {
    let mut policy: Value = serde_json::from_str(&policy_of("no-spot")).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        if let Value::Array(resources) = &mut statement["Resource"] {
            let is_of_spot = |arn: &Value| arn.as_str().unwrap().contains("spot-instances-request");
            resources.retain(|arn| !is_of_spot(arn));
        }
    }
    let scene = scene("no-spot", &policy.to_string()).await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
    let Ok(Rehearsal::Doubtful(why)) = rehearsal else {
        panic!("{rehearsal:?}");
    };
    assert_eq!(why.reason, "RunInstancesAuthCheckFailed");
    for part in [
        "of spot machines alone: ",
        "spot-instances-request/*",
        "; allow ec2:RunInstances for the controller's role controller",
    ] {
        assert!(why.message.contains(part), "{part}: {}", why.message);
    }
    // On-demand passed for an hour; of spot is asked again, in case somebody mends it, but not each minute: many accounts
    // never buy spot.
    let before = steps(&scene).await;
    tokio::time::advance(Duration::from_mins(9)).await;
    assert!(scene.cloud.rehearse(&class, &resolved).await.is_ok());
    assert_eq!(steps(&scene).await, before);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(scene.cloud.rehearse(&class, &resolved).await.is_ok());
    let [templates, fleets, machines] = before;
    assert_eq!(
        steps(&scene).await,
        [templates, fleets + 1, machines + 1],
        "only spot"
    );
    scene.end().await;
}

/// EC2 that fails for a while about spot keeps nobody from on-demand.
#[tokio::test]
async fn one_way_of_buying_that_passed_does_not_wait_for_the_other() {
    let scene = Scene::new("one-way").await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let rules = &scene.endpoint.rules;
    rules.add("RunInstances", 1, 1, CallFault::Throttled);
    for _look in 0..2 {
        let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
        assert_eq!(rehearsal, Ok(Rehearsal::Passed));
    }
    // Once on-demand, and twice spot.
    assert_eq!(scene.endpoint.calls("RunInstances").await, 3);
    scene.end().await;
}

#[tokio::test]
async fn what_passes_by_itself_is_no_verdict_and_takes_none_back() {
    let scene = Scene::new("throttled").await;
    let class = class(&json!({}));
    let resolved = scene.resolved(&class).await;
    let throttled = async || {
        scene
            .endpoint
            .fault("RunInstances", "throttle", 1, json!({}))
            .await;
    };
    throttled().await;
    let error = scene.cloud.rehearse(&class, &resolved).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Throttled);
    let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
    assert_eq!(rehearsal, Ok(Rehearsal::Passed), "asked again at once");
    tokio::time::advance(Duration::from_mins(61)).await;
    throttled().await;
    let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
    assert_eq!(rehearsal, Ok(Rehearsal::Passed), "it passed before");
    // A template that somebody removed is made again.
    tokio::time::advance(Duration::from_mins(61)).await;
    let templates = scene.cloud.templates().await.unwrap();
    assert_eq!(templates.len(), 2, "one for on-demand, one for spot");
    let beside = scene.restarted().await;
    for template in &templates {
        beside.remove_template(template).await.unwrap();
    }
    for _look in 0..2 {
        let rehearsal = scene.cloud.rehearse(&class, &resolved).await;
        assert_eq!(rehearsal, Ok(Rehearsal::Passed));
    }
    assert_eq!(scene.cloud.templates().await, Ok(templates));
    scene.end().await;
}

/// What a node class says of its validation: status, reason and message.
pub(crate) fn validation(world: &Embedded) -> Option<(String, String, String)> {
    let key = Key::new(Resource::NodeClass, "", "default");
    let object = world.api.get(&key)?;
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == "ValidationSucceeded")?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

#[tokio::test]
async fn a_class_says_which_action_is_missing_and_nothing_is_tried_before_it_is_there() {
    tokio::time::pause();
    let world = begin();
    let policy = without(&shipped(&world), "ec2:RunInstances");
    let first = Controller::under(&world, &policy, Mode::Run).await;
    let message = eventually("the class says it", 120, async || {
        match validation(&world) {
            Some((status, reason, message)) if reason == "RunInstancesAuthCheckFailed" => {
                assert_eq!(status, "False");
                Ok(message)
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let advice = "allow ec2:RunInstances for the controller's role controller";
    assert!(message.contains(advice), "{message}");
    world.pass(Duration::from_mins(5)).await;
    assert_eq!(world.api.count(Resource::NodeClaim), 0);
    let asked = world.ec2.calls()["RunInstances"].calls;
    // Two machines each half minute.
    assert!(asked <= 24, "asked {asked} times in five minutes");
    first.process.stop().await;
    first.bury();
    let second = Controller::under(&world, &shipped(&world), Mode::Run).await;
    over(&world).await;
    let (status, _reason, message) = validation(&world).unwrap();
    assert_eq!((status.as_str(), message.as_str()), ("True", ""));
    second.process.stop().await;
    second.bury();
    world.end().await;
}

#[tokio::test]
async fn who_only_observes_rehearses_nothing() {
    tokio::time::pause();
    let world = begin();
    let observer = Controller::under(&world, &shipped(&world), Mode::Observe).await;
    world.pass(Duration::from_mins(5)).await;
    let calls = world.ec2.calls();
    assert!(calls.contains_key("DescribeSubnets"), "it looks");
    for step in STEPS {
        assert!(!calls.contains_key(step), "{step}");
    }
    observer.process.stop().await;
    observer.bury();
    world.end().await;
}
