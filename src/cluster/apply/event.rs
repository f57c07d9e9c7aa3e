//! Events as objects; what is worth an event, and how often, is decided in
//! [`crate::cluster::events`].

use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};

use super::{Kubernetes, Operation, WriteError};

impl Kubernetes {
    /// Writes a new event.
    pub(in crate::cluster) async fn create_event(
        &self,
        namespace: &str,
        event: &Event,
    ) -> Result<(), WriteError> {
        let name = event.metadata.name.clone().unwrap_or_default();
        let api = self.namespaced::<Event>(namespace);
        let params = PostParams::default();
        self.call(Operation::CreateEvent, &name, || api.create(&params, event))
            .await
            .map(drop)
    }

    /// Changes an event that was written.
    pub(in crate::cluster) async fn patch_event(
        &self,
        namespace: &str,
        name: &str,
        change: &serde_json::Value,
    ) -> Result<(), WriteError> {
        let api = self.namespaced::<Event>(namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        self.call(Operation::PatchEvent, name, || {
            api.patch(name, &params, &patch)
        })
        .await
        .map(drop)
    }
}
