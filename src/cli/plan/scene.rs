//! The world that a subcommand plans for: manifests or a live cluster, and what can be bought.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::catalog::{self, CatalogError};
use crate::api::labels::{
    LEARNED_HAZARDS, LEARNED_MEMORY, LEARNED_NO_SHOWS, LEARNED_SHORTAGES, REGION,
};
use crate::api::node_class::EC2NodeClass;
use crate::cli::{unknown_types, write_stderr};
use crate::cloud::{builtin, catalogue, class, facts};
use crate::cluster::client::{ConnectError, ConnectOptions, connect};
use crate::cluster::manifests::{
    self, Document, LiveError, ManifestError, Manifests, read_cluster, read_files,
};
use crate::model::node_class::{NodeClass, Subnet};
use crate::model::offering::Catalogue;
use crate::model::pod::TopologySpread;
use crate::model::snapshot::Snapshot;
use crate::plan::launch::{Hazards, NoShows, NodeMemory, Shortages};
use crate::plan::provision::Premium;
use crate::settings::{Contested, DefaultSpread, WishFlags, default_spread};

/// Where the world comes from.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SceneArgs {
    /// Manifests: files, directories, or - for standard input; may be repeated. Without any, the
    /// cluster of the kubeconfig is read
    #[arg(long = "filename", short = 'f', value_name = "FILE|DIR")]
    filenames: Vec<PathBuf>,
    /// Kubeconfig file; without it, `$KUBECONFIG`, `~/.kube/config`, or the pod's ServiceAccount
    #[arg(long, env = "TONNAGE_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it, its current one
    #[arg(long, env = "TONNAGE_CONTEXT")]
    context: Option<String>,
    /// A JSON list of offerings to plan with instead of the built-in catalogue of us-east-1
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Search effort, in milliseconds of a two-core machine; equal efforts give equal plans
    #[arg(long, value_name = "N", default_value_t = 100)]
    budget_ms: u64,
    /// What to do with pods that a NodePool of another provisioner could serve too
    #[arg(long, value_enum, default_value_t = Contested::Leave)]
    contested_pods: Contested,
    /// Spread constraints of pods without their own that a ReplicaSet or StatefulSet makes, as in
    /// `defaultConstraints` of kube-scheduler's configuration: a JSON list
    #[arg(long, value_name = "JSON", value_parser = default_spread, default_value = "[]")]
    default_spread: DefaultSpread,
    #[command(flatten)]
    wishes: WishFlags,
}

/// A world to plan for.
#[derive(Debug)]
pub(in crate::cli) struct Scene {
    /// The world.
    pub(in crate::cli) snapshot: Snapshot,
    /// The region that prices are of.
    pub(in crate::cli) price_region: String,
    /// Types of each node class whose memory Nodes have reported; that of others is a guess.
    pub(in crate::cli) measured: BTreeMap<String, BTreeSet<String>>,
}

