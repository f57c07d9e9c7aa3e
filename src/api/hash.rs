//! The hash that tells whether a node was made from the NodePool's template as it is now.
//!
//! Bit-compatible with the shared API's `v3`: FNV-1 (64 bits) over the template with lists as sets,
//! zero values left out, and the fields that may change without replacing nodes left out
//! (`requirements`; requests of claims). Being compatible means that taking over a NodePool's nodes
//! drifts none of them. Same template, same hash, on every machine and in every version with the
//! same [`NODE_POOL_HASH_VERSION`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration::DurationError;
use super::node_class_ref::NodeClassRef;
use super::node_pool::{NodeClaimTemplate, NodeClaimTemplateSpec, TemplateMetadata};
use super::taint::Taint;

/// Which fields enter the hash and how; goes into `karpenter.sh/nodepool-hash-version`. It must grow
/// when a field that may be set enters or leaves the hash, or when a default of one changes.
pub const NODE_POOL_HASH_VERSION: &str = "v3";

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The value of `karpenter.sh/nodepool-hash` for a template.
///
/// # Errors
/// When a duration of the template is not one; validation names it as well.
pub fn node_pool_hash(template: &NodeClaimTemplate) -> Result<String, DurationError> {
    let mut fields = Fields::of("NodeClaimTemplate");
    if let Some(metadata) = metadata(&template.metadata) {
        fields.add("ObjectMeta", metadata);
    }
    fields.add("Spec", spec(&template.spec)?);
    Ok(fields.hash.to_string())
}

fn metadata(metadata: &TemplateMetadata) -> Option<u64> {
    if metadata.labels.is_empty() && metadata.annotations.is_empty() {
        return None;
    }
    let mut fields = Fields::of("ObjectMeta");
    if !metadata.labels.is_empty() {
        fields.add("Labels", map(&metadata.labels));
    }
    if !metadata.annotations.is_empty() {
        fields.add("Annotations", map(&metadata.annotations));
    }
    Some(fields.hash)
}

fn spec(spec: &NodeClaimTemplateSpec) -> Result<u64, DurationError> {
    let mut fields = Fields::of("NodeClaimTemplateSpec");
    if !spec.taints.is_empty() {
        fields.add("Taints", set(&spec.taints));
    }
    if !spec.startup_taints.is_empty() {
        fields.add("StartupTaints", set(&spec.startup_taints));
    }
    fields.add("NodeClassRef", reference(&spec.node_class_ref));
    if let Some(grace_period) = &spec.termination_grace_period {
        fields.add(
            "TerminationGracePeriod",
            duration(Some(grace_period.value()?)),
        );
    }
    if let Some(expire_after) = spec.expire_after.value()? {
        fields.add("ExpireAfter", nillable_duration(expire_after));
    }
    Ok(fields.hash)
}

fn reference(reference: &NodeClassRef) -> u64 {
    let mut fields = Fields::of("NodeClassReference");
    fields.add_text("Kind", &reference.kind);
    fields.add_text("Name", &reference.name);
    fields.add_text("Group", &reference.group);
    fields.hash
}

fn taint(taint: &Taint) -> u64 {
    let mut fields = Fields::of("Taint");
    fields.add_text("Key", &taint.key);
    fields.add_text("Value", taint.value());
    fields.add_text("Effect", taint.effect.as_str());
    fields.hash
}

/// A zero duration counts as unset, as every zero value does.
fn duration(value: Option<Duration>) -> u64 {
    let mut fields = Fields::of("Duration");
    if let Some(value) = value.filter(|value| !value.is_zero()) {
        fields.add("Duration", nanoseconds(value));
    }
    fields.hash
}

/// Here zero is not unset: the field holds a pointer, and a pointer to zero is something.
fn nillable_duration(value: Duration) -> u64 {
    let mut fields = Fields::of("NillableDuration");
    fields.add("Duration", nanoseconds(value));
    fields.hash
}

fn nanoseconds(value: Duration) -> u64 {
    let nanoseconds = i64::try_from(value.as_nanos()).unwrap_or(i64::MAX);
    fnv(&nanoseconds.to_le_bytes())
}

/// A list as a set: the order of taints does not matter.
fn set(taints: &[Taint]) -> u64 {
    taints.iter().fold(0, |hash, item| hash ^ taint(item))
}

fn map(entries: &BTreeMap<String, String>) -> u64 {
    let combined = entries.iter().fold(0, |hash, (key, value)| {
        hash ^ pair(fnv(key.as_bytes()), fnv(value.as_bytes()))
    });
    fnv(&combined.to_le_bytes())
}

/// The running hash of a struct: its type name, then each field that is set, mixed in one by one.
struct Fields {
    hash: u64,
}

impl Fields {
    fn of(type_name: &str) -> Self {
        Self {
            hash: fnv(type_name.as_bytes()),
        }
    }

    fn add(&mut self, name: &str, value: u64) {
        self.hash ^= pair(fnv(name.as_bytes()), value);
        self.hash = fnv(&self.hash.to_le_bytes());
    }

    fn add_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add(name, fnv(value.as_bytes()));
        }
    }
}

fn pair(left: u64, right: u64) -> u64 {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&left.to_le_bytes());
    second.copy_from_slice(&right.to_le_bytes());
    fnv(&bytes)
}

/// FNV-1 with 64 bits: multiply, then mix in the byte.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        hash.wrapping_mul(FNV_PRIME) ^ u64::from(*byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values were computed with hashstructure 2.0.2 on Go types of the same shape.
    const CASES: &[(&str, &str)] = &[
        ("{spec: {requirements: [], expireAfter: 720h, REF}}", "5356528118579598775"),
        ("{spec: {requirements: [], REF}}", "5356528118579598775"),
        (
            "{spec: {requirements: [{key: kubernetes.io/arch, operator: Exists}], expireAfter: 43200m, REF}}",
            "5356528118579598775",
        ),
        ("{spec: {requirements: [], expireAfter: Never, REF}}", "3848916368695437008"),
        (
            "{spec: {requirements: [], expireAfter: 0s, terminationGracePeriod: 0s, REF}}",
            "335941263236712672",
        ),
        (
            "{metadata: {labels: {team: ml, tier: batch}, annotations: {example.com/note: x}},
              spec: {requirements: [], expireAfter: 100m, terminationGracePeriod: 1h, REF,
              taints: [{key: gpu, effect: NoExecute}, {key: dedicated, value: executor, effect: NoSchedule}],
              startupTaints: [{key: cni, effect: NoSchedule}]}}",
            "5360879504526831851",
        ),
    ];

    fn template(text: &str) -> NodeClaimTemplate {
        let reference = "nodeClassRef: {group: tonnage.dev, kind: EC2NodeClass, name: default}";
        serde_saphyr::from_str(&text.replace("REF", reference)).unwrap()
    }

    #[test]
    fn the_hash_is_the_shared_one() {
        for (text, expected) in CASES {
            assert_eq!(
                node_pool_hash(&template(text)).unwrap(),
                *expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_broken_duration_has_no_hash() {
        let broken = template("{spec: {requirements: [], expireAfter: soon, REF}}");
        assert!(node_pool_hash(&broken).is_err());
    }
}
