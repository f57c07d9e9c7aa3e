//! Thin loops that join observation, decision and action; one file each, no decisions.
//!
//! Each loop says what wakes it, which part of the view it needs, which decision of `plan` it asks
//! for, and how the steps of that decision are carried out. The shared loop in [`run`] does the
//! rest: it gathers changes, starts steps that may run, and lets what failed rest before it is
//! tried again.

pub mod collect;
pub mod context;
pub mod empty;
pub mod instances;
pub mod launch;
pub mod lifecycle;
pub mod node_class;
pub mod node_pool;
pub mod provision;
pub mod queue;
pub mod run;
pub mod terminate;

use std::sync::Arc;

use context::Context;
use run::{Controller, run};

use crate::settings::Mode;

/// Starts every loop; they end with the world. In observe mode only those run that write nothing.
pub fn start(context: &Arc<Context>) {
    start_one(
        provision::Provisioning::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(
        node_class::NodeClasses::new(Arc::clone(context)),
        Arc::clone(context),
    );
    if context.settings.mode == Mode::Observe {
        return;
    }
    start_one(
        node_pool::NodePools::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(
        launch::Launch::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(
        instances::Instances::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(
        lifecycle::Lifecycle::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(
        terminate::Terminate::new(Arc::clone(context)),
        Arc::clone(context),
    );
    start_one(empty::Empty::new(Arc::clone(context)), Arc::clone(context));
    start_one(
        collect::Collect::new(Arc::clone(context)),
        Arc::clone(context),
    );
}

fn start_one(controller: impl Controller, context: Arc<Context>) {
    let world = context.world.clone();
    world.spawn(run(context, controller));
}
