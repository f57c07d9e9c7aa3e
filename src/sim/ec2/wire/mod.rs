//! The simulated region on the wire: EC2's and IAM's query protocol, a form in and XML out, and the JSON
//! of SQS, SSM and the price list, for the operations that the adapter for the real EC2 calls.
//!
//! Given a request's body; given back an answer with its HTTP status, or nothing, where the call or its
//! answer got lost. It is the same region that the embedded world lives in: its markets, its shortages,
//! its token buckets, its client tokens, its faults. With a policy, what the policy does not allow is
//! refused. Signatures are not checked: whoever reaches an endpoint is its one caller.

mod answer;
mod authorize;
mod catalogue;
#[cfg(feature = "aws")]
pub mod connector;
mod filter;
mod fleet;
mod form;
mod instances;
mod network;
mod page;
mod parameters;
mod placement_groups;
pub mod policy;
mod products;
mod profiles;
mod queues;
mod reservations;
mod run;
pub mod server;
mod service;
mod templates;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use self::answer::Element;
use self::form::{Form, Part};
use self::policy::Policy;
use self::service::{Content, Service};
use super::refusal::Refusal;
use super::way::{Call, Unserved, Way};
use super::{Ec2, State};
use crate::cloud::buckets::Bucket;
use crate::sim::faults::{About, CallFault, Calm, Faults};
use crate::sim::life::Life;

/// The operations that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    AddRoleToInstanceProfile,
    CreateFleet,
    CreateInstanceProfile,
    CreateLaunchTemplate,
    CreateTags,
    DeleteInstanceProfile,
    DeleteLaunchTemplate,
    DeleteMessageBatch,
    DescribeCapacityReservations,
    DescribeImages,
    DescribeInstanceTypeOfferings,
    DescribeInstanceTypes,
    DescribeInstances,
    DescribeLaunchTemplates,
    DescribePlacementGroups,
    DescribeSecurityGroups,
    DescribeSpotPriceHistory,
    DescribeSubnets,
    GetInstanceProfile,
    GetParameters,
    GetProducts,
    GetQueueUrl,
    ListInstanceProfiles,
    ReceiveMessage,
    RemoveRoleFromInstanceProfile,
    RunInstances,
    TerminateInstances,
}

