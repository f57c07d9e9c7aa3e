//! Dry runs: what EC2 would say to a launch through a node class, asked before the class is ready.
//!
//! Given a resolved class; given back a [`Rehearsal`]. For each way of buying that it offers, spot and on-demand, a
//! launch template is made as for a launch, since CreateFleet is judged by the one it names; then CreateFleet and
//! RunInstances are called with `DryRun`, the second because a fleet is only refused what it does in the caller's name
//! when it does it. An answer serves while what is asked stays the same: for an hour when it is good, else for half a
//! minute, or for ten where machines can be bought in the way that was asked about first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_ec2::types::{self as ec2, ResourceType};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::Api;
use super::call::{failed, tag_list};
use super::fleet;
use super::templates::{self, Templates};
use crate::api::node_class::EC2NodeClass;
use crate::cloud::buckets::Bucket;
use crate::cloud::launch_template::TemplateGroup;
use crate::cloud::rehearsal::{self, Rehearsal};
use crate::cloud::{CloudError, Unresolved, errors};
use crate::model::claim::Claim;
use crate::model::launch::{ErrorClass, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::{CapacityType, OfferingKey};

const RUN: &str = "RunInstances";
/// How long a good answer serves. Whoever takes a permission away later sees it in the next launch.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(1);
/// How long any other serves: somebody is probably mending it.
const BAD_FOR: SignedDuration = SignedDuration::from_secs(30);
/// How long one serves for the way of buying that is asked about second, where the first is let through: many accounts never
/// use spot, and machines are bought meanwhile.
const BAD_BESIDE_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Classes remembered at most.
const CAPACITY: usize = 5_000;

/// What EC2 said about a class.
#[derive(Debug, Clone)]
struct Said {
    /// What was asked.
    asked: Asked,
    until: Timestamp,
    rehearsal: Rehearsal,
}

/// What a rehearsal asks: the launch template, whose name says what is in it, and what is bought
/// through it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    uid: String,
    template: TemplateOverrides,
    capacity_type: CapacityType,
}

/// Answers by name of the class and by the way of buying: what is said of one stays when the other is asked again.
#[derive(Debug, Default)]
pub(super) struct Rehearsals(Mutex<BTreeMap<String, BTreeMap<CapacityType, Said>>>);

/// What launches are rehearsed with.
#[derive(Clone, Copy)]
struct Stage<'call> {
    api: &'call Api,
    templates: &'call Templates,
    object: &'call EC2NodeClass,
    resolved: &'call NodeClass,
}

impl Rehearsals {
    /// Rehearses a launch through a class for each way of buying, unless EC2 was asked the same lately.
    pub(super) async fn rehearse(
        &self,
        api: &Api,
        templates: &Templates,
        object: &EC2NodeClass,
        resolved: &NodeClass,
    ) -> Result<Rehearsal, CloudError> {
        let stage = Stage {
            api,
            templates,
            object,
            resolved,
        };
        // What cannot be bought through needs no permission.
        let Some(first) = rehearsal::offering(resolved) else {
            return Ok(Rehearsal::Passed);
        };
        let another = rehearsal::another(resolved, &first);
        let said = Box::pin(self.ask(stage, &first, (another, BAD_FOR))).await?;
        let before = self.asked_beside(&object.name_any(), first.capacity_type);
        let is_refused = said.is_of_the_machine();
        let Some(other) = rehearsal::other_way(resolved, &first, is_refused, before.as_ref())
        else {
            return Ok(said);
        };
        let bad_for = if said.is_let_through() {
            BAD_BESIDE_FOR
        } else {
            BAD_FOR
        };
        match Box::pin(self.ask(stage, &other, (None, bad_for))).await {
            Ok(beside) => {
                let one = (first.capacity_type, said);
                Ok(rehearsal::of_both(one, (other.capacity_type, beside)))
            }
            // Machines can be bought in the one way meanwhile, and the other is asked about with the next look.
            Err(error) if said.is_let_through() && !errors::is_of_the_caller(&error) => {
                let class = object.name_any();
                tracing::debug!(%error, class, way = %other.capacity_type, "it is asked again");
                if errors::is_retryable(error.class) {
                    return Ok(said);
                }
                let why = Unresolved {
                    reason: "RehearsalRefused",
                    message: errors::without_encoded(&error.to_string()),
                };
                let one = (first.capacity_type, said);
                let beside = (other.capacity_type, Rehearsal::Doubtful(why));
                Ok(rehearsal::of_both(one, beside))
            }
            Err(error) => Err(error),
        }
    }

