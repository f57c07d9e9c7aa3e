//! The ConfigMap that keeps what was learned.
//!
//! Given its name; given back its entries, and a way to replace one of them as they were read. Entries
//! that others wrote stay. Losing it costs only what was learned.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;

use super::{Kubernetes, Operation, WriteError};
use crate::api::labels;

/// Where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedPlace {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Learned(Option<ConfigMap>);

impl Learned {
    /// An entry.
    pub fn entry(&self, key: &str) -> Option<&str> {
        let data = self.0.as_ref()?.data.as_ref()?;
        data.get(key).map(String::as_str)
    }
}

impl Kubernetes {
    /// The namespace of the connection.
    pub fn default_namespace(&self) -> &str {
        self.shared.client.default_namespace()
    }

    /// Reads what is kept; nothing when there is no such ConfigMap.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn read_learned(&self, place: &LearnedPlace) -> Result<Learned, WriteError> {
        let api = self.namespaced::<ConfigMap>(&place.namespace);
        let object = format!("{}/{}", place.namespace, place.name);
        let found = self
            .call(Operation::GetLearned, &object, || api.get_opt(&place.name))
            .await?;
        Ok(Learned(found))
    }

    /// Writes entries over what was read.
    ///
    /// # Errors
    /// A conflict when somebody else has written since; what else the API server says against it.
    pub async fn write_learned(
        &self,
        place: &LearnedPlace,
        known: &Learned,
        entries: &[(&str, String)],
    ) -> Result<Learned, WriteError> {
        let api = self.namespaced::<ConfigMap>(&place.namespace);
        let object = format!("{}/{}", place.namespace, place.name);
        let params = PostParams::default();
        let mut next = known.0.clone().unwrap_or_else(|| ConfigMap {
            metadata: ObjectMeta {
                name: Some(place.name.clone()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        });
        let marks = next.metadata.labels.get_or_insert_with(BTreeMap::new);
        marks.insert(labels::LEARNED.to_owned(), "true".to_owned());
        let data = next.data.get_or_insert_with(BTreeMap::new);
        for (key, text) in entries {
            data.insert((*key).to_owned(), text.clone());
        }
        let written = if known.0.is_some() {
            self.call(Operation::UpdateLearned, &object, || {
                api.replace(&place.name, &params, &next)
            })
            .await?
        } else {
            self.call(Operation::CreateLearned, &object, || {
                api.create(&params, &next)
            })
            .await?
        };
        Ok(Learned(Some(written)))
    }
}
