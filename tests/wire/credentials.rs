//! Secrets, the controller's own and those that lie about in the cluster: none of them is in what machines are made with,
//! and a wrong key is said once.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Value, json};
use tonnage::cloud::Cloud;
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::model::claim::Claim;
use tonnage::model::launch::{ErrorClass, LaunchRecord};
use tonnage::model::offering::OfferingKey;
use tonnage::settings::Mode;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::wire;
use tonnage::sim::ec2::wire::connector::Connector;
use tonnage::sim::life::Life;
use tonnage::world::World;

use crate::endpoint::{SECRETS, connected_through, credentials};
use crate::scene::{Scene, claim, class, facts};
use crate::whole::{Controller, begin_with, burst, over, region_of};

/// A kind of secret.
struct Kind {
    name: &'static str,
    /// What all of its kind look like.
    pattern: &'static str,
    /// One that nobody may find again.
    planted: &'static str,
}

/// What the SDK, clouds' command lines, ServiceAccounts, kubeadm and certificates have for secrets.
const KINDS: [Kind; 5] = [
    Kind {
        name: "id of an access key",
        pattern: r"\b(AKIA|ASIA)[A-Z0-9]{12,}",
        planted: "ASIAPLANTED0EXAMPLE0",
    },
    Kind {
        name: "secret access key",
        pattern: r"(?is)aws_secret.{0,40}[A-Za-z0-9/+]{40}",
        planted: "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    },
    Kind {
        name: "bearer token",
        pattern: r"(?i)\bbearer +\S",
        planted: "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
    },
    Kind {
        name: "bootstrap token",
        pattern: r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b",
        planted: "07401b.f395accd246ae52d",
    },
    Kind {
        name: "private key",
        pattern: "PRIVATE KEY",
        planted: "-----BEGIN EC PRIVATE KEY-----",
    },
];

static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compiled = KINDS.map(|kind| (kind.name, Regex::new(kind.pattern).unwrap()));
    compiled.into()
});

/// The kinds of secrets that a text has.
fn kinds_in(text: &str) -> Vec<&'static str> {
    let found = PATTERNS
        .iter()
        .filter(|(_name, pattern)| pattern.is_match(text));
    found.map(|(name, _pattern)| *name).collect()
}

/// One secret of each kind, by a name of its own.
fn planted() -> BTreeMap<String, String> {
    let named = |(number, kind): (u32, Kind)| {
        let name = format!("example.com/secret-{number}");
        (name, kind.planted.to_owned())
    };
    (1..).zip(KINDS).map(named).collect()
}

/// What is called to make machines, or what they are made from, or to tag them.
const MAKING: [&str; 4] = [
    "CreateFleet",
    "CreateLaunchTemplate",
    "CreateTags",
    "RunInstances",
];

/// A field of a request.
#[derive(Debug)]
struct Field {
    action: String,
    name: String,
    /// Of user data what the machine reads.
    value: String,
}

impl Field {
    fn is_user_data(&self) -> bool {
        self.name.ends_with("UserData")
    }
}

/// The way to a region, with a copy of everything that is sent.
#[derive(Debug, Clone)]
struct Wire {
    region: Connector,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Wire {
    fn to(endpoint: wire::Endpoint) -> Self {
        Self {
            region: Connector::new(endpoint),
            sent: Arc::default(),
        }
    }

    /// Every field of every request that makes machines, of those that were sent since the last look.
    fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        for body in sent {
            let form: BTreeMap<String, String> =
                form_urlencoded::parse(&body).into_owned().collect();
            let Some(action) = form.get("Action").cloned() else {
                continue;
            };
            if !MAKING.contains(&action.as_str()) {
                continue;
            }
            for (name, value) in form {
                let mut field = Field {
                    action: action.clone(),
                    name,
                    value,
                };
                if field.is_user_data() {
                    let bytes = STANDARD.decode(&field.value).unwrap();
                    field.value = String::from_utf8(bytes).unwrap();
                }
                fields.push(field);
            }
        }
        fields
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap_or_default().to_vec();
        self.sent.lock().unwrap().push(body);
        self.region.call(request)
    }
}

