//! Addresses that launches took from subnets since EC2 counted the free ones.
//!
//! Given what was launched and what EC2 counts; given back the subnet of a zone that has most left. A count is
//! minutes old when a burst comes, and many small subnets are full before the next. Nothing is asked of EC2 here.

use std::collections::BTreeMap;

use crate::model::node_class::Subnet;

/// Addresses taken by id of the subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken(BTreeMap<String, i64>);

impl Taken {
    /// A machine took so many addresses of a subnet.
    pub fn take(&mut self, subnet: &str, count: i64) {
        let taken = self.0.entry(subnet.to_owned()).or_default();
        *taken = taken.saturating_add(count);
    }

    /// EC2 said that a subnet has none left.
    pub fn fill(&mut self, subnet: &str) {
        self.0.insert(subnet.to_owned(), i64::MAX);
    }

    /// EC2 has counted the subnets anew.
    pub fn counted<'ids>(&mut self, subnets: impl IntoIterator<Item = &'ids str>) {
        for subnet in subnets {
            self.0.remove(subnet);
        }
    }

    /// What is left of a subnet.
    pub fn left(&self, subnet: &Subnet) -> i64 {
        let taken = self.0.get(&subnet.id).copied().unwrap_or(0);
        subnet.free_addresses.saturating_sub(taken)
    }

    /// The subnet with most left, the first of equals.
    pub fn best<'subnets>(&self, subnets: &'subnets [Subnet]) -> Option<&'subnets Subnet> {
        subnets.iter().rev().max_by_key(|subnet| self.left(subnet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(id: &str, free_addresses: i64) -> Subnet {
        Subnet {
            id: id.to_owned(),
            zone: "us-east-1a".to_owned(),
            zone_id: String::new(),
            free_addresses,
        }
    }

    #[test]
    fn a_burst_goes_on_in_the_sister_subnet_before_the_first_is_full() {
        let subnets = [subnet("a", 10), subnet("b", 10)];
        let mut taken = Taken::default();
        let mut chosen = Vec::new();
        for _machine in 0..4 {
            let best = taken.best(&subnets).unwrap();
            chosen.push(best.id.clone());
            taken.take(&best.id, 4);
        }
        assert_eq!(chosen, ["a", "b", "a", "b"]);
        taken.counted(["a"]);
        assert_eq!(taken.best(&subnets).unwrap().id, "a");
        taken.fill("a");
        assert_eq!(taken.best(&subnets).unwrap().id, "b");
    }
}
