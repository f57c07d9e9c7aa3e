//! Which names, labels, annotations and finalizers are well formed.
//!
//! Given an object's metadata; given back the first thing that Kubernetes would refuse. The forms are
//! those of RFC 1123 as Kubernetes narrows them.

use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Key, text};
use super::write::Change;
use crate::api::syntax::{is_dns_subdomain, is_label_value, is_qualified_name};

/// Finalizers that need no domain.
const STANDARD: [&str; 3] = ["foregroundDeletion", "orphan", "kubernetes"];

/// Checks what is named in an object's metadata.
pub(super) fn check(key: &Key, object: &Value) -> Result<(), Refusal> {
    let refuse = |field: &str, value: &str| {
        Err(Refusal::invalid(format!(
            "{field}: Invalid value: {value:?}"
        )))
    };
    if !is_dns_subdomain(&key.name) {
        return refuse("metadata.name", &key.name);
    }
    let metadata = &object["metadata"];
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified_name(name) {
            return refuse("metadata.labels", name);
        }
        let value = value.as_str().unwrap_or_default();
        if !is_label_value(value) {
            return refuse("metadata.labels", value);
        }
    }
    for (name, _value) in metadata["annotations"].as_object().into_iter().flatten() {
        if !is_qualified_name(&name.to_lowercase()) {
            return refuse("metadata.annotations", name);
        }
    }
    for finalizer in metadata["finalizers"].as_array().into_iter().flatten() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let bare =
            !finalizer.contains('/') && !STANDARD.contains(&finalizer) && !key.resource.is_custom();
        if bare || !is_qualified_name(finalizer) {
            return refuse("metadata.finalizers", finalizer);
        }
    }
    Ok(())
}

/// Checks that a write is of the object that it was sent to. A patch that changes the kind is understood,
/// and not acceptable.
pub(super) fn same_object(key: &Key, sent: &Value, change: Change) -> Result<(), Refusal> {
    let stated = text(sent, "/metadata/name");
    if !stated.is_empty() && stated != key.name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({stated}) does not match the name on the URL ({})",
            key.name
        )));
    }
    same_kind(key, sent).map_err(|refusal| match change {
        Change::Replace => refusal,
        Change::Patch => Refusal::invalid(refusal.message),
    })
}

/// Checks that an object is of the kind that it was sent to.
pub(super) fn same_kind(key: &Key, sent: &Value) -> Result<(), Refusal> {
    let definition = key.resource.definition();
    let (api_version, kind) = (text(sent, "/apiVersion"), text(sent, "/kind"));
    let other = (!kind.is_empty() && kind != definition.kind)
        || (!api_version.is_empty() && api_version != definition.api_version());
    if other {
        return Err(Refusal::bad_request(format!(
            "{api_version} {kind} in the body does not match {} {} of the request",
            definition.api_version(),
            definition.kind
        )));
    }
    Ok(())
}
