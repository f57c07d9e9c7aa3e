//! Many terminations, one call.
//!
//! Given ids one at a time, from tasks that know nothing of each other; those that come within a
//! short window go to EC2 in one call, and each of their tasks gets what became of its own id. EC2
//! takes all of a call or none, so a call that it refuses is divided until the ids at fault stand
//! alone; ids that it says it does not know are left out at once. Nothing is decided, limited or
//! repeated here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::{Cloud, CloudError, MOST_TERMINATED, errors};
use crate::model::launch::ErrorClass;

/// How long the first id waits for others. A fleet that empties at once is told so within tens of
/// milliseconds; a tenth of a second of a machine costs nothing.
const WINDOW: Duration = Duration::from_millis(100);

/// With so many ids refused by themselves and none accepted the fault is not the ids': a permission is
/// missing, and the others would only be refused one by one.
const HOPELESS: usize = 4;

/// The ids that did not end, and why.
type Refused = BTreeMap<String, CloudError>;

type Answer = Shared<BoxFuture<'static, Arc<Refused>>>;

/// The ids of a call that has not begun; `None` once it has.
type Ids = Arc<Mutex<Option<Vec<String>>>>;

/// Gathers terminations.
pub struct Gather {
    cloud: Arc<dyn Cloud>,
    open: Mutex<Option<(Ids, Answer)>>,
}

