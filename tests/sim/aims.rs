//! What goes wrong once waits for a claim in a phase: most phases are over in a moment, and chance would hardly ever
//! meet them.

use std::time::Duration;

use tonnage::model::offering::OfferingKey;
use tonnage::sim::api_server::Resource;
use tonnage::sim::ec2::machine::Machine;

use crate::kinds::Fault;
use crate::lasting;
use crate::phases::{Phase, Target, is_claimed, wanted};
use crate::script;
use crate::strikes::LATEST;
use crate::trial::Trial;

/// How long something waits for a claim in a phase, seconds.
const AIMED: u64 = 120;

/// Something that waits.
#[derive(Debug)]
pub(crate) struct Aim {
    /// The number of the disturbance.
    number: usize,
    fault: Fault,
    phase: Phase,
    /// The second from which on it waits no longer.
    until: u64,
}

/// What waits in a world.
#[derive(Debug, Default)]
pub(crate) struct Aims {
    waiting: Vec<Aim>,
    /// How much had happened when they were last looked through.
    looked_at: u64,
}

impl Aims {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// From now on nothing waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Trial {
    /// A disturbance waits for a claim in a phase.
    pub(crate) fn wait(&mut self, number: usize, fault: Fault, phase: Phase) {
        if script::is_gust(fault) {
            self.storm.aim(fault, phase, Duration::from_secs(AIMED));
            return;
        }
        self.aims.waiting.push(Aim {
            number,
            fault,
            phase,
            until: self.second + AIMED,
        });
        self.aims.looked_at = 0;
    }

    /// What waits for a claim in a phase strikes when it would touch one, or when it has waited long enough.
    pub(crate) fn aim(&mut self) {
        // While nothing happens no claim gets any further, and most of the time nothing does.
        let (_hash, happened) = self.world.history.digest();
        let second = self.second;
        let all_wait = self.aims.waiting.iter().all(|aim| second < aim.until);
        if self.aims.is_empty() || (happened == self.aims.looked_at && all_wait) {
            return;
        }
        self.aims.looked_at = happened;
        let waiting = std::mem::take(&mut self.aims.waiting);
        let (now, later): (Vec<Aim>, Vec<Aim>) = waiting
            .into_iter()
            .partition(|aim| second >= aim.until || self.would_touch(aim.fault, aim.phase));
        self.aims.waiting = later;
        for aim in now {
            self.strike(aim.fault, Some(aim.phase), &self.dice(aim.number));
        }
    }

    fn would_touch(&self, fault: Fault, phase: Phase) -> bool {
        match fault {
            Fault::MachineFailure
            | Fault::SpotReclaim
            | Fault::ImpostorNode
            | Fault::MachinesShownLate => self.machine_in(fault, phase).is_some(),
            Fault::PoolDry | Fault::ShortageStorm => !self.wanted_in(phase).is_empty(),
            _ => {
                let there = Target::Everything.phases(&self.world.api, &self.world.ec2);
                there.contains(&phase)
            }
        }
    }

    /// The machines that a fault can strike.
    pub(crate) fn machines_for(&self, fault: Fault) -> Vec<Machine> {
        let now = self.world.now();
        let mut machines = self.world.ec2.machines();
        match fault {
            // Whoever carries the id of a machine need not wait until it is gone.
            Fault::ImpostorNode => {
                let claims = self.world.api.all(Resource::NodeClaim);
                machines.retain(|machine| is_claimed(&claims, machine));
            }
            Fault::MachinesShownLate => machines.retain(|machine| {
                let age = lasting::age(machine, now);
                age.is_some_and(|age| age.as_secs().unsigned_abs() + 6 < LATEST)
            }),
            Fault::SpotReclaim => machines.retain(|machine| machine.ended.is_none()),
            _ => machines.retain(|machine| machine.is_alive(now)),
        }
        machines
    }

    /// The last machine that a fault can strike and whose claim is in a phase.
    pub(crate) fn machine_in(&self, fault: Fault, phase: Phase) -> Option<Machine> {
        let (api, ec2) = (&self.world.api, &self.world.ec2);
        let mut machines = self.machines_for(fault).into_iter().rev();
        machines.find(|machine| {
            let phases = Target::Machine(machine.id()).phases(api, ec2);
            phases.contains(&phase)
        })
    }

    /// What may be bought for claims in a phase.
    pub(crate) fn wanted_in(&self, phase: Phase) -> Vec<OfferingKey> {
        let mut all = Vec::new();
        self.world.api.each(Resource::NodeClaim, |_key, claim| {
            if Phase::of(claim) == phase {
                all.extend(wanted(claim));
            }
        });
        all
    }
}
