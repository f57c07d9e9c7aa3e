//! What a decision may know about a pod.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::labels::LabelSource;
use super::requirement::Requirement;
use super::resources::Resources;
use super::taint::Toleration;

/// `spec.schedulerName` of pods that do not say otherwise.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// The PriorityClass of what a Node needs, which is in every cluster.
pub const NODE_CRITICAL: &str = "system-node-critical";
/// The PriorityClass of what a cluster needs, which is in every cluster.
pub const CLUSTER_CRITICAL: &str = "system-cluster-critical";

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl PodKey {
    /// A key from its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodPhase {
    /// Not started.
    Pending,
    /// Started.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// The kubelet is silent.
    Unknown,
}

impl PodPhase {
    /// True for a pod that has ended and holds no resources any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The controller that owns a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// For example `apps/v1`.
    pub api_version: String,
    /// For example `ReplicaSet`.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
}

/// The annotation `karpenter.sh/do-not-disrupt` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoNotDisrupt {
    /// Absent, or not understood.
    No,
    /// `"true"`.
    Always,
    /// A duration counted from the pod's start.
    For(SignedDuration),
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// The object's uid.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// When the kubelet started it.
    pub started: Option<Timestamp>,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// `status.nominatedNodeName`.
    pub nominated_node: Option<String>,
    /// Condition PodScheduled is False with reason Unschedulable.
    pub unschedulable: bool,
    /// Set while it is being deleted: the time by which it must be gone.
    pub deleting_until: Option<Timestamp>,
    /// Its controller.
    pub owner: Option<Owner>,
    /// A static pod of the node's own kubelet.
    pub mirror: bool,
    /// Whether it may be disrupted.
    pub do_not_disrupt: DoNotDisrupt,
    /// Everything that scheduling reads; pods made from one template share it.
    pub spec: Arc<PodSpec>,
}

impl Pod {
    /// A pod that waits for a node and that nobody owns, as plans of worlds that are made up start from.
    pub fn waiting(key: PodKey, spec: Arc<PodSpec>) -> Self {
        Self {
            key,
            uid: String::new(),
            created: Timestamp::UNIX_EPOCH,
            started: None,
            phase: PodPhase::Pending,
            node_name: None,
            nominated_node: None,
            unschedulable: true,
            deleting_until: None,
            owner: None,
            mirror: false,
            do_not_disrupt: DoNotDisrupt::No,
            spec,
        }
    }

    /// True when an owner of kind DaemonSet made it.
    pub fn is_daemon(&self) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|owner| owner.kind == "DaemonSet")
    }

    /// True for work: neither a DaemonSet's pod nor the mirror of a static one, which come and go
    /// with their node.
    pub fn is_work(&self) -> bool {
        !self.is_daemon() && !self.mirror
    }

    /// True while it occupies its node: bound and not ended.
    pub fn is_active_on_node(&self) -> bool {
        self.node_name.is_some() && !self.phase.is_terminal()
    }
}

/// What scheduling reads of a pod. Equal specs in one namespace are one class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodSpec {
    /// The pod's namespace.
    pub namespace: String,
    /// Labels, as affinity and spread selectors see them.
    pub labels: BTreeMap<String, String>,
    /// What it requests, one pod slot included.
    pub requests: Resources,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Priority; 0 when unset.
    pub priority: i32,
    /// `spec.priorityClassName` is one of the two system classes.
    pub critical: bool,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// `spec.schedulingGates` is not empty.
    pub gated: bool,
    /// `spec.terminationGracePeriodSeconds`.
    pub termination_grace_seconds: i64,
    /// Why the pod can never be placed as it is written: a bad quantity, a negative request.
    pub problem: Option<String>,
    /// Affinity, spread, ports and volumes; `None` when it has none of them.
    pub constraints: Option<Arc<PodConstraints>>,
}

impl PodSpec {
    /// True when node selector and required node affinity select a node of that name with these
    /// labels.
    pub fn selects(&self, name: &str, labels: &impl LabelSource) -> bool {
        let selected = self
            .node_selector
            .iter()
            .all(|(key, value)| labels.value(key) == Some(value));
        let terms = self
            .constraints
            .as_ref()
            .map_or(&[][..], |constraints| &constraints.required_node_terms);
        selected && (terms.is_empty() || terms.iter().any(|term| term.matches(name, labels)))
    }
}

