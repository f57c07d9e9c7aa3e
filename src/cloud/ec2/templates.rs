//! Launch templates in EC2: made once under the hash of their content, and removed with their class.
//!
//! Given: what `launch_template` made of a claim. Given back: names that EC2 knows. A template is
//! looked for only when EC2 says that the name is taken; one that is not tagged as this cluster's is
//! never used and never deleted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

use aws_sdk_ec2::types::builders::LaunchTemplateInstanceNetworkInterfaceSpecificationRequestBuilder as InterfaceBuilder;
use aws_sdk_ec2::types::{self as ec2, ResourceType};
use moka::future::Cache;

use super::Api;
use super::call::{failed, filter, tag_list, tag_map};
use super::in_flight::Needs;
use super::profiles;
use crate::api::node_class::EC2NodeClass;
use crate::cloud::buckets::Bucket;
use crate::cloud::class;
use crate::cloud::disks::Volume;
use crate::cloud::interfaces::{Interface, Traffic};
use crate::cloud::launch_template::{
    self, Metadata, Reserving, Source, Template, TemplateGroup, Tracking,
};
use crate::cloud::{CloudError, errors, tags};
use crate::model::claim::Claim;
use crate::model::launch::{ErrorClass, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::{CapacityType, OfferingKey};

const CREATE: &str = "CreateLaunchTemplate";
const DESCRIBE: &str = "DescribeLaunchTemplates";
const DELETE: &str = "DeleteLaunchTemplate";
/// Names remembered at most.
const CAPACITY: u64 = 5000;

/// Names that EC2 is known to have, with how many addresses a machine takes.
#[derive(Debug)]
pub(super) struct Templates(Cache<String, i64>);

impl Templates {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// Groups the offerings by template and makes the templates that are missing.
    pub(super) async fn prepare(
        &self,
        api: &Api,
        object: &EC2NodeClass,
        resolved: &NodeClass,
        claim: &Claim,
        offerings: &[OfferingKey],
    ) -> Result<Vec<TemplateOverrides>, CloudError> {
        let groups = grouped(api, object, resolved, claim, offerings)?;
        let ensured = groups.into_iter().map(|group| async move {
            let name = group.template.name();
            self.ensure(api, &name, &group.template).await?;
            Ok(TemplateOverrides {
                name,
                overrides: group.overrides,
            })
        });
        futures::future::try_join_all(ensured).await
    }

    /// Makes a template unless EC2 is known to have it.
    pub(super) async fn ensure(
        &self,
        api: &Api,
        name: &str,
        template: &Template,
    ) -> Result<(), CloudError> {
        let making = async {
            create(api, name, template).await?;
            Ok(template.addresses())
        };
        self.0
            .try_get_with_by_ref(name, Box::pin(making))
            .await
            .map(|_addresses| ())
            .map_err(|error: Arc<CloudError>| (*error).clone())
    }

    /// How many addresses machines of a record take, by template, as far as it is remembered.
    pub(super) async fn addresses(&self, record: &LaunchRecord) -> Needs {
        let mut needs = Needs::new();
        for template in &record.templates {
            if let Some(addresses) = self.0.get(&template.name).await {
                needs.insert(template.name.clone(), addresses);
            }
        }
        needs
    }

    /// Forgets the names of a record, which EC2 turned out not to have.
    pub(super) async fn forget(&self, record: &LaunchRecord) {
        for template in &record.templates {
            self.0.invalidate(&template.name).await;
        }
    }

    /// Deletes this cluster's templates of a node class.
    pub(super) async fn release(&self, api: &Api, node_class: &str) -> Result<(), CloudError> {
        let of_class = filter(format!("tag:{}", tags::NODE_CLASS), [node_class]);
        for template in list(api, vec![of_class]).await? {
            let is_of_class = tag_map(template.tags())
                .get(tags::NODE_CLASS)
                .is_some_and(|class| class == node_class);
            if let (true, Some(name)) = (is_of_class, template.launch_template_name()) {
                self.remove(api, name).await?;
            }
        }
        Ok(())
    }

    /// The names of this cluster's templates.
    pub(super) async fn names(&self, api: &Api) -> Result<Vec<String>, CloudError> {
        let found = list(api, Vec::new()).await?;
        Ok(found
            .into_iter()
            .filter_map(|template| template.launch_template_name)
            .collect())
    }

    /// Deletes one of this cluster's templates.
    pub(super) async fn remove(&self, api: &Api, name: &str) -> Result<(), CloudError> {
        delete(api, name).await?;
        self.0.invalidate(name).await;
        Ok(())
    }
}

/// The templates that offerings need, with what may be bought through each.
pub(super) fn grouped(
    api: &Api,
    object: &EC2NodeClass,
    resolved: &NodeClass,
    claim: &Claim,
    offerings: &[OfferingKey],
) -> Result<Vec<TemplateGroup>, CloudError> {
    let settings = class::read(&object.spec, api.settings.class)
        .map_err(|problems| errors::refused(CREATE, problems.to_string()))?;
    let instance_profile = profiles::name_of(api, object);
    let taken = api.taken().clone();
    let cluster = if settings.family.is_told_of_the_cluster() {
        api.control_plane.known(api)?
    } else {
        &api.settings.cluster
    };
    let source = Source {
        cluster,
        region: &api.region,
        spec: &object.spec,
        settings: &settings,
        resolved,
        instance_profile: &instance_profile,
        taken: &taken,
    };
    launch_template::group(&source, claim, offerings)
        .map_err(|problem| errors::refused(CREATE, problem.to_string()))
}

/// This cluster's templates that meet further filters.
async fn list(
    api: &Api,
    filters: Vec<ec2::Filter>,
) -> Result<Vec<ec2::LaunchTemplate>, CloudError> {
    let mut pages = api
        .ec2
        .describe_launch_templates()
        .set_filters(Some(filters))
        .filters(filter(
            format!("tag:{}", tags::CLUSTER),
            [&api.settings.cluster.name],
        ))
        .into_paginator()
        .page_size(200)
        .send();
    let mut found = Vec::new();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(found);
        };
        let page = page.map_err(|error| failed(DESCRIBE, &error))?;
        let ours = page.launch_templates().iter();
        found.extend(ours.filter(|template| is_ours(api, template)).cloned());
    }
}