/// Why the world could not be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum SceneError {
    /// The manifests.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// The connection to the cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The cluster cannot be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The machine has no room for a runtime.
    #[error("the runtime for the connection cannot be started")]
    Runtime(#[source] std::io::Error),
    /// The catalog file.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What a controller has learned, as far as it can be read: a plan without it is still a plan.
fn learned<What: Default, Unreadable: std::fmt::Display>(
    manifests: &Manifests,
    key: &str,
    read: impl Fn(&str) -> Result<What, Unreadable>,
) -> What {
    let Some(text) = manifests.learned.get(key) else {
        return What::default();
    };
    read(text).unwrap_or_else(|error| {
        tracing::warn!(key, %error, "what the controller learned is left out");
        What::default()
    })
}

impl SceneArgs {
    /// Search effort.
    pub(in crate::cli) const fn budget_ms(&self) -> u64 {
        self.budget_ms
    }

    /// True when contested pods are bought for.
    pub(in crate::cli) fn takes_contested_pods(&self) -> bool {
        self.contested_pods == Contested::Take
    }

    /// What wishes of pods may cost.
    pub(in crate::cli) const fn preference_premium(&self) -> Premium {
        self.wishes.premium()
    }

    /// Spread constraints of pods that have none.
    pub(in crate::cli) fn default_spread(&self) -> Vec<TopologySpread> {
        self.default_spread.0.clone()
    }

    fn read_live(&self) -> Result<Vec<Document>, SceneError> {
        let options = ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SceneError::Runtime)?;
        runtime.block_on(async {
            let client = connect(&options).await?;
            Ok(read_cluster(&client).await?)
        })
    }

    /// Reads the world; what planning has no use for is named on standard error.
    pub(in crate::cli) fn read(&self) -> Result<Scene, SceneError> {
        let documents = if self.filenames.is_empty() {
            self.read_live()?
        } else {
            let documents = read_files(&self.filenames)?;
            for warning in missing(&documents) {
                write_stderr(&warning);
            }
            documents
        };
        let manifests = Manifests::read(documents)?;
        for unknown in &manifests.unknown {
            tracing::debug!(
                path = unknown.path,
                kind = unknown.kind,
                name = unknown.name,
                "planning has no use for this object"
            );
        }
        let custom = match &self.catalog {
            Some(path) => Some(Arc::new(catalog::read(path)?)),
            None => None,
        };
        let now = Timestamp::now();
        let memory = learned(&manifests, LEARNED_MEMORY, |text| {
            NodeMemory::read(text, now)
        });
        let node_classes: BTreeMap<String, Arc<NodeClass>> = manifests
            .node_classes
            .iter()
            .map(|object| {
                let class = node_class(object, custom.as_ref(), &memory);
                (class.name.clone(), Arc::new(class))
            })
            .collect();
        let measured = manifests
            .node_classes
            .iter()
            .map(|object| (object.name_any(), measured(object, &memory)))
            .collect();
        let price_region = node_classes
            .values()
            .map(|class| class.catalogue.price_region.clone())
            .find(|region| !region.is_empty())
            .unwrap_or_default();
        let shortages = learned(&manifests, LEARNED_SHORTAGES, |text| {
            Shortages::read(text, now)
        });
        let hazards = learned(&manifests, LEARNED_HAZARDS, |text| Hazards::read(text, now));
        let no_shows = learned(&manifests, LEARNED_NO_SHOWS, |text| {
            NoShows::read(text, now)
        });
        let mut snapshot = manifests.snapshot(now, node_classes);
        shortages.mark(&mut snapshot);
        hazards.mark(&mut snapshot);
        no_shows.mark(&mut snapshot);
        if let Some(region) = foreign_region(&snapshot, &price_region) {
            write_stderr(&format!(
                "warning: prices are those of {price_region}, and the cluster's nodes are in {region}: \
                 give what {region} offers with --catalog\n"
            ));
        }
        for warning in unknown(&snapshot, custom.as_deref()) {
            write_stderr(&warning);
        }
        Ok(Scene {
            snapshot,
            price_region,
            measured,
        })
    }
}

/// Warnings of classes that pods name and nobody gave. A CronJob has no pods yet, and a plan makes none of it.
fn missing(documents: &[Document]) -> Vec<String> {
    let makes_pods = |document: &&Document| document.object["kind"] != "CronJob";
    manifests::warnings(documents.iter().filter(makes_pods))
}

/// Warnings of what NodePools name that the built-in catalogue, or a given one, does not know.
fn unknown(snapshot: &Snapshot, custom: Option<&Catalogue>) -> Vec<String> {
    let pools = snapshot.node_pools.values().map(AsRef::as_ref);
    let advice = "give what your region offers with --catalog";
    if let Some(catalogue) = custom {
        let known = catalogue.types.keys().map(AsRef::as_ref);
        unknown_types::warnings(pools, known, advice)
    } else {
        let known = facts::built_in().types.keys().map(AsRef::as_ref);
        unknown_types::warnings(pools, known, advice)
    }
}

/// The region that the cluster's nodes are in, when prices of another one only resemble its own.
fn foreign_region(snapshot: &Snapshot, price_region: &str) -> Option<String> {
    let regions: BTreeSet<&String> = snapshot
        .nodes
        .values()
        .filter_map(|node| node.labels.get(REGION))
        .collect();
    let foreign = !price_region.is_empty() && !regions.iter().any(|known| *known == price_region);
    regions
        .first()
        .filter(|_region| foreign)
        .map(|region| (*region).clone())
}

