//! The volumes of a node class's machines, in plain units.
//!
//! Given: the spec and its family. Given back: volumes with defaults filled in, what they cost, and the
//! size of the one that pods' scratch data is on; problems are added to the caller's list, each naming
//! field and fix. Nothing is made here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::Serialize;

use super::capacity::DEFAULT_ROOT_BYTES;
use super::class::Family;
use super::fees::{self, VolumePlan, VolumeType};
use crate::api::node_class::EC2NodeClassSpec;
use crate::api::node_class::storage::{BlockDevice, BlockDeviceMapping};
use crate::model::money::UsdPerHour;
use crate::model::node_class::Image;
use crate::model::quantity;

const GIB: i64 = 1 << 30;
/// Where Amazon Linux has its root volume, which carries pods' scratch data, and Bottlerocket its system.
const FIRST_DEVICE: &str = "/dev/xvda";
/// Where Bottlerocket keeps containers, images and pods' scratch data.
const BOTTLEROCKET_DATA_DEVICE: &str = "/dev/xvdb";
/// What Bottlerocket's system, which is there twice for updates, needs.
const BOTTLEROCKET_OS_GIB: i64 = 6;

/// An EBS volume of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// For example `/dev/xvda`.
    pub device_name: String,
    /// GiB; `None` is the size of the snapshot.
    pub gib: Option<i64>,
    /// EC2's word for the kind; `None` is that of the image.
    pub kind: Option<&'static str>,
    /// IOPS.
    pub iops: Option<i64>,
    /// MiB/s.
    pub throughput: Option<i64>,
    /// Encrypted, with the account's key if no other is named.
    pub encrypted: bool,
    /// KMS key.
    pub kms_key_id: Option<String>,
    /// Snapshot.
    pub snapshot_id: Option<String>,
    /// MiB/s at which the snapshot is loaded.
    pub initialization_rate: Option<i32>,
    /// Goes with its machine.
    pub delete_on_termination: bool,
}

/// The volumes that a class asks for; without any, those that its family needs.
pub(super) fn volumes(
    spec: &EC2NodeClassSpec,
    family: Family,
    problems: &mut Vec<String>,
) -> Vec<Volume> {
    if spec.block_device_mappings.is_empty() {
        return defaults(family);
    }
    let mut volumes = Vec::new();
    for (index, mapping) in spec.block_device_mappings.iter().enumerate() {
        let Some(ebs) = &mapping.ebs else { continue };
        match volume(index, mapping, ebs) {
            Ok(volume) => volumes.push(volume),
            Err(problem) => problems.push(problem),
        }
    }
    volumes
}

/// An encrypted volume that goes with its machine, of which nothing else is said.
fn encrypted(device_name: &str) -> Volume {
    Volume {
        device_name: device_name.to_owned(),
        gib: None,
        kind: None,
        iops: None,
        throughput: None,
        encrypted: true,
        kms_key_id: None,
        snapshot_id: None,
        initialization_rate: None,
        delete_on_termination: true,
    }
}

fn defaults(family: Family) -> Vec<Volume> {
    let volume = |device_name: &str, gib: i64| Volume {
        gib: Some(gib),
        kind: Some(VolumeType::Gp3.as_str()),
        ..encrypted(device_name)
    };
    match family {
        Family::Al2023 => vec![volume(FIRST_DEVICE, DEFAULT_ROOT_BYTES / GIB)],
        Family::Bottlerocket => vec![
            volume(FIRST_DEVICE, BOTTLEROCKET_OS_GIB),
            volume(BOTTLEROCKET_DATA_DEVICE, DEFAULT_ROOT_BYTES / GIB),
        ],
        Family::Custom => Vec::new(),
    }
}

