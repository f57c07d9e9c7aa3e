//! Looks at single instances when decisions ask for it, in one call for many.
//!
//! Woken by [`Context::look_at`]; asks EC2 for all that gathered; stores the answer; wakes the loops
//! that decide from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::context::Context;
use super::run::{Controller, Round, Step, StepError};
use crate::cloud::InstanceQuery;
use crate::cluster::{Changes, Kind};
use crate::metrics::Loop;

/// The most ids of one DescribeInstances call; EC2 takes a thousand values of a filter at most, and
/// short calls are throttled less.
const MOST_IDS: usize = 200;

/// The loop that looks at instances.
#[derive(Debug)]
pub struct Instances {
    context: Arc<Context>,
}

impl Instances {
    /// Works with the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

async fn look(context: Arc<Context>, ids: BTreeSet<String>) -> Result<(), StepError> {
    let query = InstanceQuery::Ids(ids);
    let at = context.now();
    let answer = context.eyes.instances(&query).await;
    let InstanceQuery::Ids(ids) = query else {
        return Ok(());
    };
    match answer {
        Ok(found) => {
            context.instances(|view| view.answered(&ids, &found, at));
            for name in [
                Loop::Registration,
                Loop::Termination,
                Loop::Launch,
                Loop::Orphans,
            ] {
                context.wake(name);
            }
            Ok(())
        }
        Err(error) => {
            // Asked for again when the key has rested.
            context.look_at(ids);
            Err(error.into())
        }
    }
}

impl Controller for Instances {
    fn name(&self) -> Loop {
        Loop::Instances
    }

    fn interests(&self) -> Vec<Kind> {
        Vec::new()
    }

    fn settle(&self) -> (Duration, Duration) {
        (Duration::from_millis(100), Duration::from_millis(500))
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        let ids: Vec<String> = self.context.take_asked().into_iter().collect();
        let steps = ids
            .chunks(MOST_IDS)
            .map(|chunk| {
                let key = format!("look/{}", chunk.first().map_or("", String::as_str));
                let ids = chunk.iter().cloned().collect();
                Step::new(key, look(Arc::clone(&self.context), ids))
            })
            .collect();
        Box::pin(async move { Round { steps, wake: None } })
    }
}
