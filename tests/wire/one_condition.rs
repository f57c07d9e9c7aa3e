//! One cause is one condition: a wrong region, a wrong key, a permission that is missing. What could not be looked at
//! because of it points there, nothing is asked in a hot loop, and all goes on once it is mended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use serde_json::json;
use tonnage::cloud::settings::{CloudSettings, EndpointSource};
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::connector::Connector;
use tonnage::sim::ec2::wire::policy::Policy;
use tonnage::sim::faults::{About, CallFault, Calm, Faults, Journey};
use tonnage::sim::life::Life;
use tonnage::world::World;

use crate::control_plane::answer;
use crate::endpoint::{Endpoint, connected_through, credentials};
use crate::rehearsals::without;
use crate::scene::facts;
use crate::waiting::eventually;
use crate::whole::{Controller, begin, burst, over, region_of, shipped};

/// A region that is not the cluster's.
const ELSEWHERE: &str = "eu-west-1";
/// Requests of ten minutes in which nothing can be done, at most: far fewer than a loop without pauses makes.
const MOST: usize = 300;

/// What the network leads to: the cluster's region and, by the names of its hosts, another one.
#[derive(Debug, Clone)]
struct Network {
    here: Connector,
    /// Without one, its hosts have no address.
    elsewhere: Option<Connector>,
    requests: Arc<AtomicUsize>,
}

impl Network {
    fn of(here: wire::Endpoint) -> Self {
        Self {
            here: Connector::new(here),
            elsewhere: None,
            requests: Arc::default(),
        }
    }

    /// Lets ten minutes pass, in which requests must be few.
    async fn is_quiet(&self, world: &Embedded) {
        let before = self.requests.load(Ordering::SeqCst);
        world.pass(Duration::from_mins(10)).await;
        let requests = self.requests.load(Ordering::SeqCst) - before;
        assert!(requests <= MOST, "{requests} requests in ten minutes");
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let host = request.uri().to_owned();
        if !host.contains(ELSEWHERE) {
            return self.here.call(request);
        }
        let Some(elsewhere) = &self.elsewhere else {
            let unknown = "dns error: failed to lookup address information";
            return HttpConnectorFuture::ready(Err(ConnectorError::io(unknown.into())));
        };
        if !host.starts_with("https://eks.") {
            return elsewhere.call(request);
        }
        let body = json!({
            "__type": "ResourceNotFoundException", "message": "No cluster found for name: embedded.",
        });
        answer(404, &body)
    }
}

/// Keys that nobody knows, as long as they are wrong.
#[derive(Debug, Clone, Default)]
struct Keys {
    wrong: Arc<AtomicBool>,
}

impl Faults for Keys {
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey {
        Calm.request(who, method, path)
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        let (takes, _never) = Calm.call(who, operation, about);
        let is_wrong = self.wrong.load(Ordering::SeqCst);
        (takes, is_wrong.then_some(CallFault::WrongKey))
    }
}

/// An embedded world with a burst that waits.
fn waiting() -> Embedded {
    tokio::time::pause();
    begin()
}

/// A controller that is told of a region, or of the cluster's.
async fn controller(world: &Embedded, network: &Network, region: Option<&str>) -> Controller {
    let adapter = World::new(Arc::clone(&world.clock), world.options.seed);
    let mut settings = CloudSettings::new(facts(&world.options.cluster));
    if let Some(region) = region {
        settings.region = Some(region.to_owned());
        settings.cluster.endpoint = String::new();
        settings.endpoint = EndpointSource::Eks;
    }
    let cloud = connected_through(network.clone(), credentials(), settings, &adapter).await;
    Controller::with(world, (cloud, adapter), Life::new(), Mode::Run)
}

/// What a condition of the class says: status, reason, message.
type Said = (String, String, String);

/// The conditions of the class by type.
fn conditions(world: &Embedded) -> BTreeMap<String, Said> {
    let object = world.api.get(&Key::new(Resource::NodeClass, "", "default"));
    let object = object.unwrap();
    let all = object["status"]["conditions"].as_array();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    all.into_iter()
        .flatten()
        .map(|said| {
            let parts = ["status", "reason", "message"].map(|field| text(&said[field]));
            (text(&said["type"]), parts.into())
        })
        .collect()
}

/// Waits for the one condition that does not hold, and gives back what it says. All that is not known points to it.
async fn the_one(world: &Embedded, wanted: &str) -> (String, String) {
    eventually("one condition says what is wrong", 180, async || {
        let mut all = conditions(world);
        let ready = all.remove("Ready").unwrap_or_default();
        let failing: Vec<&String> = all
            .iter()
            .filter(|(_condition, said)| said.0 == "False")
            .map(|(condition, _said)| condition)
            .collect();
        let points = |said: &Said| said.0 != "Unknown" || said.2.contains(wanted);
        if failing == [wanted] && ready.0 == "False" && all.values().all(points) {
            let (_false, reason, message) = all[wanted].clone();
            return Ok((reason, message));
        }
        Err(format!("{ready:?} {all:#?}"))
    })
    .await
}

