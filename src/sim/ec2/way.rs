//! How a call travels from a process to the region and back, whatever it is written in.
//!
//! Given what it does there; given back its answer, a refusal, or nothing for ever. On the way it takes
//! its time, may be throttled, get lost or lose its answer, and dies with its process.

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::refusal::Refusal;
use super::{Ec2, State};
use crate::cloud::buckets::Bucket;
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

impl Way {
    /// Makes a call: it travels, takes effect, and its answer travels back.
    pub(super) async fn go<T>(
        &self,
        call: &Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal>,
    ) -> Result<T, Unserved> {
        let (takes, fault) = self.faults.call(&self.who, call.operation, &call.about);
        tokio::time::sleep(takes / 2).await;
        self.life.go_on().await;
        self.ec2.called(call.operation);
        match fault {
            Some(CallFault::Lost) => return Err(Unserved::NoAnswer),
            Some(CallFault::Throttled) => return Err(Unserved::Refused(Refusal::throttled())),
            Some(CallFault::Internal) => return Err(Unserved::Refused(Refusal::internal())),
            Some(CallFault::WrongKey) => {
                return Err(Unserved::Refused(Refusal {
                    status: 401,
                    ..Refusal::new(
                        "AuthFailure",
                        "AWS was not able to validate the provided access credentials",
                    )
                }));
            }
            Some(CallFault::Denied) => {
                let message = "You are not authorized to perform this operation.";
                return Err(Unserved::Refused(Refusal::unauthorized(message)));
            }
            Some(CallFault::AnswerLost | CallFault::Short(_)) | None => {}
        }
        let answer = self.serve(call, fault, effect);
        if call.writes && answer.is_ok() {
            self.life.wrote().await;
        }
        tokio::time::sleep(takes / 2).await;
        self.life.go_on().await;
        if fault == Some(CallFault::AnswerLost) {
            return Err(Unserved::NoAnswer);
        }
        self.ec2.answered(call.operation);
        answer.map_err(Unserved::Refused)
    }

    fn serve<T>(
        &self,
        call: &Call,
        fault: Option<CallFault>,
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
        let answer = effect(&mut state, fault);
        if answer.is_err() {
            state.did_not_start(call.instances());
        }
        if call.writes && answer.is_ok() {
            let fields = json!({ "client": self.who, "operation": call.operation });
            state.history.request("Call", fields);
        }
        answer
    }
}
