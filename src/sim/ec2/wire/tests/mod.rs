//! The protocol, request by request, as any client of EC2 would write it.

mod any;
mod others;
mod products;
mod requests;
mod rights;

use super::policy::{Names, Policy};
use super::{Answer, Endpoint};
use crate::sim::ec2::market::Weather;
use crate::sim::{Embedded, Options};

/// A region of a cluster named `blue`, and who talks to it.
pub(super) struct Talk {
    pub(super) world: Embedded,
    pub(super) endpoint: Endpoint,
}

impl Talk {
    pub(super) fn begin() -> Self {
        Self::in_weather(Weather::CALM)
    }

    fn in_weather(weather: Weather) -> Self {
        let world = Embedded::begin(Options {
            cluster: "blue".to_owned(),
            weather,
            ..Options::calm(1)
        });
        let endpoint = Endpoint::new(&world.ec2, "talk", "blue");
        Self { world, endpoint }
    }

    /// The same, with a policy instead of every right.
    pub(super) fn under(policy: &str) -> Self {
        let mut talk = Self::begin();
        talk.endpoint = talk.endpoint.with_policy(Policy::parse(policy).unwrap());
        talk
    }

    /// Another caller in the same region, who may do everything.
    pub(super) fn without_policy(&self) -> Self {
        Self {
            world: self.world.clone(),
            endpoint: Endpoint::new(&self.world.ec2, "other", "blue"),
        }
    }

    /// Asks with fields, and gives back the answer.
    pub(super) async fn ask(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action);
        form.append_pair("Version", "2016-11-15");
        form.extend_pairs(fields);
        self.endpoint
            .answer(None, form.finish().as_bytes())
            .await
            .unwrap()
    }

    /// Asks SSM for parameters.
    pub(super) async fn parameters(&self, names: &[&str]) -> Answer {
        let body = serde_json::json!({ "Names": names });
        self.ask_in_json("AmazonSSM.GetParameters", &body).await
    }

    /// Asks for the price list.
    pub(super) async fn prices(&self, body: &serde_json::Value) -> Answer {
        self.ask_in_json("AWSPriceListService.GetProducts", body)
            .await
    }

    /// Asks a service that takes JSON.
    pub(super) async fn ask_in_json(&self, target: &str, body: &serde_json::Value) -> Answer {
        let body = body.to_string();
        let answer = self.endpoint.answer(Some(target), body.as_bytes());
        answer.await.unwrap()
    }

    /// Asks for what must work.
    pub(super) async fn done(&self, action: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.ask(action, fields).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Asks for what must not work; gives back status, code and message.
    pub(super) async fn refused(
        &self,
        action: &str,
        fields: &[(&str, &str)],
    ) -> (u16, String, String) {
        let answer = self.ask(action, fields).await;
        assert_ne!(answer.status, 200, "{}", answer.body);
        let one = |name| texts(&answer.body, name).remove(0);
        (answer.status, one("Code"), one("Message"))
    }
}

/// Every text of an element of a name.
pub(super) fn texts(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    body.split(&open)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
        .collect()
}

/// What makes a launch template of the cluster.
pub(super) const TEMPLATE: &[(&str, &str)] = &[
    ("LaunchTemplateName", "blue-1"),
    ("ClientToken", "token-1"),
    ("LaunchTemplateData.ImageId", "ami-amd64"),
    ("LaunchTemplateData.UserData", "IyEvYmluL3NoCg=="),
    ("LaunchTemplateData.IamInstanceProfile.Name", "nodes"),
    (
        "LaunchTemplateData.BlockDeviceMapping.1.DeviceName",
        "/dev/xvda",
    ),
    (
        "LaunchTemplateData.BlockDeviceMapping.1.Ebs.VolumeSize",
        "20",
    ),
    (
        "LaunchTemplateData.NetworkInterface.1.SecurityGroupId.1",
        "sg-0nodes",
    ),
    ("LaunchTemplateData.MetadataOptions.HttpTokens", "required"),
    (
        "LaunchTemplateData.TagSpecification.1.ResourceType",
        "network-interface",
    ),
    (
        "LaunchTemplateData.TagSpecification.1.Tag.1.Key",
        "tonnage.dev/cluster",
    ),
    ("LaunchTemplateData.TagSpecification.1.Tag.1.Value", "blue"),
    (
        "LaunchTemplateData.TagSpecification.2.ResourceType",
        "spot-instances-request",
    ),
    (
        "LaunchTemplateData.TagSpecification.2.Tag.1.Key",
        "tonnage.dev/cluster",
    ),
    ("LaunchTemplateData.TagSpecification.2.Tag.1.Value", "blue"),
    ("TagSpecification.1.ResourceType", "launch-template"),
    ("TagSpecification.1.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.1.Tag.1.Value", "blue"),
];

/// What launches three spot machines of the cluster.
pub(super) const FLEET: &[(&str, &str)] = &[
    ("Type", "instant"),
    ("ClientToken", "token-2"),
    ("TargetCapacitySpecification.TotalTargetCapacity", "3"),
    (
        "TargetCapacitySpecification.DefaultTargetCapacityType",
        "spot",
    ),
    ("SpotOptions.AllocationStrategy", "price-capacity-optimized"),
    (
        "LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName",
        "blue-1",
    ),
    (
        "LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version",
        "1",
    ),
    (
        "LaunchTemplateConfigs.1.Overrides.1.InstanceType",
        "c5.xlarge",
    ),
    ("LaunchTemplateConfigs.1.Overrides.1.SubnetId", "subnet-a"),
    (
        "LaunchTemplateConfigs.1.Overrides.1.AvailabilityZone",
        "us-east-1a",
    ),
    ("TagSpecification.1.ResourceType", "fleet"),
    ("TagSpecification.1.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.1.Tag.1.Value", "blue"),
    ("TagSpecification.2.ResourceType", "instance"),
    ("TagSpecification.2.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.2.Tag.1.Value", "blue"),
    ("TagSpecification.3.ResourceType", "volume"),
    ("TagSpecification.3.Tag.1.Key", "tonnage.dev/cluster"),
    ("TagSpecification.3.Tag.1.Value", "blue"),
];

/// Fields with some of them replaced, or added.
pub(super) fn but<'text>(
    fields: &[(&'text str, &'text str)],
    replaced: &[(&'text str, &'text str)],
) -> Vec<(&'text str, &'text str)> {
    let kept = fields
        .iter()
        .filter(|(name, _value)| !replaced.iter().any(|(other, _value)| other == name));
    kept.chain(replaced).copied().collect()
}

/// The ids of the instances in an answer to `CreateFleet`.
pub(super) fn launched(body: &str) -> Vec<String> {
    texts(body, "instanceIds")
        .iter()
        .flat_map(|ids| texts(ids, "item"))
        .collect()
}

/// The shipped policy for the cluster `blue`, whose machines have the role `nodes`.
pub(super) fn shipped() -> String {
    Policy::shipped_text(&Names {
        cluster: "blue",
        region: "us-east-1",
        account: "123456789012",
        node_role: "nodes",
    })
}
