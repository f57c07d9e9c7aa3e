//! How each kind of object is cut down as it arrives, and which table and indexes it goes to.
//!
//! Given a full object, it gives back what is kept of it; the rest is dropped at once.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use kube::ResourceExt;
use tokio::time::Instant;

use super::changes::Changes;
use super::kind::Kind;
use super::observe;
use super::state::State;
use super::table::{Difference, Table};
use super::view::{ObservedNodeClass, ObservedNodePool};
use crate::api::node_claim::NodeClaim;
use crate::api::node_class::EC2NodeClass;
use crate::api::node_pool::NodePool;
use crate::model;
use crate::model::pod::PodKey;

/// An object that the mirror follows.
pub(super) trait Slim: Sized {
    /// Its kind.
    const KIND: Kind;
    /// Names it among its kind.
    type Key: Ord + Clone;
    /// What is kept of it.
    type Value: PartialEq;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// What is kept; `None` when it is not for us.
    fn slim(self) -> Option<Self::Value>;

    /// The kind's table.
    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value>;

    /// Shares what can be shared before the value is stored.
    fn keep(_state: &mut State, value: Self::Value) -> Arc<Self::Value> {
        Arc::new(value)
    }

    /// Brings indexes up to date and names the changed keys.
    fn changed(
        _state: &mut State,
        _difference: &Difference<Self::Key, Self::Value>,
        _changes: &mut Changes,
    ) {
    }
}

/// `namespace/name`.
fn namespaced<K: kube::Resource>(object: &K) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

impl Slim for Pod {
    const KIND: Kind = Kind::Pod;
    type Key = PodKey;
    type Value = model::pod::Pod;

    fn key(&self) -> PodKey {
        PodKey::new(
            self.metadata.namespace.as_deref().unwrap_or_default(),
            self.metadata.name.as_deref().unwrap_or_default(),
        )
    }

    fn slim(self) -> Option<Self::Value> {
        Some(observe::pod::pod(&self))
    }

    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
        &mut state.pods
    }

    fn keep(state: &mut State, mut value: Self::Value) -> Arc<Self::Value> {
        state.share_spec(&mut value);
        state.stamps.pod(&mut value);
        if value.node_name.is_none() {
            state.waiting_pod_seen = Some(Instant::now());
        }
        Arc::new(value)
    }

    fn changed(
        state: &mut State,
        difference: &Difference<Self::Key, Self::Value>,
        changes: &mut Changes,
    ) {
        state.pod_changed(difference, changes);
    }
}

impl Slim for Node {
    const KIND: Kind = Kind::Node;
    type Key = String;
    type Value = model::node::Node;

    fn key(&self) -> String {
        self.name_any()
    }

    fn slim(self) -> Option<Self::Value> {
        Some(observe::node::node(&self))
    }

    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
        &mut state.nodes
    }

    fn keep(state: &mut State, mut value: Self::Value) -> Arc<Self::Value> {
        state.keep_node(&mut value);
        Arc::new(value)
    }

    fn changed(
        state: &mut State,
        difference: &Difference<Self::Key, Self::Value>,
        changes: &mut Changes,
    ) {
        state.node_changed(difference, changes);
    }
}

impl Slim for NodeClaim {
    const KIND: Kind = Kind::NodeClaim;
    type Key = String;
    type Value = model::claim::Claim;

    fn key(&self) -> String {
        self.name_any()
    }

    fn slim(self) -> Option<Self::Value> {
        self.spec
            .node_class_ref
            .is_ours()
            .then(|| observe::claim::claim(&self))
    }

    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
        &mut state.claims
    }

    fn keep(state: &mut State, mut value: Self::Value) -> Arc<Self::Value> {
        state.keep_claim(&mut value);
        Arc::new(value)
    }

    fn changed(
        state: &mut State,
        difference: &Difference<Self::Key, Self::Value>,
        changes: &mut Changes,
    ) {
        state.claim_changed(difference, changes);
    }
}

impl Slim for NodePool {
    const KIND: Kind = Kind::NodePool;
    type Key = String;
    type Value = ObservedNodePool;

    fn key(&self) -> String {
        self.name_any()
    }

    fn slim(mut self) -> Option<Self::Value> {
        self.metadata.managed_fields = None;
        let pool = observe::node_pool::node_pool(&self);
        Some(ObservedNodePool {
            ours: self.spec.template.spec.node_class_ref.is_ours(),
            pool: Arc::new(pool),
            object: Arc::new(self),
        })
    }

    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
        &mut state.node_pools
    }

    fn keep(state: &mut State, mut value: Self::Value) -> Arc<Self::Value> {
        if let Some(defaults) = &state.pool_defaults {
            defaults.apply(&value.object, Arc::make_mut(&mut value.pool));
        }
        Arc::new(value)
    }

    fn changed(
        _state: &mut State,
        difference: &Difference<Self::Key, Self::Value>,
        changes: &mut Changes,
    ) {
        changes.node_pools.insert(difference.key.clone());
    }
}

impl Slim for EC2NodeClass {
    const KIND: Kind = Kind::NodeClass;
    type Key = String;
    type Value = ObservedNodeClass;

    fn key(&self) -> String {
        self.name_any()
    }

    fn slim(mut self) -> Option<Self::Value> {
        self.metadata.managed_fields = None;
        Some(ObservedNodeClass {
            object: Arc::new(self),
        })
    }

    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
        &mut state.node_classes
    }

    fn changed(
        _state: &mut State,
        difference: &Difference<Self::Key, Self::Value>,
        changes: &mut Changes,
    ) {
        changes.node_classes.insert(difference.key.clone());
    }
}

/// A kind without indexes of its own.
macro_rules! plain {
    ($object:ty, $kind:ident, $value:ty, $table:ident, $key:expr, $slim:expr) => {
        impl Slim for $object {
            const KIND: Kind = Kind::$kind;
            type Key = String;
            type Value = $value;

            fn key(&self) -> String {
                $key(self)
            }

            fn slim(self) -> Option<Self::Value> {
                Some($slim(&self))
            }

            fn table(state: &mut State) -> &mut Table<Self::Key, Self::Value> {
                &mut state.$table
            }
        }
    };
}

plain!(
    DaemonSet,
    DaemonSet,
    observe::workload::ObservedDaemonSet,
    daemon_sets,
    namespaced,
    observe::workload::observed_daemon_set
);
plain!(
    LimitRange,
    LimitRange,
    Vec<observe::defaults::ContainerDefaults>,
    limit_ranges,
    namespaced,
    observe::defaults::of_range
);
plain!(
    PodDisruptionBudget,
    DisruptionBudget,
    model::workload::DisruptionBudget,
    disruption_budgets,
    namespaced,
    observe::workload::disruption_budget
);
plain!(
    PersistentVolumeClaim,
    VolumeClaim,
    observe::volume::ClaimedVolume,
    volume_claims,
    namespaced,
    observe::volume::claimed_volume
);
plain!(
    PersistentVolume,
    Volume,
    observe::volume::VolumeFacts,
    volumes,
    ResourceExt::name_any,
    observe::volume::volume
);
plain!(
    StorageClass,
    StorageClass,
    observe::volume::StorageClassFacts,
    storage_classes,
    ResourceExt::name_any,
    observe::volume::storage_class
);
plain!(
    CSINode,
    StorageNode,
    observe::volume::StorageNode,
    storage_nodes,
    ResourceExt::name_any,
    observe::volume::storage_node
);
plain!(
    Namespace,
    Namespace,
    model::workload::Namespace,
    namespaces,
    ResourceExt::name_any,
    observe::workload::namespace
);
