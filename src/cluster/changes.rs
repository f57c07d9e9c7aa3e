//! Who wants to know what changed: each consumer collects the keys that changed since it last
//! looked.
//!
//! Given: keys of changed objects by kind. Given back: all keys since the last look, each once, so
//! the memory is bounded by the number of objects however slow a consumer is. Every consumer has a
//! wake-up of its own, so the order in which consumers wake does not depend on chance.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::kind::Kind;
use crate::model::pod::PodKey;

/// What changed since the consumer last looked. Keys of objects that went away are included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Kinds of which anything changed.
    pub kinds: BTreeSet<Kind>,
    /// Kinds of which a complete list was read.
    pub relisted: BTreeSet<Kind>,
    /// Pods.
    pub pods: BTreeSet<PodKey>,
    /// Nodes that a changed pod is or was bound to.
    pub pod_nodes: BTreeSet<String>,
    /// Nodes by name.
    pub nodes: BTreeSet<String>,
    /// Provider ids that a changed Node has or had.
    pub provider_ids: BTreeSet<String>,
    /// NodeClaims by name, own writes included.
    pub claims: BTreeSet<String>,
    /// NodePools by name.
    pub node_pools: BTreeSet<String>,
    /// EC2NodeClasses by name.
    pub node_classes: BTreeSet<String>,
}

impl Changes {
    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.relisted.is_empty()
    }

    /// Adds what another look brought.
    pub fn absorb(&mut self, more: Self) {
        self.kinds.extend(more.kinds);
        self.relisted.extend(more.relisted);
        self.pods.extend(more.pods);
        self.pod_nodes.extend(more.pod_nodes);
        self.nodes.extend(more.nodes);
        self.provider_ids.extend(more.provider_ids);
        self.claims.extend(more.claims);
        self.node_pools.extend(more.node_pools);
        self.node_classes.extend(more.node_classes);
    }

    fn merge(&mut self, other: &Self, interest: &BTreeSet<Kind>) -> bool {
        let before = (self.kinds.len(), self.relisted.len());
        self.kinds.extend(other.kinds.intersection(interest));
        self.relisted.extend(other.relisted.intersection(interest));
        if interest.contains(&Kind::Pod) {
            self.pods.extend(other.pods.iter().cloned());
            self.pod_nodes.extend(other.pod_nodes.iter().cloned());
        }
        if interest.contains(&Kind::Node) {
            self.nodes.extend(other.nodes.iter().cloned());
            self.provider_ids.extend(other.provider_ids.iter().cloned());
        }
        for (kind, mine, theirs) in [
            (Kind::NodeClaim, &mut self.claims, &other.claims),
            (Kind::NodePool, &mut self.node_pools, &other.node_pools),
            (Kind::NodeClass, &mut self.node_classes, &other.node_classes),
        ] {
            if interest.contains(&kind) {
                mine.extend(theirs.iter().cloned());
            }
        }
        before != (self.kinds.len(), self.relisted.len())
            || other.kinds.iter().any(|kind| interest.contains(kind))
    }
}

/// One consumer's wake-up.
#[derive(Debug, Clone)]
pub struct Subscription {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    interest: BTreeSet<Kind>,
    pending: Mutex<Changes>,
    wake: Notify,
}

impl Subscription {
    pub(super) fn new(interest: BTreeSet<Kind>) -> Self {
        Self {
            shared: Arc::new(Shared {
                interest,
                pending: Mutex::new(Changes::default()),
                wake: Notify::new(),
            }),
        }
    }

    /// Waits until something of interest changed and takes it. Objects that existed when the
    /// subscription was made count as changed. Dropping the future loses nothing.
    pub async fn changed(&self) -> Changes {
        loop {
            let changes = self.take();
            if !changes.is_empty() {
                return changes;
            }
            self.shared.wake.notified().await;
        }
    }

    /// Takes what changed up to now, which may be nothing.
    pub fn take(&self) -> Changes {
        let mut pending = self
            .shared
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *pending)
    }

    /// Adds changes; false when the consumer is gone.
    pub(super) fn add(&self, changes: &Changes) {
        let touched = {
            let mut pending = self
                .shared
                .pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            pending.merge(changes, &self.shared.interest)
        };
        if touched {
            self.shared.wake.notify_one();
        }
    }

    /// True when only the mirror still holds it.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod_change(name: &str, node: &str) -> Changes {
        Changes {
            kinds: BTreeSet::from([Kind::Pod]),
            pods: BTreeSet::from([PodKey::new("default", name)]),
            pod_nodes: BTreeSet::from([node.to_owned()]),
            ..Changes::default()
        }
    }

    #[tokio::test]
    async fn changes_gather_until_they_are_taken() {
        let subscription = Subscription::new(BTreeSet::from([Kind::Pod]));
        subscription.add(&pod_change("a", "n1"));
        subscription.add(&pod_change("a", "n1"));
        subscription.add(&pod_change("b", "n2"));
        let changes = subscription.changed().await;
        assert_eq!(changes.pods.len(), 2);
        assert_eq!(changes.pod_nodes.len(), 2);
        assert!(subscription.take().is_empty());
    }

    #[tokio::test]
    async fn what_is_of_no_interest_does_not_wake() {
        let subscription = Subscription::new(BTreeSet::from([Kind::Node]));
        subscription.add(&pod_change("a", "n1"));
        assert_eq!(subscription.take(), Changes::default());
    }
}
