//! EC2 in memory: launches are idempotent by batch and attempt, as with client tokens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;

use super::Fate;
use crate::api::EC2NodeClass;
use crate::cloud::{Cloud, CloudError, InstanceQuery, Resolution};
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState, tags};
use crate::model::launch::{
    ErrorClass, LaunchOutcome, LaunchOverride, LaunchRecord, LaunchedInstance, Shortfall,
    TemplateOverrides,
};
use crate::model::node_class::NodeClass;
use crate::model::offering::OfferingKey;
use crate::plan::examples;
use crate::world::Clock;

/// What goes wrong with the next launch call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused because of too many calls.
    Throttle,
    /// It takes effect, and the answer is lost.
    LoseAnswer,
    /// Only so many instances are there.
    Short(usize),
}

#[derive(Debug, Default)]
struct Fleet {
    answers: BTreeMap<(String, u32), LaunchOutcome>,
    instances: BTreeMap<String, Instance>,
    faults: VecDeque<Fault>,
    calls: usize,
}

/// The endpoint; clones share the fleet.
#[derive(Debug, Clone)]
pub(super) struct Machines {
    clock: Arc<dyn Clock>,
    fleet: Arc<Mutex<Fleet>>,
    fate: Fate,
}

impl Machines {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            fleet: Arc::default(),
            fate: Fate::immortal(),
        }
    }

    /// The endpoint as one process sees it.
    pub(super) fn of(&self, fate: Fate) -> Self {
        Self {
            fate,
            ..self.clone()
        }
    }

    pub(super) fn fail_next(&self, faults: &[Fault]) {
        self.fleet().faults.extend(faults);
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap()
    }

    /// Everything ever launched.
    pub(super) fn all(&self) -> Vec<Instance> {
        self.fleet
            .lock()
            .unwrap()
            .instances
            .values()
            .cloned()
            .collect()
    }

    pub(super) fn running(&self) -> Vec<Instance> {
        let mut all = self.all();
        all.retain(|instance| instance.state == InstanceState::Running);
        all
    }

    /// Launches an instance that no claim asked for.
    pub(super) fn stray(&self) -> String {
        let mut fleet = self.fleet();
        let offering = OfferingKey::new(
            "c5.xlarge",
            "us-east-1a",
            crate::model::offering::CapacityType::OnDemand,
        );
        fleet.start(&offering, "stray", &*self.clock)
    }

    fn launch_now(&self, record: &LaunchRecord) -> Result<LaunchOutcome, CloudError> {
        let mut fleet = self.fleet();
        fleet.calls += 1;
        let fault = fleet.faults.pop_front();
        if fault == Some(Fault::Throttle) {
            return Err(error(ErrorClass::Throttled));
        }
        let token = (record.batch.clone(), record.attempt);
        let known = fleet.answers.get(&token).cloned();
        let outcome = known.unwrap_or_else(|| fleet.buy(record, fault, &*self.clock));
        fleet.answers.insert(token, outcome.clone());
        if fault == Some(Fault::LoseAnswer) {
            return Err(error(ErrorClass::Transient));
        }
        Ok(outcome)
    }
}

fn error(class: ErrorClass) -> CloudError {
    CloudError {
        operation: "CreateFleet",
        class,
        code: "Test".to_owned(),
        message: "as the test wants it".to_owned(),
    }
}

impl Fleet {
    fn start(&mut self, offering: &OfferingKey, batch: &str, clock: &dyn Clock) -> String {
        let number = self.instances.len() + 1;
        let mut instance = examples::instance(&format!("{number:04}"));
        instance.offering = offering.clone();
        instance.launched = clock.now();
        instance
            .tags
            .insert(tags::BATCH.to_owned(), batch.to_owned());
        let id = instance.id.clone();
        self.instances.insert(id.clone(), instance);
        id
    }

