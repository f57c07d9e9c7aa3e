//! What beliefs must never do: close without a refusal, stay for ever, depend on anything but the
//! evidence.

use std::slice;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::model::launch::{LaunchOverride, LaunchedInstance, Shortfall, TemplateOverrides};
use crate::model::offering::CapacityType;
use crate::plan::examples::{at, offering, world};

/// Offerings of two families, two sizes, two zones and two capacity types.
fn universe() -> Vec<OfferingKey> {
    let mut keys = Vec::new();
    for name in ["c5.xlarge", "c5.2xlarge", "m5.xlarge", "m5.2xlarge"] {
        for zone in ["us-east-1a", "us-east-1b"] {
            for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
                keys.push(OfferingKey::new(name, zone, capacity_type));
            }
        }
    }
    keys
}

/// One thing that happens to one offering.
#[derive(Debug, Clone, Copy)]
enum Evidence {
    Refused(ErrorClass),
    Bought,
    Time(i64),
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        4 => Just(Evidence::Refused(ErrorClass::InsufficientCapacity)),
        1 => Just(Evidence::Refused(ErrorClass::QuotaExceeded)),
        1 => Just(Evidence::Refused(ErrorClass::Invalid)),
        1 => Just(Evidence::Refused(ErrorClass::Throttled)),
        2 => Just(Evidence::Bought),
        3 => (1_i64..1_200).prop_map(Evidence::Time),
    ]
}

fn record(keys: &[OfferingKey]) -> LaunchRecord {
    LaunchRecord {
        batch: "batch".to_owned(),
        attempt: 1,
        size: 1,
        capacity_type: keys[0].capacity_type,
        reservation: None,
        templates: vec![TemplateOverrides {
            name: "template".to_owned(),
            overrides: keys
                .iter()
                .map(|key| LaunchOverride {
                    instance_type: key.instance_type.to_string(),
                    zone: key.zone.to_string(),
                    subnet: "subnet".to_owned(),
                    priority: 0,
                })
                .collect(),
        }],
    }
}

fn bought(key: &OfferingKey) -> LaunchOutcome {
    LaunchOutcome {
        instances: vec![LaunchedInstance {
            id: "i-1".to_owned(),
            offering: key.clone(),
            image_id: String::new(),
            subnet_id: String::new(),
        }],
        shortfalls: Vec::new(),
    }
}

/// Lets it all happen, and gives back what is believed and when that is.
fn live(story: &[(usize, Evidence)]) -> (Shortages, i64) {
    let keys = universe();
    let mut shortages = Shortages::default();
    let mut second = 0;
    for (index, evidence) in story {
        let key = &keys[index % keys.len()];
        match evidence {
            Evidence::Refused(class) => shortages.note(key, *class, at(second)),
            Evidence::Bought => {
                shortages.learn(&record(slice::from_ref(key)), &bought(key), at(second));
            }
            Evidence::Time(seconds) => second += seconds,
        }
    }
    (shortages, second)
}

fn outlook(shortages: &Shortages, key: &OfferingKey, second: i64) -> Outlook {
    let hearsay = Hearsay::of(shortages.current(at(second)));
    shortages.outlook(key, &hearsay, at(second))
}

#[test]
fn what_a_purchase_proves_silences_hearsay_for_a_while() {
    let keys = universe();
    let (spot, sibling) = (&keys[0], &keys[4]);
    let mut shortages = Shortages::default();
    shortages.learn(&record(slice::from_ref(sibling)), &bought(sibling), at(0));
    shortages.note(spot, ErrorClass::InsufficientCapacity, at(0));
    assert_eq!(outlook(&shortages, sibling, 0).shortage, 0);
    let later = outlook(&shortages, sibling, 20).shortage;
    assert!(0 < later && later < 10_000, "{later}");
    let stranger = outlook(&shortages, &keys[2], 20);
    assert!(
        later < stranger.shortage,
        "hearsay from another zone outweighs proof"
    );
}

