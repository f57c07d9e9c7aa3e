//! Launch templates: everything about a machine that a launch call does not say itself.
//!
//! Given: a node class, read and resolved, a claim and the offerings that may be bought for it.
//! Given back: contents, named by a hash of themselves, and the offerings grouped by content in
//! their order. So a name says what is in it: a template is made once, never changed, and a record
//! that names it repeats the same launch. The user's own tags are in the template, and the name beside
//! them, which leaves the call with nothing that an edit of the node class could change.

use std::collections::BTreeMap;

use serde::Serialize;

use super::addresses::Taken;
use super::capacity;
use super::class::ClassSettings;
use super::cluster::ClusterFacts;
use super::disks::{self, Volume};
use super::facts::Feature;
use super::interfaces::{Interface, Traffic};
use super::tags;
use super::token::hash_hex;
use super::user_data::{self, Bootstrap, UserDataError};
use crate::api::labels;
use crate::api::node_class::EC2NodeClassSpec;
use crate::api::node_class::machine::Toggle;
use crate::model::claim::Claim;
use crate::model::launch::LaunchOverride;
use crate::model::node_class::{Image, NodeClass};
use crate::model::offering::{CapacityType, InstanceType, OfferingKey};
use crate::model::reservation::ReservationKind;
use crate::model::resources::{EFA, PODS, Resources};

/// Addresses of an IPv4 prefix, a /28. Source: "Assign prefixes to network interfaces" in the EC2 user guide.
pub const PREFIX: i64 = 16;

/// How the metadata service of machines may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// `enabled` or `disabled`.
    pub endpoint: String,
    /// `enabled` or `disabled`; `None` is off too, where EC2 is not to be told.
    pub ipv6: Option<String>,
    /// Hops an answer may travel.
    pub hop_limit: i32,
    /// `required` or `optional`.
    pub tokens: String,
}

/// How long idle connections are tracked, seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tracking {
    /// Established TCP connections.
    pub tcp_established: Option<i32>,
    /// UDP streams.
    pub udp_stream: Option<i32>,
    /// Other UDP.
    pub udp: Option<i32>,
}

/// Which capacity reservations machines may be placed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reserving {
    /// In this one, or nowhere.
    Only(String),
    /// In this capacity block, or nowhere.
    Block(String),
    /// In none, not even in an open one that matches.
    Nowhere,
}

/// The content of a launch template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    /// The cluster it is for.
    pub cluster: String,
    /// The node class it was made for.
    pub node_class: String,
    /// Image.
    pub image_id: String,
    /// User data, not encoded.
    pub user_data: String,
    /// Instance profile.
    pub instance_profile: String,
    /// Security groups in order.
    pub security_groups: Vec<String>,
    /// `spot`, `on-demand` or `reserved`: tags of spot requests may only be in templates for spot.
    pub capacity_type: &'static str,
    /// `None` is what the subnet says.
    pub associate_public_address: Option<bool>,
    /// IPv4 prefixes of the interface.
    pub prefix_count: Option<i32>,
    /// Idle connection tracking.
    pub tracking: Option<Tracking>,
    /// The network interfaces; empty is one of the usual kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Metadata service.
    pub metadata: Metadata,
    /// Metrics every minute.
    pub detailed_monitoring: bool,
    /// Nitro Enclaves are switched on.
    #[serde(skip_serializing_if = "is_off")]
    pub enclaves: bool,
    /// Virtual machines within are switched on.
    #[serde(skip_serializing_if = "is_off")]
    pub nested_virtualization: bool,
    /// The user's tags and a name, for instances, volumes, interfaces and spot requests.
    pub tags: BTreeMap<String, String>,
    /// `None` is what EC2 does by itself: machines are placed in open reservations that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserving: Option<Reserving>,
    /// Id of the placement group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
const fn is_off(switch: &bool) -> bool {
    !*switch
}

impl Template {
    /// The name that says what is in it.
    pub fn name(&self) -> String {
        // Plain data with string keys: serialization does not fail.
        let content = serde_json::to_string(self).unwrap_or_default();
        let hash: String = hash_hex(content.as_bytes()).chars().take(32).collect();
        format!("tonnage-{hash}")
    }

    /// Addresses of its subnet that a machine takes when it is launched: one for each interface that carries IP, and those
    /// of the prefixes.
    pub fn addresses(&self) -> i64 {
        let carries_ip = |interface: &&Interface| interface.traffic != Traffic::EfaOnly;
        let interfaces = match self.interfaces.as_slice() {
            [] => 1,
            listed => i64::try_from(listed.iter().filter(carries_ip).count()).unwrap_or(i64::MAX),
        };
        let prefixes = i64::from(self.prefix_count.unwrap_or(0)).max(0);
        interfaces.saturating_mul(prefixes.saturating_mul(PREFIX).saturating_add(1))
    }
}