    fn buy(
        &mut self,
        record: &LaunchRecord,
        fault: Option<Fault>,
        clock: &dyn Clock,
    ) -> LaunchOutcome {
        let asked = usize::try_from(record.size).unwrap();
        let there = match fault {
            Some(Fault::Short(there)) => there.min(asked),
            _ => asked,
        };
        let choices: Vec<OfferingKey> = record
            .templates
            .iter()
            .flat_map(|template| &template.overrides)
            .map(|choice| {
                OfferingKey::new(&choice.instance_type, &choice.zone, record.capacity_type)
            })
            .collect();
        let first = choices.first().unwrap().clone();
        let mut outcome = LaunchOutcome::default();
        for _number in 0..there {
            let id = self.start(&first, &record.batch, clock);
            outcome.instances.push(LaunchedInstance {
                id,
                offering: first.clone(),
                image_id: "ami-1".to_owned(),
                subnet_id: "subnet-a".to_owned(),
            });
        }
        if there < asked {
            outcome.shortfalls = choices
                .into_iter()
                .map(|offering| Shortfall {
                    offering: Some(offering),
                    class: ErrorClass::InsufficientCapacity,
                    code: "InsufficientInstanceCapacity".to_owned(),
                    message: "none left".to_owned(),
                })
                .collect();
        }
        outcome
    }
}

/// The node class with one size only, so that two pods of three cores need two machines.
fn class(name: &str) -> NodeClass {
    let mut class = examples::node_class();
    name.clone_into(&mut class.name);
    let catalogue = Arc::make_mut(&mut class.catalogue);
    catalogue
        .offerings
        .retain(|offering| &*offering.key.instance_type == "c5.xlarge");
    for kind in catalogue.types.values_mut() {
        let kind = Arc::make_mut(kind);
        kind.labels.extend(
            [
                (crate::api::labels::INSTANCE_TYPE, kind.name.as_ref()),
                (crate::api::labels::OS, "linux"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        kind.capacity.set("memory", 8 << 30);
        kind.capacity.set("pods", 58);
    }
    class
}

impl Cloud for Machines {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        let name = node_class.metadata.name.clone().unwrap_or_default();
        Box::pin(async move {
            self.fate.before().await;
            Ok(Resolution {
                class: class(&name),
                conditions: BTreeMap::new(),
            })
        })
    }

    fn prepare<'call>(
        &'call self,
        _node_class: &'call EC2NodeClass,
        _resolved: &'call NodeClass,
        _claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>> {
        Box::pin(async move {
            self.fate.before().await;
            let overrides = offerings
                .iter()
                .zip(0..)
                .map(|(offering, priority)| LaunchOverride {
                    instance_type: offering.instance_type.to_string(),
                    zone: offering.zone.to_string(),
                    subnet: "subnet-a".to_owned(),
                    priority,
                })
                .collect();
            Ok(vec![TemplateOverrides {
                name: "template".to_owned(),
                overrides,
            }])
        })
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        _claim: &'call Claim,
        _node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            self.fate.before().await;
            let answer = self.launch_now(record);
            self.fate.after().await;
            answer
        })
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        Box::pin(async move {
            self.fate.before().await;
            let wanted = |instance: &Instance| match query {
                InstanceQuery::All => instance.state != InstanceState::Terminated,
                InstanceQuery::Batch(batch) => instance.tags.get(tags::BATCH) == Some(batch),
                InstanceQuery::Ids(ids) => ids.contains(&instance.id),
            };
            let mut all = self.all();
            all.retain(wanted);
            Ok(all)
        })
    }

    fn terminate<'call>(
        &'call self,
        instance_id: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(async move {
            self.fate.before().await;
            if let Some(found) = self.fleet().instances.get_mut(instance_id) {
                found.state = InstanceState::Terminated;
            }
            self.fate.after().await;
            Ok(())
        })
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(async move {
            self.fate.before().await;
            if let Some(found) = self.fleet().instances.get_mut(instance_id) {
                found.tags.extend(tags.clone());
            }
            Ok(())
        })
    }

    fn release<'call>(
        &'call self,
        _node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(async move {
            self.fate.before().await;
            Ok(())
        })
    }
}

/// The ids of instances, for messages.
pub(super) fn ids(instances: &[Instance]) -> BTreeSet<String> {
    instances
        .iter()
        .map(|instance| instance.id.clone())
        .collect()
}
