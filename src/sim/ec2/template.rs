//! A launch template as the region keeps it, whichever way it came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::State;
use crate::cloud::facts::Feature;
use crate::cloud::fees::{self, VolumePlan, VolumeType};
use crate::cloud::interfaces::{Interface, Traffic};
use crate::cloud::launch_template::{Metadata, Reserving, Template};
use crate::cloud::tags;
use crate::model::money::UsdPerHour;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A volume of the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// For example `/dev/xvda`.
    pub device_name: String,
    /// EC2's word for the kind; gp3 unless it says another.
    pub kind: String,
    /// GiB; `None` is the size of the snapshot.
    pub gib: Option<i64>,
    /// IOPS beyond what the kind has.
    pub iops: Option<i64>,
    /// MiB/s beyond what the kind has.
    pub throughput: Option<i64>,
    /// `None` is what the account says.
    pub encrypted: Option<bool>,
}

impl Volume {
    fn fee(&self) -> UsdPerHour {
        fees::volume(&VolumePlan {
            kind: VolumeType::parse(&self.kind).unwrap_or(VolumeType::Gp3),
            gib: self.gib.unwrap_or(0),
            iops: self.iops,
            throughput: self.throughput,
        })
    }
}

/// What machines are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineData {
    /// Image.
    pub image_id: String,
    /// User data, not encoded.
    pub user_data: String,
    /// Name of the instance profile; empty without one.
    pub instance_profile: String,
    /// Security groups in order.
    pub security_groups: Vec<String>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Metadata service.
    pub metadata: Metadata,
    /// Tags of what a launch makes, by EC2's word for the kind: `instance`, `volume`.
    pub tags: BTreeMap<String, Tags>,
    /// Which capacity reservations they may be placed in.
    pub reserving: Option<Reserving>,
    /// Id of the placement group.
    pub placement_group: Option<String>,
    /// What types must be able to.
    pub features: BTreeSet<Feature>,
    /// Network interfaces; empty is the usual one.
    pub interfaces: Vec<Interface>,
    /// Addresses of its subnet that a machine takes.
    pub addresses: i64,
}

impl MachineData {
    /// How many Elastic Fabric Adapters machines have.
    pub fn efa_devices(&self) -> i64 {
        let speaks = |interface: &&Interface| interface.traffic != Traffic::Interface;
        i64::try_from(self.interfaces.iter().filter(speaks).count()).unwrap_or(0)
    }

    /// The capacity reservation that they are placed in.
    pub fn reservation(&self) -> Option<&str> {
        match &self.reserving {
            Some(Reserving::Only(id) | Reserving::Block(id)) => Some(id),
            _ => None,
        }
    }
}

/// A launch template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTemplate {
    /// For example `lt-0000000000000002a`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: Timestamp,
    /// Its own tags.
    pub tags: Tags,
    /// What it says of machines.
    pub data: MachineData,
}

impl LaunchTemplate {
    /// Tags of the machines that it makes.
    pub fn instance_tags(&self) -> Tags {
        self.data.tags.get("instance").cloned().unwrap_or_default()
    }

    /// What the volumes of a machine cost.
    pub fn fees(&self) -> UsdPerHour {
        self.data.volumes.iter().map(Volume::fee).sum()
    }

    /// True when it carries a tag.
    pub(super) fn has(&self, key: &str, value: &str) -> bool {
        self.tags.get(key).is_some_and(|known| known == value)
    }
}

/// What a template switches on.
pub(super) fn features(enclaves: bool, nested: bool) -> BTreeSet<Feature> {
    let wanted = [
        (Feature::Enclaves, enclaves),
        (Feature::NestedVirtualization, nested),
    ];
    let wanted = wanted.into_iter().filter(|(_feature, is)| *is);
    wanted.map(|(feature, _is)| feature).collect()
}

/// What a template of ours comes to in EC2.
pub(super) fn data_of(template: &Template) -> MachineData {
    let volumes = template.volumes.iter().map(|volume| Volume {
        device_name: volume.device_name.clone(),
        kind: volume.kind.unwrap_or(VolumeType::Gp3.as_str()).to_owned(),
        gib: volume.gib,
        iops: volume.iops,
        throughput: volume.throughput,
        encrypted: Some(volume.encrypted),
    });
    MachineData {
        image_id: template.image_id.clone(),
        user_data: template.user_data.clone(),
        instance_profile: template.instance_profile.clone(),
        security_groups: template.security_groups.clone(),
        volumes: volumes.collect(),
        metadata: template.metadata.clone(),
        tags: BTreeMap::from([("instance".to_owned(), template.tags.clone())]),
        reserving: template.reserving.clone(),
        features: features(template.enclaves, template.nested_virtualization),
        interfaces: template.interfaces.clone(),
        addresses: template.addresses(),
        placement_group: template.placement_group.clone(),
    }
}

/// The tags of a template of ours.
pub(super) fn tags_of(template: &Template) -> Tags {
    let mut own = template.tags.clone();
    own.insert(tags::CLUSTER.to_owned(), template.cluster.clone());
    own.insert(tags::NODE_CLASS.to_owned(), template.node_class.clone());
    own
}

impl State {
    /// Keeps a template under its name.
    pub(super) fn keep_template(
        &mut self,
        name: &str,
        tags: Tags,
        data: MachineData,
    ) -> Arc<LaunchTemplate> {
        self.templates_made += 1;
        let template = Arc::new(LaunchTemplate {
            id: format!("lt-{:017x}", self.templates_made),
            name: name.to_owned(),
            made: self.clock.now(),
            tags,
            data,
        });
        self.templates
            .insert(name.to_owned(), Arc::clone(&template));
        template
    }
}
