//! A node class, resolved: what its selectors find, and what can be bought through it.
//!
//! Given: the object and the newest market. Given back: a [`Resolution`] with a condition for each
//! part. An answer serves for half a minute, or for moments when something is missing, and no longer than
//! the market that it was made from; callers that ask for the same class at the same time share one
//! look-up; a catalogue is built anew only when the market or the class changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use moka::future::Cache;

use super::Api;
use super::control_plane;
use super::images;
use super::market::MarketWatch;
use super::placement_groups;
use super::profiles;
use super::reservations;
use super::selectors::{self, FoundSubnet};
use crate::api::node_class::selectors::CapacityReservationSelectorTerm;
use crate::api::node_class::{EC2NodeClass, EC2NodeClassSpec};
use crate::api::{ConditionReason, ConditionType};
use crate::cloud::catalogue::{self, Market, Terms};
use crate::cloud::class::{self, ClassSettings};
use crate::cloud::images as cloud_images;
use crate::cloud::reservations::{self as cloud_reservations, Selected};
use crate::cloud::terms::remark;
use crate::cloud::{CloudError, Resolution, Unresolved, disks, elsewhere, errors};
use crate::model::launch::ErrorClass;
use crate::model::node_class::{Image, NodeClass, Subnet};
use crate::model::offering::Catalogue;
use crate::model::placement_group::PlacementGroup;

/// How long an answer serves.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// How long one serves that says that something is missing: somebody is probably mending it.
const FRESH_UNREADY: SignedDuration = SignedDuration::from_secs(5);
/// Classes remembered at most.
const CAPACITY: u64 = 1000;

/// What is to be said about conditions that hold, by condition.
type Remarks = BTreeMap<&'static str, Unresolved>;

/// Identity and version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    uid: String,
    generation: i64,
}

/// What is remembered of a class.
#[derive(Debug)]
struct Answer {
    version: Version,
    /// It serves until then.
    until: Timestamp,
    resolution: Resolution,
    market: Arc<Market>,
    terms: Option<Terms>,
}

/// Resolutions by name of the class, one look-up at a time for each.
#[derive(Debug)]
pub(super) struct Classes(Cache<String, Arc<Answer>>);

impl Classes {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// The subnets of a class as they were last looked up, by zone.
    pub(super) async fn subnets(&self, name: &str) -> BTreeMap<String, Vec<Subnet>> {
        let known = self.0.get(name).await;
        known.map_or_else(BTreeMap::new, |known| {
            known.resolution.class.subnets.clone()
        })
    }

    pub(super) async fn resolve(
        &self,
        api: &Api,
        market: &MarketWatch,
        object: &EC2NodeClass,
    ) -> Result<Resolution, CloudError> {
        let name = object.name_any();
        let version = Version {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
        };
        let now = api.world.now();
        loop {
            let known = self.0.get(&name).await;
            let newest = market.newest();
            if known.as_ref().is_some_and(|known| {
                let is_of_before = newest
                    .as_ref()
                    .is_some_and(|newest| !Arc::ptr_eq(newest, &known.market));
                known.version != version || known.until <= now || is_of_before
            }) {
                self.0.invalidate(&name).await;
            }
            let look_up = async {
                // That the market could not be read was heeded when it was.
                let found = match market.get().await {
                    Ok(market) => api.heed(look_up(api, market, object, known.as_deref()).await),
                    Err(error) => Err(error),
                };
                let found = found.map_err(|error| errors::of_region(error, &api.region))?;
                Ok(Arc::new(found.answer(version.clone(), now)))
            };
            let answer = self
                .0
                .try_get_with_by_ref(&name, Box::pin(look_up))
                .await
                .map_err(|error: Arc<CloudError>| (*error).clone())?;
            // Another caller's look-up may have been under way for what the class was before.
            if answer.version == version {
                return Ok(answer.resolution.clone());
            }
        }
    }
}

/// What a look-up found.
#[derive(Debug)]
struct Found {
    resolution: Resolution,
    market: Arc<Market>,
    terms: Option<Terms>,
}

impl Found {
    fn answer(self, version: Version, now: Timestamp) -> Answer {
        let serves_for = if self.resolution.class.ready {
            FRESH
        } else {
            FRESH_UNREADY
        };
        Answer {
            version,
            until: now.saturating_add(serves_for).unwrap_or(now),
            resolution: self.resolution,
            market: self.market,
            terms: self.terms,
        }
    }
}

