//! Disks of the machines.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::open_enum::open_enum;

/// What EBS offers: 1 to 59000 Gi, 58 Ti, 64000 G or 64 T.
const VOLUME_SIZE_PATTERN: &str = "^(([1-9][0-9]{0,3}|[1-4][0-9]{4}|5[0-8][0-9]{3}|59000)Gi|([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-3][0-9]{3}|64000)G|([1-9]|[1-4][0-9]|5[0-8])Ti|([1-9]|[1-5][0-9]|6[0-4])T)$";

open_enum! {
    /// What is done with local NVMe disks.
    pub enum InstanceStorePolicy {
        /// They are joined to one file system that pods use as ephemeral storage.
        Raid0 = "RAID0",
    }
}

open_enum! {
    /// The kind of an EBS volume.
    pub enum VolumeType {
        /// Magnetic, previous generation.
        Standard = "standard",
        /// Provisioned IOPS SSD.
        Io1 = "io1",
        /// Provisioned IOPS SSD, more durable.
        Io2 = "io2",
        /// General purpose SSD, previous generation.
        Gp2 = "gp2",
        /// Cold HDD.
        Sc1 = "sc1",
        /// Throughput optimised HDD.
        St1 = "st1",
        /// General purpose SSD.
        Gp3 = "gp3",
    }
}

/// One disk of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct BlockDeviceMapping {
    /// The device name the image knows, for example `/dev/xvda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// The EBS volume behind the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs: Option<BlockDevice>,
    /// Whether pods' ephemeral storage is on this disk, so that its size counts for scheduling. At
    /// most one disk may say so. Unset means the AMI family decides by the device name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_volume: Option<bool>,
}

/// An EBS volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.snapshotID) || has(self.volumeSize)")
        .message("set volumeSize, or snapshotID for the size of the snapshot"),
    validation = Rule::new("!has(self.volumeInitializationRate) || has(self.snapshotID)")
        .message("volumeInitializationRate needs a snapshotID to load from"),
)]
pub struct BlockDevice {
    /// Whether the volume is deleted with its machine. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    /// Whether the volume is encrypted, with `kmsKeyID` or else the account's key. Default: true. A volume
    /// from an encrypted snapshot is always encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// Provisioned I/O operations per second: gp3 from 3000, io1 and io2 from 100. Needed for io1 and
    /// io2, not allowed for other types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<i64>,
    /// The KMS key the volume is encrypted with: id, ARN or alias.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// The snapshot the volume is made from, for example `snap-0123456789abcdef0`.
    #[serde(
        default,
        rename = "snapshotID",
        skip_serializing_if = "Option::is_none"
    )]
    pub snapshot_id: Option<String>,
    /// Provisioned throughput of a gp3 volume in MiB/s, from 125.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<i64>,
    /// How fast the snapshot is loaded, in MiB/s, 100 to 300, for a fee. Unset means on first access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 300))]
    pub volume_initialization_rate: Option<i32>,
    /// The size of the volume: `100Gi` (GiB), `1Ti` or the decimal `100G`, `1T`; at most 59000 Gi or
    /// 64000 G.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "volume_size")]
    pub volume_size: Option<Quantity>,
    /// The type of the volume: `gp3`, `gp2`, `io1`, `io2`, `st1`, `sc1` or `standard`. Default: `gp3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<VolumeType>,
}

fn volume_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": VOLUME_SIZE_PATTERN })
}

/// The list of disks.
pub(super) fn block_device_mappings(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 50,
        "x-kubernetes-list-type": "atomic",
        "items": BlockDeviceMapping::json_schema(generator),
        "x-kubernetes-validations": [{
            "rule": "self.filter(disk, has(disk.rootVolume) && disk.rootVolume).size() <= 1",
            "message": "at most one disk may have rootVolume: true",
        }],
    })
}
