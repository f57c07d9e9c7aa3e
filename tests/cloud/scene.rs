//! What every test starts from: a connection for a cluster of its own, a node class, a claim.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tonnage::api::node_class::EC2NodeClass;
use tonnage::cloud::cluster::ClusterFacts;
use tonnage::cloud::ec2::Ec2Cloud;
use tonnage::cloud::settings::CloudSettings;
use tonnage::cloud::{Cloud, InstanceQuery, MOST_TERMINATED};
use tonnage::model::claim::Claim;
use tonnage::model::instance::Instance;
use tonnage::model::kubernetes_version::KubernetesVersion;
use tonnage::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use tonnage::model::node_class::NodeClass;
use tonnage::model::offering::OfferingKey;
use tonnage::model::taint::{Taint, TaintEffect};
use tonnage::world::World;

use crate::endpoint::Endpoint;

/// A test's own world. What it launched is terminated by [`Scene::end`].
pub(crate) struct Scene {
    pub(crate) endpoint: Endpoint,
    pub(crate) cloud: Arc<Ec2Cloud>,
    pub(crate) cluster: String,
    profile_settles: Duration,
    world: World,
}

impl Scene {
    /// A scene for a cluster of its own: the name and the process make it unique on the endpoint.
    pub(crate) async fn new(name: &str) -> Self {
        Self::at(Endpoint::begin().await, name).await
    }

    /// A scene at an endpoint.
    pub(crate) async fn at(endpoint: Endpoint, name: &str) -> Self {
        Self::begin(endpoint, name, Duration::ZERO).await
    }

    /// A scene in which a new instance profile takes so long to be known everywhere.
    pub(crate) async fn settling(name: &str, profile_settles: Duration) -> Self {
        Self::begin(Endpoint::begin().await, name, profile_settles).await
    }

    async fn begin(endpoint: Endpoint, name: &str, profile_settles: Duration) -> Self {
        let cluster = format!("{name}-{}", std::process::id());
        let world = endpoint.world();
        let settings = CloudSettings {
            profile_settles,
            ..settings(&cluster)
        };
        let cloud = endpoint.connect(settings, &world).await;
        Self {
            endpoint,
            cloud: Arc::new(cloud),
            cluster,
            profile_settles,
            world,
        }
    }

    /// Another controller of the same cluster: one that remembers nothing.
    pub(crate) async fn restarted(&self) -> Ec2Cloud {
        self.connect(self.settings()).await
    }

    /// The controller of another cluster in the same account.
    pub(crate) async fn connect_beside(&self, name: &str) -> Ec2Cloud {
        let cluster = format!("{name}-{}", std::process::id());
        self.connect(settings(&cluster)).await
    }

    /// The settings of the scene's controllers.
    pub(crate) fn settings(&self) -> CloudSettings {
        CloudSettings {
            profile_settles: self.profile_settles,
            ..settings(&self.cluster)
        }
    }

    /// A controller with settings of its own.
    pub(crate) async fn connect(&self, settings: CloudSettings) -> Ec2Cloud {
        self.endpoint.connect(settings, &self.world).await
    }

    /// The resolved class, which must be ready.
    pub(crate) async fn resolved(&self, class: &EC2NodeClass) -> NodeClass {
        resolved_by(&self.cloud, class).await
    }

    /// Templates for offerings, ready to be launched.
    pub(crate) async fn prepared(
        &self,
        class: &EC2NodeClass,
        offerings: &[&str],
    ) -> Vec<TemplateOverrides> {
        prepared_by(&self.cloud, class, offerings).await
    }

    /// The same by an adapter that begins anew.
    pub(crate) async fn prepared_anew(
        &self,
        class: &EC2NodeClass,
        offerings: &[&str],
    ) -> Vec<TemplateOverrides> {
        prepared_by(&self.restarted().await, class, offerings).await
    }

    /// A record for so many of the first offering's capacity type.
    pub(crate) async fn record(
        &self,
        class: &EC2NodeClass,
        size: u32,
        offerings: &[&str],
    ) -> LaunchRecord {
        let first: OfferingKey = offerings[0].parse().unwrap();
        LaunchRecord {
            batch: format!("batch-of-{}", self.cluster),
            attempt: 1,
            size,
            capacity_type: first.capacity_type,
            reservation: None,
            templates: self.prepared(class, offerings).await,
        }
    }

    /// Launches a record, which must be answered.
    pub(crate) async fn launch(
        &self,
        record: &LaunchRecord,
        class: &EC2NodeClass,
    ) -> LaunchOutcome {
        let launched = self.cloud.launch(record, &claim(), class).await;
        launched.unwrap()
    }

