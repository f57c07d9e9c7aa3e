//! `CreateFleet` of type `instant`: what a launch buys, and what it cannot get.
//!
//! Given an order, from a launch record or from the wire; given back instances and shortfalls. Equal
//! tokens get the answer of the first call; an equal token with another request is refused.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::choice::{self, Choice, Strategy};
use super::machine::{self, Machine};
use super::placing::Bound;
use super::refusal::Refusal;
use super::template::{LaunchTemplate, Tags};
use super::{State, later};
use crate::cloud::buckets::Bucket;
use crate::cloud::{errors, tags, token};
use crate::model::instance::{Instance, InstanceState};
use crate::model::launch::{
    ErrorClass, LaunchOutcome, LaunchOverride, LaunchRecord, LaunchedInstance, Shortfall,
    TemplateOverrides,
};
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, OfferingKey};

pub(super) const OPERATION: &str = "CreateFleet";

/// What a launch asks for.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Client token; without one every call is a new one.
    pub(super) token: Option<String>,
    /// The request in full: what must be equal under an equal token.
    pub(super) parameters: String,
    pub(super) size: usize,
    pub(super) capacity_type: CapacityType,
    pub(super) strategy: Strategy,
    pub(super) templates: Vec<TemplateOverrides>,
    /// The context of the launch, as the caller names it.
    pub(super) context: Option<String>,
    /// Tags of the machines, beside those of their template.
    pub(super) tags: Tags,
}

impl Order {
    /// What a launch record asks for, as the adapter for the real EC2 words it by default.
    pub(super) fn of(record: &LaunchRecord, tags: Tags, context: Option<String>) -> Self {
        Self {
            context,
            token: Some(token::client_token(record)),
            // Plain data with string keys: serialization does not fail.
            parameters: serde_json::to_string(record).unwrap_or_default(),
            size: usize::try_from(record.size).unwrap_or(0),
            capacity_type: record.capacity_type,
            strategy: Strategy::usual(record.capacity_type),
            templates: record.templates.clone(),
            tags,
        }
    }
}

/// A fleet that was made.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    pub(super) id: String,
    parameters: String,
    pub(super) outcome: LaunchOutcome,
}

/// A choice of an order, with the template and the override that ask for it.
type Wanted<'order> = Choice<(&'order TemplateOverrides, &'order LaunchOverride)>;

impl State {
    /// The fleet of an earlier call with the same token, which must have asked for the same.
    pub(super) fn known_fleet(
        &self,
        token: Option<&str>,
        parameters: &str,
    ) -> Result<Option<Fleet>, Refusal> {
        let Some(known) = token.and_then(|token| self.fleets.get(token)) else {
            return Ok(None);
        };
        if known.parameters == parameters {
            let mut again = known.clone();
            if self.bare_repeats {
                again.outcome = LaunchOutcome::default();
            }
            return Ok(Some(again));
        }
        Err(Refusal::new(
            "IdempotentParameterMismatch",
            "The client token was used before with other parameters",
        ))
    }

    /// Instances that a call might have started count no more: EC2 limits those that are launched.
    pub(super) fn did_not_start(&mut self, count: u32) {
        self.throttle.put_back(Bucket::InstancesStarted, count);
    }

    /// Serves a launch; `most` is what a shortage leaves of it.
    pub(super) fn launch(&mut self, order: &Order, most: Option<usize>) -> Result<Fleet, Refusal> {
        if let Some(known) = self.known_fleet(order.token.as_deref(), &order.parameters)? {
            self.did_not_start(u32::try_from(order.size).unwrap_or(u32::MAX));
            return Ok(known);
        }
        for wanted in &order.templates {
            let known = self.templates.get(&wanted.name);
            let template = known.ok_or_else(|| Refusal::no_template(&wanted.name))?;
            let profile = &template.data.instance_profile;
            if !profile.is_empty() && self.profiles.get(profile).is_none() {
                return Err(Refusal::new(
                    "InvalidParameterValue",
                    format!("Invalid IAM Instance Profile name: {profile}"),
                ));
            }
            let group = template.data.placement_group.as_ref();
            if let Some(group) = group.filter(|group| !self.placement_groups.contains_key(*group)) {
                return Err(Refusal::no_placement_group(group));
            }
        }
        self.fleets_made += 1;
        let outcome = self.buy(order, most);
        let missing = order.size.saturating_sub(outcome.instances.len());
        self.did_not_start(u32::try_from(missing).unwrap_or(u32::MAX));
        let mut shortfalls = outcome.shortfalls.iter();
        let is_short = shortfalls.any(|found| found.class == ErrorClass::InsufficientCapacity);
        self.short_fleets += u64::from(is_short);
        let fleet = Fleet {
            id: format!("fleet-{:032x}", self.fleets_made),
            parameters: order.parameters.clone(),
            outcome,
        };
        // An order that nothing may be bought for is none that EC2 remembers.
        if let Some(token) = order
            .token
            .as_ref()
            .filter(|_token| !order.templates.is_empty())
        {
            self.fleets.insert(token.clone(), fleet.clone());
        }
        Ok(fleet)
    }

