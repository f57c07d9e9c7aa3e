//! What launches take of subnets, from the call until EC2 has counted.
//!
//! Given the record of a call, what a machine of each of its templates takes, and EC2's answer; given back where a batch goes
//! on when a subnet is full. What a call that was given up has taken shows in EC2's next count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Api;
use crate::cloud::addresses::Taken;
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, NO_FREE_ADDRESS};
use crate::model::node_class::Subnet;

/// Addresses that a machine takes, by name of its template.
pub(super) type Needs = BTreeMap<String, i64>;

/// A call that is not answered; what it may take is free again when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    taken: Arc<Mutex<Taken>>,
    may_take: BTreeMap<String, i64>,
}

impl InFlight {
    /// Begins a call: any of its subnets may get the whole batch.
    pub(super) fn begin(api: &Api, record: &LaunchRecord, needs: &Needs) -> Self {
        let mut may_take: BTreeMap<String, i64> = BTreeMap::new();
        for template in &record.templates {
            let batch = need(needs, &template.name).saturating_mul(i64::from(record.size));
            for choice in &template.overrides {
                let most = may_take.entry(choice.subnet.clone()).or_default();
                *most = batch.max(*most);
            }
        }
        api.taken().begin(&may_take);
        Self {
            taken: Arc::clone(&api.taken),
            may_take,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.end(&self.may_take);
    }
}

/// Counts what machines took of their subnets.
pub(super) fn count(api: &Api, record: &LaunchRecord, needs: &Needs, outcome: &LaunchOutcome) {
    let mut by_subnet: BTreeMap<&str, i64> = BTreeMap::new();
    for bought in &outcome.instances {
        let mut templates = record.templates.iter();
        let template = templates.find(|template| {
            template.overrides.iter().any(|choice| {
                *choice.instance_type == *bought.offering.instance_type
                    && choice.subnet == bought.subnet_id
            })
        });
        let took = template.map_or(1, |template| need(needs, &template.name));
        let sum = by_subnet.entry(&bought.subnet_id).or_default();
        *sum = sum.saturating_add(took);
    }
    let mut taken = api.taken();
    for (subnet, count) in by_subnet {
        taken.take(subnet, count);
    }
}

/// True for an answer that says of a subnet that it is full.
pub(super) fn met_a_full_subnet(outcome: &LaunchOutcome) -> bool {
    let mut shortfalls = outcome.shortfalls.iter();
    shortfalls.any(|shortfall| shortfall.code == NO_FREE_ADDRESS)
}

/// Where a subnet is full and its zone has another with room for a machine, that is where the rest of the batch goes next:
/// nothing is short.
pub(super) fn go_on_in_sisters(
    api: &Api,
    outcome: &mut LaunchOutcome,
    needs: &Needs,
    subnets: &BTreeMap<String, Vec<Subnet>>,
) {
    let most = needs.values().copied().max().unwrap_or(1);
    let taken = api.taken();
    for shortfall in &mut outcome.shortfalls {
        let zone = shortfall.offering.as_ref().map(|offering| &*offering.zone);
        let sisters = zone.and_then(|zone| subnets.get(zone));
        let has_room = |subnet: &Subnet| taken.left(subnet) >= most;
        if shortfall.code == NO_FREE_ADDRESS
            && sisters.is_some_and(|sisters| sisters.iter().any(has_room))
        {
            shortfall.class = ErrorClass::Transient;
        }
    }
}

/// A template of which nothing is remembered gives its machines an address at least.
fn need(needs: &Needs, template: &str) -> i64 {
    needs.get(template).copied().unwrap_or(1)
}
