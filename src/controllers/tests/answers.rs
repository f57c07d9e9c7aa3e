//! Answers of EC2 that do not say everything.

use super::Stage;
use crate::settings::Mode;
use crate::sim::faults::CallFault;
use crate::sim::life::Life;

#[tokio::test(start_paused = true)]
async fn what_a_repeated_launch_does_not_list_is_found_and_not_bought_again() {
    let stage = Stage::new();
    stage.world.ec2.answer_repeats_barely();
    stage.fail_launches(&[CallFault::AnswerLost]);
    let _process = stage.run();
    stage.two_pods_run().await;
    assert_eq!(stage.world.ec2.machines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_died_after_its_launch_leaves_machines_that_are_found() {
    let stage = Stage::new();
    stage.world.ec2.answer_repeats_barely();
    let life = Life::new();
    let first = stage.start(Mode::Run, 7, life.clone());
    stage.pod("a");
    stage.pod("b");
    stage
        .until(60, "both are launched", |stage| {
            stage.world.ec2.machines().len() == 2
        })
        .await;
    first.kill();
    let _second = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(300, "both pods run", |stage| stage.running_pods() == 2)
        .await;
    assert_eq!(stage.world.ec2.machines().len(), 2);
}
