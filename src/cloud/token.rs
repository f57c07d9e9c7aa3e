//! Client tokens: what makes a repeated launch the same launch.
//!
//! Given: a launch record. Given back: the token of its CreateFleet call. It depends on nothing but
//! the batch and the attempt, so whoever finds the record makes the same call.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::model::launch::LaunchRecord;

/// The client token of a launch: SHA-256 over `batch/attempt`, in hex: 64 characters, which is all
/// that EC2 allows.
pub fn client_token(record: &LaunchRecord) -> String {
    hash_hex(format!("{}/{}", record.batch, record.attempt).as_bytes())
}

/// SHA-256 in lower-case hex.
pub(super) fn hash_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offering::CapacityType;

    fn record(attempt: u32) -> LaunchRecord {
        LaunchRecord {
            batch: "b1".to_owned(),
            attempt,
            size: 3,
            capacity_type: CapacityType::Spot,
            reservation: None,
            templates: Vec::new(),
        }
    }

    #[test]
    fn token_is_fixed_for_ever_and_changes_with_the_attempt() {
        // Changing this value would make a repeated call after an upgrade a second purchase.
        assert_eq!(
            client_token(&record(1)),
            "4b19802a9b4c43126b2f49240754eed22fbdecbc3324fbee52c95db76ad789e4"
        );
        assert_ne!(client_token(&record(1)), client_token(&record(2)));
        assert_eq!(client_token(&record(1)).len(), 64);
    }
}
