//! Taints of nodes and the tolerations that pods bring against them.

use std::fmt;

use crate::api::labels;

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaintEffect {
    /// New pods stay off; running pods stay.
    NoSchedule,
    /// New pods stay off where something else fits.
    PreferNoSchedule,
    /// New pods stay off and running pods are evicted.
    NoExecute,
}

/// A taint on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// May be empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// How a toleration compares values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// The same value.
    Equal,
    /// The taint's value, as an integer, is less than the toleration's.
    Lt,
    /// The taint's value, as an integer, is greater than the toleration's.
    Gt,
}

/// A toleration of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toleration {
    /// Empty with `Exists` tolerates every key.
    pub key: String,
    /// How values compare.
    pub operator: TolerationOperator,
    /// Compared as the operator says.
    pub value: String,
    /// `None` tolerates every effect.
    pub effect: Option<TaintEffect>,
    /// How long a NoExecute taint is tolerated; `None` is for ever.
    pub seconds: Option<i64>,
}

impl TaintEffect {
    /// The API's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }

    /// Reads the API's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute]
            .into_iter()
            .find(|effect| effect.as_str() == text)
    }
}

impl Taint {
    /// A taint from its parts.
    pub fn new(key: impl Into<String>, value: impl Into<String>, effect: TaintEffect) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            effect,
        }
    }

    /// True for taints that a starting node gets and sheds by itself: those of Kubernetes, of the Node
    /// Readiness Controller and our own. Whatever waits for a node, or counts on it, asks here.
    pub fn is_ephemeral(&self) -> bool {
        let never = self.effect == TaintEffect::PreferNoSchedule;
        let executes = self.effect == TaintEffect::NoExecute;
        match self.key.as_str() {
            labels::NOT_READY_TAINT | labels::UNREACHABLE_TAINT | labels::UNREGISTERED_TAINT => {
                !never
            }
            labels::UNINITIALIZED_TAINT | labels::NETWORK_UNAVAILABLE_TAINT => !never && !executes,
            other => other.starts_with(labels::READINESS_TAINT_PREFIX),
        }
    }

    /// True for what keeps new pods off a Node of ours that is registered and not open yet. It evicts nobody, and goes
    /// when the Node opens.
    pub fn is_hold(&self) -> bool {
        self.key == labels::UNREGISTERED_TAINT && self.effect == TaintEffect::NoSchedule
    }

    /// True when both have the same key and effect, which is what makes two taints the same.
    pub fn matches(&self, other: &Self) -> bool {
        self.key == other.key && self.effect == other.effect
    }
}

impl fmt::Display for Taint {
    /// As `kubectl taint` takes it: `key=value:Effect`, or `key:Effect` without a value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(formatter, "{}:{}", self.key, self.effect.as_str())
        } else {
            write!(
                formatter,
                "{}={}:{}",
                self.key,
                self.value,
                self.effect.as_str()
            )
        }
    }
}

impl Toleration {
    /// True when this toleration covers the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => !self.key.is_empty() && self.value == taint.value,
            TolerationOperator::Lt => self.compares(taint, |taint, own| taint < own),
            TolerationOperator::Gt => self.compares(taint, |taint, own| taint > own),
        }
    }

    fn compares(&self, taint: &Taint, holds: impl Fn(i64, i64) -> bool) -> bool {
        match (taint.value.parse(), self.value.parse()) {
            (Ok(taint), Ok(own)) => !self.key.is_empty() && holds(taint, own),
            _ => false,
        }
    }
}

/// The first taint that keeps a pod with these tolerations off, `PreferNoSchedule` aside.
pub fn first_untolerated<'taints>(
    taints: &'taints [Taint],
    tolerations: &[Toleration],
) -> Option<&'taints Taint> {
    taints.iter().find(|taint| {
        taint.effect != TaintEffect::PreferNoSchedule
            && !tolerations
                .iter()
                .any(|toleration| toleration.tolerates(taint))
    })
}
