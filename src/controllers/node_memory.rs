//! What Nodes report of their memory, learned and put into what is known of node classes.
//!
//! Given the shared context; nothing is written to the API server or asked of EC2 here, and which report
//! is believed is decided in `plan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use crate::api::EC2NodeClass;
use crate::cloud::{Resolution, catalogue, class};
use crate::model::snapshot::Snapshot;
use crate::plan::launch::{images_in_use, memory_reports};

/// Learns from the Nodes that are there, and plans with it from now on.
pub fn learn(context: &Context, snapshot: &Snapshot) {
    let kinds: BTreeMap<String, String> = context
        .mirror
        .view()
        .node_classes
        .iter()
        .filter_map(|(name, observed)| Some((name.clone(), class::image_kind(&observed.object)?)))
        .collect();
    let reports = context.instances(|view| memory_reports(snapshot, view, &kinds));
    let in_use = images_in_use(snapshot);
    let now = snapshot.now;
    let mut is_news = false;
    context.launches(|memory| {
        for report in &reports {
            is_news |= memory.node_memory.learn(report, &in_use, now);
        }
        memory.node_memory.forget(now);
    });
    if is_news {
        apply(context);
    }
}

/// Puts what is known by now into every node class.
pub fn apply(context: &Context) {
    for name in context.class_names() {
        context.renew_class(&name);
    }
}

/// What a class resolves to, with memory as Nodes reported it.
pub fn applied(
    context: &Context,
    object: &EC2NodeClass,
    resolution: Arc<Resolution>,
) -> Arc<Resolution> {
    let Some(kind) = class::image_kind(object) else {
        return resolution;
    };
    let reported = context.launches(|memory| memory.node_memory.of_kind(&kind));
    let eviction = class::memory_eviction(&object.spec);
    let before = &resolution.class.catalogue;
    let catalogue = catalogue::with_memory(before, eviction, &reported);
    if Arc::ptr_eq(&catalogue, before) {
        return resolution;
    }
    let mut changed = Resolution::clone(&resolution);
    changed.class.catalogue = catalogue;
    Arc::new(changed)
}