    /// Launches a record, which must fail in this way.
    pub(crate) async fn refused(
        &self,
        record: &LaunchRecord,
        class: &EC2NodeClass,
        expected: ErrorClass,
    ) {
        let launched = self.cloud.launch(record, &claim(), class).await;
        let error = launched.unwrap_err();
        assert_eq!(error.class, expected, "{error}");
    }

    /// Ids of the cluster's instances that are not ending.
    pub(crate) async fn alive(&self) -> BTreeSet<String> {
        let all = self.cloud.instances(&InstanceQuery::All).await.unwrap();
        all.into_iter()
            .filter(|instance| !instance.state.is_ending())
            .map(|instance| instance.id)
            .collect()
    }

    /// The one instance with an id.
    pub(crate) async fn one(&self, id: &str) -> Instance {
        let query = InstanceQuery::Ids(BTreeSet::from([id.to_owned()]));
        let mut found = self.cloud.instances(&query).await.unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// Leaves nothing behind.
    pub(crate) async fn end(self) {
        self.endpoint.calm().await;
        let alive: Vec<String> = self.alive().await.into_iter().collect();
        for portion in alive.chunks(MOST_TERMINATED) {
            self.cloud.terminate(portion).await.unwrap();
        }
        assert_eq!(self.alive().await, BTreeSet::new());
        self.cloud.release("default").await.unwrap();
        self.world.shut_down().await;
    }
}

/// A cluster that nobody will ever reach.
pub(crate) fn facts(cluster: &str) -> ClusterFacts {
    ClusterFacts {
        name: cluster.to_owned(),
        endpoint: "https://127.0.0.1:6443".to_owned(),
        certificate_authority: "Q0E=".to_owned(),
        service_cidr: "10.100.0.0/16".to_owned(),
        dns_address: None,
    }
}

/// A version that the endpoint has images for.
const VERSION: KubernetesVersion = KubernetesVersion {
    major: 1,
    minor: 33,
};

/// The settings of a cluster's controllers.
pub(crate) fn settings(cluster: &str) -> CloudSettings {
    CloudSettings {
        kubernetes_version: watch::channel(Some(VERSION)).1,
        profile_settles: Duration::ZERO,
        ..CloudSettings::new(facts(cluster))
    }
}

/// A node class over what the endpoint's account has, with some fields replaced.
pub(crate) fn class(fields: &Value) -> EC2NodeClass {
    let mut spec = json!({
        "subnetSelectorTerms": [{ "tags": { "tonnage.dev/discovery": "demo" } }],
        "securityGroupSelectorTerms": [{ "tags": { "tonnage.dev/discovery": "demo" } }],
        "amiSelectorTerms": [{ "tags": { "tonnage.dev/discovery": "demo" } }],
        "amiFamily": "AL2023",
        "instanceProfile": "tonnage-node",
    });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut class = EC2NodeClass::new("default", serde_json::from_value(spec).unwrap());
    class.metadata.uid = Some("class-uid".to_owned());
    class.metadata.generation = Some(1);
    class
}

/// A claim of a pool with a taint.
pub(crate) fn claim() -> Claim {
    Claim {
        name: "executors-abcde".to_owned(),
        uid: "claim-uid".to_owned(),
        resource_version: "1".to_owned(),
        generation: 1,
        node_pool: Some("executors".to_owned()),
        node_class: "default".to_owned(),
        labels: Arc::new(BTreeMap::from([(
            "karpenter.sh/nodepool".to_owned(),
            "executors".to_owned(),
        )])),
        taints: vec![Taint::new("dedicated", "executor", TaintEffect::NoSchedule)],
        ..Claim::default()
    }
}

/// Templates of an adapter for offerings of a class that it finds ready.
async fn prepared_by(
    cloud: &Ec2Cloud,
    class: &EC2NodeClass,
    offerings: &[&str],
) -> Vec<TemplateOverrides> {
    let resolved = resolved_by(cloud, class).await;
    let offerings: Vec<OfferingKey> = offerings.iter().map(|text| text.parse().unwrap()).collect();
    cloud
        .prepare(class, &resolved, &claim(), &offerings)
        .await
        .unwrap()
}

/// A class as an adapter resolves it, which must be ready.
async fn resolved_by(cloud: &Ec2Cloud, class: &EC2NodeClass) -> NodeClass {
    let resolution = cloud.resolve(class).await.unwrap();
    assert_eq!(resolution.class.not_ready, "");
    resolution.class
}
