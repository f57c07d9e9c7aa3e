//! How one controller process calls the region.
//!
//! Calls take their time, count against the same client-side buckets as real ones, may be throttled, get lost, lose
//! their answer or come late. Nobody waits for one for longer than a minute; what was sent to change something does so
//! though nobody waits any more.

use std::time::Duration;

use tokio::time::Instant;

use super::refusal::{Refusal, THROTTLED};
use super::way::{Call, Unserved};
use super::{SimulatedCloud, State};
use crate::cloud::buckets::Bucket;
use crate::cloud::{CloudError, errors};
use crate::sim::faults::{About, CallFault};

/// How long a call without an answer is waited for, as the adapter for the real EC2 does.
const GIVE_UP: Duration = Duration::from_mins(1);

impl SimulatedCloud {
    /// Waits until there are tokens for a call.
    async fn pay(&self, call: &Call) {
        for (bucket, count) in &call.takes {
            self.buckets.take(*bucket, *count).await;
        }
    }

    /// Makes a call that changes nothing, once there are tokens for it.
    pub(super) async fn ask<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal>,
    ) -> Result<T, CloudError> {
        self.pay(&call).await;
        let operation = call.operation;
        self.awaited(operation, self.way.ask(call, effect)).await
    }

    /// Makes a call that changes something, once there are tokens for it.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, CloudError> {
        self.pay(&call).await;
        self.change_now(call, effect).await
    }

    /// Makes a call that changes something and whose tokens were taken before.
    pub(super) async fn change_now<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, CloudError> {
        let operation = call.operation;
        self.awaited(operation, self.way.send(call, effect)).await
    }

    /// What comes of a call as far as it is waited for.
    async fn awaited<T>(
        &self,
        operation: &'static str,
        served: impl Future<Output = Result<T, Unserved>>,
    ) -> Result<T, CloudError> {
        let until = Instant::now() + GIVE_UP;
        match tokio::time::timeout_at(until, served).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Unserved::Refused(refusal))) => Err(self.learn(operation, &refusal)),
            Ok(Err(Unserved::NoAnswer)) | Err(_) => {
                tokio::time::sleep_until(until).await;
                // Who has died meanwhile learns of nothing.
                self.way.life.go_on().await;
                Err(no_answer(operation))
            }
        }
    }

    /// A refusal in our words; this process learns from being throttled.
    fn learn(&self, operation: &'static str, refusal: &Refusal) -> CloudError {
        if refusal.code == THROTTLED
            && let Some(bucket) = Bucket::of(operation)
        {
            self.buckets.throttled(bucket);
        }
        errors::cloud_error(
            operation,
            refusal.code,
            &refusal.message,
            Some(refusal.status),
        )
    }

    /// A call to the queue of announcements, which no bucket counts.
    pub(super) async fn asked<T: Send + 'static>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, CloudError> {
        let call = Call {
            operation,
            takes: Vec::new(),
            writes: false,
            about: About::Nobody,
        };
        self.change(call, |state, _fault| Ok(effect(state))).await
    }
}

fn no_answer(operation: &'static str) -> CloudError {
    errors::cloud_error(
        operation,
        errors::NO_ANSWER,
        "no answer within a minute",
        None,
    )
}
