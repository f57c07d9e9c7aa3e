//! Wishes of pods are worth money, and no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{add_pods, claims_of, pool, spec, types, world};
use crate::model::money::UsdPerHour;
use crate::model::pod::{
    Expression, LabelSelector, NodeTerm, PodConstraints, PodSpec, PodTerm, TopologySpread,
};
use crate::model::report::ProvisioningPlan;
use crate::model::snapshot::Snapshot;
use crate::plan::check;
use crate::plan::provision::labels::ZONE;
use crate::plan::provision::{Premium, ProvisionSettings, provision};

fn plan_with(snapshot: &Snapshot, premium: u32) -> ProvisioningPlan {
    let settings = ProvisionSettings {
        budget_units: 30_000,
        preference_premium: Premium(premium),
        ..ProvisionSettings::default()
    };
    let plan = provision(snapshot, &settings);
    let none = Vec::<String>::new();
    assert_eq!(check::violations(snapshot, &plan), none, "{plan:#?}");
    plan
}

fn wishing(app: &str, cpu: i64, constraints: PodConstraints) -> PodSpec {
    PodSpec {
        labels: [("app".to_owned(), app.to_owned())].into(),
        constraints: Some(Arc::new(constraints)),
        ..spec(cpu, 1024)
    }
}

fn prefers(weight: i32, key: &str, value: &str) -> PodConstraints {
    let expression = Expression {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: vec![value.to_owned()],
    };
    let term = NodeTerm {
        expressions: vec![expression],
        fields: Vec::new(),
    };
    PodConstraints {
        preferred_node_terms: vec![(weight, term)],
        ..PodConstraints::default()
    }
}

fn selector(app: &str) -> LabelSelector {
    LabelSelector {
        match_labels: [("app".to_owned(), app.to_owned())].into(),
        match_expressions: Vec::new(),
    }
}

fn company(app: &str) -> PodTerm {
    PodTerm {
        topology_key: ZONE.to_owned(),
        selector: Some(selector(app)),
        namespaces: Vec::new(),
        namespace_selector: None,
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    }
}

fn spread_anyway(app: &str) -> PodConstraints {
    let spread = TopologySpread {
        topology_key: ZONE.to_owned(),
        max_skew: 1,
        min_domains: None,
        required: false,
        selector: Some(selector(app)),
        match_label_keys: Vec::new(),
        honor_node_affinity: true,
        honor_node_taints: false,
    };
    PodConstraints {
        spread: vec![spread],
        ..PodConstraints::default()
    }
}

fn zones(plan: &ProvisioningPlan) -> BTreeSet<String> {
    let nodes = plan.new_nodes.iter();
    nodes
        .map(|node| node.offerings[0].zone.to_string())
        .collect()
}

/// The world with one zone dearer by so many percent.
fn with_dear_zone(mut snapshot: Snapshot, zone: &str, percent: i64) -> Snapshot {
    let class = Arc::make_mut(snapshot.node_classes.get_mut("default").unwrap());
    let mut catalogue = (*class.catalogue).clone();
    for offering in &mut catalogue.offerings {
        if &*offering.key.zone == zone {
            let units = offering.price.units();
            offering.price = UsdPerHour::from_units(units + units / 100 * percent);
        }
    }
    class.catalogue = Arc::new(catalogue);
    snapshot
}

#[test]
fn a_preferred_zone_may_cost_as_much_more_as_the_wish_is_worth() {
    for (premium, weight, is_met) in [
        (10, 100, true),
        (10, 60, true),
        (10, 40, false),
        (0, 100, false),
        (100, 6, true),
        (10_000, 1, true),
    ] {
        let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
        snapshot = with_dear_zone(snapshot, "us-east-1b", 5);
        let wishes = prefers(weight, ZONE, "us-east-1b");
        add_pods(&mut snapshot, "web", 1, &wishing("web", 3000, wishes));
        let plan = plan_with(&snapshot, premium);
        let zone = &*plan.new_nodes[0].offerings[0].zone;
        assert_eq!(zone == "us-east-1b", is_met, "{premium} {weight}");
        let wish = &plan.wishes[0];
        assert_eq!(
            (wish.kept, wish.price.to_string().as_str()),
            (is_met, "0.0085")
        );
        assert_eq!(wish.wish, format!("{ZONE} In us-east-1b"));
    }
}

#[test]
fn a_preferred_zone_that_costs_nothing_is_met_without_a_word() {
    for premium in [0, 10, 10_000] {
        let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
        let wishes = prefers(1, ZONE, "us-east-1c");
        add_pods(&mut snapshot, "web", 1, &wishing("web", 3000, wishes));
        let plan = plan_with(&snapshot, premium);
        assert_eq!(zones(&plan), BTreeSet::from(["us-east-1c".to_owned()]));
        assert!(plan.wishes.is_empty());
    }
}

