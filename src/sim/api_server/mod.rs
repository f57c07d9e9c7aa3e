//! An API server in memory, which kube's client talks to as to a real one.
//!
//! It serves get, list in pages of one moment, watch with bookmarks and 410, create, replace with
//! optimistic concurrency, JSON, merge and server-side-apply patches, the subresources status, scale,
//! binding and eviction under disruption budgets, finalizers, graceful deletion, and defaults,
//! pruning and checks of our CustomResourceDefinitions. `tests/contract` holds it to the real server,
//! and lists where it differs on purpose. It has no authorization, no discovery and no
//! strategic merge patches. Other parts of the embedded world call it directly, under their names.

mod admission;
mod delete;
mod evict;
mod immutable;
mod list;
mod names;
mod narrate;
mod patch;
mod refusal;
mod resource;
mod route;
mod scale;
mod schema;
mod selector;
mod store;
#[cfg(test)]
mod tests;
mod transport;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::Layer as _;

pub use delete::{DeleteOptions, Propagation};
pub(in crate::sim) use delete::{FOREGROUND, ORPHAN};
pub(in crate::sim) use evict::BudgetState;
pub use refusal::Refusal;
pub use resource::{Definition, Key, Resource, text};
pub use transport::{Broken, Transport};
pub(in crate::sim) use write::set_condition;

use super::faults::Faults;
use super::history::History;
use super::life::Life;
use crate::cluster::server_time::Listen;
use crate::world::{Clock, RandomStream, SteadyClock};
use store::{Store, Stored};
use write::Change;

/// The objects of a moment.
#[derive(Debug, Clone)]
pub struct Backup {
    objects: BTreeMap<Key, Stored>,
    version: u64,
}

/// What a restored server counts on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// Beyond every version that was ever given, as `etcdutl snapshot restore --bump-revision
    /// --mark-compacted` does: whoever watches is told to list again.
    Raised,
    /// The version of the backup, as without these flags: versions are given a second time, so nobody
    /// who knows some of the first may go on without starting again.
    SetBack,
}

/// What lists of whole kinds are answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Everything that there is.
    Filled,
    /// Nothing.
    Blank,
    /// Everything but what there is of this kind.
    BlankFor(Resource),
}

impl Cache {
    /// True when whole lists of this kind have nothing.
    fn is_blank(self, resource: Resource) -> bool {
        match self {
            Self::Filled => false,
            Self::Blank => true,
            Self::BlankFor(blank) => blank == resource,
        }
    }
}

/// The server; clones share it.
#[derive(Debug, Clone)]
pub struct ApiServer(Arc<Mutex<Store>>);

impl ApiServer {
    /// An empty server.
    pub fn new(clock: Arc<dyn Clock>, history: History, random: RandomStream) -> Self {
        Self(Arc::new(Mutex::new(Store::new(clock, history, random))))
    }

