//! What users do to a world, and what goes wrong in it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::machine::{EndCause, Machine};
use tonnage::sim::scene::Work;
use tonnage::world::RandomStream;

use crate::checks;
use crate::furniture::DEDICATED;
use crate::kinds::Fault;
use crate::lasting;
use crate::phases::{Phase, Target};
use crate::script::{Order, What};
use crate::shapes::one_of;
use crate::trial::{CLUSTER, LIMITED, Trial};
use crate::wander;

/// How late machines are shown at most, seconds.
pub(crate) const LATEST: u64 = 90;

/// The name of the workload with a number.
fn workload(number: u64) -> String {
    format!("work-{number}")
}

/// The Job or Deployment that an order is for.
fn manifest(name: &str, order: &Order) -> Value {
    let memory = order.shape.memory();
    let work = Work {
        name,
        cpu: order.shape.cpu,
        memory: &memory,
        gpus: 0,
        tolerates: order.limited.then_some(DEDICATED),
        role: None,
        pods: order.shape.pods,
        seconds: None,
    };
    match order.what {
        What::Job(seconds) => Work {
            seconds: Some(seconds),
            ..work
        }
        .job(),
        _ => work.deployment(),
    }
}

impl Trial {
    /// Submits a workload, or removes one.
    pub(crate) fn work(&mut self, order: &Order) {
        let name = workload(order.number);
        if let What::End(number) = order.what {
            let old = workload(number);
            for resource in [Resource::Deployment, Resource::Job] {
                self.remove(&Key::new(resource, "default", &old));
            }
            return;
        }
        let mut object = manifest(&name, order);
        let template = &mut object["spec"]["template"];
        order.shape.put_onto(template, &name);
        if let Some(seconds) = order.shape.grace {
            self.checks.acts.give(&name, seconds);
        }
        if order.limited {
            template["spec"]["nodeSelector"] = json!({ labels::NODE_POOL: LIMITED });
        }
        if order.protected {
            template["metadata"]["annotations"][checks::PROTECTED] = json!("true");
            self.checks.acts.protect(&name);
        }
        self.apply(object);
        if order.budget {
            self.apply(json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": { "name": name, "namespace": "default" },
                "spec": { "minAvailable": "50%", "selector": { "matchLabels": { "app": name } } },
            }));
        }
    }

    /// Something happens to a controller, the server, the lease, the region or a machine.
    /// What strikes one machine strikes one whose claim is in the phase, if there is any.
    pub(crate) fn strike(&mut self, fault: Fault, phase: Option<Phase>, dice: &RandomStream) {
        if self.strike_server(fault, dice) {
            return;
        }
        let struck = match fault {
            Fault::MachineFailure | Fault::SpotReclaim | Fault::ImpostorNode => {
                self.strike_machine(fault, phase, dice);
                return;
            }
            Fault::PoolDry => self.dry(phase, dice),
            Fault::Compaction => {
                self.world.api.compact();
                true
            }
            Fault::MachineNeverJoins => {
                self.world.ec2.make_barren(1);
                true
            }
            Fault::MachinesShownLate => {
                self.show_late(phase, dice);
                true
            }
            Fault::StrayMachine => self.stray(),
            Fault::ShortageStorm => {
                self.world.ec2.storm(500 + dice.below(450));
                self.shortage_until = Some(self.second + 30 + dice.below(240));
                true
            }
            _ => self.strike_controllers(fault, dice),
        };
        if !struck {
            return;
        }
        let target = if fault.touches_all() {
            Target::Everything
        } else {
            // Of what lasts those are met whom it touches by and by.
            Target::Nothing
        };
        self.storm.count(fault, target);
        self.lasting.look(&self.world, &self.storm);
    }

    /// Something happens to controllers, to what they hear or to the lease; false when nothing did.
    fn strike_controllers(&mut self, fault: Fault, dice: &RandomStream) -> bool {
        match fault {
            Fault::LeaseStolen | Fault::LeaseDeleted | Fault::LeaseSetBack => {
                return self.wander.strike(&self.world, fault);
            }
            Fault::LeaderCutOff => {
                let Some(who) = wander::holder(&self.world) else {
                    return false;
                };
                let seconds = 2 + dice.below(30);
                let silent = dice.below(2) == 0;
                self.storm
                    .cut_off(&who, Duration::from_secs(seconds), silent);
            }
            Fault::ControllerCrash | Fault::ControllerStop => {
                let Some(process) = self.places.take(dice, self.second) else {
                    return false;
                };
                if fault == Fault::ControllerCrash {
                    process.kill();
                } else {
                    drop(tokio::spawn(async move { process.stop().await }));
                }
            }
            Fault::WatchCut => {
                for who in self.places.names() {
                    self.world.api.cut_watches(who);
                }
            }
            Fault::WatchSilent => {
                // Of all kinds, or of one, which is then behind the others.
                let kinds = [
                    None,
                    Some(Resource::Pod),
                    Some(Resource::Node),
                    Some(Resource::NodeClaim),
                ];
                let which = one_of(&kinds, dice).copied().flatten();
                for who in self.places.names() {
                    self.world.api.silence_watches(who, which);
                }
            }
            Fault::ClockJump => return self.places.step_clock(dice),
            // These strike by chance, request by request.
            _ => return false,
        }
        true
    }

    /// Somebody starts a machine that no claim asked for; false when one was started already.
    fn stray(&mut self) -> bool {
        if self.strays > 0 {
            return false;
        }
        self.strays += 1;
        let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
        self.world.ec2.stray(CLUSTER, &offering);
        true
    }

    /// Machines are shown late: also the last whose claim is in the phase, for a little longer.
    fn show_late(&mut self, phase: Option<Phase>, dice: &RandomStream) {
        let machine = phase.and_then(|phase| self.machine_in(Fault::MachinesShownLate, phase));
        let now = self.world.now();
        let age = machine.and_then(|machine| lasting::age(&machine, now));
        let least = age.map_or(0, |age| u64::try_from(age.as_secs()).unwrap_or(0));
        let late = least + 5 + dice.below(LATEST.saturating_sub(least + 5));
        self.world.ec2.show_late(Duration::from_secs(late));
        let late = i64::try_from(late).unwrap_or(0);
        self.lasting.show_late(SignedDuration::from_secs(late));
    }

    /// A pool runs dry: one that a claim in the phase may be launched from, or that of a machine. Says whether there
    /// was one.
    fn dry(&mut self, phase: Option<Phase>, dice: &RandomStream) -> bool {
        let now = self.world.now();
        let mut pools = phase.map_or_else(Vec::new, |phase| self.wanted_in(phase));
        if pools.is_empty() {
            let machines = self.world.ec2.alive();
            let shown = machines.iter().filter_map(|machine| machine.shown(now));
            pools = shown.map(|shown| shown.offering).collect();
        }
        let index = usize::try_from(dice.below(pools.len() as u64)).unwrap_or(0);
        let minutes = i64::try_from(1 + dice.below(20)).unwrap_or(1);
        let Some(pool) = pools.get(index) else {
            return false;
        };
        self.world.ec2.dry(pool, minutes);
        let until = now.saturating_add(SignedDuration::from_mins(minutes));
        self.lasting.dry(pool.clone(), until.unwrap_or(now));
        true
    }

    /// Something happens to one machine: the last whose claim is in the phase, or one of all.
    fn strike_machine(&mut self, fault: Fault, phase: Option<Phase>, dice: &RandomStream) {
        let machines = self.machines_for(fault);
        let index = usize::try_from(dice.below(machines.len() as u64)).unwrap_or(0);
        let aimed = phase.and_then(|phase| self.machine_in(fault, phase));
        let Some(machine) = aimed.as_ref().or_else(|| machines.get(index)) else {
            return;
        };
        let id = machine.id();
        // Whom it meets is whom it finds: counted before anything changes.
        let storm = self.storm.clone();
        match fault {
            Fault::MachineFailure => {
                storm.count(fault, Target::Machine(id));
                self.world.ec2.end(id, EndCause::Failed);
            }
            Fault::SpotReclaim => {
                storm.count(fault, Target::Machine(id));
                self.world.ec2.reclaim(id);
            }
            Fault::ImpostorNode => {
                storm.count(fault, Target::Machine(id));
                self.impersonate(machine, dice);
            }
            _ => {}
        }
    }

    /// Somebody registers a Node that says it is another's machine.
    fn impersonate(&mut self, machine: &Machine, dice: &RandomStream) {
        let Some(shown) = machine.shown(self.world.now()) else {
            return;
        };
        let name = format!("{}{}", checks::IMPOSTOR, self.second);
        // Two in one second would be one Node that changes its provider id, which none can.
        if self.impostors.contains_key(&name) {
            return;
        }
        self.apply(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "spec": {
                "providerID": shown.provider_id(),
                "taints": [{ "key": "karpenter.sh/unregistered", "effect": "NoExecute" }],
            },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }));
        let until = self.second + 30 + dice.below(120);
        self.impostors.insert(name, until);
    }

    /// What lasts for a while ends when its time has come, or now.
    pub(crate) fn recover(&mut self, all: bool) {
        let second = self.second;
        let over = |until: u64| all || until <= second;
        if self.shortage_until.is_some_and(over) {
            self.shortage_until = None;
            self.world.ec2.storm(0);
        }
        if all {
            self.places.set_clocks_right();
        }
        self.recover_server(all);
        self.end_pauses(all);
        let gone: Vec<String> = self
            .impostors
            .iter()
            .filter(|(_name, until)| over(**until))
            .map(|(name, _until)| name.clone())
            .collect();
        for name in gone {
            self.impostors.remove(&name);
            self.remove(&Key::new(Resource::Node, "", &name));
        }
    }
}
