//! The real EC2 behind the [`Cloud`] trait.
//!
//! Given: settings, a world, and AWS's default chain of credentials. Given back: model values. Every
//! call takes its tokens first, a launch in its turn, is repeated once by the SDK at most, and fails with a classified
//! error; what to do then is the caller's decision. Reads of the catalogue never wait for a refresh.

mod answers;
mod call;
mod classes;
mod control_plane;
mod fleet;
mod images;
mod in_flight;
mod instances;
mod market;
mod on_demand;
mod parameters;
mod placement_groups;
mod profiles;
mod queue;
mod rehearsals;
mod reservations;
mod root_volume;
mod selectors;
mod templates;
mod types;
mod unpriced;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use self::classes::Classes;
use self::control_plane::ControlPlane;
use self::market::MarketWatch;
use self::parameters::Parameters;
use self::profiles::Profiles;
pub use self::queue::Queue;
use self::rehearsals::Rehearsals;
use self::templates::Templates;
use super::addresses::Taken;
use super::buckets::{Bucket, Buckets};
use super::profile::OwnProfile;
use super::rehearsal::Rehearsal;
use super::settings::CloudSettings;
use super::{Cloud, CloudError, InstanceQuery, Resolution, errors};
use crate::api::node_class::EC2NodeClass;
use crate::model::claim::Claim;
use crate::model::instance::Instance;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;
use crate::world::World;
/// What whoever connects from outside gives.
pub use aws_sdk_ec2::config::{Credentials, ProvideCredentials};
use kube::ResourceExt as _;

/// What every call needs.
#[derive(Clone)]
struct Api {
    ec2: aws_sdk_ec2::Client,
    pricing: aws_sdk_pricing::Client,
    iam: aws_sdk_iam::Client,
    ssm: aws_sdk_ssm::Client,
    eks: aws_sdk_eks::Client,
    control_plane: Arc<ControlPlane>,
    parameters: Arc<Parameters>,
    profiles: Arc<Profiles>,
    buckets: Arc<Buckets>,
    settings: Arc<CloudSettings>,
    region: Arc<str>,
    world: World,
    taken: Arc<Mutex<Taken>>,
}

impl Api {
    /// What launches took of subnets since they were counted.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An outcome, of which a throttled call makes the next ones slower.
    fn heed<T>(&self, outcome: Result<T, CloudError>) -> Result<T, CloudError> {
        if let Err(error) = &outcome
            && error.class == ErrorClass::Throttled
            && let Some(bucket) = Bucket::of(error.operation)
        {
            self.buckets.throttled(bucket);
        }
        outcome
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Api")
            .field("region", &self.region)
            .field("cluster", &self.settings.cluster.name)
            .finish_non_exhaustive()
    }
}

/// EC2 in one region, for one cluster.
#[derive(Debug)]
pub struct Ec2Cloud {
    api: Api,
    market: MarketWatch,
    classes: Classes,
    templates: Templates,
    rehearsals: Rehearsals,
}

fn no_region() -> CloudError {
    let message = "no AWS region is known: set AWS_REGION, or the region setting";
    errors::refused("Connect", message)
}

impl Ec2Cloud {
    /// Connects with AWS's default chain (environment, web identity, container, instance profile)
    /// and starts refreshing the catalogue in the background. The endpoint may be set by
    /// `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// No region is set. Credentials are first needed, and first missed, by the first call.
    pub async fn connect(settings: CloudSettings, world: World) -> Result<Self, CloudError> {
        Self::connect_with(settings, world, |loader| loader).await
    }

    /// As [`Self::connect`], with something changed of how the SDK is set up: another HTTP client, other
    /// credentials.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        settings: CloudSettings,
        world: World,
        change: impl FnOnce(ConfigLoader) -> ConfigLoader,
    ) -> Result<Self, CloudError> {
        let config = change(loader(&settings)).load().await;
        let Some(region) = config.region().map(|region| Arc::from(region.as_ref())) else {
            return Err(no_region());
        };
        Ok(Self::with_config(&config, region, settings, world))
    }

    fn with_config(
        config: &SdkConfig,
        region: Arc<str>,
        settings: CloudSettings,
        world: World,
    ) -> Self {
        let pricing = aws_sdk_pricing::config::Builder::from(config)
            .region(Region::new(on_demand::endpoint_region(&region)))
            .build();
        let api = Api {
            ec2: aws_sdk_ec2::Client::new(config),
            pricing: aws_sdk_pricing::Client::from_conf(pricing),
            iam: aws_sdk_iam::Client::new(config),
            ssm: aws_sdk_ssm::Client::new(config),
            eks: aws_sdk_eks::Client::new(config),
            control_plane: Arc::default(),
            parameters: Arc::default(),
            profiles: Arc::default(),
            taken: Arc::default(),
            buckets: Arc::new(Buckets::new(settings.buckets)),
            settings: Arc::new(settings),
            region,
            world,
        };
        Self {
            market: MarketWatch::start(&api),
            classes: Classes::new(),
            templates: Templates::new(),
            rehearsals: Rehearsals::default(),
            api,
        }
    }
}

