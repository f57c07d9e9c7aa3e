//! The mirror: what the API server holds, as far as Tonnage reads it, kept current by watches.
//!
//! Given a client and a world, it follows every [`Kind`] and answers with [`View`]s and
//! [`Subscription`]s. Objects are cut down to what is read of them as they arrive. Nothing is
//! decided here and nothing is written to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::changes::Subscription;
use super::kind::Kind;
use super::observe::node_pool::PoolDefaults;
use super::stamps::Stamps;
use super::state::{KindHealth, State};
use super::table::ListRecord;
use super::view::View;
use super::watch;
use crate::metrics::Metrics;
use crate::model::claim::Claim;
use crate::world::World;

/// The mirror; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    listed: Notify,
}

impl Mirror {
    /// An empty mirror that follows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what holds for NodePools whose annotations do not say; to be called before
    /// [`Self::start`].
    pub fn set_pool_defaults(&self, defaults: PoolDefaults) {
        self.lock().pool_defaults = Some(defaults);
    }

    /// Starts to follow every kind. The tasks end with the world.
    pub fn start(&self, client: &kube::Client, world: &World) {
        self.lock().stamps = Stamps::of(world);
        watch::start(self, client, world);
    }

    /// The cluster now, own writes included.
    pub fn view(&self) -> View {
        self.lock().view()
    }

    /// Wakes a consumer when objects of the kinds change. Everything that exists counts as changed
    /// at first, so a consumer needs no other way to learn what there is.
    pub fn subscribe(&self, kinds: impl IntoIterator<Item = Kind>) -> Subscription {
        self.lock().subscribe(kinds.into_iter().collect())
    }

    /// True once every kind has been listed completely.
    pub fn is_synced(&self) -> bool {
        self.lock().is_synced()
    }

    /// Waits until every kind has been listed completely. Nothing may be decided before.
    pub async fn synced(&self) {
        loop {
            let listed = self.shared.listed.notified();
            if self.is_synced() {
                // Passed on, so that every waiter gets its turn.
                self.shared.listed.notify_one();
                return;
            }
            listed.await;
        }
    }

    /// The complete lists read of a kind.
    pub fn lists(&self, kind: Kind) -> ListRecord {
        self.health_of(kind).lists
    }

    /// How the watch of a kind is doing.
    pub fn health_of(&self, kind: Kind) -> KindHealth {
        self.lock().health.get(&kind).cloned().unwrap_or_default()
    }

    /// What is wrong with the watches: one sentence for each kind that fails, and one for those not
    /// listed yet. Empty when everything is current.
    pub fn problems(&self) -> Vec<String> {
        let state = self.lock();
        let mut problems = Vec::new();
        let mut waiting = Vec::new();
        for kind in Kind::ALL {
            match state.health.get(&kind) {
                Some(KindHealth {
                    problem: Some(problem),
                    ..
                }) => problems.push(problem.clone()),
                Some(health) if health.lists.generation > 0 => {}
                _ => waiting.push(kind.resource()),
            }
        }
        if !waiting.is_empty() {
            problems.push(format!("not listed yet: {}", waiting.join(", ")));
        }
        problems
    }

    /// Lists every kind anew, now: what is known is not what the API server holds. Each may be behind until it is in.
    pub fn list_again(&self) {
        let mut state = self.lock();
        for kind in Kind::ALL {
            if state.pulse.awaits_list(kind) {
                state.lists_wanted(kind).notify_one();
            }
        }
    }

    /// True when the API server was seen to go back in time within so long: it holds older versions than it held,
    /// as after a restore.
    pub fn went_back_within(&self, time: Duration) -> bool {
        let at = self.lock().went_back;
        at.is_some_and(|at| at.elapsed() < time)
    }

    /// True while the watch of one of these kinds may be behind the others.
    pub fn may_be_behind(&self, kinds: &[Kind]) -> bool {
        self.lock().pulse.may_be_behind(kinds)
    }

    /// Brings the metrics about the mirror up to date.
    pub fn report(&self, metrics: &Metrics) {
        for kind in Kind::ALL {
            let objects = self.lock().size(kind);
            metrics.set_mirror(kind.resource(), objects, self.lists(kind).generation);
        }
        metrics.set_mirror_state(self.problems().is_empty(), self.unseen_writes());
    }

    /// How long the watch has told of no pod that is not bound. kube-scheduler writes to each that it tries in vain
    /// after the Nodes have changed, so this tells whether it is at work.
    pub fn waiting_pods_quiet_for(&self) -> Duration {
        let seen = self.lock().waiting_pod_seen;
        seen.map_or(Duration::MAX, |seen| seen.elapsed())
    }

    /// How many own writes no watch has shown yet.
    pub fn unseen_writes(&self) -> usize {
        self.lock().ledger.len()
    }

    pub(super) fn claim_written(&self, claim: &mut Arc<Claim>) {
        self.lock().claim_written(claim);
    }

    /// The claims as the watch shows them, without own writes.
    pub(super) fn claims_shown(&self) -> Arc<BTreeMap<String, Arc<Claim>>> {
        Arc::clone(self.lock().claims.objects())
    }

    /// Every claim of ours as the API server listed them, asked at that time, when the watch showed those others. Gives
    /// back whether they agree; where they do not the watch is behind, or the API server was restored.
    pub(super) fn claims_listed(
        &self,
        claims: Vec<Arc<Claim>>,
        shown: &BTreeMap<String, Arc<Claim>>,
        asked: Instant,
    ) -> bool {
        self.lock().claims_listed(claims, shown, asked)
    }

    pub(super) fn claim_removed(&self, name: &str, uid: &str) {
        self.lock().claim_removed(name, uid);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list_completed(&self) {
        self.shared.listed.notify_one();
    }

    /// The kinds whose watch has never delivered a complete list.
    pub fn unsynced(&self) -> BTreeSet<Kind> {
        let state = self.lock();
        Kind::ALL
            .into_iter()
            .filter(|kind| {
                state
                    .health
                    .get(kind)
                    .is_none_or(|health| health.lists.generation == 0)
            })
            .collect()
    }
}
