//! Terms that select what exists in EC2: subnets, security groups, images, reservations.
//!
//! A list of terms selects what any of them selects; within a term everything must match.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::open_enum::open_enum;

/// Selects subnets by tags or by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tags) || has(self.id)").message("a subnet term needs tags or id"),
    validation = Rule::new("!has(self.id) || !has(self.tags)")
        .message("id selects one subnet; it cannot be combined with tags in one term"),
)]
pub struct SubnetSelectorTerm {
    /// Tags the subnet must have, at most 20. The value `*` stands for any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "term_tags")]
    pub tags: BTreeMap<String, String>,
    /// The subnet itself, for example `subnet-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^subnet-[0-9a-z]+$"))]
    pub id: Option<String>,
}

/// Selects security groups by tags, by id or by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tags) || has(self.id) || has(self.name)")
        .message("a security group term needs tags, id or name"),
    validation = Rule::new("!has(self.id) || (!has(self.tags) && !has(self.name))")
        .message("id selects one security group; it cannot be combined with tags or name in one term"),
    validation = Rule::new("!has(self.name) || (!has(self.tags) && !has(self.id))")
        .message("name cannot be combined with tags or id in one term"),
)]
pub struct SecurityGroupSelectorTerm {
    /// Tags the security group must have, at most 20. The value `*` stands for any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "term_tags")]
    pub tags: BTreeMap<String, String>,
    /// The security group itself, for example `sg-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^sg-[0-9a-z]+$"))]
    pub id: Option<String>,
    /// The group's name in EC2, which is not its `Name` tag. `*` and `?` are wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
}

open_enum! {
    /// Which instances EC2 places in a capacity reservation by itself.
    pub enum InstanceMatchCriteria {
        /// Every instance that matches.
        Open = "open",
        /// Only instances that name the reservation.
        Targeted = "targeted",
    }
}

/// Selects capacity reservations by tags, by id or by how instances match them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tags) || has(self.id) || has(self.instanceMatchCriteria)")
        .message("a capacity reservation term needs tags, id or instanceMatchCriteria"),
    validation = Rule::new("!has(self.id) || (!has(self.tags) && !has(self.instanceMatchCriteria) && !has(self.ownerID))")
        .message("id selects one capacity reservation; it cannot be combined with anything else in one term"),
)]
pub struct CapacityReservationSelectorTerm {
    /// Tags the reservation must have, at most 20. The value `*` stands for any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "term_tags")]
    pub tags: BTreeMap<String, String>,
    /// The reservation itself, for example `cr-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^cr-[0-9a-z]+$"))]
    pub id: Option<String>,
    /// The account that owns the reservation, 12 digits. Unset means any that shares it with this
    /// account.
    #[serde(default, rename = "ownerID", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]{12}$"))]
    pub owner_id: Option<String>,
    /// `open` or `targeted`. Unset means both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_match_criteria: Option<InstanceMatchCriteria>,
}

/// Selects a placement group by name or by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.id)").message("set exactly one of name and id"))]
pub struct PlacementGroupSelector {
    /// Name of the placement group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Id of the placement group, for example `pg-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^pg-[0-9a-z]+$"))]
    pub id: Option<String>,
}

/// Selects images by tags, id, name, alias or SSM parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tags) || has(self.id) || has(self.name) || has(self.alias) || has(self.ssmParameter)")
        .message("an image term needs tags, id, name, alias or ssmParameter"),
    validation = Rule::new("!has(self.id) || (!has(self.alias) && !has(self.tags) && !has(self.name) && !has(self.owner))")
        .message("id selects one image; it cannot be combined with alias, tags, name or owner in one term"),
    validation = Rule::new("!has(self.alias) || (!has(self.id) && !has(self.tags) && !has(self.name) && !has(self.owner))")
        .message("alias cannot be combined with id, tags, name or owner in one term"),
)]
pub struct AmiSelectorTerm {
    /// An image published for EKS, `<family>@<version>`: `al2023@latest`, `al2023@v20250915`,
    /// `bottlerocket@latest`, `bottlerocket@1.46.0`. With `latest`, nodes are drifted and replaced
    /// when a new image is published; pin a version where that is not wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "alias")]
    pub alias: Option<String>,
    /// Tags the image must have, at most 20. The value `*` stands for any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "term_tags")]
    pub tags: BTreeMap<String, String>,
    /// The image itself, for example `ami-0123456789abcdef0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^ami-[0-9a-z]+$"))]
    pub id: Option<String>,
    /// The image's name in EC2, which is not its `Name` tag. `*` and `?` are wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    /// Who owns the image: an account number, `self`, `amazon` or `aws-marketplace`. Unset means
    /// this account and `amazon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub owner: Option<String>,
    /// Name or ARN of an SSM parameter that holds an image id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub ssm_parameter: Option<String>,
}

fn alias(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 30,
        "x-kubernetes-validations": [
            {
                "rule": "self.matches('^[a-zA-Z0-9]+@.+$')",
                "message": "an alias is <family>@<version>, for example al2023@latest",
            },
            {
                "rule": "!self.startsWith('al2@')",
                "message": "AL2 is not supported: its last Kubernetes version is 1.32; use al2023@latest",
            },
            {
                "rule": "!self.startsWith('windows')",
                "message": "Windows nodes are not supported; use al2023@latest or bottlerocket@latest",
            },
            {
                "rule": "!self.matches('^[a-zA-Z0-9]+@.+$') || self.startsWith('al2@') || self.startsWith('windows') || self.split('@')[0] in ['al2023', 'bottlerocket']",
                "message": "the family of an alias must be al2023 or bottlerocket",
            },
        ],
    })
}

fn term_tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 256 },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key != '' && self[key] != '')",
            "message": "a tag needs a key and a value; the value * stands for any value",
        }],
    })
}

/// The list of subnet terms.
pub(super) fn subnet_terms(generator: &mut SchemaGenerator) -> Schema {
    terms(&SubnetSelectorTerm::json_schema(generator), 1)
}

/// The list of security group terms.
pub(super) fn security_group_terms(generator: &mut SchemaGenerator) -> Schema {
    terms(&SecurityGroupSelectorTerm::json_schema(generator), 1)
}

/// The list of capacity reservation terms.
pub(super) fn capacity_reservation_terms(generator: &mut SchemaGenerator) -> Schema {
    terms(&CapacityReservationSelectorTerm::json_schema(generator), 0)
}

/// The list of image terms.
pub(super) fn ami_terms(generator: &mut SchemaGenerator) -> Schema {
    let mut list = terms(&AmiSelectorTerm::json_schema(generator), 1);
    let rules = serde_json::json!([{
        "rule": "self.size() == 1 || !self.exists(term, has(term.alias))",
        "message": "an alias must be the only image term",
    }]);
    list.insert("x-kubernetes-validations".into(), rules);
    list
}

fn terms(item: &Schema, least: u32) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": least,
        "maxItems": 30,
        "x-kubernetes-list-type": "atomic",
        "items": item,
    })
}