#[test]
fn a_faint_wish_for_a_large_machine_buys_none_unless_wishes_come_first() {
    let mut snapshot = world(vec![pool("general", &["t3.medium", "c5.4xlarge"])]);
    let wishes = prefers(1, "node.kubernetes.io/instance-type", "c5.4xlarge");
    add_pods(&mut snapshot, "web", 1, &wishing("web", 100, wishes));
    let cheap = plan_with(&snapshot, 10);
    assert_eq!(types(&cheap), ["t3.medium"]);
    let wish = &cheap.wishes[0];
    assert!(!wish.kept, "{wish:?}");
    assert_eq!(wish.price.to_string(), "0.638");
    assert_eq!(types(&plan_with(&snapshot, 10_000)), ["c5.4xlarge"]);
    // Pods that fill such a machine pay little more for it than for others.
    let wishes = prefers(100, "node.kubernetes.io/instance-type", "c5.4xlarge");
    let mut many = world(vec![pool("general", &["c5.xlarge", "c5.4xlarge"])]);
    add_pods(&mut many, "web", 15, &wishing("web", 1000, wishes));
    assert_eq!(types(&plan_with(&many, 10)), ["c5.4xlarge"]);
}

#[test]
fn pods_that_fit_one_machine_are_not_spread_at_three_times_the_price() {
    let apart = PodConstraints {
        preferred_anti_affinity: vec![(100, company("web"))],
        ..PodConstraints::default()
    };
    for wishes in [spread_anyway("web"), apart] {
        let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
        add_pods(&mut snapshot, "web", 3, &wishing("web", 500, wishes));
        let cheap = plan_with(&snapshot, 10);
        assert_eq!(cheap.new_nodes.len(), 1);
        let gap = cheap.price - cheap.lower_bound;
        assert!(gap.units() < 1_000, "but for rounding: {gap}");
        let told = &cheap.wishes[0];
        assert_eq!(
            (told.kept, told.price.to_string().as_str()),
            (false, "0.340")
        );
        let spread = plan_with(&snapshot, 10_000);
        assert_eq!(zones(&spread).len(), 3);
        assert!(spread.wishes[0].kept);
        assert_eq!(spread.wishes[0].price.to_string(), "0.340");
        assert!(spread.lower_bound < spread.price, "it knows of no wish");
    }
}

#[test]
fn machines_that_are_needed_anyway_are_spread() {
    let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
    let web = wishing("web", 3000, spread_anyway("web"));
    add_pods(&mut snapshot, "web", 3, &web);
    for premium in [0, 10] {
        let plan = plan_with(&snapshot, premium);
        assert_eq!(zones(&plan).len(), 3, "{premium}");
        assert!(plan.wishes.is_empty());
    }
}

#[test]
fn given_up_wishes_are_met_where_that_is_free_and_stay_so() {
    let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
    let web = wishing("web", 1000, spread_anyway("web"));
    add_pods(&mut snapshot, "web", 6, &web);
    let first = plan_with(&snapshot, 10);
    assert_eq!((first.new_nodes.len(), zones(&first).len()), (2, 2));
    for node in &first.new_nodes {
        let zones: BTreeSet<&str> = node.offerings.iter().map(|key| &*key.zone).collect();
        assert_eq!(zones.len(), 1, "elsewhere it would be beside the other");
    }
    snapshot.claims = claims_of(&first);
    assert!(plan_with(&snapshot, 10).new_nodes.is_empty());
}

#[test]
fn a_wish_about_pods_that_wait_as_well_is_met_where_it_is_free() {
    let distance = PodConstraints {
        preferred_anti_affinity: vec![(100, company("first"))],
        ..PodConstraints::default()
    };
    let near = PodConstraints {
        preferred_affinity: vec![(100, company("first"))],
        ..PodConstraints::default()
    };
    for (wishes, expected) in [(distance, 2), (near, 1)] {
        for (first, second) in [("a", "b"), ("b", "a")] {
            let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
            let plain = wishing("first", 3000, PodConstraints::default());
            add_pods(&mut snapshot, first, 1, &plain);
            let other = wishing("second", 3000, wishes.clone());
            add_pods(&mut snapshot, second, 1, &other);
            let plan = plan_with(&snapshot, 10);
            assert_eq!(plan.new_nodes.len(), 2);
            assert_eq!(zones(&plan).len(), expected, "{first}");
        }
    }
}

#[test]
fn one_workloads_dear_wish_does_not_cost_another_its_cheap_one() {
    let mut snapshot = world(vec![pool("general", &["c5.xlarge"])]);
    let cheap = wishing("web", 3900, spread_anyway("web"));
    add_pods(&mut snapshot, "web", 3, &cheap);
    let dear = wishing("tiny", 500, spread_anyway("tiny"));
    add_pods(&mut snapshot, "tiny", 3, &dear);
    let plan = plan_with(&snapshot, 10);
    assert_eq!(plan.new_nodes.len(), 4, "{plan:#?}");
    let of_web = plan
        .new_nodes
        .iter()
        .filter(|node| node.pods[0].name.starts_with("web"));
    let zones: BTreeSet<&str> = of_web.map(|node| &*node.offerings[0].zone).collect();
    assert_eq!(zones.len(), 3);
    assert_eq!(plan.wishes.len(), 1);
    assert_eq!(&*plan.wishes[0].pods[0].name, "tiny-0");
}
