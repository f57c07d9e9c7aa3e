//! Messages as EventBridge writes them, and as nobody should.

use serde_json::{Value, json};

use super::*;

fn ours() -> Addressee {
    Addressee {
        account: Some("123456789012".to_owned()),
        region: Some("us-east-1".to_owned()),
    }
}

fn event(source: &str, detail_type: &str, detail: &Value) -> Value {
    json!({
        "version": "0", "id": "e", "source": source, "detail-type": detail_type,
        "account": "123456789012", "region": "us-east-1", "time": "2026-11-28T10:00:00Z",
        "resources": [], "detail": detail,
    })
}

fn read_one(detail_type: &str, detail: &Value) -> Result<NoticeKind, Unread> {
    let text = event("aws.ec2", detail_type, detail).to_string();
    read(&text, &ours()).map(|notices| {
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].subject, "i-0123456789abcdef0");
        assert_eq!(notices[0].at.to_string(), "2026-11-28T10:00:00Z");
        notices[0].kind.clone()
    })
}

#[test]
fn every_announcement_about_one_machine_is_read() {
    let machine = |state: &str| json!({"instance-id": "i-0123456789abcdef0", "state": state, "instance-action": "terminate"});
    let told = [
        "EC2 Spot Instance Interruption Warning",
        "EC2 Capacity Reservation Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
        "EC2 Instance State-change Notification",
    ]
    .map(|detail_type| {
        read_one(detail_type, &machine("stopping"))
            .unwrap()
            .as_str()
    });
    assert_eq!(
        told,
        [
            "spot_interrupted",
            "capacity_reservation_interrupted",
            "rebalance_recommendation",
            "state_change"
        ]
    );
    let runs = read_one(
        "EC2 Instance State-change Notification",
        &machine("running"),
    );
    assert_eq!(runs, Err(Unread::Irrelevant));
}

/// What the warning about a block says.
fn block(detail_type: &str, detail: &Value) -> Result<Vec<Notice>, Unread> {
    let text = event("aws.ec2", detail_type, detail).to_string();
    read(&text, &ours())
}

const BLOCK: &str = "Capacity Block Expiration Warning";

#[test]
fn a_block_that_expires_is_named_with_its_end_by_either_name_of_the_event() {
    for detail_type in [BLOCK, "Capacity Block Reservation Expiration Warning"] {
        for end in ["2026-11-28T10:41:00Z", "Sat, 28 Nov 2026 10:41:00 GMT"] {
            let detail =
                json!({ "capacity-reservation-id": "cr-0123456789abcdef0", "end-date": end });
            let notices = block(detail_type, &detail).unwrap();
            let expected = Notice {
                subject: "cr-0123456789abcdef0".to_owned(),
                kind: NoticeKind::CapacityBlockExpiring {
                    end: BlockEnd("2026-11-28T10:41:00Z".parse().unwrap()),
                },
                at: "2026-11-28T10:00:00Z".parse().unwrap(),
            };
            assert_eq!(notices, [expected], "{detail_type} {end}");
        }
    }
}

/// The user guide says that it is given forty minutes before, and not how the end is written.
#[test]
fn the_end_of_a_block_that_cannot_be_read_counts_from_the_warning() {
    let counted = BlockEnd("2026-11-28T10:40:00Z".parse().unwrap());
    for end in [
        json!(null),
        json!(""),
        json!("[ODCR End Date]"),
        json!(1_795_000_000),
    ] {
        let detail = json!({ "capacity-reservation-id": "cr-0123456789abcdef0", "end-date": end });
        let notices = block(BLOCK, &detail).unwrap();
        let kind = NoticeKind::CapacityBlockExpiring { end: counted };
        assert_eq!(notices[0].kind, kind, "{detail}");
    }
    for id in ["", "cr-", "cr-1", "i-0123456789abcdef0", "cr-01234567\nx"] {
        let detail = json!({ "capacity-reservation-id": id });
        assert_eq!(block(BLOCK, &detail), Err(Unread::Malformed), "{id:?}");
    }
    assert_eq!(block(BLOCK, &json!({})), Err(Unread::Malformed));
    let delivered = json!({ "capacity-reservation-id": "cr-0123456789abcdef0" });
    let delivered = block("Capacity Block Delivered", &delivered);
    assert_eq!(delivered, Err(Unread::Irrelevant));
}