/// No field has a secret: neither one that was planted, nor the SDK's, nor anything that looks like one.
fn assert_clean(fields: &[Field]) {
    let planted = KINDS.map(|kind| kind.planted);
    for field in fields {
        assert_eq!(kinds_in(&field.value), Vec::<&str>::new(), "{field:?}");
        for secret in SECRETS.iter().chain(&planted) {
            assert!(!field.value.contains(secret), "{secret}: {field:?}");
        }
    }
}

#[test]
fn each_kind_of_secret_is_found_by_its_looks_and_nothing_else_is() {
    for kind in KINDS {
        let text = format!("a: 1\nb: \"{}\"\n", kind.planted);
        assert_eq!(kinds_in(&text), [kind.name]);
    }
    let as_environment =
        r#"{"name":"AWS_SECRET_ACCESS_KEY","value":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}"#;
    assert_eq!(kinds_in(as_environment), ["secret access key"]);
    assert_eq!(kinds_in(SECRETS[0]), ["id of an access key"]);
    for harmless in [
        "certificateAuthority: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t",
        "karpenter.sh/unregistered=true:NoExecute",
        "aws_secret_access_key is read from the role",
        "ip-10-0-0-1.ec2.internal",
    ] {
        assert_eq!(kinds_in(harmless), Vec::<&str>::new(), "{harmless}");
    }
}

/// Puts a secret of each kind beside the spec of an object.
fn plant(object: &mut Value) {
    for (name, secret) in planted() {
        object["metadata"]["annotations"][name] = json!(secret);
    }
}

/// A burst whose pods carry secrets, in a world whose node class and NodePool do. The embedded API server has no
/// Secrets, which the controller may not read: a ConfigMap is the nearest to one.
fn world_with_secrets() -> Embedded {
    let mut job = burst();
    let pod = &mut job["spec"]["template"];
    plant(pod);
    let secrets = planted();
    let environment = secrets
        .values()
        .map(|secret| json!({ "name": "AWS_SECRET_ACCESS_KEY", "value": secret }));
    pod["spec"]["containers"][0]["env"] = environment.collect();
    let world = begin_with(job);
    for (resource, name) in [
        (Resource::NodeClass, "default"),
        (Resource::NodePool, "burst"),
    ] {
        let changed = world
            .api
            .change("user", &Key::new(resource, "", name), None, |object| {
                plant(object);
                if resource == Resource::NodePool {
                    plant(&mut object["spec"]["template"]);
                }
            });
        changed.unwrap();
    }
    let texts: BTreeMap<String, String> = (1..)
        .zip(planted().into_values())
        .map(|(number, secret)| (format!("secret-{number}"), secret))
        .collect();
    let token = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "bootstrap-token", "namespace": "kube-system" },
        "data": texts,
    });
    world.apply(token).unwrap();
    world
}

#[tokio::test]
async fn no_secret_of_the_cluster_or_the_controller_is_in_what_machines_are_made_with() {
    tokio::time::pause();
    let world = world_with_secrets();
    let wire = Wire::to(region_of(&world));
    let adapter = World::new(Arc::clone(&world.clock), world.options.seed);
    let settings = CloudSettings::new(facts(&world.options.cluster));
    let cloud = connected_through(wire.clone(), credentials(), settings, &adapter).await;
    let controller = Controller::with(&world, (cloud, adapter), Life::new(), Mode::Run);
    over(&world).await;
    controller.stop().await;
    assert!(!world.ec2.machines().is_empty());
    world.end().await;
    let fields = wire.fields();
    for action in ["CreateFleet", "CreateLaunchTemplate", "RunInstances"] {
        assert!(
            fields.iter().any(|field| field.action == action),
            "{action}"
        );
    }
    let is_tag = |field: &Field| field.name.contains("Tag.") && field.name.ends_with(".Value");
    assert!(fields.iter().any(Field::is_user_data));
    assert!(fields.iter().any(is_tag));
    assert_clean(&fields);
}

