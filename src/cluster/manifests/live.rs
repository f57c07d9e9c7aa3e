//! Objects of a live cluster, as manifests.
//!
//! Given a client; given back every object that planning has a use for, read page by page. Kinds that
//! the cluster does not have are left out. Nothing is written, and nothing is watched.

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};

use super::read::Document;
use crate::api::labels::LEARNED;
use crate::cluster::unlisted::ListError;

/// Objects asked for at a time.
const PAGE: u32 = 500;

/// What planning reads: API version, kind, and its plural where that does not follow the rule.
/// Workloads are left out, since their pods are there already.
const KINDS: [(&str, &str, Option<&str>); 14] = [
    ("v1", "Namespace", None),
    ("v1", "Node", None),
    ("v1", "Pod", None),
    ("v1", "PersistentVolume", None),
    ("v1", "PersistentVolumeClaim", None),
    ("v1", "LimitRange", None),
    ("apps/v1", "DaemonSet", None),
    ("policy/v1", "PodDisruptionBudget", None),
    ("scheduling.k8s.io/v1", "PriorityClass", None),
    ("storage.k8s.io/v1", "StorageClass", None),
    ("storage.k8s.io/v1", "CSINode", None),
    ("karpenter.sh/v1", "NodePool", None),
    ("karpenter.sh/v1", "NodeClaim", None),
    (
        "tonnage.dev/v1alpha1",
        "EC2NodeClass",
        Some("ec2nodeclasses"),
    ),
];

/// Why a cluster cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A kind cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// An object cannot be taken apart.
    #[error("a {kind} of the cluster is not JSON that can be read")]
    Form {
        /// The kind.
        kind: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Reads everything that planning has a use for.
///
/// # Errors
/// [`LiveError`] for the first kind that cannot be listed.
pub async fn read_cluster(client: &Client) -> Result<Vec<Document>, LiveError> {
    let mut documents = Vec::new();
    for (api_version, kind, plural) in KINDS {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if let Some(plural) = plural {
            plural.clone_into(&mut resource.plural);
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let all = ListParams::default();
        read_kind(&api, all, (api_version, kind), &mut documents).await?;
    }
    read_learned(client, &mut documents).await?;
    Ok(documents)
}

/// Reads what a controller has learned; whoever may not see ConfigMaps plans without it.
async fn read_learned(client: &Client, documents: &mut Vec<Document>) -> Result<(), LiveError> {
    let (api_version, kind) = ("v1", "ConfigMap");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", api_version, kind));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let marked = ListParams::default().labels(&format!("{LEARNED}=true"));
    let mut found = Vec::new();
    match read_kind(&api, marked, (api_version, kind), &mut found).await {
        // Several installs, or somebody who wants plans to look otherwise.
        Ok(()) if found.len() > 1 => {
            tracing::warn!(
                "{} ConfigMaps say that they keep what a controller learned; none of them is used",
                found.len()
            );
            Ok(())
        }
        Ok(()) => {
            documents.extend(found);
            Ok(())
        }
        Err(LiveError::List(ListError::Forbidden { .. })) => {
            tracing::info!(
                "shortages that the controller knows of are left out: ConfigMaps cannot be listed"
            );
            Ok(())
        }
        other => other,
    }
}

async fn read_kind(
    api: &Api<DynamicObject>,
    which: ListParams,
    (api_version, kind): (&str, &'static str),
    documents: &mut Vec<Document>,
) -> Result<(), LiveError> {
    let mut parameters = which.limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            // The kind's CRD is not installed.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => {
                let objects = format!("{kind} objects");
                return Err(ListError::new(&objects, "verb list", error).into());
            }
        };
        for object in page.items {
            let mut object =
                serde_json::to_value(&object).map_err(|source| LiveError::Form { kind, source })?;
            // Items of a list do not say what they are.
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            documents.push(Document {
                path: "the cluster".to_owned(),
                object,
            });
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}
