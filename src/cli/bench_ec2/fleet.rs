//! A fleet that nobody had to boot: machines with claims and Nodes as controllers leave them.
//!
//! Given a world with a node class and the NodePool; given back so many machines in it that a controller takes for its
//! own, and a few that are nobody's. The first is bought by a controller, for a pod; the others are copies of what the API
//! server holds of it, each with an instance of its own. So what controllers write of a machine is written down nowhere a
//! second time, and ten thousand take seconds. No controller runs while they are made.

use std::time::Duration;

use serde_json::{Value, json};

use super::BenchError;
use super::burst;
use super::path::Controller;
use crate::model::offering::OfferingKey;
use crate::sim::Embedded;
use crate::sim::api_server::{Key, Refusal, Resource};

/// How long a controller has to read its world, and to write down the last of what it bought.
const SETTLE: Duration = Duration::from_mins(1);
/// Machines that are made at a time: what the world is told of them, and remembers of each step, is as little to its
/// peak of memory.
const PORTION: u64 = 500;
/// How long the world has to hear of them.
const HEAR: Duration = Duration::from_secs(1);
/// Who makes them.
const WHO: &str = "bench";

/// The NodePool. Nothing of it is ever empty for long enough to go: all machines but the first are without pods.
pub(super) fn pool() -> Value {
    let mut pool = burst::pool();
    pool["spec"]["disruption"]["consolidateAfter"] = json!("Never");
    pool
}

/// Makes a fleet of so many machines, and three more that have neither claim nor Node: as many as are ended without
/// asking anybody. They lie on the first, a middle and the last page of a list, so that who has ended them has read all
/// of it.
pub(super) async fn assemble(world: &Embedded, seed: u64, machines: u64) -> Result<(), BenchError> {
    let controller = Controller::start(world, seed).await?;
    world.pass(SETTLE).await;
    burst::landed(world, 1).await?;
    world.pass(SETTLE).await;
    controller.stop().await;
    let pattern = Pattern::of(world).ok_or(BenchError::NoPattern)?;
    let copies = machines.saturating_sub(1);
    let nobodys = [1, copies / 2, copies];
    for number in 1..=copies {
        pattern.copy(world)?;
        if nobodys.contains(&number) {
            world.ec2.stray(&world.options.cluster, &pattern.offering);
        }
        if number % PORTION == 0 || number == copies {
            world.pass(HEAR).await;
            world.api.compact();
        }
    }
    Ok(())
}

/// The one machine that there is, as EC2 and the API server have it.
struct Pattern {
    offering: OfferingKey,
    claim: Value,
    node: Value,
}

impl Pattern {
    fn of(world: &Embedded) -> Option<Self> {
        let machine = world.ec2.alive().pop()?;
        Some(Self {
            offering: machine.shown(world.now())?.offering,
            claim: world.api.all(Resource::NodeClaim).pop()?,
            node: world.api.all(Resource::Node).pop()?,
        })
    }

    /// Starts another machine and gives it a claim and a Node.
    fn copy(&self, world: &Embedded) -> Result<(), BenchError> {
        let id = world.ec2.stray(&world.options.cluster, &self.offering);
        let machine = world.ec2.machine(&id);
        let instance = machine
            .and_then(|machine| machine.shown(world.now()))
            .ok_or(BenchError::NoPattern)?;
        let (name, provider_id) = (&instance.private_dns_name, instance.provider_id());
        self.copy_node(world, name, &provider_id)?;
        self.copy_claim(world, name, &id, &provider_id)?;
        Ok(())
    }

    fn copy_node(&self, world: &Embedded, name: &str, provider_id: &str) -> Result<(), Refusal> {
        let mut node = renamed(&self.node, name);
        node["metadata"]["labels"]["kubernetes.io/hostname"] = json!(name);
        node["spec"]["providerID"] = json!(provider_id);
        world.api.create(WHO, node)?;
        // The API server closes new Nodes.
        let key = Key::new(Resource::Node, "", name);
        let taints = self.node["spec"]["taints"].clone();
        world.api.change(WHO, &key, None, |node| {
            node["spec"]["taints"] = taints;
        })?;
        Ok(())
    }

    fn copy_claim(
        &self,
        world: &Embedded,
        node: &str,
        id: &str,
        provider_id: &str,
    ) -> Result<(), Refusal> {
        let name = format!("{}-{}", burst::POOL, id.trim_start_matches("i-"));
        let mut claim = renamed(&self.claim, &name);
        let mut status = claim["status"].take();
        status["nodeName"] = json!(node);
        status["providerID"] = json!(provider_id);
        world.api.create(WHO, claim)?;
        // It takes no status with a new object of ours.
        let key = Key::new(Resource::NodeClaim, "", &name);
        world.api.change(WHO, &key, Some("status"), |claim| {
            claim["status"] = status;
        })?;
        Ok(())
    }
}

/// An object as a new one of another name.
fn renamed(object: &Value, name: &str) -> Value {
    let mut copy = object.clone();
    if let Some(metadata) = copy["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.insert("name".to_owned(), json!(name));
    }
    copy
}
