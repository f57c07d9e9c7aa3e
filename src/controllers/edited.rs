//! Node classes that were changed since EC2 was asked about them.
//!
//! Given classes as objects, and what they resolved to; given back what a launch may use. A launch takes user data,
//! volumes and tags from the object, images, subnets and security groups from what it resolved to: of two
//! generations they would make a machine that nobody described. Nothing is decided here.

use std::sync::Arc;

use super::context::Context;
use crate::api::EC2NodeClass;
use crate::model::node_class::NodeClass;
use crate::model::snapshot::Snapshot;

/// Lets nothing be bought through classes that were changed since they were resolved.
pub(super) fn hold_back(context: &Context, snapshot: &mut Snapshot) {
    let view = context.mirror.view();
    for (name, class) in &mut snapshot.node_classes {
        let Some(observed) = view.node_classes.get(name).filter(|_observed| class.ready) else {
            continue;
        };
        if let Some(why) = what_changed(&observed.object, class) {
            let class = Arc::make_mut(class);
            class.ready = false;
            class.not_ready = why;
        }
    }
}

/// How a class differs from the one that was resolved; `None` when it is that one.
pub(super) fn what_changed(object: &EC2NodeClass, resolved: &NodeClass) -> Option<String> {
    if object.metadata.uid.as_deref().unwrap_or_default() != resolved.uid {
        return Some("it was made anew, and EC2 was not asked about it yet".to_owned());
    }
    let generation = object.metadata.generation.unwrap_or(0);
    (generation != resolved.generation).then(|| {
        format!(
            "it was changed, and what EC2 says of generation {generation} is not known yet, only of {}",
            resolved.generation
        )
    })
}
