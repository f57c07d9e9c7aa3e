//! Instance profiles in IAM: made for the role of a node class, kept, and removed when nobody uses them.
//!
//! Given: a node class. Given back: whether machines can be launched with its profile. Only profiles
//! under this cluster's path and with its tag are ever changed; a profile that the user names is
//! looked at and left alone. What IAM said is remembered, so that a class costs a call now and then.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_iam::types::{InstanceProfile, Tag};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::Api;
use super::call::{failed, filter};
use crate::api::node_class::EC2NodeClass;
use crate::cloud::buckets::Bucket;
use crate::cloud::profile::{self, Home, OwnProfile};
use crate::cloud::{CloudError, Unresolved, errors, tags};
use crate::model::launch::ErrorClass;

const GET: &str = "GetInstanceProfile";
const LIST: &str = "ListInstanceProfiles";
const CREATE: &str = "CreateInstanceProfile";
const ADD_ROLE: &str = "AddRoleToInstanceProfile";
const REMOVE_ROLE: &str = "RemoveRoleFromInstanceProfile";
const DELETE: &str = "DeleteInstanceProfile";
/// How long a profile that was found in order is not looked at again.
const FINE_FOR: SignedDuration = SignedDuration::from_mins(15);
/// How long one that is not is left alone: somebody is probably mending it.
const WRONG_FOR: SignedDuration = SignedDuration::from_secs(30);
/// States of instances that need their profile.
const NEEDING: [&str; 4] = ["pending", "running", "stopping", "stopped"];
/// Profiles remembered at most.
const CAPACITY: usize = 5_000;

/// What is known of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    looked: Timestamp,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// EC2 knows it from then on.
    Usable(Timestamp),
    Unusable(Unresolved),
}

