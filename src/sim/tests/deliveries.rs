//! What was sent arrives when its sender has given up or died, and what the dead would send does not.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::Instant;

use crate::cloud::Cloud as _;
use crate::model::launch::ErrorClass;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::api_server::{Key, Resource};
use crate::sim::ec2::SimulatedCloud;
use crate::sim::faults::{About, CallFault, Faults, Journey};
use crate::sim::history::Line;
use crate::sim::life::Life;
use crate::sim::{Embedded, Options};

const SECOND: Duration = Duration::from_secs(1);
/// How long everything is on its way, in each direction.
const WAY: Duration = Duration::from_secs(2);

/// A network that is slow everywhere, and may make calls later still.
#[derive(Debug)]
struct Slow(Option<CallFault>);

impl Faults for Slow {
    fn request(&self, _who: &str, _method: &http::Method, _path: &str) -> Journey {
        Journey {
            there: WAY,
            back: WAY,
            lag: Duration::ZERO,
            fault: None,
        }
    }

    fn call(&self, _who: &str, _operation: &str, _about: &About) -> (Duration, Option<CallFault>) {
        (WAY * 2, self.0)
    }
}

/// A world with machines that nobody asked for, and a process that can end them.
struct Stage {
    world: Embedded,
    life: Life,
    cloud: Arc<SimulatedCloud>,
}

impl Stage {
    fn new(life: Life, fault: Option<CallFault>) -> Self {
        let world = Embedded::begin(Options::calm(1));
        let faults = Arc::new(Slow(fault));
        let cloud = SimulatedCloud::new(&world.ec2, "sender", "embedded", life.clone(), faults);
        Self {
            world,
            life,
            cloud: Arc::new(cloud),
        }
    }

    fn machine(&self) -> String {
        let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
        self.world.ec2.stray("embedded", &offering)
    }

    fn runs(&self, id: &str) -> bool {
        self.world.ec2.machine(id).unwrap().ended.is_none()
    }

    /// Ends a machine from a task of its own.
    fn end(&self, id: &str) -> tokio::task::JoinHandle<()> {
        let (cloud, ids) = (Arc::clone(&self.cloud), [id.to_owned()]);
        tokio::spawn(async move { cloud.terminate(&ids).await.unwrap() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_sender_does_not_wait_for_it_takes_effect() {
    let stage = Stage::new(Life::new(), None);
    let ids = [stage.machine()];
    let sent = stage.world.now();
    let answer = tokio::time::timeout(SECOND, stage.cloud.terminate(&ids)).await;
    assert!(answer.is_err(), "it is on its way");
    assert!(stage.runs(&ids[0]));
    tokio::time::sleep(SECOND * 2).await;
    assert!(!stage.runs(&ids[0]));
    let lines = stage.world.history.since(0);
    let ends = lines.iter().find(|line| line.event == "InstanceEnds");
    assert_eq!(ends.unwrap().fields["sent"], json!(sent.to_string()));
}

#[tokio::test(start_paused = true)]
async fn what_a_process_sent_before_it_was_killed_takes_effect_and_nothing_else_does() {
    let stage = Stage::new(Life::new(), None);
    let [first, second] = [stage.machine(), stage.machine()];
    let sent = stage.end(&first);
    tokio::time::sleep(SECOND).await;
    stage.life.kill();
    let never_sent = stage.end(&second);
    tokio::time::sleep(SECOND * 300).await;
    assert!(!stage.runs(&first));
    assert!(stage.runs(&second));
    assert!(!sent.is_finished(), "the dead hear of nothing");
    assert!(!never_sent.is_finished());
}

#[tokio::test(start_paused = true)]
async fn of_two_calls_at_once_one_takes_effect_where_a_process_dies_of_its_first() {
    let stage = Stage::new(Life::fatal_after(Some(1)), None);
    let ids = [stage.machine(), stage.machine()];
    let _sent = ids.each_ref().map(|id| stage.end(id));
    tokio::time::sleep(SECOND * 300).await;
    assert!(stage.life.is_dead());
    assert_eq!(ids.each_ref().map(|id| stage.runs(id)), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_given_up_after_a_minute_and_takes_effect_when_it_arrives() {
    let late = CallFault::Late(SECOND * 100);
    let stage = Stage::new(Life::new(), Some(late));
    let mut lines = stage.world.history.listen();
    let ids = [stage.machine()];
    let (begun, sent) = (Instant::now(), stage.world.now());
    let error = stage.cloud.terminate(&ids).await.unwrap_err();
    assert_eq!(
        (error.class, begun.elapsed()),
        (ErrorClass::Transient, SECOND * 60)
    );
    tokio::time::sleep_until(begun + SECOND * 99).await;
    assert!(stage.runs(&ids[0]));
    tokio::time::sleep(SECOND * 2).await;
    assert!(!stage.runs(&ids[0]));
    let calls = std::iter::from_fn(|| lines.try_recv().ok());
    let calls: Vec<Line> = calls.filter(|line| line.event == "Call").collect();
    let [call] = calls.as_slice() else {
        panic!("one call: {calls:?}");
    };
    assert_eq!(call.fields["sent"], json!(sent.to_string()));
    assert!(call.at > (sent + SignedDuration::from_secs(99)).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_sender_does_not_wait_for_it_takes_effect() {
    let stage = Stage::new(Life::new(), None);
    let client = stage
        .world
        .api
        .client("sender", Life::new(), Arc::new(Slow(None)));
    let api: Api<Namespace> = Api::all(client);
    let metadata = ObjectMeta {
        name: Some("late".to_owned()),
        ..ObjectMeta::default()
    };
    let namespace = Namespace {
        metadata,
        ..Namespace::default()
    };
    let key = Key::new(Resource::Namespace, "", "late");
    let params = PostParams::default();
    let answer = tokio::time::timeout(SECOND, api.create(&params, &namespace)).await;
    assert!(answer.is_err(), "it is on its way");
    assert_eq!(stage.world.api.get(&key), None);
    tokio::time::sleep(SECOND * 2).await;
    assert!(stage.world.api.get(&key).is_some());
}
