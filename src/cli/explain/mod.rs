//! `tonnage explain`: why a pod waits, or where it would go; what is believed of an offering.
//!
//! Given a pod's name and the same world as `tonnage plan`; given back its place in the plan, or for
//! each NodePool the reason and the smallest change that would help. Given an offering; given back its
//! price, what it is compared by, and what the controller has learned of it.

mod offering;

use serde_json::json;

use super::plan::scene::SceneArgs;
use super::plan::{Output, PlanError, planned, structured};
use crate::model::money::UsdPerHour;
use crate::model::offering::OfferingKey;
use crate::model::pod::{Pod, PodKey};
use crate::model::report::{PlannedNode, ProvisioningPlan};

/// Explain a decision about one object.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Why a pod waits, or where it would go
    Pod(PodArgs),
    /// What an offering costs, and what the controller believes of its capacity
    Offering(offering::OfferingArgs),
}

#[derive(Debug, clap::Args)]
struct PodArgs {
    /// The pod, as NAMESPACE/NAME or NAME in the namespace `default`
    #[arg(value_name = "NAMESPACE/NAME")]
    pod: String,
    #[command(flatten)]
    scene: SceneArgs,
    /// How the answer is printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExplainError {
    /// There is no such pod.
    #[error("there is no pod {0} in what was read; name it as NAMESPACE/NAME")]
    NoSuchPod(PodKey),
    /// There is no such offering.
    #[error(
        "no EC2NodeClass can launch {0}; see `tonnage plan` for what can be bought, or check type, zone and capacity type"
    )]
    NoSuchOffering(OfferingKey),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Explains and prints.
pub(super) fn run(args: &Args) -> Result<(), ExplainError> {
    match &args.subject {
        Subject::Pod(args) => pod(args),
        Subject::Offering(args) => offering::run(args),
    }
}

fn pod(args: &PodArgs) -> Result<(), ExplainError> {
    let (namespace, name) = args.pod.split_once('/').unwrap_or(("default", &args.pod));
    let key = PodKey::new(namespace, name);
    let scene = args.scene.read().map_err(PlanError::from)?;
    if !scene.snapshot.pods.contains_key(&key) {
        return Err(ExplainError::NoSuchPod(key));
    }
    let (plan, _elapsed) = planned(&scene, &args.scene);
    let Some(pod) = scene.snapshot.pods.get(&key) else {
        return Err(ExplainError::NoSuchPod(key));
    };
    let text = match args.output {
        Output::Table => sentence(pod, &plan) + &wishes(pod, &plan),
        form => structured(&document(pod, &plan), form)?,
    };
    crate::cli::write_stdout(&text).map_err(PlanError::from)?;
    Ok(())
}

/// What is said of a pod with scheduling gates.
const GATED: &str = "waits for its scheduling gates: nothing looks for a node until whoever set spec.schedulingGates removes them";

/// Where a pod goes.
enum Place<'plan> {
    New(usize),
    Existing(&'plan str),
    InFlight(&'plan str),
    Nowhere,
}

fn place<'plan>(key: &PodKey, plan: &'plan ProvisioningPlan) -> Place<'plan> {
    let on = |places: &'plan std::collections::BTreeMap<String, Vec<PodKey>>| {
        places
            .iter()
            .find(|(_name, pods)| pods.contains(key))
            .map(|(name, _pods)| name.as_str())
    };
    if let Some(index) = plan
        .new_nodes
        .iter()
        .position(|node| node.pods.contains(key))
    {
        Place::New(index)
    } else if let Some(node) = on(&plan.existing) {
        Place::Existing(node)
    } else if let Some(claim) = on(&plan.in_flight) {
        Place::InFlight(claim)
    } else {
        Place::Nowhere
    }
}

fn sentence(pod: &Pod, plan: &ProvisioningPlan) -> String {
    let key = &pod.key;
    match place(key, plan) {
        Place::New(index) => plan.new_nodes.get(index).map_or_else(String::new, |node| {
            let first = node.offerings.first().map_or_else(String::new, ToString::to_string);
            format!(
                "pod {key} gets a new node of NodePool {}: {first} at {} USD per hour{} with {} pods, {} alternatives\n",
                node.node_pool,
                node.price + node.fees,
                weighed(node),
                node.pods.len(),
                node.offerings.len().saturating_sub(1)
            )
        }),
        Place::Existing(node) => format!("pod {key} fits on node {node}\n"),
        Place::InFlight(claim) => {
            format!("pod {key} fits on what is on its way for NodeClaim {claim}\n")
        }
        Place::Nowhere => match (plan.unschedulable.get(key), &pod.node_name) {
            (Some(why), _) => format!(
                "pod {key} is left out:\n{}",
                super::plan::sentences(why)
            ),
            (None, Some(node)) => format!("pod {key} runs on node {node}\n"),
            (None, None) if pod.spec.gated => format!("pod {key} {GATED}\n"),
            (None, None) => format!("pod {key} does not wait for a node\n"),
        },
    }
}

/// What is to be said of the price of the pod's wishes.
fn wishes(pod: &Pod, plan: &ProvisioningPlan) -> String {
    let own = plan.wishes_of(&pod.key);
    own.map(|wish| wish.sentence() + "\n").collect()
}

/// What a node was compared by, where that is not its price.
fn weighed(node: &PlannedNode) -> String {
    if node.risk == UsdPerHour::ZERO {
        return String::new();
    }
    let weighed = node.price + node.fees + node.risk;
    format!(" (compared at {weighed} for its risk)")
}

fn document(pod: &Pod, plan: &ProvisioningPlan) -> serde_json::Value {
    let key = &pod.key;
    let mut document = json!({"schemaVersion": "1", "pod": key.to_string()});
    let own = plan.wishes_of(key);
    let own: Vec<serde_json::Value> = own.map(super::plan::wish).collect();
    if !own.is_empty() {
        document["wishes"] = own.into();
    }
    match place(key, plan) {
        Place::New(index) => {
            let node = plan.new_nodes.get(index);
            document["newNode"] = json!({
                "nodePool": node.map(|node| node.node_pool.clone()),
                "offering": node.and_then(|node| node.offerings.first()).map(ToString::to_string),
                "usdPerHour": node.map(|node| node.price.to_string()),
                "feesUsdPerHour": node.map(|node| node.fees.to_string()),
                "riskUsdPerHour": node.map(|node| node.risk.to_string()),
                "pods": node.map(|node| node.pods.len()),
            });
        }
        Place::Existing(node) => document["node"] = json!(node),
        Place::InFlight(claim) => document["nodeClaim"] = json!(claim),
        Place::Nowhere => {
            if let Some(why) = plan.unschedulable.get(key) {
                document["reasons"] = json!(super::plan::reasons(why));
            } else {
                document["node"] = json!(pod.node_name);
                document["gated"] = json!(pod.spec.gated);
            }
        }
    }
    document
}
