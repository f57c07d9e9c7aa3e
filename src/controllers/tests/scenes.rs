//! Situations in which node provisioners are known to go wrong, one after the other, each told as what
//! happens to the cluster and what its users may expect.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::settings::Mode;
use crate::sim::api_server::Resource::{Node, NodeClaim, NodePool, Pod};
use crate::sim::life::Life;

impl Stage {
    /// From now on EC2 has no machine in the zone that the NodePool allows.
    fn sold_out(&self, minutes: i64) {
        for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
            let offering = OfferingKey::new("c5.xlarge", "us-east-1a", capacity_type);
            self.world.ec2.dry(&offering, minutes);
        }
    }

    /// A pod with little memory, so that processors decide what fits beside it.
    fn small(&self, name: &str, cpu: &str, node_selector: &serde_json::Value) {
        self.pod_with(
            name,
            &json!({
                "nodeSelector": node_selector,
                "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}],
            }),
        );
    }

    /// A second NodePool, for pods that tolerate it and select it.
    fn another_pool(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut pool = self.all(NodePool).remove(0);
        pool["metadata"] = json!({ "name": "other" });
        pool["spec"]["template"]["spec"]["taints"] =
            json!([{ "key": "other", "effect": "NoSchedule" }]);
        change(&mut pool);
        self.world.apply(pool).unwrap();
    }

    /// A pod of three cores for the second NodePool.
    fn pod_of_another_pool(&self, name: &str) {
        self.pod_with(
            name,
            &json!({
                "tolerations": [{"key": "other", "operator": "Exists"}],
                "nodeSelector": {"karpenter.sh/nodepool": "other"},
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "3", "memory": "4Gi"}}}],
            }),
        );
    }

    fn phase(&self, pod: &str) -> String {
        let pod = self.world.api.get(&Self::key(Pod, pod)).unwrap_or_default();
        pod["status"]["phase"].as_str().unwrap_or("gone").to_owned()
    }

    /// Names of Nodes that are closed to new pods because they go.
    fn fenced(&self) -> Vec<String> {
        let nodes = self.all(Node);
        let fenced = nodes.iter().filter(|node| {
            let taints = node["spec"]["taints"].as_array();
            let mut taints = taints.into_iter().flatten();
            taints.any(|taint| taint["key"] == "karpenter.sh/disrupted")
        });
        fenced
            .map(|node| node["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// One claim cannot be bought; everything else goes on: pods for which there is capacity get their
/// machines, and a machine that became empty goes as fast as ever.
#[tokio::test(start_paused = true)]
async fn while_one_claim_cannot_be_bought_others_are_and_empty_nodes_go() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.one_pod_runs().await;
    stage.sold_out(60);
    stage.pod("stuck");
    stage
        .until(60, "its claim waits for a machine", |stage| {
            stage.all(NodeClaim).len() == 2
        })
        .await;
    // Long enough that EC2 has said that it has none of either.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.running().len(), 1);

    stage.change(NodePool, "general", |pool| {
        pool["spec"]["template"]["spec"]["requirements"][2]["values"] = json!(["us-east-1b"]);
    });
    stage.pod("elsewhere");
    stage
        .until(90, "a pod for which there is capacity runs", |stage| {
            stage.phase("elsewhere") == "Running" || stage.phase("stuck") == "Running"
        })
        .await;
    // The pod that is stuck may take the room of the one that ends, and is welcome to it.
    stage.delete(Pod, "stuck");
    stage.delete(Pod, "elsewhere");
    stage.delete(Pod, "a");
    stage
        .until(60, "the empty machines are gone", |stage| {
            stage.running().is_empty()
        })
        .await;
}

/// Half of the claims of a plan could not be written, and the controller died over it. The next one
/// buys what is still missing, nothing that was written is left without use, and no Node stays
/// closed to pods.
#[tokio::test(start_paused = true)]
async fn a_plan_that_was_written_by_half_leaves_nothing_behind() {
    let stage = Stage::new();
    stage.refuse_creates(&[false, true, false, true, true]);
    let process = stage.run();
    let pods = ["a", "b", "c", "d", "e"];
    for pod in pods {
        stage.pod(pod);
    }
    stage
        .until(30, "some of the claims are there", |stage| {
            !stage.all(NodeClaim).is_empty()
        })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.kill();
    assert!(stage.all(NodeClaim).len() < pods.len());
    let _again = stage.start(Mode::Run, 8, Life::new());
    stage
        .until(180, "every pod runs", |stage| stage.running_pods() == 5)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.machines().len(), 5, "nothing was bought for nobody");
    assert_eq!(stage.fenced(), Vec::<String>::new());
    for pod in pods {
        stage.delete(Pod, pod);
    }
    stage.until(120, "nothing is left", Stage::is_bare).await;
}

/// kube-scheduler spreads pods over the nodes that are there, where a plan would have filled one after
/// the other. Pods run where it puts them, and nothing is bought beyond what they need.
#[tokio::test(start_paused = true)]
async fn pods_that_kube_scheduler_puts_elsewhere_than_planned_cost_nothing_more() {
    let stage = Stage::new();
    let _process = stage.run();
    for pod in ["a", "b"] {
        stage.small(pod, "2500m", &json!({}));
    }
    stage
        .until(120, "both pods run", |stage| stage.running_pods() == 2)
        .await;
    for pod in ["c", "d"] {
        stage.small(pod, "1", &json!({}));
    }
    stage
        .until(30, "they run in the room that is there", |stage| {
            stage.running_pods() == 4
        })
        .await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(stage.machines().len(), 2);
}

/// Pods that can never run, and pods that a limit keeps out, wait for ever. A node that becomes empty
/// goes all the same, at its time.
#[tokio::test(start_paused = true)]
async fn pods_that_wait_for_ever_keep_no_empty_node() {
    let stage = Stage::new();
    stage.another_pool(|pool| pool["spec"]["limits"] = json!({ "nodes": "0" }));
    let _process = stage.run();
    for pod in ["a", "b"] {
        stage.pod(pod);
    }
    stage
        .until(120, "both run", |stage| stage.running_pods() == 2)
        .await;
    stage.pod_of("huge", "1000");
    stage.pod_of_another_pool("kept-out");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.running_pods(), 2);
    stage.delete(Pod, "a");
    stage
        .until(45, "the empty machine is gone", |stage| {
            stage.running().len() == 1
        })
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.phase("huge"), "Pending");
    assert_eq!(stage.phase("kept-out"), "Pending");
    assert_eq!(stage.running().len(), 1);
}

