//! Pieces of OpenAPI schema that several kinds share.
//!
//! Each function gives back one structural schema as a CRD needs it. Nothing here knows a kind.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A Kubernetes quantity: `100m`, `4Gi`, `1.5`, `2e3`.
pub(super) const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
/// A Kubernetes qualified name: an optional DNS domain with a slash, then a name.
pub(super) const QUALIFIED_NAME_PATTERN: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
/// A Kubernetes label value; may be empty.
pub(super) const LABEL_VALUE_PATTERN: &str = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// A map from resource name to quantity.
pub(super) fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "pattern": QUANTITY_PATTERN, "x-kubernetes-int-or-string": true },
    })
}

/// A list of label values.
pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN },
        "x-kubernetes-list-type": "atomic",
    })
}

/// A time in RFC 3339, whole seconds, UTC.
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}
