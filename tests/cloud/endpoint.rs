//! The endpoint's control interface and the fault proxy before it.

use std::collections::BTreeMap;

use http::Request;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::world::World;

/// An environment variable that the tests cannot do without.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_missing| {
        panic!("{name} is not set: run `hack/test cloud`, or `eval \"$(hack/up)\"` first")
    })
}

/// The endpoint is one account with one set of faults: tests take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// The endpoint behind the proxy, and the proxy's own controls.
#[derive(Debug)]
pub(crate) struct Endpoint {
    direct: String,
    faults: String,
    _turn: MutexGuard<'static, ()>,
}

impl Endpoint {
    /// Zones in which the account has subnets.
    pub(crate) const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];

    /// The endpoint, calm, for as long as it is held.
    pub(crate) async fn begin() -> Self {
        // Without it the SDK would talk to the real AWS.
        drop(variable("AWS_ENDPOINT_URL"));
        let endpoint = Self {
            direct: variable("TONNAGE_EC2_DIRECT_URL"),
            faults: variable("TONNAGE_FAULTS_URL"),
            _turn: TURN.lock().await,
        };
        endpoint.calm().await;
        endpoint
    }

    /// The world that controllers run in.
    #[expect(
        clippy::unused_self,
        reason = "the simulated endpoint has a world of its own"
    )]
    pub(crate) fn world(&self) -> World {
        World::real()
    }

    /// A controller that talks to the endpoint.
    pub(crate) async fn connect(&self, settings: CloudSettings, world: &World) -> Ec2Cloud {
        Ec2Cloud::connect(settings, world.clone()).await.unwrap()
    }

    /// Limits what can be bought; everything else is unlimited.
    pub(crate) async fn capacity(&self, pools: Value) {
        let answer = call(
            &self.direct,
            "POST",
            "/_tonnage/capacity",
            Some(json!({ "pools": pools })),
        )
        .await;
        assert!(answer["pools"].is_array(), "{answer}");
    }

    /// Makes the next `times` calls of an action go wrong.
    pub(crate) async fn fault(&self, action: &str, kind: &str, times: u32, more: Value) {
        let mut rule = json!({
            "target": "ec2", "match": { "action": action }, "kind": kind, "times": times,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        let answer = call(&self.faults, "POST", "/rules", Some(rule)).await;
        assert!(!answer["id"].is_null(), "{answer}");
    }

    /// Ends all faults and limits.
    pub(crate) async fn calm(&self) {
        drop(call(&self.faults, "DELETE", "/rules", None).await);
        self.capacity(json!([])).await;
    }

    /// How often an action was called so far.
    pub(crate) async fn calls(&self, action: &str) -> u64 {
        let calls = call(&self.direct, "GET", "/_tonnage/calls", None).await;
        calls[action].as_u64().unwrap_or(0)
    }

    /// Everything the endpoint knows of an instance.
    pub(crate) async fn instance(&self, id: &str) -> Value {
        let all = call(&self.direct, "GET", "/_tonnage/instances", None).await;
        let found = all.as_array().unwrap().iter().find(|one| one["id"] == id);
        found.unwrap_or_else(|| panic!("no instance {id}")).clone()
    }

    /// Ids of all instances, ended ones too, that carry these tags.
    pub(crate) async fn tagged(&self, tags: &BTreeMap<&str, &str>) -> Vec<String> {
        let all = call(&self.direct, "GET", "/_tonnage/instances", None).await;
        all.as_array()
            .unwrap()
            .iter()
            .filter(|one| tags.iter().all(|(key, value)| one["tags"][key] == *value))
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// One JSON request on loopback.
async fn call(base: &str, method: &str, path: &str, body: Option<Value>) -> Value {
    let client = Client::try_from(Config::new(base.parse().unwrap())).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(
            body.map(|value| value.to_string())
                .unwrap_or_default()
                .into_bytes(),
        )
        .unwrap();
    let text = client
        .request_text(request)
        .await
        .unwrap_or_else(|error| panic!("{method} {base}{path}: {error}"));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
