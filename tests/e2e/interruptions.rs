//! EC2 announces that it takes a machine back, through a real queue.

use jiff::Timestamp;
use serde_json::json;

use crate::cluster::{Cluster, run};
use crate::controller::{Controller, Route};
use crate::waiting::eventually;
use crate::world::World;

const QUEUE: &str = "tonnage-e2e";

async fn announce(sqs: &aws_sdk_sqs::Client, url: &str, machine: &str) {
    let warning = json!({
        "version": "0", "id": "e2e", "source": "aws.ec2", "account": "123456789012", "region": "us-east-1",
        "detail-type": "EC2 Spot Instance Interruption Warning", "time": Timestamp::now().to_string(),
        "detail": {"instance-id": machine, "instance-action": "terminate"},
    });
    let message = sqs.send_message().queue_url(url);
    let message = message.message_body(warning.to_string());
    message.send().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_machine_is_drained_and_replaced() {
    let world = World::fresh().await;
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::v2026_01_12()).await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    let made = sqs.create_queue().queue_name(QUEUE).send().await.unwrap();
    let url = made.queue_url.unwrap();
    let _controller = Controller::start(Route::Direct, &["--interruption-queue", QUEUE]).await;
    Cluster::apply_file("hack/scene/node-classes.yaml");
    Cluster::apply_file("hack/scene/node-pools.yaml");
    Cluster::apply_file("hack/scene/workload.yaml");
    drop(run("kubectl", &["delete", "jobs", "--all", "--wait=false"]));
    world.cluster.scale_executors(3).await;
    world.cluster.wait_for_started(3, 120).await;
    let machines = world.endpoint.machines().await;
    let spot = machines
        .iter()
        .find(|machine| machine.capacity_type == "spot");
    let taken = spot.unwrap_or_else(|| panic!("{machines:?}")).id.clone();
    announce(&sqs, &url, &taken).await;
    eventually("the machine is gone before EC2 takes it", 100, async || {
        let machines = world.endpoint.machines().await;
        if machines.iter().any(|machine| machine.id == taken) {
            Err(format!("{machines:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    world.cluster.wait_for_started(3, 90).await;
    world.cluster.scale_executors(0).await;
    world.cluster.wait_for_nothing(&world.endpoint, 90).await;
    sqs.delete_queue().queue_url(&url).send().await.unwrap();
}
