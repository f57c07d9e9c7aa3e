//! The proof of a plan's lower bound, in the words of the plan.
//!
//! Given what was bought and its proofs; given back the price of each class of pods and of each
//! offering's capacity. Anybody can verify it: no content of a node may be worth more than the node
//! costs, and the pods' prices add up to the bound. Where the packer proves more by cases, they are
//! given too.

use super::assemble::Parts;
use super::buy::Purchase;
use super::supply::Candidate;
use crate::model::money::UsdPerHour;
use crate::model::offering::OfferingKey;
use crate::model::report::{
    BoundByCases, BoundCases, BoundCertificate, CasePrices, ClassPrice, OfferingPrice,
};
use crate::model::resources::Resources;
use crate::plan::pack::cases::{Cases, Priced};

/// The certificate of a purchase.
pub fn of(purchase: &Purchase, parts: &Parts<'_>) -> BoundCertificate {
    let mut certificate = BoundCertificate {
        dimensions: parts.dimensions.to_vec(),
        ..BoundCertificate::default()
    };
    for proof in &purchase.proofs {
        let first_class = certificate.class_prices.len();
        let priced = proof
            .classes
            .iter()
            .zip(&proof.problem.items)
            .zip(&proof.certificate.class_prices);
        for ((class, item), price) in priced {
            // A class that is gone keeps its place: cases name classes by their order.
            let class = parts.classes.get(*class);
            certificate.class_prices.push(ClassPrice {
                example: class.and_then(|class| class.pods.first().cloned()),
                pods: item.count,
                requests: class.map_or_else(Resources::new, |class| class.spec.requests.clone()),
                price: UsdPerHour::from_units(*price),
            });
        }
        let prices = offering_prices(parts, &proof.certificate.offering_prices);
        certificate.offering_prices.extend(prices);
        if let Some(cases) = &proof.certificate.cases {
            certificate.by_cases.push(BoundByCases {
                first_class,
                cases: bound_cases(parts, cases),
            });
        }
    }
    certificate
}

/// Cases in the words of the plan. The packer's checker bounds how deep they are.
fn bound_cases(parts: &Parts<'_>, cases: &Cases) -> BoundCases {
    match cases {
        Cases::Proven(priced) => BoundCases::Proven(case_prices(parts, priced)),
        Cases::Split(split) => BoundCases::Split {
            offerings: split
                .machines
                .iter()
                .filter_map(|index| named(parts, parts.supply.candidates.get(index)?))
                .collect(),
            most: split.most,
            fewer: Box::new(bound_cases(parts, &split.fewer)),
            more: Box::new(bound_cases(parts, &split.more)),
        },
    }
}

fn case_prices(parts: &Parts<'_>, priced: &Priced) -> CasePrices {
    CasePrices {
        class_prices: money(&priced.class_prices),
        offering_prices: offering_prices(parts, &priced.offering_prices),
        charges: money(&priced.charges),
    }
}

/// What capacities are worth, for the offerings where they are worth anything.
fn offering_prices(parts: &Parts<'_>, prices: &[Vec<i64>]) -> Vec<OfferingPrice> {
    parts
        .supply
        .candidates
        .iter()
        .zip(prices)
        .filter(|(_candidate, prices)| prices.iter().any(|price| *price > 0))
        .filter_map(|(candidate, prices)| {
            let (node_pool, offering) = named(parts, candidate)?;
            Some(OfferingPrice {
                node_pool,
                offering,
                prices: money(prices),
            })
        })
        .collect()
}

/// NodePool and offering of a candidate.
fn named(parts: &Parts<'_>, candidate: &Candidate) -> Option<(String, OfferingKey)> {
    let variant = parts.supply.variants.get(candidate.variant)?;
    Some((variant.pool.name.clone(), candidate.offering.key.clone()))
}

fn money(amounts: &[i64]) -> Vec<UsdPerHour> {
    amounts
        .iter()
        .map(|amount| UsdPerHour::from_units(*amount))
        .collect()
}
