//! Machines that never join are not bought for ever.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::sim::api_server::Resource::{NodeClass, NodePool};
use crate::sim::ec2::machine::EndCause;

impl Stage {
    /// The NodePool may buy a second size too.
    fn sells_two_sizes(&self) {
        self.change(NodePool, "general", |pool| {
            let sizes = json!(["c5.xlarge", "c5.2xlarge"]);
            pool["spec"]["template"]["spec"]["requirements"][1]["values"] = sizes;
        });
    }

    /// How many machines of a size were ever launched.
    fn launched(&self, size: &str) -> usize {
        let machines = self.machines();
        let of_size = |name: &str| name == size;
        machines
            .iter()
            .filter(|machine| of_size(&machine.offering.instance_type))
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn pods_run_on_another_type_after_two_machines_of_one_did_not_join() {
    let stage = Stage::new();
    stage.sells_two_sizes();
    stage.world.ec2.set_barren("c5.xlarge", true);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(35 * 60, "the pod runs on another type", |stage| {
            stage.running_pods() == 1
        })
        .await;
    assert_eq!(stage.launched("c5.xlarge"), 2);
    let told = stage.told("MachinesDoNotJoin");
    assert!(told[0].contains("2 machines of c5.xlarge"), "{told:?}");
    assert!(told[0].contains("user data"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_joins_pods_are_told_what_to_look_at_and_one_machine_is_tried_after_each_rest()
 {
    let stage = Stage::new();
    stage.world.ec2.set_barren("c5.xlarge", true);
    let _process = stage.run();
    stage.pod("a");
    stage.pod("b");
    stage
        .until(17 * 60, "both machines are given up", |stage| {
            stage.machines().len() == 2 && stage.running().is_empty()
        })
        .await;
    stage
        .until(30, "pods are told", |stage| {
            let told = stage.told("FailedScheduling");
            told.iter().any(|told| {
                told.contains("EC2NodeClass default did not join") && told.contains("user data")
            })
        })
        .await;
    stage
        .until(11 * 60, "one is tried", |stage| stage.machines().len() == 3)
        .await;
    tokio::time::sleep(Duration::from_mins(14)).await;
    assert_eq!(stage.running().len(), 1, "no other beside it");
    stage.world.ec2.set_barren("c5.xlarge", false);
    stage
        .until(
            25 * 60,
            "the next machine joins and the other pod gets its own",
            |stage| stage.running_pods() == 2,
        )
        .await;
    assert_eq!(stage.machines().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_join_is_known_after_a_restart() {
    let stage = Stage::new();
    stage.sells_two_sizes();
    stage.world.ec2.set_barren("c5.xlarge", true);
    let first = stage.run();
    stage.pod("a");
    stage
        .until(35 * 60, "its class is told of", |stage| {
            !stage.told("MachinesDoNotJoin").is_empty()
        })
        .await;
    first.stop().await;
    let _second = stage.run();
    stage
        .until(3 * 60, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
    assert_eq!(stage.launched("c5.xlarge"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_was_changed_is_tried_at_once() {
    let stage = Stage::new();
    stage.world.ec2.set_barren("c5.xlarge", true);
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(35 * 60, "its class is told of", |stage| {
            !stage.told("MachinesDoNotJoin").is_empty()
        })
        .await;
    stage.world.ec2.set_barren("c5.xlarge", false);
    stage.change(NodeClass, "default", |class| {
        class["spec"]["userData"] = json!("#!/bin/sh\ntrue\n");
    });
    stage
        .until(3 * 60, "the pod runs", |stage| stage.running_pods() == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn machines_that_were_taken_away_before_they_joined_say_nothing_of_their_type() {
    let stage = Stage::new();
    stage.world.ec2.set_barren("c5.xlarge", true);
    let _process = stage.run();
    stage.pod("a");
    for taken in 1..=3 {
        stage
            .until(3 * 60, "a machine is bought", |stage| {
                stage.machines().len() == taken && stage.running().len() == 1
            })
            .await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        let machine = stage.running()[0].id.clone();
        stage.world.ec2.end(&machine, EndCause::Terminated);
    }
    assert_eq!(stage.told("MachinesDoNotJoin"), Vec::<String>::new());
}
