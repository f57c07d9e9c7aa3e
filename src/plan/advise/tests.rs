//! What is said, and what is not, of small worlds with two instance types.

use std::collections::BTreeMap;

use super::*;
use crate::model::pod::{Owner, PodKey, PodPhase};
use crate::model::resources::{CPU, PODS};
use crate::plan::examples::{pod, world};

/// So many waiting pods of a set, each of which asks for so many millicores.
fn set(name: &str, count: usize, cpu: i64) -> Vec<Pod> {
    let mut template = pod(name, "");
    template.node_name = None;
    template.phase = PodPhase::Pending;
    template.unschedulable = true;
    template.owner = Some(Owner {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
    });
    template.spec = Arc::new(PodSpec {
        requests: Resources::new().with(CPU, cpu).with(PODS, 1),
        ..PodSpec::clone(&template.spec)
    });
    (0..count)
        .map(|index| Pod {
            key: PodKey::new("default", &format!("{name}-{index}")),
            ..template.clone()
        })
        .collect()
}

/// What [`advise`] says of a world of the class with c5.xlarge and c5.2xlarge, without slots for pods.
fn report(sets: &[Vec<Pod>]) -> Report {
    let mut snapshot = world(0, &[], &[], &sets.concat());
    for class in snapshot.node_classes.values_mut() {
        let catalogue = &mut Arc::make_mut(class).catalogue;
        for instance in Arc::make_mut(catalogue).types.values_mut() {
            Arc::make_mut(instance).capacity.set(PODS, 30);
        }
    }
    advise(&snapshot, &ProvisionSettings::default().with_budget_ms(5))
}

fn of<'report>(report: &'report Report, name: &str) -> &'report Advice {
    let found = report.workloads.iter();
    let mut found = found.filter(|advice| advice.workload.name == name);
    found.next().unwrap()
}

#[test]
fn a_change_that_saves_only_where_there_is_nothing_else_is_not_said() {
    // Alone on a c5.2xlarge (7920m), less by 80m on a c5.xlarge: half the price.
    let alone = report(&[set("large", 1, 4_000)]);
    let best = &of(&alone, "large").changes[0];
    assert_eq!(best.change.requests.get(CPU), 3_900);
    assert_eq!(best.percent, Some(50));
    // Together they fill the c5.2xlarge, so the same change saves nothing.
    let both = report(&[set("large", 1, 4_000), set("other", 1, 3_900)]);
    assert_eq!(of(&both, "large").changes, []);
    assert_eq!(both.together, None);
}

#[test]
fn pods_without_a_place_are_counted_and_a_change_that_places_them_comes_first() {
    let report = report(&[set("huge", 4, 8_000)]);
    let huge = of(&report, "huge");
    assert_eq!((huge.workload.pods, huge.left_out), (4, 4));
    assert!(huge.left_out_reason.contains("cpu"), "{huge:?}");
    let best = &huge.changes[0];
    assert_eq!(best.effect.places, 4);
    assert_eq!(best.change.requests.get(CPU), 7_900);
    assert_eq!(best.effect.price, report.price - best.effect.saves);
}

#[test]
fn shares_of_one_node_add_up_to_its_price() {
    let report = report(&[set("large", 1, 4_000), set("other", 1, 3_900)]);
    let sum = of(&report, "large").price + of(&report, "other").price;
    let lost = report.price - sum;
    assert!(lost.units() < 2, "{sum} of {}", report.price);
    let fits = BTreeMap::from([("c5.2xlarge".to_owned(), 1)]);
    assert_eq!(of(&report, "other").fits, fits);
}

#[test]
fn what_changes_save_together_is_planned_once_more() {
    let report = report(&[set("large", 1, 4_000), set("wide", 1, 7_950)]);
    let together = report.together.unwrap();
    let effect = together.effect.unwrap();
    assert_eq!(together.changes, 2);
    assert_eq!(effect.places, of(&report, "wide").changes[0].effect.places);
    let single = of(&report, "large").changes[0].effect.price;
    assert!(effect.price > single, "the second pod is paid for, too");
}

#[test]
fn the_number_of_plans_is_bounded_however_many_workloads_wait() {
    let sets: Vec<Vec<Pod>> = (0..i64::try_from(MOST_EXAMINED).unwrap() + 5)
        .map(|index| set(&format!("set-{index:02}"), 1, 2_000 + index))
        .collect();
    let report = report(&sets);
    let examined = report.workloads.iter().filter(|advice| advice.examined);
    assert_eq!(examined.count(), MOST_EXAMINED);
    // Quick plans for resources and changes, full ones for the best changes, and three that are about
    // everything.
    let most = MOST_EXAMINED * (MOST_SETTERS + MOST_SCREENED + MOST_CONFIRMED) + 3;
    assert!(report.plans <= most, "{} plans", report.plans);
}