/// A scheduled change of two machines and a volume.
fn change(code: &str, status: &str) -> Result<Vec<Notice>, Unread> {
    change_at(code, status, &json!("Sat, 12 Dec 2026 09:00:00 GMT"))
}

/// The same, with a time that is written so.
fn change_at(code: &str, status: &str, start: &Value) -> Result<Vec<Notice>, Unread> {
    let detail = json!({
        "eventArn": "arn:aws:health:us-east-1::event/EC2/x", "service": "EC2",
        "eventTypeCode": code,
        "eventTypeCategory": "scheduledChange", "statusCode": status,
        "startTime": start,
        "affectedEntities": [
            {"entityValue": "i-0123456789abcdef0"}, {"entityValue": "vol-1"}, {"entityValue": "i-0123456789abcdef1"},
        ],
    });
    let text = event("aws.health", "AWS Health Event", &detail).to_string();
    read(&text, &ours())
}

#[test]
fn maintenance_names_its_machines_and_its_beginning() {
    let begins = Some("2026-12-12T09:00:00Z".parse().unwrap());
    for code in [
        "AWS_EC2_INSTANCE_POWER_MAINTENANCE_SCHEDULED",
        "AWS_EC2_INSTANCE_REBOOT_FLEXIBLE_MAINTENANCE_SCHEDULED",
        "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED",
        "AWS_EC2_INSTANCE_RETIREMENT_EXPEDITED",
        "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "AWS_EC2_INSTANCE_STOP_SCHEDULED",
        "AWS_EC2_INSTANCE_TERMINATION_SCHEDULED",
        "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED",
        "AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED",
    ] {
        let notices = change(code, "upcoming").unwrap();
        assert_eq!(notices.len(), 2, "{code}");
        let kind = NoticeKind::ScheduledChange { begins };
        assert!(notices.iter().all(|notice| notice.kind == kind), "{code}");
        for status in ["closed", "completed", "cancelled"] {
            let over = change(code, status).unwrap();
            assert_eq!(over[0].kind, NoticeKind::MaintenanceOver, "{code} {status}");
        }
    }
}

#[test]
fn a_time_is_read_in_every_form_and_a_wrong_day_of_the_week_costs_nobody_the_machine() {
    let begins = Some("2026-12-12T09:00:00Z".parse().unwrap());
    for start in [
        "Sat, 12 Dec 2026 09:00:00 GMT",
        "Mon, 12 Dec 2026 09:00:00 GMT",
        "12 Dec 2026 09:00:00 +0000",
        "2026-12-12T09:00:00Z",
        " 2026-12-12T10:00:00+01:00 ",
    ] {
        let notices = change_at(RETIRED, "upcoming", &json!(start)).unwrap();
        let kind = NoticeKind::ScheduledChange { begins };
        assert!(notices.iter().all(|notice| notice.kind == kind), "{start}");
    }
}

const RETIRED: &str = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED";

#[test]
fn a_change_without_a_time_moves_nobody_before_it_is_under_way() {
    let left_alone = |why| NoticeKind::ScheduledChangeLeftAlone {
        code: RETIRED.to_owned(),
        why,
    };
    let under_way = NoticeKind::ScheduledChange { begins: None };
    for (status, start, expected) in [
        ("upcoming", json!(null), left_alone(LeftAlone::NoTime)),
        ("upcoming", json!(""), left_alone(LeftAlone::NoTime)),
        ("", json!(null), left_alone(LeftAlone::NoTime)),
        ("open", json!(null), under_way),
    ] {
        let notices = change_at(RETIRED, status, &start).unwrap();
        assert_eq!(notices[0].kind, expected, "{status} {start}");
        assert_ne!(notices[0].kind.as_str(), "malformed");
    }
}