impl Operation {
    const ALL: [Self; 27] = [
        Self::AddRoleToInstanceProfile,
        Self::CreateFleet,
        Self::CreateInstanceProfile,
        Self::CreateLaunchTemplate,
        Self::CreateTags,
        Self::DeleteInstanceProfile,
        Self::DeleteLaunchTemplate,
        Self::DeleteMessageBatch,
        Self::DescribeCapacityReservations,
        Self::DescribeImages,
        Self::DescribeInstanceTypeOfferings,
        Self::DescribeInstanceTypes,
        Self::DescribeInstances,
        Self::DescribeLaunchTemplates,
        Self::DescribePlacementGroups,
        Self::DescribeSecurityGroups,
        Self::DescribeSpotPriceHistory,
        Self::DescribeSubnets,
        Self::GetInstanceProfile,
        Self::GetParameters,
        Self::GetProducts,
        Self::GetQueueUrl,
        Self::ListInstanceProfiles,
        Self::ReceiveMessage,
        Self::RemoveRoleFromInstanceProfile,
        Self::RunInstances,
        Self::TerminateInstances,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::AddRoleToInstanceProfile => "AddRoleToInstanceProfile",
            Self::CreateFleet => "CreateFleet",
            Self::CreateInstanceProfile => "CreateInstanceProfile",
            Self::CreateLaunchTemplate => "CreateLaunchTemplate",
            Self::CreateTags => "CreateTags",
            Self::DeleteInstanceProfile => "DeleteInstanceProfile",
            Self::DeleteLaunchTemplate => "DeleteLaunchTemplate",
            Self::DeleteMessageBatch => "DeleteMessageBatch",
            Self::DescribeCapacityReservations => "DescribeCapacityReservations",
            Self::DescribeImages => "DescribeImages",
            Self::DescribeInstanceTypeOfferings => "DescribeInstanceTypeOfferings",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeLaunchTemplates => "DescribeLaunchTemplates",
            Self::DescribePlacementGroups => "DescribePlacementGroups",
            Self::DescribeSecurityGroups => "DescribeSecurityGroups",
            Self::DescribeSpotPriceHistory => "DescribeSpotPriceHistory",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::GetInstanceProfile => "GetInstanceProfile",
            Self::GetParameters => "GetParameters",
            Self::GetProducts => "GetProducts",
            Self::GetQueueUrl => "GetQueueUrl",
            Self::ListInstanceProfiles => "ListInstanceProfiles",
            Self::ReceiveMessage => "ReceiveMessage",
            Self::RemoveRoleFromInstanceProfile => "RemoveRoleFromInstanceProfile",
            Self::RunInstances => "RunInstances",
            Self::TerminateInstances => "TerminateInstances",
        }
    }

    const fn service(self) -> Service {
        match self {
            Self::AddRoleToInstanceProfile
            | Self::CreateInstanceProfile
            | Self::DeleteInstanceProfile
            | Self::GetInstanceProfile
            | Self::ListInstanceProfiles
            | Self::RemoveRoleFromInstanceProfile => Service::Iam,
            Self::DeleteMessageBatch | Self::GetQueueUrl | Self::ReceiveMessage => Service::Sqs,
            Self::GetParameters => Service::Ssm,
            Self::GetProducts => Service::Pricing,
            _ => Service::Ec2,
        }
    }

    /// What a launch may not do is known only with its templates, after the operation itself was judged.
    const fn launches(self) -> bool {
        matches!(self, Self::CreateFleet | Self::RunInstances)
    }

    fn of(form: &Form) -> Result<Self, Refusal> {
        let all = form.all();
        let name = all.required("Action")?;
        let known = Self::ALL
            .into_iter()
            .find(|known| known.as_str() == name)
            .filter(|known| known.service().speaks_json() == form.is_json);
        known.ok_or_else(|| unknown(name))
    }

    /// The call that a request is, with what it draws on.
    fn call(self, all: &Part<'_>) -> Call {
        let operation = self.as_str();
        let once = (Bucket::of(operation).unwrap_or(Bucket::Other), 1);
        if self.service() == Service::Ec2 && all.flag("DryRun").ok().flatten() == Some(true) {
            // It starts nothing and changes nothing.
            return Call {
                operation,
                takes: vec![once],
                writes: false,
                about: About::Nobody,
            };
        }
        match self {
            Self::CreateFleet => {
                let started = (Bucket::InstancesStarted, fleet::size(all));
                Call::write(operation, vec![once, started])
            }
            Self::TerminateInstances => {
                let count = u32::try_from(all.texts("InstanceId").len()).unwrap_or(u32::MAX);
                Call::write(operation, vec![once, (Bucket::InstancesEnded, count)])
            }
            Self::CreateLaunchTemplate
            | Self::CreateTags
            | Self::DeleteLaunchTemplate
            | Self::RunInstances => Call::write(operation, vec![once]),
            Self::DescribeCapacityReservations
            | Self::DescribeImages
            | Self::DescribeInstances
            | Self::DescribeInstanceTypeOfferings
            | Self::DescribeInstanceTypes
            | Self::DescribeLaunchTemplates
            | Self::DescribePlacementGroups
            | Self::DescribeSecurityGroups
            | Self::DescribeSpotPriceHistory
            | Self::DescribeSubnets => Call::read(operation),
            // EC2's buckets are EC2's alone.
            Self::GetInstanceProfile
            | Self::GetParameters
            | Self::GetProducts
            | Self::GetQueueUrl
            | Self::ListInstanceProfiles
            | Self::ReceiveMessage => Call {
                operation,
                takes: Vec::new(),
                writes: false,
                about: About::Nobody,
            },
            Self::AddRoleToInstanceProfile
            | Self::CreateInstanceProfile
            | Self::DeleteInstanceProfile
            | Self::DeleteMessageBatch
            | Self::RemoveRoleFromInstanceProfile => Call::write(operation, Vec::new()),
        }
    }
}

