//! The environment of the tests: where the services are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;

/// Reads a variable that `hack/up` prints; without it no test can mean anything.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_missing| {
        panic!(
            "{name} is not set: run `hack/test e2e`, or `eval \"$(hack/up)\"` and set TONNAGE_BIN"
        )
    })
}

/// The cluster and the endpoint that one test works with.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) endpoint: Endpoint,
}

impl World {
    /// Connects, removes what an earlier test left behind, and installs the chart.
    pub(crate) async fn fresh() -> Self {
        let world = Self {
            cluster: Cluster::new(client_of(&variable("KUBECONFIG")).await),
            endpoint: Endpoint::new(),
        };
        world.endpoint.clear_faults().await;
        world.endpoint.boot_apart(0).await;
        world.cluster.remove_everything(&world.endpoint).await;
        Cluster::install_chart("run");
        world
    }

    /// Whether each machine has one claim and one Node, and neither is of anything else; an error says what there is.
    pub(crate) async fn machines_are_nodes_and_claims(&self) -> Result<(), String> {
        let id_of = |provider_id: &str| provider_id.rsplit('/').next().map(str::to_owned);
        let machines = self.endpoint.machines().await;
        let machines: BTreeSet<String> = machines.into_iter().map(|one| one.id).collect();
        let nodes = self.cluster.worker_nodes().await;
        let nodes: Vec<String> = nodes
            .iter()
            .map(|node| node.spec.as_ref()?.provider_id.as_deref().and_then(id_of))
            .map(Option::unwrap_or_default)
            .collect();
        let claims = self.cluster.node_claims();
        let claims = claims.list(&ListParams::default()).await.unwrap();
        let claims: Vec<String> = claims
            .iter()
            .map(|claim| claim.data["status"]["providerID"].as_str().and_then(id_of))
            .map(Option::unwrap_or_default)
            .collect();
        let are_all = |named: &[String]| {
            named.len() == machines.len() && named.iter().all(|id| machines.contains(id))
        };
        if are_all(&nodes) && are_all(&claims) {
            Ok(())
        } else {
            Err(format!(
                "machines {machines:?}\nnodes {nodes:?}\nclaims {claims:?}"
            ))
        }
    }
}

/// A client for a kubeconfig file.
pub(crate) async fn client_of(path: &str) -> Client {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(PathBuf::from(path)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}
