//! Claims that waited until prices were others.

use super::*;
use crate::model::money::UsdPerHour;

/// The world of a claim that was planned long ago, with these spot prices of c5.xlarge now, in thousandths of a dollar.
fn later(
    spot_a: i64,
    spot_b: i64,
    change: impl FnOnce(&mut crate::model::node_pool::NodePool),
) -> Snapshot {
    let mut snapshot = world(600, &[claim("a", ALL)], &[], &[]);
    let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
    for known in &mut Arc::make_mut(&mut class.catalogue).offerings {
        let price = match known.key.to_string().as_str() {
            SPOT_A => spot_a,
            SPOT_B => spot_b,
            _ => 170,
        };
        known.price = UsdPerHour::from_micros(price * 1_000);
    }
    change(Arc::make_mut(
        snapshot.node_pools.get_mut("general").unwrap(),
    ));
    snapshot
}

fn bought_now(snapshot: &Snapshot) -> Vec<OfferingKey> {
    proposal(decide(snapshot, &LaunchMemory::new(at(0)))).offerings
}

#[test]
fn what_became_dearer_than_its_pool_may_pay_is_left_out() {
    let most = |dollars: &str| UsdPerHour::parse(dollars).unwrap();
    let absolute = later(120, 90, |pool| pool.max_price = Some(most("0.1")));
    assert_eq!(bought_now(&absolute), [offering(SPOT_B)]);
    let share = later(60, 150, |pool| pool.max_percent_of_on_demand = Some(50));
    assert_eq!(bought_now(&share), [offering(SPOT_A)]);
    let free = later(120, 150, |_pool| {});
    assert_eq!(bought_now(&free), [offering(SPOT_A), offering(SPOT_B)]);
    // The ceiling was lowered while the claim waited: on-demand is left.
    let lowered = later(200, 300, |pool| pool.max_price = Some(most("0.18")));
    assert_eq!(bought_now(&lowered), [offering(DEMAND_A)]);
}

#[test]
fn a_claim_of_which_nothing_can_be_paid_is_given_up_and_says_why() {
    let snapshot = later(120, 130, |pool| {
        pool.max_price = UsdPerHour::parse("0.1").ok();
    });
    match only(decide(&snapshot, &LaunchMemory::new(at(0)))) {
        LaunchStep::GiveUp {
            claim,
            reason,
            message,
        } => {
            assert_eq!((claim.name.as_str(), reason), ("a", TOO_DEAR));
            assert!(message.contains("3 offerings"), "{message}");
            assert!(message.contains("max-usd-per-hour"), "{message}");
        }
        other => panic!("{other:#?}"),
    }
}