/// True when images were found that are not AWS's own, which every region has.
fn has_own_images(spec: &EC2NodeClassSpec, found: &images::FoundImages) -> bool {
    let mut terms = spec.ami_selector_terms.iter();
    !found.images.is_empty() && terms.any(|term| term.alias.is_none())
}

/// What is to be said about selectors that hold.
fn remarks(
    subnets: &[String],
    groups: &selectors::Found<selectors::FoundGroup>,
    found: &images::FoundImages,
    reservations: &Selected,
) -> Remarks {
    let remarks = [
        (
            ConditionType::SubnetsReady,
            remark("subnet", "spec.subnetSelectorTerms", subnets),
        ),
        (ConditionType::SecurityGroupsReady, of_groups(groups)),
        (ConditionType::AmisReady, images::remark(found)),
        (
            ConditionType::CapacityReservationsReady,
            cloud_reservations::remark(reservations),
        ),
    ];
    remarks
        .into_iter()
        .filter_map(|(condition, remark)| Some((condition.as_str(), remark?)))
        .collect()
}

/// Terms that match nothing, and groups that are many.
fn of_groups(groups: &selectors::Found<selectors::FoundGroup>) -> Option<Unresolved> {
    let path = "spec.securityGroupSelectorTerms";
    let nothing = remark("security group", path, &groups.nothing);
    let many = selectors::remark_on_groups(&groups.items);
    match (nothing, many) {
        (Some(nothing), Some(many)) => Some(Unresolved {
            reason: nothing.reason,
            message: format!("{}; {}", nothing.message, many.message),
        }),
        (nothing, many) => nothing.or(many),
    }
}

/// The remarks, with one on prices that AWS does not let us read: plans are made all the same, with dearer or
/// older ones.
fn with_prices(mut remarks: Remarks, unread: &[String]) -> Remarks {
    if !unread.is_empty() {
        let remark = Unresolved {
            reason: "Unauthorized",
            message: format!("prices are not up to date: {}", unread.join("; ")),
        };
        remarks.insert(ConditionType::ValidationSucceeded.as_str(), remark);
    }
    remarks
}

/// What EC2 says to everything that it is asked about a class.
struct Answers {
    subnets: selectors::Found<FoundSubnet>,
    groups: selectors::Found<selectors::FoundGroup>,
    images: images::FoundImages,
    reserved: Selected,
    placement_group: Option<Result<PlacementGroup, Unresolved>>,
}

/// Asks everything at once, and waits for all of it: which call comes back first must not say what is told of.
async fn ask(api: &Api, spec: &EC2NodeClassSpec) -> Result<Answers, CloudError> {
    let (subnets, groups, images, reserved, placement_group) = futures::future::join5(
        selectors::subnets(api, &spec.subnet_selector_terms),
        selectors::security_groups(api, &spec.security_group_selector_terms),
        images::images(api, &spec.ami_selector_terms),
        selected(api, &spec.capacity_reservation_selector_terms),
        placement_groups::selected(api, spec.placement_group_selector.as_ref()),
    )
    .await;
    let failures = [
        subnets.as_ref().err(),
        groups.as_ref().err(),
        images.as_ref().err(),
        reserved.as_ref().err(),
        placement_group.as_ref().err(),
    ];
    if let Some(error) = errors::one_of(failures.into_iter().flatten()) {
        return Err(error);
    }
    Ok(Answers {
        subnets: subnets?,
        groups: groups?,
        images: images?,
        reserved: reserved?,
        placement_group: placement_group?,
    })
}

async fn look_up(
    api: &Api,
    market: Arc<Market>,
    object: &EC2NodeClass,
    before: Option<&Answer>,
) -> Result<Found, CloudError> {
    let spec = &object.spec;
    let counted = api.world.now();
    let moment = api.taken().moment();
    let answers = Box::pin(ask(api, spec)).await?;
    let counts = answers.subnets.items.iter().map(|found| &found.subnet);
    api.taken().counted(moment, counts);
    let settings = class::read(spec, api.settings.class);
    let conditions = judged(api, object, settings.as_ref(), &answers).await;
    let Answers {
        subnets,
        groups,
        images,
        reserved,
        placement_group,
    } = answers;
    let remarks = remarks(&subnets.nothing, &groups, &images, &reserved);
    let placement_group = placement_group.and_then(Result::ok);
    let not_ready = not_ready(&conditions);
    let terms = settings.ok().map(|settings| Terms {
        placement_group: placement_group.clone(),
        reserved: cloud_reservations::types(&reserved),
        ..terms(object, &settings, &subnets.items, &images.images)
    });
    let catalogue = catalogue_of(&market, terms.as_ref(), before);
    let class = NodeClass {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or(0),
        ready: not_ready.is_empty(),
        not_ready,
        subnets: by_zone(subnets.items),
        security_groups: groups.items.into_iter().map(|group| group.id).collect(),
        images: images.images,
        hash: class::hash(spec),
        placement_group,
        lists_interfaces: !spec.network_interfaces.is_empty(),
        reservations: cloud_reservations::priced(reserved, (&catalogue, terms.as_ref()), counted),
        catalogue,
    };
    Ok(Found {
        resolution: Resolution {
            class,
            conditions,
            remarks: with_prices(remarks, &market.unread),
            instance_profile: profiles::name_of(api, object),
        },
        market,
        terms,
    })
}