impl LabelSelector {
    /// True when an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| {
                Requirement::parse(&expression.operator, &expression.values).is_ok_and(
                    |requirement| {
                        requirement.accepts(labels.get(&expression.key).map(String::as_str))
                    },
                )
            })
    }
}

/// The constraints beyond selector, tolerations and requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PodConstraints {
    /// Required node affinity: the terms are alternatives.
    pub required_node_terms: Vec<NodeTerm>,
    /// Preferred node affinity with weights of 1 to 100.
    pub preferred_node_terms: Vec<(i32, NodeTerm)>,
    /// Topology spread constraints.
    pub spread: Vec<TopologySpread>,
    /// Required pod affinity.
    pub affinity: Vec<PodTerm>,
    /// Required pod anti-affinity.
    pub anti_affinity: Vec<PodTerm>,
    /// Preferred pod affinity with weights.
    pub preferred_affinity: Vec<(i32, PodTerm)>,
    /// Preferred pod anti-affinity with weights.
    pub preferred_anti_affinity: Vec<(i32, PodTerm)>,
    /// Ports on the host.
    pub host_ports: Vec<HostPort>,
    /// PersistentVolumeClaims it mounts, by name in its namespace; ephemeral ones included.
    pub volume_claims: Vec<String>,
}

/// One node selector term: all expressions must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeTerm {
    /// Expressions over labels.
    pub expressions: Vec<Expression>,
    /// Expressions over fields (`metadata.name` only).
    pub fields: Vec<Expression>,
}

/// `key operator values`, kept as written so that reasons can quote it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression {
    /// Label or field.
    pub key: String,
    /// As written; an unknown operator matches nothing.
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
}

/// A label selector; empty selects everything, absent nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub match_labels: BTreeMap<String, String>,
    /// `matchExpressions`.
    pub match_expressions: Vec<Expression>,
}

/// One topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopologySpread {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Largest allowed difference between domains.
    pub max_skew: i32,
    /// Fewest domains; `None` is 1.
    pub min_domains: Option<i32>,
    /// True for `DoNotSchedule`, false for `ScheduleAnyway`.
    pub required: bool,
    /// Pods that count; `None` counts none.
    pub selector: Option<LabelSelector>,
    /// Labels of the pod that are added to the selector.
    pub match_label_keys: Vec<String>,
    /// `nodeAffinityPolicy` is Honor.
    pub honor_node_affinity: bool,
    /// `nodeTaintsPolicy` is Honor.
    pub honor_node_taints: bool,
}

impl TopologySpread {
    /// The selector by which pods are counted for a pod with this spread. One that says nothing, with the labels that
    /// `matchLabelKeys` add, selects everything elsewhere, but kube-scheduler counts no pod by it.
    pub fn counted(&self, spec: &PodSpec) -> Option<&LabelSelector> {
        let adds = |key: &String| spec.labels.contains_key(key);
        let says_something = |selector: &&LabelSelector| {
            **selector != LabelSelector::default() || self.match_label_keys.iter().any(adds)
        };
        self.selector.as_ref().filter(says_something)
    }
}

/// One pod affinity or anti-affinity term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodTerm {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Pods that count; `None` matches none.
    pub selector: Option<LabelSelector>,
    /// Namespaces by name; with no namespaces and no selector the pod's own.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selector: Option<LabelSelector>,
    /// Labels of the pod that are added to the selector as `In`.
    pub match_label_keys: Vec<String>,
    /// Labels of the pod that are added to the selector as `NotIn`.
    pub mismatch_label_keys: Vec<String>,
}

/// A port on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Empty is every address.
    pub address: String,
    /// 1 to 65535.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl HostPort {
    /// True when one node cannot give both: a port on every address is in the way of each single one.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && (self.address.is_empty()
                || other.address.is_empty()
                || self.address == other.address)
    }
}
