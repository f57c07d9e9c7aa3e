//! What a caller must be allowed for each operation. Source: "Actions, resources, and condition keys"
//! for Amazon EC2, for IAM, for SQS and for Systems Manager in the Service Authorization Reference.
//!
//! Given a request; given back actions on resources with the tags that conditions speak of. What does
//! not exist is refused first: it has no tags to be judged by.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{Need, Policy};
use super::service::Service;
use super::{Desk, Operation, instances, parameters, profiles, queues};
use crate::cloud::facts::BUILT_IN_REGION;
use crate::sim::ec2::account::ACCOUNT;
use crate::sim::ec2::profiles::arn as profile_arn;
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::{LaunchTemplate, Tags};

/// What machines are launched with beside their template.
#[derive(Debug, Clone)]
pub(super) struct Launch<'call> {
    pub(super) template: &'call LaunchTemplate,
    /// The role in the template's instance profile.
    pub(super) role: Option<&'call str>,
    /// Subnets that machines may come into.
    pub(super) subnets: BTreeSet<&'call str>,
    pub(super) is_spot: bool,
    /// Tags by kind in the request itself.
    pub(super) tags: &'call BTreeMap<String, Tags>,
}

/// Refuses what a policy does not allow.
pub(super) fn check(policy: Option<&Policy>, needs: &[Need]) -> Result<(), Refusal> {
    let Some(policy) = policy else {
        return Ok(());
    };
    let Some(need) = needs.iter().find(|need| !policy.allows(need)) else {
        return Ok(());
    };
    Err(Refusal::unauthorized(format!(
        "You are not authorized to perform this operation. User: \
         arn:aws:sts::{ACCOUNT}:assumed-role/controller/simulated is not authorized to perform: {} on \
         resource: {} because no identity-based policy allows the {} action",
        need.action, need.resource, need.action
    )))
}

fn arn(kind: &str, id: &str) -> String {
    // Images and snapshots may be anybody's: their ARNs name no account.
    let account = if ["image", "snapshot"].contains(&kind) {
        ""
    } else {
        ACCOUNT
    };
    format!("arn:aws:ec2:{BUILT_IN_REGION}:{account}:{kind}/{id}")
}

fn need(action: &str, resource: String) -> Need {
    need_of(Service::Ec2, action, resource)
}

fn need_of(service: Service, action: &str, resource: String) -> Need {
    let context = BTreeMap::from([(
        "aws:requestedregion".to_owned(),
        vec![BUILT_IN_REGION.to_owned()],
    )]);
    Need {
        action: format!("{}:{action}", service.prefix()),
        resource,
        context,
    }
}

impl Need {
    fn with(mut self, key: &str, values: Vec<String>) -> Self {
        self.context.insert(key.to_lowercase(), values);
        self
    }

    /// With tags that the request puts on the resource.
    fn requesting(mut self, tags: &Tags) -> Self {
        for (key, value) in tags {
            self = self.with(&format!("aws:RequestTag/{key}"), vec![value.clone()]);
        }
        self.with("aws:TagKeys", tags.keys().cloned().collect())
    }

    /// With tags that the resource has.
    fn having(mut self, tags: &Tags) -> Self {
        for (key, value) in tags {
            for prefix in ["aws", "ec2"] {
                self = self.with(&format!("{prefix}:ResourceTag/{key}"), vec![value.clone()]);
            }
        }
        self
    }
}

/// Tagging what an action makes, if there are tags.
pub(super) fn tagging(kind: &str, tags: &Tags, by: &str) -> Option<Need> {
    let need = need("CreateTags", arn(kind, "*"))
        .requesting(tags)
        .with("ec2:CreateAction", vec![by.to_owned()]);
    (!tags.is_empty()).then_some(need)
}

