//! The names of machines that registered, on their way to EC2.
//!
//! Given the tags that an instance lacks; given back a few steps at a time that put them on. Each is tried
//! once: collection puts on later what is missing then, so nothing waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::Acting;
use super::run::{Step, StepError};

/// Tags, by key.
type Tags = BTreeMap<String, String>;

/// The most instances that are tagged at the same time: less than the loop has room for, which Nodes need
/// that wait to be usable.
const MOST: usize = 20;

/// Instances whose names EC2 shall be told, with the tags that they lack.
#[derive(Debug, Clone, Default)]
pub(super) struct Unnamed(Arc<Mutex<BTreeMap<String, Tags>>>);

impl Unnamed {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Tags>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance lacks these tags.
    pub(super) fn add(&self, instance: &str, tags: Tags) {
        if !tags.is_empty() {
            self.open().insert(instance.to_owned(), tags);
        }
    }

    /// Steps for the first of them; those that run are among them.
    pub(super) fn steps(&self, context: &Arc<Acting>) -> Vec<Step> {
        let open = self.open();
        open.iter()
            .take(MOST)
            .map(|(instance, tags)| {
                let task = put_on(
                    Arc::clone(context),
                    self.clone(),
                    instance.clone(),
                    tags.clone(),
                );
                Step::new(format!("tag/{instance}"), task)
            })
            .collect()
    }
}

async fn put_on(
    context: Arc<Acting>,
    unnamed: Unnamed,
    instance: String,
    tags: Tags,
) -> Result<(), StepError> {
    let answer = context.cloud.tag(&instance, &tags).await;
    unnamed.open().remove(&instance);
    answer?;
    Ok(())
}