fn is_ours(api: &Api, template: &ec2::LaunchTemplate) -> bool {
    tag_map(template.tags())
        .get(tags::CLUSTER)
        .is_some_and(|cluster| *cluster == api.settings.cluster.name)
}

/// Makes a template, unless it is there. Its name is all that a repeated call needs: a token of ours would come
/// again with the name after the template was removed, and EC2 could answer with what it did for it long ago.
async fn create(api: &Api, name: &str, template: &Template) -> Result<(), CloudError> {
    let mut own = template.tags.clone();
    own.extend(super::fleet::ownership_tags(&template.cluster));
    own.insert(tags::NODE_CLASS.to_owned(), template.node_class.clone());
    let template_tags = ec2::TagSpecification::builder()
        .resource_type(ResourceType::LaunchTemplate)
        .set_tags(Some(tag_list(&own)))
        .build();
    api.buckets.take(Bucket::Mutate, 1).await;
    let answer = api
        .ec2
        .create_launch_template()
        .launch_template_name(name)
        .launch_template_data(data(template))
        .tag_specifications(template_tags)
        .send()
        .await
        .map_err(|error| failed(CREATE, &error));
    match answer {
        Ok(_made) => Ok(()),
        Err(error) if error.code.contains("AlreadyExists") => check_owner(api, name).await,
        Err(error) => Err(error),
    }
}

/// A template of that name is there already: it must be one that this cluster made.
async fn check_owner(api: &Api, name: &str) -> Result<(), CloudError> {
    api.buckets.take(Bucket::Describe, 1).await;
    let answer = api
        .ec2
        .describe_launch_templates()
        .launch_template_names(name)
        .send()
        .await
        .map_err(|error| failed(DESCRIBE, &error))?;
    if answer
        .launch_templates()
        .iter()
        .any(|template| is_ours(api, template))
    {
        return Ok(());
    }
    Err(errors::refused(
        CREATE,
        format!(
            "a launch template named {name} exists that is not tagged {}={}: delete it",
            tags::CLUSTER,
            api.settings.cluster.name
        ),
    ))
}

