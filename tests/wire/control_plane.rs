//! Where nodes reach the API server, where EKS has to be asked for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tonnage::cloud::cluster::ClusterFacts;
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::{CloudSettings, EndpointSource};
use tonnage::cloud::{Cloud, Resolution};
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::connector::{self, Connector};
use tonnage::sim::life::Life;
use tonnage::world::World;

use crate::endpoint::{connected_through, credentials, in_region};
use crate::rehearsals::validation;
use crate::scene::{Scene, class, facts, settings};
use crate::templates::decoded;
use crate::waiting::eventually;
use crate::whole::{Controller, begin, over, region_of};

/// What EKS says, and how often it was asked.
#[derive(Debug, Clone)]
struct Eks {
    region: Connector,
    says: Arc<Mutex<(u16, Value)>>,
    asked: Arc<AtomicUsize>,
}

impl Eks {
    /// EKS beside a simulated region.
    fn beside(endpoint: wire::Endpoint, status: u16, body: Value) -> Self {
        Self {
            region: Connector::new(endpoint),
            says: Arc::new(Mutex::new((status, body))),
            asked: Arc::default(),
        }
    }

    /// EKS beside the region of a scene.
    fn of(scene: &Scene, status: u16, body: Value) -> Self {
        let endpoint = wire::Endpoint::new(&scene.endpoint.ec2, "adapter", "demo");
        Self::beside(endpoint, status, body)
    }

    /// From now on it says something else.
    fn says(&self, status: u16, body: Value) {
        *self.says.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// An adapter that has to ask it.
    async fn connect(&self, scene: &Scene, world: &World) -> Ec2Cloud {
        let settings = asking(settings(&scene.cluster));
        connected_through(self.clone(), credentials(), settings, world).await
    }
}

impl HttpConnector for Eks {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if !request.uri().starts_with("https://eks.") {
            return self.region.call(request);
        }
        assert!(request.uri().contains("/clusters/"), "{}", request.uri());
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, body) = self.says.lock().unwrap().clone();
        answer(status, &body)
    }
}

