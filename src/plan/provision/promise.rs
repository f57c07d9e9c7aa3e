//! What a claim was bought for, written on it in a few bytes.
//!
//! A dense plan is only dense if the next round puts the same pods onto the same nodes. So a claim
//! carries how many pods of which class it was bought for, and the next round honours that before
//! anything else. Classes are named by a hash that depends on nothing but the pods themselves.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

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

/// Names a class of pods. Names of volume claims are left out: they differ between pods that are
/// alike.
pub fn class_hash(spec: &PodSpec) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    spec.namespace.hash(&mut hasher);
    spec.labels.hash(&mut hasher);
    spec.requests.hash(&mut hasher);
    spec.node_selector.hash(&mut hasher);
    spec.tolerations.hash(&mut hasher);
    spec.priority.hash(&mut hasher);
    if let Some(constraints) = &spec.constraints {
        constraints.required_node_terms.hash(&mut hasher);
        constraints.spread.hash(&mut hasher);
        constraints.affinity.hash(&mut hasher);
        constraints.anti_affinity.hash(&mut hasher);
        constraints.host_ports.hash(&mut hasher);
        constraints.volume_claims.len().hash(&mut hasher);
    }
    hasher.finish()
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

    #[test]
    fn a_promise_is_read_as_it_was_written() {
        let promised = BTreeMap::from([(1, 2), (u64::MAX, 300)]);
        let annotations = BTreeMap::from([(PROMISE.to_owned(), write(&promised))]);
        assert_eq!(read(&annotations), promised);
        let garbled = BTreeMap::from([(PROMISE.to_owned(), "x=1,2,3=y,4=5".to_owned())]);
        assert_eq!(read(&garbled), BTreeMap::from([(4, 5)]));
    }
}
