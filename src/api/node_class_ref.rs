//! The reference from a NodePool or NodeClaim to its node class, and whose it is.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::labels;

/// Names the node class that says how nodes are made.
///
/// The group and kind decide which provisioner acts: Tonnage acts on `tonnage.dev` /
/// `EC2NodeClass` and leaves every other NodePool and NodeClaim alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodeClassRef {
    /// API group of the node class without version: `tonnage.dev`.
    #[schemars(length(min = 1), regex(pattern = "^[^/]*$"))]
    pub group: String,
    /// Kind of the node class: `EC2NodeClass`.
    #[schemars(length(min = 1))]
    pub kind: String,
    /// Name of the node class. A NodePool may change it; its nodes are then drifted and replaced.
    #[schemars(length(min = 1))]
    pub name: String,
}

impl NodeClassRef {
    /// A reference to the EC2NodeClass of this name.
    pub fn ec2(name: &str) -> Self {
        Self {
            group: labels::TONNAGE_GROUP.to_owned(),
            kind: labels::EC2_NODE_CLASS_KIND.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether the object that carries this reference is Tonnage's to act on.
    pub fn is_ours(&self) -> bool {
        self.group == labels::TONNAGE_GROUP && self.kind == labels::EC2_NODE_CLASS_KIND
    }
}

/// The reference in a NodePool: group and kind are fixed for life, the name may change.
pub(super) fn node_pool_reference(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = NodeClassRef::json_schema(generator);
    let rules = serde_json::json!([
        {
            "rule": "self.group == oldSelf.group",
            "message": "nodeClassRef.group cannot be changed; make a new NodePool for another provisioner",
        },
        {
            "rule": "self.kind == oldSelf.kind",
            "message": "nodeClassRef.kind cannot be changed; make a new NodePool for another provisioner",
        },
    ]);
    schema.insert("x-kubernetes-validations".into(), rules);
    schema
}
