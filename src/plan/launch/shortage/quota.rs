//! Which instance types share a quota of the account.
//!
//! Given offerings; given back what shares the quota that each counts against, and which takes more of it. Source: "EC2 On-Demand
//! instance quotas" in the EC2 user guide: vCPU quotas are per group of families, named by the letters
//! before the generation.

use crate::model::offering::OfferingKey;

/// Families that share the quota of standard instances.
const STANDARD: [&str; 10] = ["a", "c", "d", "h", "i", "im", "is", "m", "r", "t"];
/// Families that share the quota of graphics and video instances.
const GRAPHICS: [&str; 3] = ["g", "gr", "vt"];

/// What shares the quota that an offering counts against, as one word: on-demand and spot have quotas of their own.
pub(super) fn shared_by(offering: &OfferingKey) -> String {
    let group = group(&offering.instance_type);
    format!("{group}/{}", offering.capacity_type.as_str())
}

/// The vCPUs that a size stands for in most families: two for `large`, four for each `xlarge`. A whole host of unknown
/// size counts as the largest there is.
pub(super) fn size(instance_type: &str) -> u32 {
    let name = instance_type
        .split_once('.')
        .map_or("", |(_family, name)| name);
    let name = name.strip_prefix("metal-").unwrap_or(name);
    let times = name
        .strip_suffix("xlarge")
        .or_else(|| name.strip_suffix("xl"));
    match (name, times) {
        ("nano" | "micro" | "small" | "medium", _) => 1,
        ("large", _) => 2,
        (_, Some("")) => 4,
        (_, Some(times)) => times
            .parse::<u32>()
            .map_or(u32::MAX, |times| times.saturating_mul(4)),
        _ => u32::MAX,
    }
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
    fn sizes_are_in_their_order() {
        let sizes = [
            "t3.small",
            "c5.large",
            "m5.xlarge",
            "m5.2xlarge",
            "c5.24xlarge",
            "u-6tb1.metal",
        ];
        let sizes = sizes.map(size);
        assert!(sizes.is_sorted_by(|one, other| one < other), "{sizes:?}");
        assert_eq!(size("m7i.metal-24xl"), size("m7i.24xlarge"));
    }

    #[test]
    fn families_share_quotas_in_groups() {
        let is_shared = |one: &str, other: &str| group(one) == group(other);
        assert!(is_shared("c5.xlarge", "m6gd.large"));
        assert!(is_shared("g4dn.xlarge", "vt1.3xlarge"));
        assert!(!is_shared("inf1.xlarge", "m5.xlarge"));
        assert!(!is_shared("p4d.24xlarge", "g5.xlarge"));
        assert!(is_shared("u-6tb1.metal", "u-3tb1.56xlarge"));
    }
}