/// An answer of EKS; the type of an error is told in a header too.
pub(crate) fn answer(status: u16, body: &Value) -> HttpConnectorFuture {
    let status = status.try_into().unwrap();
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    if let Some(code) = body["__type"].as_str() {
        let code = code.to_owned();
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    HttpConnectorFuture::ready(Ok(response))
}

/// Settings that leave the endpoint to EKS.
fn asking(settings: CloudSettings) -> CloudSettings {
    CloudSettings {
        cluster: ClusterFacts {
            endpoint: String::new(),
            certificate_authority: authorities(&[&[1], OWN]),
            ..settings.cluster
        },
        endpoint: EndpointSource::Eks,
        ..settings
    }
}

/// The certificate authority of the controller's cluster.
const OWN: &[u8] = &[7; 100];

/// Certificates as kubeconfigs and EKS have them.
fn authorities(certificates: &[&[u8]]) -> String {
    let all = certificates.iter();
    let all: Vec<_> = all.map(|one| pem::Pem::new("CERTIFICATE", *one)).collect();
    STANDARD.encode(pem::encode_many(&all))
}

/// What EKS says of a cluster with a certificate authority.
fn of_authority(certificate: &[u8]) -> Value {
    json!({ "cluster": {
        "endpoint": "https://blue.eks.example",
        "status": "ACTIVE",
        "certificateAuthority": { "data": authorities(&[certificate]) },
    } })
}

fn is_there() -> Value {
    of_authority(OWN)
}

fn denied() -> Value {
    json!({
        "__type": "AccessDeniedException",
        "message": "User: arn:aws:sts::1:assumed-role/controller/x is not authorized to perform: \
                    eks:DescribeCluster on resource: arn:aws:eks:us-east-1:1:cluster/blue",
    })
}

/// Why a class is not valid: reason and message.
fn invalid(resolution: &Resolution) -> (&'static str, String) {
    let validation = resolution.conditions["ValidationSucceeded"].clone();
    let why = validation.unwrap_err();
    (why.reason, why.message)
}

#[tokio::test]
async fn machines_are_told_what_eks_says_and_it_is_asked_once() {
    let scene = Scene::new("asks-eks").await;
    let eks = Eks::of(&scene, 200, is_there());
    let world = scene.endpoint.world();
    let cloud = eks.connect(&scene, &world).await;
    let class = class(&json!({}));
    for _look in 0..3 {
        assert_eq!(cloud.resolve(&class).await.unwrap().class.not_ready, "");
        tokio::time::advance(Duration::from_mins(2)).await;
    }
    assert_eq!(eks.asked(), 1);
    let resolved = cloud.resolve(&class).await.unwrap().class;
    let rehearsal = cloud.rehearse(&class, &resolved).await;
    assert!(rehearsal.is_ok(), "{rehearsal:?}");
    let offerings = ["c5.xlarge/us-east-1a/spot".parse().unwrap()];
    let claim = crate::scene::claim();
    let made = cloud.prepare(&class, &resolved, &claim, &offerings).await;
    let mut record = scene
        .record(&class, 1, &["c5.xlarge/us-east-1a/spot"])
        .await;
    record.templates = made.unwrap();
    let outcome = cloud.launch(&record, &claim, &class).await.unwrap();
    let machine = scene.endpoint.instance(&outcome.instances[0].id).await;
    let user_data = decoded(machine["userData"].as_str().unwrap());
    assert!(
        user_data.contains("https://blue.eks.example"),
        "{user_data}"
    );
    world.shut_down().await;
    scene.end().await;
}

#[tokio::test]
async fn a_permission_that_is_missing_is_one_condition_and_the_class_is_ready_once_it_is_there() {
    let scene = Scene::new("may-not-ask").await;
    let eks = Eks::of(&scene, 403, denied());
    let world = scene.endpoint.world();
    let cloud = eks.connect(&scene, &world).await;
    let class = class(&json!({}));
    for _look in 0..60 {
        let resolution = cloud.resolve(&class).await.unwrap();
        let (reason, message) = invalid(&resolution);
        assert_eq!(reason, "Unauthorized");
        let advice = "allow eks:DescribeCluster for the controller's role controller";
        assert!(message.contains(advice), "{message}");
        assert!(message.contains("--cluster-endpoint"), "{message}");
        assert!(!resolution.class.ready);
        // All the rest is known.
        assert!(resolution.conditions["SubnetsReady"].is_ok());
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let asked = eks.asked();
    assert!((10..=15).contains(&asked), "{asked} times in ten minutes");
    eks.says(200, is_there());
    eventually("the class is ready", 60, async || {
        let resolution = cloud.resolve(&class).await.unwrap();
        let why = resolution.class.not_ready;
        if why.is_empty() { Ok(()) } else { Err(why) }
    })
    .await;
    world.shut_down().await;
    scene.end().await;
}

#[tokio::test]
async fn a_cluster_that_eks_does_not_know_or_still_makes_is_named() {
    let scene = Scene::new("no-eks").await;
    let unknown = json!({
        "__type": "ResourceNotFoundException", "message": "No cluster found for name: blue.",
    });
    let unfinished = json!({ "cluster": { "status": "CREATING" } });
    for (status, body, said) in [
        (404, unknown, "No cluster found for name: blue."),
        (
            200,
            unfinished,
            "has no API server yet, its status is CREATING",
        ),
    ] {
        let eks = Eks::of(&scene, status, body);
        let world = scene.endpoint.world();
        let cloud = eks.connect(&scene, &world).await;
        let (reason, message) = invalid(&cloud.resolve(&class(&json!({}))).await.unwrap());
        assert_eq!(reason, "ClusterEndpointUnknown");
        assert!(message.contains(said), "{message}");
        assert!(message.contains("settings.clusterEndpoint"), "{message}");
        world.shut_down().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn nothing_joins_another_cluster_of_the_same_name() {
    let scene = Scene::new("foreign").await;
    let eks = Eks::of(&scene, 200, of_authority(b"another"));
    let world = scene.endpoint.world();
    let cloud = eks.connect(&scene, &world).await;
    let resolution = cloud.resolve(&class(&json!({}))).await.unwrap();
    let (reason, message) = invalid(&resolution);
    assert_eq!(reason, "ClusterEndpointUnknown");
    for said in ["us-east-1", "--cluster-endpoint", "--cluster-ca-bundle"] {
        assert!(message.contains(said), "{said}: {message}");
    }
    assert!(!resolution.class.ready);
    world.shut_down().await;
    scene.end().await;
}

#[tokio::test]
async fn who_brings_all_user_data_needs_no_endpoint() {
    let scene = Scene::new("custom").await;
    let eks = Eks::of(&scene, 403, denied());
    let world = scene.endpoint.world();
    let cloud = eks.connect(&scene, &world).await;
    let class = class(&json!({ "amiFamily": "Custom", "userData": "own" }));
    let resolved = cloud.resolve(&class).await.unwrap().class;
    assert_eq!(resolved.not_ready, "");
    let rehearsal = cloud.rehearse(&class, &resolved).await;
    assert!(rehearsal.is_ok(), "{rehearsal:?}");
    assert_eq!(eks.asked(), 0);
    world.shut_down().await;
    scene.end().await;
}

/// An embedded world for a controller, the world of its adapter, EKS, and settings that leave the endpoint to it.
fn with_controller(status: u16, body: Value) -> (Embedded, World, Eks, CloudSettings) {
    tokio::time::pause();
    let world = begin();
    let endpoint = region_of(&world);
    let eks = Eks::beside(endpoint, status, body);
    let adapter = World::new(Arc::clone(&world.clock), world.options.seed);
    let settings = asking(CloudSettings::new(facts(&world.options.cluster)));
    (world, adapter, eks, settings)
}

#[tokio::test]
async fn a_controller_that_may_not_ask_eks_says_so_waits_and_buys_once_it_may() {
    let (world, adapter, eks, settings) = with_controller(403, denied());
    let cloud = connected_through(eks.clone(), credentials(), settings, &adapter).await;
    let controller = Controller::with(&world, (cloud, adapter), Life::new(), Mode::Run);
    eventually("the class says it", 120, async || {
        match validation(&world) {
            Some((_false, reason, message)) if message.contains("eks:DescribeCluster") => {
                assert_eq!(reason, "Unauthorized");
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.pass(Duration::from_mins(10)).await;
    assert!(world.ec2.machines().is_empty(), "nobody could join");
    assert!(eks.asked() <= 15, "{} times in ten minutes", eks.asked());
    eks.says(200, is_there());
    over(&world).await;
    assert!(!world.ec2.machines().is_empty());
    controller.stop().await;
    world.end().await;
}

#[tokio::test]
async fn without_credentials_the_class_says_how_to_give_some_and_nothing_is_asked() {
    let (world, adapter, eks, settings) = with_controller(200, is_there());
    let connecting = Ec2Cloud::connect_with(in_region(settings), adapter.clone(), |loader| {
        loader
            .http_client(connector::client(eks.clone()))
            .no_credentials()
    });
    let cloud = connecting.await.unwrap();
    let controller = Controller::with(&world, (cloud, adapter), Life::new(), Mode::Run);
    let said = eventually("the class says it", 120, async || {
        match validation(&world) {
            Some((_unknown, reason, message)) if reason == "Unauthorized" => Ok(message),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(said.contains("give the controller an identity"), "{said}");
    let written = version(&world);
    world.pass(Duration::from_mins(10)).await;
    assert_eq!(version(&world), written, "it is said once");
    assert_eq!(eks.asked(), 0);
    // Announcements come another way in this world.
    let calls = world.ec2.calls().into_keys();
    let to_ec2: Vec<_> = calls.filter(|name| *name != "ReceiveMessage").collect();
    assert!(to_ec2.is_empty(), "{to_ec2:?}");
    controller.stop().await;
    world.end().await;
}

/// The version of the one class.
fn version(world: &Embedded) -> String {
    let object = world.api.get(&Key::new(Resource::NodeClass, "", "default"));
    object.unwrap()["metadata"]["resourceVersion"].to_string()
}
