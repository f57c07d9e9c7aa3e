//! Lower bounds are held against their proofs, and a proof that does not hold is found.

use super::super::provision_proven;
use super::*;

#[test]
fn a_proof_that_does_not_hold_is_found() {
    let types = ["c5.xlarge", "c5.2xlarge", "c5.4xlarge"];
    let mut snapshot = world(vec![pool("executors", &types)]);
    add_pods(&mut snapshot, "executor", 10, &spec(2000, 4096));
    add_pods(&mut snapshot, "small", 5, &spec(700, 900));
    let settings = ProvisionSettings::default().with_budget_ms(2);
    let (plan, proofs) = provision_proven(&snapshot, &settings, &|| false);
    assert_eq!(check::unproven(&plan, &proofs), [""; 0]);
    assert!(check::unproven(&plan, &[])[0].contains("it is about 0 pods"));
    let mut greedy = proofs.clone();
    for price in &mut greedy[0].certificate.class_prices {
        *price *= 10;
    }
    assert!(check::unproven(&plan, &greedy)[0].contains("contents worth"));
    let mut modest = proofs;
    modest[0].certificate.class_prices.fill(0);
    modest[0].certificate.cases = None;
    assert!(check::unproven(&plan, &modest)[0].contains("and the plan says"));
}
