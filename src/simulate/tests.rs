//! The simulator as a whole: small scenarios whose outcome can be said beforehand.

use jiff::{SignedDuration, Timestamp};

use super::input::furniture;
use super::input::generate::{self, Profile};
use super::input::trace;
use super::input::workloads::{self, Frame};
use super::*;
use crate::cluster::manifests::{Document, read_text};
use crate::model::offering::CapacityType;
use crate::model::report::ReasonKind;
use crate::plan::provision::{Premium, ProvisionSettings};
use crate::sim::ec2::market::Weather;

const POOLS: &str = "
apiVersion: tonnage.dev/v1alpha1
kind: EC2NodeClass
metadata: {name: default}
spec:
  amiFamily: AL2023
  amiSelectorTerms: [{name: nodes}]
  subnetSelectorTerms: [{tags: {a: b}}]
  securityGroupSelectorTerms: [{name: nodes}]
  instanceProfile: node
  blockDeviceMappings:
    - {deviceName: /dev/xvda, rootVolume: true, ebs: {volumeSize: 50Gi, volumeType: gp3, encrypted: true}}
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: general}
spec:
  template:
    spec:
      nodeClassRef: {group: tonnage.dev, kind: EC2NodeClass, name: default}
      requirements:
        - {key: karpenter.k8s.aws/instance-family, operator: In, values: [c5, m5]}
        - {key: karpenter.sh/capacity-type, operator: In, values: [CAPACITY]}
      expireAfter: Never
  limits: {nodes: \"MOST\"}
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: 30s}
";

fn begin() -> Timestamp {
    "2027-01-04T00:00:00Z".parse().unwrap()
}

fn documents(capacity: &str, most: &str, more: &str) -> Vec<Document> {
    let text = POOLS.replace("CAPACITY", capacity).replace("MOST", most);
    read_text("test.yaml", &format!("{text}---\n{more}")).unwrap()
}

fn settings() -> ProvisionSettings {
    ProvisionSettings::default().with_budget_ms(1)
}

fn variant(capacity: &str, most: &str) -> Variant {
    furniture::variant("test", &documents(capacity, most, ""), &settings()).unwrap()
}

fn scenario(lines: &str, weather: Weather) -> Scenario {
    Scenario {
        begin: begin(),
        duration: SignedDuration::from_hours(6),
        seed: 5,
        weather,
        loads: trace::parse("test", lines).unwrap().loads,
    }
}

fn outcome(lines: &str, weather: Weather, capacity: &str, most: &str) -> Outcome {
    run(
        &scenario(lines, weather),
        &variant(capacity, most),
        1,
        &Nobody,
    )
    .unwrap()
}

/// Four pods that fit one machine of eight processors together.
const FOUR: &str = r#"{"atSeconds":60,"count":4,"runSeconds":600,"ownerKind":"Job","requests":{"cpu":"1500m","memory":"2Gi"}}"#;

#[test]
fn a_burst_is_bought_for_once_billed_by_the_second_and_gone_after_it() {
    let outcome = outcome(FOUR, Weather::CALM, "on-demand", "9");
    let figures = &outcome.figures;
    assert_eq!((figures.pods, figures.completed), (4, 4));
    assert_eq!((figures.nodes_bought, figures.instances_left), (1, 0));
    assert_eq!((figures.evictions, figures.usd_spot), (0, 0));
    let [kind] = outcome.bought.as_slice() else {
        panic!("{:?}", outcome.bought);
    };
    assert_eq!(&*kind.offering.instance_type, "c5.2xlarge");
    // It boots for 21 to 47 s, runs for 600 s, is empty for 30 s, and ends within some seconds.
    assert!((631..=690).contains(&kind.seconds), "{}", kind.seconds);
    assert!(
        (20..=70).contains(&figures.waiting_seconds.p50),
        "{figures:?}"
    );
    // 0.34 USD per hour, and a volume of 50 GiB beside.
    let compute = 3_400_000_000 * kind.seconds / 3_600;
    assert!((figures.usd_on_demand - compute).abs() <= 1, "{figures:?}");
    let parts = figures.usd_on_demand + figures.usd_fees;
    assert!((figures.usd_total - parts).abs() <= 1, "{figures:?}");
    assert!(figures.usd_lower_bound > 0 && figures.usd_lower_bound < figures.usd_total);
    // Six hundred seconds of that one machine, and at most five until the containers start.
    let least = (3_400_000_000 + 54_794_520) * 605 / 3_600;
    assert!(figures.usd_lower_bound <= least + 3_600, "{figures:?}");
    assert!(figures.usd_lower_bound > least * 7 / 10, "{figures:?}");
    let billed: i64 = outcome.course.moments.iter().map(|moment| moment.usd).sum();
    assert!(
        (billed - figures.usd_total).abs() < 1_000,
        "{billed} {figures:?}"
    );
}

