//! What a claim was bought for, written on it in a few bytes.
//!
//! A dense plan is only dense if the next round puts the same pods onto the same nodes. So a claim
//! carries how many pods of which class it was bought for, and the next round honours that before
//! anything else. Classes are named by a hash that depends on nothing but the pods themselves.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::model::pod::PodSpec;

/// The annotation of a claim: `class-hash=count` pairs, comma-separated.
pub const PROMISE: &str = "tonnage.dev/promised-pods";

/// FNV-1a over everything that tells classes apart; stable between runs of one build.
#[derive(Debug)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Names a class of pods by everything that tells classes apart, preferences included: two classes
/// of one name would each take what was bought for the other. Only names of volume claims are left
/// out: they differ between pods that are alike.
pub fn class_hash(spec: &PodSpec) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    let mut alike = spec.clone();
    if let Some(constraints) = &mut alike.constraints
        && !constraints.volume_claims.is_empty()
    {
        let count = constraints.volume_claims.len();
        Arc::make_mut(constraints).volume_claims = vec![String::new(); count];
    }
    alike.hash(&mut hasher);
    hasher.finish()
}

/// Hashes of classes that were made already: pods of one template share their spec, so that most are
/// known by its address alone.
#[derive(Debug, Default)]
pub struct Hashes(BTreeMap<*const PodSpec, u64>);

impl Hashes {
    /// As [`class_hash`], of a spec that lives as long as these do.
    pub fn of(&mut self, spec: &Arc<PodSpec>) -> u64 {
        *self
            .0
            .entry(Arc::as_ptr(spec))
            .or_insert_with(|| class_hash(spec))
    }
}

/// Writes a promise.
pub fn write(promised: &BTreeMap<u64, u32>) -> String {
    promised
        .iter()
        .map(|(class, count)| format!("{class:016x}={count}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads a claim's promise; what cannot be read promises nothing.
pub fn read(annotations: &BTreeMap<String, String>) -> BTreeMap<u64, u32> {
    annotations
        .get(PROMISE)
        .into_iter()
        .flat_map(|text| text.split(','))
        .filter_map(|pair| {
            let (class, count) = pair.split_once('=')?;
            Some((u64::from_str_radix(class, 16).ok()?, count.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pod::{NodeTerm, PodConstraints};

    #[test]
    fn a_promise_is_read_as_it_was_written() {
        let promised = BTreeMap::from([(1, 2), (u64::MAX, 300)]);
        let annotations = BTreeMap::from([(PROMISE.to_owned(), write(&promised))]);
        assert_eq!(read(&annotations), promised);
        let garbled = BTreeMap::from([(PROMISE.to_owned(), "x=1,2,3=y,4=5".to_owned())]);
        assert_eq!(read(&garbled), BTreeMap::from([(4, 5)]));
    }
    #[test]
    fn pods_that_differ_in_a_preference_alone_have_names_of_their_own() {
        let plain = PodSpec {
            constraints: Some(Arc::new(PodConstraints::default())),
            ..PodSpec::default()
        };
        let choosy = PodSpec {
            constraints: Some(Arc::new(PodConstraints {
                preferred_node_terms: vec![(1, NodeTerm::default())],
                ..PodConstraints::default()
            })),
            ..PodSpec::default()
        };
        assert_ne!(class_hash(&plain), class_hash(&choosy));
    }

    #[test]
    fn pods_that_differ_in_the_names_of_their_volume_claims_share_one() {
        let with = |claim: &str| PodSpec {
            constraints: Some(Arc::new(PodConstraints {
                volume_claims: vec![claim.to_owned()],
                ..PodConstraints::default()
            })),
            ..PodSpec::default()
        };
        assert_eq!(class_hash(&with("data-0")), class_hash(&with("data-1")));
        assert_ne!(class_hash(&with("data-0")), class_hash(&PodSpec::default()));
    }
}
