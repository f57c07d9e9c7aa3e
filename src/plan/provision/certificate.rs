//! The proof of a plan's lower bound, in the words of the plan.
//!
//! Given what was bought and its proofs; given back the price of each class of pods and of each
//! offering's capacity. Anybody can verify it: no content of a node may be worth more than the node
//! costs, and the pods' prices add up to the bound.

use super::assemble::Parts;
use super::buy::Purchase;
use crate::model::money::UsdPerHour;
use crate::model::report::{BoundCertificate, ClassPrice, OfferingPrice};

/// The certificate of a purchase.
pub fn of(purchase: &Purchase, parts: &Parts<'_>) -> BoundCertificate {
    let mut certificate = BoundCertificate {
        dimensions: parts.dimensions.to_vec(),
        ..BoundCertificate::default()
    };
    for proof in &purchase.proofs {
        let priced = proof
            .classes
            .iter()
            .zip(&proof.problem.items)
            .zip(&proof.certificate.class_prices);
        for ((class, item), price) in priced {
            let Some(class) = parts.classes.get(*class) else {
                continue;
            };
            certificate.class_prices.push(ClassPrice {
                example: class.pods.first().cloned(),
                pods: item.count,
                requests: class.spec.requests.clone(),
                price: UsdPerHour::from_units(*price),
            });
        }
        let priced = parts
            .supply
            .candidates
            .iter()
            .zip(&proof.certificate.offering_prices);
        for (candidate, prices) in priced {
            let variant = parts.supply.variants.get(candidate.variant);
            let (Some(variant), true) = (variant, prices.iter().any(|price| *price > 0)) else {
                continue;
            };
            certificate.offering_prices.push(OfferingPrice {
                node_pool: variant.pool.name.clone(),
                offering: candidate.offering.key.clone(),
                prices: prices
                    .iter()
                    .map(|price| UsdPerHour::from_units(*price))
                    .collect(),
            });
        }
    }
    certificate
}
