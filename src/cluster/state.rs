//! Everything the mirror knows, behind one lock: a table for each kind, the indexes over them, and
//! the ledger of own writes.
//!
//! Given: slimmed objects from watches and answers to own writes. Given back: views that share the
//! maps. Nothing here waits, and nothing holds the lock while it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::changes::{Changes, Subscription};
use super::intern::Interner;
use super::kind::Kind;
use super::ledger::{Ledger, is_before, is_older};
use super::observe::defaults::ContainerDefaults;
use super::observe::node_pool::PoolDefaults;
use super::observe::volume::{ClaimedVolume, StorageClassFacts, StorageNode, VolumeFacts};
use super::observe::workload::ObservedDaemonSet;
use super::pulse::Pulse;
use super::stamps::Stamps;
use super::table::{Difference, ListRecord, Table};
use super::view::{ObservedNodeClass, ObservedNodePool, View};
use crate::model::claim::Claim;
use crate::model::launch::LaunchRecord;
use crate::model::node::Node;
use crate::model::offering::OfferingKey;
use crate::model::pod::{Pod, PodKey, PodSpec};
use crate::model::workload::{DisruptionBudget, Namespace};

/// How one kind's watch is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KindHealth {
    /// The lists read so far.
    pub lists: ListRecord,
    /// What is wrong with the watch and what would fix it; `None` while it works.
    pub problem: Option<String>,
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pods: Table<PodKey, Pod>,
    pub(super) nodes: Table<String, Node>,
    pub(super) claims: Table<String, Claim>,
    pub(super) node_pools: Table<String, ObservedNodePool>,
    pub(super) node_classes: Table<String, ObservedNodeClass>,
    pub(super) limit_ranges: Table<String, Vec<ContainerDefaults>>,
    pub(super) daemon_sets: Table<String, ObservedDaemonSet>,
    pub(super) disruption_budgets: Table<String, DisruptionBudget>,
    pub(super) volume_claims: Table<String, ClaimedVolume>,
    pub(super) volumes: Table<String, VolumeFacts>,
    pub(super) storage_classes: Table<String, StorageClassFacts>,
    pub(super) storage_nodes: Table<String, StorageNode>,
    pub(super) namespaces: Table<String, Namespace>,
    pub(super) health: BTreeMap<Kind, KindHealth>,
    pub(super) pulse: Pulse,
    pub(super) ledger: Ledger,
    pub(super) pool_defaults: Option<PoolDefaults>,
    pub(super) stamps: Stamps,
    /// When the watch last told of a pod that is not bound, whether what is kept of it changed or not.
    pub(super) waiting_pod_seen: Option<Instant>,
    /// When a list last held older versions than were known: the API server was restored.
    pub(super) went_back: Option<Instant>,
    /// What wakes the watch of a kind to list anew.
    lists_wanted: BTreeMap<Kind, Arc<Notify>>,
    pods_by_node: Arc<BTreeMap<String, Arc<BTreeSet<PodKey>>>>,
    nodes_by_provider_id: Arc<BTreeMap<String, Arc<BTreeSet<String>>>>,
    specs: Interner<PodSpec>,
    labels: Interner<BTreeMap<String, String>>,
    amounts: Interner<BTreeMap<String, i64>>,
    offerings: Interner<[OfferingKey]>,
    launches: Interner<LaunchRecord>,
    subscriptions: Vec<Subscription>,
}

impl State {
    /// The state as others see it. Also forgets own writes that were never seen.
    pub(super) fn view(&mut self) -> View {
        let expired = self.ledger.expire(Instant::now());
        if !expired.is_empty() {
            let mut changes = Changes::default();
            changes.kinds.insert(Kind::NodeClaim);
            changes.claims.extend(expired);
            self.publish(&changes);
        }
        View {
            pods: Arc::clone(self.pods.objects()),
            pods_by_node: Arc::clone(&self.pods_by_node),
            nodes: Arc::clone(self.nodes.objects()),
            nodes_by_provider_id: Arc::clone(&self.nodes_by_provider_id),
            claims: self.ledger.overlay(self.claims.objects()),
            node_pools: Arc::clone(self.node_pools.objects()),
            node_classes: Arc::clone(self.node_classes.objects()),
            limit_ranges: Arc::clone(self.limit_ranges.objects()),
            daemon_sets: Arc::clone(self.daemon_sets.objects()),
            disruption_budgets: Arc::clone(self.disruption_budgets.objects()),
            volume_claims: Arc::clone(self.volume_claims.objects()),
            volumes: Arc::clone(self.volumes.objects()),
            storage_classes: Arc::clone(self.storage_classes.objects()),
            storage_nodes: Arc::clone(self.storage_nodes.objects()),
            namespaces: Arc::clone(self.namespaces.objects()),
            claims_by_provider_id: OnceLock::new(),
        }
    }

