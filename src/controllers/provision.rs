//! Plans for the pods that wait, and makes the claims of the plan.
//!
//! Woken by pods, nodes, pools and classes; lets a burst of pods arrive; asks [`crate::plan::provision`];
//! creates claims, and tells every pod that was left out why. In observe mode it says what it would
//! do and what that would cost, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use jiff::SignedDuration;
use tokio::time::Instant;

use super::context::{AGREE_AGAIN, Acting, Context};
use super::refused_pools::RefusedPools;
use super::run::{Controller, Round};
use crate::api::{hash, labels};
use crate::cluster::apply::{WriteError, WriteErrorClass, new_claim};
use crate::cluster::events::{EventKind, Subject};
use crate::cluster::{Changes, Kind, View};
use crate::metrics::Loop;
use crate::model::pod::PodKey;
use crate::model::report::{PlannedNode, ProvisioningPlan};
use crate::model::snapshot::Snapshot;
use crate::plan::empty::Planned;
use crate::plan::launch::one_try_each;
use crate::plan::provision::disagreement::Disagreements;
use crate::plan::provision::{ProvisionSettings, provision};
use crate::world::RandomStream;

/// How many claims are created at the same time.
const CREATES_AT_ONCE: usize = 64;
/// Pods that wait are planned again this often even if nothing changes: prices move, shortages end.
const PLAN_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// Length of the random part of a claim's name, as the API server makes names.
const SUFFIX: usize = 5;

/// The loop that provisions.
#[derive(Debug)]
pub struct Provisioning {
    context: Arc<Context>,
    hands: Option<Arc<Acting>>,
    names: RandomStream,
    settings: ProvisionSettings,
    disagreements: Disagreements,
    refused: RefusedPools,
    said: Option<String>,
    /// What planning waits for.
    waits: Option<&'static str>,
}

impl Provisioning {
    /// Looks with the shared context; without hands it only says what it would do.
    pub fn new(context: Arc<Context>, hands: Option<Arc<Acting>>) -> Self {
        let names = context.world.random("claims/names");
        let settings = context.settings.provision();
        Self {
            context,
            hands,
            names,
            settings,
            disagreements: Disagreements::default(),
            refused: RefusedPools::default(),
            said: None,
            waits: None,
        }
    }

    async fn plan_and_act(&mut self) -> Round {
        let context = Arc::clone(&self.context);
        if !context.classes_known() {
            // A class that was not looked at yet would count as missing, and pods would be told so.
            return Round::default();
        }
        if self.must_wait() {
            return Round {
                steps: Vec::new(),
                wake: Some(context.now() + AGREE_AGAIN),
            };
        }
        let mut snapshot = context.snapshot_with_outlook();
        self.disagreements.mark(&mut snapshot);
        self.refused.mark(&mut snapshot);
        if let Some(planned) = context.planned() {
            snapshot.expected.clone_from(&planned.onto);
        }
        let began = Instant::now();
        let mut plan = provision(&snapshot, &self.settings);
        one_try_each(&snapshot, &mut plan);
        let elapsed = began.elapsed();
        self.tell_disagreements(&snapshot, &plan);
        context.metrics.planned(
            elapsed,
            plan.new_nodes.len(),
            plan.price,
            plan.lower_bound,
            plan.truncated,
        );
        count_waiting(&context, &plan);
        explain(&context, &snapshot, &plan);
        let mut onto: BTreeMap<String, Vec<PodKey>> = plan
            .existing
            .iter()
            .chain(&plan.in_flight)
            .map(|(name, pods)| (name.clone(), pods.clone()))
            .collect();
        let waits =
            !plan.unschedulable.is_empty() || !plan.new_nodes.is_empty() || !onto.is_empty();
        if !plan.new_nodes.is_empty() {
            self.log(&plan, elapsed);
            context.show_plan(&snapshot, &plan);
            if let Some(hands) = self.hands.clone() {
                onto.extend(self.create(&hands, &snapshot, &plan).await);
                context.wake(Loop::Launch);
            }
        }
        // After the claims were made, so that none of them looks unwanted for a moment.
        context.set_planned(Planned {
            at: snapshot.now,
            onto,
        });
        Round {
            steps: Vec::new(),
            wake: waits.then(|| context.now() + PLAN_AGAIN),
        }
    }

