//! The simulated region under the `Cloud` trait, as one controller process reaches it.
//!
//! Given what the controllers ask; given back what the region has of it, or does. How it is called is said in
//! `calling`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::account;
use super::fleet::{self, Order};
use super::machine::EndCause;
use super::market::PRICE_STEP;
use super::profiles::Profile;
use super::refusal::Refusal;
use super::template::{self, Tags};
use super::way::{Call, Way};
use super::{Ec2, State};
use crate::api::ConditionType;
use crate::api::node_class::EC2NodeClass;
use crate::cloud::addresses::Taken;
use crate::cloud::buckets::{Bucket, BucketSizes, Buckets};
use crate::cloud::catalogue::{self, Terms};
use crate::cloud::class::{self, ClassDefaults};
use crate::cloud::cluster::ClusterFacts;
use crate::cloud::facts;
use crate::cloud::launch_template::{self, Source};
use crate::cloud::profile::{self, Home, OwnProfile};
use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::reservations;
use crate::cloud::{
    Cloud, CloudError, InstanceQuery, Resolution, Unresolved, errors, placement_groups, tags,
};
use crate::model::claim::Claim;
use crate::model::instance::{Instance, InstanceState};
use crate::model::launch::{ErrorClass, LaunchOutcome, LaunchRecord, TemplateOverrides};
use crate::model::node_class::NodeClass;
use crate::model::offering::{Catalogue, OfferingKey};
use crate::model::placement_group::PlacementGroup;
use crate::sim::faults::{About, CallFault, Faults};
use crate::sim::life::Life;

const DESCRIBE: &str = "DescribeInstances";
/// Instances on one page of an answer, which is the most that EC2 gives.
const PAGE: usize = 1_000;

type Known = BTreeMap<String, (i64, Terms, Arc<Catalogue>)>;

/// A process's way to the region.
#[derive(Debug)]
pub struct SimulatedCloud {
    pub(super) way: Way,
    cluster: ClusterFacts,
    pub(super) buckets: Buckets,
    catalogues: Mutex<Known>,
}