/// What an operation asks for; of a launch, what does not depend on templates.
pub(super) fn needs(operation: Operation, desk: &Desk<'_>) -> Result<Vec<Need>, Refusal> {
    let name = operation.as_str();
    let tags_of = |kind: &str| -> Result<Tags, Refusal> {
        let mut all = desk.all.tag_specifications()?;
        Ok(all.remove(kind).unwrap_or_default())
    };
    let made = |kind: &str| -> Result<Vec<Need>, Refusal> {
        let tags = tags_of(kind)?;
        let making = need(name, arn(kind, "*")).requesting(&tags);
        let tagging = tagging(kind, &tags, name);
        Ok([Some(making), tagging].into_iter().flatten().collect())
    };
    match operation {
        Operation::CreateFleet => made("fleet"),
        // All of it depends on the template.
        Operation::RunInstances => Ok(Vec::new()),
        Operation::CreateLaunchTemplate => made("launch-template"),
        Operation::DeleteLaunchTemplate => {
            let template = desk.state.template_of(&desk.all)?;
            let resource = arn("launch-template", &template.id);
            Ok(vec![need(name, resource).having(&template.tags)])
        }
        Operation::TerminateInstances => of_instances(desk, "InstanceId", name, None),
        Operation::CreateTags => {
            let tags = desk.all.tags()?;
            of_instances(desk, "ResourceId", name, Some(&tags))
        }
        Operation::DescribeCapacityReservations
        | Operation::DescribeImages
        | Operation::DescribeInstances
        | Operation::DescribeInstanceTypeOfferings
        | Operation::DescribeInstanceTypes
        | Operation::DescribeLaunchTemplates
        | Operation::DescribePlacementGroups
        | Operation::DescribeSecurityGroups
        | Operation::DescribeSpotPriceHistory
        | Operation::DescribeSubnets => Ok(vec![need(name, "*".to_owned())]),
        Operation::GetParameters => Ok(parameters::names(desk)?
            .into_iter()
            .map(|parameter| need_of(Service::Ssm, name, parameters::arn(parameter)))
            .collect()),
        // Each call on one message is allowed with those on many.
        Operation::DeleteMessageBatch => of_queue(desk, "DeleteMessage"),
        Operation::GetQueueUrl | Operation::ReceiveMessage => of_queue(desk, name),
        Operation::GetProducts => Ok(vec![need_of(Service::Pricing, name, "*".to_owned())]),
        Operation::AddRoleToInstanceProfile
        | Operation::CreateInstanceProfile
        | Operation::DeleteInstanceProfile
        | Operation::GetInstanceProfile
        | Operation::ListInstanceProfiles
        | Operation::RemoveRoleFromInstanceProfile => of_profiles(operation, desk),
    }
}

/// An action on the queue that a request is about.
fn of_queue(desk: &Desk<'_>, action: &str) -> Result<Vec<Need>, Refusal> {
    let resource = queues::arn(queues::name(desk)?);
    Ok(vec![need_of(Service::Sqs, action, resource)])
}

/// What an operation on instance profiles asks for.
fn of_profiles(operation: Operation, desk: &Desk<'_>) -> Result<Vec<Need>, Refusal> {
    let action = operation.as_str();
    let need = |action: &str, path: &str, name: &str| {
        need_of(Service::Iam, action, profile_arn(path, name))
    };
    match operation {
        Operation::ListInstanceProfiles => {
            let prefix = desk.all.text("PathPrefix").unwrap_or("/");
            Ok(vec![need(action, prefix, "")])
        }
        Operation::CreateInstanceProfile => {
            let (name, profile) = profiles::new(desk)?;
            let making = need(action, &profile.path, &name).requesting(&profile.tags);
            let tagging = need("TagInstanceProfile", &profile.path, &name);
            let tagging = tagging.requesting(&profile.tags);
            let tagging = (!profile.tags.is_empty()).then_some(tagging);
            Ok([Some(making), tagging].into_iter().flatten().collect())
        }
        _ => {
            let (name, profile) = profiles::named(desk)?;
            let acting = need(action, &profile.path, &name).having(&profile.tags);
            // Whoever puts a role into a profile gives it to machines.
            let passing = (operation == Operation::AddRoleToInstanceProfile)
                .then(|| desk.all.required("RoleName").map(passing))
                .transpose()?;
            Ok([Some(acting), passing].into_iter().flatten().collect())
        }
    }
}

