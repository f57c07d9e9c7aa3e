//! Network interfaces, metadata service, CPU and enclave options of the machines.
#![expect(clippy::struct_field_names, reason = "the names are EC2's")]

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::open_enum::open_enum;

open_enum! {
    /// A switch.
    pub enum Toggle {
        /// On.
        Enabled = "enabled",
        /// Off.
        Disabled = "disabled",
    }
}

open_enum! {
    /// Whether the metadata service wants a session token.
    pub enum HttpTokens {
        /// IMDSv2 only.
        Required = "required",
        /// IMDSv1 and IMDSv2.
        Optional = "optional",
    }
}

/// How the instance metadata service of the machines may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MetadataOptions {
    /// Whether the service answers at all: `enabled` or `disabled`. Default: `enabled`.
    #[serde(default = "enabled")]
    pub http_endpoint: Toggle,
    /// Whether the service answers over IPv6: `enabled` or `disabled`. Default: `disabled`.
    #[serde(default = "disabled", rename = "httpProtocolIPv6")]
    pub http_protocol_ipv6: Toggle,
    /// How many network hops an answer may travel, 1 to 64. With 1, pods that do not use the host
    /// network cannot reach the service. Default: 1.
    #[serde(default = "one_hop")]
    #[schemars(range(min = 1, max = 64))]
    pub http_put_response_hop_limit: i64,
    /// Whether a session token is needed: `required` (IMDSv2) or `optional`. Default: `required`.
    #[serde(default = "tokens_required")]
    pub http_tokens: HttpTokens,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            http_endpoint: enabled(),
            http_protocol_ipv6: disabled(),
            http_put_response_hop_limit: one_hop(),
            http_tokens: tokens_required(),
        }
    }
}

open_enum! {
    /// What a network interface carries.
    pub enum InterfaceType {
        /// IP traffic, and EFA where the machine has it.
        Interface = "interface",
        /// EFA traffic only.
        EfaOnly = "efa-only",
    }
}

/// One network interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NetworkInterface {
    /// The network card, from 0.
    #[schemars(range(min = 0))]
    pub network_card_index: i32,
    /// The position on the network card, from 0.
    #[schemars(range(min = 0))]
    pub device_index: i32,
    /// `interface` for IP traffic or `efa-only`.
    pub interface_type: InterfaceType,
}

/// How long idle connections are tracked by security groups, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tcpEstablishedTimeout) || has(self.udpStreamTimeout) || has(self.udpTimeout)")
        .message("set at least one of tcpEstablishedTimeout, udpStreamTimeout and udpTimeout"),
)]
pub struct ConnectionTracking {
    /// Idle TCP connections, 60 to 432000 seconds. EC2's default is 432000 (5 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 432_000))]
    pub tcp_established_timeout: Option<i32>,
    /// Idle UDP streams, 60 to 180 seconds. EC2's default is 180.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 180))]
    pub udp_stream_timeout: Option<i32>,
    /// UDP exchanges in one direction or of one request, 30 to 60 seconds. EC2's default is 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 60))]
    pub udp_timeout: Option<i32>,
}

/// Nitro Enclaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EnclaveOptions {
    /// Whether machines can run enclaves. With true, only instance types that can are bought.
    pub enabled: bool,
}

/// CPU features.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct CpuOptions {
    /// Whether machines can run virtual machines: `enabled` or `disabled`. With `enabled`, only
    /// instance types that can are bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested_virtualization: Option<Toggle>,
}

/// The list of network interfaces.
pub(super) fn network_interfaces(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 150,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["networkCardIndex", "deviceIndex"],
        "items": NetworkInterface::json_schema(generator),
        "x-kubernetes-validations": [
            {
                "rule": "self.size() == 0 || self.exists(n, n.networkCardIndex == 0 && n.deviceIndex == 0 && n.interfaceType == 'interface')",
                "message": "networkInterfaces must contain networkCardIndex 0, deviceIndex 0 of interfaceType interface",
            },
            {
                "rule": "self.filter(n, n.interfaceType == 'efa-only').all(n, self.filter(m, m.interfaceType == 'efa-only').exists_one(m, m.networkCardIndex == n.networkCardIndex))",
                "message": "a network card may have at most one interface of interfaceType efa-only",
            },
        ],
    })
}

fn enabled() -> Toggle {
    Toggle::Enabled
}

fn disabled() -> Toggle {
    Toggle::Disabled
}

fn one_hop() -> i64 {
    1
}

fn tokens_required() -> HttpTokens {
    HttpTokens::Required
}
