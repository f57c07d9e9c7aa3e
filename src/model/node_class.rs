//! An EC2NodeClass after its selectors were resolved: what a launch needs, in our own words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::offering::{Catalogue, Offering, OfferingKey};
use super::placement_group::PlacementGroup;
use super::reservation::Reservation;
use super::resources::{EFA, Resources};

/// A node class with everything a decision or a launch needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClass {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// True when a launch may use it; otherwise `not_ready` says why.
    pub ready: bool,
    /// What is wrong and what would fix it, for people; empty when ready.
    pub not_ready: String,
    /// Subnets by zone, the one with most free addresses first.
    pub subnets: BTreeMap<String, Vec<Subnet>>,
    /// Security group ids in order.
    pub security_groups: Vec<String>,
    /// Images by architecture (`amd64`, `arm64`), not deprecated ones first, then newest first.
    pub images: BTreeMap<String, Vec<Image>>,
    /// Hash over what a launched node keeps of the spec; a difference is drift.
    pub hash: String,
    /// What can be bought through this class.
    pub catalogue: Arc<Catalogue>,
    /// The active capacity reservations that the class selects, in order of id.
    pub reservations: Vec<Reservation>,
    /// The placement group that machines are launched into.
    pub placement_group: Option<PlacementGroup>,
    /// Machines have the network interfaces that the class lists, whatever their claims ask for.
    pub lists_interfaces: bool,
}

/// A subnet that nodes may be launched into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// For example `subnet-0123`.
    pub id: String,
    /// For example `us-east-1a`.
    pub zone: String,
    /// For example `use1-az4`.
    pub zone_id: String,
    /// Free IPv4 addresses when it was last described.
    pub free_addresses: i64,
}

/// What a machine computes with beside its processors, as far as it needs an image with drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Accelerator {
    /// Nothing.
    None,
    /// GPUs of NVIDIA.
    Nvidia,
    /// AWS Inferentia or Trainium.
    Neuron,
    /// Anything else: GPUs of AMD, Gaudi.
    Other,
}

impl Accelerator {
    /// Every kind.
    pub fn all() -> BTreeSet<Self> {
        BTreeSet::from([Self::None, Self::Nvidia, Self::Neuron, Self::Other])
    }
}

/// A machine image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// For example `ami-0123`.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Its owner wants it replaced by a newer one.
    pub deprecated: bool,
    /// The machines it has drivers for.
    pub serves: BTreeSet<Accelerator>,
    /// The root volume that it brings; `None` where that is encrypted by itself, and where there is none.
    pub plain_root: Option<PlainRoot>,
}

/// The root volume of an image, which is not encrypted unless a launch asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainRoot {
    /// For example `/dev/xvda`.
    pub device_name: String,
    /// It goes with its machine.
    pub delete_on_termination: bool,
}

impl Image {
    /// An image for every machine.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            deprecated: false,
            serves: Accelerator::all(),
            plain_root: None,
        }
    }
}

impl NodeClass {
    /// What a machine has of everything that its type can have, when it was made for such requests: EFA devices are
    /// on it when they were asked for, or on every machine of the class.
    pub fn promised(&self, mut all: Resources, requests: &Resources) -> Resources {
        if !self.lists_interfaces && requests.get(EFA) == 0 {
            all.set(EFA, 0);
        }
        all
    }

    /// An offering by its key: one that is sold, or that of a capacity reservation.
    pub fn offering(&self, key: &OfferingKey) -> Option<&Offering> {
        let reserved = self.reservations.iter().map(|found| &found.offering);
        let mut all = self.catalogue.offerings.iter().chain(reserved);
        all.find(|offering| offering.key == *key)
    }

    /// Every offering, to be marked: those that are sold, and those of capacity reservations with their id.
    pub fn offerings_mut(&mut self) -> impl Iterator<Item = (Option<&str>, &mut Offering)> {
        let sold = Arc::make_mut(&mut self.catalogue).offerings.iter_mut();
        let reserved = self.reservations.iter_mut();
        sold.map(|offering| (None, offering))
            .chain(reserved.map(|found| (Some(found.id.as_str()), &mut found.offering)))
    }

    /// The image that machines of an architecture with such an accelerator are started from.
    pub fn image(&self, architecture: &str, accelerator: Accelerator) -> Option<&Image> {
        let images = self.images.get(architecture)?;
        images
            .iter()
            .find(|image| image.serves.contains(&accelerator))
    }
}