impl SimulatedCloud {
    /// The way of a process `who` of the cluster `name`.
    pub fn new(ec2: &Ec2, who: &str, name: &str, life: Life, faults: Arc<dyn Faults>) -> Self {
        Self {
            way: Way {
                ec2: ec2.clone(),
                who: who.to_owned(),
                life,
                faults,
            },
            cluster: account::cluster(name),
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

    /// The profile of a node class with a role, but for when it is made.
    fn new_profile(&self, node_class: &EC2NodeClass) -> Profile {
        let role = node_class.spec.role.as_deref().map(profile::name_of_role);
        let tags = [
            (tags::CLUSTER, self.cluster.name.clone()),
            (tags::NODE_CLASS, node_class.name_any()),
        ];
        Profile {
            path: self
                .home()
                .path_of_class(&node_class.uid().unwrap_or_default()),
            role: role.map(str::to_owned),
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            made: Timestamp::UNIX_EPOCH,
        }
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
        let mut found = account::find(&self.cluster.name, object);
        let placement_group = state.selected_group(object);
        if let Some(Err(unresolved)) = &placement_group {
            let condition = ConditionType::PlacementGroupReady.as_str();
            found.conditions.insert(condition, Err(unresolved.clone()));
        }
        let placement_group = placement_group.and_then(Result::ok);
        let selected = reservations::select(
            &object.spec.capacity_reservation_selector_terms,
            state.active_reservations(),
        );
        let terms = found.terms(object).map(|terms| Terms {
            placement_group: placement_group.clone(),
            reserved: reservations::types(&selected),
            ..terms
        });
        let catalogue = terms.clone().map_or_else(Arc::default, |terms| {
            self.catalogue(state, &object.name_any(), terms)
        });
        let remark = reservations::remark(&selected);
        let of_reservations = ConditionType::CapacityReservationsReady.as_str();
        Resolution {
            conditions: found.conditions.clone(),
            remarks: remark
                .map(|remark| (of_reservations, remark))
                .into_iter()
                .collect(),
            instance_profile: self.profile_of(object),
            class: NodeClass {
                reservations: reservations::priced(
                    selected,
                    (&catalogue, terms.as_ref()),
                    state.clock.now(),
                ),
                placement_group,
                ..found.node_class(object, catalogue)
            },
        }
    }

    /// The tags that a launch gives its machines.
    fn tags_of(&self, record: &LaunchRecord, claim: &Claim, node_class: &EC2NodeClass) -> Tags {
        let cluster = &self.cluster.name;
        let mut all = Tags::from([
            (tags::CLUSTER.to_owned(), cluster.clone()),
            (
                format!("{}{cluster}", tags::OWNED_PREFIX),
                "owned".to_owned(),
            ),
            (tags::NODE_CLASS.to_owned(), node_class.name_any()),
            (tags::BATCH.to_owned(), record.batch.clone()),
        ]);
        if let Some(node_pool) = &claim.node_pool {
            all.insert(tags::NODE_POOL.to_owned(), node_pool.clone());
        }
        all
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
            region: facts::BUILT_IN_REGION,
            spec: &object.spec,
            settings: &settings,
            resolved,
            instance_profile: &instance_profile,
            taken: &Taken::default(),
        };
        launch_template::group(&source, claim, offerings)
            .map_err(|problem| errors::refused(OPERATION, problem.to_string()))
    }
}

impl State {
    /// The placement group that a class selects, or why there is none.
    fn selected_group(&self, object: &EC2NodeClass) -> Option<Result<PlacementGroup, Unresolved>> {
        let selector = object.spec.placement_group_selector.as_ref()?;
        let mut groups = self.placement_groups.values();
        let found =
            groups.find(|group| placement_groups::is_named(selector, &group.name, &group.id));
        let described = found.map(|group| placement_groups::Described {
            id: group.id.clone(),
            name: group.name.clone(),
            strategy: group.strategy.as_str().to_owned(),
            state: "available".to_owned(),
        });
        Some(placement_groups::select(selector, described))
    }
}

impl Cloud for SimulatedCloud {
    fn resolve<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<Resolution, CloudError>> {
        let call = Call::read("DescribeSubnets");
        Box::pin(self.ask(call, |state, _fault| Ok(self.resolution(state, node_class))))
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
                let there = self.way.ec2.locked().templates.contains_key(&name);
                if !there {
                    let call = Call::write("CreateLaunchTemplate", vec![(Bucket::Mutate, 1)])
                        .about(About::Claim(claim.name.clone()));
                    let (kept, template) = (name.clone(), group.template);
                    self.change(call, move |state, _fault| {
                        let tags = template::tags_of(&template);
                        state.keep_template(&kept, tags, template::data_of(&template));
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

    /// Here everybody may do everything, and a class is looked at as a whole when it is resolved: there is
    /// nothing left that EC2 could say against a launch.
    fn rehearse<'call>(
        &'call self,
        _node_class: &'call EC2NodeClass,
        _resolved: &'call NodeClass,
    ) -> BoxFuture<'call, Result<Rehearsal, CloudError>> {
        Box::pin(std::future::ready(Ok(Rehearsal::Passed)))
    }

    fn turn(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.buckets.take(Bucket::Mutate, 1))
    }

    fn launch<'call>(
        &'call self,
        record: &'call LaunchRecord,
        claim: &'call Claim,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<LaunchOutcome, CloudError>> {
        let order = Order::of(
            record,
            self.tags_of(record, claim, node_class),
            node_class.spec.context.clone(),
        );
        let takes = vec![(Bucket::Mutate, 1), (Bucket::InstancesStarted, record.size)];
        let call = Call::write(fleet::OPERATION, takes).about(About::Launch(record.batch.clone()));
        Box::pin(self.change_now(call, move |state, fault| {
            let most = match fault {
                Some(CallFault::Short(most)) => Some(most),
                _ => None,
            };
            Ok(state.launch(&order, most)?.outcome)
        }))
    }

