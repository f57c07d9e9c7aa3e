//! The call that spends money: CreateFleet of type `instant`.
//!
//! Given: a launch record, and a claim of its batch for names. Given back: the instances, and what
//! could not be bought. The request is built from the record and from names that never change while
//! a claim lives, so a repeated record is the same request under the same token. The `context` of the class
//! alone is read anew: edited meanwhile it makes another request, which EC2 refuses under that token, and what
//! was bought is found by its tags.

use std::collections::BTreeMap;

use aws_config::retry::RetryConfig;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::types::{self as ec2, ResourceType};

use super::Api;
use super::call::{failed, tag_list};
use super::in_flight::{self, InFlight, Needs};
use crate::api::node_class::EC2NodeClass;
use crate::cloud::buckets::Bucket;
use crate::cloud::launch_template::is_block;
use crate::cloud::{CloudError, errors, tags, token};
use crate::model::claim::Claim;
use crate::model::launch::{
    LaunchOutcome, LaunchRecord, LaunchedInstance, NO_FREE_ADDRESS, Shortfall, TemplateOverrides,
};
use crate::model::offering::{CapacityType, OfferingKey};
use kube::ResourceExt as _;

const OPERATION: &str = "CreateFleet";

/// Tags that say whose a thing is.
pub(super) fn ownership_tags(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (tags::CLUSTER.to_owned(), cluster.to_owned()),
        (
            format!("{}{cluster}", tags::OWNED_PREFIX),
            "owned".to_owned(),
        ),
    ])
}

/// Waits until EC2 takes one more launch.
pub(super) async fn turn(api: &Api) {
    api.buckets.take(Bucket::Mutate, 1).await;
}

/// Makes the call that the record describes.
pub(super) async fn launch(
    api: &Api,
    record: &LaunchRecord,
    needs: &Needs,
    claim: &Claim,
    node_class: &EC2NodeClass,
) -> Result<LaunchOutcome, CloudError> {
    let request = request(api, record, claim, node_class)?;
    let _until_it_is_counted = InFlight::begin(api, record, needs);
    let answer = request
        .customize()
        .config_override(once())
        .send()
        .await
        .map_err(|error| failed(OPERATION, &error))?;
    let outcome = outcome(record, &answer);
    heed_full_subnets(api, &answer);
    in_flight::count(api, record, needs, &outcome);
    Ok(outcome)
}

/// Notes the subnets that EC2 said to be full.
fn heed_full_subnets(api: &Api, answer: &CreateFleetOutput) {
    let mut taken = api.taken();
    for error in answer.errors() {
        if error.error_code() == Some(NO_FREE_ADDRESS)
            && let Some(subnet) = choice(error.launch_template_and_overrides()).subnet
        {
            taken.fill(&subnet);
        }
    }
}

/// Makes the call that the record describes with `DryRun`: nothing is launched.
///
/// # Errors
/// EC2's answer, which is never anything else: [`errors::DRY_RUN`] when the call would have worked.
pub(super) async fn rehearse(
    api: &Api,
    record: &LaunchRecord,
    claim: &Claim,
    node_class: &EC2NodeClass,
) -> Result<(), CloudError> {
    let request = request(api, record, claim, node_class)?.dry_run(true);
    api.buckets.take(Bucket::Mutate, 1).await;
    request
        .customize()
        .config_override(once())
        .send()
        .await
        .map(|_nothing| ())
        .map_err(|error| failed(OPERATION, &error))
}

/// Not repeated by the SDK: the caller repeats the record itself, and has to know whether a refusal
/// follows a call whose answer was lost.
pub(super) fn once() -> aws_sdk_ec2::config::Builder {
    aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled())
}

fn request(
    api: &Api,
    record: &LaunchRecord,
    claim: &Claim,
    node_class: &EC2NodeClass,
) -> Result<CreateFleetFluentBuilder, CloudError> {
    let size = i32::try_from(record.size)
        .ok()
        .filter(|size| *size > 0)
        .ok_or_else(|| errors::refused(OPERATION, "the batch has no claim, or too many"))?;
    if record.templates.is_empty() {
        return Err(errors::refused(OPERATION, "nothing may be bought"));
    }
    let instance_tags = tags_of(api, record, claim, &node_class.name_any());
    let is_block = record.capacity_type == CapacityType::Reserved && is_block(claim);
    let target = ec2::TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(size)
        .default_target_capacity_type(target(record.capacity_type, is_block))
        .build();
    let mut request = api
        .ec2
        .create_fleet()
        .client_token(token::client_token(record))
        .r#type(ec2::FleetType::Instant)
        .set_context(node_class.spec.context.clone())
        .target_capacity_specification(target)
        .set_launch_template_configs(Some(
            record
                .templates
                .iter()
                .map(|template| config(template, record.capacity_type, &api.settings))
                .collect(),
        ));
    for kind in [
        ResourceType::Fleet,
        ResourceType::Instance,
        ResourceType::Volume,
    ] {
        request = request.tag_specifications(
            ec2::TagSpecification::builder()
                .resource_type(kind)
                .set_tags(Some(tag_list(&instance_tags)))
                .build(),
        );
    }
    Ok(match record.capacity_type {
        CapacityType::Spot => request.spot_options(
            ec2::SpotOptionsRequest::builder()
                .allocation_strategy(api.settings.spot_strategy.as_str().into())
                .build(),
        ),
        // There is nothing to choose among in a block.
        CapacityType::Reserved if is_block => request,
        CapacityType::OnDemand | CapacityType::Reserved => request.on_demand_options(
            ec2::OnDemandOptionsRequest::builder()
                .allocation_strategy(api.settings.on_demand_strategy.as_str().into())
                .build(),
        ),
    })
}

