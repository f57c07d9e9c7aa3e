//! NodeClaims are held once, however often they are listed and however many say the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::script::{Script, event, list};
use super::watching::{until, world};
use super::writing::{CLAIM, WRITES, writer};
use crate::api::{NodeClaim, labels};
use crate::cluster::apply::ClaimMetadataChange;
use crate::cluster::{Mirror, observe};
use crate::model::claim::Claim;

const CLAIMS: &str = "/apis/karpenter.sh/v1/nodeclaims";
const RECORD: &str = r#"{"batch":"b1","attempt":1,"size":2,"capacityType":"spot","templates":[]}"#;

fn object(name: &str, uid: &str, version: &str, group: &str) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": name, "uid": uid, "resourceVersion": version,
            "creationTimestamp": "2026-11-25T00:00:00Z",
            "annotations": {
                labels::OFFERINGS: "c5.xlarge/us-east-1a/spot,c5.xlarge/us-east-1b/spot",
                labels::LAUNCH: RECORD,
            },
        },
        "spec": {
            "requirements": [],
            "nodeClassRef": {"group": group, "kind": "EC2NodeClass", "name": "default"},
        },
    })
}

fn ours(name: &str, uid: &str, version: &str) -> Value {
    object(name, uid, version, labels::TONNAGE_GROUP)
}

fn observed(object: Value) -> Arc<Claim> {
    let object: NodeClaim = serde_json::from_value(object).unwrap();
    Arc::new(observe::claim::claim(&object))
}

#[tokio::test(start_paused = true)]
async fn a_list_gives_back_what_is_known_as_it_is_known_and_reads_the_rest() {
    let known: BTreeMap<String, Arc<Claim>> = [
        ours("same", "u1", "1"),
        ours("changed", "u2", "2"),
        ours("anew", "u3", "3"),
        ours("gone", "u4", "4"),
    ]
    .into_iter()
    .map(observed)
    .map(|claim| (claim.name.clone(), claim))
    .collect();
    let mut first = list("9", &[ours("same", "u1", "1"), ours("changed", "u2", "5")]);
    first["metadata"]["continue"] = json!("the-rest");
    // Versions are of the whole API server, so that no other object has it; the uid decides all the same.
    let second = [
        ours("anew", "u5", "3"),
        ours("unknown", "u6", "6"),
        object("theirs", "u7", "7", "karpenter.k8s.aws"),
    ];
    let script = Script::new();
    script
        .on("GET", CLAIMS, 200, &first)
        .on("GET", CLAIMS, 200, &list("9", &second));
    let listed = writer(&script).list_claims(&known).await.unwrap();
    let told: Vec<(&str, &str, &str, bool)> = listed
        .iter()
        .map(|claim| {
            let shown = known.get(&claim.name);
            let is_shared = shown.is_some_and(|shown| Arc::ptr_eq(shown, claim));
            let version = claim.resource_version.as_str();
            (claim.name.as_str(), claim.uid.as_str(), version, is_shared)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("same", "u1", "1", true),
            ("changed", "u2", "5", false),
            ("anew", "u5", "3", false),
            ("unknown", "u6", "6", false),
        ]
    );
    let asked = script.asked(&["GET"]);
    assert_eq!(asked.len(), 2);
    assert!(asked[1].query.contains("continue=the-rest"), "{asked:#?}");
}

#[tokio::test(start_paused = true)]
async fn claims_share_what_was_decided_for_all_of_them() {
    let script = Script::new();
    let both = [ours("a", "u1", "1"), ours("b", "u2", "2")];
    script
        .on("GET", CLAIMS, 200, &list("10", &both))
        .watch(CLAIMS, &[event("ADDED", &ours("c", "u3", "11"))]);
    let (world, mirror) = (world(), Mirror::new());
    mirror.start(&script.client(), &world);
    until("the third is there", || {
        mirror.view().claims.contains_key("c")
    })
    .await;
    let claims = mirror.view().claims;
    let first = &claims["a"];
    let mut written = observed(ours("d", "u4", "12"));
    mirror.claim_written(&mut written);
    for other in [&claims["b"], &claims["c"], &written] {
        assert_eq!(other.offerings.len(), 2);
        assert!(Arc::ptr_eq(&other.offerings, &first.offerings));
        let records = other.launch.as_ref().zip(first.launch.as_ref());
        let (other, first) = records.unwrap();
        assert!(Arc::ptr_eq(other, first));
    }
    world.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_is_written_once_and_taken_away_also_where_it_cannot_be_read() {
    let script = Script::new();
    let kubernetes = writer(&script);
    let name = "general-x7k2p";
    let claim = observed(ours(name, "u1", "1"));
    let same = kubernetes.write_launch(&claim, RECORD).await.unwrap();
    assert_eq!(same, claim);
    assert!(script.asked(WRITES).is_empty());

    let next = RECORD.replace("\"attempt\":1", "\"attempt\":2");
    let mut broken = ours(name, "u1", "2");
    broken["metadata"]["annotations"][labels::LAUNCH] = json!("{");
    script.on("PATCH", CLAIM, 200, &broken);
    let broken = kubernetes.write_launch(&claim, &next).await.unwrap();
    assert_eq!(broken.launch, None);

    script.on("PATCH", CLAIM, 200, &ours(name, "u1", "3"));
    let without = ClaimMetadataChange {
        annotations: BTreeMap::from([(labels::LAUNCH.to_owned(), None)]),
        ..ClaimMetadataChange::default()
    };
    kubernetes
        .patch_claim_metadata(&broken, &without)
        .await
        .unwrap();
    let asked = script.asked(WRITES);
    assert_eq!(asked.len(), 2);
    let annotations = &asked[1].body["metadata"]["annotations"];
    assert_eq!(annotations.get(labels::LAUNCH), Some(&Value::Null));
}
