//! The simulated EC2 as an endpoint for the adapter, with faults and limits that tests set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_ec2::config::{Credentials, ProvideCredentials};
use aws_smithy_runtime_api::client::http::HttpConnector;
use serde_json::{Value, json};
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::offering::CapacityType;
use tonnage::sim::clock::VirtualClock;
use tonnage::sim::ec2::limits::Limit;
use tonnage::sim::ec2::machine::Machine;
use tonnage::sim::ec2::market::{Markets, Weather};
use tonnage::sim::ec2::wire::connector;
use tonnage::sim::ec2::wire::policy::Policy;
use tonnage::sim::ec2::{Ec2, wire};
use tonnage::sim::faults::{About, CallFault, Calm, Faults};
use tonnage::sim::history::{Detail, History};
use tonnage::world::{Clock, World};

/// Something that goes wrong with calls of one operation.
#[derive(Debug)]
struct Rule {
    operation: String,
    /// So many calls first go well.
    after: u32,
    /// So many go wrong then.
    times: u32,
    fault: CallFault,
}

/// What goes wrong, and how long calls take.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Mutex<Vec<Rule>>,
    slow: Mutex<BTreeMap<String, Duration>>,
}

impl Rules {
    /// Lets calls go wrong: after so many that go well, so many times.
    pub(crate) fn add(&self, operation: &str, after: u32, times: u32, fault: CallFault) {
        self.rules.lock().unwrap().push(Rule {
            operation: operation.to_owned(),
            after,
            times,
            fault,
        });
    }

    /// From now on calls go well.
    pub(crate) fn clear(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// From now on calls take so long.
    pub(crate) fn slow(&self, operation: &str, takes: Duration) {
        let mut slow = self.slow.lock().unwrap();
        slow.insert(operation.to_owned(), takes);
    }

    /// How many calls have still to go wrong.
    pub(crate) fn left(&self) -> u32 {
        self.rules
            .lock()
            .unwrap()
            .iter()
            .map(|rule| rule.times)
            .sum()
    }

    fn next(&self, operation: &str) -> Option<CallFault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.operation == operation && rule.times > 0)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }
}

impl Faults for Rules {
    fn request(
        &self,
        who: &str,
        method: &http::Method,
        path: &str,
    ) -> tonnage::sim::faults::Journey {
        Calm.request(who, method, path)
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        let (usual, _never) = Calm.call(who, operation, about);
        let slow = self.slow.lock().unwrap().get(operation).copied();
        (slow.unwrap_or(usual), self.next(operation))
    }
}

/// A region of a test's own.
pub(crate) struct Endpoint {
    pub(crate) ec2: Ec2,
    pub(crate) rules: Arc<Rules>,
    pub(crate) clock: Arc<dyn Clock>,
    policy: Option<Policy>,
}

#[expect(
    clippy::unused_async,
    reason = "the same tests run against an endpoint that is asked over HTTP"
)]
impl Endpoint {
    /// Zones in which the account has subnets.
    pub(crate) const ZONES: [&str; 5] = [
        "us-east-1a",
        "us-east-1b",
        "us-east-1c",
        "us-east-1d",
        "us-east-1f",
    ];

    /// A calm region with everything that EC2 sells. From here on time is virtual.
    pub(crate) async fn begin() -> Self {
        Self::begin_in(Weather::CALM)
    }

    /// A region with everything that EC2 sells, in such weather. From here on time is virtual.
    pub(crate) fn begin_in(weather: Weather) -> Self {
        tokio::time::pause();
        Self::at_the_time_of(VirtualClock::start(), weather)
    }

    /// A region in which time passes as a clock says.
    pub(crate) fn at_the_time_of(clock: Arc<dyn Clock>, weather: Weather) -> Self {
        Self::selling(clock, Markets::of_everything(1, weather))
    }

    /// A region that sells this.
    pub(crate) fn selling(clock: Arc<dyn Clock>, markets: Markets) -> Self {
        let world = World::new(Arc::clone(&clock), 1);
        let history = History::new(Arc::clone(&clock), Detail::Events);
        let ec2 = Ec2::new(
            Arc::clone(&clock),
            history,
            |purpose| world.random(purpose),
            markets,
        );
        ec2.lack(&["no-such-role", "no-such-profile"]);
        ec2.set_parameter("/tonnage-test/no-image", "nothing");
        Self {
            ec2,
            rules: Arc::default(),
            clock,
            policy: None,
        }
    }

