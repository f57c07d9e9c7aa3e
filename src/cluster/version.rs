//! The cluster's Kubernetes version, which decides which images nodes are started from.
//!
//! Given a client and a world; given back the version as it is now, asked again every few minutes,
//! because control planes are upgraded under a running controller. It is unknown until the API server
//! has answered once; what was known stays when it does not answer.

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use crate::model::kubernetes_version::KubernetesVersion;
use crate::world::World;

/// Time between two looks at a version that is known.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// Time between two looks at one that is not.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// Follows the version until the world stops.
pub fn follow(client: Client, world: &World) -> watch::Receiver<Option<KubernetesVersion>> {
    let (known, follower) = watch::channel(None);
    let stop = world.stop().clone();
    world.spawn(async move {
        let looking = async {
            loop {
                look(&client, &known).await;
                let pause = if known.borrow().is_some() {
                    LOOK_AGAIN
                } else {
                    LOOK_SOON
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = looking => {}
        }
    });
    follower
}

/// What the API server says; what keeps it from being known is logged.
async fn read(client: &Client) -> Option<KubernetesVersion> {
    let said = client
        .apiserver_version()
        .await
        .inspect_err(|error| tracing::debug!(%error, "the API server does not say its version"))
        .ok()?;
    let version = KubernetesVersion::parse(&said.major, &said.minor);
    if version.is_none() {
        tracing::warn!(
            major = said.major,
            minor = said.minor,
            "the API server's version cannot be read: aliases of images find nothing"
        );
    }
    version
}

async fn look(client: &Client, known: &watch::Sender<Option<KubernetesVersion>>) {
    let Some(version) = read(client).await else {
        return;
    };
    let is_news = known.send_if_modified(|known| known.replace(version) != Some(version));
    if is_news {
        tracing::info!(%version, "the cluster's Kubernetes version");
    }
}
