//! What the account has in its network: subnets, security groups and images, and which of them the
//! selectors of a node class find.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use kube::ResourceExt as _;

use crate::api::ConditionType;
use crate::api::node_class::{EC2NodeClass, EC2NodeClassSpec};
use crate::cloud::catalogue::Terms;
use crate::cloud::class::{self, ClassDefaults, ClassSettings};
use crate::cloud::cluster::ClusterFacts;
use crate::cloud::{Unresolved, builtin, disks, images};
use crate::model::node_class::{Image, NodeClass, PlainRoot, Subnet};
use crate::model::offering::Catalogue;

/// The account that everything embedded happens in.
pub const ACCOUNT: &str = "123456789012";
/// The tag that everything of the account carries, with the cluster's name.
pub const DISCOVERY: &str = "tonnage.dev/discovery";
/// The account's security group: id and name.
pub(super) const GROUP: (&str, &str) = ("sg-0nodes", "nodes");
/// The root volume of its images.
pub(super) const ROOT_DEVICE: &str = "/dev/xvda";
/// The network that everything is in.
pub(super) const NETWORK: &str = "vpc-0nodes";

/// What machines of the embedded world are told of the cluster of this name.
pub fn cluster(name: &str) -> ClusterFacts {
    ClusterFacts {
        name: name.to_owned(),
        endpoint: "https://api.embedded.invalid".to_owned(),
        certificate_authority: "Q0E=".to_owned(),
        service_cidr: "10.100.0.0/16".to_owned(),
        dns_address: None,
    }
}

/// Conditions of a node class by type.
pub(super) type Conditions = BTreeMap<&'static str, Result<(), Unresolved>>;

/// What was found for a node class.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Found {
    pub(super) subnets: BTreeMap<String, Vec<Subnet>>,
    pub(super) groups: Vec<String>,
    pub(super) images: BTreeMap<String, Vec<Image>>,
    pub(super) settings: Option<ClassSettings>,
    pub(super) conditions: Conditions,
}

impl Found {
    /// What decides what can be bought; `None` when the spec cannot be read.
    pub(in crate::sim) fn terms(&self, object: &EC2NodeClass) -> Option<Terms> {
        let settings = self.settings.as_ref()?;
        let public = object.spec.associate_public_ip_address == Some(true);
        let zones = self.subnets.keys().map(|zone| (zone.clone(), public));
        let served = images::served(&self.images);
        Some(Terms {
            volumes: disks::most_of_machine(&settings.volumes, &self.images),
            ..Terms::of(settings, served, zones.collect())
        })
    }

    /// The node class, resolved.
    pub(in crate::sim) fn node_class(
        self,
        object: &EC2NodeClass,
        catalogue: Arc<Catalogue>,
    ) -> NodeClass {
        let problems: Vec<&str> = self
            .conditions
            .values()
            .filter_map(|condition| condition.as_ref().err())
            .map(|unresolved| unresolved.message.as_str())
            .collect();
        NodeClass {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            ready: problems.is_empty(),
            not_ready: problems.join("; "),
            subnets: self.subnets,
            security_groups: self.groups,
            images: self.images,
            hash: class::hash(&object.spec),
            catalogue,
            reservations: Vec::new(),
            placement_group: None,
            lists_interfaces: !object.spec.network_interfaces.is_empty(),
        }
    }
}

/// Runs the selectors of a node class.
pub(in crate::sim) fn find(cluster: &str, object: &EC2NodeClass) -> Found {
    let spec = &object.spec;
    let subnets = subnets(cluster, spec);
    let groups = groups(cluster, spec);
    let images = find_images(cluster, spec);
    let settings = class::read(spec, ClassDefaults::default());
    let name = object.name_any();
    let found = |nothing: bool, reason: &'static str, field: &str, what: &str| {
        let missing = || Unresolved {
            reason,
            message: format!(
                "{field} of EC2NodeClass {name} match no {what}: tag {what}s with \
                 {DISCOVERY}={cluster} and select that tag"
            ),
        };
        if nothing { Err(missing()) } else { Ok(()) }
    };
    let subnets_found = found(
        subnets.is_empty(),
        "SubnetsNotFound",
        "spec.subnetSelectorTerms",
        "subnet",
    );
    let groups_found = found(
        groups.is_empty(),
        "SecurityGroupsNotFound",
        "spec.securityGroupSelectorTerms",
        "security group",
    );
    let images_found = found(
        images.is_empty(),
        "AMINotFound",
        "spec.amiSelectorTerms",
        "image",
    );
    let valid = settings
        .as_ref()
        .map(|_settings| ())
        .map_err(|problems| Unresolved {
            reason: "NodeClassValidationFailed",
            message: problems.to_string(),
        });
    let conditions = BTreeMap::from([
        (ConditionType::SubnetsReady.as_str(), subnets_found),
        (ConditionType::SecurityGroupsReady.as_str(), groups_found),
        (ConditionType::AmisReady.as_str(), images_found),
        (
            ConditionType::InstanceProfileReady.as_str(),
            check_profile(spec),
        ),
        (ConditionType::ValidationSucceeded.as_str(), valid),
    ]);
    Found {
        subnets,
        groups,
        images,
        settings: settings.ok(),
        conditions,
    }
}