/// The types whose memory Nodes of a class's kind have reported.
fn measured(object: &EC2NodeClass, memory: &NodeMemory) -> BTreeSet<String> {
    let kind = class::image_kind(object);
    let reported = kind.map(|kind| memory.of_kind(&kind)).unwrap_or_default();
    reported.into_keys().collect()
}

/// A node class as if its selectors had matched, with the built-in catalogue or a given one, and memory as
/// Nodes reported it.
fn node_class(
    object: &EC2NodeClass,
    custom: Option<&Arc<Catalogue>>,
    memory: &NodeMemory,
) -> NodeClass {
    let mut class = builtin::node_class_or_reason(object);
    if let Some(catalogue) = custom {
        class.subnets = catalogue
            .offerings
            .iter()
            .map(|offering| offering.key.zone.to_string())
            .map(|zone| {
                let subnet = Subnet {
                    id: format!("subnet-in-{zone}"),
                    zone: zone.clone(),
                    zone_id: String::new(),
                    free_addresses: i64::from(u16::MAX),
                };
                (zone, vec![subnet])
            })
            .collect();
        class.catalogue = Arc::clone(catalogue);
    }
    if let Some(kind) = class::image_kind(object) {
        let eviction = class::memory_eviction(&object.spec);
        let reported = memory.of_kind(&kind);
        class.catalogue = catalogue::with_memory(&class.catalogue, eviction, &reported);
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifests::read_text;
    use crate::model::node::Node;
    use crate::model::resources::MEMORY;
    use crate::plan::examples::{at, node, world};

    fn nodes_in(regions: &[&str]) -> Snapshot {
        let nodes: Vec<Node> = regions
            .iter()
            .enumerate()
            .map(|(index, region)| {
                let mut node = node(&format!("node-{index}"));
                node.labels.insert(REGION.to_owned(), (*region).to_owned());
                node
            })
            .collect();
        world(0, &[], &nodes, &[])
    }

    #[test]
    fn classes_that_only_cron_jobs_name_are_not_missed() {
        let documents = read_text(
            "a.yaml",
            "
{kind: CronJob, metadata: {name: a}, spec: {jobTemplate: {spec: {template: {spec: {priorityClassName: high}}}}}}
---
{kind: Job, metadata: {name: b}, spec: {template: {spec: {priorityClassName: low}}}}
",
        );
        let found = missing(&documents.unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("Job b names PriorityClass low"),
            "{found:?}"
        );
    }

    #[test]
    fn a_plan_uses_the_memory_that_the_controller_learned() {
        let text = r#"{"version":1,"nodes":[{"kind":"AL2023","instanceType":"c5.xlarge",
            "mebibytes":7700,"image":"ami-1","at":"2027-01-15T08:00:00Z"}]}"#;
        let memory = NodeMemory::read(text, at(0)).unwrap();
        let class = |memory: &NodeMemory| {
            let object = crate::sim::scene::node_class("default", "blue", 20);
            let object = serde_json::from_value(object).unwrap();
            let class = node_class(&object, None, memory);
            let found = &class.catalogue.types["c5.xlarge"];
            (found.capacity.get(MEMORY), found.allocatable().get(MEMORY))
        };
        let guessed = class(&NodeMemory::default());
        let learned = class(&memory);
        assert_eq!(learned.0, 7_700 << 20);
        assert_eq!(learned.1 - guessed.1, learned.0 - guessed.0);
        assert!(learned.0 > guessed.0);
    }

    #[test]
    fn prices_of_another_region_are_named() {
        let abroad = nodes_in(&["eu-west-1", "eu-west-1"]);
        assert_eq!(
            foreign_region(&abroad, "us-east-1").as_deref(),
            Some("eu-west-1")
        );
        for (regions, prices) in [
            (vec!["us-east-1"], "us-east-1"),
            (vec![], "us-east-1"),
            (vec!["eu-west-1"], ""),
        ] {
            assert_eq!(foreign_region(&nodes_in(&regions), prices), None);
        }
    }
}
