//! Machines in capacity reservations: filled first, never more than there is room for.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::*;
use crate::model::claim::{ClaimCondition, ConditionStatus};
use crate::model::reservation::{Reservation, ReservationKind};

const ID: &str = "karpenter.k8s.aws/capacity-reservation-id";

pub(super) fn reservation(id: &str, instance_type: &str, total: u32, free: u32) -> Reservation {
    Reservation {
        id: id.to_owned(),
        owner: "123456789012".to_owned(),
        matching: "targeted".to_owned(),
        kind: ReservationKind::Standard,
        interruptible: false,
        ends: None,
        total,
        free,
        counted: Timestamp::UNIX_EPOCH,
        offering: Offering {
            key: OfferingKey::new(instance_type, "us-east-1a", CapacityType::Reserved),
            price: UsdPerHour::ZERO,
            fees: UsdPerHour::from_micros(10_000),
            available: true,
            outlook: Outlook::default(),
        },
    }
}

fn with(mut snapshot: Snapshot, reservations: &[Reservation]) -> Snapshot {
    let class = snapshot.node_classes.get_mut("default").unwrap();
    Arc::make_mut(class).reservations = reservations.to_vec();
    snapshot
}

/// A pool that buys only so.
fn only(name: &str, types: &[&str], capacity_type: &str) -> NodePool {
    let mut pool = pool(name, types);
    pool.requirements.add(
        "karpenter.sh/capacity-type",
        &Requirement::one_of([capacity_type]),
    );
    pool
}

