//! Writes within a term of leadership: none is begun or repeated after it, and it begins with what the
//! last leader wrote.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::script::{Script, failure, list};
use super::watching::world;
use crate::api::NodeClaim;
use crate::cluster::apply::{Access, ApplyOptions, Kubernetes, WriteErrorClass};
use crate::cluster::lease::Term;
use crate::cluster::{Mirror, observe};
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
    json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": "general-x7k2p", "uid": "claim-uid", "resourceVersion": "7",
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
        kubernetes.list_claims().await.unwrap_err().class,
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
    kubernetes.catch_up().await.unwrap();
    let view = kubernetes.mirror().view();
    assert_eq!(view.claims["general-x7k2p"].resource_version, "7");
}
