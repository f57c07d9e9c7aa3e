//! The EC2 endpoint as the tests see it: what runs there, and faults on the way to it.

use http::Request;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::world::variable;

/// An instance that is not terminated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) capacity_type: String,
    pub(crate) state: String,
    pub(crate) tags: std::collections::BTreeMap<String, String>,
}

/// The endpoint behind the proxy, and the proxy's own controls.
#[derive(Debug)]
pub(crate) struct Endpoint {
    direct: String,
    faults: String,
    boot: String,
}

impl Endpoint {
    pub(crate) fn new() -> Self {
        Self {
            direct: variable("TONNAGE_EC2_DIRECT_URL"),
            faults: variable("TONNAGE_FAULTS_URL"),
            boot: variable("TONNAGE_BOOT_URL"),
        }
    }

    /// Every instance that is pending, running, stopping or shutting down, whoever launched it.
    pub(crate) async fn machines(&self) -> Vec<Machine> {
        let answer = call(&self.direct, "GET", "/_tonnage/instances", None).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut machines: Vec<Machine> = answer
            .as_array()
            .unwrap()
            .iter()
            .map(|instance| Machine {
                id: text(&instance["id"]),
                instance_type: text(&instance["type"]),
                zone: text(&instance["zone"]),
                capacity_type: text(&instance["capacityType"]),
                state: text(&instance["state"]),
                tags: serde_json::from_value(instance["tags"].clone()).unwrap(),
            })
            .filter(|machine| machine.state != "terminated")
            .collect();
        machines.sort();
        machines
    }

    /// Each instance that was ever launched since the endpoint was reset, ended ones included, in a line.
    pub(crate) async fn launched_in_all(&self) -> Vec<String> {
        let answer = call(&self.direct, "GET", "/_tonnage/instances", None).await;
        let instances = answer.as_array().unwrap().iter();
        let line = |instance: &Value| {
            let told = ["launchTime", "id", "type", "capacityType", "zone", "state"];
            let told = told.map(|field| instance[field].as_str().unwrap_or_default());
            told.join(" ")
        };
        instances.map(line).collect()
    }

    /// Adds a fault rule and returns its id.
    pub(crate) async fn fault(&self, rule: Value) -> String {
        let answer = self.control("POST", "/rules", Some(rule.clone())).await;
        match &answer["id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => panic!("the proxy refuses {rule}: {answer}"),
        }
    }

    /// How often a rule has been hit, and how many requests it holds now.
    pub(crate) async fn hits(&self, id: &str) -> (u64, u64) {
        let rules = self.control("GET", "/rules", None).await;
        let rule = rules.as_array().into_iter().flatten().find(|rule| {
            rule["id"].as_str() == Some(id)
                || rule["id"].as_u64().is_some_and(|n| n.to_string() == id)
        });
        let rule = rule.unwrap_or_else(|| panic!("no rule {id}: {rules}"));
        (
            rule["hits"].as_u64().unwrap(),
            rule["holding"].as_u64().unwrap(),
        )
    }

    /// How many calls have gone through the proxies to both sides.
    pub(crate) async fn calls(&self) -> u64 {
        let calls = self.control("GET", "/calls", None).await;
        ["ec2", "kubernetes"]
            .into_iter()
            .filter_map(|side| calls[side].as_object())
            .flatten()
            .filter_map(|(_call, count)| count.as_u64())
            .sum()
    }

    /// From now on machines that run at once boot so many seconds apart.
    pub(crate) async fn boot_apart(&self, seconds: u32) {
        let settings = json!({ "apartSeconds": seconds });
        let answer = call(&self.boot, "POST", "/settings", Some(settings)).await;
        assert_eq!(answer["apartSeconds"], f64::from(seconds), "{answer}");
    }

    /// Until it is reset all spot capacity costs so many thousandths of its on-demand price.
    pub(crate) async fn hold_spot_prices(&self, per_mille: u64) {
        let held = json!({ "spotPerMille": per_mille });
        let answer = self
            .overlay("POST", "/_tonnage/prices", Some(held.clone()))
            .await;
        assert_eq!(answer, held);
    }

    /// Asks the control interface of the proxy or of the overlay.
    pub(crate) async fn control(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        call(&self.faults, method, path, body).await
    }

    /// Launches an instance as somebody else would: by itself, with these tags. Gives back its id.
    pub(crate) async fn run_instance(
        &self,
        image: &str,
        subnet: &str,
        tags: &[(&str, &str)],
    ) -> String {
        let mut form = vec![
            "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1&InstanceType=c5.xlarge"
                .to_owned(),
            format!("ImageId={image}&SubnetId={subnet}&TagSpecification.1.ResourceType=instance"),
        ];
        for (number, (key, value)) in (1..).zip(tags) {
            let key = key.replace('/', "%2F");
            form.push(format!(
                "TagSpecification.1.Tag.{number}.Key={key}&TagSpecification.1.Tag.{number}.Value={value}"
            ));
        }
        let answer = self.query(&form.join("&")).await;
        let id = answer
            .split_once("<instanceId>")
            .and_then(|(_before, rest)| rest.split_once("</instanceId>"));
        id.unwrap_or_else(|| panic!("{answer}")).0.to_owned()
    }

    /// How many launch templates there are.
    pub(crate) async fn launch_templates(&self) -> usize {
        let answer = self
            .query("Action=DescribeLaunchTemplates&Version=2016-11-15")
            .await;
        answer.matches("<launchTemplateId>").count()
    }

    /// A request of somebody else in EC2's own protocol, as text.
    async fn query(&self, form: &str) -> String {
        let client = Client::try_from(Config::new(self.direct.parse().unwrap())).unwrap();
        let request = Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0",
            )
            .body(form.as_bytes().to_vec())
            .unwrap();
        client.request_text(request).await.unwrap()
    }

    /// Asks the overlay directly.
    pub(crate) async fn overlay(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        call(&self.direct, method, path, body).await
    }

    /// Removes every fault, releasing what is held.
    pub(crate) async fn clear_faults(&self) {
        drop(self.control("DELETE", "/rules", None).await);
        drop(
            self.overlay("POST", "/_tonnage/capacity", Some(json!({"pools": []})))
                .await,
        );
    }
}

/// One JSON request on loopback.
async fn call(base: &str, method: &str, path: &str, body: Option<Value>) -> Value {
    let client = Client::try_from(Config::new(base.parse().unwrap())).unwrap();
    let bytes = body
        .map(|value| value.to_string().into_bytes())
        .unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(bytes)
        .unwrap();
    let text = client.request_text(request).await.unwrap_or_else(|error| {
        panic!("{method} {base}{path}: {error}");
    });
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
