//! How a call travels from a process to the region and back, whatever it is written in.
//!
//! Given what it does there; given back its answer, a refusal, or nothing for ever. On the way it takes
//! its time, may be throttled, get lost, lose its answer or come late. One that changes something does not die with
//! its process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::refusal::Refusal;
use super::{Ec2, State};
use crate::cloud::buckets::Bucket;
use crate::sim::delivery::deliver;
use crate::sim::faults::{About, CallFault, Faults};
use crate::sim::life::Life;

/// The way of one process.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) ec2: Ec2,
    pub(super) who: String,
    pub(super) life: Life,
    pub(super) faults: Arc<dyn Faults>,
}

/// What a call is.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    /// What it draws on.
    pub(super) takes: Vec<(Bucket, u32)>,
    /// It changes something.
    pub(super) writes: bool,
    /// Whom faults on its way meet.
    pub(super) about: About,
}

/// Why there is no answer to use.
#[derive(Debug)]
pub(super) enum Unserved {
    /// Nothing comes back, whether it took effect or not.
    NoAnswer,
    /// EC2 refuses.
    Refused(Refusal),
}

impl Call {
    pub(super) fn read(operation: &'static str) -> Self {
        Self {
            operation,
            takes: vec![(Bucket::Describe, 1)],
            writes: false,
            about: About::Nobody,
        }
    }

    /// The same call, about something.
    pub(super) fn about(self, about: About) -> Self {
        Self { about, ..self }
    }

    /// How many instances it may start.
    fn instances(&self) -> u32 {
        let mut takes = self.takes.iter();
        let started = takes.find(|(bucket, _count)| *bucket == Bucket::InstancesStarted);
        started.map_or(0, |(_bucket, count)| *count)
    }

    pub(super) const fn write(operation: &'static str, takes: Vec<(Bucket, u32)>) -> Self {
        Self {
            operation,
            takes,
            writes: true,
            about: About::Nobody,
        }
    }
}

/// A call that has left its process.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Timestamp,
    /// There and back.
    takes: Duration,
    fault: Option<CallFault>,
}

impl Way {
    /// Makes a call that changes something. Once it is sent it arrives, whatever becomes of who sent it.
    pub(super) async fn send<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Unserved> {
        let sent = self.sent(&call).await;
        let operation = call.operation;
        let served = deliver(self.clone().arrives(call, sent, effect)).await;
        self.hears(operation, served).await
    }

    /// Makes a call that changes nothing, and so need not arrive once nobody waits for it.
    pub(super) async fn ask<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal>,
    ) -> Result<T, Unserved> {
        let sent = self.sent(&call).await;
        let operation = call.operation;
        let served = self.clone().arrives(call, sent, effect).await;
        self.hears(operation, served).await
    }

    async fn sent(&self, call: &Call) -> Sent {
        // Who is dead sends nothing more.
        self.life.go_on().await;
        let (takes, fault) = self.faults.call(&self.who, call.operation, &call.about);
        let at = self.ec2.locked().history.now();
        Sent { at, takes, fault }
    }

    /// What becomes of a call from its sending until its answer is back.
    async fn arrives<T>(
        self,
        call: Call,
        sent: Sent,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal>,
    ) -> Result<Result<T, Refusal>, Unserved> {
        let half = sent.takes / 2;
        let there = match sent.fault {
            Some(CallFault::Late(late)) => late,
            _ => half,
        };
        tokio::time::sleep(there).await;
        if !self.life.delivers() {
            return Err(Unserved::NoAnswer);
        }
        self.ec2.called(call.operation);
        let_in(sent.fault)?;
        let answer = self.serve(&call, sent, effect);
        if call.writes && answer.is_ok() {
            self.life.wrote();
        }
        tokio::time::sleep(half).await;
        if sent.fault == Some(CallFault::AnswerLost) {
            return Err(Unserved::NoAnswer);
        }
        Ok(answer)
    }

    /// What whoever sent a call learns of it, if it lives.
    async fn hears<T>(
        &self,
        operation: &'static str,
        served: Result<Result<T, Refusal>, Unserved>,
    ) -> Result<T, Unserved> {
        self.life.go_on().await;
        let answer = served?;
        self.ec2.answered(operation);
        answer.map_err(Unserved::Refused)
    }

    fn serve<T>(
        &self,
        call: &Call,
        sent: Sent,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut state = self.ec2.locked();
        let now = Instant::now();
        let served = call
            .takes
            .iter()
            .all(|(bucket, count)| state.throttle.take(*bucket, *count, now));
        if !served {
            return Err(Refusal::throttled());
        }
        state.sent = Some(sent.at);
        let answer = effect(&mut state, sent.fault);
        state.sent = None;
        if answer.is_err() {
            state.did_not_start(call.instances());
        }
        if call.writes && answer.is_ok() {
            let fields = json!({
                "client": self.who, "operation": call.operation, "sent": sent.at.to_string(),
            });
            state.history.request("Call", fields);
        }
        answer
    }
}

/// Lets a call through to the region, unless something on the way answers in its place, or nothing does.
fn let_in(fault: Option<CallFault>) -> Result<(), Unserved> {
    let refusal = match fault {
        Some(CallFault::Lost) => return Err(Unserved::NoAnswer),
        Some(CallFault::Throttled) => Refusal::throttled(),
        Some(CallFault::Internal) => Refusal::internal(),
        Some(CallFault::WrongKey) => Refusal {
            status: 401,
            ..Refusal::new(
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            )
        },
        Some(CallFault::Denied) => {
            Refusal::unauthorized("You are not authorized to perform this operation.")
        }
        Some(CallFault::AnswerLost | CallFault::Late(_) | CallFault::Short(_)) | None => {
            return Ok(());
        }
    };
    Err(Unserved::Refused(refusal))
}
