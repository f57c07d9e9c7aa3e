//! Ways of being broken towards EC2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tonnage::api::EC2NodeClass;
use tonnage::cloud::errors::NO_ANSWER;
use tonnage::cloud::profile::OwnProfile;
use tonnage::cloud::rehearsal::Rehearsal;
use tonnage::cloud::{Cloud, CloudError, InstanceQuery, Resolution};
use tonnage::controllers::assembly::Connections;
use tonnage::model::claim::Claim;
use tonnage::model::instance::{Instance, InstanceState, tags};
use tonnage::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use tonnage::model::node_class::NodeClass;
use tonnage::model::offering::OfferingKey;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{ApiServer, Resource};
use tonnage::sim::ec2::Ec2;

use crate::checks::{IMPOSTOR, instance_of};
use crate::phases::text;

/// A way of being broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Each call has a client token of its own.
    FreshToken,
    /// A call without an answer is made again at once, as another one.
    SecondCall,
    /// A call without an answer is taken for one that found no capacity.
    NoMeansNothing,
    /// A launch asks for one machine more.
    OneMore,
    /// Machines carry the tag of another launch.
    NoTag,
    /// Machines that were terminated are not.
    NoTermination,
    /// Machines without a claim that were terminated are not.
    OrphansKept,
    /// No machine can be terminated once there is no work.
    LastKept,
    /// With each complete list of machines one that runs is taken for one that EC2 has announced to take.
    Announced,
    /// Every second machine is missing in complete lists, and what the last one lacked is not terminated: a
    /// termination would end it before its claim goes.
    HalfList,
    /// Every machine is called as the Node that carries its provider id.
    Fooled,
}

#[derive(Debug)]
struct Region {
    inner: Arc<dyn Cloud>,
    api: ApiServer,
    ec2: Ec2,
    broken: Broken,
    calls: AtomicU32,
    /// What the last complete list lacked.
    lacked: Mutex<BTreeSet<String>>,
}

/// Puts a broken region between.
pub(super) fn broken(world: &Embedded, connections: Connections, broken: Broken) -> Connections {
    Connections {
        cloud: Arc::new(Region {
            inner: connections.cloud,
            api: world.api.clone(),
            ec2: world.ec2.clone(),
            broken,
            calls: AtomicU32::new(1_000),
            lacked: Mutex::default(),
        }),
        ..connections
    }
}

impl Region {
    fn number(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    async fn buy(
        &self,
        record: &LaunchRecord,
        claim: &Claim,
        node_class: &EC2NodeClass,
    ) -> Result<LaunchOutcome, CloudError> {
        let other = |attempt| LaunchRecord {
            attempt,
            ..record.clone()
        };
        let call = match self.broken {
            Broken::FreshToken => other(self.number()),
            Broken::OneMore => LaunchRecord {
                size: record.size + 1,
                ..record.clone()
            },
            Broken::NoTag => LaunchRecord {
                batch: format!("another-{}", record.batch),
                ..record.clone()
            },
            _ => record.clone(),
        };
        let answer = self.inner.launch(&call, claim, node_class).await;
        match (self.broken, answer) {
            (Broken::SecondCall, Err(error)) if error.class == ErrorClass::Transient => {
                let again = other(self.number());
                self.inner.launch(&again, claim, node_class).await
            }
            (Broken::NoMeansNothing, Err(error)) if error.class == ErrorClass::Transient => {
                Err(CloudError {
                    class: ErrorClass::InsufficientCapacity,
                    ..error
                })
            }
            (_, answer) => answer,
        }
    }

    /// The Node of another that carries a provider id.
    fn impostor(&self, provider_id: &str) -> Option<String> {
        let mut found = None;
        self.api.each(Resource::Node, |key, node| {
            if key.name.starts_with(IMPOSTOR) && text(node, "/spec/providerID") == provider_id {
                found = Some(key.name.clone());
            }
        });
        found
    }

    fn lacked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.lacked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces an interruption that the region knows nothing of.
    fn announce(&self, found: &[Instance]) {
        let mut running = found.iter();
        let running = running.find(|instance| instance.state == InstanceState::Running);
        if let Some(instance) = running {
            self.ec2.warn(&instance.id);
        }
    }

    /// True when nobody wants anything to run.
    fn is_workless(&self) -> bool {
        let work = [Resource::Deployment, Resource::Job];
        work.iter().all(|resource| self.api.count(*resource) == 0)
    }

    /// Those of machines that claims name.
    fn owned(&self, ids: &[String]) -> Vec<String> {
        let mut named = BTreeSet::new();
        self.api.each(Resource::NodeClaim, |_key, claim| {
            named.insert(instance_of(text(claim, "/status/providerID")).to_owned());
        });
        let owned = ids.iter().filter(|id| named.contains(*id));
        owned.cloned().collect()
    }

    /// Terminates some of the machines that were asked for, and answers for all of them.
    async fn end_some(&self, ids: Vec<String>) -> Result<(), CloudError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.inner.terminate(&ids).await
    }