#[test]
fn beliefs_reach_every_class_of_a_snapshot() {
    let mut snapshot = world(10, &[], &[], &[]);
    let mut second = (*snapshot.node_classes["default"]).clone();
    second.name = "second".to_owned();
    snapshot
        .node_classes
        .insert("second".to_owned(), Arc::new(second));
    let mut shortages = Shortages::default();
    let refused = offering("c5.xlarge/us-east-1a/spot");
    shortages.note(&refused, ErrorClass::InsufficientCapacity, at(0));
    shortages.mark(&mut snapshot);
    for class in snapshot.node_classes.values() {
        let told: Vec<(String, bool, u32)> = class
            .catalogue
            .offerings
            .iter()
            .filter(|offering| offering.outlook != Outlook::default())
            .map(|offering| {
                let percent = offering.outlook.shortage / 10_000;
                (offering.key.to_string(), offering.available, percent)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("c5.2xlarge/us-east-1a/spot".to_owned(), true, 22),
                ("c5.xlarge/us-east-1a/spot".to_owned(), false, 91),
                ("c5.xlarge/us-east-1b/spot".to_owned(), true, 11),
            ]
        );
    }
}

#[test]
fn a_restart_forgets_nothing_and_a_hostile_text_breaks_nothing() {
    let (shortages, second) = live(&[
        (0, Evidence::Refused(ErrorClass::InsufficientCapacity)),
        (3, Evidence::Refused(ErrorClass::QuotaExceeded)),
        (5, Evidence::Bought),
        (0, Evidence::Time(30)),
    ]);
    let text = shortages.write(at(second));
    assert_eq!(Shortages::read(&text, at(second)).unwrap(), shortages);
    for text in ["", "[]", "{}", "{\"refused\":7,\"bought\":[]}"] {
        assert!(Shortages::read(text, at(0)).is_err(), "{text}");
    }
    let hostile = r#"{"refused":[
        {"offering":"c5.xlarge/us-east-1a/spot","level":4000000000,"at":"9999-01-01T00:00:00Z",
         "halfLifeSeconds":9000000000000,"refusals":4000000000},
        {"offering":"no offering","level":1,"at":"2026-01-01T00:00:00Z","halfLifeSeconds":1,"refusals":1}
        ],"bought":[{"offering":"c5.large/us-east-1a/spot","at":"9999-01-01T00:00:00Z"}]}"#;
    let mut read = Shortages::read(hostile, at(0)).unwrap();
    let key = offering("c5.xlarge/us-east-1a/spot");
    assert_eq!(
        read.until(&key, at(0)),
        Some(at(960)),
        "at most sixteen minutes"
    );
    read.note(&key, ErrorClass::InsufficientCapacity, at(1_900));
    assert_eq!(read.until(&key, at(1_900)), Some(at(1_900 + 960)));
}

#[test]
fn what_was_learned_later_wins() {
    let key = offering("c5.xlarge/us-east-1a/spot");
    let mut refused = Shortages::default();
    refused.note(&key, ErrorClass::InsufficientCapacity, at(10));
    let mut proven = Shortages::default();
    proven.learn(&record(slice::from_ref(&key)), &bought(&key), at(20));
    let mut one = proven.clone();
    one.absorb(refused.clone());
    assert!(!one.is_short(&key, at(21)), "bought since");
    let mut again = Shortages::default();
    again.note(&key, ErrorClass::InsufficientCapacity, at(30));
    let mut other = again.clone();
    other.absorb(proven);
    assert_eq!(other, again, "refused since");
}

#[test]
fn a_quota_is_met_once_and_not_type_by_type() {
    let keys = universe();
    let asked = [keys[0].clone(), keys[2].clone()];
    let mut shortages = Shortages::default();
    let outcome = LaunchOutcome {
        instances: Vec::new(),
        shortfalls: vec![Shortfall {
            offering: Some(keys[0].clone()),
            class: ErrorClass::QuotaExceeded,
            code: "MaxSpotInstanceCountExceeded".to_owned(),
            message: String::new(),
        }],
    };
    shortages.learn(&record(&asked), &outcome, at(0));
    assert!(asked.iter().all(|key| shortages.is_short(key, at(1))));
    assert!(
        !shortages.is_short(&keys[1], at(1)),
        "on-demand has its own"
    );
}