/// A template and what may be bought through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateGroup {
    /// The content.
    pub template: Template,
    /// In order of preference over all groups.
    pub overrides: Vec<LaunchOverride>,
}

/// What templates are made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'call> {
    /// The cluster that machines join.
    pub cluster: &'call ClusterFacts,
    /// The region that they are launched in.
    pub region: &'call str,
    /// The node class as written.
    pub spec: &'call EC2NodeClassSpec,
    /// The node class, read.
    pub settings: &'call ClassSettings,
    /// The node class, resolved.
    pub resolved: &'call NodeClass,
    /// Name of the instance profile.
    pub instance_profile: &'call str,
    /// Addresses that launches took since the subnets were resolved.
    pub taken: &'call Taken,
}

/// Groups offerings by the template that launches them, groups and overrides in order of first
/// appearance. One launch has one capacity type, that of the first offering: offerings of another
/// are left out, and so are those without image, subnet or type in the class, and reserved ones for
/// a claim that names no reservation.
pub fn group(
    source: &Source<'_>,
    claim: &Claim,
    offerings: &[OfferingKey],
) -> Result<Vec<TemplateGroup>, UserDataError> {
    let Some(capacity_type) = offerings.first().map(|offering| offering.capacity_type) else {
        return Ok(Vec::new());
    };
    if capacity_type == CapacityType::Reserved && reservation_of(claim).is_none() {
        return Ok(Vec::new());
    }
    let mut groups: Vec<TemplateGroup> = Vec::new();
    let mut made: Vec<(Shape, usize)> = Vec::new();
    let mut priority = 0;
    for offering in offerings {
        let Some((instance_type, image, subnet)) = found(source, offering, capacity_type) else {
            continue;
        };
        let shape = Shape::of(instance_type, image, source.settings, claim);
        let known = made.iter().find(|(known, _index)| *known == shape);
        let index = if let Some((_shape, index)) = known {
            *index
        } else {
            groups.push(TemplateGroup {
                template: template(source, claim, &shape, capacity_type)?,
                overrides: Vec::new(),
            });
            made.push((shape, groups.len() - 1));
            groups.len() - 1
        };
        if let Some(group) = groups.get_mut(index) {
            group.overrides.push(LaunchOverride {
                instance_type: offering.instance_type.to_string(),
                zone: offering.zone.to_string(),
                subnet: subnet.to_owned(),
                priority,
            });
            priority += 1;
        }
    }
    Ok(groups)
}

fn found<'class>(
    source: &Source<'class>,
    offering: &OfferingKey,
    capacity_type: CapacityType,
) -> Option<(&'class InstanceType, &'class Image, &'class str)> {
    if offering.capacity_type != capacity_type {
        return None;
    }
    let resolved = source.resolved;
    let instance_type = resolved.catalogue.types.get(&offering.instance_type)?;
    let architecture = instance_type.labels.get(labels::ARCH)?;
    let image = resolved.image(architecture, instance_type.accelerator())?;
    let subnet = source.taken.best(resolved.subnets.get(&*offering.zone)?)?;
    Some((instance_type, image, &subnet.id))
}

/// What makes offerings of one claim need different templates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    image_id: String,
    volumes: Vec<Volume>,
    pods: i64,
    kept: Resources,
    interfaces: Vec<Interface>,
}

impl Shape {
    fn of(
        instance_type: &InstanceType,
        image: &Image,
        settings: &ClassSettings,
        claim: &Claim,
    ) -> Self {
        let devices = instance_type.capacity.get(EFA);
        Self {
            interfaces: settings
                .shape
                .interfaces
                .of_machine(devices, claim.requests.get(EFA) > 0),
            image_id: image.id.clone(),
            volumes: disks::of_machine(&settings.volumes, image),
            pods: instance_type.capacity.get(PODS),
            kept: capacity::kube_reserved_of(
                &instance_type.overhead,
                &instance_type.capacity,
                &settings.shape,
            ),
        }
    }
}

