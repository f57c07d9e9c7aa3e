//! What EC2 looks at beside capacity when it starts a machine: the rules of placement groups, the free
//! addresses of subnets and the quotas of the account.
//!
//! Given a choice of a fleet and what runs already; given back how many more machines of it may start, and
//! why not more. Sources: "Placement groups" and "Error codes" in the EC2 user guide and API reference.

use jiff::Timestamp;

use super::machine::Machine;
use super::template::MachineData;
use super::{Ec2, State};
use crate::model::launch::NO_FREE_ADDRESS;
use crate::model::node_class::Subnet;
use crate::model::offering::OfferingKey;
use crate::model::placement_group::{PlacementGroup, Strategy};

/// Machines of a spread group in a zone.
const MOST_SPREAD: usize = 7;
/// Partitions of a partition group in a zone.
const PARTITIONS: u64 = 7;

/// How many more machines there may be, and what EC2 says to one more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) room: usize,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Ec2 {
    /// Makes a subnet, or replaces the one of its id. Its free addresses are those without a machine.
    pub fn set_subnet(&self, subnet: Subnet) {
        let mut state = self.locked();
        state.subnets.retain(|known| known.id != subnet.id);
        state.subnets.push(subnet);
    }
}

impl State {
    /// What a placement group, a subnet and a quota leave of a choice: the tightest of them.
    pub(super) fn bound(
        &self,
        data: &MachineData,
        offering: &OfferingKey,
        subnet: &str,
        now: Timestamp,
    ) -> Option<Bound> {
        let bounds = [
            self.bound_of_group(data, offering, now),
            self.bound_of_subnet(data, subnet, now),
            self.bound_of_quota(offering, now),
        ];
        bounds.into_iter().flatten().min_by_key(|bound| bound.room)
    }

    /// The partition that a new machine comes into: one after the other.
    pub(super) fn partition_for(&self, data: &MachineData, number: u64) -> Option<u32> {
        let group = self.group_of(data)?;
        let next = u32::try_from(number % PARTITIONS).unwrap_or(0) + 1;
        (group.strategy == Strategy::Partition).then_some(next)
    }

    fn group_of(&self, data: &MachineData) -> Option<&PlacementGroup> {
        self.placement_groups.get(data.placement_group.as_deref()?)
    }

    fn members(&self, id: &str, now: Timestamp) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(move |machine| {
            let template = machine.template.as_ref();
            template.is_some_and(|template| template.data.placement_group.as_deref() == Some(id))
                && machine.is_alive(now)
        })
    }

    fn bound_of_group(
        &self,
        data: &MachineData,
        offering: &OfferingKey,
        now: Timestamp,
    ) -> Option<Bound> {
        let group = self.group_of(data)?;
        let facts = self.markets.sold().types.get(&offering.instance_type)?;
        let refused = |code, message| {
            Some(Bound {
                room: 0,
                code,
                message,
            })
        };
        if !facts.placement.contains(&group.strategy) {
            let message = format!(
                "{} placement groups are not supported by the '{}' instance type. Specify a supported \
                 instance type or change the placement group strategy, and try again.",
                group.strategy.as_str(),
                offering.instance_type
            );
            return refused("InvalidParameterCombination", message);
        }
        match group.strategy {
            Strategy::Partition => None,
            Strategy::Cluster => {
                let mut members = self.members(&group.id, now);
                let zone = &members.next()?.instance.offering.zone;
                if *zone == offering.zone {
                    return None;
                }
                let message = format!(
                    "Instances in the Placement Group '{}' must be launched in the '{zone}' Availability Zone. \
                     Specify the '{zone}' Availability Zone and try again.",
                    group.name
                );
                refused("InvalidParameterValue", message)
            }
            Strategy::Spread => {
                let in_zone = self
                    .members(&group.id, now)
                    .filter(|machine| machine.instance.offering.zone == offering.zone)
                    .count();
                Some(Bound {
                    room: MOST_SPREAD.saturating_sub(in_zone),
                    code: "InsufficientInstanceCapacity",
                    message: format!(
                        "The Placement Group '{}' has {in_zone} running instances in {}; {MOST_SPREAD} are \
                         the most",
                        group.name, offering.zone
                    ),
                })
            }
        }
    }

    fn bound_of_subnet(&self, data: &MachineData, subnet: &str, now: Timestamp) -> Option<Bound> {
        let known = self.subnets.iter().find(|known| known.id == subnet)?;
        let room = self.addresses_free(known, now) / data.addresses.max(1);
        Some(Bound {
            room: usize::try_from(room).unwrap_or(0),
            code: NO_FREE_ADDRESS,
            message: format!(
                "There are not enough free addresses in subnet '{subnet}' to satisfy the requested number of \
                 instances."
            ),
        })
    }

    /// How many addresses of a subnet are free now: each machine has those of its interfaces.
    pub(super) fn addresses_free(&self, subnet: &Subnet, now: Timestamp) -> i64 {
        let here =
            |machine: &&Machine| machine.instance.subnet_id == subnet.id && machine.is_alive(now);
        let taken = self.machines.values().filter(here).map(|machine| {
            let template = machine.template.as_ref();
            template.map_or(1, |template| template.data.addresses)
        });
        subnet.free_addresses.saturating_sub(taken.sum()).max(0)
    }
}