#[test]
fn a_job_with_completions_runs_so_many_at_a_time() {
    let lines = FOUR.replace("\"count\":4", "\"count\":12,\"parallelism\":4");
    let outcome = outcome(&lines, Weather::CALM, "on-demand", "9");
    assert_eq!((outcome.figures.pods, outcome.figures.completed), (12, 12));
    assert_eq!(outcome.figures.nodes_bought, 1);
    assert!(outcome.figures.instance_seconds > 1_800);
}

#[test]
fn a_limit_makes_pods_wait_for_the_room_of_others() {
    let lines = format!(
        "{}\n{}",
        FOUR.replace("1500m", "7"),
        FOUR.replace("1500m", "7")
            // After the machine for the first was chosen: before, it would have been a larger one for all.
            .replace("\"atSeconds\":60", "\"atSeconds\":75")
    );
    let outcome = outcome(&lines, Weather::CALM, "on-demand", "1");
    let figures = &outcome.figures;
    assert_eq!(figures.completed, 8, "{figures:?}");
    assert_eq!(figures.most_nodes, 1);
    assert!(figures.waiting_seconds.most > 600, "{figures:?}");
    assert!(outcome.never_placed.is_empty());
}

#[test]
fn pods_that_fit_nowhere_are_named_with_the_reason() {
    let lines = format!("{FOUR}\n{}", FOUR.replace("1500m", "500"));
    let outcome = outcome(&lines, Weather::CALM, "on-demand", "9");
    assert_eq!(outcome.figures.completed, 4);
    let [group] = outcome.never_placed.as_slice() else {
        panic!("{:?}", outcome.never_placed);
    };
    assert_eq!((group.pods, group.load.as_str()), (4, "default/line-2"));
    assert_eq!(group.reasons, [ReasonKind::ResourcesDoNotFit]);
    assert!(
        group.message.contains("NodePool general"),
        "{}",
        group.message
    );
}

#[test]
fn taken_machines_cost_work_and_the_work_is_done_again() {
    let stormy = Weather {
        reclaimed_per_mille: 700,
        ..Weather::CALM
    };
    let lines = FOUR
        .replace("\"count\":4", "\"count\":40")
        .replace("600", "5400");
    let outcome = outcome(&lines, stormy, "spot", "90");
    let figures = &outcome.figures;
    assert!(
        figures.interruptions > 0 && figures.evictions > 0,
        "{figures:?}"
    );
    assert!(figures.lost_pod_seconds > 0, "{figures:?}");
    assert_eq!((figures.pods, figures.completed), (40, 40));
    assert_eq!(figures.instances_left, 0);
    assert!(
        outcome
            .bought
            .iter()
            .all(|kind| kind.offering.capacity_type == CapacityType::Spot)
    );
}

#[test]
fn the_same_input_gives_the_same_outcome_for_any_number_of_threads() {
    let loads = generate::loads(Profile::SparkDay, 2, 20, SignedDuration::from_hours(24));
    let usual = Weather {
        reclaimed_per_mille: 200,
        ..Weather::USUAL
    };
    let scenario = |seed| Scenario {
        begin: begin(),
        duration: SignedDuration::from_hours(24),
        seed,
        weather: usual.clone(),
        loads: loads.clone(),
    };
    let mut cheap = variant("spot", "90");
    cheap.name = "cheap".to_owned();
    let variants = [variant("on-demand", "90"), cheap];
    let all = |seed, threads| run_all(&scenario(seed), &variants, threads, &Nobody).unwrap();
    let first = all(3, 1);
    assert_eq!(first, all(3, 3));
    assert_ne!(first, all(4, 3));
    let [on_demand, spot] = first.as_slice() else {
        panic!("{}", first.len());
    };
    assert!(spot.figures.usd_total < on_demand.figures.usd_total);
    for outcome in &first {
        let figures = &outcome.figures;
        assert_eq!(figures.pods, figures.completed, "{figures:?}");
        assert!(figures.usd_lower_bound < figures.usd_total, "{figures:?}");
        assert!(
            figures.usd_lower_bound * 4 > figures.usd_total,
            "{figures:?}"
        );
        assert_eq!(figures.instances_left, 0);
    }
}

#[test]
fn services_run_to_the_end_of_the_time_and_leave_nothing() {
    let stormy = Weather {
        reclaimed_per_mille: 999,
        ..Weather::CALM
    };
    let lines = r#"{"atSeconds":0,"count":6,"ownerKind":"ReplicaSet","requests":{"cpu":"3"}}"#;
    let outcome = outcome(lines, stormy, "spot", "90");
    let figures = &outcome.figures;
    assert!(figures.evictions > 6, "{figures:?}");
    assert_eq!((figures.pods, figures.lost_pod_seconds), (6, 0));
    assert_eq!((figures.completed, figures.instances_left), (6, 0));
    assert!(
        (21_600..21_700).contains(&figures.virtual_seconds),
        "{figures:?}"
    );
}

