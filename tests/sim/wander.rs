//! What happens to a lease and to those who want it.

use serde_json::{Value, json};
use tonnage::settings::LeaseSettings;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{DeleteOptions, Key, Resource};

use crate::kinds::Fault;

/// The Lease of the default settings, in the clients' namespace.
fn key() -> Key {
    Key::new(Resource::Lease, "default", &LeaseSettings::default().name)
}

/// The controller that the API server has as the holder.
pub(crate) fn holder(world: &Embedded) -> Option<String> {
    let held = world.api.read(&key(), |lease| {
        let identity = lease["spec"]["holderIdentity"].as_str()?;
        Some(identity.split('_').next()?.to_owned())
    });
    held.flatten()
}

/// A lease that wanders by itself.
#[derive(Debug, Default)]
pub(crate) struct Wander {
    /// What the Lease said a while ago.
    before: Option<Value>,
}

impl Wander {
    /// Somebody who is no controller takes, deletes or sets back the lease; says whether it was there.
    pub(crate) fn strike(&mut self, world: &Embedded, fault: Fault) -> bool {
        let Some(lease) = world.api.get(&key()) else {
            return false;
        };
        let before = self.before.replace(lease["spec"].clone());
        match fault {
            Fault::LeaseDeleted => {
                let options = DeleteOptions::default();
                world.api.delete("stranger", &key(), &options).is_ok()
            }
            Fault::LeaseSetBack => {
                // The first strike only remembers.
                let Some(before) = before else { return false };
                write(world, |spec| *spec = before);
                true
            }
            _ => {
                write(world, |spec| {
                    spec["holderIdentity"] = json!("stranger");
                    let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
                    spec["leaseTransitions"] = json!(transitions + 1);
                });
                true
            }
        }
    }
}

fn write(world: &Embedded, change: impl FnOnce(&mut Value)) {
    // It may be gone already.
    world
        .api
        .change("stranger", &key(), None, |lease| change(&mut lease["spec"]))
        .ok();
}
