//! Faults that last, and whom they meet meanwhile: a machine that never joins, machines that EC2 does not show yet,
//! and offerings that have no capacity.
//!
//! A claim is met in a phase when the fault touches it while it is in that phase: its own machine, or an offering that
//! it may still be launched with.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tonnage::model::offering::OfferingKey;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::machine::Machine;

use crate::faults::Storm;
use crate::kinds::Fault;
use crate::phases::{Phase, is_of, text, wanted};

/// The kinds that last.
const KINDS: [Fault; 4] = [
    Fault::MachineNeverJoins,
    Fault::MachinesShownLate,
    Fault::PoolDry,
    Fault::ShortageStorm,
];

/// The faults of one world that last.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// How long after its launch a machine is shown.
    late: SignedDuration,
    /// Offerings without capacity, and until when.
    dry: Vec<(OfferingKey, Timestamp)>,
    /// Whom they have met, by uid.
    met: BTreeMap<String, BTreeSet<(Fault, Phase)>>,
}

impl Lasting {
    /// From now on machines are shown so long after their launch.
    pub(crate) fn show_late(&mut self, late: SignedDuration) {
        self.late = late;
    }

    /// An offering has no capacity for a while.
    pub(crate) fn dry(&mut self, offering: OfferingKey, until: Timestamp) {
        self.dry.push((offering, until));
    }

    /// Looks whom they meet now.
    pub(crate) fn look(&mut self, world: &Embedded, storm: &Storm) {
        let now = world.now();
        self.dry.retain(|(_offering, until)| now < *until);
        let machines = world.ec2.machines();
        let mut met = Vec::new();
        world.api.each(Resource::NodeClaim, |_key, claim| {
            let phase = Phase::of(claim);
            let uid = text(claim, "/metadata/uid");
            let before = self.met.get(uid);
            for fault in KINDS {
                let is_new = before.is_none_or(|before| !before.contains(&(fault, phase)));
                if is_new && self.touches(fault, claim, (world, &machines)) {
                    met.push((uid.to_owned(), fault, phase));
                }
            }
        });
        for (uid, fault, phase) in met {
            storm.met(fault, phase);
            self.met.entry(uid).or_default().insert((fault, phase));
        }
    }

    /// True when a fault that lasts touches something of a claim.
    fn touches(
        &self,
        fault: Fault,
        claim: &Value,
        (world, machines): (&Embedded, &[Machine]),
    ) -> bool {
        let now = world.now();
        // Few machines are as the fault makes them, and whose one is takes long to tell.
        let has_one = |is_met: &dyn Fn(&Machine) -> bool| {
            let mut met = machines.iter().filter(|machine| is_met(machine));
            met.any(|machine| is_of(claim, machine))
        };
        let offerings = || wanted(claim).into_iter();
        match fault {
            Fault::MachineNeverJoins => {
                has_one(&|machine| machine.never_joins && machine.is_alive(now))
            }
            Fault::MachinesShownLate => {
                has_one(&|machine| age(machine, now).is_some_and(|age| age < self.late))
            }
            Fault::PoolDry if self.dry.is_empty() => false,
            Fault::PoolDry => {
                let is_dry = |offering: &OfferingKey| {
                    let mut dry = self.dry.iter();
                    dry.any(|(dry, _until)| dry == offering)
                };
                offerings().any(|offering| is_dry(&offering))
            }
            Fault::ShortageStorm if !world.ec2.storms() => false,
            _ => offerings().any(|offering| world.ec2.is_in_storm(&offering)),
        }
    }
}

/// How long ago a machine was launched, while EC2 knows it.
pub(crate) fn age(machine: &Machine, now: Timestamp) -> Option<SignedDuration> {
    Some(now.duration_since(machine.shown(now)?.launched))
}
