//! Pods that wait, for ever or for a place.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::sim::api_server::Resource::Pod;

impl Stage {
    /// A pod of three cores that is spread over zones, of which one may have so many more than another.
    fn spread(&self, name: &str, skew: u32) {
        self.spread_over(name, skew, 1);
    }

    /// The same where there must be so many zones, or the emptiest counts as if it had no pod.
    fn spread_over(&self, name: &str, skew: u32, zones: u32) {
        self.pod_with(
            name,
            &json!({
                "topologySpreadConstraints": [{
                    "topologyKey": "topology.kubernetes.io/zone", "maxSkew": skew, "minDomains": zones,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": { "matchExpressions": [{ "key": "no-such-label", "operator": "DoesNotExist" }] },
                }],
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
            }),
        );
    }

    /// How many machines run in each zone, by its letter.
    fn by_zone(&self) -> BTreeMap<String, usize> {
        let mut zones = BTreeMap::new();
        for machine in self.running() {
            let letter = machine.offering.zone.trim_start_matches("us-east-1");
            *zones.entry(letter.to_owned()).or_default() += 1;
        }
        zones
    }
}

/// Elsewhere pods that wait make the removal of any node look as if it needed another, and nodes stay or machines
/// are bought in vain; here a node that becomes empty goes at its time, while pods that can never run and pods that
/// a limit keeps out wait, and more of them come.
#[tokio::test(start_paused = true)]
async fn pods_that_wait_for_ever_keep_no_empty_node() {
    let stage = Stage::new();
    stage.another_pool(|pool| pool["spec"]["limits"] = json!({ "nodes": "0" }));
    let _process = stage.run();
    stage.two_pods_run().await;
    for number in 0..5 {
        stage.pod_of(&format!("huge-{number}"), "1000");
        stage.pod_of_another_pool(&format!("kept-out-{number}"));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.running_pods(), 2);
    stage.delete(Pod, "a");
    for number in 5..10 {
        stage.pod_of(&format!("huge-{number}"), "1000");
        stage.pod_of_another_pool(&format!("kept-out-{number}"));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    stage
        .until(10, "the empty machine is gone", |stage| {
            stage.running().len() == 1
        })
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    for number in 0..10 {
        assert_eq!(stage.phase(&format!("huge-{number}")), "Pending");
        assert_eq!(stage.phase(&format!("kept-out-{number}")), "Pending");
    }
    assert_eq!(stage.running_pods(), 1, "the other pod was not touched");
    assert_eq!((stage.running().len(), stage.machines().len()), (1, 2));
}

/// Elsewhere a requirement for a number below nought, which the API server takes, ends the controller; here pods of
/// that NodePool and of others run, and one that asks for a number is told that there is none.
#[tokio::test(start_paused = true)]
async fn a_number_that_nothing_is_below_ends_nothing() {
    let stage = Stage::new();
    stage.another_pool(|pool| {
        let requirements = &mut pool["spec"]["template"]["spec"]["requirements"];
        requirements
            .as_array_mut()
            .unwrap()
            .push(json!({ "key": "example.com/slots", "operator": "Lt", "values": ["0"] }));
    });
    let _process = stage.run();
    stage.pod_with(
        "with-a-number",
        &json!({
            "tolerations": [{"key": "other", "operator": "Exists"}],
            "nodeSelector": {"example.com/slots": "1"},
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "3"}}}],
        }),
    );
    stage.pod_of_another_pool("without");
    stage.pod("a");
    stage
        .until(120, "the others run", |stage| {
            ["without", "a"].map(|pod| stage.phase(pod)) == ["Running", "Running"]
        })
        .await;
    assert_eq!(stage.phase("with-a-number"), "Pending");
    assert_eq!(stage.machines().len(), 2);
    let told = stage.told("FailedScheduling");
    assert!(
        told.iter().any(|why| why.contains("example.com/slots")),
        "{told:?}"
    );
}

/// Elsewhere a spread fixes the emptiest zone before anybody looks what is sold there; here pods go to the other
/// zones at once, as far as the spread allows.
#[tokio::test(start_paused = true)]
async fn a_spread_whose_emptiest_zone_is_sold_out_goes_on_within_its_skew() {
    let stage = Stage::new();
    stage.allow(2, &["us-east-1a", "us-east-1b", "us-east-1c"]);
    stage.sold_out("c5.xlarge", 60);
    let _process = stage.run();
    for name in ["a", "b", "c", "d"] {
        stage.spread(name, 2);
    }
    stage
        .until(120, "all run in the other zones", |stage| {
            stage.running_pods() == 4
        })
        .await;
    let zones = [("b".to_owned(), 2), ("c".to_owned(), 2)];
    assert_eq!(stage.by_zone(), zones.into());
    assert_eq!(stage.machines().len(), 4);
}

/// Elsewhere of two workloads that differ in nothing but minDomains one is planned by the other's; here pods that would
/// need a third zone wait, are told so and have nothing bought for them, and the others run.
#[tokio::test(start_paused = true)]
async fn workloads_that_differ_in_min_domains_alone_go_each_by_its_own() {
    let stage = Stage::new();
    stage.allow(2, &["us-east-1a", "us-east-1b"]);
    let _process = stage.run();
    stage.spread_over("strict-1", 1, 3);
    stage.spread_over("strict-2", 1, 3);
    stage
        .until(120, "one runs in each zone", |stage| {
            stage.running_pods() == 2
        })
        .await;
    stage.spread_over("strict-3", 1, 3);
    stage.spread("loose-1", 1);
    stage.spread("loose-2", 1);
    stage
        .until(120, "those that may do run", |stage| {
            ["loose-1", "loose-2"].map(|pod| stage.phase(pod)) == ["Running", "Running"]
        })
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.phase("strict-3"), "Pending");
    let zones = [("a".to_owned(), 2), ("b".to_owned(), 2)];
    assert_eq!(stage.by_zone(), zones.into());
    assert_eq!(stage.machines().len(), 4, "none was bought in vain");
    let told = stage.told("FailedScheduling");
    assert!(
        told.iter().any(|why| why.contains("minDomains is 3")),
        "{told:?}"
    );
}

/// Pods that want to be together fix a zone as well: sold out, it is left for another while none of them runs.
#[tokio::test(start_paused = true)]
async fn pods_that_belong_together_leave_a_zone_that_is_sold_out() {
    let stage = Stage::new();
    stage.allow(2, &["us-east-1a", "us-east-1b"]);
    stage.sold_out("c5.xlarge", 60);
    let _process = stage.run();
    for name in ["a", "b"] {
        stage.pod_with(
            name,
            &json!({
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {}},
                ]}},
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
            }),
        );
    }
    stage
        .until(120, "both run in the other zone", |stage| {
            stage.running_pods() == 2
        })
        .await;
    assert_eq!(stage.by_zone(), [("b".to_owned(), 2)].into());
    assert_eq!(stage.machines().len(), 2);
}