/// What is sent to make a machine of a family, for a class and a claim that carry secrets, with this for the user's own
/// user data.
async fn sent_for(
    (cloud, wire): (&Ec2Cloud, &Wire),
    family: &str,
    batch: &str,
    own: &str,
) -> Vec<Field> {
    let mut class = class(&json!({ "amiFamily": family, "userData": own }));
    class.metadata.name = Some(batch.to_owned());
    class.metadata.annotations = Some(planted());
    let claim = Claim {
        annotations: planted(),
        ..claim()
    };
    let resolved = cloud.resolve(&class).await.unwrap().class;
    let offering: OfferingKey = "c5.xlarge/us-east-1a/on-demand".parse().unwrap();
    let capacity_type = offering.capacity_type;
    let prepared = cloud.prepare(&class, &resolved, &claim, &[offering]).await;
    let record = LaunchRecord {
        batch: batch.to_owned(),
        attempt: 1,
        size: 1,
        capacity_type,
        reservation: None,
        templates: prepared.unwrap(),
    };
    let outcome = cloud.launch(&record, &claim, &class).await.unwrap();
    assert_eq!(outcome.instances.len(), 1);
    wire.fields()
}

#[tokio::test]
async fn user_data_of_any_family_has_the_users_own_secrets_and_no_others() {
    let scene = Scene::new("secrets").await;
    let wire = Wire::to(wire::Endpoint::new(&scene.endpoint.ec2, "adapter", "demo"));
    let world = scene.endpoint.world();
    let cloud = connected_through(wire.clone(), credentials(), scene.settings(), &world).await;
    let adapter = (&cloud, &wire);
    let families = [
        ("AL2023", "#!/bin/bash\necho 'OWN'\n"),
        ("Bottlerocket", "[settings.motd]\nvalue = \"OWN\"\n"),
        ("Custom", "OWN"),
    ];
    let of_the_user = KINDS.map(|kind| kind.planted).join(" ");
    for (family, own) in families {
        let name = family.to_lowercase();
        let batch = format!("{name}-clean");
        let clean = sent_for(adapter, family, &batch, &own.replace("OWN", "own")).await;
        let mut user_data = clean.iter().filter(|field| field.is_user_data());
        assert!(
            user_data.any(|field| field.value.contains("own")),
            "{clean:?}"
        );
        assert_clean(&clean);
        // What is in the user data is seen, whatever the family wraps it in.
        let batch = format!("{name}-own");
        let own = own.replace("OWN", &of_the_user);
        let sent = sent_for(adapter, family, &batch, &own).await;
        let mut user_data = sent.iter().filter(|field| field.is_user_data());
        let all = KINDS.map(|kind| kind.name);
        assert!(
            user_data.any(|field| kinds_in(&field.value) == all),
            "{sent:?}"
        );
    }
    world.shut_down().await;
    scene.end().await;
}

#[tokio::test]
async fn a_wrong_key_is_one_clear_error_after_one_call() {
    let scene = Scene::new("wrong-key").await;
    let wrong = json!({ "status": 401 });
    scene
        .endpoint
        .fault("DescribeSubnets", "error", 100, wrong)
        .await;
    let before = scene.endpoint.calls("DescribeSubnets").await;
    let error = scene.cloud.resolve(&class(&json!({}))).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unauthorized);
    assert_eq!(error.code, "AuthFailure");
    assert!(
        error.message.contains("the credentials were not accepted"),
        "{error}"
    );
    let calls = scene.endpoint.calls("DescribeSubnets").await - before;
    assert_eq!(
        calls, 1,
        "nothing is repeated before somebody changes something"
    );
    scene.end().await;
}
