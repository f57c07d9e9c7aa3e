//! Requirements: which values a node label may have.
//!
//! Plain data as users write it; the algebra over it lives in the planner's model.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::schema::{self, QUALIFIED_NAME_PATTERN};

open_enum! {
    /// How the values of a requirement are compared with a node's label.
    pub enum RequirementOperator {
        /// The label has one of the values.
        In = "In",
        /// The label has none of the values, or does not exist.
        NotIn = "NotIn",
        /// The label exists.
        Exists = "Exists",
        /// The label does not exist.
        DoesNotExist = "DoesNotExist",
        /// The label is an integer greater than the value.
        Gt = "Gt",
        /// The label is an integer less than the value.
        Lt = "Lt",
        /// The label is an integer greater than or equal to the value.
        Gte = "Gte",
        /// The label is an integer less than or equal to the value.
        Lte = "Lte",
    }
}

impl RequirementOperator {
    /// Whether the operator compares integers.
    pub const fn is_numeric(&self) -> bool {
        matches!(self, Self::Gt | Self::Lt | Self::Gte | Self::Lte)
    }
}

/// Constrains one label of the nodes, for example `node.kubernetes.io/instance-type In [c5.xlarge]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator != 'In' || (has(self.values) && self.values.size() > 0)")
        .message("operator In needs at least one value in values"),
    validation = Rule::new("!(self.operator in ['Gt', 'Lt', 'Gte', 'Lte']) || (has(self.values) && self.values.size() == 1 && self.values[0].matches('^[0-9]{1,18}$'))")
        .message("operators Gt, Lt, Gte and Lte need exactly one value, a whole number of 0 or more"),
    validation = Rule::new("!(has(self.minValues) && self.operator == 'In') || (has(self.values) && self.values.size() >= self.minValues)")
        .message("minValues is larger than the number of values; list at least minValues values"),
)]
pub struct Requirement {
    /// The label key, for example `kubernetes.io/arch`, `karpenter.sh/capacity-type` or
    /// `karpenter.k8s.aws/instance-cpu`.
    #[schemars(schema_with = "key")]
    pub key: String,
    /// How the label is compared with the values: `In`, `NotIn`, `Exists`, `DoesNotExist`, or for
    /// labels that are whole numbers `Gt`, `Lt`, `Gte`, `Lte`.
    pub operator: RequirementOperator,
    /// The values to compare with: at least one for `In`, exactly one whole number for `Gt`, `Lt`,
    /// `Gte` and `Lte`, none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
    /// The least number of different values of this label that the instance types of a launch must
    /// cover, 1 to 50. For example 5 for `karpenter.k8s.aws/instance-family` keeps a launch open to
    /// five families. Unset means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub min_values: Option<i32>,
}

fn key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 316,
        "pattern": QUALIFIED_NAME_PATTERN,
        "x-kubernetes-validations": [
            {
                "rule": "!self.matches('^([^/]*[.])?karpenter[.]sh/') || self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool']",
                "message": "keys of the domain karpenter.sh are set by the controller; only karpenter.sh/capacity-type may be required",
            },
            {
                "rule": "self != 'kubernetes.io/hostname'",
                "message": "kubernetes.io/hostname names one node and cannot be required of new ones",
            },
        ],
    })
}

/// The requirements of a NodePool: a NodePool cannot require another NodePool's label.
pub(super) fn node_pool_requirements(generator: &mut SchemaGenerator) -> Schema {
    let mut list = node_claim_requirements(generator);
    let rule = Rule::new("self.all(r, r.key != 'karpenter.sh/nodepool')")
        .message("karpenter.sh/nodepool is set by the controller and cannot be required");
    if let Ok(rule) = serde_json::to_value(rule) {
        list.insert("x-kubernetes-validations".into(), vec![rule].into());
    }
    list
}

/// Requirements that a controller observed: the same shape without rules, which would only cost the
/// API server time.
pub(super) fn observed_requirements(generator: &mut SchemaGenerator) -> Schema {
    let mut item = Requirement::json_schema(generator);
    item.remove("x-kubernetes-validations");
    if let Some(key) = item
        .pointer_mut("/properties/key")
        .and_then(|key| key.as_object_mut())
    {
        key.remove("x-kubernetes-validations");
    }
    json_schema!({ "type": "array", "items": item, "x-kubernetes-list-type": "atomic" })
}

/// The requirements of a NodeClaim.
pub(super) fn node_claim_requirements(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": Requirement::json_schema(generator),
        "maxItems": 100,
        "x-kubernetes-list-type": "atomic",
    })
}