fn volume(index: usize, mapping: &BlockDeviceMapping, ebs: &BlockDevice) -> Result<Volume, String> {
    let path = format!("spec.blockDeviceMappings[{index}]");
    let device_name = mapping
        .device_name
        .clone()
        .ok_or_else(|| format!("{path}.deviceName is missing: name the device, as in /dev/xvda"))?;
    let kind = ebs
        .volume_type
        .as_ref()
        .map_or(Some(VolumeType::Gp3), |kind| {
            VolumeType::parse(kind.as_str())
        })
        .ok_or_else(|| format!("{path}.ebs.volumeType is not known: use gp3"))?;
    let bytes = ebs
        .volume_size
        .as_ref()
        .map(|size| bytes(size, &format!("{path}.ebs.volumeSize")))
        .transpose()?;
    Ok(Volume {
        device_name,
        gib: bytes.map(|bytes| bytes.saturating_add(GIB - 1) / GIB),
        kind: Some(kind.as_str()),
        iops: ebs.iops,
        throughput: ebs.throughput,
        encrypted: ebs.encrypted.unwrap_or(true),
        kms_key_id: ebs.kms_key_id.clone(),
        snapshot_id: ebs.snapshot_id.clone(),
        initialization_rate: ebs.volume_initialization_rate,
        delete_on_termination: ebs.delete_on_termination.unwrap_or(true),
    })
}

/// The volumes of machines that start from an image: those of the class and, where none of them is the image's
/// root volume, that one, encrypted. A list that names other devices only says nothing of the root volume, and what
/// nobody spoke of is encrypted here. Everything else about it is left as the image has it: what a launch does not
/// say of the root volume EC2 takes from there.
pub(super) fn of_machine(volumes: &[Volume], image: &Image) -> Vec<Volume> {
    let is_named = |device: &str| volumes.iter().any(|volume| volume.device_name == device);
    let root = image
        .plain_root
        .as_ref()
        .filter(|root| !is_named(&root.device_name));
    let root = root.map(|root| Volume {
        delete_on_termination: root.delete_on_termination,
        ..encrypted(&root.device_name)
    });
    root.into_iter().chain(volumes.iter().cloned()).collect()
}

/// How many volumes a machine has that starts from one of these images: as many as from the one with which it has most.
/// Who counts too few promises pods a volume that the machine does not take.
pub fn most_of_machine(volumes: &[Volume], images: &BTreeMap<String, Vec<Image>>) -> usize {
    let counts = images
        .values()
        .flatten()
        .map(|image| of_machine(volumes, image).len());
    counts.max().unwrap_or(volumes.len())
}

/// The rate of a volume. A volume without size is as large as its snapshot, which is not known
/// here: it counts as nothing.
pub(super) fn fee_of(volume: &Volume) -> UsdPerHour {
    let kind = volume.kind.and_then(VolumeType::parse);
    fees::volume(&VolumePlan {
        kind: kind.unwrap_or(VolumeType::Gp3),
        gib: volume.gib.unwrap_or(0),
        iops: volume.iops,
        throughput: volume.throughput,
    })
}

/// The size of the volume that carries pods' scratch data: the one that says so, else the one at
/// the family's device for it, for Custom the last one, else 20 GiB.
pub(super) fn root_bytes(
    spec: &EC2NodeClassSpec,
    family: Family,
    problems: &mut Vec<String>,
) -> i64 {
    let mappings = &spec.block_device_mappings;
    let chosen = mappings
        .iter()
        .position(|mapping| mapping.root_volume == Some(true))
        .or_else(|| {
            let at = |device: &str| {
                mappings
                    .iter()
                    .position(|mapping| mapping.device_name.as_deref() == Some(device))
            };
            match family {
                Family::Custom => mappings.len().checked_sub(1),
                Family::Al2023 => at(FIRST_DEVICE),
                Family::Bottlerocket => at(BOTTLEROCKET_DATA_DEVICE),
            }
        });
    let size = chosen
        .and_then(|index| mappings.get(index).map(|mapping| (index, mapping)))
        .and_then(|(index, mapping)| Some((index, mapping.ebs.as_ref()?.volume_size.as_ref()?)));
    let Some((index, size)) = size else {
        return DEFAULT_ROOT_BYTES;
    };
    let path = format!("spec.blockDeviceMappings[{index}].ebs.volumeSize");
    bytes(size, &path).unwrap_or_else(|problem| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
        DEFAULT_ROOT_BYTES
    })
}

fn bytes(size: &ApiQuantity, path: &str) -> Result<i64, String> {
    quantity::amount("ephemeral-storage", &size.0).map_err(|error| format!("{path}: {error}"))
}
