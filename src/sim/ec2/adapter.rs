//! The simulated region under the `Cloud` trait, as one controller process reaches it.
//!
//! Calls take their time, count against the same client-side buckets as real ones, may be throttled,
//! get lost or lose their answer, and die with their process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::ResourceExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::account;
use super::fleet::{self, Buyer};
use super::machine::EndCause;
use super::market::PRICE_STEP;
use super::{Ec2, State, later};
use crate::api::node_class::EC2NodeClass;
use crate::cloud::buckets::{Bucket, BucketSizes, Buckets};
use crate::cloud::catalogue::{self, Terms};
use crate::cloud::class::{self, ClassDefaults};
use crate::cloud::cluster::ClusterFacts;
use crate::cloud::facts;
use crate::cloud::launch_template::{self, Source};
use crate::cloud::profile::{Home, OwnProfile};
use crate::cloud::{Cloud, CloudError, InstanceQuery, Resolution, errors, tags};
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState};
use crate::model::launch::{LaunchOutcome, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::{Catalogue, OfferingKey};
use crate::sim::faults::{CallFault, Faults};
use crate::sim::life::Life;

const DESCRIBE: &str = "DescribeInstances";
/// Instances on one page of an answer, which is the most that EC2 gives.
const PAGE: usize = 1_000;

/// How long a call without an answer is waited for, as the adapter for the real EC2 does.
const GIVE_UP: Duration = Duration::from_mins(1);

type Known = BTreeMap<String, (i64, Terms, Arc<Catalogue>)>;

/// A process's way to the region.
#[derive(Debug)]
pub struct SimulatedCloud {
    pub(super) ec2: Ec2,
    who: String,
    cluster: ClusterFacts,
    life: Life,
    faults: Arc<dyn Faults>,
    buckets: Buckets,
    catalogues: Mutex<Known>,
}

/// What a call is.
struct Call {
    operation: &'static str,
    takes: Vec<(Bucket, u32)>,
    writes: bool,
}

impl Call {
    fn read(operation: &'static str) -> Self {
        Self {
            operation,
            takes: vec![(Bucket::Describe, 1)],
            writes: false,
        }
    }

    fn write(operation: &'static str, takes: Vec<(Bucket, u32)>) -> Self {
        Self {
            operation,
            takes,
            writes: true,
        }
    }
}

impl SimulatedCloud {
    /// The way of a process `who` of the cluster `name`.
    pub fn new(ec2: &Ec2, who: &str, name: &str, life: Life, faults: Arc<dyn Faults>) -> Self {
        Self {
            ec2: ec2.clone(),
            who: who.to_owned(),
            cluster: ClusterFacts {
                name: name.to_owned(),
                endpoint: "https://api.embedded.invalid".to_owned(),
                certificate_authority: "Q0E=".to_owned(),
                service_cidr: "10.100.0.0/16".to_owned(),
                dns_address: None,
            },
            life,
            faults,
            buckets: Buckets::new(BucketSizes::default()),
            catalogues: Mutex::default(),
        }
    }

    fn home(&self) -> Home<'_> {
        Home {
            region: facts::BUILT_IN_REGION,
            cluster: &self.cluster.name,
        }
    }

    /// Makes a call: it travels, takes effect, and its answer travels back.
    async fn call<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<CallFault>) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        for (bucket, count) in &call.takes {
            self.buckets.take(*bucket, *count).await;
        }
        let (takes, fault) = self.faults.call(&self.who, call.operation);
        tokio::time::sleep(takes / 2).await;
        self.life.go_on().await;
        self.ec2.called(call.operation);
        match fault {
            Some(CallFault::Lost) => return Err(no_answer(call.operation).await),
            Some(CallFault::Throttled) => return Err(self.throttled(call.operation)),
            Some(CallFault::Internal) => {
                return Err(errors::cloud_error(
                    call.operation,
                    "InternalError",
                    "An internal error has occurred",
                    Some(500),
                ));
            }
            Some(CallFault::Denied) => {
                return Err(errors::cloud_error(
                    call.operation,
                    "UnauthorizedOperation",
                    "You are not authorized to perform this operation.",
                    Some(403),
                ));
            }
            Some(CallFault::AnswerLost | CallFault::Short(_)) | None => {}
        }
        let answer = {
            let mut state = self.ec2.locked();
            let now = Instant::now();
            let served = call
                .takes
                .iter()
                .all(|(bucket, count)| state.throttle.take(*bucket, *count, now));
            if served {
                let answer = effect(&mut state, fault);
                if call.writes && answer.is_ok() {
                    let fields = json!({ "client": self.who, "operation": call.operation });
                    state.history.request("Call", fields);
                }
                answer
            } else {
                Err(self.throttled(call.operation))
            }
        };
        if call.writes && answer.is_ok() {
            self.life.wrote().await;
        }
        tokio::time::sleep(takes / 2).await;
        self.life.go_on().await;
        if fault == Some(CallFault::AnswerLost) {
            return Err(no_answer(call.operation).await);
        }
        self.ec2.answered(call.operation);
        answer
    }

    /// The refusal of a call, which this process learns from.
    fn throttled(&self, operation: &'static str) -> CloudError {
        if let Some(bucket) = Bucket::of(operation) {
            self.buckets.throttled(bucket);
        }
        errors::cloud_error(
            operation,
            "RequestLimitExceeded",
            "Request limit exceeded.",
            Some(503),
        )
    }

    /// A call that no bucket counts.
    pub(super) async fn asked<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(&mut State) -> T,
    ) -> Result<T, CloudError> {
        let call = Call {
            operation,
            takes: Vec::new(),
            writes: false,
        };
        self.call(call, |state, _fault| Ok(effect(state))).await
    }

    fn catalogue(&self, state: &State, name: &str, terms: Terms) -> Arc<Catalogue> {
        let now = state.clock.now();
        let step = now.as_second().div_euclid(PRICE_STEP);
        let mut known = self
            .catalogues
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((built, from, catalogue)) = known.get(name)
            && *built == step
            && *from == terms
        {
            return Arc::clone(catalogue);
        }
        let catalogue = Arc::new(catalogue::build(&state.markets.at(now), &terms));
        known.insert(name.to_owned(), (step, terms, Arc::clone(&catalogue)));
        catalogue
    }

    fn resolution(&self, state: &State, object: &EC2NodeClass) -> Resolution {
        let found = account::find(&self.cluster.name, object);
        let catalogue = found.terms(object).map_or_else(Arc::default, |terms| {
            self.catalogue(state, &object.name_any(), terms)
        });
        Resolution {
            conditions: found.conditions.clone(),
            remarks: BTreeMap::new(),
            instance_profile: self.profile_of(object),
            class: found.node_class(object, catalogue),
        }
    }

    /// The templates that a claim needs, by name.
    fn templates(
        &self,
        object: &EC2NodeClass,
        resolved: &NodeClass,
        claim: &Claim,
        offerings: &[OfferingKey],
    ) -> Result<Vec<launch_template::TemplateGroup>, CloudError> {
        const OPERATION: &str = "CreateLaunchTemplate";
        let settings = class::read(&object.spec, ClassDefaults::default())
            .map_err(|problems| errors::refused(OPERATION, problems.to_string()))?;
        let instance_profile = self.profile_of(object);
        let source = Source {
            cluster: &self.cluster,
            spec: &object.spec,
            settings: &settings,
            resolved,
            instance_profile: &instance_profile,
        };
        launch_template::group(&source, claim, offerings)
            .map_err(|problem| errors::refused(OPERATION, problem.to_string()))
    }
}

