//! Thin loops that join observation, decision and action; one file each, no decisions.
//!
//! Each loop says what wakes it, which part of the view it needs, which decision of `plan` it asks
//! for, and how the steps of that decision are carried out. The shared loop in [`mod@run`] does the
//! rest: it gathers changes, starts steps that may run, and lets what failed rest before it is
//! tried again. Of several processes one acts: see [`mod@leader`].

pub mod assembly;
mod bind;
mod class_status;
pub mod collect;
pub mod context;
mod edited;
pub mod empty;
pub mod guard;
pub mod instances;
pub mod launch;
mod launched;
pub mod leader;
pub mod learned;
pub mod lifecycle;
mod names;
mod no_shows;
pub mod node_class;
pub mod node_memory;
pub mod node_pool;
mod nominate;
pub mod notices;
mod open;
mod orphans;
mod profiles;
pub mod provision;
pub mod queue;
mod recall;
mod refused_pools;
pub mod run;
pub mod templates;
pub mod terminate;

use std::sync::Arc;

use crate::cloud::notices::NoticeSource;
use context::{Acting, Context};
use run::{Controller, run};

/// Starts every loop; they end with the world. Without hands, as in observe mode, only those run that
/// look.
fn start(
    context: &Arc<Context>,
    hands: Option<&Arc<Acting>>,
    notices: Option<Arc<dyn NoticeSource>>,
) {
    start_one(
        context,
        provision::Provisioning::new(Arc::clone(context), hands.cloned()),
    );
    start_one(
        context,
        node_class::NodeClasses::new(Arc::clone(context), hands.cloned()),
    );
    let Some(hands) = hands else { return };
    start_one(context, instances::Instances::new(Arc::clone(context)));
    start_one(context, node_pool::NodePools::new(Arc::clone(hands)));
    start_one(context, launch::Launch::new(Arc::clone(hands)));
    start_one(context, lifecycle::Lifecycle::new(Arc::clone(hands)));
    start_one(context, terminate::Terminate::new(Arc::clone(hands)));
    start_one(context, empty::Empty::new(Arc::clone(hands)));
    start_one(context, collect::Collect::new(Arc::clone(hands)));
    start_one(context, notices::Maintenance::new(Arc::clone(hands)));
    context.world.spawn(learned::keep(Arc::clone(hands)));
    context.world.spawn(templates::sweep(Arc::clone(hands)));
    context.world.spawn(profiles::sweep(Arc::clone(hands)));
    if let Some(source) = notices {
        context
            .world
            .spawn(notices::listen(Arc::clone(hands), source));
    }
}

fn start_one(context: &Arc<Context>, controller: impl Controller) {
    context.world.spawn(run(Arc::clone(context), controller));
}

#[cfg(test)]
mod tests;