/// EC2 takes a machine back, and the machine bought in its place never joins. The pod takes room that
/// comes free meanwhile, the machine that hangs is given up and paid for no longer, and no Node stays
/// closed because of it.
#[tokio::test(start_paused = true)]
async fn a_replacement_that_never_joins_holds_nothing_up() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.service();
    stage
        .until(120, "it runs", |stage| stage.running_pods() == 1)
        .await;
    let taken = stage.running()[0].id.clone();
    stage.pod("b");
    stage
        .until(120, "both run", |stage| stage.running_pods() == 2)
        .await;
    stage.world.ec2.make_barren(1);
    stage.world.ec2.reclaim(&taken);
    stage
        .until(60, "another machine is bought", |stage| {
            stage.machines().len() == 3
        })
        .await;
    let hangs = stage.machines()[2].id.clone();
    stage
        .until(240, "the machine is gone, and its Node", |stage| {
            stage.all(Node).len() == 1
        })
        .await;
    assert_eq!(stage.fenced(), Vec::<String>::new());
    stage.delete(Pod, "b");
    stage
        .until(60, "the pod runs in the room that came free", |stage| {
            stage.running_pods() == 1
        })
        .await;
    stage
        .until(20 * 60, "the machine that hangs is given up", |stage| {
            stage.running().iter().all(|machine| machine.id != hangs)
        })
        .await;
    assert_eq!(stage.running().len(), 1);
    assert_eq!(stage.fenced(), Vec::<String>::new());
}

/// The first choice of a claim is sold out, then every choice. The claim walks on in place, other
/// NodePools are bought from meanwhile, and the claim is bought once there is capacity again.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_every_choice_is_sold_out_starves_nobody_and_is_bought_in_the_end() {
    let stage = Stage::new();
    stage.sold_out(4);
    stage.another_pool(|pool| {
        pool["spec"]["template"]["spec"]["requirements"][2]["values"] = json!(["us-east-1b"]);
    });
    let _process = stage.run();
    stage.pod("first");
    stage
        .until(30, "its claim waits", |stage| {
            stage.all(NodeClaim).len() == 1
        })
        .await;
    stage.pod_of_another_pool("second");
    stage
        .until(90, "the other runs", |stage| {
            stage.phase("second") == "Running"
        })
        .await;
    assert_eq!(stage.phase("first"), "Pending");
    stage
        .until(10 * 60, "the first runs once there is capacity", |stage| {
            stage.phase("first") == "Running"
        })
        .await;
    assert_eq!(stage.machines().len(), 2);
}