/// Giving machines a role.
fn passing(role: &str) -> Need {
    let need = Need {
        action: "iam:PassRole".to_owned(),
        resource: format!("arn:aws:iam::{ACCOUNT}:role/{role}"),
        context: BTreeMap::new(),
    };
    need.with("iam:PassedToService", vec!["ec2.amazonaws.com".to_owned()])
}

/// An action on each of the instances that a request names.
fn of_instances(
    desk: &Desk<'_>,
    field: &str,
    action: &str,
    requested: Option<&Tags>,
) -> Result<Vec<Need>, Refusal> {
    let ids = instances::ids(desk, field)?;
    if ids.is_empty() {
        return Err(desk.all.missing(field));
    }
    let of_instance = |id: &str| {
        let need = need(action, arn("instance", id));
        // What EC2 does not know has no tags: whoever may do it by tag alone is told so before that there is none.
        let need = match desk.state.known(id) {
            Some((machine, _shown)) => need.having(machine.tags()),
            None => need,
        };
        match requested {
            Some(tags) => need.requesting(tags),
            None => need,
        }
    };
    Ok(ids.into_iter().map(of_instance).collect())
}

impl Launch<'_> {
    /// What machines get when they are made, by kind.
    fn made(&self) -> Vec<(&'static str, Tags)> {
        let mut kinds = vec!["instance", "network-interface", "volume"];
        if self.is_spot {
            kinds.push("spot-instances-request");
        }
        kinds
            .into_iter()
            .map(|kind| {
                let sources = [self.tags.get(kind), self.template.data.tags.get(kind)];
                let tags = sources.into_iter().flatten().flatten();
                (
                    kind,
                    tags.map(|(key, value)| (key.clone(), value.clone()))
                        .collect(),
                )
            })
            .collect()
    }

    /// One action on everything that a launch uses and makes.
    fn on_everything(&self, action: &str) -> Vec<Need> {
        let data = &self.template.data;
        let mut needs = vec![
            need(action, arn("image", &data.image_id)),
            need(
                action,
                arn("snapshot", &data.image_id.replacen("ami-", "snap-", 1)),
            ),
            need(action, arn("launch-template", &self.template.id)).having(&self.template.tags),
        ];
        let groups = data.security_groups.iter();
        needs.extend(groups.map(|id| need(action, arn("security-group", id))));
        let reservation = data.reservation();
        needs.extend(reservation.map(|id| need(action, arn("capacity-reservation", id))));
        let group = data.placement_group.as_deref();
        needs.extend(group.map(|id| need(action, arn("placement-group", id))));
        let subnets = self.subnets.iter();
        needs.extend(subnets.map(|id| need(action, arn("subnet", id))));
        let made = self.made().into_iter();
        needs.extend(made.map(|(kind, tags)| need(action, arn(kind, "*")).requesting(&tags)));
        needs
    }

    /// What CreateFleet itself asks for, before anything is launched.
    pub(super) fn of_the_fleet(&self) -> Vec<Need> {
        let mut needs = self.on_everything("CreateFleet");
        needs.retain(|need| !need.resource.contains(":spot-instances-request/"));
        needs
    }

    /// What the fleet does in the caller's name.
    pub(super) fn of_the_machines(&self) -> Vec<Need> {
        let mut needs = self.on_everything("RunInstances");
        let made = self.made();
        needs.extend(
            made.iter()
                .filter_map(|(kind, tags)| tagging(kind, tags, "RunInstances")),
        );
        needs.extend(self.role.map(passing));
        needs
    }
}