#[test]
fn a_quota_that_was_met_stops_what_shares_it_and_is_not_smaller_whoever_asks() {
    let key = |name: &str, capacity_type| OfferingKey::new(name, "us-east-1b", capacity_type);
    let refused = key("m5.2xlarge", CapacityType::OnDemand);
    let outcome = |code: &str| LaunchOutcome {
        instances: Vec::new(),
        shortfalls: vec![Shortfall {
            offering: Some(refused.clone()),
            class: ErrorClass::QuotaExceeded,
            code: code.to_owned(),
            message: String::new(),
        }],
    };
    let asked = record(slice::from_ref(&refused));
    let mut shortages = Shortages::default();
    shortages.learn(&asked, &outcome("VcpuLimitExceeded"), at(0));
    let kept = Shortages::read(&shortages.write(at(1)), at(1)).unwrap();
    for known in [&shortages, &kept] {
        let is_short = |name: &str, capacity_type| known.is_short(&key(name, capacity_type), at(1));
        assert!(is_short("c6i.2xlarge", CapacityType::OnDemand));
        assert!(is_short("r5.24xlarge", CapacityType::OnDemand));
        assert!(
            !is_short("c6i.xlarge", CapacityType::OnDemand),
            "it is smaller"
        );
        assert!(
            !is_short("c6i.2xlarge", CapacityType::Spot),
            "spot has its own"
        );
        assert!(
            !is_short("g5.2xlarge", CapacityType::OnDemand),
            "graphics have their own"
        );
        assert!(!known.is_short(&key("c6i.2xlarge", CapacityType::OnDemand), at(61)));
    }
    let large = key("c5.4xlarge", CapacityType::OnDemand);
    shortages.learn(&record(slice::from_ref(&large)), &bought(&large), at(2));
    assert!(!shortages.is_short(&key("c6i.2xlarge", CapacityType::OnDemand), at(3)));

    let mut of_volumes = Shortages::default();
    of_volumes.learn(&asked, &outcome("VolumeLimitExceeded"), at(0));
    assert!(!of_volumes.is_short(&key("c6i.2xlarge", CapacityType::OnDemand), at(1)));
}

#[test]
fn a_quota_that_is_left_alone_is_as_small_as_the_smallest_that_met_it() {
    let key = |name: &str| OfferingKey::new(name, "us-east-1a", CapacityType::OnDemand);
    let mut shortages = Shortages::default();
    for name in ["m5.24xlarge", "m5.2xlarge", "m5.8xlarge"] {
        let refused = key(name);
        let outcome = LaunchOutcome {
            instances: Vec::new(),
            shortfalls: vec![Shortfall {
                offering: Some(refused.clone()),
                class: ErrorClass::QuotaExceeded,
                code: "VcpuLimitExceeded".to_owned(),
                message: String::new(),
            }],
        };
        shortages.learn(&record(slice::from_ref(&refused)), &outcome, at(0));
    }
    assert!(shortages.is_short(&key("c6i.4xlarge"), at(1)));
    assert!(shortages.is_short(&key("c6i.2xlarge"), at(1)));
    assert!(!shortages.is_short(&key("c6i.xlarge"), at(1)));
    let pause = shortages.until(&key("c6i.4xlarge"), at(1));
    assert_eq!(pause, Some(at(60)), "no refusal came after the pause");
}

#[test]
fn a_quota_of_one_group_of_families_stops_no_other_and_nothing_that_was_bought() {
    let [inf, m5, c5] = ["inf1.xlarge", "m5.xlarge", "c5.xlarge"]
        .map(|name| OfferingKey::new(name, "us-east-1a", CapacityType::OnDemand));
    let answer = |named: &OfferingKey| LaunchOutcome {
        shortfalls: vec![Shortfall {
            offering: Some(named.clone()),
            class: ErrorClass::QuotaExceeded,
            code: "VcpuLimitExceeded".to_owned(),
            message: String::new(),
        }],
        ..bought(&m5)
    };
    let asked = record(&[inf.clone(), m5.clone(), c5.clone()]);
    let mut shortages = Shortages::default();
    shortages.learn(&asked, &answer(&inf), at(0));
    assert!(shortages.is_short(&inf, at(1)));
    assert!(!shortages.is_short(&m5, at(1)) && !shortages.is_short(&c5, at(1)));
    shortages.learn(&asked, &answer(&c5), at(2));
    assert!(shortages.is_short(&c5, at(3)), "the standard quota is met");
    assert!(!shortages.is_short(&m5, at(3)), "it was just bought");
}