/// A request on the region's desk: everything that serving it needs.
struct Desk<'call> {
    state: &'call mut State,
    form: &'call Form,
    all: Part<'call>,
    now: Timestamp,
    discovery: &'call str,
    policy: Option<&'call Policy>,
    fault: Option<CallFault>,
}

impl Desk<'_> {
    fn is_dry_run(&self) -> Result<bool, Refusal> {
        Ok(self.all.flag("DryRun")? == Some(true))
    }

    /// Refuses what the policy does not allow.
    fn authorize(&self, operation: Operation) -> Result<(), Refusal> {
        authorize::check(self.policy, &authorize::needs(operation, self)?)
    }

    fn serve(&mut self, operation: Operation) -> Result<Content, Refusal> {
        self.authorize(operation)?;
        let elements = match operation.service() {
            Service::Sqs => return self.serve_sqs(operation).map(Content::Json),
            Service::Ssm => return parameters::get(self).map(Content::Json),
            Service::Pricing => return products::get(self).map(Content::Json),
            Service::Iam => self.serve_iam(operation),
            // A launch has more to ask for, once its templates are known.
            Service::Ec2 if !operation.launches() && self.is_dry_run()? => Err(dry_run()),
            Service::Ec2 => self.serve_ec2(operation),
        };
        elements.map(Content::Elements)
    }

    fn serve_sqs(&mut self, operation: Operation) -> Result<Value, Refusal> {
        match operation {
            Operation::DeleteMessageBatch => queues::delete(self),
            Operation::GetQueueUrl => queues::address(self),
            Operation::ReceiveMessage => queues::receive(self),
            other => Err(unknown(other.as_str())),
        }
    }

    fn serve_ec2(&mut self, operation: Operation) -> Result<Vec<Element>, Refusal> {
        match operation {
            Operation::CreateFleet => fleet::create(self),
            Operation::CreateLaunchTemplate => templates::create(self),
            Operation::CreateTags => instances::tag(self),
            Operation::DeleteLaunchTemplate => templates::delete(self),
            Operation::DescribeCapacityReservations => reservations::describe(self),
            Operation::DescribeImages => network::describe_images(self),
            Operation::DescribeInstances => instances::describe(self),
            Operation::DescribeInstanceTypeOfferings => {
                catalogue::describe_instance_type_offerings(self)
            }
            Operation::DescribeInstanceTypes => catalogue::describe_instance_types(self),
            Operation::DescribeLaunchTemplates => templates::describe(self),
            Operation::DescribePlacementGroups => placement_groups::describe(self),
            Operation::DescribeSecurityGroups => network::describe_security_groups(self),
            Operation::DescribeSpotPriceHistory => catalogue::describe_spot_price_history(self),
            Operation::DescribeSubnets => network::describe_subnets(self),
            Operation::RunInstances => run::rehearse(self),
            Operation::TerminateInstances => instances::terminate(self),
            other => Err(unknown(other.as_str())),
        }
    }

    fn serve_iam(&mut self, operation: Operation) -> Result<Vec<Element>, Refusal> {
        match operation {
            Operation::AddRoleToInstanceProfile => profiles::add_role(self),
            Operation::CreateInstanceProfile => profiles::create(self),
            Operation::DeleteInstanceProfile => profiles::delete(self),
            Operation::GetInstanceProfile => profiles::get(self),
            Operation::ListInstanceProfiles => profiles::list(self),
            Operation::RemoveRoleFromInstanceProfile => profiles::remove_role(self),
            other => Err(unknown(other.as_str())),
        }
    }
}