    async fn list(&self, query: &InstanceQuery) -> Result<Vec<Instance>, CloudError> {
        let mut found = self.inner.instances(query).await?;
        if self.broken == Broken::HalfList && *query == InstanceQuery::All {
            let mut lacked = BTreeSet::new();
            let mut half = Vec::new();
            for (position, instance) in found.into_iter().enumerate() {
                if position.is_multiple_of(2) {
                    half.push(instance);
                } else {
                    lacked.insert(instance.id);
                }
            }
            *self.lacked() = lacked;
            return Ok(half);
        }
        if self.broken == Broken::Announced && *query == InstanceQuery::All {
            self.announce(&found);
        }
        if self.broken == Broken::Fooled {
            for instance in &mut found {
                if let Some(name) = self.impostor(&instance.provider_id()) {
                    instance.private_dns_name = name;
                    instance.tags.remove(tags::CLAIM);
                }
            }
        }
        Ok(found)
    }
}

fn unanswered() -> CloudError {
    CloudError {
        operation: "TerminateInstances",
        class: ErrorClass::Transient,
        code: NO_ANSWER.to_owned(),
        message: "EC2 ends nothing more".to_owned(),
    }
}

impl Cloud for Region {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        self.inner.resolve(node_class)
    }

    fn prepare<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
        claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>> {
        self.inner.prepare(node_class, resolved, claim, offerings)
    }

    fn rehearse<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
    ) -> BoxFuture<'call, Result<Rehearsal, CloudError>> {
        self.inner.rehearse(node_class, resolved)
    }

    fn turn(&self) -> BoxFuture<'_, ()> {
        self.inner.turn()
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        Box::pin(self.buy(record, claim, node_class))
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        Box::pin(self.list(query))
    }

    fn terminate<'call>(
        &'call self,
        instance_ids: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        match self.broken {
            Broken::NoTermination => Box::pin(std::future::ready(Ok(()))),
            Broken::HalfList => {
                let lacked = self.lacked().clone();
                let known = instance_ids.iter().filter(|id| !lacked.contains(*id));
                Box::pin(self.end_some(known.cloned().collect()))
            }
            Broken::OrphansKept => Box::pin(self.end_some(self.owned(instance_ids))),
            Broken::LastKept if self.is_workless() => {
                Box::pin(std::future::ready(Err(unanswered())))
            }
            _ => self.inner.terminate(instance_ids),
        }
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.inner.tag(instance_id, tags)
    }

    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.inner.keep_profile(node_class)
    }

    fn profile_of(&self, node_class: &EC2NodeClass) -> String {
        self.inner.profile_of(node_class)
    }

    fn profiles(&self) -> BoxFuture<'_, Result<Vec<OwnProfile>, CloudError>> {
        self.inner.profiles()
    }

    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>> {
        self.inner.remove_profile(name)
    }

    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.inner.release(node_class)
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>> {
        self.inner.templates()
    }

    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        self.inner.remove_template(name)
    }
}