fn check_profile(spec: &EC2NodeClassSpec) -> Result<(), Unresolved> {
    let profile = spec.instance_profile.as_ref().or(spec.role.as_ref());
    profile.map(|_profile| ()).ok_or_else(|| Unresolved {
        reason: "InstanceProfileNotFound",
        message: "spec.instanceProfile is missing: name the instance profile of the nodes, or \
                  their role in spec.role"
            .to_owned(),
    })
}

/// True when a term's tags are all there.
fn tagged(cluster: &str, tags: &BTreeMap<String, String>) -> bool {
    !tags.is_empty()
        && tags
            .iter()
            .all(|(key, value)| key == DISCOVERY && (value == cluster || value == "*"))
}

/// The region's zones.
static ZONES: LazyLock<Vec<String>> = LazyLock::new(|| builtin::zones().into_keys().collect());

/// The account's subnets: one in each zone.
pub(super) static SUBNETS: LazyLock<Vec<Subnet>> = LazyLock::new(|| {
    let of_zone = |zone: &String| {
        let letter = zone.chars().last().unwrap_or('a');
        Subnet {
            id: format!("subnet-{letter}"),
            zone_id: format!("use1-az{}", u32::from(letter) - u32::from('a') + 1),
            zone: zone.clone(),
            free_addresses: 4_000,
        }
    };
    ZONES.iter().map(of_zone).collect()
});

fn subnets(cluster: &str, spec: &EC2NodeClassSpec) -> BTreeMap<String, Vec<Subnet>> {
    let selected = |subnet: &Subnet| {
        spec.subnet_selector_terms
            .iter()
            .any(|term| term.id.as_ref() == Some(&subnet.id) || tagged(cluster, &term.tags))
    };
    SUBNETS
        .iter()
        .filter(|subnet| selected(subnet))
        .map(|subnet| (subnet.zone.clone(), vec![subnet.clone()]))
        .collect()
}

fn groups(cluster: &str, spec: &EC2NodeClassSpec) -> Vec<String> {
    let selected = spec.security_group_selector_terms.iter().any(|term| {
        term.id.as_deref() == Some(GROUP.0)
            || term.name.as_deref() == Some(GROUP.1)
            || tagged(cluster, &term.tags)
    });
    selected.then(|| GROUP.0.to_owned()).into_iter().collect()
}

/// The account's images: one for each architecture.
pub(super) fn all_images() -> BTreeMap<String, Image> {
    let of_architecture = |architecture: &str| {
        let root = PlainRoot {
            device_name: ROOT_DEVICE.to_owned(),
            delete_on_termination: true,
        };
        let image = Image {
            plain_root: Some(root),
            ..Image::new(
                format!("ami-{architecture}"),
                format!("node-{architecture}-2027.01.01"),
            )
        };
        (architecture.to_owned(), image)
    };
    ["amd64", "arm64"]
        .into_iter()
        .map(of_architecture)
        .collect()
}

fn find_images(cluster: &str, spec: &EC2NodeClassSpec) -> BTreeMap<String, Vec<Image>> {
    let of_architecture = |(architecture, image): (String, Image)| {
        let selected = spec.ami_selector_terms.iter().any(|term| {
            let named = |text: &Option<String>| {
                text.as_ref()
                    .is_some_and(|text| text.contains(&architecture))
            };
            term.alias.is_some()
                || term.id.as_ref() == Some(&image.id)
                || named(&term.name)
                || named(&term.ssm_parameter)
                || tagged(cluster, &term.tags)
        });
        selected.then(|| (architecture.clone(), vec![image]))
    };
    all_images()
        .into_iter()
        .filter_map(of_architecture)
        .collect()
}
