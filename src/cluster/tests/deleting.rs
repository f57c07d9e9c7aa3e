//! Deletions: of the very object, and where it matters only while it is as it was seen.

use serde_json::{Value, json};

use super::script::{Script, failure};
use super::writing::{
    CLAIM, NODE, WRITES, claim, claim_object, going_claim_object, node, node_object, writer,
};
use crate::api::labels;
use crate::cluster::apply::{FinalizedKind, WriteErrorClass};

#[tokio::test(start_paused = true)]
async fn deleting_what_is_gone_is_done() {
    let script = Script::new();
    script
        .on("DELETE", CLAIM, 404, &failure(404, "NotFound", "gone"))
        .on(
            "DELETE",
            NODE,
            409,
            &failure(409, "Conflict", "uid differs"),
        );
    let kubernetes = writer(&script);
    assert_eq!(kubernetes.delete_claim(&claim()).await, Ok(()));
    assert_eq!(kubernetes.delete_node(&node()).await, Ok(()));
    let asked = script.asked(WRITES);
    assert_eq!(asked[0].body["preconditions"]["uid"], "claim-uid");
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_deleted_as_it_was_seen_and_as_no_other() {
    let changed = failure(409, "Conflict", "Precondition failed: resourceVersion");
    let going = going_claim_object("8");
    let mut another = claim_object("8");
    another["metadata"]["uid"] = json!("another");
    for (found, outcome) in [
        (claim_object("6"), Err(WriteErrorClass::Conflict)),
        // An earlier attempt took effect, and its answer was lost.
        (going, Ok(())),
        (another, Ok(())),
    ] {
        let script = Script::new();
        script
            .on("DELETE", CLAIM, 409, &changed)
            .on("GET", CLAIM, 200, &found);
        let deleted = writer(&script).delete_unchanged_claim(&claim()).await;
        assert_eq!(deleted.map_err(|error| error.class), outcome);
        let asked = script.asked(WRITES);
        let wanted = json!({ "uid": "claim-uid", "resourceVersion": "7" });
        assert_eq!(asked[0].body["preconditions"], wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_pods_again_is_not_deleted() {
    let script = Script::new();
    script.on("GET", NODE, 200, &node_object());
    let deleted = writer(&script).delete_fenced_node(&node(), &claim()).await;
    assert_eq!(deleted.unwrap_err().class, WriteErrorClass::Conflict);
    assert_eq!(script.asked(WRITES), []);
}

fn fenced_node_object() -> Value {
    let mut fenced = node_object();
    fenced["metadata"]["resourceVersion"] = json!("9");
    fenced["spec"]["taints"] = json!([{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }]);
    fenced
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_is_deleted_while_its_claim_goes_and_else_not() {
    let going = going_claim_object("8");
    let mut another = going.clone();
    another["metadata"]["uid"] = json!("another");
    let gone = failure(404, "NotFound", "not found");
    for (status, found) in [(200, claim_object("6")), (200, another), (404, gone)] {
        let script = Script::new();
        script
            .on("GET", NODE, 200, &fenced_node_object())
            .on("GET", CLAIM, status, &found);
        let deleted = writer(&script).delete_fenced_node(&node(), &claim()).await;
        let refused = deleted.map_err(|error| error.class);
        assert_eq!(refused, Err(WriteErrorClass::Conflict), "{found}");
        assert_eq!(script.asked(WRITES), []);
    }

    let script = Script::new();
    let fenced = fenced_node_object();
    let changed = failure(409, "Conflict", "Precondition failed: resourceVersion");
    script
        .on("GET", NODE, 200, &fenced)
        .on("GET", CLAIM, 200, &going)
        .on("DELETE", NODE, 409, &changed)
        .on("GET", NODE, 200, &fenced)
        .on("GET", CLAIM, 200, &going)
        .on("DELETE", NODE, 200, &fenced);
    let deleted = writer(&script).delete_fenced_node(&node(), &claim()).await;
    assert_eq!(deleted, Ok(()), "a heartbeat of its kubelet came between");
    let asked = script.asked(WRITES);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].body["preconditions"]["resourceVersion"], "9");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_a_restore_has_back_as_it_was_keeps_its_finalizer() {
    let script = Script::new();
    script.on("GET", CLAIM, 200, &claim_object("7"));
    let finalizer = labels::TERMINATION_FINALIZER;
    let removed = writer(&script)
        .remove_finalizer(
            FinalizedKind::Claim,
            "general-x7k2p",
            "claim-uid",
            finalizer,
        )
        .await;
    let refused = removed.map_err(|error| error.class);
    assert_eq!(refused, Err(WriteErrorClass::Conflict));
    assert_eq!(script.asked(WRITES), []);
}
