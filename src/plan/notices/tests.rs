//! What follows from announcements, told as stories of one claim or a few.

use super::*;
use crate::plan::examples::{as_spot, at, initialized, world};

fn spot(name: &str) -> Claim {
    as_spot(initialized(name))
}

fn notice(name: &str, kind: NoticeKind) -> Notice {
    Notice {
        subject: format!("i-{name}"),
        kind,
        at: at(100),
    }
}

fn deadline(heeded: &Heeded) -> Option<Timestamp> {
    match heeded.decision.steps.as_slice() {
        [NoticeStep::End { deadline, .. }] => *deadline,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interrupted_machine_is_drained_by_the_time_it_is_taken() {
    let notices = [
        notice("a", NoticeKind::SpotInterruption),
        notice("nobodys", NoticeKind::SpotInterruption),
    ];
    let heeded = decide(&world(101, &[spot("a"), spot("b")], &[], &[]), &notices);
    assert_eq!(deadline(&heeded), Some(at(210)));
    assert_eq!(heeded.unowned, 1);
    let scarce: Vec<String> = heeded.scarce.iter().map(ToString::to_string).collect();
    assert_eq!(scarce, ["c5.xlarge/us-east-1a/spot"]);
    let taken = [(
        "c5.xlarge/us-east-1a/spot".parse().unwrap(),
        "i-a".to_owned(),
    )];
    assert_eq!(
        (heeded.taken.as_slice(), heeded.advised.len()),
        (&taken[..], 0)
    );
}

#[test]
fn a_young_notice_is_not_decided_while_a_claim_waits_for_its_machine() {
    let mut waiting = spot("a");
    waiting.provider_id = String::new();
    let notices = [notice("a", NoticeKind::SpotInterruption)];
    let undecided = |second, claims: &[Claim]| {
        let heeded = decide(&world(second, claims, &[], &[]), &notices);
        assert_eq!(heeded.unowned, 1);
        heeded.undecided
    };
    assert_eq!(undecided(101, std::slice::from_ref(&waiting)), 1);
    assert_eq!(undecided(101, &[spot("b")]), 0, "nobody waits");
    assert_eq!(undecided(360, &[waiting]), 0, "it would be known by now");
}

#[test]
fn a_repeated_notice_changes_nothing_and_a_going_claim_gets_the_sooner_deadline() {
    let mut going = spot("a");
    going.deleting_since = Some(at(50));
    let notices = [notice("a", NoticeKind::SpotInterruption)];
    let heeded = decide(
        &world(101, std::slice::from_ref(&going), &[], &[]),
        &notices,
    );
    assert_eq!(deadline(&heeded), Some(at(210)), "it had none");
    let written = at(210).to_string();
    going
        .annotations
        .insert(labels::TERMINATION_TIMESTAMP.to_owned(), written);
    let heeded = decide(&world(102, &[going], &[], &[]), &notices);
    assert_eq!(heeded.decision.steps, []);
}

#[test]
fn a_recommendation_disturbs_nobody() {
    let notices = [notice("a", NoticeKind::RebalanceRecommendation)];
    let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    assert!(matches!(
        heeded.decision.steps.as_slice(),
        [NoticeStep::Tell { .. }]
    ));
    assert_eq!(heeded.scarce.len(), 1);
}

#[test]
fn maintenance_is_written_down_and_acted_on_an_hour_before() {
    let begins = at(100_000);
    let kind = NoticeKind::ScheduledChange {
        begins: Some(begins),
    };
    let notices = [notice("a", kind)];
    let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    assert!(matches!(
        heeded.decision.steps.as_slice(),
        [NoticeStep::Schedule { begins: found, .. }] if *found == Some(begins)
    ));
    let mut told = spot("a");
    told.annotations
        .insert(labels::MAINTENANCE.to_owned(), begins.to_string());
    let again = decide(&world(102, std::slice::from_ref(&told), &[], &[]), &notices);
    assert_eq!(again.decision.steps, []);
    let early = due(&world(102, std::slice::from_ref(&told), &[], &[]));
    assert_eq!(
        (early.steps.len(), early.wake),
        (0, Some(at(100_000 - 3_600)))
    );
    let near = due(&world(100_000 - 3_600, &[told], &[], &[]));
    assert!(matches!(
        near.steps.as_slice(),
        [NoticeStep::End { deadline: Some(found), .. }] if *found == begins
    ));
}

#[test]
fn a_change_that_pods_outlive_moves_none_and_a_going_machine_is_not_spoken_of() {
    let code = "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED".to_owned();
    let why = LeftAlone::Outlived;
    let kind = NoticeKind::ScheduledChangeLeftAlone { code, why };
    let notices = [notice("a", kind)];
    let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    let [NoticeStep::Tell { message, .. }] = heeded.decision.steps.as_slice() else {
        panic!("{:?}", heeded.decision.steps);
    };
    assert!(
        message.contains("INSTANCE_NETWORK_MAINTENANCE"),
        "{message}"
    );
    let mut going = spot("a");
    going.deleting_since = Some(at(50));
    let heeded = decide(&world(101, &[going], &[], &[]), &notices);
    assert_eq!(heeded.decision.steps, []);
}

#[test]
fn maintenance_that_is_called_off_is_forgotten() {
    let notices = [notice("a", NoticeKind::MaintenanceOver)];
    let untold = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    assert_eq!(untold.decision.steps, []);
    let mut told = spot("a");
    told.annotations
        .insert(labels::MAINTENANCE.to_owned(), at(100_000).to_string());
    let heeded = decide(&world(101, &[told], &[], &[]), &notices);
    assert!(matches!(
        heeded.decision.steps.as_slice(),
        [NoticeStep::Schedule { begins: None, .. }]
    ));
}

#[test]
fn a_machine_that_stops_is_looked_at() {
    let notices = [notice("a", NoticeKind::StateChange)];
    let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    assert_eq!(heeded.decision.steps, []);
    assert!(heeded.decision.look_at.contains("i-a"));
}

#[test]
fn a_change_without_a_time_that_can_be_read_moves_nobody_and_says_so() {
    for (why, said) in [
        (LeftAlone::NoTime, "does not say when"),
        (LeftAlone::UnreadableTime, "cannot read"),
    ] {
        let code = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED".to_owned();
        let notices = [notice(
            "a",
            NoticeKind::ScheduledChangeLeftAlone { code, why },
        )];
        let mut told = spot("a");
        let written = at(100_000).to_string();
        told.annotations
            .insert(labels::MAINTENANCE.to_owned(), written);
        let heeded = decide(&world(101, &[told], &[], &[]), &notices);
        let [NoticeStep::Tell { message, .. }] = heeded.decision.steps.as_slice() else {
            panic!("{:?}", heeded.decision.steps);
        };
        assert!(
            message.contains(said) && message.contains("delete the NodeClaim"),
            "{message}"
        );
    }
}

#[test]
fn a_change_that_is_under_way_moves_pods_at_once_whenever_it_began() {
    let notices = [notice("a", NoticeKind::ScheduledChange { begins: None })];
    let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
    assert_eq!(deadline(&heeded), None);
}

/// Blocks end an hour after the beginning of the tests' time.
const BLOCK: &str = "cr-0123456789abcdef0";
const END: i64 = 3_600;

/// A claim in a capacity block.
fn in_block(name: &str, block: &str) -> Claim {
    let mut claim = initialized(name);
    let id = (labels::CAPACITY_RESERVATION_ID.to_owned(), block.to_owned());
    Arc::make_mut(&mut claim.labels).extend([id]);
    claim
}

/// EC2 says that the block expires, which ends then.
fn expiring(end: i64) -> [Notice; 1] {
    let kind = NoticeKind::CapacityBlockExpiring {
        end: BlockEnd(at(end)),
    };
    [Notice {
        subject: BLOCK.to_owned(),
        kind,
        at: at(END - 2_400),
    }]
}

#[test]
fn the_claims_in_a_block_that_expires_are_drained_as_where_its_end_was_known() {
    let unknown = [
        in_block("a", BLOCK),
        in_block("b", "cr-0123456789abcdef1"),
        spot("c"),
    ];
    let announced = decide(&world(END - 2_400, &unknown, &[], &[]), &expiring(END));
    assert_eq!(announced.unowned, 0);
    let mut known = unknown[0].clone();
    let end = (labels::CAPACITY_BLOCK_END.to_owned(), at(END).to_string());
    known.annotations.extend([end]);
    let polled = due(&world(END - 2_400, &[known], &[], &[]));
    let told = |steps: &[NoticeStep]| match steps {
        [
            NoticeStep::End {
                claim,
                deadline,
                reason,
                message,
            },
        ] => (claim.name.clone(), *deadline, *reason, message.clone()),
        other => panic!("{other:?}"),
    };
    let (name, deadline, ..) = told(&announced.decision.steps);
    assert_eq!((name.as_str(), deadline), ("a", Some(at(END - 1_800))));
    assert_eq!(told(&announced.decision.steps), told(&polled.steps));
}

#[test]
fn a_claim_that_leaves_its_block_already_is_asked_once_and_none_is_asked_hours_before() {
    let decided = |second: i64, claim: &Claim, end: i64| {
        let world = world(second, std::slice::from_ref(claim), &[], &[]);
        decide(&world, &expiring(end)).decision.steps.len()
    };
    let staying = in_block("a", BLOCK);
    let from = END - 2_400;
    assert_eq!(decided(from - 10, &staying, END), 1, "clocks differ");
    assert_eq!(
        decided(from, &staying, END + 7_200),
        0,
        "it contradicts itself"
    );
    let mut going = staying;
    going.deleting_since = Some(at(from));
    assert_eq!(decided(from, &going, END), 1, "it has no deadline");
    let mut leave = |second: i64| {
        let key = labels::TERMINATION_TIMESTAMP.to_owned();
        going.annotations.insert(key, at(second).to_string());
        decided(from, &going, END)
    };
    assert_eq!(leave(END), 1, "a later one");
    assert_eq!(leave(END - 1_800), 0);
    let nobody = decide(&world(from, &[spot("c")], &[], &[]), &expiring(END));
    assert_eq!((nobody.unowned, nobody.undecided), (1, 0));
}
