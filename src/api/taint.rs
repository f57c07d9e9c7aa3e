//! Taints as NodePools and NodeClaims carry them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::schema::{self, LABEL_VALUE_PATTERN, QUALIFIED_NAME_PATTERN};

open_enum! {
    /// What a taint does to pods that do not tolerate it.
    pub enum TaintEffect {
        /// New pods are not scheduled onto the node.
        NoSchedule = "NoSchedule",
        /// New pods are scheduled onto the node only if nothing else fits.
        PreferNoSchedule = "PreferNoSchedule",
        /// New pods are not scheduled onto the node, and running ones are evicted.
        NoExecute = "NoExecute",
    }
}

/// A taint of a node: pods that do not tolerate it stay away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Taint {
    /// The taint's key, for example `dedicated`.
    #[schemars(length(min = 1, max = 316), regex(pattern = QUALIFIED_NAME_PATTERN))]
    pub key: String,
    /// The taint's value, for example `executor`. Unset and empty mean the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL_VALUE_PATTERN))]
    pub value: Option<String>,
    /// What happens to pods that do not tolerate the taint: `NoSchedule`, `PreferNoSchedule` or
    /// `NoExecute`.
    pub effect: TaintEffect,
    /// When the taint was added to a node. Kubernetes sets this for `NoExecute` taints; there is no
    /// need to write it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub time_added: Option<Time>,
}

impl Taint {
    /// A taint without a value.
    pub fn new(key: &str, effect: TaintEffect) -> Self {
        Self {
            key: key.to_owned(),
            value: None,
            effect,
            time_added: None,
        }
    }

    /// The value, empty when unset.
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}