fn loader(settings: &CloudSettings) -> ConfigLoader {
    // One repetition by the SDK: it hides a lost connection, and what lasts longer is the caller's
    // to see, because only the caller knows what may wait.
    let retries = RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(std::time::Duration::from_millis(200));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(std::time::Duration::from_secs(5))
        .operation_attempt_timeout(settings.attempt_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(retries)
        .timeout_config(timeouts);
    if let Ok(name) = AppName::new("tonnage") {
        loader = loader.app_name(name);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader
}

impl Cloud for Ec2Cloud {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        self.classes
            .resolve(&self.api, &self.market, node_class)
            .boxed()
    }

    fn prepare<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
        claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>> {
        self.templates
            .prepare(&self.api, node_class, resolved, claim, offerings)
            .map(|prepared| self.api.heed(prepared))
            .boxed()
    }

    fn rehearse<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
    ) -> BoxFuture<'call, Result<Rehearsal, CloudError>> {
        self.rehearsals
            .rehearse(&self.api, &self.templates, node_class, resolved)
            .map(|rehearsed| self.api.heed(rehearsed))
            .boxed()
    }

    fn turn(&self) -> BoxFuture<'_, ()> {
        fleet::turn(&self.api).boxed()
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        async move {
            let needs = self.templates.addresses(record).await;
            let mut launched = fleet::launch(&self.api, record, &needs, claim, node_class).await;
            if let Ok(outcome) = &mut launched
                && in_flight::met_a_full_subnet(outcome)
            {
                let subnets = self.classes.subnets(&node_class.name_any()).await;
                in_flight::go_on_in_sisters(&self.api, outcome, &needs, &subnets);
            }
            if lacks_its_template(&launched) {
                self.templates.forget(record).await;
            }
            if let Ok(outcome) = &launched
                && outcome
                    .shortfalls
                    .iter()
                    .any(|found| found.class == ErrorClass::Throttled)
            {
                self.api.buckets.throttled(Bucket::Mutate);
            }
            self.api.heed(launched)
        }
        .boxed()
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        instances::list(&self.api, query)
            .map(|listed| self.api.heed(listed))
            .boxed()
    }

    fn terminate<'call>(
        &'call self,
        instance_ids: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        instances::terminate(&self.api, instance_ids)
            .map(|ended| self.api.heed(ended))
            .boxed()
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        instances::tag(&self.api, instance_id, tags)
            .map(|tagged| self.api.heed(tagged))
            .boxed()
    }

    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.api
            .profiles
            .keep(&self.api, node_class)
            .map(|kept| self.api.heed(kept))
            .boxed()
    }

    fn profile_of(&self, node_class: &EC2NodeClass) -> String {
        profiles::name_of(&self.api, node_class)
    }

    fn profiles(&self) -> BoxFuture<'_, Result<Vec<OwnProfile>, CloudError>> {
        self.api
            .profiles
            .list(&self.api)
            .map(|listed| self.api.heed(listed))
            .boxed()
    }

    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>> {
        self.api
            .profiles
            .remove(&self.api, name)
            .map(|removed| self.api.heed(removed))
            .boxed()
    }

    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.templates
            .release(&self.api, node_class)
            .map(|released| self.api.heed(released))
            .boxed()
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>> {
        self.templates
            .names(&self.api)
            .map(|names| self.api.heed(names))
            .boxed()
    }

    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.templates
            .remove(&self.api, name)
            .map(|removed| self.api.heed(removed))
            .boxed()
    }
}

/// True when what a launch was to be made from is not there: EC2 says so of the whole call, or of each override.
fn lacks_its_template(launched: &Result<LaunchOutcome, CloudError>) -> bool {
    match launched {
        Err(error) => error.class == ErrorClass::NotFound,
        Ok(outcome) => outcome.shortfalls.iter().any(|found| {
            found.class == ErrorClass::NotFound && found.code.contains("LaunchTemplate")
        }),
    }
}
