//! A provisioning plan and its reasons: values that events, conditions, metrics and text are made of.

use std::collections::BTreeMap;

use super::money::UsdPerHour;
use super::offering::OfferingKey;
use super::pod::PodKey;
use super::resources::Resources;

/// What to buy, what goes where, and why the rest waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvisioningPlan {
    /// Nodes to buy.
    pub new_nodes: Vec<PlannedNode>,
    /// Pods that fit onto existing nodes, by node name.
    pub existing: BTreeMap<String, Vec<PodKey>>,
    /// Pods that fit onto claims on their way, by claim name.
    pub in_flight: BTreeMap<String, Vec<PodKey>>,
    /// Pods left out, each with its reasons.
    pub unschedulable: BTreeMap<PodKey, Unschedulable>,
    /// Price of the new nodes, fees included.
    pub price: UsdPerHour,
    /// No fleet for the same pods under the same constraints can cost less than this.
    pub lower_bound: UsdPerHour,
    /// The proof of the lower bound.
    pub certificate: BoundCertificate,
    /// Wishes of pods that cost something, or were given up because they would.
    pub wishes: Vec<PricedWish>,
    /// The wall-clock guard ended the search before its units of work were spent.
    pub truncated: bool,
}

impl ProvisioningPlan {
    /// The wishes of a pod that have a price.
    pub fn wishes_of(&self, pod: &PodKey) -> impl Iterator<Item = &PricedWish> {
        let wishes = self.wishes.iter();
        wishes.filter(move |wish| wish.pods.contains(pod))
    }

    /// How many pods are left out by the reason of the NodePool that came closest to serving each: every pod counts
    /// once.
    pub fn left_out(&self) -> BTreeMap<ReasonKind, i64> {
        let mut left_out = BTreeMap::new();
        for reason in self
            .unschedulable
            .values()
            .filter_map(Unschedulable::nearest)
        {
            *left_out.entry(reason.reason).or_insert(0) += 1;
        }
        left_out
    }
}

/// Prices that prove a lower bound: no content of a node is worth more, by the prices of its pods,
/// than the node costs; so no fleet costs less than all pods are worth.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BoundCertificate {
    /// The resources in which capacities are priced.
    pub dimensions: Vec<String>,
    /// What one pod of each class is worth.
    pub class_prices: Vec<ClassPrice>,
    /// What the whole capacity of an offering is worth in each dimension, where it is worth
    /// anything.
    pub offering_prices: Vec<OfferingPrice>,
    /// Better bounds by cases, where there are any: each takes the place of what the prices of its
    /// classes prove.
    pub by_cases: Vec<BoundByCases>,
}

/// A lower bound proven case by case: how many nodes of some offerings a fleet has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundByCases {
    /// The first of the certificate's classes that it is about.
    pub first_class: usize,
    /// The cases.
    pub cases: BoundCases,
}

/// A case with its proof, or two cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundCases {
    /// A case with its proof.
    Proven(CasePrices),
    /// A fleet has at most so many nodes of some offerings, or more.
    Split {
        /// NodePools and offerings whose nodes are counted together.
        offerings: Vec<(String, OfferingKey)>,
        /// How many there are at most in the first case.
        most: u32,
        /// The proof for at most so many.
        fewer: Box<Self>,
        /// The proof for more.
        more: Box<Self>,
    },
}

/// Prices that prove one case: no content of a node is worth more than the node costs, with what
/// the splits charge for it and without what they grant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CasePrices {
    /// What one pod of each class is worth, from the first class on that the proof is about.
    pub class_prices: Vec<UsdPerHour>,
    /// What the whole capacity of an offering is worth, where it is worth anything.
    pub offering_prices: Vec<OfferingPrice>,
    /// For each split on the way to this case what a node of it is charged, where there are at most
    /// so many, or granted, where there are more.
    pub charges: Vec<UsdPerHour>,
}

/// What one pod of a class is worth in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassPrice {
    /// One of its pods.
    pub example: Option<PodKey>,
    /// How many of its pods the bound counts.
    pub pods: u32,
    /// What each requests.
    pub requests: Resources,
    /// What each is worth.
    pub price: UsdPerHour,
}

/// What the capacity of an offering is worth in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferingPrice {
    /// The NodePool that would buy it.
    pub node_pool: String,
    /// The offering.
    pub offering: OfferingKey,
    /// By dimension, for the whole capacity.
    pub prices: Vec<UsdPerHour>,
}

/// What pods only prefer, with its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricedWish {
    /// The pods, in name order.
    pub pods: Vec<PodKey>,
    /// What they wish for.
    pub wish: String,
    /// True when it is met at that price, false when it was given up where it is not free.
    pub kept: bool,
    /// What it costs more, or would.
    pub price: UsdPerHour,
}

