//! The simulated region on the wire: EC2's query protocol, a form in and XML out, for the operations
//! that the adapter for the real EC2 calls.
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
pub mod policy;
pub mod server;
mod templates;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;

use self::answer::Element;
use self::form::{Form, Part};
use self::policy::Policy;
use super::refusal::Refusal;
use super::way::{Call, Unserved, Way};
use super::{Ec2, State};
use crate::cloud::buckets::Bucket;
use crate::sim::faults::{CallFault, Calm, Faults};
use crate::sim::life::Life;

/// The operations that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    CreateFleet,
    CreateLaunchTemplate,
    CreateTags,
    DeleteLaunchTemplate,
    DescribeImages,
    DescribeInstances,
    DescribeInstanceTypeOfferings,
    DescribeInstanceTypes,
    DescribeLaunchTemplates,
    DescribeSecurityGroups,
    DescribeSpotPriceHistory,
    DescribeSubnets,
    TerminateInstances,
}

impl Operation {
    const ALL: [Self; 13] = [
        Self::CreateFleet,
        Self::CreateLaunchTemplate,
        Self::CreateTags,
        Self::DeleteLaunchTemplate,
        Self::DescribeImages,
        Self::DescribeInstances,
        Self::DescribeInstanceTypeOfferings,
        Self::DescribeInstanceTypes,
        Self::DescribeLaunchTemplates,
        Self::DescribeSecurityGroups,
        Self::DescribeSpotPriceHistory,
        Self::DescribeSubnets,
        Self::TerminateInstances,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::CreateFleet => "CreateFleet",
            Self::CreateLaunchTemplate => "CreateLaunchTemplate",
            Self::CreateTags => "CreateTags",
            Self::DeleteLaunchTemplate => "DeleteLaunchTemplate",
            Self::DescribeImages => "DescribeImages",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeInstanceTypeOfferings => "DescribeInstanceTypeOfferings",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeLaunchTemplates => "DescribeLaunchTemplates",
            Self::DescribeSecurityGroups => "DescribeSecurityGroups",
            Self::DescribeSpotPriceHistory => "DescribeSpotPriceHistory",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::TerminateInstances => "TerminateInstances",
        }
    }

    fn of(all: &Part<'_>) -> Result<Self, Refusal> {
        let name = all.required("Action")?;
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| {
            Refusal::new(
                "InvalidAction",
                format!("The action {name} is not valid for this web service."),
            )
        })
    }

    /// The call that a request is, with what it draws on.
    fn call(self, all: &Part<'_>) -> Call {
        let operation = self.as_str();
        let once = (Bucket::of(operation).unwrap_or(Bucket::Other), 1);
        match self {
            Self::CreateFleet => {
                let started = (Bucket::InstancesStarted, fleet::size(all));
                Call::write(operation, vec![once, started])
            }
            Self::TerminateInstances => {
                let count = u32::try_from(all.texts("InstanceId").len()).unwrap_or(u32::MAX);
                Call::write(operation, vec![once, (Bucket::InstancesEnded, count)])
            }
            Self::CreateLaunchTemplate | Self::CreateTags | Self::DeleteLaunchTemplate => {
                Call::write(operation, vec![once])
            }
            Self::DescribeImages
            | Self::DescribeInstances
            | Self::DescribeInstanceTypeOfferings
            | Self::DescribeInstanceTypes
            | Self::DescribeLaunchTemplates
            | Self::DescribeSecurityGroups
            | Self::DescribeSpotPriceHistory
            | Self::DescribeSubnets => Call::read(operation),
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

    fn serve(&mut self, operation: Operation) -> Result<Vec<Element>, Refusal> {
        authorize::check(self.policy, &authorize::needs(operation, self)?)?;
        if operation == Operation::CreateFleet {
            // A launch has more to ask for, once its templates are known.
            return fleet::create(self);
        }
        if self.is_dry_run()? {
            return Err(dry_run());
        }
        match operation {
            Operation::CreateFleet => fleet::create(self),
            Operation::CreateLaunchTemplate => templates::create(self),
            Operation::CreateTags => instances::tag(self),
            Operation::DeleteLaunchTemplate => templates::delete(self),
            Operation::DescribeImages => network::describe_images(self),
            Operation::DescribeInstances => instances::describe(self),
            Operation::DescribeInstanceTypeOfferings => {
                catalogue::describe_instance_type_offerings(self)
            }
            Operation::DescribeInstanceTypes => catalogue::describe_instance_types(self),
            Operation::DescribeLaunchTemplates => templates::describe(self),
            Operation::DescribeSecurityGroups => network::describe_security_groups(self),
            Operation::DescribeSpotPriceHistory => catalogue::describe_spot_price_history(self),
            Operation::DescribeSubnets => network::describe_subnets(self),
            Operation::TerminateInstances => instances::terminate(self),
        }
    }
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
    /// XML.
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

    /// Answers a request, in the time that it takes; nothing when it or its answer got lost.
    pub async fn answer(&self, body: &[u8]) -> Option<Answer> {
        let form = Form::read(body);
        let all = form.all();
        let operation = match Operation::of(&all) {
            Ok(operation) => operation,
            Err(refusal) => return Some(self.refused(&refusal)),
        };
        let served = self
            .way
            .go(&operation.call(&all), |state, fault| {
                let now = state.clock.now();
                let mut desk = Desk {
                    state,
                    form: &form,
                    all: form.all(),
                    now,
                    discovery: &self.discovery,
                    policy: self.policy.as_deref(),
                    fault,
                };
                desk.serve(operation)
            })
            .await;
        match served {
            Ok(elements) => Some(Answer {
                status: 200,
                body: answer::document(operation.as_str(), &self.request_id(), elements),
            }),
            Err(Unserved::Refused(refusal)) => Some(self.refused(&refusal)),
            Err(Unserved::NoAnswer) => None,
        }
    }

    fn refused(&self, refusal: &Refusal) -> Answer {
        Answer {
            status: refusal.status,
            body: answer::refusal(refusal, &self.request_id()),
        }
    }

    /// The id of the newest request.
    fn request_id(&self) -> String {
        let calls: u64 = self.way.ec2.calls().values().map(|tally| tally.calls).sum();
        format!("simulated-{calls:08}")
    }
}