async fn delete(api: &Api, name: &str) -> Result<(), CloudError> {
    api.buckets.take(Bucket::Mutate, 1).await;
    let answer = api
        .ec2
        .delete_launch_template()
        .launch_template_name(name)
        .send()
        .await
        .map_err(|error| failed(DELETE, &error));
    match answer {
        Ok(_deleted) => Ok(()),
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn data(template: &Template) -> ec2::RequestLaunchTemplateData {
    let profile = ec2::LaunchTemplateIamInstanceProfileSpecificationRequest::builder()
        .name(&template.instance_profile)
        .build();
    let monitoring = ec2::LaunchTemplatesMonitoringRequest::builder()
        .enabled(template.detailed_monitoring)
        .build();
    ec2::RequestLaunchTemplateData::builder()
        .image_id(&template.image_id)
        .user_data(STANDARD.encode(&template.user_data))
        .iam_instance_profile(profile)
        .set_block_device_mappings(Some(template.volumes.iter().map(device).collect()))
        .set_network_interfaces(Some(interfaces(template)))
        .metadata_options(metadata(&template.metadata))
        .monitoring(monitoring)
        .set_tag_specifications(Some(tag_specifications(template)))
        .set_capacity_reservation_specification(template.reserving.as_ref().map(reserving))
        .set_instance_market_options(template.reserving.as_ref().and_then(market))
        .set_enclave_options(template.enclaves.then(enclaves))
        .set_cpu_options(template.nested_virtualization.then(nested_virtualization))
        .set_placement(template.placement_group.as_deref().map(placement))
        .build()
}

fn enclaves() -> ec2::LaunchTemplateEnclaveOptionsRequest {
    ec2::LaunchTemplateEnclaveOptionsRequest::builder()
        .enabled(true)
        .build()
}

fn nested_virtualization() -> ec2::LaunchTemplateCpuOptionsRequest {
    ec2::LaunchTemplateCpuOptionsRequest::builder()
        .nested_virtualization(ec2::NestedVirtualizationSpecification::Enabled)
        .build()
}

fn placement(group: &str) -> ec2::LaunchTemplatePlacementRequest {
    ec2::LaunchTemplatePlacementRequest::builder()
        .group_id(group)
        .build()
}

/// Machines of a capacity block have a market of their own.
fn market(reserving: &Reserving) -> Option<ec2::LaunchTemplateInstanceMarketOptionsRequest> {
    matches!(reserving, Reserving::Block(_)).then(|| {
        ec2::LaunchTemplateInstanceMarketOptionsRequest::builder()
            .market_type(ec2::MarketType::CapacityBlock)
            .build()
    })
}

fn reserving(reserving: &Reserving) -> ec2::LaunchTemplateCapacityReservationSpecificationRequest {
    let request = ec2::LaunchTemplateCapacityReservationSpecificationRequest::builder();
    let request = match reserving {
        Reserving::Nowhere => {
            request.capacity_reservation_preference(ec2::CapacityReservationPreference::None)
        }
        Reserving::Only(id) | Reserving::Block(id) => request
            .capacity_reservation_preference(
                ec2::CapacityReservationPreference::CapacityReservationsOnly,
            )
            .capacity_reservation_target(
                ec2::CapacityReservationTarget::builder()
                    .capacity_reservation_id(id)
                    .build(),
            ),
    };
    request.build()
}

fn device(volume: &Volume) -> ec2::LaunchTemplateBlockDeviceMappingRequest {
    let narrow = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
    let ebs = ec2::LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_volume_type(volume.kind.map(Into::into))
        .set_volume_size(narrow(volume.gib))
        .set_iops(narrow(volume.iops))
        .set_throughput(narrow(volume.throughput))
        .encrypted(volume.encrypted)
        .set_kms_key_id(volume.kms_key_id.clone())
        .set_snapshot_id(volume.snapshot_id.clone())
        .set_volume_initialization_rate(volume.initialization_rate)
        .delete_on_termination(volume.delete_on_termination)
        .build();
    ec2::LaunchTemplateBlockDeviceMappingRequest::builder()
        .device_name(&volume.device_name)
        .ebs(ebs)
        .build()
}

/// The interfaces; the subnet comes with the launch, so the groups must be here and not beside them. EC2
/// refuses to be told of public addresses when there are several.
fn interfaces(
    template: &Template,
) -> Vec<ec2::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest> {
    let usual = [Interface {
        card: 0,
        device: 0,
        traffic: Traffic::Interface,
    }];
    let wanted = match template.interfaces.as_slice() {
        [] => &usual,
        listed => listed,
    };
    let public = template
        .associate_public_address
        .filter(|_public| wanted.len() == 1);
    let narrow = |index: u32| i32::try_from(index).unwrap_or(i32::MAX);
    let of_template = |interface: &Interface| {
        let request = ec2::LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .device_index(narrow(interface.device))
            .network_card_index(narrow(interface.card))
            .delete_on_termination(true)
            .set_groups(Some(template.security_groups.clone()));
        let kind = interface.traffic.as_str();
        match interface.traffic {
            Traffic::EfaOnly => request.interface_type(kind),
            Traffic::Efa => with_addresses(request.interface_type(kind), template, public),
            Traffic::Interface => with_addresses(request, template, public),
        }
        .build()
    };
    wanted.iter().map(of_template).collect()
}

/// What only interfaces with IP addresses can be told.
fn with_addresses(
    request: InterfaceBuilder,
    template: &Template,
    public: Option<bool>,
) -> InterfaceBuilder {
    request
        .set_associate_public_ip_address(public)
        .set_ipv4_prefix_count(template.prefix_count)
        .set_connection_tracking_specification(template.tracking.as_ref().map(tracking))
}

fn tracking(tracking: &Tracking) -> ec2::ConnectionTrackingSpecificationRequest {
    ec2::ConnectionTrackingSpecificationRequest::builder()
        .set_tcp_established_timeout(tracking.tcp_established)
        .set_udp_stream_timeout(tracking.udp_stream)
        .set_udp_timeout(tracking.udp)
        .build()
}

fn metadata(metadata: &Metadata) -> ec2::LaunchTemplateInstanceMetadataOptionsRequest {
    ec2::LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(metadata.endpoint.as_str().into())
        .set_http_protocol_ipv6(metadata.ipv6.as_deref().map(Into::into))
        .http_put_response_hop_limit(metadata.hop_limit)
        .http_tokens(metadata.tokens.as_str().into())
        // Tag keys with a slash cannot be served as metadata: an account default that switches
        // this on would make every launch fail.
        .instance_metadata_tags(ec2::LaunchTemplateInstanceMetadataTagsState::Disabled)
        .build()
}

/// Tags on what a launch makes. Instances and volumes get ours from the call, and one key may not
/// come from both; the others can only be tagged here. Requests for spot instances exist only for
/// spot: EC2 refuses the kind elsewhere.
fn tag_specifications(template: &Template) -> Vec<ec2::LaunchTemplateTagSpecificationRequest> {
    let mut with_ours = template.tags.clone();
    with_ours.extend(super::fleet::ownership_tags(&template.cluster));
    with_ours.insert(tags::NODE_CLASS.to_owned(), template.node_class.clone());
    let mut kinds = vec![
        (ResourceType::Instance, &template.tags),
        (ResourceType::Volume, &template.tags),
        (ResourceType::NetworkInterface, &with_ours),
    ];
    if template.capacity_type == CapacityType::Spot.as_str() {
        kinds.push((ResourceType::SpotInstancesRequest, &with_ours));
    }
    kinds
        .into_iter()
        .filter(|(_kind, tags)| !tags.is_empty())
        .map(|(kind, tags)| {
            ec2::LaunchTemplateTagSpecificationRequest::builder()
                .resource_type(kind)
                .set_tags(Some(tag_list(tags)))
                .build()
        })
        .collect()
}