/// The profile that a node class wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted<'class> {
    /// One of the user's.
    Given(&'class str),
    /// One of ours, for a role.
    ForRole(&'class str),
}

/// Profiles by name.
#[derive(Debug, Default)]
pub(super) struct Profiles(Mutex<BTreeMap<String, Known>>);

impl Profiles {
    /// Makes the profile of a node class, or looks whether it is in order. What is wrong with it shows
    /// in [`Profiles::check`]; an error is only what may be otherwise in a moment.
    pub(super) async fn keep(&self, api: &Api, object: &EC2NodeClass) -> Result<(), CloudError> {
        let Some(wanted) = wanted(object) else {
            return Ok(());
        };
        let name = name_of(api, object);
        let now = api.world.now();
        let is_known = self.locked().get(&name).is_some_and(|known| {
            let serves_for = match known.state {
                State::Usable(_) => FINE_FOR,
                State::Unusable(_) => WRONG_FOR,
            };
            now.duration_since(known.looked) < serves_for
        });
        if is_known {
            return Ok(());
        }
        let state = match wanted {
            Wanted::Given(name) => look_at(api, name).await,
            Wanted::ForRole(role) => match ensure(api, object, &name, role).await {
                // Prices, subnets and images of the class must not wait for IAM: asked again with the next
                // look at the class.
                Err(error) if self.is_usable(&name) => {
                    tracing::debug!(%error, profile = name, "the instance profile is taken to be in order");
                    return Ok(());
                }
                state => state?,
            },
        };
        let mut known = self.locked();
        if known.len() > CAPACITY {
            known.clear();
        }
        known.insert(name, Known { looked: now, state });
        Ok(())
    }

    fn is_usable(&self, name: &str) -> bool {
        let known = self.locked();
        known
            .get(name)
            .is_some_and(|known| matches!(known.state, State::Usable(_)))
    }

    /// Whether machines can be launched with the class's profile, as far as is known. A profile that
    /// was never looked at counts as there: who only observes makes none.
    pub(super) fn check(&self, api: &Api, object: &EC2NodeClass) -> Result<(), Unresolved> {
        if wanted(object).is_none() {
            return Err(not_found(
                "spec.instanceProfile is missing: name the instance profile of the nodes, or their \
                 role in spec.role"
                    .to_owned(),
            ));
        }
        let name = name_of(api, object);
        match self.locked().get(&name).map(|known| &known.state) {
            Some(State::Unusable(why)) => Err(why.clone()),
            Some(State::Usable(from)) if api.world.now() < *from => Err(Unresolved {
                reason: "InstanceProfileSettling",
                message: format!(
                    "instance profile {name} was made just now, and EC2 learns of it within seconds"
                ),
            }),
            Some(State::Usable(_)) | None => Ok(()),
        }
    }

    /// All profiles that this cluster made.
    pub(super) async fn list(&self, api: &Api) -> Result<Vec<OwnProfile>, CloudError> {
        let home = home(api);
        let mut pages = api
            .iam
            .list_instance_profiles()
            .path_prefix(home.path())
            .into_paginator()
            .send();
        let mut found = Vec::new();
        loop {
            api.buckets.take(Bucket::Other, 1).await;
            let Some(page) = pages.next().await else {
                return Ok(found);
            };
            let page = page.map_err(|error| failed(LIST, &error))?;
            let ours = page.instance_profiles().iter().filter_map(|profile| {
                Some(OwnProfile {
                    name: profile.instance_profile_name().to_owned(),
                    class_uid: home.class_of(profile.path())?,
                })
            });
            found.extend(ours);
        }
    }

    /// Removes a profile of ours unless machines use it; false if they do. One that is gone is no
    /// error.
    pub(super) async fn remove(&self, api: &Api, name: &str) -> Result<bool, CloudError> {
        let Some(profile) = get(api, name).await? else {
            return Ok(true);
        };
        if home(api).class_of(profile.path()).is_none() || !is_ours(api, &profile) {
            return Err(errors::refused(DELETE, not_ours(api, name)));
        }
        if is_used(api, profile.arn()).await? {
            return Ok(false);
        }
        for role in profile.roles() {
            remove_role(api, name, role.role_name()).await?;
        }
        api.buckets.take(Bucket::Other, 1).await;
        let answer = api
            .iam
            .delete_instance_profile()
            .instance_profile_name(name)
            .send()
            .await
            .map_err(|error| failed(DELETE, &error));
        gone_is_fine(answer)?;
        self.locked().remove(name);
        Ok(true)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name of the profile that machines of a class are launched with.
pub(super) fn name_of(api: &Api, object: &EC2NodeClass) -> String {
    match wanted(object) {
        Some(Wanted::Given(name)) => name.to_owned(),
        Some(Wanted::ForRole(role)) => home(api).name(&object.uid().unwrap_or_default(), role),
        None => String::new(),
    }
}

fn wanted(object: &EC2NodeClass) -> Option<Wanted<'_>> {
    let spec = &object.spec;
    let given = spec.instance_profile.as_deref().map(Wanted::Given);
    given.or_else(|| spec.role.as_deref().map(Wanted::ForRole))
}

fn home(api: &Api) -> Home<'_> {
    Home {
        region: &api.region,
        cluster: &api.settings.cluster.name,
    }
}

/// A user's profile: only what IAM says plainly counts against it, since a controller may have neither
/// the permission to look nor a way to IAM.
async fn look_at(api: &Api, name: &str) -> State {
    match get(api, name).await {
        Ok(Some(profile)) if profile.roles().is_empty() => State::Unusable(not_found(format!(
            "spec.instanceProfile {name} has no role: add the role of the nodes to it"
        ))),
        Ok(Some(_)) => State::Usable(Timestamp::MIN),
        Ok(None) => State::Unusable(not_found(format!(
            "spec.instanceProfile {name} does not exist: make it, correct the name, or set \
             spec.role instead"
        ))),
        Err(error) => {
            tracing::debug!(%error, profile = name, "the instance profile is taken to be in order");
            State::Usable(Timestamp::MIN)
        }
    }
}

/// Our profile for a role: made if it is missing, with that role and no other.
async fn ensure(
    api: &Api,
    object: &EC2NodeClass,
    name: &str,
    role: &str,
) -> Result<State, CloudError> {
    match make(api, object, name, profile::name_of_role(role)).await {
        Ok(state) => Ok(state),
        Err(error) if errors::is_retryable(error.class) => Err(error),
        Err(error) if error.operation == ADD_ROLE && error.class == ErrorClass::NotFound => {
            Ok(State::Unusable(Unresolved {
                reason: "RoleNotFound",
                message: format!(
                    "spec.role {role} does not exist: create the role of the nodes, or correct the \
                     name"
                ),
            }))
        }
        Err(error) => Ok(State::Unusable(Unresolved {
            reason: if error.class == ErrorClass::Unauthorized {
                "Unauthorized"
            } else {
                "InstanceProfileNotFound"
            },
            message: format!("the instance profile of spec.role {role} cannot be made: {error}"),
        })),
    }
}

async fn make(
    api: &Api,
    object: &EC2NodeClass,
    name: &str,
    role: &str,
) -> Result<State, CloudError> {
    let settles = SignedDuration::try_from(api.settings.profile_settles).unwrap_or_default();
    let settled = |from: Timestamp| State::Usable(from.saturating_add(settles).unwrap_or(from));
    let Some(profile) = get(api, name).await? else {
        create(api, object, name).await?;
        add_role(api, name, role).await?;
        tracing::info!(profile = name, role, "instance profile made");
        return Ok(settled(api.world.now()));
    };
    if !is_ours(api, &profile) {
        return Err(errors::refused(CREATE, not_ours(api, name)));
    }
    let has_role = profile
        .roles()
        .iter()
        .any(|known| known.role_name() == role);
    if has_role {
        let made = Timestamp::from_second(profile.create_date.secs()).unwrap_or(Timestamp::MIN);
        return Ok(settled(made));
    }
    // Half made by a controller that was stopped, or changed by somebody else.
    for stranger in profile.roles() {
        remove_role(api, name, stranger.role_name()).await?;
    }
    add_role(api, name, role).await?;
    tracing::info!(profile = name, role, "instance profile put right");
    Ok(settled(api.world.now()))
}

async fn get(api: &Api, name: &str) -> Result<Option<InstanceProfile>, CloudError> {
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api
        .iam
        .get_instance_profile()
        .instance_profile_name(name)
        .send()
        .await
        .map_err(|error| failed(GET, &error));
    match answer {
        Ok(answer) => Ok(answer.instance_profile),
        Err(error) if error.class == ErrorClass::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn create(api: &Api, object: &EC2NodeClass, name: &str) -> Result<(), CloudError> {
    let mut own = object.spec.tags.clone();
    own.extend(super::fleet::ownership_tags(&api.settings.cluster.name));
    own.insert(tags::NODE_CLASS.to_owned(), object.name_any());
    let mut listed = Vec::new();
    for (key, value) in own {
        let tag = Tag::builder().key(key).value(value).build();
        listed.push(tag.map_err(|error| errors::refused(CREATE, error.to_string()))?);
    }
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api
        .iam
        .create_instance_profile()
        .instance_profile_name(name)
        .path(home(api).path_of_class(&object.uid().unwrap_or_default()))
        .set_tags(Some(listed))
        .send()
        .await
        .map_err(|error| failed(CREATE, &error));
    match answer {
        Ok(_made) => Ok(()),
        // An answer was lost; adding the role finds out whether it is ours.
        Err(error) if error.code == "EntityAlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}

async fn add_role(api: &Api, name: &str, role: &str) -> Result<(), CloudError> {
    api.buckets.take(Bucket::Other, 1).await;
    api.iam
        .add_role_to_instance_profile()
        .instance_profile_name(name)
        .role_name(role)
        .send()
        .await
        .map_err(|error| failed(ADD_ROLE, &error))?;
    Ok(())
}

async fn remove_role(api: &Api, name: &str, role: &str) -> Result<(), CloudError> {
    api.buckets.take(Bucket::Other, 1).await;
    let answer = api
        .iam
        .remove_role_from_instance_profile()
        .instance_profile_name(name)
        .role_name(role)
        .send()
        .await
        .map_err(|error| failed(REMOVE_ROLE, &error));
    gone_is_fine(answer)
}

/// Machines of any cluster count: taking their role away would cut them off from everything.
async fn is_used(api: &Api, arn: &str) -> Result<bool, CloudError> {
    api.buckets.take(Bucket::Describe, 1).await;
    let answer = api
        .ec2
        .describe_instances()
        .filters(filter("iam-instance-profile.arn", [arn]))
        .filters(filter("instance-state-name", NEEDING))
        .max_results(5)
        .send()
        .await
        .map_err(|error| failed("DescribeInstances", &error))?;
    // A page may be empty although more follow.
    Ok(!answer.reservations().is_empty() || answer.next_token().is_some())
}

fn gone_is_fine<T>(answer: Result<T, CloudError>) -> Result<(), CloudError> {
    match answer {
        Ok(_done) => Ok(()),
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_ours(api: &Api, profile: &InstanceProfile) -> bool {
    let cluster = &api.settings.cluster.name;
    let mut own = profile.tags().iter();
    own.any(|tag| tag.key() == tags::CLUSTER && tag.value() == cluster)
}

fn not_ours(api: &Api, name: &str) -> String {
    format!(
        "instance profile {name} is not tagged {}={}: delete it",
        tags::CLUSTER,
        api.settings.cluster.name
    )
}

fn not_found(message: String) -> Unresolved {
    Unresolved {
        reason: "InstanceProfileNotFound",
        message,
    }
}