/// Type, capacity type and reservation of every new node.
fn bought(plan: &ProvisioningPlan) -> Vec<String> {
    let nodes = plan.new_nodes.iter();
    let mut found: Vec<String> = nodes
        .map(|node| {
            let first = &node.offerings[0];
            let id = node.labels.get(ID).map_or("", String::as_str);
            format!("{} {} {id}", first.instance_type, first.capacity_type)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn free_slots_are_filled_before_anything_is_bought() {
    let pools = || vec![pool("executors", &["c5.xlarge", "c5.2xlarge"])];
    let slots = [reservation("cr-1", "c5.xlarge", 5, 2)];
    let mut snapshot = with(world(pools()), &slots);
    add_pods(&mut snapshot, "executor", 5, &spec(2000, 4096));
    let plan = plan(&snapshot);
    assert_eq!(
        bought(&plan),
        [
            "c5.2xlarge on-demand ",
            "c5.xlarge reserved cr-1",
            "c5.xlarge reserved cr-1",
        ]
    );
    // The three that are left cost what three cost, and slots their fees.
    assert_eq!(plan.price.to_string(), "0.360");
    let reserved = plan
        .new_nodes
        .iter()
        .find(|node| node.labels.contains_key(ID))
        .unwrap();
    assert_eq!(reserved.offerings.len(), 1, "a slot needs no alternative");
    assert_eq!(
        reserved.labels["karpenter.k8s.aws/capacity-reservation-type"],
        "default"
    );
    let bought = plan
        .new_nodes
        .iter()
        .find(|node| !node.labels.contains_key(ID))
        .unwrap();
    let alternatives: BTreeSet<CapacityType> = bought
        .offerings
        .iter()
        .map(|key| key.capacity_type)
        .collect();
    assert_eq!(alternatives, BTreeSet::from([CapacityType::OnDemand]));
}

#[test]
fn pools_and_pods_that_do_not_allow_reserved_capacity_use_none() {
    let slots = [
        reservation("cr-1", "c5.xlarge", 5, 5),
        reservation("cr-2", "c5.xlarge", 5, 5),
    ];
    let mut snapshot = with(
        world(vec![only("plain", &["c5.xlarge"], "on-demand")]),
        &slots,
    );
    add_pods(&mut snapshot, "executor", 1, &spec(2000, 4096));
    assert_eq!(bought(&plan(&snapshot)), ["c5.xlarge on-demand "]);

    let mut snapshot = with(world(vec![pool("any", &["c5.xlarge"])]), &slots);
    let mut on_demand = spec(2000, 4096);
    on_demand.node_selector.insert(
        "karpenter.sh/capacity-type".to_owned(),
        "on-demand".to_owned(),
    );
    add_pods(&mut snapshot, "executor", 1, &on_demand);
    let mut second = spec(2000, 4096);
    second
        .node_selector
        .insert(ID.to_owned(), "cr-2".to_owned());
    add_pods(&mut snapshot, "named", 1, &second);
    assert_eq!(
        bought(&plan(&snapshot)),
        ["c5.xlarge on-demand ", "c5.xlarge reserved cr-2"]
    );
}

#[test]
fn interruptible_reservations_and_blocks_that_expire_are_not_planned_for() {
    let block = Reservation {
        kind: ReservationKind::CapacityBlock,
        ends: Some(Timestamp::from_second(2_400).unwrap()),
        ..reservation("cr-1", "c5.xlarge", 5, 5)
    };
    let interruptible = Reservation {
        interruptible: true,
        ..reservation("cr-2", "c5.xlarge", 5, 5)
    };
    let mut snapshot = with(
        world(vec![pool("any", &["c5.xlarge"])]),
        &[block, interruptible],
    );
    add_pods(&mut snapshot, "executor", 1, &spec(2000, 4096));
    assert_eq!(bought(&plan(&snapshot)), ["c5.xlarge on-demand "]);
}

#[test]
fn blocks_are_filled_until_they_expire() {
    let block = Reservation {
        kind: ReservationKind::CapacityBlock,
        ends: Some(Timestamp::from_second(2_401).unwrap()),
        ..reservation("cr-1", "c5.xlarge", 5, 5)
    };
    let mut snapshot = with(world(vec![pool("any", &["c5.xlarge"])]), &[block]);
    add_pods(&mut snapshot, "executor", 1, &spec(2000, 4096));
    let plan = plan(&snapshot);
    assert_eq!(bought(&plan), ["c5.xlarge reserved cr-1"]);
    let kind = "karpenter.k8s.aws/capacity-reservation-type";
    assert_eq!(plan.new_nodes[0].labels[kind], "capacity-block");
}

#[test]
fn claims_hold_their_slots_from_round_to_round() {
    let slots = [reservation("cr-1", "c5.xlarge", 4, 3)];
    let mut snapshot = with(world(vec![pool("any", &["c5.xlarge"])]), &slots);
    add_pods(&mut snapshot, "first", 2, &spec(2000, 4096));
    let first = plan(&snapshot);
    assert_eq!(bought(&first), ["c5.xlarge reserved cr-1"; 2]);
    snapshot.claims = claims_of(&first);
    add_pods(&mut snapshot, "second", 2, &spec(2000, 4096));
    let second = plan(&snapshot);
    assert_eq!(
        bought(&second),
        ["c5.xlarge on-demand ", "c5.xlarge reserved cr-1"],
        "two of the three free slots are spoken for"
    );
}

#[test]
fn a_launch_is_held_against_a_count_until_the_count_can_know_of_it() {
    let reserved = |counted: i64| {
        let mut snapshot = with(
            world(vec![pool("any", &["c5.xlarge"])]),
            &[Reservation {
                counted: Timestamp::from_second(counted).unwrap(),
                ..reservation("cr-1", "c5.xlarge", 4, 2)
            }],
        );
        add_pods(&mut snapshot, "first", 2, &spec(2000, 4096));
        let first = plan(&snapshot);
        snapshot.claims = claims_of(&first);
        for claim in snapshot.claims.values_mut() {
            let claim = Arc::make_mut(claim);
            claim.provider_id = format!("aws:///us-east-1a/i-{}", claim.name);
            claim.conditions.insert(
                "Launched".to_owned(),
                ClaimCondition {
                    status: ConditionStatus::True,
                    reason: String::new(),
                    message: String::new(),
                    since: Timestamp::UNIX_EPOCH,
                },
            );
        }
        add_pods(&mut snapshot, "second", 3, &spec(2000, 4096));
        super::super::slots::free(&snapshot)["cr-1"]
    };
    assert_eq!(
        reserved(59),
        0,
        "the two that EC2 counts as free may be these"
    );
    assert_eq!(reserved(60), 2);
    let late = SignedDuration::from_hours(1).as_secs();
    assert_eq!(
        reserved(late),
        2,
        "never more than the whole less the claims"
    );
}

#[test]
fn slots_go_first_to_pods_that_nothing_else_holds() {
    let pools = vec![
        only("paid", &["g4dn.xlarge", "c5.xlarge"], "reserved"),
        only("bought", &["c5.xlarge"], "on-demand"),
    ];
    let slots = [
        reservation("cr-gpu", "g4dn.xlarge", 1, 1),
        reservation("cr-plain", "c5.xlarge", 1, 1),
    ];
    let mut snapshot = with(world(pools), &slots);
    // Named so that the plain pods come first in every order by name.
    add_pods(&mut snapshot, "a-plain", 2, &spec(2000, 4096));
    let mut job = spec(3000, 4096);
    job.requests.set("nvidia.com/gpu", 1);
    add_pods(&mut snapshot, "train", 1, &job);
    let plan = plan(&snapshot);
    assert!(plan.unschedulable.is_empty(), "{:?}", plan.unschedulable);
    assert_eq!(
        bought(&plan),
        [
            "c5.xlarge on-demand ",
            "c5.xlarge reserved cr-plain",
            "g4dn.xlarge reserved cr-gpu",
        ]
    );
}

#[test]
fn the_slot_that_is_used_best_is_filled_first() {
    let slots = [
        reservation("cr-1", "c5.4xlarge", 3, 3),
        reservation("cr-2", "c5.xlarge", 3, 3),
    ];
    let mut snapshot = with(
        world(vec![pool("any", &["c5.xlarge", "c5.4xlarge"])]),
        &slots,
    );
    add_pods(&mut snapshot, "executor", 1, &spec(3000, 4096));
    assert_eq!(bought(&plan(&snapshot)), ["c5.xlarge reserved cr-2"]);
}

#[test]
fn machines_in_reservations_count_against_limits() {
    let mut limited = pool("executors", &["c5.xlarge"]);
    limited.limits.set("nodes", 2);
    let mut snapshot = with(
        world(vec![limited]),
        &[reservation("cr-1", "c5.xlarge", 9, 9)],
    );
    add_pods(&mut snapshot, "executor", 4, &spec(2000, 4096));
    let plan = plan(&snapshot);
    assert_eq!(bought(&plan), ["c5.xlarge reserved cr-1"; 2]);
    let reasons = &plan.unschedulable.values().next().unwrap().reasons;
    assert_eq!(reasons[0].reason, ReasonKind::LimitReached);
}

#[test]
fn pods_that_only_reservations_hold_say_that_no_slot_is_left() {
    for free in [0, 1] {
        let pools = vec![only("paid", &["c5.xlarge"], "reserved")];
        let mut snapshot = with(world(pools), &[reservation("cr-1", "c5.xlarge", 2, free)]);
        add_pods(&mut snapshot, "executor", 2, &spec(2000, 4096));
        let plan = plan(&snapshot);
        assert_eq!(plan.new_nodes.len(), free as usize);
        let reason = &plan.unschedulable.values().next().unwrap().reasons[0];
        assert_eq!(reason.reason, ReasonKind::OfferingsUnavailable);
        assert!(
            reason.detail.contains("no slot of them is left (cr-1)"),
            "{}",
            reason.detail
        );
    }
}

#[test]
fn two_pools_share_the_slots_of_one_reservation() {
    let mut heavy = pool("heavy", &["c5.xlarge"]);
    heavy.weight = 10;
    heavy.limits.set("nodes", 1);
    let slots = [reservation("cr-1", "c5.xlarge", 2, 2)];
    let mut snapshot = with(world(vec![heavy, pool("light", &["c5.xlarge"])]), &slots);
    add_pods(&mut snapshot, "executor", 3, &spec(2000, 4096));
    assert_eq!(
        bought(&plan(&snapshot)),
        [
            "c5.xlarge on-demand ",
            "c5.xlarge reserved cr-1",
            "c5.xlarge reserved cr-1",
        ]
    );
}

#[test]
fn pods_that_may_not_share_a_node_take_a_slot_each() {
    let slots = [reservation("cr-1", "c5.4xlarge", 2, 2)];
    let mut snapshot = with(world(vec![pool("any", &["c5.4xlarge"])]), &slots);
    let mut apart = spec(500, 512);
    let constraints = crate::model::pod::PodConstraints {
        host_ports: vec![crate::model::pod::HostPort {
            port: 80,
            protocol: "TCP".to_owned(),
            address: String::new(),
        }],
        ..crate::model::pod::PodConstraints::default()
    };
    apart.constraints = Some(Arc::new(constraints));
    add_pods(&mut snapshot, "web", 3, &apart);
    assert_eq!(
        bought(&plan(&snapshot)),
        [
            "c5.4xlarge on-demand ",
            "c5.4xlarge reserved cr-1",
            "c5.4xlarge reserved cr-1",
        ]
    );
}

#[test]
fn under_a_limit_on_nodes_a_small_slot_keeps_no_pod_waiting_that_a_larger_machine_holds() {
    let limited = |nodes: i64| {
        let mut pool = pool("executors", &["c5.xlarge", "c5.2xlarge"]);
        pool.limits.set(crate::model::resources::NODES, nodes);
        let slots = [reservation("cr-1", "c5.xlarge", 5, 5)];
        let mut snapshot = with(world(vec![pool]), &slots);
        add_pods(&mut snapshot, "executor", 3, &spec(2000, 4096));
        plan(&snapshot)
    };
    // One node: the slot holds one pod, the larger machine all three.
    let one = limited(1);
    assert_eq!(bought(&one), ["c5.2xlarge on-demand "]);
    assert_eq!(one.unschedulable.len(), 0);
    // Where there is room for as many nodes the slots are filled, which cost nothing more.
    let three = limited(3);
    assert_eq!(bought(&three), ["c5.xlarge reserved cr-1"; 3]);
    // One slot beside one larger machine would do as well, and is cheaper than two machines.
    let two = limited(2);
    assert_eq!(two.unschedulable.len(), 0);
    assert!(bought(&two).contains(&"c5.2xlarge on-demand ".to_owned()));
    assert!(bought(&two).contains(&"c5.xlarge reserved cr-1".to_owned()));
}

#[test]
fn under_a_limit_on_nodes_as_many_slots_are_filled_as_keep_no_pod_waiting() {
    let mut pool = pool("executors", &["c5.xlarge", "c5.2xlarge"]);
    pool.limits.set(crate::model::resources::NODES, 20);
    let slots = [reservation("cr-1", "c5.xlarge", 20, 20)];
    let mut snapshot = with(world(vec![pool]), &slots);
    // Twenty slots hold one each; one larger machine holds three in the place of one.
    add_pods(&mut snapshot, "executor", 22, &spec(2000, 4096));
    let plan = plan(&snapshot);
    assert_eq!(plan.unschedulable.len(), 0);
    let found = bought(&plan);
    assert_eq!(found[..1], ["c5.2xlarge on-demand "]);
    assert_eq!(found[1..], ["c5.xlarge reserved cr-1"; 19]);
}

/// The tries share half of the budget: each has little of it, and is good enough to tell numbers apart.
#[test]
fn with_any_budget_as_many_slots_are_filled_as_keep_no_pod_waiting() {
    for budget_units in [0, 1, 100, 3_000, 300_000] {
        let mut pool = pool("executors", &["c5.xlarge", "c5.2xlarge"]);
        pool.limits.set(crate::model::resources::NODES, 60);
        let slots = [reservation("cr-1", "c5.xlarge", 60, 60)];
        let mut snapshot = with(world(vec![pool]), &slots);
        add_pods(&mut snapshot, "executor", 70, &spec(2000, 4096));
        let settings = ProvisionSettings {
            budget_units,
            ..ProvisionSettings::default()
        };
        let (plan, wrong) = judged(&snapshot, &settings);
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(plan.unschedulable.len(), 0, "{budget_units} units");
        let found = bought(&plan);
        let reserved = found.iter().filter(|node| node.ends_with("cr-1"));
        // Five larger machines hold fifteen, which leaves as many as there are slots below the limit.
        assert_eq!(reserved.count(), 55, "{budget_units} units: {found:?}");
    }
}
