//! The queue of announcements on the wire: that of the endpoint's cluster, found by its name, emptied in batches.
//!
//! Sources: "GetQueueUrl", "ReceiveMessage" and "DeleteMessageBatch" in the SQS API reference. Checksums of messages
//! are left out: nobody asks for them.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Desk;
use super::form::Part;
use crate::cloud::facts::BUILT_IN_REGION;
use crate::sim::ec2::account::ACCOUNT;
use crate::sim::ec2::queue::{HIDDEN, MOST, WAIT};
use crate::sim::ec2::refusal::Refusal;

/// The queue that a request is about: by name, or by the address that it was told.
pub(super) fn name<'form>(desk: &Desk<'form>) -> Result<&'form str, Refusal> {
    if let Some(name) = desk.all.text("QueueName") {
        return Ok(name);
    }
    let address = desk.all.required("QueueUrl")?;
    Ok(address.rsplit('/').next().unwrap_or(address))
}

/// The ARN of a queue of the account.
pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{BUILT_IN_REGION}:{ACCOUNT}:{name}")
}

/// How long a request waits for messages.
pub(super) fn wait(all: &Part<'_>) -> Duration {
    let seconds = all.number("WaitTimeSeconds").ok().flatten().unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(WAIT)
}

/// Refuses what is about another queue than the cluster's.
fn known<'form>(desk: &Desk<'form>) -> Result<&'form str, Refusal> {
    let name = name(desk)?;
    if name.strip_prefix("tonnage-") == Some(desk.discovery) {
        return Ok(name);
    }
    Err(Refusal::new(
        "QueueDoesNotExist",
        "The specified queue does not exist.",
    ))
}

pub(super) fn address(desk: &Desk<'_>) -> Result<Value, Refusal> {
    let name = known(desk)?;
    let address = format!("https://sqs.{BUILT_IN_REGION}.amazonaws.com/{ACCOUNT}/{name}");
    Ok(json!({ "QueueUrl": address }))
}

pub(super) fn receive(desk: &mut Desk<'_>) -> Result<Value, Refusal> {
    known(desk)?;
    let most = desk.all.number("MaxNumberOfMessages")?.unwrap_or(1);
    let most = usize::try_from(most)
        .ok()
        .filter(|most| (1..=MOST).contains(most))
        .ok_or_else(|| desk.all.wrong("MaxNumberOfMessages", "From 1 to 10."))?;
    let hidden = desk.all.number("VisibilityTimeout")?;
    let hidden = hidden.map_or(HIDDEN, SignedDuration::from_secs);
    let taken = desk.state.queue.take(desk.now, most, hidden).into_iter();
    let messages = taken.map(|delivery| {
        json!({
            "MessageId": format!("message-{}", delivery.receipt),
            "ReceiptHandle": delivery.receipt,
            "Body": delivery.body,
        })
    });
    Ok(json!({ "Messages": messages.collect::<Vec<_>>() }))
}

pub(super) fn delete(desk: &mut Desk<'_>) -> Result<Value, Refusal> {
    known(desk)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for entry in desk.all.parts("Entries") {
        let id = entry.required("Id")?;
        if desk.state.queue.remove(entry.required("ReceiptHandle")?) {
            done.push(json!({ "Id": id }));
        } else {
            failed.push(json!({ "Id": id, "SenderFault": true, "Code": "ReceiptHandleIsInvalid" }));
        }
    }
    Ok(json!({ "Successful": done, "Failed": failed }))
}