/// The conditions that come of what was found.
async fn judged(
    api: &Api,
    object: &EC2NodeClass,
    settings: Result<&ClassSettings, &class::ClassError>,
    answers: &Answers,
) -> BTreeMap<&'static str, Result<(), Unresolved>> {
    let spec = &object.spec;
    let (subnets, groups) = (&answers.subnets.items, &answers.groups.items);
    let of_subnets = selectors::check_subnets(&spec.subnet_selector_terms, subnets);
    let of_groups = selectors::check_groups(&spec.security_group_selector_terms, groups, subnets);
    let checks = [
        (ConditionType::SubnetsReady, of_subnets),
        (ConditionType::SecurityGroupsReady, of_groups),
        (ConditionType::AmisReady, images::check(&answers.images)),
        (
            ConditionType::InstanceProfileReady,
            api.profiles.check(api, object),
        ),
        (
            ConditionType::ValidationSucceeded,
            check_settings(api, settings).await,
        ),
        (
            ConditionType::PlacementGroupReady,
            check_group(answers.placement_group.as_ref()),
        ),
    ];
    let checks = checks.map(|(condition, check)| (condition.as_str(), check));
    let mut conditions = BTreeMap::from(checks);
    if subnets.is_empty() && groups.is_empty() && !has_own_images(spec, &answers.images) {
        elsewhere::say_once(&mut conditions, &api.region);
    }
    conditions
}

/// The capacity reservations that terms select; without terms EC2 is not asked.
async fn selected(
    api: &Api,
    terms: &[CapacityReservationSelectorTerm],
) -> Result<Selected, CloudError> {
    if terms.is_empty() {
        return Ok(Selected::default());
    }
    match reservations::active(api).await {
        Ok(active) => Ok(cloud_reservations::select(terms, active)),
        // Asking again does not mend it, and the class can do without.
        Err(error) if error.class == ErrorClass::Unauthorized => {
            Ok(Selected::unread("Unauthorized", error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// The catalogue of before, if nothing that it was built from has changed.
fn catalogue_of(
    market: &Arc<Market>,
    terms: Option<&Terms>,
    before: Option<&Answer>,
) -> Arc<Catalogue> {
    let Some(terms) = terms else {
        return Arc::default();
    };
    before
        .filter(|before| {
            Arc::ptr_eq(&before.market, market) && before.terms.as_ref() == Some(terms)
        })
        .map_or_else(
            || Arc::new(catalogue::build(market, terms)),
            |before| Arc::clone(&before.resolution.class.catalogue),
        )
}

fn terms(
    object: &EC2NodeClass,
    settings: &ClassSettings,
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
        volumes: disks::most_of_machine(&settings.volumes, images),
        ..Terms::of(settings, cloud_images::served(images), zones)
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
        .filter(|unresolved| !unresolved.is_waiting())
        .map(|unresolved| unresolved.message.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

fn check_group(found: Option<&Result<PlacementGroup, Unresolved>>) -> Result<(), Unresolved> {
    found.map_or(Ok(()), |found| {
        found.as_ref().map(|_group| ()).map_err(Clone::clone)
    })
}

/// Whether a class makes sense, and whether it is known what its machines join the cluster with.
async fn check_settings(
    api: &Api,
    settings: Result<&ClassSettings, &class::ClassError>,
) -> Result<(), Unresolved> {
    let settings = settings.map_err(|problems| Unresolved {
        reason: ConditionReason::NodeClassValidationFailed.as_str(),
        message: problems.to_string(),
    })?;
    if settings.family.is_told_of_the_cluster() {
        let found = api.control_plane.find(api).await;
        found.map_err(|error| control_plane::unresolved(&error))?;
    }
    Ok(())
}
