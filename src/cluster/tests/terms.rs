//! Writes within a term of leadership: none is begun or repeated after it, and it begins with what the
//! last leader wrote.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::script::{Script, event, failure, list};
use super::watching::{until, world};
use crate::api::NodeClaim;
use crate::cluster::apply::{Access, ApplyOptions, Kubernetes, WriteErrorClass};
use crate::cluster::lease::Term;
use crate::cluster::{Kind, Mirror, observe};
use crate::metrics::Metrics;
use crate::model::claim::Claim;

const CLAIMS: &str = "/apis/karpenter.sh/v1/nodeclaims";
const CLAIM: &str = "/apis/karpenter.sh/v1/nodeclaims/general-x7k2p";

fn kubernetes(script: &Script, term: &Term) -> Kubernetes {
    let options = ApplyOptions {
        access: Access::ReadWrite,
        term: term.clone(),
        per_second: NonZeroU32::new(200).unwrap(),
        burst: NonZeroU32::new(300).unwrap(),
        metrics: Arc::new(Metrics::new()),
    };
    Kubernetes::new(script.client(), Mirror::new(), world(), options)
}

fn object() -> Value {
    named("general-x7k2p", "7")
}

fn named(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": name, "uid": format!("uid-of-{name}"), "resourceVersion": version,
            "creationTimestamp": "2026-11-25T00:00:00Z",
        },
        "spec": {
            "requirements": [],
            "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
        },
    })
}

fn claim() -> Claim {
    observe::claim::claim(&serde_json::from_value::<NodeClaim>(object()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn after_the_term_nothing_leaves_the_process() {
    let (script, term) = (Script::new(), Term::without_lease());
    term.end();
    let kubernetes = kubernetes(&script, &term);
    let error = kubernetes.delete_claim(&claim()).await.unwrap_err();
    assert_eq!(error.class, WriteErrorClass::NotLeading);
    assert!(!error.class.is_retryable());
    assert_eq!(
        kubernetes
            .list_claims(&BTreeMap::new())
            .await
            .unwrap_err()
            .class,
        error.class
    );
    assert!(script.asked(&["GET", "DELETE"]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_answer_is_cut_off() {
    let term = Term::up_to(Instant::now() + Duration::from_secs(6));
    let script = Script::new();
    script.late("DELETE", CLAIM, Duration::from_secs(20), &object());
    let begin = Instant::now();
    let error = kubernetes(&script, &term).delete_claim(&claim()).await;
    assert_eq!(error.unwrap_err().class, WriteErrorClass::NotLeading);
    assert_eq!(begin.elapsed(), Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_is_not_repeated_after_the_term() {
    let term = Term::up_to(Instant::now() + Duration::from_millis(50));
    let script = Script::new();
    let away = failure(503, "ServiceUnavailable", "away");
    // The pause before the second attempt is longer than the term.
    script.on("DELETE", CLAIM, 503, &away);
    let error = kubernetes(&script, &term).delete_claim(&claim()).await;
    assert_eq!(error.unwrap_err().class, WriteErrorClass::NotLeading);
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(script.asked(&["DELETE"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_with_what_the_last_leader_wrote() {
    let script = Script::new();
    script.on("GET", CLAIMS, 200, &list("9", &[object()]));
    let kubernetes = kubernetes(&script, &Term::without_lease());
    assert!(kubernetes.mirror().view().claims.is_empty());
    let found = kubernetes.catch_up().await.unwrap();
    assert!(found.agrees, "a watch that shows less is only behind");
    let view = kubernetes.mirror().view();
    assert_eq!(view.claims["general-x7k2p"].resource_version, "7");
}

/// A watch that broke without a word shows what a restore has taken back, and not what it brought back.
#[tokio::test(start_paused = true)]
async fn a_term_begins_with_what_a_restored_api_server_holds() {
    let script = Script::new();
    let known = [
        object(),
        named("general-later", "8"),
        named("general-older", "9"),
    ];
    let restored = list(
        "5",
        &[named("general-x7k2p", "3"), named("general-older", "4")],
    );
    script
        .on("GET", CLAIMS, 200, &list("10", &known))
        .watch(CLAIMS, &[event("DELETED", &object())])
        .on("GET", CLAIMS, 200, &restored)
        .late("GET", CLAIMS, Duration::from_secs(2), &restored);
    let (world, kubernetes) = (world(), kubernetes(&script, &Term::without_lease()));
    let mirror = kubernetes.mirror();
    mirror.start(&script.client(), &world);
    let names = || -> Vec<String> { mirror.view().claims.keys().cloned().collect() };
    until("one is gone", || {
        names() == ["general-later", "general-older"]
    })
    .await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let behind = || mirror.may_be_behind(&[Kind::NodeClaim]);
    assert!(!behind() && !mirror.went_back_within(Duration::from_mins(2)));

    let found = kubernetes.catch_up().await.unwrap();
    assert_eq!((found.claims, found.agrees), (2, false));
    mirror.list_again();
    assert_eq!(mirror.view().claims["general-x7k2p"].resource_version, "3");
    assert!(behind(), "nothing is bought before the claims are listed");
    until("they are", || !behind()).await;
    assert_eq!(names(), ["general-older", "general-x7k2p"]);
    assert!(mirror.went_back_within(Duration::from_mins(2)));
    tokio::time::advance(Duration::from_mins(2)).await;
    assert!(!mirror.went_back_within(Duration::from_mins(2)));
    world.shut_down().await;
}