/// The one condition stays what it is, and so does the object, while EC2 is asked with pauses.
async fn it_stays(world: &Embedded, network: &Network) {
    let version = || {
        let object = world.api.get(&Key::new(Resource::NodeClass, "", "default"));
        object.unwrap()["metadata"]["resourceVersion"].to_string()
    };
    let before = (version(), conditions(world));
    network.is_quiet(world).await;
    assert_eq!((version(), conditions(world)), before, "it is said once");
}

/// Every condition holds, and pods get their machines.
async fn all_is_well(world: &Embedded) {
    over(world).await;
    for (condition, said) in conditions(world) {
        assert_eq!(said.0, "True", "{condition}: {said:?}");
    }
    assert!(!world.ec2.machines().is_empty());
}

#[tokio::test]
async fn a_region_without_anything_of_the_cluster_is_named_once() {
    let world = waiting();
    let other = Endpoint::at_the_time_of(Arc::clone(&world.clock), Weather::CALM);
    let mut network = Network::of(region_of(&world));
    let elsewhere = wire::Endpoint::new(&other.ec2, "tonnage", "nobodys");
    network.elsewhere = Some(Connector::new(elsewhere));
    let first = controller(&world, &network, Some(ELSEWHERE)).await;
    let (reason, message) = the_one(&world, "SubnetsReady").await;
    assert_eq!(reason, "SubnetsNotFound");
    for part in [
        ELSEWHERE,
        "--region, AWS_REGION",
        "spec.subnetSelectorTerms",
        "spec.securityGroupSelectorTerms",
        "No cluster found",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    it_stays(&world, &network).await;
    assert!(other.ec2.machines().is_empty() && world.ec2.machines().is_empty());
    first.stop().await;
    let second = controller(&world, &network, None).await;
    all_is_well(&world).await;
    second.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_region_that_does_not_exist_is_named_once() {
    let world = waiting();
    let network = Network::of(region_of(&world));
    let controller = controller(&world, &network, Some(ELSEWHERE)).await;
    let (_reason, message) = the_one(&world, "ValidationSucceeded").await;
    for part in [ELSEWHERE, "--region, AWS_REGION", "dns error"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    it_stays(&world, &network).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_region_that_the_role_is_not_for_is_named_once() {
    let world = waiting();
    let policy = shipped(&world).replace("us-east-1", ELSEWHERE);
    let policy = Policy::parse(&policy).unwrap();
    let network = Network::of(region_of(&world).with_policy(policy));
    let first = controller(&world, &network, None).await;
    let (reason, message) = the_one(&world, "ValidationSucceeded").await;
    assert_eq!(reason, "Unauthorized");
    for part in ["in us-east-1", "--region, AWS_REGION"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    it_stays(&world, &network).await;
    first.stop().await;
    let right = Policy::parse(&shipped(&world)).unwrap();
    let network = Network::of(region_of(&world).with_policy(right));
    let second = controller(&world, &network, None).await;
    all_is_well(&world).await;
    second.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_wrong_key_is_said_once_and_all_goes_on_with_a_right_one() {
    let world = waiting();
    let keys = Keys::default();
    keys.wrong.store(true, Ordering::SeqCst);
    let network = Network::of(region_of(&world).with_faults(Arc::new(keys.clone())));
    let controller = controller(&world, &network, None).await;
    let (reason, message) = the_one(&world, "ValidationSucceeded").await;
    assert_eq!(reason, "Unauthorized");
    assert!(
        message.contains("the credentials were not accepted"),
        "{message}"
    );
    it_stays(&world, &network).await;
    keys.wrong.store(false, Ordering::SeqCst);
    all_is_well(&world).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_key_that_goes_bad_is_said_once_whatever_was_known_before() {
    let world = waiting();
    let keys = Keys::default();
    let network = Network::of(region_of(&world).with_faults(Arc::new(keys.clone())));
    let controller = controller(&world, &network, None).await;
    all_is_well(&world).await;
    keys.wrong.store(true, Ordering::SeqCst);
    let (reason, _message) = the_one(&world, "ValidationSucceeded").await;
    assert_eq!(reason, "Unauthorized");
    it_stays(&world, &network).await;
    // Pods that come now change nothing of that.
    world.apply(burst()).unwrap();
    network.is_quiet(&world).await;
    let (reason, _message) = the_one(&world, "ValidationSucceeded").await;
    assert_eq!(reason, "Unauthorized");
    keys.wrong.store(false, Ordering::SeqCst);
    all_is_well(&world).await;
    controller.stop().await;
    world.end().await;
}

#[tokio::test]
async fn reads_that_the_role_lacks_are_named_by_the_condition_of_the_first() {
    let world = waiting();
    let mut policy = shipped(&world);
    for action in ["ec2:DescribeSecurityGroups", "ec2:DescribeImages"] {
        policy = without(&policy, action);
    }
    let policy = Policy::parse(&policy).unwrap();
    let network = Network::of(region_of(&world).with_policy(policy));
    let controller = controller(&world, &network, None).await;
    let (reason, message) = the_one(&world, "SecurityGroupsReady").await;
    assert_eq!(reason, "Unauthorized");
    for action in ["ec2:DescribeSecurityGroups", "ec2:DescribeImages"] {
        let advice = format!("allow {action} for the controller's role controller");
        assert!(message.contains(&advice), "{message}");
    }
    it_stays(&world, &network).await;
    controller.stop().await;
    world.end().await;
}
