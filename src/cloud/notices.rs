//! EventBridge's messages about machines, from the queue that EC2's announcements are sent to.
//!
//! Given the text of a message and whose queue it came from; given back the notices in it, or why
//! there are none. Anybody who may send to the queue chooses the text, so nothing in it is trusted
//! beyond naming a machine: that a claim owns the machine is checked where it is acted on. Shapes:
//! "EC2 events" in the EventBridge reference and "AWS Health events" in the Health user guide.

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;

use super::CloudError;
use crate::model::notice::{Notice, NoticeKind, Unread};

/// The largest message that is read, bytes. SQS carries at most 256 KiB of an EventBridge event.
const LARGEST: usize = 256 * 1024;
/// The most machines that one message may name; Health lists at most 100 entities an event page.
const MOST_MACHINES: usize = 1_000;
/// Words in the type of a scheduled change after which nothing that ran on the machine runs on. Several types say the
/// same of different machines and hastes (`PERSISTENT`, `EXPEDITED`, `FLEXIBLE`), so words are looked for and not
/// types. A machine without power starts anew as one that is rebooted does ("Scheduled events for Amazon EC2
/// instances" in the EC2 user guide).
const ENDING: [&str; 6] = [
    "POWER",
    "REBOOT",
    "RETIREMENT",
    "STOP",
    "TERMINATE",
    "TERMINATION",
];
/// The longest type of an event ("Event" in the Health API reference).
const LONGEST_CODE: usize = 100;

/// A message as the queue hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What acknowledges it.
    pub receipt: String,
    /// The EventBridge event, JSON.
    pub body: String,
}

/// The queue of announcements.
pub trait NoticeSource: Send + Sync + fmt::Debug {
    /// Waits for messages; an empty answer after a while is usual. A message that is not acknowledged
    /// comes again.
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Delivery>, CloudError>>;

    /// Takes messages out of the queue.
    fn acknowledge<'call>(
        &'call self,
        receipts: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>>;

    /// Whose messages the queue is for.
    fn addressee(&self) -> Addressee;
}

