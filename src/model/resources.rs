//! Amounts of cpu, memory, devices and whatever else nodes offer and pods request.
//!
//! One integer per resource: cpu in millicores, everything else in its base unit (bytes for memory
//! and storage, a count for pods and devices). Arithmetic saturates, so no sum of hostile requests
//! can wrap into a small number.

use std::collections::BTreeMap;

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
pub struct Resources(BTreeMap<String, i64>);

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
        if amount == 0 {
            self.0.remove(name);
        } else if let Some(known) = self.0.get_mut(name) {
            *known = amount;
        } else {
            self.0.insert(name.to_owned(), amount);
        }
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
        let mut resources = Self::new();
        for (name, amount) in amounts {
            let name = name.into();
            if amount == 0 {
                resources.0.remove(&name);
            } else {
                resources.0.insert(name, amount);
            }
        }
        resources
    }
}