fn template(
    source: &Source<'_>,
    claim: &Claim,
    shape: &Shape,
    capacity_type: CapacityType,
) -> Result<Template, UserDataError> {
    let spec = source.spec;
    let tracking = spec.connection_tracking.as_ref().map(|tracking| Tracking {
        tcp_established: tracking.tcp_established_timeout,
        udp_stream: tracking.udp_stream_timeout,
        udp: tracking.udp_timeout,
    });
    Ok(Template {
        cluster: source.cluster.name.clone(),
        node_class: source.resolved.name.clone(),
        image_id: shape.image_id.clone(),
        user_data: user_data_of(source, claim, shape, capacity_type)?,
        instance_profile: source.instance_profile.to_owned(),
        security_groups: source.resolved.security_groups.clone(),
        capacity_type: capacity_type.as_str(),
        associate_public_address: spec.associate_public_ip_address,
        prefix_count: spec.ip_prefix_count,
        tracking,
        interfaces: shape.interfaces.clone(),
        volumes: shape.volumes.clone(),
        metadata: metadata(spec, source.region),
        detailed_monitoring: spec.detailed_monitoring.unwrap_or(false),
        enclaves: source.settings.features.contains(&Feature::Enclaves),
        nested_virtualization: source
            .settings
            .features
            .contains(&Feature::NestedVirtualization),
        tags: tags_of(spec, claim),
        reserving: reserving(spec, claim, capacity_type),
        placement_group: source
            .resolved
            .placement_group
            .as_ref()
            .map(|group| group.id.clone()),
    })
}

/// EC2 in isolated partitions refuses launches that say anything of IPv6 there, even that it is off, which it is where
/// nothing is said. Whoever wants it on is told by EC2 where that cannot be.
fn metadata(spec: &EC2NodeClassSpec, region: &str) -> Metadata {
    let options = &spec.metadata_options;
    let ipv6 = &options.http_protocol_ipv6;
    let is_unsaid = *ipv6 == Toggle::Disabled && is_isolated(region);
    Metadata {
        endpoint: options.http_endpoint.as_str().to_owned(),
        ipv6: (!is_unsaid).then(|| ipv6.as_str().to_owned()),
        hop_limit: i32::try_from(options.http_put_response_hop_limit).unwrap_or(1),
        tokens: options.http_tokens.as_str().to_owned(),
    }
}

/// True for regions of the partitions `aws-iso` and its like: `us-iso-east-1`, `us-isob-east-1`, `us-isof-south-1`,
/// `eu-isoe-west-1`.
fn is_isolated(region: &str) -> bool {
    let partition = region.split('-').nth(1);
    partition.is_some_and(|partition| partition.starts_with("iso"))
}

/// The user's tags; with the name of the NodePool for the console to show, unless they give another.
fn tags_of(spec: &EC2NodeClassSpec, claim: &Claim) -> BTreeMap<String, String> {
    let mut all = spec.tags.clone();
    if let Some(node_pool) = &claim.node_pool {
        all.entry(tags::NAME.to_owned())
            .or_insert_with(|| node_pool.clone());
    }
    all
}

fn reservation_of(claim: &Claim) -> Option<&String> {
    claim.labels.get(labels::CAPACITY_RESERVATION_ID)
}

/// True when the claim's machine is to be placed in a capacity block, which is launched into in a way of
/// its own.
pub fn is_block(claim: &Claim) -> bool {
    let kind = claim.labels.get(labels::CAPACITY_RESERVATION_TYPE);
    kind.is_some_and(|kind| kind == ReservationKind::CapacityBlock.as_str())
}

/// Where a class has reservations, their slots are counted: no other machine may take one by chance.
/// Everywhere else an open reservation that somebody pays for is as good for our machines as for any.
fn reserving(
    spec: &EC2NodeClassSpec,
    claim: &Claim,
    capacity_type: CapacityType,
) -> Option<Reserving> {
    if capacity_type == CapacityType::Reserved {
        let of_kind = if is_block(claim) {
            Reserving::Block
        } else {
            Reserving::Only
        };
        return reservation_of(claim).cloned().map(of_kind);
    }
    let has_terms = !spec.capacity_reservation_selector_terms.is_empty();
    has_terms.then_some(Reserving::Nowhere)
}

fn user_data_of(
    source: &Source<'_>,
    claim: &Claim,
    shape: &Shape,
    capacity_type: CapacityType,
) -> Result<String, UserDataError> {
    let mut node_labels = (*claim.labels).clone();
    node_labels.insert(
        labels::CAPACITY_TYPE.to_owned(),
        capacity_type.as_str().to_owned(),
    );
    let bootstrap = Bootstrap {
        cluster: source.cluster,
        labels: node_labels,
        taints: claim
            .taints
            .iter()
            .chain(&claim.startup_taints)
            .cloned()
            .collect(),
        kubelet: &source.settings.kubelet,
        max_pods: shape.pods,
        kube_reserved: shape.kept.clone(),
        instance_store_raid0: source.settings.shape.instance_store_raid0,
        custom: source.spec.user_data.as_deref(),
    };
    user_data::of_family(source.settings.family, &bootstrap)
}

#[cfg(test)]
mod tests;
