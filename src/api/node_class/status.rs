//! What the selectors of an EC2NodeClass found.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::{self, Condition};
use crate::api::requirement::{self, Requirement};
use crate::api::schema;

/// What the selectors of an EC2NodeClass found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EC2NodeClassStatus {
    /// The selected subnets, those with the most free addresses first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub subnets: Vec<SelectedSubnet>,
    /// The selected security groups, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub security_groups: Vec<SelectedSecurityGroup>,
    /// The selected images, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub amis: Vec<SelectedAmi>,
    /// The selected capacity reservations, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub capacity_reservations: Vec<SelectedCapacityReservation>,
    /// Name of the instance profile of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// Whether machines can be made, and if not, why: `AMIsReady`, `SubnetsReady`,
    /// `SecurityGroupsReady`, `InstanceProfileReady`, `PlacementGroupReady`,
    /// `CapacityReservationsReady`, `ValidationSucceeded`, `FieldsActedOn` and their sum `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

/// A selected subnet.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SelectedSubnet {
    /// Id of the subnet.
    pub id: String,
    /// Availability zone of the subnet, for example `us-east-1a`.
    pub zone: String,
    /// Availability zone ID of the subnet, for example `use1-az1`.
    #[serde(default, rename = "zoneID", skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
}

/// A selected security group.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SelectedSecurityGroup {
    /// Id of the security group.
    pub id: String,
    /// Name of the security group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A selected image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SelectedAmi {
    /// Id of the image.
    pub id: String,
    /// Name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether EC2 marks the image as deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<bool>,
    /// Which instance types the image fits, for example `kubernetes.io/arch In [amd64]`.
    #[schemars(schema_with = "requirement::observed_requirements")]
    pub requirements: Vec<Requirement>,
}

/// A selected capacity reservation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SelectedCapacityReservation {
    /// Id of the reservation.
    pub id: String,
    /// Availability zone of the reservation.
    pub availability_zone: String,
    /// Instance type that is reserved.
    pub instance_type: String,
    /// `open` or `targeted`.
    pub instance_match_criteria: String,
    /// Account that owns the reservation.
    #[serde(rename = "ownerID")]
    pub owner_id: String,
    /// `default` or `capacity-block`.
    pub reservation_type: String,
    /// Whether EC2 may take the instances back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruptible: Option<bool>,
    /// `active` or `expiring`. A capacity block is expiring from 40 minutes before its end.
    pub state: String,
    /// When the reservation ends; unset means it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub end_time: Option<Time>,
}