/// What a service says to an operation that it has not.
fn unknown(name: &str) -> Refusal {
    Refusal::new(
        "InvalidAction",
        format!("The action {name} is not valid for this web service."),
    )
}

/// What EC2 says to a rehearsal that would have worked.
fn dry_run() -> Refusal {
    Refusal {
        status: 412,
        ..Refusal::new(
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        )
    }
}

/// A time as EC2 writes it.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub kind: &'static str,
    /// XML or JSON.
    pub body: String,
}

/// Where one caller reaches the region; clones are the same caller.
#[derive(Debug, Clone)]
pub struct Endpoint {
    way: Way,
    discovery: String,
    policy: Option<Arc<Policy>>,
}

impl Endpoint {
    /// A caller who may do everything, in calm weather. What the account has carries the tag
    /// [`DISCOVERY`](super::account::DISCOVERY) with the value `discovery`.
    pub fn new(ec2: &Ec2, who: &str, discovery: &str) -> Self {
        Self {
            way: Way {
                ec2: ec2.clone(),
                who: who.to_owned(),
                life: Life::new(),
                faults: Arc::new(Calm),
            },
            discovery: discovery.to_owned(),
            policy: None,
        }
    }

    /// The same with things that go wrong on the way.
    pub fn with_faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.way.faults = faults;
        self
    }

    /// The same with a life that may end.
    pub fn with_life(mut self, life: Life) -> Self {
        self.way.life = life;
        self
    }

    /// The same with a policy, and nothing that it does not allow.
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Answers a request, in the time that it takes; nothing when it or its answer got lost. `target` is
    /// its header `X-Amz-Target`, which requests in JSON have.
    pub async fn answer(&self, target: Option<&str>, body: &[u8]) -> Option<Answer> {
        let form = match target {
            Some(target) => Form::read_json(target, body),
            None => Form::read(body),
        };
        let operation = match Operation::of(&form) {
            Ok(operation) => operation,
            Err(refusal) if form.is_json => return Some(self.refused(Service::Ssm, &refusal)),
            Err(refusal) => return Some(self.refused(Service::Ec2, &refusal)),
        };
        let service = operation.service();
        // Whoever may not read the queue is told so at once.
        if operation == Operation::ReceiveMessage && self.allows(operation, &form) {
            self.way.ec2.announced(queues::wait(&form.all())).await;
        }
        let call = operation.call(&form.all());
        let endpoint = self.clone();
        let served = self.way.send(call, move |state, fault| {
            endpoint.desk(state, &form, fault).serve(operation)
        });
        match served.await {
            Ok(content) => Some(Answer {
                status: 200,
                kind: service.kind(),
                body: service.written(operation.as_str(), &self.request_id(), content),
            }),
            Err(Unserved::Refused(refusal)) => Some(self.refused(service, &refusal)),
            Err(Unserved::NoAnswer) => None,
        }
    }

    /// The desk with a request on it.
    fn desk<'call>(
        &'call self,
        state: &'call mut State,
        form: &'call Form,
        fault: Option<CallFault>,
    ) -> Desk<'call> {
        let now = state.clock.now();
        Desk {
            state,
            form,
            all: form.all(),
            now,
            discovery: &self.discovery,
            policy: self.policy.as_deref(),
            fault,
        }
    }

    /// Whether the policy lets a request through.
    fn allows(&self, operation: Operation, form: &Form) -> bool {
        let mut state = self.way.ec2.locked();
        let desk = self.desk(&mut state, form, None);
        desk.authorize(operation).is_ok()
    }

    fn refused(&self, service: Service, refusal: &Refusal) -> Answer {
        Answer {
            status: refusal.status,
            kind: service.kind(),
            body: service.refusal(refusal, &self.request_id()),
        }
    }

    /// The id of the newest request.
    fn request_id(&self) -> String {
        let calls: u64 = self.way.ec2.calls().values().map(|tally| tally.calls).sum();
        format!("simulated-{calls:08}")
    }
}