impl PricedWish {
    /// For people, in one line.
    pub fn sentence(&self) -> String {
        let first = self
            .pods
            .first()
            .map_or_else(String::new, ToString::to_string);
        let others = match self.pods.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let price = if self.kept {
            format!("costs {} USD per hour more", self.price)
        } else {
            format!(
                "given up where it is not free, would cost {} USD per hour more",
                self.price
            )
        };
        format!("wish of {first}{others} ({}): {price}", self.wish)
    }
}

/// A node to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// The NodePool it belongs to.
    pub node_pool: String,
    /// What to buy: the best first, then every alternative that also fits, in the order of price and
    /// risk.
    pub offerings: Vec<OfferingKey>,
    /// Price of the first offering, fees apart.
    pub price: UsdPerHour,
    /// Fees of the first offering.
    pub fees: UsdPerHour,
    /// What the first offering is expected to cost beside that, by the shortages and interruptions
    /// seen: it counted when offerings were compared, and is no part of any price.
    pub risk: UsdPerHour,
    /// Requests of its pods and of the DaemonSets that will land on it.
    pub requests: Resources,
    /// Its pods, in name order.
    pub pods: Vec<PodKey>,
    /// Labels with one value that its pods demand beyond the template, for example a zone.
    pub labels: BTreeMap<String, String>,
    /// Annotations that its claim must carry, so that the next round places the same pods on it.
    pub annotations: BTreeMap<String, String>,
}

/// Why a pod was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unschedulable {
    /// One reason for each NodePool that was considered, in name order; with no NodePool, one that
    /// says so.
    pub reasons: Vec<PoolReason>,
}

/// The longest message of an event; the API server refuses longer ones.
const MOST_CHARACTERS: usize = 1000;
/// The most of it that one NodePool may take, so that one with much to say hides no other.
const MOST_OF_ONE: usize = 240;

impl Unschedulable {
    /// The reason of the NodePool that came closest; of several the first by name.
    pub fn nearest(&self) -> Option<&PoolReason> {
        self.reasons.iter().min_by_key(|reason| reason.distance())
    }

    /// For people, in one line: why each NodePool cannot serve the pod, and what would make it fit. What
    /// came closest is said first, in full if there is room; what there is no room for is counted.
    pub fn message(&self) -> String {
        let mut reasons: Vec<&PoolReason> = self.reasons.iter().collect();
        reasons.sort_by_key(|reason| reason.distance());
        let alone = reasons.len() == 1;
        let mut text = String::new();
        for (index, reason) in reasons.iter().enumerate() {
            let left = reasons.len() - index;
            let separator = if index == 0 { "" } else { "; " };
            let most = if alone { MOST_CHARACTERS } else { MOST_OF_ONE };
            let sentence = shortened(&reason.sentence(), most);
            let after = if left > 1 {
                and_more(left - 1).chars().count()
            } else {
                0
            };
            let whole = separator.len() + sentence.chars().count() + after;
            if text.chars().count() + whole > MOST_CHARACTERS {
                text.push_str(&and_more(left));
                break;
            }
            text.push_str(separator);
            text.push_str(&sentence);
        }
        text
    }
}

fn and_more(count: usize) -> String {
    format!("; and {count} more NodePools")
}

/// At most so many characters, with a sign that there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

impl PoolReason {
    fn sentence(&self) -> String {
        let pool = match self.node_pool.as_str() {
            "" => String::new(),
            name => format!("NodePool {name}: "),
        };
        let nearest = self.nearest_miss.as_ref().map(|miss| format!(" ({miss})"));
        format!("{pool}{}{}", self.detail, nearest.unwrap_or_default())
    }

    /// How far the NodePool is from serving the pod; least is closest.
    fn distance(&self) -> u8 {
        match self.reason {
            ReasonKind::LimitReached
            | ReasonKind::OfferingsUnavailable
            | ReasonKind::PriceCeiling
            | ReasonKind::TopologyUnsatisfiable
            | ReasonKind::VolumeUnsatisfiable => 1,
            ReasonKind::ResourcesDoNotFit => 2,
            ReasonKind::NodePoolPaused | ReasonKind::Contested => 3,
            ReasonKind::RequirementsIncompatible => 4,
            ReasonKind::TaintNotTolerated => 5,
            ReasonKind::NodePoolNotReady | ReasonKind::NoNodePool | ReasonKind::InvalidPod => 6,
        }
    }
}

