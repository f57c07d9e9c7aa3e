//! What the shortage of one offering says about others.
//!
//! Given beliefs about some offerings; given back what follows for any: other sizes of the same
//! family in the same zone run on the same kind of host, and the same type in another zone is wanted
//! by the same customers. That is hearsay: it makes an offering look dearer, so that others of nearly
//! the same price are tried first, but it never closes one. Only EC2's own refusal does, or a few
//! refusals could close a whole region that nobody has asked.

use std::collections::BTreeMap;

use super::belief::{CERTAIN, CLOSED, either};
use crate::model::offering::{CapacityType, OfferingKey};

/// What a shortage says of another size of the family in the same zone, in percent: sizes share
/// hosts, but a small one often fits where a large one does not.
const SIBLING_PERCENT: u32 = 25;
/// What a shortage says of the same type in another zone, in percent: zones have hosts of their own.
const ZONE_PERCENT: u32 = 12;

type Group<'known> = (&'known str, &'known str, CapacityType);

/// Beliefs, arranged for questions about other offerings.
#[derive(Debug, Default)]
pub(super) struct Hearsay<'known> {
    families: BTreeMap<Group<'known>, Vec<(&'known OfferingKey, u32)>>,
    types: BTreeMap<(&'known str, CapacityType), Vec<(&'known OfferingKey, u32)>>,
}

/// The family of a type: `c5` of `c5.xlarge`.
fn family(instance_type: &str) -> &str {
    instance_type
        .split_once('.')
        .map_or(instance_type, |(family, _size)| family)
}

impl<'known> Hearsay<'known> {
    /// From beliefs and their levels.
    pub(super) fn of(beliefs: impl IntoIterator<Item = (&'known OfferingKey, u32)>) -> Self {
        let mut hearsay = Self::default();
        for (key, level) in beliefs {
            let group = (family(&key.instance_type), &*key.zone, key.capacity_type);
            hearsay
                .families
                .entry(group)
                .or_default()
                .push((key, level));
            let group = (&*key.instance_type, key.capacity_type);
            hearsay.types.entry(group).or_default().push((key, level));
        }
        hearsay
    }

    /// What others say of an offering, in millionths; always less than what closes one.
    pub(super) fn about(&self, key: &OfferingKey) -> u32 {
        let siblings = self
            .families
            .get(&(family(&key.instance_type), &key.zone, key.capacity_type))
            .into_iter()
            .flatten()
            .filter(|(other, _level)| other.instance_type != key.instance_type)
            .map(|(_other, level)| percent(*level, SIBLING_PERCENT));
        let zones = self
            .types
            .get(&(&*key.instance_type, key.capacity_type))
            .into_iter()
            .flatten()
            .filter(|(other, _level)| other.zone != key.zone)
            .map(|(_other, level)| percent(*level, ZONE_PERCENT));
        siblings.chain(zones).fold(0, either).min(CLOSED - 1)
    }
}

fn percent(level: u32, percent: u32) -> u32 {
    u32::try_from(u64::from(level) * u64::from(percent) / 100).unwrap_or(CERTAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> OfferingKey {
        text.parse().unwrap()
    }

    #[test]
    fn siblings_and_zones_hear_of_it_and_others_do_not() {
        let refused = key("c5.xlarge/us-east-1a/spot");
        let hearsay = Hearsay::of([(&refused, CERTAIN)]);
        let about = |text: &str| hearsay.about(&key(text));
        assert_eq!(about("c5.2xlarge/us-east-1a/spot"), 250_000);
        assert_eq!(about("c5.xlarge/us-east-1b/spot"), 120_000);
        for other in [
            "c5.xlarge/us-east-1a/spot",
            "c5.2xlarge/us-east-1b/spot",
            "c5.xlarge/us-east-1a/on-demand",
            "c5.2xlarge/us-east-1a/on-demand",
            "c5a.xlarge/us-east-1a/spot",
        ] {
            assert_eq!(about(other), 0, "{other}");
        }
    }

    #[test]
    fn hearsay_adds_up_but_never_closes() {
        let refused: Vec<OfferingKey> = ["large", "xlarge", "4xlarge", "9xlarge", "12xlarge"]
            .iter()
            .map(|size| key(&format!("c5.{size}/us-east-1a/spot")))
            .collect();
        let two = Hearsay::of(refused.iter().take(2).map(|key| (key, CERTAIN)));
        let five = Hearsay::of(refused.iter().map(|key| (key, CERTAIN)));
        let asked = key("c5.2xlarge/us-east-1a/spot");
        assert_eq!(two.about(&asked), 437_500);
        assert_eq!(five.about(&asked), CLOSED - 1);
    }
}
