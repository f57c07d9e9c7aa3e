//! Amounts of cpu, memory, devices and whatever else nodes offer and pods request.
//!
//! One integer per resource: cpu in millicores, everything else in its base unit (bytes for memory
//! and storage, a count for pods and devices). Arithmetic saturates, so no sum of hostile requests
//! can wrap into a small number. Copies share their amounts until one of them changes: ten thousand
//! nodes of a few types have what a few nodes have.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The resource name of processor time; its amounts are millicores.
pub const CPU: &str = "cpu";
/// The resource name of memory; its amounts are bytes.
pub const MEMORY: &str = "memory";
/// The resource name of pod slots.
pub const PODS: &str = "pods";
/// The resource name of local scratch space; its amounts are bytes.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// The resource name of Elastic Fabric Adapters, as AWS's device plugin reports them.
pub const EFA: &str = "vpc.amazonaws.com/efa";
/// The pseudo resource that counts nodes in NodePool limits.
pub const NODES: &str = "nodes";

/// Amounts by resource name; an absent name is zero, and zeros are not stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resources(Arc<BTreeMap<String, i64>>);

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// The amount of a resource, zero when absent.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Sets the amount of a resource.
    pub fn set(&mut self, name: &str, amount: i64) {
        if self.get(name) == amount {
            return;
        }
        let amounts = Arc::make_mut(&mut self.0);
        if amount == 0 {
            amounts.remove(name);
        } else if let Some(known) = amounts.get_mut(name) {
            *known = amount;
        } else {
            amounts.insert(name.to_owned(), amount);
        }
    }

    /// The amounts as they are shared, for whoever keeps one copy of those that are equal.
    pub(crate) const fn shared(&mut self) -> &mut Arc<BTreeMap<String, i64>> {
        &mut self.0
    }

    /// These resources with one amount replaced, for building values in one expression.
    pub fn with(mut self, name: &str, amount: i64) -> Self {
        self.set(name, amount);
        self
    }

    /// The stored amounts in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// True when every amount is zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `other` to these amounts, saturating.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.set(name, self.get(name).saturating_add(amount));
        }
    }

    /// Takes `other` off these amounts, saturating; amounts may become negative.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.set(name, self.get(name).saturating_sub(amount));
        }
    }

    /// The larger amount of each resource.
    pub fn maximum(&self, other: &Self) -> Self {
        let mut result = self.clone();
        for (name, amount) in other.iter() {
            if amount > result.get(name) {
                result.set(name, amount);
            }
        }
        result
    }

    /// True when every positive amount here is at most what `capacity` holds.
    pub fn fits(&self, capacity: &Self) -> bool {
        self.iter()
            .all(|(name, amount)| amount <= 0 || amount <= capacity.get(name))
    }
}

impl<Name: Into<String>> FromIterator<(Name, i64)> for Resources {
    fn from_iter<I: IntoIterator<Item = (Name, i64)>>(amounts: I) -> Self {
        let mut known = BTreeMap::new();
        for (name, amount) in amounts {
            let name = name.into();
            if amount == 0 {
                known.remove(&name);
            } else {
                known.insert(name, amount);
            }
        }
        Self(Arc::new(known))
    }
}