/// EC2's word for how machines are bought: those of a reservation on-demand, but for those of a block.
const fn target(capacity_type: CapacityType, is_block: bool) -> ec2::DefaultTargetCapacityType {
    match capacity_type {
        CapacityType::Spot => ec2::DefaultTargetCapacityType::Spot,
        CapacityType::Reserved if is_block => ec2::DefaultTargetCapacityType::CapacityBlock,
        CapacityType::OnDemand | CapacityType::Reserved => ec2::DefaultTargetCapacityType::OnDemand,
    }
}

/// The tags that a launch gives its machines.
pub(super) fn tags_of(
    api: &Api,
    record: &LaunchRecord,
    claim: &Claim,
    node_class: &str,
) -> BTreeMap<String, String> {
    let mut all = ownership_tags(&api.settings.cluster.name);
    all.insert(tags::NODE_CLASS.to_owned(), node_class.to_owned());
    all.insert(tags::BATCH.to_owned(), record.batch.clone());
    if let Some(node_pool) = &claim.node_pool {
        all.insert(tags::NODE_POOL.to_owned(), node_pool.clone());
    }
    all
}

fn config(
    template: &TemplateOverrides,
    capacity_type: CapacityType,
    settings: &crate::cloud::settings::CloudSettings,
) -> ec2::FleetLaunchTemplateConfigRequest {
    let specification = ec2::FleetLaunchTemplateSpecificationRequest::builder()
        .launch_template_name(&template.name)
        // A template has one version for ever; naming it keeps EC2 from taking a later one.
        .version("1")
        .build();
    let by_rank = capacity_type != CapacityType::Spot
        && settings.on_demand_strategy == crate::cloud::settings::OnDemandStrategy::Prioritized;
    let overrides = template
        .overrides
        .iter()
        .map(|choice| {
            ec2::FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(choice.instance_type.as_str().into())
                .subnet_id(&choice.subnet)
                .availability_zone(&choice.zone)
                .set_priority(by_rank.then(|| f64::from(choice.priority)))
                .build()
        })
        .collect();
    ec2::FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(specification)
        .set_overrides(Some(overrides))
        .build()
}

/// What the answer says, in id order.
fn outcome(record: &LaunchRecord, answer: &CreateFleetOutput) -> LaunchOutcome {
    let mut instances: Vec<LaunchedInstance> = answer
        .instances()
        .iter()
        .flat_map(|group| {
            let choice = choice(group.launch_template_and_overrides());
            let instance_type = group
                .instance_type()
                .map(|instance_type| instance_type.as_str().to_owned())
                .or_else(|| choice.instance_type.clone());
            let zone = choice.zone.clone().or_else(|| {
                let subnet = choice.subnet.as_deref()?;
                zone_of(record, subnet).map(str::to_owned)
            });
            group.instance_ids().iter().map(move |id| LaunchedInstance {
                id: id.clone(),
                offering: OfferingKey::new(
                    instance_type.as_deref().unwrap_or(""),
                    zone.as_deref().unwrap_or(""),
                    record.capacity_type,
                ),
                image_id: choice.image.clone().unwrap_or_default(),
                subnet_id: choice.subnet.clone().unwrap_or_default(),
            })
        })
        .collect();
    instances.sort();
    let mut shortfalls: Vec<Shortfall> = answer
        .errors()
        .iter()
        .map(|error| shortfall(record, error))
        .collect();
    shortfalls.sort();
    shortfalls.dedup();
    let size = usize::try_from(record.size).unwrap_or(usize::MAX);
    if instances.len() < size && shortfalls.is_empty() {
        shortfalls.push(Shortfall {
            offering: None,
            class: errors::classify("UnfulfillableCapacity", None),
            code: "UnfulfillableCapacity".to_owned(),
            message: format!(
                "EC2 gave {} of {size} instances and no reason",
                instances.len()
            ),
        });
    }
    LaunchOutcome {
        instances,
        shortfalls,
    }
}

#[derive(Debug, Clone, Default)]
struct Choice {
    instance_type: Option<String>,
    zone: Option<String>,
    subnet: Option<String>,
    image: Option<String>,
}

fn choice(response: Option<&ec2::LaunchTemplateAndOverridesResponse>) -> Choice {
    let Some(overrides) = response.and_then(|response| response.overrides()) else {
        return Choice::default();
    };
    Choice {
        instance_type: overrides
            .instance_type()
            .map(|instance_type| instance_type.as_str().to_owned()),
        zone: overrides.availability_zone.clone(),
        subnet: overrides.subnet_id.clone(),
        image: overrides.image_id.clone(),
    }
}

fn zone_of<'record>(record: &'record LaunchRecord, subnet: &str) -> Option<&'record str> {
    record
        .templates
        .iter()
        .flat_map(|template| &template.overrides)
        .find(|choice| choice.subnet == subnet)
        .map(|choice| choice.zone.as_str())
}

fn shortfall(record: &LaunchRecord, error: &ec2::CreateFleetError) -> Shortfall {
    let choice = choice(error.launch_template_and_overrides());
    let zone = choice
        .zone
        .or_else(|| zone_of(record, choice.subnet.as_deref()?).map(str::to_owned));
    let offering = choice
        .instance_type
        .zip(zone)
        .map(|(instance_type, zone)| OfferingKey::new(&instance_type, &zone, record.capacity_type));
    let classified = errors::cloud_error(
        OPERATION,
        error.error_code().unwrap_or(""),
        error.error_message().unwrap_or(""),
        None,
    );
    Shortfall {
        offering,
        class: classified.class,
        code: classified.code,
        message: classified.message,
    }
}