async fn no_answer(operation: &'static str) -> CloudError {
    tokio::time::sleep(GIVE_UP).await;
    errors::cloud_error(
        operation,
        errors::NO_ANSWER,
        "no answer within a minute",
        None,
    )
}

impl Cloud for SimulatedCloud {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        let call = Call::read("DescribeSubnets");
        Box::pin(self.call(call, |state, _fault| Ok(self.resolution(state, node_class))))
    }

    fn prepare<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
        resolved: &'call NodeClass,
        claim: &'call Claim,
        offerings: &'call [OfferingKey],
    ) -> BoxFuture<'call, Result<Vec<TemplateOverrides>, CloudError>> {
        Box::pin(async move {
            let mut prepared = Vec::new();
            for group in self.templates(node_class, resolved, claim, offerings)? {
                let name = group.template.name();
                let there = self.ec2.locked().templates.contains_key(&name);
                if !there {
                    let call = Call::write("CreateLaunchTemplate", vec![(Bucket::Mutate, 1)]);
                    let (kept, template) = (name.clone(), group.template);
                    self.call(call, |state, _fault| {
                        state.templates.insert(kept, template);
                        Ok(())
                    })
                    .await?;
                }
                prepared.push(TemplateOverrides {
                    name,
                    overrides: group.overrides,
                });
            }
            Ok(prepared)
        })
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        let settings = class::read(&node_class.spec, ClassDefaults::default());
        let buyer = Buyer {
            cluster: self.cluster.name.clone(),
            node_pool: claim.node_pool.clone(),
            node_class: node_class.name_any(),
            fees: settings
                .map(|settings| settings.volume_fee)
                .unwrap_or_default(),
        };
        let takes = vec![(Bucket::Mutate, 1), (Bucket::InstancesStarted, record.size)];
        let call = Call::write(fleet::OPERATION, takes);
        Box::pin(self.call(call, move |state, fault| {
            let most = match fault {
                Some(CallFault::Short(most)) => Some(most),
                _ => None,
            };
            state.launch(record, &buyer, most)
        }))
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        let look = move |state: &mut State, _fault: Option<CallFault>| {
            let now = state.clock.now();
            let ours = &self.cluster.name;
            let late = state.shown_after;
            let shown = state
                .machines
                .values()
                .filter_map(|machine| machine.shown(now))
                .filter(|instance| now >= later(instance.launched, late));
            Ok(shown
                .filter(|instance| match query {
                    InstanceQuery::All => {
                        instance.tags.get(tags::CLUSTER) == Some(ours)
                            && instance.state != InstanceState::Terminated
                    }
                    InstanceQuery::Batch(batch) => {
                        instance.tags.get(tags::CLUSTER) == Some(ours)
                            && instance.tags.get(tags::BATCH) == Some(batch)
                    }
                    InstanceQuery::Ids(ids) => ids.contains(&instance.id),
                })
                .collect::<Vec<Instance>>())
        };
        Box::pin(async move {
            let found = self.call(Call::read(DESCRIBE), look).await?;
            for _further in 1..found.len().div_ceil(PAGE) {
                self.call(Call::read(DESCRIBE), |_state, _fault| Ok(()))
                    .await?;
            }
            Ok(found)
        })
    }

    fn terminate<'call>(
        &'call self,
        instance_ids: &'call [String],
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        Box::pin(async move {
            let count = u32::try_from(instance_ids.len()).unwrap_or(u32::MAX);
            let takes = vec![(Bucket::Terminate, 1), (Bucket::InstancesEnded, count)];
            self.call(Call::write("TerminateInstances", takes), |state, _fault| {
                if let Some(kept) = instance_ids.iter().find(|id| state.protected.contains(*id)) {
                    return Err(errors::cloud_error(
                        "TerminateInstances",
                        "OperationNotPermitted",
                        &format!("{kept} is protected from termination"),
                        Some(400),
                    ));
                }
                let now = state.clock.now();
                for id in instance_ids {
                    state.end(id, now, EndCause::Terminated);
                }
                Ok(())
            })
            .await
        })
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("CreateTags", vec![(Bucket::Tag, 1)]);
        Box::pin(self.call(call, move |state, _fault| {
            let machine = state.machines.get_mut(instance_id).ok_or_else(|| {
                errors::cloud_error(
                    "CreateTags",
                    "InvalidInstanceID.NotFound",
                    &format!("The instance ID '{instance_id}' does not exist"),
                    Some(400),
                )
            })?;
            machine.instance.tags.extend(tags.clone());
            Ok(())
        }))
    }

    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let name = self.profile_of(node_class);
        let is_there =
            node_class.spec.role.is_none() || self.ec2.locked().profiles.contains_key(&name);
        Box::pin(async move {
            if is_there {
                return Ok(());
            }
            let call = Call::write("CreateInstanceProfile", Vec::new());
            self.call(call, move |state, _fault| {
                let uid = node_class.uid().unwrap_or_default();
                state.profiles.insert(name, uid);
                Ok(())
            })
            .await
        })
    }

    fn profile_of(&self, node_class: &EC2NodeClass) -> String {
        let spec = &node_class.spec;
        let of_role = |role: &str| {
            let uid = node_class.uid().unwrap_or_default();
            self.home().name(&uid, role)
        };
        let given = spec.instance_profile.clone();
        given
            .or_else(|| spec.role.as_deref().map(of_role))
            .unwrap_or_default()
    }

    fn profiles(&self) -> BoxFuture<'_, Result<Vec<OwnProfile>, CloudError>> {
        let call = Call {
            operation: "ListInstanceProfiles",
            takes: Vec::new(),
            writes: false,
        };
        Box::pin(self.call(call, |state, _fault| {
            let own = |(name, class_uid): (&String, &String)| OwnProfile {
                name: name.clone(),
                class_uid: class_uid.clone(),
            };
            Ok(state.profiles.iter().map(own).collect())
        }))
    }

    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>> {
        let call = Call::write("DeleteInstanceProfile", Vec::new());
        Box::pin(self.call(call, move |state, _fault| {
            let is_used = state.alive().any(|machine| machine.profile == name);
            if !is_used {
                state.profiles.remove(name);
            }
            Ok(!is_used)
        }))
    }

    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("DeleteLaunchTemplate", vec![(Bucket::Mutate, 1)]);
        Box::pin(self.call(call, move |state, _fault| {
            state
                .templates
                .retain(|_name, template| template.node_class != node_class);
            Ok(())
        }))
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>> {
        let call = Call::read("DescribeLaunchTemplates");
        Box::pin(self.call(call, |state, _fault| {
            let ours =
                |template: &&launch_template::Template| template.cluster == self.cluster.name;
            let found = state.templates.values().filter(ours);
            Ok(found.map(launch_template::Template::name).collect())
        }))
    }

    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("DeleteLaunchTemplate", vec![(Bucket::Mutate, 1)]);
        Box::pin(self.call(call, move |state, _fault| {
            state.templates.remove(name);
            Ok(())
        }))
    }
}
