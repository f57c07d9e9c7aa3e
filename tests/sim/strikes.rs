//! What users do to a world, and what goes wrong in it.

use std::time::Duration;

use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::model::offering::{CapacityType, OfferingKey};
use tonnage::sim::api_server::{Key, Resource};
use tonnage::sim::ec2::machine::{EndCause, Machine};
use tonnage::sim::scene::Work;
use tonnage::world::RandomStream;

use crate::checks;
use crate::kinds::Fault;
use crate::phases::{Phase, Target};
use crate::script::{Order, What};
use crate::trial::{CLUSTER, LIMITED, Trial};
use crate::wander;

/// The name of the workload with a number.
fn workload(number: u64) -> String {
    format!("work-{number}")
}

impl Trial {
    /// Submits a workload, or removes one.
    pub(crate) fn work(&mut self, order: &Order) {
        let name = workload(order.number);
        let work = Work {
            name: &name,
            cpu: order.cpu,
            memory: "1Gi",
            gpus: 0,
            tolerates: order.limited.then_some("dedicated"),
            role: None,
            pods: order.pods,
            seconds: None,
        };
        let mut object = match order.what {
            What::Service => work.deployment(),
            What::Job(seconds) => Work {
                seconds: Some(seconds),
                ..work
            }
            .job(),
            What::End(number) => {
                // It may be a Job, or gone.
                let old = workload(number);
                self.remove(&Key::new(Resource::Deployment, "default", &old));
                return;
            }
        };
        if order.limited {
            object["spec"]["template"]["spec"]["nodeSelector"] =
                json!({ labels::NODE_POOL: LIMITED });
        }
        if order.protected {
            let annotations = &mut object["spec"]["template"]["metadata"]["annotations"];
            annotations[checks::PROTECTED] = json!("true");
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
        match fault {
            Fault::MachineFailure | Fault::SpotReclaim | Fault::ImpostorNode | Fault::PoolDry => {
                self.strike_machine(fault, phase, dice);
                return;
            }
            Fault::LeaseStolen | Fault::LeaseDeleted | Fault::LeaseSetBack => {
                if !self.wander.strike(&self.world, fault) {
                    return;
                }
            }
            Fault::LeaderCutOff => {
                let Some(who) = wander::holder(&self.world) else {
                    return;
                };
                let seconds = 2 + dice.below(30);
                let silent = dice.below(2) == 0;
                self.storm
                    .cut_off(&who, Duration::from_secs(seconds), silent);
            }
            Fault::ControllerCrash | Fault::ControllerStop => {
                let Some(process) = self.places.take(dice, self.second) else {
                    return;
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
            Fault::Compaction => self.world.api.compact(),
            Fault::ClockJump => {
                if !self.places.step_clock(dice) {
                    return;
                }
            }
            Fault::MachineNeverJoins => self.world.ec2.make_barren(1),
            Fault::MachinesShownLate => {
                let late = Duration::from_secs(5 + dice.below(85));
                self.world.ec2.show_late(late);
            }
            Fault::StrayMachine => {
                if self.strays > 0 {
                    return;
                }
                self.strays += 1;
                let offering = OfferingKey::new("c5.large", "us-east-1a", CapacityType::OnDemand);
                self.world.ec2.stray(CLUSTER, &offering);
            }
            Fault::ShortageStorm => {
                self.world.ec2.storm(500 + dice.below(450));
                self.shortage_until = Some(self.second + 30 + dice.below(240));
            }
            // These strike by chance, request by request.
            _ => return,
        }
        self.storm.count(fault, Target::Everything);
    }

    /// Something happens to one machine: the last whose claim is in the phase, or one of all.
    fn strike_machine(&mut self, fault: Fault, phase: Option<Phase>, dice: &RandomStream) {
        let claims = self.world.api.all(Resource::NodeClaim);
        let machines = if fault == Fault::ImpostorNode {
            // Whoever carries the id of a machine need not wait until it is gone.
            let all = self.world.ec2.machines().into_iter();
            all.filter(|machine| is_claimed(&claims, machine)).collect()
        } else {
            self.world.ec2.alive()
        };
        let index = usize::try_from(dice.below(machines.len() as u64)).unwrap_or(0);
        let (api, ec2) = (&self.world.api, &self.world.ec2);
        let machine = phase.and_then(|phase| {
            let mut last = machines.iter().rev();
            last.find(|machine| {
                Target::Machine(machine.id())
                    .phases(api, ec2)
                    .contains(&phase)
            })
        });
        let Some(machine) = machine.or_else(|| machines.get(index)) else {
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
            Fault::SpotReclaim if machine.ended.is_none() => {
                storm.count(fault, Target::Machine(id));
                self.world.ec2.reclaim(id);
            }
            Fault::ImpostorNode => {
                storm.count(fault, Target::Machine(id));
                self.impersonate(machine, dice);
            }
            Fault::PoolDry => {
                let Some(shown) = machine.shown(self.world.now()) else {
                    return;
                };
                let minutes = i64::try_from(1 + dice.below(20)).unwrap_or(1);
                storm.count(fault, Target::Everything);
                self.world.ec2.dry(&shown.offering, minutes);
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

/// True for the claim of a machine.
fn is_of(claim: &Value, machine: &Machine) -> bool {
    let id = claim["status"]["providerID"].as_str();
    id.is_some_and(|id| id.ends_with(machine.id()))
}

fn is_claimed(claims: &[Value], machine: &Machine) -> bool {
    claims.iter().any(|claim| is_of(claim, machine))
}
