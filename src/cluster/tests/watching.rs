//! The mirror follows lists and watches, and says what is wrong when it cannot.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::script::{Script, event, failure, list, yaml};
use crate::cluster::{Changes, Kind, Mirror};
use crate::metrics::Metrics;
use crate::model::pod::PodKey;
use crate::world::{Clock, World};

const PODS: &str = "/api/v1/pods";
const CLAIMS: &str = "/apis/karpenter.sh/v1/nodeclaims";

#[derive(Debug)]
struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

pub(super) fn world() -> World {
    World::new(std::sync::Arc::new(Epoch), 7)
}

fn pod(name: &str, resource_version: &str, node: Option<&str>) -> Value {
    json!({
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": format!("uid-{name}"),
            "resourceVersion": resource_version,
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending"},
    })
}

fn key(name: &str) -> PodKey {
    PodKey::new("default", name)
}

/// Waits in virtual time until the condition holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _millisecond in 0..600_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test(start_paused = true)]
async fn the_mirror_lists_then_follows_and_wakes_by_key() {
    let script = Script::new();
    script
        .on(
            "GET",
            PODS,
            200,
            &list("10", &[pod("a", "5", None), pod("b", "6", Some("n1"))]),
        )
        .watch(
            PODS,
            &[
                event("MODIFIED", &pod("a", "11", Some("n1"))),
                event("DELETED", &pod("b", "12", Some("n1"))),
            ],
        );
    let (world, mirror) = (world(), Mirror::new());
    let pods = mirror.subscribe([Kind::Pod]);
    let nodes = mirror.subscribe([Kind::Node]);
    assert!(!mirror.is_synced());
    assert!(
        mirror.problems()[0].contains("pods"),
        "{:?}",
        mirror.problems()
    );
    mirror.start(&script.client(), &world);
    mirror.synced().await;
    until("b is gone", || !mirror.view().pods.contains_key(&key("b"))).await;

    let view = mirror.view();
    assert_eq!(view.pods[&key("a")].node_name.as_deref(), Some("n1"));
    assert_eq!(view.pods_on("n1").count(), 1);
    assert_eq!(mirror.problems(), Vec::<String>::new());
    let metrics = Metrics::new();
    mirror.report(&metrics);
    let text = metrics.text();
    assert!(
        text.contains("tonnage_mirror_objects{resource=\"pods\"} 1"),
        "{text}"
    );
    assert!(text.contains("tonnage_mirror_synced 1"), "{text}");
    let mut changes = pods.take();
    changes.absorb(pods.take());
    assert!(changes.pods.contains(&key("a")) && changes.pods.contains(&key("b")));
    assert!(changes.pod_nodes.contains("n1"));
    assert_eq!(changes.kinds.len(), 1);
    assert_eq!(nodes.take().kinds.len(), 0);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shrank_is_seen_as_one() {
    for refused_at_start in [false, true] {
        let script = Script::new();
        script.on(
            "GET",
            PODS,
            200,
            &list("10", &[pod("a", "5", None), pod("b", "6", None)]),
        );
        if refused_at_start {
            script.refuse_watch(PODS, 410);
        } else {
            let gone = failure(410, "Expired", "too old resource version");
            script.watch(PODS, &[event("ERROR", &gone)]);
        }
        script.on("GET", PODS, 200, &list("90", &[pod("a", "5", None)]));
        let (world, mirror) = (world(), Mirror::new());
        mirror.start(&script.client(), &world);
        until("a second list", || mirror.lists(Kind::Pod).generation == 2).await;
        let record = mirror.lists(Kind::Pod);
        assert!(record.shrank(), "{record:?}");
        assert_eq!(record.completed, Some(Timestamp::UNIX_EPOCH));
        assert!(!mirror.view().pods.contains_key(&key("b")));
        world.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_until_it_is_given() {
    let script = Script::new();
    let refusal = failure(403, "Forbidden", "pods is forbidden");
    script
        .on("GET", PODS, 403, &refusal)
        .on("GET", PODS, 403, &refusal)
        .on("GET", PODS, 200, &list("10", &[pod("a", "5", None)]));
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    until("the problem is known", || {
        mirror
            .problems()
            .iter()
            .any(|problem| problem.contains("get, list and watch on pods"))
    })
    .await;
    assert!(!mirror.is_synced());
    mirror.synced().await;
    assert_eq!(mirror.problems(), Vec::<String>::new());
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_works_again_is_no_problem_any_more_even_if_nothing_changes() {
    let script = Script::new();
    script.refuse_watch(PODS, 500);
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    until("the problem is known", || {
        mirror
            .problems()
            .iter()
            .any(|problem| problem.starts_with("pods: watch failed"))
    })
    .await;
    until("it is over", || mirror.problems().is_empty()).await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_definition_says_how_to_install_it() {
    let script = Script::new();
    for _attempt in 0..50 {
        script.on(
            "GET",
            CLAIMS,
            404,
            &failure(404, "NotFound", "page not found"),
        );
    }
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    until("the problem is known", || {
        mirror
            .problems()
            .iter()
            .any(|problem| problem.contains("tonnage crds | kubectl apply"))
    })
    .await;
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn failing_lists_are_tried_less_and_less_often() {
    let script = Script::new();
    for _attempt in 0..1000 {
        script.on(
            "GET",
            PODS,
            500,
            &failure(500, "InternalError", "etcd is away"),
        );
    }
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let asked = script
        .asked(&["GET"])
        .into_iter()
        .filter(|asked| asked.path == PODS)
        .count();
    assert!((20..=60).contains(&asked), "{asked}");
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn claims_of_other_provisioners_are_left_out_and_pools_are_marked() {
    let claim = |name: &str, group: &str| {
        yaml(&format!(
            r#"
apiVersion: karpenter.sh/v1
kind: NodeClaim
metadata: {{name: {name}, uid: uid-{name}, resourceVersion: "3"}}
spec:
  requirements: []
  nodeClassRef: {{group: {group}, kind: EC2NodeClass, name: default}}
"#
        ))
    };
    let script = Script::new();
    script.on(
        "GET",
        CLAIMS,
        200,
        &list(
            "10",
            &[
                claim("ours", "tonnage.dev"),
                claim("theirs", "karpenter.k8s.aws"),
            ],
        ),
    );
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    mirror.synced().await;
    let view = mirror.view();
    assert_eq!(view.claims.keys().collect::<Vec<_>>(), ["ours"]);
    world.shut_down().await;
}

#[test]
fn changes_of_two_looks_can_be_united() {
    let mut first = Changes::default();
    first.nodes.insert("a".to_owned());
    let mut second = Changes::default();
    second.nodes.insert("b".to_owned());
    second.kinds.insert(Kind::Node);
    first.absorb(second);
    assert_eq!(first.nodes.len(), 2);
    assert!(!first.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_finds_its_claim_by_provider_id() {
    let claim = |name: &str, provider_id: &str| {
        json!({
            "metadata": {"name": name, "uid": name, "resourceVersion": "3"},
            "spec": {
                "requirements": [],
                "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
            },
            "status": {"providerID": provider_id},
        })
    };
    let node = |name: &str, provider_id: &str| {
        json!({
            "metadata": {"name": name, "uid": name, "resourceVersion": "3"},
            "spec": {"providerID": provider_id},
        })
    };
    let script = Script::new();
    script
        .on(
            "GET",
            CLAIMS,
            200,
            &list("10", &[claim("a", "aws:///z/i-1"), claim("b", "")]),
        )
        .on(
            "GET",
            "/api/v1/nodes",
            200,
            &list(
                "10",
                &[
                    node("n1", "aws:///z/i-1"),
                    node("n2", "aws:///z/i-1"),
                    node("n3", ""),
                ],
            ),
        );
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    mirror.synced().await;
    let view = mirror.view();
    let found = |name: &str| {
        view.claim_of(&view.nodes[name])
            .map(|claim| claim.name.clone())
    };
    assert_eq!(found("n1").as_deref(), Some("a"));
    assert_eq!(found("n3"), None);
    let twins: Vec<&str> = view
        .nodes_with("aws:///z/i-1")
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(twins, ["n1", "n2"]);
    let snapshot = view.snapshot(Timestamp::UNIX_EPOCH, std::collections::BTreeMap::new());
    assert_eq!((snapshot.nodes.len(), snapshot.claims.len()), (3, 2));
    world.shut_down().await;
}

/// Before a DaemonSet has a pod, its template and the LimitRanges of its namespace say what its pods will request.
#[tokio::test(start_paused = true)]
async fn daemon_sets_come_with_what_limit_ranges_give_their_pods() {
    let range = |namespace: &str, cpu: &str| {
        json!({
            "metadata": {"name": "defaults", "namespace": namespace, "uid": namespace, "resourceVersion": "3"},
            "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": cpu}}]},
        })
    };
    let daemon_set = |name: &str, resources: Value| {
        json!({
            "metadata": {"name": name, "namespace": "kube-system", "uid": name, "resourceVersion": "3"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "resources": resources}]},
                },
            },
        })
    };
    let own = json!({"requests": {"cpu": "200m"}});
    let (script, ranges) = (Script::new(), "/api/v1/limitranges");
    let given = [range("kube-system", "100m"), range("other", "1")];
    let sets = [daemon_set("silent", json!({})), daemon_set("says-so", own)];
    script.on("GET", ranges, 200, &list("10", &given)).on(
        "GET",
        "/apis/apps/v1/daemonsets",
        200,
        &list("10", &sets),
    );
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    mirror.synced().await;
    let snapshot = mirror
        .view()
        .snapshot(Timestamp::UNIX_EPOCH, std::collections::BTreeMap::new());
    let cpu = |name: &str| snapshot.daemon_sets[name].spec.requests.get("cpu");
    assert_eq!(cpu("kube-system/silent"), 100);
    assert_eq!(cpu("kube-system/says-so"), 200);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_whose_place_in_history_is_gone_may_be_behind_until_it_is_listed_again() {
    let script = Script::new();
    let gone = failure(410, "Expired", "too old resource version");
    script
        .on("GET", PODS, 200, &list("10", &[pod("a", "5", None)]))
        .watch(PODS, &[event("ERROR", &gone)])
        .late(
            "GET",
            PODS,
            Duration::from_secs(2),
            &list("90", &[pod("a", "5", None)]),
        );
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    let behind = || mirror.may_be_behind(&[Kind::Pod]);
    until("pods are behind", behind).await;
    until("they are listed", || !behind()).await;
    assert_eq!(mirror.lists(Kind::Pod).generation, 2);
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_for_long_keeps_nobody_waiting() {
    let script = Script::new();
    let refusal = failure(403, "Forbidden", "pods is forbidden");
    script
        .on("GET", PODS, 200, &list("10", &[pod("a", "5", None)]))
        .refuse_watch(PODS, 403);
    for _attempt in 0..50 {
        script.on("GET", PODS, 403, &refusal);
    }
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    let behind = || mirror.may_be_behind(&[Kind::Pod]);
    until("pods are behind", behind).await;
    until("they are waited for no longer", || !behind()).await;
    assert_eq!(mirror.problems().len(), 1, "readiness goes on to tell it");
    world.shut_down().await;
}
