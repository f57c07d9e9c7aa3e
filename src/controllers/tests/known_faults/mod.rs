//! What node provisioners are known to do wrong, one fault after the other: each story says what goes wrong
//! elsewhere and what must hold here.
//!
//! | the fault | told in |
//! |---|---|
//! | a claim that cannot be bought, or a launch that takes long, stalls pods and empty nodes of everybody | `stalls` |
//! | pods wait for the machines of an earlier batch before they are planned for | `stalls` |
//! | a shortage ends the claim, and what cannot be bought is tried before everything else | `stalls` |
//! | writes that fail half-way leave machines without use and nodes closed | `halves` |
//! | a claim that was written by half says what another machine is | `halves` |
//! | a limit on nodes is passed within one burst | `limits` |
//! | a limit is charged with the largest machine that might be bought | `limits` |
//! | pods of low priority take what a limit leaves from those of high priority | `limits` |
//! | a pod that kube-scheduler keeps off the node which was meant for it waits for ever | `scheduler` |
//! | DaemonSets are left out of some machines, which are too small then | `scheduler` |
//! | pods that wait for ever keep machines or have new ones bought | `waiting` |
//! | a number without a value that satisfies it ends the controller | `waiting` |
//! | a spread whose emptiest zone has nothing to sell leaves its pods waiting | `waiting` |
//! | of two workloads that differ in minDomains alone one is planned by the other's | `waiting` |
//! | a value that is excluded beside a bound is bought all the same | `requirements` |
//! | values that nothing can be bought of count for minValues | `requirements` |
//! | a pod whose volume cannot be found is left out without a word | `attachments` |
//! | ports of sidecars, and how many volumes a new node can attach, are not counted | `attachments` |
//! | a replacement that does not come up holds up what it replaces | `machines` |
//! | a node that never becomes usable is kept and paid for | `machines` |
//! | a machine whose reservation has ended counts as reserved for ever | `machines` |
//! | machines are ended under pods that tolerate everything | `drains` |
//! | a node that goes is paid for as long as a protected pod is on it | `drains` |

mod attachments;
mod drains;
mod halves;
mod limits;
mod machines;
mod requirements;
mod scheduler;
mod stalls;
mod waiting;

use serde_json::{Value, json};

use super::Stage;
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::api_server::Resource::{Node, NodePool, Pod};

impl Stage {
    /// From now on EC2 has no machine of a size in the zone that the NodePool allows.
    fn sold_out(&self, size: &str, minutes: i64) {
        for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
            let offering = OfferingKey::new(size, "us-east-1a", capacity_type);
            self.world.ec2.dry(&offering, minutes);
        }
    }

    /// The NodePool allows these values of its requirement for capacity types, sizes and zones, in this order.
    fn allow(&self, requirement: usize, values: &[&str]) {
        self.change(NodePool, "general", |pool| {
            pool["spec"]["template"]["spec"]["requirements"][requirement]["values"] = json!(values);
        });
    }

    fn limit(&self, limits: &Value) {
        self.change(NodePool, "general", |pool| {
            pool["spec"]["limits"] = limits.clone();
        });
    }

    /// A pod with little memory, so that processors decide what fits beside it.
    fn small(&self, name: &str, cpu: &str, node_selector: &Value) {
        self.pod_with(
            name,
            &json!({
                "nodeSelector": node_selector,
                "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}],
            }),
        );
    }

    /// A second NodePool, for pods that tolerate it and select it.
    fn another_pool(&self, change: impl FnOnce(&mut Value)) {
        let mut pool = self.all(NodePool).remove(0);
        pool["metadata"] = json!({ "name": "other" });
        pool["spec"]["template"]["spec"]["taints"] =
            json!([{ "key": "other", "effect": "NoSchedule" }]);
        change(&mut pool);
        self.world.apply(pool).unwrap();
    }

    /// A second NodePool as above, in a zone of its own.
    fn another_zone(&self) {
        self.another_pool(|pool| {
            pool["spec"]["template"]["spec"]["requirements"][2]["values"] = json!(["us-east-1b"]);
        });
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

    /// How many claims were ever made.
    fn claims_made(&self) -> usize {
        let history = self.world.history.since(0);
        history
            .iter()
            .filter(|line| line.event == "ClaimMade")
            .count()
    }
}
