//! What new nodes are told of the cluster.

use serde_json::{Value, json};

use super::script::Script;
use crate::cluster::joining::dns_address;

const KUBE_DNS: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
const COREDNS: &str = "/api/v1/namespaces/kube-system/services/coredns";

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "code": code,
    })
}

fn service(addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"},
        "spec": {"clusterIP": addresses[0], "clusterIPs": addresses},
    })
}

#[tokio::test(start_paused = true)]
async fn the_clusters_dns_is_where_its_service_is_under_either_name() {
    let usual = Script::new();
    usual.on("GET", KUBE_DNS, 200, &service(&["10.43.0.10"]));
    let other = Script::new();
    other.on("GET", KUBE_DNS, 503, &status(503, "ServiceUnavailable"));
    other.on("GET", KUBE_DNS, 404, &status(404, "NotFound"));
    other.on("GET", COREDNS, 200, &service(&["fd00::a", "10.9.9.9"]));
    for (script, expected) in [(usual, "10.43.0.10"), (other, "10.9.9.9")] {
        let found = dns_address(script.client()).await;
        assert_eq!(
            found.map(|found| found.to_string()).as_deref(),
            Some(expected)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_may_not_be_read_or_has_no_address_it_is_not_known() {
    let forbidden = Script::new();
    forbidden.on("GET", KUBE_DNS, 403, &status(403, "Forbidden"));
    let headless = Script::new();
    headless.on("GET", KUBE_DNS, 200, &service(&["None"]));
    headless.on("GET", COREDNS, 404, &status(404, "NotFound"));
    for script in [forbidden, headless] {
        assert_eq!(dns_address(script.client()).await, None);
    }
}