impl fmt::Debug for Gather {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gather")
            .field("cloud", &self.cloud)
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gather {
    /// Ends instances through an adapter.
    pub fn new(cloud: Arc<dyn Cloud>) -> Self {
        Self {
            cloud,
            open: Mutex::new(None),
        }
    }

    /// Terminates an instance, together with what others terminate now; it is no error if it is gone
    /// already.
    ///
    /// # Errors
    /// What EC2 has against this instance, or against every call.
    pub async fn terminate(&self, instance_id: &str) -> Result<(), CloudError> {
        let refused = self.join(instance_id).await;
        refused.get(instance_id).cloned().map_or(Ok(()), Err)
    }

    /// The answer to the call that the id is part of. Whoever waits for it drives it, so it goes on
    /// when the first of them does not.
    fn join(&self, instance_id: &str) -> Answer {
        let mut open = locked(&self.open);
        if let Some((ids, answer)) = open.as_ref()
            && let Some(ids) = locked(ids).as_mut()
            && ids.len() < MOST_TERMINATED
        {
            ids.push(instance_id.to_owned());
            return answer.clone();
        }
        let ids: Ids = Arc::new(Mutex::new(Some(vec![instance_id.to_owned()])));
        let (cloud, taken) = (Arc::clone(&self.cloud), Arc::clone(&ids));
        let answer = async move {
            tokio::time::sleep(WINDOW).await;
            let mut ids = locked(&taken).take().unwrap_or_default();
            ids.sort();
            ids.dedup();
            Arc::new(end_all(&*cloud, ids).await)
        }
        .boxed()
        .shared();
        *open = Some((ids, answer.clone()));
        answer
    }
}

/// Ends all that EC2 lets end.
async fn end_all(cloud: &dyn Cloud, ids: Vec<String>) -> Refused {
    let mut refused = Refused::new();
    let mut accepted = false;
    let mut open = vec![ids];
    while let Some(mut ids) = open.pop() {
        let Err(error) = cloud.terminate(&ids).await else {
            accepted = true;
            continue;
        };
        let forgotten = forgotten(&error, &ids);
        if !forgotten.is_empty() {
            accepted = true;
            ids.retain(|id| !forgotten.contains(id));
            if !ids.is_empty() {
                open.push(ids);
            }
            continue;
        }
        let hopeless = !accepted && refused.len() >= HOPELESS;
        if ids.len() > 1 && !errors::is_retryable(error.class) && !hopeless {
            open.push(ids.split_off(ids.len() / 2));
            open.push(ids);
        } else {
            refused.extend(ids.into_iter().map(|id| (id, error.clone())));
        }
    }
    refused
}

/// The ids that EC2 does not know, if that is what it says; it names them. Source: the error
/// `InvalidInstanceID.NotFound` in the EC2 API reference.
fn forgotten(error: &CloudError, ids: &[String]) -> BTreeSet<String> {
    if error.class != ErrorClass::NotFound {
        return BTreeSet::new();
    }
    let is_of_id = |character: char| character.is_ascii_alphanumeric() || character == '-';
    let named: BTreeSet<&str> = error.message.split(|other| !is_of_id(other)).collect();
    let unknown = ids.iter().filter(|id| named.contains(id.as_str()));
    unknown.cloned().collect()
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::model::offering::{CapacityType, OfferingKey};
    use crate::sim::ec2::SimulatedCloud;
    use crate::sim::ec2::machine::EndCause;
    use crate::sim::faults::Calm;
    use crate::sim::life::Life;
    use crate::sim::{Embedded, Options};

    fn region(machines: usize) -> (Embedded, Gather, Vec<String>) {
        let world = Embedded::begin(Options::calm(1));
        let calm = Arc::new(Calm);
        let cloud = SimulatedCloud::new(&world.ec2, "a", "embedded", Life::new(), calm);
        let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
        let ids = (0..machines)
            .map(|_machine| world.ec2.stray("embedded", &offering))
            .collect();
        (world, Gather::new(Arc::new(cloud)), ids)
    }

    fn calls(world: &Embedded) -> u64 {
        let calls = world.ec2.calls();
        calls
            .get("TerminateInstances")
            .map_or(0, |tally| tally.calls)
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_together_ends_in_one_call_and_no_call_is_too_large() {
        let (world, gather, ids) = region(MOST_TERMINATED + 30);
        let ended = join_all(ids.iter().map(|id| gather.terminate(id))).await;
        assert!(ended.iter().all(Result::is_ok));
        assert_eq!(calls(&world), 2);
        assert_eq!(world.ec2.alive().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_is_another_call_and_twice_is_once() {
        let (world, gather, ids) = region(2);
        let twice = join_all([gather.terminate(&ids[0]), gather.terminate(&ids[0])]).await;
        assert!(twice.iter().all(Result::is_ok));
        gather.terminate(&ids[1]).await.unwrap();
        assert_eq!(calls(&world), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_goes_away_takes_nobody_along() {
        let (world, gather, ids) = region(2);
        let mut first = Box::pin(gather.terminate(&ids[0]));
        let begun = tokio::time::timeout(Duration::from_millis(10), &mut first).await;
        assert!(begun.is_err());
        let second = gather.terminate(&ids[1]);
        drop(first);
        second.await.unwrap();
        assert_eq!(calls(&world), 1);
        assert_eq!(world.ec2.alive().len(), 0, "the first had asked for it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_end_keeps_nothing_else_and_only_its_own_task_is_told() {
        let (world, gather, ids) = region(MOST_TERMINATED);
        world.ec2.protect(&ids[77]);
        let ended = join_all(ids.iter().map(|id| gather.terminate(id))).await;
        for (index, outcome) in ended.iter().enumerate() {
            assert_eq!(outcome.is_ok(), index != 77, "{index}: {outcome:?}");
        }
        assert_eq!(world.ec2.alive().len(), 1);
        assert!(calls(&world) < 20, "{}", calls(&world));
    }

    #[tokio::test(start_paused = true)]
    async fn ids_that_ec2_has_forgotten_cost_one_call_more_and_are_no_error() {
        let (world, gather, ids) = region(MOST_TERMINATED);
        let (gone, there) = ids.split_at(MOST_TERMINATED / 2);
        for id in gone {
            world.ec2.end(id, EndCause::Terminated);
        }
        tokio::time::sleep(Duration::from_hours(2)).await;
        let ended = join_all(ids.iter().map(|id| gather.terminate(id))).await;
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert_eq!(calls(&world), 2);
        assert!(world.ec2.alive().is_empty(), "{} are left", there.len());
        // Of those alone there is nothing to repeat.
        let again = join_all(gone.iter().map(|id| gather.terminate(id))).await;
        assert!(again.iter().all(Result::is_ok), "{again:?}");
        assert_eq!(calls(&world), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_may_end_it_is_not_asked_for_each() {
        let (world, gather, ids) = region(MOST_TERMINATED);
        for id in &ids {
            world.ec2.protect(id);
        }
        let ended = join_all(ids.iter().map(|id| gather.terminate(id))).await;
        assert!(ended.iter().all(Result::is_err));
        assert!(calls(&world) < 30, "{}", calls(&world));
    }
}