#[test]
fn a_change_whose_time_cannot_be_read_counts_as_malformed_and_moves_nobody() {
    for start in [
        json!("Sat, 31 Feb 2026 09:00:00 GMT"),
        json!("in two weeks"),
        json!(1_797_066_000),
        json!({}),
    ] {
        for status in ["upcoming", "open"] {
            let notices = change_at(RETIRED, status, &start).unwrap();
            let kind = NoticeKind::ScheduledChangeLeftAlone {
                code: RETIRED.to_owned(),
                why: LeftAlone::UnreadableTime,
            };
            assert_eq!(notices.len(), 2);
            assert!(notices.iter().all(|notice| notice.kind == kind), "{start}");
            assert_eq!(kind.as_str(), "malformed");
        }
        let over = change_at(RETIRED, "closed", &start).unwrap();
        assert_eq!(over[0].kind, NoticeKind::MaintenanceOver);
    }
}

#[test]
fn a_change_that_machines_outlive_or_that_nobody_knows_is_told_of_and_no_more() {
    for code in [
        "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED",
        "AWS_EC2_SYSTEM_MAINTENANCE_EVENT",
        "AWS_EC2_STOPWATCH_INVENTED_TOMORROW",
    ] {
        let notices = change(code, "upcoming").unwrap();
        let kind = NoticeKind::ScheduledChangeLeftAlone {
            code: code.to_owned(),
            why: LeftAlone::Outlived,
        };
        assert_eq!(notices.len(), 2);
        assert!(notices.iter().all(|notice| notice.kind == kind), "{code}");
        assert_eq!(change(code, "closed"), Err(Unread::Irrelevant), "{code}");
    }
    let long = "A".repeat(LONGEST_CODE + 1);
    for code in ["", "AWS EC2 STOP", "AWS_EC2_STOP\nforged", &long] {
        assert_eq!(change(code, "upcoming"), Err(Unread::Malformed), "{code:?}");
    }
}

#[test]
fn what_is_not_ours_or_no_event_announces_nothing() {
    let warning = |id: &str| {
        let detail = json!({"instance-id": id, "instance-action": "terminate"});
        event("aws.ec2", "EC2 Spot Instance Interruption Warning", &detail)
    };
    let good = warning("i-0123456789abcdef0");
    let with = |key: &str, value: &str| {
        let mut changed = good.clone();
        changed[key] = json!(value);
        read(&changed.to_string(), &ours())
    };
    assert_eq!(with("account", "999999999999"), Err(Unread::Foreign));
    assert_eq!(with("region", "eu-west-1"), Err(Unread::Foreign));
    assert_eq!(with("source", "evil"), Err(Unread::Irrelevant));
    assert_eq!(
        with("detail-type", "EC2 Something New"),
        Err(Unread::Irrelevant)
    );
    assert_eq!(with("time", "yesterday"), Err(Unread::Malformed));
    for text in ["", "{", "[]", "null", "{\"source\":\"aws.ec2\"}"] {
        assert_eq!(read(text, &ours()), Err(Unread::Malformed), "{text}");
    }
    for id in [
        "",
        "i-",
        "i-zzzzzzzz",
        "i-0123456789abcdef0\nforged",
        "../../x",
    ] {
        let read = read(&warning(id).to_string(), &ours());
        assert_eq!(read, Err(Unread::Malformed), "{id:?}");
    }
    let padded = format!("{}{}", good, " ".repeat(LARGEST));
    assert_eq!(read(&padded, &ours()), Err(Unread::Malformed));
    assert!(read(&good.to_string(), &Addressee::default()).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,400}") {
        drop(read(&text, &ours()));
    }
}
