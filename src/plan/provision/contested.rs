//! Pods that a NodePool of another provisioner could serve as well.
//!
//! Given a class and the foreign NodePools; given back the first that could. Only requirements and
//! taints are compared: what the other provisioner can really buy is not ours to know, so in doubt
//! the pod counts as contested.

use super::class::Class;
use crate::model::node_pool::NodePool;
use crate::model::snapshot::Snapshot;
use crate::model::taint::first_untolerated;

/// The first foreign NodePool that could serve the class.
pub fn contender<'world>(snapshot: &'world Snapshot, class: &Class) -> Option<&'world str> {
    snapshot
        .foreign_node_pools
        .values()
        .find(|pool| pool.deleting_since.is_none() && could_serve(pool, class))
        .map(|pool| pool.name.as_str())
}

fn could_serve(pool: &NodePool, class: &Class) -> bool {
    first_untolerated(&pool.taints, &class.spec.tolerations).is_none()
        && class.demand.terms.iter().any(|term| {
            term.name.as_ref().is_none_or(|name| name.accepts(None))
                && term.labels.0.iter().all(|(key, wanted)| {
                    match (pool.requirements.get(key), pool.labels.get(key)) {
                        (Some(given), _) => given.intersects(wanted),
                        (None, Some(value)) => wanted.contains(value),
                        (None, None) => wanted.may_be_absent || super::supply::is_inherent(key),
                    }
                })
        })
}
