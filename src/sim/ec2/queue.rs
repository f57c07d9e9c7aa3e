//! The queue that the simulated EC2's announcements are sent to, as EventBridge words them.
//!
//! Messages wait until they are acknowledged; one that was handed out comes again after a while. A
//! receiver waits as it would at SQS, on virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::Notify;

use super::account::ACCOUNT;
use super::{Ec2, SimulatedCloud};
use crate::cloud::CloudError;
use crate::cloud::notices::{Addressee, Delivery, NoticeSource};

/// How long a message that was handed out stays hidden unless its receiver says otherwise, as SQS has it.
pub(super) const HIDDEN: SignedDuration = SignedDuration::from_secs(30);
/// How long a receiver waits for messages, as SQS has it at most.
pub(super) const WAIT: Duration = Duration::from_secs(20);
/// The most messages of one answer, as SQS has it.
pub(super) const MOST: usize = 10;

/// What EventBridge calls the warning of a spot interruption.
pub(super) const INTERRUPTION: &str = "EC2 Spot Instance Interruption Warning";

/// Messages that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: BTreeMap<u64, Message>,
    number: u64,
    arrived: Arc<Notify>,
}

#[derive(Debug)]
struct Message {
    body: String,
    hidden_until: Option<Timestamp>,
}

impl Message {
    fn is_shown(&self, now: Timestamp) -> bool {
        self.hidden_until.is_none_or(|hidden| hidden <= now)
    }
}

impl Queue {
    /// Sends an event about a machine.
    pub(super) fn send(&mut self, detail_type: &str, instance: &str, now: Timestamp) {
        self.number += 1;
        let body = json!({
            "version": "0",
            "id": format!("event-{}", self.number),
            "source": "aws.ec2",
            "detail-type": detail_type,
            "account": ACCOUNT,
            "region": "us-east-1",
            "time": now.to_string(),
            "resources": [format!("arn:aws:ec2:us-east-1:{ACCOUNT}:instance/{instance}")],
            "detail": { "instance-id": instance, "instance-action": "terminate" },
        });
        self.post(body.to_string());
    }

    /// Puts any text into the queue.
    pub(super) fn post(&mut self, body: String) {
        self.number += 1;
        let message = Message {
            body,
            hidden_until: None,
        };
        self.messages.insert(self.number, message);
        self.arrived.notify_one();
    }

    /// Hands out what is not hidden, so many at most, and hides it for so long.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        most: usize,
        hidden: SignedDuration,
    ) -> Vec<Delivery> {
        let until = now.saturating_add(hidden).unwrap_or(now);
        self.messages
            .iter_mut()
            .filter(|(_number, message)| message.is_shown(now))
            .take(most)
            .map(|(number, message)| {
                message.hidden_until = Some(until);
                Delivery {
                    receipt: number.to_string(),
                    body: message.body.clone(),
                }
            })
            .collect()
    }

    /// Takes a message out for good; false where the receipt is none.
    pub(super) fn remove(&mut self, receipt: &str) -> bool {
        let Ok(number) = receipt.parse::<u64>() else {
            return false;
        };
        self.messages.remove(&number);
        true
    }
}

impl Ec2 {
    /// Puts any text into the queue of announcements, as whoever may send to it could.
    pub fn post(&self, body: impl Into<String>) {
        self.locked().queue.post(body.into());
    }

    /// Sends the warning that a spot machine is taken back, and does nothing to the machine.
    pub fn warn(&self, id: &str) {
        let mut state = self.locked();
        let now = state.clock.now();
        state.queue.send(INTERRUPTION, id, now);
    }

    /// Waits until there is a message to hand out, and no longer than so long: what one answer had no room for is there
    /// already. Another receiver may be faster; nothing is usual.
    pub(super) async fn announced(&self, wait: Duration) {
        let arrived = Arc::clone(&self.locked().queue.arrived);
        let shown = async {
            while !self.shows_any() {
                arrived.notified().await;
            }
        };
        tokio::time::timeout(wait, shown).await.ok();
    }

    fn shows_any(&self) -> bool {
        let state = self.locked();
        let now = state.clock.now();
        let mut messages = state.queue.messages.values();
        messages.any(|message| message.is_shown(now))
    }

    /// How many announcements nobody has acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.locked().queue.messages.len()
    }
}

impl NoticeSource for SimulatedCloud {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Delivery>, CloudError>> {
        Box::pin(async move {
            self.way.ec2.announced(WAIT).await;
            self.asked("ReceiveMessage", |state| {
                let now = state.clock.now();
                state.queue.take(now, MOST, HIDDEN)
            })
            .await
        })
    }

    fn acknowledge<'call>(
        &'call self,
        receipts: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let receipts = receipts.to_vec();
        Box::pin(self.asked("DeleteMessageBatch", move |state| {
            for receipt in &receipts {
                state.queue.remove(receipt);
            }
        }))
    }

    fn addressee(&self) -> Addressee {
        Addressee {
            account: Some(ACCOUNT.to_owned()),
            region: Some("us-east-1".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::sim::faults::Calm;
    use crate::sim::life::Life;
    use crate::sim::{Embedded, Options};

    #[tokio::test(start_paused = true)]
    async fn only_an_empty_queue_is_waited_for() {
        let world = Embedded::begin(Options::calm(1));
        let calm = Arc::new(Calm);
        let cloud = SimulatedCloud::new(&world.ec2, "one", "blue", Life::new(), calm);
        for number in 0..MOST + 2 {
            world.ec2.post(number.to_string());
        }
        let begun = Instant::now();
        let first = cloud.receive().await.unwrap();
        let rest = cloud.receive().await.unwrap();
        assert_eq!((first.len(), rest.len()), (MOST, 2));
        assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
        // All of them are hidden now.
        assert_eq!(cloud.receive().await.unwrap(), []);
        assert!(begun.elapsed() >= WAIT, "{:?}", begun.elapsed());
    }
}