    fn instances<'call>(
        &'call self,
        query: &'call InstanceQuery,
    ) -> BoxFuture<'call, Result<Vec<Instance>, CloudError>> {
        let look = move |state: &mut State, _fault: Option<CallFault>| {
            let ours = &self.cluster.name;
            let shown = state
                .machines
                .keys()
                .filter_map(|id| Some(state.seen(id)?.1));
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
                    InstanceQuery::Ids(ids) => {
                        ids.contains(&instance.id) && !instance.is_of_another_cluster(ours)
                    }
                })
                .collect::<Vec<Instance>>())
        };
        Box::pin(async move {
            let about = match query {
                InstanceQuery::All => About::AllMachines,
                InstanceQuery::Batch(batch) => About::Launch(batch.clone()),
                InstanceQuery::Ids(ids) => About::Machines(ids.iter().cloned().collect()),
            };
            let call = || Call::read(DESCRIBE).about(about.clone());
            let found = self.ask(call(), look).await?;
            for _further in 1..found.len().div_ceil(PAGE) {
                self.ask(call(), |_state, _fault| Ok(())).await?;
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
            let call = Call::write("TerminateInstances", takes)
                .about(About::Machines(instance_ids.to_vec()));
            let all = instance_ids.to_vec();
            let ended = self.change(call, move |state, _fault| {
                let ids: Vec<&str> = all.iter().map(String::as_str).collect();
                state.known_all(&ids)?;
                state.may_end(ids.iter().copied())?;
                let now = state.clock.now();
                for id in ids {
                    state.end(id, now, EndCause::Terminated);
                }
                Ok(())
            });
            match ended.await {
                Err(error) if error.class == ErrorClass::NotFound && instance_ids.len() == 1 => {
                    Ok(())
                }
                other => other,
            }
        })
    }

    fn tag<'call>(
        &'call self,
        instance_id: &'call str,
        tags: &'call BTreeMap<String, String>,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("CreateTags", vec![(Bucket::Tag, 1)])
            .about(About::Machines(vec![instance_id.to_owned()]));
        let (id, tags) = (instance_id.to_owned(), tags.clone());
        Box::pin(self.change(call, move |state, _fault| {
            let machine = state
                .machines
                .get_mut(&id)
                .ok_or_else(|| Refusal::no_instance(&id))?;
            machine.instance.tags.extend(tags);
            Ok(())
        }))
    }

    fn keep_profile<'call>(
        &'call self,
        node_class: &'call EC2NodeClass,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let name = self.profile_of(node_class);
        let is_there =
            node_class.spec.role.is_none() || self.way.ec2.locked().profiles.get(&name).is_some();
        Box::pin(async move {
            if is_there {
                return Ok(());
            }
            let call = Call::write("CreateInstanceProfile", Vec::new());
            let new = self.new_profile(node_class);
            self.change(call, move |state, _fault| {
                let made = state.clock.now();
                state.profiles.create(&name, Profile { made, ..new })
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
            about: About::Nobody,
        };
        Box::pin(self.ask(call, |state, _fault| {
            let own = |(name, profile): (&String, &Profile)| {
                Some(OwnProfile {
                    name: name.clone(),
                    class_uid: self.home().class_of(&profile.path)?,
                })
            };
            Ok(state.profiles.made().iter().filter_map(own).collect())
        }))
    }

    fn remove_profile<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<bool, CloudError>> {
        let call = Call::write("DeleteInstanceProfile", Vec::new());
        let name = name.to_owned();
        Box::pin(self.change(call, move |state, _fault| {
            if state.is_profile_used(&name) {
                return Ok(false);
            }
            // It is no error if it is gone already.
            let Some(profile) = state.profiles.get(&name) else {
                return Ok(true);
            };
            if let Some(role) = profile.role {
                state.profiles.remove_role(&name, &role)?;
            }
            state.profiles.delete(&name)?;
            Ok(true)
        }))
    }

    fn release<'call>(
        &'call self,
        node_class: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("DeleteLaunchTemplate", vec![(Bucket::Mutate, 1)]);
        let (cluster, node_class) = (self.cluster.name.clone(), node_class.to_owned());
        Box::pin(self.change(call, move |state, _fault| {
            state.templates.retain(|_name, template| {
                !template.has(tags::CLUSTER, &cluster)
                    || !template.has(tags::NODE_CLASS, &node_class)
            });
            Ok(())
        }))
    }

    fn templates(&self) -> BoxFuture<'_, Result<Vec<String>, CloudError>> {
        let call = Call::read("DescribeLaunchTemplates");
        Box::pin(self.ask(call, |state, _fault| {
            let ours = state
                .templates
                .values()
                .filter(|template| template.has(tags::CLUSTER, &self.cluster.name));
            Ok(ours.map(|template| template.name.clone()).collect())
        }))
    }

    fn remove_template<'call>(
        &'call self,
        name: &'call str,
    ) -> BoxFuture<'call, Result<(), CloudError>> {
        let call = Call::write("DeleteLaunchTemplate", vec![(Bucket::Mutate, 1)]);
        let name = name.to_owned();
        Box::pin(self.change(call, move |state, _fault| {
            state.templates.remove(&name);
            Ok(())
        }))
    }
}
