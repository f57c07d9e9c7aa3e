//! EventBridge's messages about machines, from the queue that EC2's announcements are sent to.
//!
//! Given the text of a message and whose queue it came from; given back the notices in it, or why
//! there are none. Anybody who may send to the queue chooses the text, so nothing in it is trusted
//! beyond naming a machine or a capacity block: that a claim owns the machine, or is in the block, is checked where it is
//! acted on. Shapes: "EC2 events" in the EventBridge reference, "Monitor Capacity Blocks using EventBridge" in the EC2
//! user guide and "AWS Health events" in the Health user guide.

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Deserialize;
use serde_json::Value;

use super::CloudError;
use crate::model::notice::{LeftAlone, Notice, NoticeKind, Unread};
use crate::model::reservation::BlockEnd;

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
/// Reads times as mails have them. A day of the week that is not that of the date makes the date no less certain.
static MAIL: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

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
    detail: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OneMachine {
    instance_id: String,
    #[serde(default)]
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct OneBlock {
    capacity_reservation_id: String,
    #[serde(default)]
    end_date: Value,
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
    start_time: Value,
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
        "aws.ec2" if is_of_a_block(&envelope.detail_type) => one_block(envelope),
        "aws.ec2" => one_machine(envelope),
        "aws.health" if envelope.detail_type == "AWS Health Event" => health(envelope),
        _ => Err(Unread::Irrelevant),
    }
}

fn detail<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Unread> {
    serde_json::from_value(value).map_err(|_error| Unread::Malformed)
}

/// Ids are copied into logs, events and calls, so they must look like ids.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_instance_id(text: &str) -> bool {
    is_id(text, "i-")
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
        subject: machine.instance_id,
        kind,
        at: envelope.time,
    }])
}

/// True for both names that the user guide has had for it: the pages of China keep the longer one.
fn is_of_a_block(detail_type: &str) -> bool {
    matches!(
        detail_type,
        "Capacity Block Expiration Warning" | "Capacity Block Reservation Expiration Warning"
    )
}

/// A block that expires. In what form EC2 writes its end is documented nowhere; when the warning is given is.
fn one_block(envelope: Envelope) -> Result<Vec<Notice>, Unread> {
    let block: OneBlock = detail(envelope.detail)?;
    if !is_id(&block.capacity_reservation_id, "cr-") {
        return Err(Unread::Malformed);
    }
    let told = moment(&block.end_date).ok().flatten();
    let end = told.map_or_else(|| BlockEnd::announced_at(envelope.time), BlockEnd);
    Ok(vec![Notice {
        subject: block.capacity_reservation_id,
        kind: NoticeKind::CapacityBlockExpiring { end },
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
        (true, false) => begins(event.event_type_code, &event.status_code, &event.start_time),
        // Nothing was done about it, so there is nothing to take back: least of all what another event wants.
        (false, true) => return Err(Unread::Irrelevant),
        (false, false) => NoticeKind::ScheduledChangeLeftAlone {
            code: event.event_type_code,
            why: LeftAlone::Outlived,
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
        .map(|subject| Notice {
            subject,
            kind: kind.clone(),
            at: envelope.time,
        })
        .collect())
}

/// A change that ends what runs on its machines, by when it begins. Announced weeks ahead, it must not end jobs because of
/// a time that nobody can read: without one, only a change that is under way moves anybody.
fn begins(code: String, status: &str, start: &Value) -> NoticeKind {
    let why = match moment(start) {
        Ok(None) if status != "open" => LeftAlone::NoTime,
        Ok(begins) => return NoticeKind::ScheduledChange { begins },
        Err(_unread) => LeftAlone::UnreadableTime,
    };
    NoticeKind::ScheduledChangeLeftAlone { code, why }
}

/// A time of an event, `None` where there is none. Health writes times as RFC 2822 or RFC 3339.
fn moment(value: &Value) -> Result<Option<Timestamp>, Unread> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.trim(),
        _ => return Err(Unread::Malformed),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let read = text.parse::<Timestamp>();
    let read = read.or_else(|_error| MAIL.parse_timestamp(text));
    read.map(Some).map_err(|_error| Unread::Malformed)
}

#[cfg(test)]
mod tests;