/// Whose announcements count; `None` where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addressee {
    /// Number of the AWS account, twelve digits.
    pub account: Option<String>,
    /// For example `us-east-1`.
    pub region: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Envelope {
    source: String,
    detail_type: String,
    account: String,
    region: String,
    time: Timestamp,
    #[serde(default)]
    detail: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OneMachine {
    instance_id: String,
    #[serde(default)]
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    service: String,
    event_type_code: String,
    event_type_category: String,
    #[serde(default)]
    status_code: String,
    #[serde(default)]
    start_time: String,
    #[serde(default)]
    affected_entities: Vec<Entity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entity {
    entity_value: String,
}

/// Reads a message.
///
/// # Errors
/// Why it announces nothing. Such a message is taken out of the queue all the same.
pub fn read(body: &str, addressee: &Addressee) -> Result<Vec<Notice>, Unread> {
    if body.len() > LARGEST {
        return Err(Unread::Malformed);
    }
    let envelope: Envelope = serde_json::from_str(body).map_err(|_error| Unread::Malformed)?;
    let other = |expected: &Option<String>, found: &str| {
        expected
            .as_deref()
            .is_some_and(|expected| expected != found)
    };
    if other(&addressee.account, &envelope.account) || other(&addressee.region, &envelope.region) {
        return Err(Unread::Foreign);
    }
    match envelope.source.as_str() {
        "aws.ec2" => one_machine(envelope),
        "aws.health" if envelope.detail_type == "AWS Health Event" => health(envelope),
        _ => Err(Unread::Irrelevant),
    }
}

fn detail<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Unread> {
    serde_json::from_value(value).map_err(|_error| Unread::Malformed)
}

/// Ids are copied into logs, events and calls, so they must look like ids.
fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The type of an event is copied into events and logs, so it must look like one.
fn is_event_type(code: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (3..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(is_of_it)
}

fn one_machine(envelope: Envelope) -> Result<Vec<Notice>, Unread> {
    let ending = ["stopping", "stopped", "shutting-down", "terminated"];
    let kind = match envelope.detail_type.as_str() {
        "EC2 Spot Instance Interruption Warning" => NoticeKind::SpotInterruption,
        "EC2 Capacity Reservation Instance Interruption Warning" => {
            NoticeKind::ReservationInterruption
        }
        "EC2 Instance Rebalance Recommendation" => NoticeKind::RebalanceRecommendation,
        "EC2 Instance State-change Notification" => NoticeKind::StateChange,
        _ => return Err(Unread::Irrelevant),
    };
    let machine: OneMachine = detail(envelope.detail)?;
    if !is_instance_id(&machine.instance_id) {
        return Err(Unread::Malformed);
    }
    if kind == NoticeKind::StateChange && !ending.contains(&machine.state.as_str()) {
        return Err(Unread::Irrelevant);
    }
    Ok(vec![Notice {
        instance: machine.instance_id,
        kind,
        at: envelope.time,
    }])
}

fn health(envelope: Envelope) -> Result<Vec<Notice>, Unread> {
    let event: Health = detail(envelope.detail)?;
    let over = matches!(
        event.status_code.as_str(),
        "closed" | "completed" | "cancelled"
    );
    if event.service != "EC2" || event.event_type_category != "scheduledChange" {
        return Err(Unread::Irrelevant);
    }
    if !is_event_type(&event.event_type_code) {
        return Err(Unread::Malformed);
    }
    let mut words = event.event_type_code.split('_');
    let kind = match (words.any(|word| ENDING.contains(&word)), over) {
        (true, true) => NoticeKind::MaintenanceOver,
        (true, false) => NoticeKind::ScheduledChange {
            begins: begins(&event.start_time),
        },
        // Nothing was done about it, so there is nothing to take back: least of all what another event wants.
        (false, true) => return Err(Unread::Irrelevant),
        (false, false) => NoticeKind::ScheduledChangeLeftAlone {
            code: event.event_type_code,
        },
    };
    let machines: Vec<String> = event
        .affected_entities
        .into_iter()
        .map(|entity| entity.entity_value)
        .filter(|id| is_instance_id(id))
        .take(MOST_MACHINES)
        .collect();
    if machines.is_empty() {
        return Err(Unread::Irrelevant);
    }
    Ok(machines
        .into_iter()
        .map(|instance| Notice {
            instance,
            kind: kind.clone(),
            at: envelope.time,
        })
        .collect())
}

/// Health writes times as RFC 2822 or RFC 3339.
fn begins(text: &str) -> Option<Timestamp> {
    let mail = || jiff::fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp());
    text.parse().or_else(|_error| mail()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours() -> Addressee {
        Addressee {
            account: Some("123456789012".to_owned()),
            region: Some("us-east-1".to_owned()),
        }
    }

    fn event(source: &str, detail_type: &str, detail: &serde_json::Value) -> serde_json::Value {
        json!({
            "version": "0", "id": "e", "source": source, "detail-type": detail_type,
            "account": "123456789012", "region": "us-east-1", "time": "2026-11-28T10:00:00Z",
            "resources": [], "detail": detail,
        })
    }

    fn read_one(detail_type: &str, detail: &serde_json::Value) -> Result<NoticeKind, Unread> {
        let text = event("aws.ec2", detail_type, detail).to_string();
        read(&text, &ours()).map(|notices| {
            assert_eq!(notices.len(), 1);
            assert_eq!(notices[0].instance, "i-0123456789abcdef0");
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

    /// A scheduled change of two machines and a volume.
    fn change(code: &str, status: &str) -> Result<Vec<Notice>, Unread> {
        let detail = json!({
            "eventArn": "arn:aws:health:us-east-1::event/EC2/x", "service": "EC2",
            "eventTypeCode": code,
            "eventTypeCategory": "scheduledChange", "statusCode": status,
            "startTime": "Sat, 12 Dec 2026 09:00:00 GMT",
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
    fn a_change_that_machines_outlive_or_that_nobody_knows_is_told_of_and_no_more() {
        for code in [
            "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED",
            "AWS_EC2_SYSTEM_MAINTENANCE_EVENT",
            "AWS_EC2_STOPWATCH_INVENTED_TOMORROW",
        ] {
            let notices = change(code, "upcoming").unwrap();
            let kind = NoticeKind::ScheduledChangeLeftAlone {
                code: code.to_owned(),
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
}