    /// True when every kind has been listed once.
    pub(super) fn is_synced(&self) -> bool {
        Kind::ALL.iter().all(|kind| {
            self.health
                .get(kind)
                .is_some_and(|health| health.lists.generation > 0)
        })
    }

    /// How many objects of a kind are held.
    pub(super) fn size(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pod => self.pods.objects().len(),
            Kind::Node => self.nodes.objects().len(),
            Kind::NodeClaim => self.claims.objects().len(),
            Kind::NodePool => self.node_pools.objects().len(),
            Kind::NodeClass => self.node_classes.objects().len(),
            Kind::LimitRange => self.limit_ranges.objects().len(),
            Kind::DaemonSet => self.daemon_sets.objects().len(),
            Kind::DisruptionBudget => self.disruption_budgets.objects().len(),
            Kind::VolumeClaim => self.volume_claims.objects().len(),
            Kind::Volume => self.volumes.objects().len(),
            Kind::StorageClass => self.storage_classes.objects().len(),
            Kind::StorageNode => self.storage_nodes.objects().len(),
            Kind::Namespace => self.namespaces.objects().len(),
        }
    }

    /// Adds a consumer and tells it of everything there is.
    pub(super) fn subscribe(&mut self, interest: BTreeSet<Kind>) -> Subscription {
        let subscription = Subscription::new(interest);
        let kinds: BTreeSet<Kind> = self
            .health
            .iter()
            .filter(|(_kind, health)| health.lists.generation > 0)
            .map(|(kind, _health)| *kind)
            .collect();
        let view = self.view();
        subscription.add(&Changes {
            kinds: kinds.clone(),
            relisted: kinds,
            pods: view.pods.keys().cloned().collect(),
            pod_nodes: view.pods_by_node.keys().cloned().collect(),
            nodes: view.nodes.keys().cloned().collect(),
            provider_ids: view.nodes_by_provider_id.keys().cloned().collect(),
            claims: view.claims.keys().cloned().collect(),
            node_pools: view.node_pools.keys().cloned().collect(),
            node_classes: view.node_classes.keys().cloned().collect(),
        });
        self.subscriptions.push(subscription.clone());
        subscription
    }

    /// Tells the consumers.
    pub(super) fn publish(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        self.subscriptions
            .retain(|subscription| !subscription.is_abandoned());
        for subscription in &self.subscriptions {
            subscription.add(changes);
        }
    }

    /// What wakes the watch of a kind to list anew.
    pub(super) fn lists_wanted(&mut self, kind: Kind) -> Arc<Notify> {
        Arc::clone(self.lists_wanted.entry(kind).or_default())
    }

    /// Records that a complete list of a kind is in.
    pub(super) fn listed(&mut self, kind: Kind, record: ListRecord) {
        let health = self.health.entry(kind).or_default();
        health.lists = record;
        self.works(kind);
        self.pulse.listed(kind);
    }

    /// Records that a watch works.
    pub(super) fn works(&mut self, kind: Kind) {
        let health = self.health.entry(kind).or_default();
        health.problem = None;
        self.pulse.heard(kind);
    }

    /// Records that a watch does not work. True when that is news.
    pub(super) fn fails(&mut self, kind: Kind, problem: String) -> bool {
        let health = self.health.entry(kind).or_default();
        let news = health.problem.as_ref() != Some(&problem);
        health.problem = Some(problem);
        self.pulse.fails(kind);
        news
    }

    /// The one shared copy of a pod's spec.
    pub(super) fn share_spec(&mut self, pod: &mut Pod) {
        self.specs.intern(&mut pod.spec);
    }

    pub(super) fn pod_changed(
        &mut self,
        difference: &Difference<PodKey, Pod>,
        changes: &mut Changes,
    ) {
        let old = difference
            .old
            .as_ref()
            .and_then(|pod| pod.node_name.as_ref());
        let new = difference
            .new
            .as_ref()
            .and_then(|pod| pod.node_name.as_ref());
        if old != new {
            let index = Arc::make_mut(&mut self.pods_by_node);
            move_in_index(index, old, new, &difference.key);
        }
        if difference.new.is_none() {
            self.specs.changed();
        }
        changes.pod_nodes.extend(old.cloned());
        changes.pod_nodes.extend(new.cloned());
        changes.pods.insert(difference.key.clone());
    }

    pub(super) fn node_changed(
        &mut self,
        difference: &Difference<String, Node>,
        changes: &mut Changes,
    ) {
        let id = |node: &Option<Arc<Node>>| {
            node.as_ref()
                .map(|node| node.provider_id.clone())
                .filter(|id| !id.is_empty())
        };
        let (old, new) = (id(&difference.old), id(&difference.new));
        if old != new {
            let index = Arc::make_mut(&mut self.nodes_by_provider_id);
            move_in_index(index, old.as_ref(), new.as_ref(), &difference.key);
        }
        if difference.new.is_none() {
            self.labels.changed();
            self.amounts.changed();
        }
        changes.provider_ids.extend(old);
        changes.provider_ids.extend(new);
        changes.nodes.insert(difference.key.clone());
    }

    pub(super) fn claim_changed(
        &mut self,
        difference: &Difference<String, Claim>,
        changes: &mut Changes,
    ) {
        if let Some(claim) = &difference.new {
            self.ledger.shown(claim);
            if difference
                .old
                .as_ref()
                .is_some_and(|old| is_older(claim, old))
            {
                self.went_back = Some(Instant::now());
            }
        }
        if let Some(old) = &difference.old
            && difference
                .new
                .as_ref()
                .is_none_or(|claim| claim.uid != old.uid)
        {
            self.ledger.gone(&old.name, &old.uid);
            self.labels.changed();
            self.amounts.changed();
            self.offerings.changed();
            self.launches.changed();
        }
        changes.claims.insert(difference.key.clone());
    }

    /// Takes the stamps of a Node over into own time, and shares what those of its type and NodePool say alike.
    pub(super) fn keep_node(&mut self, node: &mut Node) {
        self.labels.intern(node.labels.shared());
        for amounts in [&mut node.capacity, &mut node.allocatable] {
            self.amounts.intern(amounts.shared());
        }
        let known = self.nodes.objects().get(&node.name);
        let known = known.filter(|known| known.uid == node.uid);
        self.stamps.node(node, known.map(|known| &**known));
    }

    /// Takes the stamps of a claim over into own time, and shares what those of its batch and NodePool say alike.
    pub(super) fn keep_claim(&mut self, claim: &mut Claim) {
        self.date_claim(claim);
        self.labels.intern(&mut claim.labels);
        for amounts in [
            &mut claim.requests,
            &mut claim.capacity,
            &mut claim.allocatable,
        ] {
            self.amounts.intern(amounts.shared());
        }
        self.offerings.intern(&mut claim.offerings);
        if let Some(record) = &mut claim.launch {
            self.launches.intern(record);
        }
    }

    fn date_claim(&self, claim: &mut Claim) {
        let (name, uid) = (claim.name.clone(), claim.uid.clone());
        let written = self.ledger.last_of(&name).into_iter();
        let known = written.chain(self.claims.objects().get(&name));
        let known = known.filter(|known| known.uid == uid);
        self.stamps.claim(claim, known.map(|known| &**known));
    }

    /// An own write of a claim was answered with the claim.
    pub(super) fn claim_written(&mut self, claim: &mut Arc<Claim>) {
        self.keep_claim(Arc::make_mut(claim));
        self.claim_answered(claim);
    }

    /// The API server has a claim so, whatever the watch shows.
    fn claim_answered(&mut self, claim: &Arc<Claim>) {
        let seen = self.claims.objects().get(&claim.name).map(Arc::clone);
        self.ledger.written(claim, seen.as_deref());
        self.publish(&one_claim(&claim.name));
    }

    /// Takes in a list of every claim of ours beside the watch, and what the watch had shown when it was asked for. Gives
    /// back whether they agree: the list has each claim that the watch still shows, as new as it was then.
    pub(super) fn claims_listed(
        &mut self,
        claims: Vec<Arc<Claim>>,
        shown: &BTreeMap<String, Arc<Claim>>,
        asked: Instant,
    ) -> bool {
        let listed: BTreeMap<&str, &str> = claims
            .iter()
            .map(|claim| (claim.uid.as_str(), claim.resource_version.as_str()))
            .collect();
        let current = self.claims.objects();
        let agrees = shown
            .values()
            .all(|claim| match listed.get(claim.uid.as_str()) {
                Some(version) => !is_before(version, &claim.resource_version),
                None => current
                    .get(&claim.name)
                    .is_none_or(|current| current.uid != claim.uid),
            });
        for mut claim in claims {
            self.ledger.exists(&claim.uid, asked);
            // What the watch had shown just so is shared with it, and was taken over then.
            if let Some(read) = Arc::get_mut(&mut claim) {
                self.keep_claim(read);
            }
            self.claim_answered(&claim);
        }
        agrees
    }

    /// An own write removed a claim for good.
    pub(super) fn claim_removed(&mut self, name: &str, uid: &str) {
        self.ledger.removed(name, uid);
        self.publish(&one_claim(name));
    }
}

fn one_claim(name: &str) -> Changes {
    Changes {
        kinds: BTreeSet::from([Kind::NodeClaim]),
        claims: BTreeSet::from([name.to_owned()]),
        ..Changes::default()
    }
}

fn move_in_index<T: Ord + Clone>(
    index: &mut BTreeMap<String, Arc<BTreeSet<T>>>,
    old: Option<&String>,
    new: Option<&String>,
    member: &T,
) {
    if let Some(old) = old
        && let Some(members) = index.get_mut(old)
    {
        Arc::make_mut(members).remove(member);
        if members.is_empty() {
            index.remove(old);
        }
    }
    if let Some(new) = new {
        Arc::make_mut(index.entry(new.clone()).or_default()).insert(member.clone());
    }
}