    /// True while nothing may be planned; says so when that changes.
    fn must_wait(&mut self) -> bool {
        let waits = if self.context.must_wait() {
            Some("pods, Nodes, NodeClaims and NodePools may be of different times")
        } else if self.context.doubts_that_no_claim_is_there() {
            Some(
                "the API server lists no NodeClaim, and EC2 may have machines that were bought for some",
            )
        } else {
            None
        };
        if waits != self.waits {
            self.waits = waits;
            if let Some(why) = waits {
                tracing::info!("planning waits, for a minute at most: {why}");
            } else {
                tracing::info!("planning goes on");
            }
        }
        waits.is_some()
    }

    /// Tells pods that wait beside room, for which kube-scheduler has reasons that are not known here.
    fn tell_disagreements(&mut self, snapshot: &Snapshot, plan: &ProvisioningPlan) {
        for found in self.disagreements.observe(snapshot, plan) {
            tracing::warn!(pod = %found.pod, "{}", found.message);
            if let Some(pod) = snapshot.pods.get(&found.pod) {
                let words = ("SchedulerDisagrees", "Provisioning");
                let subject = Subject::pod(pod);
                self.context
                    .tell(subject, EventKind::Warning, words, found.message);
            }
        }
    }

    /// One line for a plan, not repeated while it stays the same.
    fn log(&mut self, plan: &ProvisioningPlan, elapsed: Duration) {
        let mut machines: BTreeMap<String, usize> = BTreeMap::new();
        for node in &plan.new_nodes {
            let name = node
                .offerings
                .first()
                .map_or_else(String::new, ToString::to_string);
            *machines
                .entry(format!("{}: {name}", node.node_pool))
                .or_insert(0) += 1;
        }
        let machines: Vec<String> = machines
            .into_iter()
            .map(|(name, count)| format!("{count} x {name}"))
            .collect();
        let pods: usize = plan.new_nodes.iter().map(|node| node.pods.len()).sum();
        let verb = if self.hands.is_some() {
            "buying"
        } else {
            "would buy"
        };
        let line = format!(
            "{verb} {} for {pods} pods at {} USD per hour (lower bound {})",
            machines.join(", "),
            plan.price,
            plan.lower_bound
        );
        if self.said.as_ref() == Some(&line) && self.hands.is_none() {
            return;
        }
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(milliseconds, left_out = plan.unschedulable.len(), "{line}");
        self.said = Some(line);
    }

    /// Makes the claims of a plan and gives back the names of those that exist now.
    async fn create(
        &mut self,
        hands: &Acting,
        snapshot: &Snapshot,
        plan: &ProvisioningPlan,
    ) -> Vec<(String, Vec<PodKey>)> {
        let view = self.context.mirror.view();
        let named: Vec<(String, &PlannedNode)> = plan
            .new_nodes
            .iter()
            .map(|node| {
                (
                    format!("{}-{}", node.node_pool, self.names.name_suffix(SUFFIX)),
                    node,
                )
            })
            .collect();
        let view = &view;
        let creates: Vec<_> = named
            .into_iter()
            .map(|(name, node)| async move {
                let created = create_one(hands, &name, snapshot, view, node).await;
                let made = (name.clone(), node.pods.clone());
                if let Err(error) = &created {
                    tracing::warn!(claim = name, %error, "claim not created, its pods are planned again");
                }
                (node, created.map(|()| made))
            })
            .collect();
        let created: Vec<(&PlannedNode, Result<_, WriteError>)> = stream::iter(creates)
            .buffered(CREATES_AT_ONCE)
            .collect()
            .await;
        let mut made = Vec::new();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        let mut refused: BTreeMap<&str, WriteError> = BTreeMap::new();
        for (node, created) in created {
            match created {
                Ok(claim) => {
                    taken.insert(&node.node_pool);
                    made.push(claim);
                }
                Err(error) => {
                    let pods = &node.pods;
                    tell_refused(&self.context, snapshot, pods, &error);
                    refused.insert(&node.node_pool, error);
                }
            }
        }
        for pool in &taken {
            self.refused.taken(pool);
            refused.remove(pool);
        }
        for (pool, error) in refused {
            self.rest(snapshot, pool, &error);
        }
        made
    }