const WORK: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: '0 2 * * *'
  jobTemplate:
    spec:
      completions: 6
      parallelism: 2
      template: {spec: {containers: [{name: a, resources: {requests: {cpu: '1'}}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 3
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: a, resources: {requests: {cpu: '1'}}}]}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: twice
  annotations: {tonnage.dev/simulate-at: '1h, 3h', tonnage.dev/simulate-run: 5m..10m}
spec:
  template: {spec: {containers: [{name: a, resources: {requests: {cpu: '1'}}}]}}
";

fn frame() -> Frame {
    Frame {
        begin: begin(),
        duration: SignedDuration::from_hours(48),
        run: Run::Between(1, 1),
    }
}

#[test]
fn manifests_become_loads_with_their_schedules() {
    let work = workloads::read(&documents("spot", "9", WORK), &frame()).unwrap();
    let hour = 3_600_000;
    let loads: Vec<(&str, i64, u32, u32, Run)> = work
        .loads
        .iter()
        .map(|load| {
            (
                load.name.as_str(),
                load.at,
                load.count,
                load.parallel,
                load.run,
            )
        })
        .collect();
    let minutes = Run::Between(300_000, 600_000);
    assert_eq!(
        loads,
        [
            ("api", 0, 3, 0, Run::ToTheEnd),
            ("twice", hour, 1, 1, minutes),
            ("nightly", 2 * hour, 6, 2, Run::Between(1, 1)),
            ("twice", 3 * hour, 1, 1, minutes),
            ("nightly", 26 * hour, 6, 2, Run::Between(1, 1)),
        ]
    );
    assert_eq!(work.assumed, ["CronJob nightly"]);
}

#[test]
fn work_that_no_memory_holds_is_refused_with_the_field() {
    let endless = WORK.replace("completions: 6", "completions: 2147483647");
    let error = workloads::read(&documents("spot", "9", &endless), &frame()).unwrap_err();
    let error = error.to_string();
    let expected =
        "CronJob nightly: spec.jobTemplate.spec.completions: with it 2147483647 pods arrive in all";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_wrong_with_a_schedule_names_file_field_and_remedy() {
    for (good, bad, said) in [
        (
            "1h, 3h",
            "soon",
            "tonnage.dev/simulate-at: `soon` is no duration: write it as 90s",
        ),
        ("5m..10m", "9m..1m", "tonnage.dev/simulate-run: "),
        (
            "0 2 * * *",
            "0 2",
            "spec.schedule: `0 2` is no schedule: give five cron fields",
        ),
    ] {
        let documents = documents("spot", "9", &WORK.replace(good, bad));
        let error = workloads::read(&documents, &frame())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("test.yaml: ") && error.contains(said),
            "{error}"
        );
    }
}

#[test]
fn a_variant_replaces_adds_and_takes_away() {
    let base = documents("spot", "9", WORK);
    let own = "
apiVersion: tonnage.dev/v1alpha1
kind: SimulationSettings
metadata: {name: s}
spec: {planBudgetMs: 7, driversOnDemand: false, preferencePremiumPercent: 0, withoutNodePools: [general]}
---
";
    let other = POOLS
        .replace("name: general", "name: other")
        .replace("MOST", "3");
    let own = read_text(
        "own.yaml",
        &format!("{own}{}", other.replace("CAPACITY", "spot")),
    )
    .unwrap();
    let merged = furniture::merged(&base, &own).unwrap();
    let variant = furniture::variant("own", &merged, &settings()).unwrap();
    let pools: Vec<&str> = variant.node_pools.keys().map(String::as_str).collect();
    assert_eq!(pools, ["other"]);
    let expected = ProvisionSettings {
        drivers_on_demand: false,
        preference_premium: Premium(0),
        ..settings().with_budget_ms(7)
    };
    assert_eq!(variant.settings, expected);
    let work = read_text("work.yaml", WORK).unwrap();
    let error = furniture::merged(&base, &work).unwrap_err().to_string();
    assert!(
        error.contains("work.yaml: CronJob nightly: a variant changes"),
        "{error}"
    );
    let wrong = read_text(
        "wrong.yaml",
        "{apiVersion: tonnage.dev/v1alpha1, kind: SimulationSettings, metadata: {name: s}, spec: {budget: 1}}",
    )
    .unwrap();
    let error = furniture::variant("wrong", &wrong, &settings())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("wrong.yaml: SimulationSettings s: spec: unknown field `budget`"),
        "{error}"
    );
    let nothing = furniture::variant("none", &[], &settings())
        .unwrap_err()
        .to_string();
    assert!(nothing.contains("none: no NodePool"), "{nothing}");
}