/// Why one NodePool cannot serve a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReason {
    /// The NodePool; empty when the reason is not about one.
    pub node_pool: String,
    /// The kind of reason, a closed set: a metrics label.
    pub reason: ReasonKind,
    /// In one sentence, with the figures.
    pub detail: String,
    /// The offering that came closest and the smallest change that would make it fit.
    pub nearest_miss: Option<String>,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonKind {
    /// There is no NodePool at all.
    NoNodePool,
    /// The NodePool or its class is not ready.
    NodePoolNotReady,
    /// The NodePool is paused.
    NodePoolPaused,
    /// The pod does not tolerate a taint of the NodePool.
    TaintNotTolerated,
    /// Requirements exclude each other.
    RequirementsIncompatible,
    /// No offering is large enough.
    ResourcesDoNotFit,
    /// Everything that fits is out of capacity now.
    OfferingsUnavailable,
    /// Buying would exceed a limit of the NodePool.
    LimitReached,
    /// Spread or affinity to other pods cannot be met.
    TopologyUnsatisfiable,
    /// A volume cannot be where the pod could be.
    VolumeUnsatisfiable,
    /// A price ceiling excludes what would fit.
    PriceCeiling,
    /// A foreign NodePool could serve the pod too and `--contested-pods leave` holds.
    Contested,
    /// The pod itself is invalid: negative or overflowing amounts, unknown operators.
    InvalidPod,
}

impl ReasonKind {
    /// The CamelCase word used in events, metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNodePool => "NoNodePool",
            Self::NodePoolNotReady => "NodePoolNotReady",
            Self::NodePoolPaused => "NodePoolPaused",
            Self::TaintNotTolerated => "TaintNotTolerated",
            Self::RequirementsIncompatible => "RequirementsIncompatible",
            Self::ResourcesDoNotFit => "ResourcesDoNotFit",
            Self::OfferingsUnavailable => "OfferingsUnavailable",
            Self::LimitReached => "LimitReached",
            Self::TopologyUnsatisfiable => "TopologyUnsatisfiable",
            Self::VolumeUnsatisfiable => "VolumeUnsatisfiable",
            Self::PriceCeiling => "PriceCeiling",
            Self::Contested => "Contested",
            Self::InvalidPod => "InvalidPod",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(node_pool: &str, reason: ReasonKind, detail: &str, miss: Option<&str>) -> PoolReason {
        PoolReason {
            node_pool: node_pool.to_owned(),
            reason,
            detail: detail.to_owned(),
            nearest_miss: miss.map(str::to_owned),
        }
    }

    #[test]
    fn what_came_closest_is_said_first_however_much_the_others_have_to_say() {
        let long = "its class selects nothing, ".repeat(40);
        let mut reasons: Vec<PoolReason> = (0..8)
            .map(|number| {
                let pool = format!("a-{number}");
                reason(&pool, ReasonKind::NodePoolNotReady, &long, None)
            })
            .collect();
        let miss = Some("c5.xlarge: lower the request by 80m");
        reasons.push(reason(
            "z",
            ReasonKind::ResourcesDoNotFit,
            "nothing is large enough",
            miss,
        ));
        let message = Unschedulable { reasons }.message();
        assert!(
            message.starts_with(
                "NodePool z: nothing is large enough (c5.xlarge: lower the request by 80m); NodePool a-0: its"
            ),
            "{message}"
        );
        assert!(message.ends_with("; and 5 more NodePools"), "{message}");
        assert!(message.chars().count() <= MOST_CHARACTERS);
    }

    #[test]
    fn each_pod_counts_once_by_the_reason_that_came_closest() {
        let pods = [
            vec![
                reason("a-gpu", ReasonKind::TaintNotTolerated, "", None),
                reason("general", ReasonKind::LimitReached, "", None),
            ],
            vec![
                reason("a-gpu", ReasonKind::TaintNotTolerated, "", None),
                reason("general", ReasonKind::ResourcesDoNotFit, "", None),
            ],
            vec![reason("a-gpu", ReasonKind::LimitReached, "", None)],
        ];
        let mut plan = ProvisioningPlan::default();
        for (index, reasons) in pods.into_iter().enumerate() {
            let pod = PodKey::new("default", &format!("pod-{index}"));
            plan.unschedulable.insert(pod, Unschedulable { reasons });
        }
        let expected = [
            (ReasonKind::ResourcesDoNotFit, 1),
            (ReasonKind::LimitReached, 2),
        ];
        assert_eq!(plan.left_out(), BTreeMap::from(expected));
    }

    #[test]
    fn a_single_reason_is_said_in_full() {
        let long = "x".repeat(900);
        let reasons = vec![reason("", ReasonKind::InvalidPod, &long, None)];
        assert_eq!(Unschedulable { reasons }.message(), long);
    }
}
