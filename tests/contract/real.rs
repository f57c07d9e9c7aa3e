//! The real kube-apiserver as the test uses it: one for all cases, a namespace for each.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt, stream};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tonnage::api::crds;

use crate::play::{self, Answer};
use crate::script::Case;
use crate::waiting::eventually;

/// Cases that are under way at the same time: what takes time is waiting for watches to end.
const AT_ONCE: usize = 8;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_missing| {
        panic!(
            "{name} is not set: run `hack/test contract`, or `eval \"$(hack/up --api-server-only)\"`"
        )
    })
}

/// A prefix of names that no earlier run on this API server has used.
pub(crate) fn new_space() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("c{:x}", since.as_millis())
}

/// The namespace of a case.
pub(crate) fn space_of(prefix: &str, case: usize) -> String {
    format!("{prefix}-{case:03}")
}

/// Plays every case.
pub(crate) fn play(cases: &[Case], space: &str) -> Vec<Vec<Answer>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect().await;
        prepare(&client).await;
        let played = stream::iter(cases.iter().enumerate()).map(|(number, case)| {
            let (client, space) = (client.clone(), space_of(space, number));
            async move {
                make_space(&client, &space).await;
                play::case(&client, case, &space, || {}).await
            }
        });
        played.buffered(AT_ONCE).collect().await
    })
}

async fn connect() -> Client {
    assert_eq!(
        variable("TONNAGE_API_SERVER_ONLY"),
        "true",
        "the control plane has controllers that would write in between"
    );
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(PathBuf::from(variable("KUBECONFIG"))).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    // A refused eviction is an answer, nothing to repeat.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn ask(client: &Client, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let bytes = body.map(|body| body.to_string().into_bytes());
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(bytes.unwrap_or_default()))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn make(client: &Client, path: &str, object: &Value) {
    let (code, answer) = ask(client, "POST", path, Some(object)).await;
    assert!([201, 409].contains(&code), "{path}: {answer}");
}

/// Installs our kinds and waits until they are served.
async fn prepare(client: &Client) {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for definition in crds::definitions() {
        let object = serde_json::to_value(&definition).unwrap();
        make(client, DEFINITIONS, &object).await;
        let spec = definition.spec;
        let path = format!(
            "/apis/{}/{}/{}",
            spec.group, spec.versions[0].name, spec.names.plural
        );
        eventually("our kinds are served", 30, async || {
            match ask(client, "GET", &path, None).await {
                (200, _list) => Ok(()),
                (code, answer) => Err(format!("{code} {answer}")),
            }
        })
        .await;
    }
}

/// A namespace in which pods can be created: nobody else is there to make its ServiceAccount.
async fn make_space(client: &Client, space: &str) {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space },
    });
    make(client, "/api/v1/namespaces", &namespace).await;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" },
    });
    let path = format!("/api/v1/namespaces/{space}/serviceaccounts");
    make(client, &path, &account).await;
}
