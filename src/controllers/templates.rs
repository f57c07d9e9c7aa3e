//! Removes launch templates that nothing has used for a day.
//!
//! Looks at EC2 once an hour; [`crate::plan::launch::TemplateUse`] says which may go. What fails is
//! tried again an hour later: nothing waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::context::Acting;
use crate::cloud::CloudError;

/// Time between two looks. A day is the measure, so an hour is soon enough.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// Sweeps until the world stops or the term is over.
pub async fn sweep(context: Arc<Acting>) {
    let sweeping = async {
        // Records on claims keep templates: all of them must be known first.
        context.mirror.synced().await;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Err(error) = sweep_once(&context).await {
                tracing::debug!("unused launch templates stay for another hour: {error}");
            }
        }
    };
    context.until_over(sweeping).await;
}

async fn sweep_once(context: &Acting) -> Result<(), CloudError> {
    let found = context.cloud.templates().await?;
    let names: BTreeSet<String> = found.into_iter().collect();
    let snapshot = context.snapshot();
    let unused = context.launches(|memory| {
        memory.templates.listed(&names, snapshot.now);
        memory.templates.unused(&snapshot)
    });
    for name in unused {
        // One that EC2 keeps must not keep the others.
        match context.cloud.remove_template(&name).await {
            Ok(()) => {
                context.launches(|memory| memory.templates.removed(&name));
                tracing::info!(name, "launch template removed, nothing used it for a day");
            }
            Err(error) => {
                tracing::debug!(name, %error, "an unused launch template stays for another hour");
            }
        }
    }
    Ok(())
}