    /// The same with a policy that its callers have.
    pub(crate) fn under(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The world that controllers run in.
    pub(crate) fn world(&self) -> World {
        World::new(Arc::clone(&self.clock), 2)
    }

    /// A controller that talks to the region.
    pub(crate) async fn connect(&self, settings: CloudSettings, world: &World) -> Ec2Cloud {
        let faults = Arc::clone(&self.rules) as Arc<dyn Faults>;
        let mut endpoint = wire::Endpoint::new(&self.ec2, "adapter", "demo").with_faults(faults);
        if let Some(policy) = &self.policy {
            endpoint = endpoint.with_policy(policy.clone());
        }
        connected(endpoint, settings, world).await
    }

    /// Limits what can be bought; everything else is unlimited.
    pub(crate) async fn capacity(&self, pools: Value) {
        let text = |pool: &Value, key: &str| pool[key].as_str().map(str::to_owned);
        let limit = |pool: &Value| Limit {
            instance_type: text(pool, "type"),
            zone: text(pool, "zone"),
            capacity_type: text(pool, "capacityType").and_then(|text| CapacityType::parse(&text)),
            most: usize::try_from(pool["capacity"].as_u64().unwrap()).unwrap(),
        };
        let limits = pools.as_array().unwrap().iter().map(limit).collect();
        self.ec2.limit(limits);
    }

    /// Makes the next `times` calls of an action go wrong.
    pub(crate) async fn fault(&self, action: &str, kind: &str, times: u32, more: Value) {
        let fault = match (kind, more["status"].as_u64()) {
            ("lose_response", None) => CallFault::AnswerLost,
            ("throttle", None) => CallFault::Throttled,
            ("error", Some(401)) => CallFault::WrongKey,
            ("error", Some(403)) => CallFault::Denied,
            ("error", Some(400)) if more["code"] == "AccessDeniedException" => CallFault::Denied,
            ("error", Some(500)) => CallFault::Internal,
            other => panic!("no such fault here: {other:?}"),
        };
        self.rules.add(action, 0, times, fault);
    }

    /// Ends all faults and limits.
    pub(crate) async fn calm(&self) {
        self.rules.clear();
        self.rules.slow.lock().unwrap().clear();
        self.ec2.limit(Vec::new());
    }

    /// How often an action was called so far.
    pub(crate) async fn calls(&self, action: &str) -> u64 {
        let calls = self.ec2.calls();
        calls.get(action).map_or(0, |tally| tally.calls)
    }

    /// Everything the region knows of an instance.
    pub(crate) async fn instance(&self, id: &str) -> Value {
        let machine = self.ec2.machine(id).unwrap();
        described(&machine, &self.clock, &self.ec2)
    }

    /// Ids of all instances, ended ones too, that carry these tags.
    pub(crate) async fn tagged(&self, tags: &BTreeMap<&str, &str>) -> Vec<String> {
        let carries = |machine: &Machine| {
            tags.iter()
                .all(|(key, value)| machine.tags().get(*key).map(String::as_str) == Some(*value))
        };
        let machines = self.ec2.machines();
        let found = machines.iter().filter(|machine| carries(machine));
        found.map(|machine| machine.id().to_owned()).collect()
    }
}

/// Settings for the simulated region, unless they name another.
pub(crate) fn in_region(settings: CloudSettings) -> CloudSettings {
    CloudSettings {
        region: Some(settings.region.unwrap_or_else(|| "us-east-1".to_owned())),
        ..settings
    }
}

/// What must be seen by nobody but AWS: key, secret, session token.
pub(crate) const SECRETS: [&str; 3] = [
    "AKIAWIRE0EXAMPLE",
    "wire/secret+example",
    "wire-token-example",
];

/// Credentials that the simulated region takes for its caller's.
pub(crate) fn credentials() -> Credentials {
    let [key, secret, token] = SECRETS;
    Credentials::new(key, secret, Some(token.to_owned()), None, "test")
}

/// The adapter with the SDK at an endpoint in this process.
pub(crate) async fn connected(
    endpoint: wire::Endpoint,
    settings: CloudSettings,
    world: &World,
) -> Ec2Cloud {
    let connecting = connector::connect(endpoint, credentials(), settings, world);
    connecting.await.unwrap()
}

/// The adapter with an HTTP client and credentials of a test's own.
pub(crate) async fn connected_through(
    connector: impl HttpConnector + 'static,
    credentials: impl ProvideCredentials + 'static,
    settings: CloudSettings,
    world: &World,
) -> Ec2Cloud {
    Ec2Cloud::connect_with(in_region(settings), world.clone(), |loader| {
        let client = connector::client(connector);
        loader.http_client(client).credentials_provider(credentials)
    })
    .await
    .unwrap()
}

fn described(machine: &Machine, clock: &Arc<dyn Clock>, ec2: &Ec2) -> Value {
    let data = &machine.template.as_ref().unwrap().data;
    let shown = machine.shown(clock.now()).unwrap();
    let volumes = data.volumes.iter().map(|volume| {
        json!({
            "deviceName": volume.device_name,
            "sizeGiB": volume.gib,
            "encrypted": volume.encrypted,
        })
    });
    json!({
        "securityGroups": data.security_groups,
        "subnetId": shown.subnet_id,
        "imageId": shown.image_id,
        "metadataOptions": {
            "httpTokens": data.metadata.tokens,
            "httpPutResponseHopLimit": data.metadata.hop_limit,
        },
        "volumes": volumes.collect::<Vec<_>>(),
        "instanceProfile": ec2.profile_arn(&data.instance_profile),
        "tags": machine.tags(),
        "userData": machine.user_data,
    })
}
