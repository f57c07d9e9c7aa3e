//! vCPU quotas of the account: a burst that meets them, what claims and pods are told, and what it costs in calls.

use std::time::Duration;

use serde_json::Value;
use tonnage::model::offering::CapacityType;
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;

use crate::waiting::eventually;
use crate::whole::{Controller, PODS, begin_with, shipped, work};

/// Machines of four vCPUs that the quotas leave room for: two spot, one on-demand.
const MACHINES: usize = 3;

/// The pods that run.
fn running(world: &Embedded) -> usize {
    let pods = world.api.all(Resource::Pod);
    let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
    pods.iter().filter(runs).count()
}

/// What the claims that have no machine say: reason and message.
fn told(world: &Embedded) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_launch = |claim: &Value| {
        let conditions = claim["status"]["conditions"].as_array()?;
        let launched = conditions
            .iter()
            .find(|condition| condition["type"] == "Launched" && condition["status"] != "True")?;
        Some((text(&launched["reason"]), text(&launched["message"])))
    };
    let claims = world.api.all(Resource::NodeClaim);
    claims.iter().filter_map(of_launch).collect()
}

/// Calls to CreateFleet, rehearsals among them.
fn launches(world: &Embedded) -> u64 {
    world.ec2.calls()["CreateFleet"].calls
}

#[tokio::test]
async fn a_burst_meets_the_quota_says_so_waits_and_goes_on_when_it_is_raised() {
    tokio::time::pause();
    let world = begin_with(work(PODS, None).deployment());
    world.ec2.set_vcpu_quota(CapacityType::Spot, Some(8));
    world.ec2.set_vcpu_quota(CapacityType::OnDemand, Some(7));
    let controller = Controller::under(&world, &shipped(&world), Mode::Run).await;
    eventually(
        "what fits the quotas runs, and the rest says why",
        600,
        async || {
            let (running, told) = (running(&world), told(&world));
            match told.as_slice() {
                [(reason, message)] if running == MACHINES && reason == "QuotaExceeded" => {
                    assert!(message.contains("Service Quotas"), "{message}");
                    Ok(())
                }
                other => Err(format!("{running} run, {other:?}")),
            }
        },
    )
    .await;
    eventually("the pod that waits is told why", 300, async || {
        let events = world.api.all(Resource::Event);
        let of_pods = events
            .iter()
            .filter(|event| event["regarding"]["kind"] == "Pod");
        let notes: Vec<&str> = of_pods.filter_map(|event| event["note"].as_str()).collect();
        if notes.iter().any(|note| note.contains("quota")) {
            Ok(())
        } else {
            Err(notes.join("\n"))
        }
    })
    .await;
    let before = launches(&world);
    let machines = world.ec2.machines().len();
    world.pass(Duration::from_hours(1)).await;
    let tried = launches(&world) - before;
    assert!(tried <= 20, "tried {tried} times in an hour");
    assert_eq!(
        world.ec2.machines().len(),
        machines,
        "nothing was bought in vain"
    );
    assert_eq!((machines, running(&world)), (MACHINES, MACHINES));
    world.ec2.set_vcpu_quota(CapacityType::OnDemand, Some(8));
    // Whoever meets it again and again looks every quarter of an hour.
    eventually("all run once the quota is raised", 1_200, async || {
        let running = running(&world);
        if running == PODS {
            Ok(())
        } else {
            Err(format!("{running} run, {:?}", told(&world)))
        }
    })
    .await;
    assert_eq!(world.ec2.machines().len(), PODS);
    controller.stop().await;
    world.end().await;
}