#[test]
fn a_clock_set_back_keeps_nothing_closed_for_longer() {
    let key = offering("c5.xlarge/us-east-1a/spot");
    let mut shortages = Shortages::default();
    shortages.note(&key, ErrorClass::InsufficientCapacity, at(3_600));
    shortages.forget(at(0));
    assert_eq!(shortages.until(&key, at(0)), Some(at(60)));
}

#[test]
fn a_text_stays_below_what_an_object_may_hold() {
    let mut shortages = Shortages::default();
    for number in 0..9_000 {
        let key = OfferingKey::new(
            &format!("c5-flex{number}.metal-48xlarge"),
            "ap-southeast-1-wl1-mnl-wlz-1",
            CapacityType::OnDemand,
        );
        shortages.note(&key, ErrorClass::InsufficientCapacity, at(0));
    }
    let text = shortages.write(at(0));
    assert!(text.len() < 512 * 1_024, "{} bytes", text.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(5),
        cases: 128,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_is_open_again_in_the_end(
        story in proptest::collection::vec((0_usize..16, evidence()), 1..120),
    ) {
        let (mut shortages, second) = live(&story);
        let half_hour = SignedDuration::from_mins(30).as_secs();
        for key in universe() {
            let closed = outlook(&shortages, &key, second + half_hour + 1).closed_until;
            prop_assert_eq!(closed, None, "{}", key);
        }
        // Ten half-lives of the longest kind.
        shortages.forget(at(second + 10 * half_hour));
        prop_assert_eq!(shortages, Shortages::default());
    }

    #[test]
    fn only_a_refusal_of_its_own_closes_an_offering(
        story in proptest::collection::vec((0_usize..15, evidence()), 1..120),
    ) {
        let (shortages, second) = live(&story);
        let spared = &universe()[15];
        let outlook = outlook(&shortages, spared, second);
        prop_assert_eq!(outlook.closed_until, None);
        prop_assert!(outlook.shortage < belief::CLOSED);
    }

    #[test]
    fn a_purchase_ends_the_belief(
        story in proptest::collection::vec((0_usize..16, evidence()), 1..120),
        index in 0_usize..16,
    ) {
        let (mut shortages, second) = live(&story);
        let key = &universe()[index];
        shortages.learn(&record(slice::from_ref(key)), &bought(key), at(second));
        let outlook = outlook(&shortages, key, second);
        prop_assert_eq!(outlook, Outlook::default());
    }

    #[test]
    fn equal_evidence_gives_equal_beliefs_and_time_alone_only_lessens_them(
        story in proptest::collection::vec((0_usize..16, evidence()), 1..120),
        wait in 0_i64..5_000,
    ) {
        let (shortages, second) = live(&story);
        prop_assert_eq!(&shortages, &live(&story).0);
        let text = shortages.write(at(second));
        let read = Shortages::read(&text, at(second)).unwrap();
        for key in universe() {
            let now = outlook(&shortages, &key, second);
            let own = shortages.beliefs.get(&key).map_or(0, |belief| belief.level(at(second + wait)));
            prop_assert!(own <= now.shortage);
            prop_assert_eq!(outlook(&read, &key, second).closed_until, now.closed_until);
        }
    }
}

#[test]
fn a_reservation_that_is_full_says_nothing_of_others_and_is_kept_across_a_restart() {
    let key = offering("c5.xlarge/us-east-1a/reserved");
    let into = |id: &str| LaunchRecord {
        reservation: Some(id.to_owned()),
        ..record(slice::from_ref(&key))
    };
    let mut shortages = Shortages::default();
    shortages.note_all(&into("cr-1"), ErrorClass::InsufficientCapacity, at(0));
    let shortages = Shortages::read(&shortages.write(at(1)), at(1)).unwrap();
    let mut known = Shortages::default();
    known.absorb(shortages);
    let until = |known: &Shortages, id| known.until_of((&key, Some(id)), at(1));
    assert_eq!(until(&known, "cr-1"), Some(at(60)));
    assert_eq!(until(&known, "cr-2"), None);
    assert!(!known.is_short(&key, at(1)));
    known.learn(&into("cr-1"), &bought(&key), at(2));
    assert_eq!(until(&known, "cr-1"), None);
}
