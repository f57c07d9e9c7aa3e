//! A node class, resolved: what its selectors find, and what can be bought through it.
//!
//! Given: the object and the newest market. Given back: a [`Resolution`] with a condition for each
//! part. An answer serves for half a minute; callers that ask for the same class at the same time
//! share one look-up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use moka::future::Cache;

use super::Api;
use super::market::MarketWatch;
use super::selectors::{self, FoundSubnet};
use crate::api::ConditionType;
use crate::api::node_class::EC2NodeClass;
use crate::cloud::catalogue::{self, Market, Terms};
use crate::cloud::class::{self, ClassSettings};
use crate::cloud::{CloudError, Resolution, Unresolved};
use crate::model::node_class::{Image, NodeClass, Subnet};
use crate::model::offering::Catalogue;

/// How long an answer serves, seconds.
const FRESH_SECONDS: i64 = 30;
/// Answers kept at most: stale ones are pushed out by newer ones.
const CAPACITY: u64 = 1000;

/// Identity and version of an object, and the half minute in which it was looked at.
type Key = (String, String, i64, i64);

/// Resolutions, one look-up at a time for each class.
#[derive(Debug)]
pub(super) struct Classes(Cache<Key, Arc<Resolution>>);

impl Classes {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    pub(super) async fn resolve(
        &self,
        api: &Api,
        market: &MarketWatch,
        object: &EC2NodeClass,
    ) -> Result<Resolution, CloudError> {
        let key = (
            object.name_any(),
            object.uid().unwrap_or_default(),
            object.metadata.generation.unwrap_or(0),
            api.world.now().as_second().div_euclid(FRESH_SECONDS),
        );
        let look_up = async {
            let market = market.get().await?;
            look_up(api, &market, object).await.map(Arc::new)
        };
        self.0
            .try_get_with(key, Box::pin(look_up))
            .await
            .map(|resolution| (*resolution).clone())
            .map_err(|error: Arc<CloudError>| (*error).clone())
    }
}

async fn look_up(
    api: &Api,
    market: &Market,
    object: &EC2NodeClass,
) -> Result<Resolution, CloudError> {
    let spec = &object.spec;
    let (subnets, groups, images) = futures::future::try_join3(
        selectors::subnets(api, &spec.subnet_selector_terms),
        selectors::security_groups(api, &spec.security_group_selector_terms),
        selectors::images(api, &spec.ami_selector_terms),
    )
    .await?;
    let settings = class::read(spec, api.settings.class);
    let conditions = BTreeMap::from([
        (
            ConditionType::SubnetsReady.as_str(),
            selectors::check_subnets(&spec.subnet_selector_terms, &subnets),
        ),
        (
            ConditionType::SecurityGroupsReady.as_str(),
            selectors::check_groups(&spec.security_group_selector_terms, &groups, &subnets),
        ),
        (
            ConditionType::AmisReady.as_str(),
            selectors::check_images(&spec.ami_selector_terms, &images),
        ),
        (
            ConditionType::InstanceProfileReady.as_str(),
            check_instance_profile(object),
        ),
        (
            ConditionType::ValidationSucceeded.as_str(),
            check_settings(settings.as_ref().err()),
        ),
    ]);
    let not_ready = not_ready(&conditions);
    let catalogue = settings.map_or_else(
        |_problems| Catalogue::default(),
        |settings| catalogue::build(market, &terms(object, settings, &subnets, &images)),
    );
    Ok(Resolution {
        class: NodeClass {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            ready: not_ready.is_empty(),
            not_ready,
            subnets: by_zone(subnets),
            security_groups: groups.into_iter().map(|group| group.id).collect(),
            images,
            hash: class::hash(spec),
            catalogue: Arc::new(catalogue),
        },
        conditions,
    })
}

fn terms(
    object: &EC2NodeClass,
    settings: ClassSettings,
    subnets: &[FoundSubnet],
    images: &BTreeMap<String, Vec<Image>>,
) -> Terms {
    let mut zones = BTreeMap::new();
    for found in subnets {
        // The first subnet of a zone is the one that launches use.
        zones.entry(found.subnet.zone.clone()).or_insert_with(|| {
            object
                .spec
                .associate_public_ip_address
                .unwrap_or(found.gives_public_address)
        });
    }
    Terms {
        shape: settings.shape,
        architectures: images.keys().cloned().collect::<BTreeSet<_>>(),
        zones,
        volume_fee: settings.volume_fee,
        nitro_only: settings.nitro_only,
    }
}

fn by_zone(subnets: Vec<FoundSubnet>) -> BTreeMap<String, Vec<Subnet>> {
    let mut zones: BTreeMap<String, Vec<Subnet>> = BTreeMap::new();
    for found in subnets {
        zones
            .entry(found.subnet.zone.clone())
            .or_default()
            .push(found.subnet);
    }
    zones
}

/// What keeps launches from using the class, for people.
fn not_ready(conditions: &BTreeMap<&'static str, Result<(), Unresolved>>) -> String {
    conditions
        .values()
        .filter_map(|result| result.as_ref().err())
        .map(|unresolved| unresolved.message.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

fn check_instance_profile(object: &EC2NodeClass) -> Result<(), Unresolved> {
    match (&object.spec.instance_profile, &object.spec.role) {
        (Some(_profile), _) => Ok(()),
        (None, Some(role)) => Err(Unresolved {
            reason: "InstanceProfileNotFound",
            message: format!(
                "spec.role {role}: instance profiles are not made by this version; make one with \
                 that role and name it in spec.instanceProfile"
            ),
        }),
        (None, None) => Err(Unresolved {
            reason: "InstanceProfileNotFound",
            message: "spec.instanceProfile is missing: name the instance profile of the nodes"
                .to_owned(),
        }),
    }
}

fn check_settings(problems: Option<&class::ClassError>) -> Result<(), Unresolved> {
    problems.map_or(Ok(()), |problems| {
        Err(Unresolved {
            reason: "NodeClassValidationFailed",
            message: problems.to_string(),
        })
    })
}
