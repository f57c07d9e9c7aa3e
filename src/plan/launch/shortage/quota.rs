//! Which instance types share a quota of the account.
//!
//! Given two types; given back whether a quota that stops one stops the other. Source: "EC2 On-Demand
//! instance quotas" in the EC2 user guide: vCPU quotas are per group of families, named by the letters
//! before the generation.

/// Families that share the quota of standard instances.
const STANDARD: [&str; 10] = ["a", "c", "d", "h", "i", "im", "is", "m", "r", "t"];
/// Families that share the quota of graphics and video instances.
const GRAPHICS: [&str; 3] = ["g", "gr", "vt"];

/// True when both count against the same quota.
pub(super) fn is_shared(one: &str, other: &str) -> bool {
    group(one) == group(other)
}

fn group(instance_type: &str) -> &str {
    let letters = instance_type
        .find(|letter: char| !letter.is_ascii_lowercase())
        .and_then(|end| instance_type.get(..end))
        .unwrap_or(instance_type);
    if STANDARD.contains(&letters) || letters == "z" {
        "standard"
    } else if GRAPHICS.contains(&letters) {
        "graphics"
    } else {
        letters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_share_quotas_in_groups() {
        assert!(is_shared("c5.xlarge", "m6gd.large"));
        assert!(is_shared("g4dn.xlarge", "vt1.3xlarge"));
        assert!(!is_shared("inf1.xlarge", "m5.xlarge"));
        assert!(!is_shared("p4d.24xlarge", "g5.xlarge"));
        assert!(is_shared("u-6tb1.metal", "u-3tb1.56xlarge"));
    }
}