/// A Node registers and never becomes usable, because nothing takes its startup taint off. After the
/// time that the NodePool gives it is given up, with a word about why, and a machine that does become
/// usable takes its pod.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_becomes_usable_is_given_up() {
    let stage = Stage::new();
    stage.change(NodePool, "general", |pool| {
        pool["metadata"]["annotations"] = json!({ "tonnage.dev/initialization-timeout": "6m" });
        pool["spec"]["template"]["spec"]["startupTaints"] =
            json!([{ "key": "example.com/agent", "effect": "NoSchedule" }]);
    });
    let _process = stage.run();
    stage.pod("a");
    stage
        .until(120, "its Node has registered", |stage| {
            stage.all(Node).len() == 1
        })
        .await;
    let hangs = stage.running()[0].id.clone();
    stage
        .until(9 * 60, "the machine is given up", |stage| {
            stage.running().iter().all(|machine| machine.id != hangs)
        })
        .await;
    let told = stage.told("InitializationTimeout");
    assert!(
        told.iter()
            .any(|message| message.contains("example.com/agent")),
        "{told:?}"
    );
    stage.change(NodePool, "general", |pool| {
        pool["spec"]["template"]["spec"]["startupTaints"] = json!([]);
    });
    stage
        .until(15 * 60, "the pod runs on another", |stage| {
            stage.phase("a") == "Running"
        })
        .await;
}

impl Stage {
    /// A pod of one core that another scheduler has in its hands, which says that it finds no node.
    fn picky(&self) {
        self.pod_with(
            "picky",
            &json!({
                "schedulerName": "picky-scheduler",
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            }),
        );
        let says = |pod: &mut serde_json::Value| {
            pod["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": "2027-01-15T08:00:00Z",
            }]);
        };
        let key = Self::key(Pod, "picky");
        self.world
            .api
            .change("picky-scheduler", &key, Some("status"), says)
            .unwrap();
    }
}

/// A scheduler does not bind a pod to the room that is there, for reasons that only it knows. After a
/// while the pod is told, and a machine is bought for it, which its scheduler does take.
#[tokio::test(start_paused = true)]
async fn a_pod_that_its_scheduler_keeps_off_a_node_gets_another() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.small("a", "1", &json!({}));
    stage
        .until(120, "it runs", |stage| stage.running_pods() == 1)
        .await;
    stage.picky();
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.small("b", "500m", &json!({}));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(
        stage.machines().len(),
        1,
        "there is room, and nobody is blamed yet"
    );
    stage
        .until(180, "another machine joins and is usable", |stage| {
            let nodes = stage.all(Node);
            let usable = |node: &serde_json::Value| {
                node["metadata"]["labels"]["karpenter.sh/initialized"] == "true"
            };
            nodes.len() == 2 && nodes.iter().all(usable)
        })
        .await;
    assert_eq!(stage.told("SchedulerDisagrees").len(), 1);
    let bought = stage.machines()[1].private_dns_name.clone();
    let key = Stage::key(Pod, "picky");
    stage
        .world
        .api
        .bind("picky-scheduler", &key, &bought)
        .unwrap();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.phase("picky"), "Running");
    assert_eq!(stage.running().len(), 2);
    assert_eq!(stage.machines().len(), 2);
}

/// A scheduler takes no node at all for a pod. One machine is bought in vain and goes again; after that
/// nothing is, and the pod is told so.
#[tokio::test(start_paused = true)]
async fn a_pod_that_its_scheduler_puts_nowhere_costs_one_machine_and_no_more() {
    let stage = Stage::new();
    let _process = stage.run();
    stage.small("a", "1", &json!({}));
    stage
        .until(120, "it runs", |stage| stage.running_pods() == 1)
        .await;
    stage.picky();
    let first = json!({ "kubernetes.io/hostname": stage.machines()[0].private_dns_name });
    for number in 0..8 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stage.small(&format!("small-{number}"), "50m", &first);
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(stage.phase("picky"), "Pending");
    let told = stage.told("SchedulerDisagrees");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(stage.machines().len(), 2, "one was bought in vain");
    assert_eq!(stage.running().len(), 1, "and is gone again");
}
