//! Addresses that launches take from subnets, beside those that EC2 counted as free.
//!
//! Given what EC2 counts, what is being launched and what was; given back what is left of a subnet, and the subnet of a zone
//! that has most left. A count is minutes old when a burst comes, and many small subnets are full before the next; it is the
//! subnet's, whichever node class it was made for. Nothing is asked of EC2 here.

use std::collections::BTreeMap;

use crate::model::node_class::Subnet;

/// A moment in the order of what is counted and taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

/// What is known of one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Account {
    /// The newest count, and before which moment it was asked for.
    counted: Option<(Moment, i64)>,
    /// What machines took, by when that was told: a count that was asked for earlier may not have it.
    taken: Vec<(Moment, i64)>,
    /// What calls may take that are not answered.
    under_way: i64,
}

/// Addresses taken by id of the subnet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    subnets: BTreeMap<String, Account>,
    last: Moment,
}

impl Taken {
    /// The moment that it is: to be noted before EC2 is asked to count.
    pub fn moment(&mut self) -> Moment {
        self.last = Moment(self.last.0.saturating_add(1));
        self.last
    }

    /// Machines took so many addresses of a subnet.
    pub fn take(&mut self, subnet: &str, count: i64) {
        // Only counts have moments of their own: what comes between two of them is one sum, however long no count comes.
        let at = Moment(self.last.0.saturating_add(1));
        let taken = &mut self.account(subnet).taken;
        match taken.last_mut() {
            Some((known, sum)) if *known == at => *sum = sum.saturating_add(count),
            _ => taken.push((at, count)),
        }
    }

    /// EC2 said that a subnet has none left.
    pub fn fill(&mut self, subnet: &str) {
        self.take(subnet, i64::MAX);
    }

    /// A call begins that may take so many addresses of each of these subnets.
    pub fn begin(&mut self, may_take: &BTreeMap<String, i64>) {
        for (subnet, count) in may_take {
            let account = self.account(subnet);
            account.under_way = account.under_way.saturating_add(*count);
        }
    }

    /// The call is answered, or given up.
    pub fn end(&mut self, may_take: &BTreeMap<String, i64>) {
        for (subnet, count) in may_take {
            let account = self.account(subnet);
            account.under_way = account.under_way.saturating_sub(*count).max(0);
        }
    }

    /// EC2 has counted subnets anew; it was asked after a moment.
    pub fn counted<'subnets>(
        &mut self,
        after: Moment,
        subnets: impl IntoIterator<Item = &'subnets Subnet>,
    ) {
        for subnet in subnets {
            let account = self.account(&subnet.id);
            if account.counted.is_some_and(|(known, _free)| known > after) {
                continue;
            }
            account.counted = Some((after, subnet.free_addresses));
            account.taken.retain(|(at, _count)| *at > after);
        }
    }

    /// What is left of a subnet: of what EC2 counted last, whoever looked, less what was taken since.
    pub fn left(&self, subnet: &Subnet) -> i64 {
        let Some(account) = self.subnets.get(&subnet.id) else {
            return subnet.free_addresses;
        };
        let free = account
            .counted
            .map_or(subnet.free_addresses, |(_at, free)| free);
        let taken = account.taken.iter().map(|(_at, count)| *count);
        taken.fold(free, i64::saturating_sub)
    }

    /// The subnet that has most left even if every call under way takes all that it may, the first of equals.
    pub fn best<'subnets>(&self, subnets: &'subnets [Subnet]) -> Option<&'subnets Subnet> {
        let after_all = |subnet: &&Subnet| {
            let account = self.subnets.get(&subnet.id);
            let under_way = account.map_or(0, |account| account.under_way);
            self.left(subnet).saturating_sub(under_way)
        };
        subnets.iter().rev().max_by_key(after_all)
    }

    fn account(&mut self, subnet: &str) -> &mut Account {
        self.subnets.entry(subnet.to_owned()).or_default()
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
        let moment = taken.moment();
        taken.counted(moment, &subnets[..1]);
        assert_eq!(taken.best(&subnets).unwrap().id, "a");
        taken.fill("a");
        assert_eq!(taken.best(&subnets).unwrap().id, "b");
    }

    #[test]
    fn what_one_class_has_counted_is_not_added_to_what_another_knows() {
        let of_before = subnet("a", 10);
        let mut taken = Taken::default();
        taken.take("a", 8);
        let moment = taken.moment();
        taken.counted(moment, [&subnet("a", 2)]);
        assert_eq!(taken.left(&of_before), 2);
        // An answer that comes late says nothing about what came after it.
        let early = taken.moment();
        taken.take("a", 1);
        let late = taken.moment();
        taken.counted(late, [&subnet("a", 1)]);
        taken.counted(early, [&subnet("a", 2)]);
        assert_eq!(taken.left(&of_before), 1);
    }

    #[test]
    fn what_is_taken_while_ec2_counts_is_kept() {
        let mut taken = Taken::default();
        let moment = taken.moment();
        taken.take("a", 3);
        taken.counted(moment, [&subnet("a", 10)]);
        assert_eq!(taken.left(&subnet("a", 10)), 7);
    }

    #[test]
    fn a_burst_between_two_counts_is_one_sum() {
        let mut taken = Taken::default();
        let first = taken.moment();
        for _machine in 0..100 {
            taken.take("a", 1);
        }
        let second = taken.moment();
        taken.take("a", 5);
        assert_eq!(taken.subnets["a"].taken.len(), 2);
        taken.counted(first, [&subnet("a", 200)]);
        assert_eq!(taken.left(&subnet("a", 200)), 95);
        taken.counted(second, [&subnet("a", 100)]);
        assert_eq!(taken.left(&subnet("a", 200)), 95);
    }

    #[test]
    fn calls_under_way_count_until_they_are_answered() {
        let subnets = [subnet("a", 10), subnet("b", 9)];
        let mut taken = Taken::default();
        let call = BTreeMap::from([("a".to_owned(), 4)]);
        taken.begin(&call);
        let moment = taken.moment();
        taken.counted(moment, &subnets);
        assert_eq!(taken.best(&subnets).unwrap().id, "b");
        taken.end(&call);
        assert_eq!(taken.best(&subnets).unwrap().id, "a");
    }
}
