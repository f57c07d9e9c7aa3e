//! Removes instance profiles that no node class wants any more.
//!
//! Looks at IAM once an hour. A profile is wanted while its class exists and names its role. One that
//! was not wanted at two looks in a row is removed, unless machines use it: a launch that was under way
//! when the role changed is over by then. What fails is tried again an hour later: nothing waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::context::Acting;
use super::run::StepError;
use crate::api::EC2NodeClass;
use crate::cloud::CloudError;
use crate::cloud::profile::OwnProfile;

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// Profiles that were not wanted at the last look.
#[derive(Debug, Default)]
struct Unwanted(BTreeSet<String>);

impl Unwanted {
    /// Takes in what there is and what is wanted; given back: what was not wanted the last time either.
    fn look(&mut self, found: &[OwnProfile], wanted: &BTreeSet<String>) -> Vec<String> {
        let unwanted: BTreeSet<String> = found
            .iter()
            .map(|profile| profile.name.clone())
            .filter(|name| !wanted.contains(name))
            .collect();
        let again = unwanted.intersection(&self.0).cloned().collect();
        self.0 = unwanted;
        again
    }
}

/// Sweeps until the world stops or the term is over.
pub(super) async fn sweep(context: Arc<Acting>) {
    let sweeping = async {
        let mut unwanted = Unwanted::default();
        // Every class must be known before its profile counts as nobody's.
        context.mirror.synced().await;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Err(error) = sweep_once(&context, &mut unwanted).await {
                tracing::debug!("instance profiles are looked at again in an hour: {error}");
            }
        }
    };
    context.until_over(sweeping).await;
}

async fn sweep_once(context: &Acting, unwanted: &mut Unwanted) -> Result<(), CloudError> {
    // Before the classes: what is made for a class that comes after this is not in the list.
    let found = context.cloud.profiles().await?;
    let view = context.mirror.view();
    let wanted: BTreeSet<String> = view
        .node_classes
        .values()
        .map(|observed| context.cloud.profile_of(&observed.object))
        .collect();
    for name in unwanted.look(&found, &wanted) {
        let removed = context.cloud.remove_profile(&name).await;
        tell(&name, removed);
    }
    Ok(())
}

fn tell(name: &str, removed: Result<bool, CloudError>) {
    let why = match removed {
        Ok(true) => {
            tracing::info!(name, "instance profile removed, no node class wants it");
            return;
        }
        Ok(false) => "machines still use it".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::debug!(
        name,
        "an unwanted instance profile stays for another hour: {why}"
    );
}

/// Removes every profile that was made for a class that is going, also those of roles it had before.
pub(super) async fn release(context: &Acting, object: &EC2NodeClass) -> Result<(), StepError> {
    // Where no class has a role, IAM need not be allowed, or even be within reach. What a class had
    // before it named a profile goes with the next looks.
    if object.spec.role.is_none() {
        return Ok(());
    }
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    for profile in context.cloud.profiles().await? {
        if profile.class_uid != uid {
            continue;
        }
        if !context.cloud.remove_profile(&profile.name).await? {
            return Err(StepError::Blocked(format!(
                "machines still use instance profile {}",
                profile.name
            )));
        }
        tracing::info!(
            name = profile.name,
            "instance profile removed with its node class"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_twice_in_a_row_may_go() {
        let profile = |name: &str| OwnProfile {
            name: name.to_owned(),
            class_uid: "uid".to_owned(),
        };
        let wanted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut unwanted = Unwanted::default();
        let all = [profile("a"), profile("b"), profile("c")];
        assert_eq!(unwanted.look(&all, &wanted(&["a"])), Vec::<String>::new());
        assert_eq!(unwanted.look(&all, &wanted(&["a", "c"])), ["b"]);
        // Wanted in between: it begins anew.
        assert_eq!(unwanted.look(&all, &wanted(&["a"])), ["b"]);
        assert_eq!(unwanted.look(&all[2..], &wanted(&[])), ["c"]);
    }
}