    fn buy(&mut self, order: &Order, most: Option<usize>) -> LaunchOutcome {
        let now = self.clock.now();
        let wanted = order.size;
        let mut left = most.unwrap_or(wanted).min(wanted);
        let mut outcome = LaunchOutcome::default();
        for choice in self.choices(order, now) {
            if left == 0 && outcome.instances.len() == wanted {
                break;
            }
            let Some(template) = self.templates.get(&choice.of.0.name).map(Arc::clone) else {
                continue;
            };
            let subnet = &choice.of.1.subnet;
            let bound = self.bound(&template.data, &choice.offering, subnet, now);
            // What was not even tried for is not what keeps a machine from starting.
            let tighter = bound.filter(|bound| bound.room < choice.room.min(left));
            let room = tighter.as_ref().map_or(choice.room, |bound| bound.room);
            let bought = room.min(left);
            for _machine in 0..bought {
                let id = self.start(&choice, &template, order, now);
                outcome.instances.push(LaunchedInstance {
                    id,
                    offering: choice.offering.clone(),
                    image_id: template.data.image_id.clone(),
                    subnet_id: choice.of.1.subnet.clone(),
                });
            }
            left -= bought;
            if outcome.instances.len() < wanted {
                outcome
                    .shortfalls
                    .push(shortfall(&choice.offering, tighter));
            }
        }
        outcome.instances.sort();
        outcome.shortfalls.sort();
        outcome
    }

    /// What may be bought, in the order in which EC2 tries it.
    fn choices<'order>(&self, order: &'order Order, now: Timestamp) -> Vec<Wanted<'order>> {
        let mut choices: Vec<Wanted<'order>> = order
            .templates
            .iter()
            .flat_map(|template| template.overrides.iter().map(move |what| (template, what)))
            .filter_map(|(template, what)| {
                let data = &self.templates.get(&template.name)?.data;
                let capacity_type = match data.reservation() {
                    Some(_reserved) => CapacityType::Reserved,
                    None => order.capacity_type,
                };
                let offering = OfferingKey::new(&what.instance_type, &what.zone, capacity_type);
                let (price, room) = match data.reservation() {
                    Some(id) => (UsdPerHour::ZERO, self.room_in(id, &offering)),
                    None => (
                        self.markets.price(&offering, now)?,
                        self.room(&offering, now),
                    ),
                };
                Some(Choice {
                    of: (template, what),
                    offering,
                    price,
                    room,
                    rank: what.priority,
                })
            })
            .collect();
        choice::order(&mut choices, order.strategy);
        choices
    }

    /// How many more machines of an offering there are.
    pub(super) fn room(&self, offering: &OfferingKey, now: Timestamp) -> usize {
        if self
            .dry
            .iter()
            .any(|(dry, until)| dry == offering && now < *until)
        {
            return 0;
        }
        if self.is_in_storm(offering) {
            return 0;
        }
        let used = self
            .machines
            .values()
            .filter(|machine| machine.instance.offering == *offering && machine.is_alive(now))
            .count();
        let room = self.markets.room(offering, now, used);
        self.limit_of(offering)
            .map_or(room, |most| room.min(most.saturating_sub(used)))
    }

    /// Starts one machine.
    fn start(
        &mut self,
        choice: &Wanted<'_>,
        template: &Arc<LaunchTemplate>,
        order: &Order,
        now: Timestamp,
    ) -> String {
        let number = self.next_number();
        let mut all = order.tags.clone();
        all.extend(template.instance_tags());
        let instance = Instance {
            id: format!("i-{number:017x}"),
            offering: choice.offering.clone(),
            state: InstanceState::Pending,
            launched: now,
            image_id: template.data.image_id.clone(),
            partition: self.partition_for(&template.data, number),
            subnet_id: choice.of.1.subnet.clone(),
            private_dns_name: format!(
                "ip-10-{}-{}-{}.ec2.internal",
                number / 62_500 % 250,
                number / 250 % 250,
                number % 250
            ),
            tags: all,
            ending: None,
        };
        let id = instance.id.clone();
        let random =
            |(least, spread): (u64, u64)| Duration::from_millis(least + self.random.below(spread));
        let machine = Machine {
            user_data: template.data.user_data.clone(),
            context: order.context.clone(),
            fees: template.fees(),
            template: Some(Arc::clone(template)),
            running_at: later(now, random(machine::START)),
            boot: random(machine::BOOT),
            never_joins: self.barren > 0
                || self.barren_types.contains(&*choice.offering.instance_type),
            ended: None,
            gone_at: None,
            instance,
        };
        self.barren = self.barren.saturating_sub(1);
        self.history.event(
            "InstanceLaunched",
            json!({
                "instance": id,
                "offering": choice.offering.to_string(),
                "usdPerHour": choice.price.to_string(),
                "nodePool": order.tags.get(tags::NODE_POOL),
            }),
        );
        self.machines.insert(id.clone(), machine);
        self.tell(&id);
        id
    }
}

fn out_of_capacity(offering: &OfferingKey) -> (&'static str, String) {
    let code = match offering.capacity_type {
        CapacityType::Reserved => "ReservationCapacityExceeded",
        CapacityType::Spot | CapacityType::OnDemand => "InsufficientInstanceCapacity",
    };
    let message = format!(
        "There is no {} capacity for {} in {} at the moment",
        offering.capacity_type, offering.instance_type, offering.zone
    );
    (code, message)
}

fn shortfall(offering: &OfferingKey, bound: Option<Bound>) -> Shortfall {
    let (code, message) = bound.map_or_else(
        || out_of_capacity(offering),
        |bound| (bound.code, bound.message),
    );
    let error = errors::cloud_error(OPERATION, code, &message, None);
    Shortfall {
        offering: Some(offering.clone()),
        class: error.class,
        code: error.code,
        message: error.message,
    }
}