    /// The API server took no claim of a NodePool: its pods are planned without it.
    fn rest(&mut self, snapshot: &Snapshot, pool: &str, error: &WriteError) {
        let Some(pool) = snapshot
            .node_pools
            .get(pool)
            .filter(|_pool| is_final(error))
        else {
            return;
        };
        let message = self.refused.refused(pool, &error.to_string(), snapshot.now);
        let subject = Subject::node_pool(&pool.name, &pool.uid);
        let words = ("NodeClaimsRefused", "Provisioning");
        self.context
            .tell(subject, EventKind::Warning, words, message);
    }
}

/// True for what another try will not mend by itself.
fn is_final(error: &WriteError) -> bool {
    matches!(
        error.class,
        WriteErrorClass::Invalid | WriteErrorClass::Forbidden
    )
}

/// Tells pods that the claim which was made for them was refused.
fn tell_refused(context: &Context, snapshot: &Snapshot, pods: &[PodKey], error: &WriteError) {
    if !is_final(error) {
        return;
    }
    for pod in pods.iter().filter_map(|key| snapshot.pods.get(key)) {
        let words = ("NodeClaimRefused", "Provisioning");
        let message = format!("the NodeClaim for the pod was refused: {error}");
        context.tell(Subject::pod(pod), EventKind::Warning, words, message);
    }
}

/// Makes one claim and tells its pods.
async fn create_one(
    hands: &Acting,
    name: &str,
    snapshot: &Snapshot,
    view: &View,
    node: &PlannedNode,
) -> Result<(), WriteError> {
    let Some(observed) = view.node_pools.get(&node.node_pool) else {
        return Ok(());
    };
    let annotations = BTreeMap::from([
        (
            labels::NODE_POOL_HASH.to_owned(),
            observed.pool.hash.clone(),
        ),
        (
            labels::NODE_POOL_HASH_VERSION.to_owned(),
            hash::NODE_POOL_HASH_VERSION.to_owned(),
        ),
    ]);
    let claim = new_claim(name, &observed.object, &observed.pool, node, &annotations);
    let created = hands.kubernetes.create_claim(&claim).await?;
    let capacity_type = node
        .offerings
        .first()
        .map(|offering| offering.capacity_type);
    hands.metrics.claim_created(&node.node_pool, capacity_type);
    for key in &node.pods {
        if let Some(pod) = snapshot.pods.get(key) {
            hands.tell(
                Subject::pod(pod),
                EventKind::Normal,
                ("Nominated", "Provisioning"),
                format!("a node is bought for the pod: nodeclaim/{}", created.name),
            );
        }
    }
    Ok(())
}

fn count_waiting(context: &Context, plan: &ProvisioningPlan) {
    let planned: usize = plan.new_nodes.iter().map(|node| node.pods.len()).sum();
    let planned = i64::try_from(planned).unwrap_or(i64::MAX);
    context.metrics.set_waiting(planned, plan.left_out());
}

/// Tells every pod that was left out why.
fn explain(context: &Context, snapshot: &Snapshot, plan: &ProvisioningPlan) {
    for (key, unschedulable) in &plan.unschedulable {
        if let Some(pod) = snapshot.pods.get(key) {
            context.tell(
                Subject::pod(pod),
                EventKind::Warning,
                ("FailedScheduling", "Provisioning"),
                unschedulable.message(),
            );
        }
    }
}

impl Controller for Provisioning {
    fn name(&self) -> Loop {
        Loop::Provisioning
    }

    fn interests(&self) -> Vec<Kind> {
        vec![
            Kind::Pod,
            Kind::Node,
            Kind::NodePool,
            Kind::NodeClass,
            Kind::DaemonSet,
        ]
    }

    fn settle(&self) -> (Duration, Duration) {
        (
            self.context.settings.batch_idle,
            self.context.settings.batch_max,
        )
    }

    fn extends(&self, changes: &Changes) -> bool {
        let view = self.context.mirror.view();
        let waits = |key: &PodKey| {
            view.pods
                .get(key)
                .is_some_and(|pod| pod.unschedulable && pod.node_name.is_none())
        };
        changes.pods.iter().any(waits)
    }

    fn round<'round>(&'round mut self, _changes: &'round Changes) -> BoxFuture<'round, Round> {
        Box::pin(self.plan_and_act())
    }
}