    fn locked(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of a process, which shares the process's life. Must be called within the runtime.
    pub fn client(&self, who: &str, life: Life, faults: Arc<dyn Faults>) -> kube::Client {
        kube::Client::new(self.transport(who, life, faults), "default")
    }

    /// The same whose answers tell a clock the server's time.
    pub fn client_listening(
        &self,
        who: &str,
        (life, faults): (Life, Arc<dyn Faults>),
        clock: &Arc<SteadyClock>,
    ) -> kube::Client {
        let transport = self.transport(who, life, faults);
        kube::Client::new(Listen(Arc::clone(clock)).layer(transport), "default")
    }

    fn transport(&self, who: &str, life: Life, faults: Arc<dyn Faults>) -> Transport {
        Transport {
            server: self.clone(),
            who: who.into(),
            life,
            faults,
        }
    }

    /// The server's time.
    fn now(&self) -> Timestamp {
        self.locked().clock.now()
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.locked().version
    }

    /// The version of the latest change of a kind; 0 before the first.
    fn latest(&self, resource: Resource) -> u64 {
        self.locked().latest.get(&resource).copied().unwrap_or(0)
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<Value> {
        self.locked().get(key).cloned()
    }

    /// Reads an object in place.
    pub fn read<T>(&self, key: &Key, with: impl FnOnce(&Value) -> T) -> Option<T> {
        self.locked().get(key).map(with)
    }

    /// Every object of a kind, in name order.
    pub fn all(&self, resource: Resource) -> Vec<Value> {
        let store = self.locked();
        store
            .of(resource, "")
            .map(|(_key, stored)| stored.value.clone())
            .collect()
    }

    /// How many objects of a kind there are.
    pub fn count(&self, resource: Resource) -> usize {
        self.locked().of(resource, "").count()
    }

    /// Reads every object of a kind in place, in name order.
    pub fn each(&self, resource: Resource, mut with: impl FnMut(&Key, &Value)) {
        for (key, stored) in self.locked().of(resource, "") {
            with(key, &stored.value);
        }
    }

    /// Creates an object.
    pub fn create(&self, who: &str, object: Value) -> Result<Value, Refusal> {
        let resource = Resource::of_object(&object)
            .ok_or_else(|| Refusal::bad_request("no kind that is served here"))?;
        self.locked().create(who, resource, "", object)
    }

    /// Changes an object as it is now; `subresource` is `status` or nothing.
    pub fn change(
        &self,
        who: &str,
        key: &Key,
        subresource: Option<&str>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, Refusal> {
        let mut store = self.locked();
        let mut object = store.present(key)?.clone();
        change(&mut object);
        store.update(who, key, subresource, Change::Patch, object)
    }

    /// Deletes an object.
    pub fn delete(&self, who: &str, key: &Key, options: &DeleteOptions) -> Result<Value, Refusal> {
        self.locked().delete(who, key, options)
    }

    /// Ends a pod without waiting for it, as its kubelet does when it has ended.
    pub fn finish(&self, who: &str, key: &Key, uid: &str) -> Result<Value, Refusal> {
        let options = DeleteOptions {
            uid: Some(uid.to_owned()),
            resource_version: None,
            grace_seconds: Some(0),
            propagation: None,
        };
        self.locked().delete(who, key, &options)
    }

    /// Binds a pod to a node.
    pub fn bind(&self, who: &str, key: &Key, node: &str) -> Result<Value, Refusal> {
        self.locked().bind(who, key, (node, ""))
    }

    /// What a disruption budget says now.
    pub(in crate::sim) fn budget(&self, key: &Key) -> Option<BudgetState> {
        let store = self.locked();
        store.get(key).map(|budget| store.budget_state(budget))
    }

    /// The keys of everything that changes from now on.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Key> {
        self.locked().listen()
    }

    /// Cuts the watches of a process: they end, and it lists or watches again.
    pub fn cut_watches(&self, who: &str) {
        self.locked().watchers.retain(|watcher| !watcher.is_of(who));
    }

    /// From now on nothing comes through of the watches that a process has open, of one kind or of all, not even
    /// their end, as on a connection that died without a word: it notices that as late as it does.
    pub fn silence_watches(&self, who: &str, which: Option<Resource>) {
        let store = self.locked();
        let of_process = store.watchers.iter().filter(|watcher| watcher.is_of(who));
        for watcher in of_process.filter(|watcher| watcher.is_about(which)) {
            watcher.silence();
        }
    }

    /// Everything as it is now, to be restored later.
    pub fn backup(&self) -> Backup {
        let store = self.locked();
        Backup {
            objects: store.objects.clone(),
            version: store.version,
        }
    }

    /// Goes back to a backup, as after a loss of the server's data: what came since is gone, whatever
    /// held it, and every watch ends.
    pub fn restore(&self, backup: &Backup, versions: Versions) {
        let back = (versions == Versions::SetBack).then_some(backup.version);
        self.locked().restore(&backup.objects, back);
    }

    /// How often it was restored.
    pub(in crate::sim) fn restores(&self) -> usize {
        self.locked().restores
    }

    /// Starts the server again. With a blank cache it answers lists of whole kinds as if there were
    /// nothing, until it is started again with a filled one; everything else is as it should be.
    pub fn start_again(&self, cache: Cache) {
        self.locked().start_again(cache);
    }

    /// Forgets past events: watches that begin before now get 410 and must list again.
    pub fn compact(&self) {
        self.locked().compact();
    }
}