    /// What EC2 says to a launch of an offering, unless it was asked the same lately. Where that machine may not be run
    /// it is asked about another, if there is one.
    async fn ask(
        &self,
        stage: Stage<'_>,
        offering: &OfferingKey,
        (another, bad_for): (Option<OfferingKey>, SignedDuration),
    ) -> Result<Rehearsal, CloudError> {
        let Some(question) = Question::of(stage, offering)? else {
            return Ok(Rehearsal::Passed);
        };
        let asked = question.asked.clone();
        let name = stage.object.name_any();
        let known = self.known(&name, &asked);
        let now = stage.api.world.now();
        if let Some(said) = known.as_ref().filter(|said| said.until > now) {
            return Ok(said.rehearsal.clone());
        }
        let record = asked.record();
        let answer = match question.put(stage).await {
            Ok(first) if first.is_of_the_machine() => again(stage, first, another).await,
            answer => answer,
        };
        match answer {
            Ok(rehearsal) => {
                self.keep(name, asked, (&rehearsal, bad_for), now);
                Ok(rehearsal)
            }
            Err(error) => {
                if error.class == ErrorClass::NotFound {
                    stage.templates.forget(&record).await;
                }
                match known {
                    // It is asked again with the next look at the class.
                    Some(said) if said.rehearsal == Rehearsal::Passed => {
                        tracing::debug!(%error, class = name, "the class is taken to be in order");
                        Ok(said.rehearsal)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// What was said to the same question.
    fn known(&self, class: &str, asked: &Asked) -> Option<Said> {
        let all = self.locked();
        let known = all.get(class)?.get(&asked.capacity_type)?;
        (known.asked == *asked).then(|| known.clone())
    }

    /// What was asked about last that is not bought in this way.
    fn asked_beside(&self, class: &str, way: CapacityType) -> Option<OfferingKey> {
        let all = self.locked();
        let mut known = all.get(class)?.values();
        let beside = known.find(|said| said.asked.capacity_type != way)?;
        let record = beside.asked.record();
        record.offerings().next()
    }

    fn keep(
        &self,
        class: String,
        asked: Asked,
        (rehearsal, bad_for): (&Rehearsal, SignedDuration),
        now: Timestamp,
    ) {
        let serves_for = match rehearsal {
            Rehearsal::Passed => GOOD_FOR,
            Rehearsal::Doubtful(_) | Rehearsal::Failed(_) => bad_for,
        };
        let way = asked.capacity_type;
        let said = Said {
            asked,
            until: now.saturating_add(serves_for).unwrap_or(now),
            rehearsal: rehearsal.clone(),
        };
        let mut all = self.locked();
        if all.len() > CAPACITY {
            all.clear();
        }
        let of_class = all.entry(class).or_default();
        of_class.insert(way, said);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<CapacityType, Said>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks about another machine where the first may not be run.
async fn again(
    stage: Stage<'_>,
    first: Rehearsal,
    other: Option<OfferingKey>,
) -> Result<Rehearsal, CloudError> {
    let question = other.map(|other| Question::of(stage, &other));
    let Some(question) = question.transpose()?.flatten() else {
        return Ok(first);
    };
    Ok(match question.put(stage).await? {
        Rehearsal::Failed(_) => first,
        Rehearsal::Passed | Rehearsal::Doubtful(_) => first.doubtful(),
    })
}

impl Asked {
    /// The launch that is rehearsed. The batch is the template's name: another content is another call.
    fn record(&self) -> LaunchRecord {
        LaunchRecord {
            batch: self.template.name.clone(),
            attempt: 1,
            size: 1,
            capacity_type: self.capacity_type,
            reservation: None,
            templates: vec![self.template.clone()],
        }
    }
}

/// A launch that EC2 is asked about.
struct Question {
    asked: Asked,
    claim: Claim,
    group: TemplateGroup,
}

impl Question {
    /// The launch of one machine of an offering; `None` when there is none through this class.
    fn of(stage: Stage<'_>, offering: &OfferingKey) -> Result<Option<Self>, CloudError> {
        let Stage {
            api,
            object,
            resolved,
            ..
        } = stage;
        let claim = nobody(object, offering, api.world.now());
        let offerings = std::slice::from_ref(offering);
        let groups = templates::grouped(api, object, resolved, &claim, offerings)?;
        let Some(group) = groups.into_iter().next() else {
            return Ok(None);
        };
        let asked = Asked {
            uid: object.uid().unwrap_or_default(),
            template: TemplateOverrides {
                name: group.template.name(),
                overrides: group.overrides.clone(),
            },
            capacity_type: offering.capacity_type,
        };
        Ok(Some(Self {
            asked,
            claim,
            group,
        }))
    }

    async fn put(&self, stage: Stage<'_>) -> Result<Rehearsal, CloudError> {
        let record = self.asked.record();
        Box::pin(play(stage, &self.claim, &record, &self.group)).await
    }
}

/// Asks EC2 step by step.
async fn play(
    stage: Stage<'_>,
    claim: &Claim,
    record: &LaunchRecord,
    group: &TemplateGroup,
) -> Result<Rehearsal, CloudError> {
    let Stage {
        api,
        templates,
        object,
        ..
    } = stage;
    let name = &record.batch;
    if let Err(error) = templates.ensure(api, name, &group.template).await {
        return rehearsal::judge(error);
    }
    // A good answer to a dry run is an error, too.
    let judged = |answer: Result<(), CloudError>| {
        answer.map_or_else(rehearsal::judge, |()| Ok(Rehearsal::Passed))
    };
    let of_the_fleet = judged(fleet::rehearse(api, record, claim, object).await)?;
    // Asked in any case: everything that is missing is said at once.
    let of_the_machine = judged(run(api, record, claim, object, group).await)?;
    Ok(of_the_fleet.and(of_the_machine))
}

/// What a fleet does in the caller's name, with `DryRun`.
async fn run(
    api: &Api,
    record: &LaunchRecord,
    claim: &Claim,
    object: &EC2NodeClass,
    group: &TemplateGroup,
) -> Result<(), CloudError> {
    let choice = group
        .overrides
        .first()
        .ok_or_else(|| errors::refused(RUN, "nothing may be bought"))?;
    let template = &group.template;
    // The subnet belongs to the interface where there is one, and an interface that is written out here
    // takes the place of the template's.
    let interface = ec2::InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .subnet_id(&choice.subnet)
        .set_groups(Some(template.security_groups.clone()))
        .set_associate_public_ip_address(template.associate_public_address)
        .build();
    let through = ec2::LaunchTemplateSpecification::builder()
        .launch_template_name(&record.batch)
        .version("1")
        .build();
    let mut request = api
        .ec2
        .run_instances()
        .dry_run(true)
        .min_count(1)
        .max_count(1)
        .instance_type(choice.instance_type.as_str().into())
        .launch_template(through)
        .network_interfaces(interface);
    if record.capacity_type == CapacityType::Spot {
        let spot = ec2::InstanceMarketOptionsRequest::builder()
            .market_type(ec2::MarketType::Spot)
            .build();
        request = request.instance_market_options(spot);
    }
    let mut tags = template.tags.clone();
    tags.extend(fleet::tags_of(api, record, claim, &object.name_any()));
    let request = request.set_tag_specifications(Some(tagged(&tags, record.capacity_type)));
    api.buckets.take(Bucket::RunInstances, 1).await;
    request
        .customize()
        .config_override(fleet::once())
        .send()
        .await
        .map(|_nothing| ())
        .map_err(|error| failed(RUN, &error))
}

/// Tags on everything that the template tags, too: policies may ask for them, and those of a call may take
/// the place of a template's.
fn tagged(
    tags: &BTreeMap<String, String>,
    capacity_type: CapacityType,
) -> Vec<ec2::TagSpecification> {
    let mut kinds = vec![
        ResourceType::Instance,
        ResourceType::Volume,
        ResourceType::NetworkInterface,
    ];
    if capacity_type == CapacityType::Spot {
        kinds.push(ResourceType::SpotInstancesRequest);
    }
    let of_kind = |kind| {
        ec2::TagSpecification::builder()
            .resource_type(kind)
            .set_tags(Some(tag_list(tags)))
            .build()
    };
    kinds.into_iter().map(of_kind).collect()
}

/// A claim of no NodePool: what permissions depend on is the same for every claim of the class.
fn nobody(object: &EC2NodeClass, offering: &OfferingKey, now: Timestamp) -> Claim {
    Claim {
        name: "rehearsal".to_owned(),
        created: now,
        node_class: object.name_any(),
        offerings: Arc::from([offering.clone()]),
        ..Claim::default()
    }
}
