//! `CreateFleet` of type `instant`: what a launch buys, and what it cannot get.
//!
//! Given a launch record; given back instances and shortfalls. Equal tokens get the answer of the
//! first call; an equal token with another request is refused. Spot is bought price-capacity-optimized,
//! on-demand at the lowest price, as the adapter for the real EC2 asks for by default.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::choice::{self, Choice};
use super::machine::{self, Machine};
use super::{State, later};
use crate::cloud::{CloudError, errors, tags, token};
use crate::model::instance::{Instance, InstanceState};
use crate::model::launch::{
    LaunchOutcome, LaunchOverride, LaunchRecord, LaunchedInstance, Shortfall, TemplateOverrides,
};
use crate::model::money::UsdPerHour;
use crate::model::offering::OfferingKey;

pub(super) const OPERATION: &str = "CreateFleet";

/// Whose launch it is, for tags.
#[derive(Debug, Clone)]
pub(super) struct Buyer {
    pub(super) cluster: String,
    pub(super) node_pool: Option<String>,
    pub(super) node_class: String,
    pub(super) fees: UsdPerHour,
}

/// A choice of a launch record, with the template and the override that ask for it.
type Wanted<'record> = Choice<(&'record TemplateOverrides, &'record LaunchOverride)>;

impl State {
    /// Serves a launch; `most` is what a shortage leaves of it.
    pub(super) fn launch(
        &mut self,
        record: &LaunchRecord,
        buyer: &Buyer,
        most: Option<usize>,
    ) -> Result<LaunchOutcome, CloudError> {
        let token = token::client_token(record);
        if let Some((known, outcome)) = self.answers.get(&token) {
            return if known == record {
                Ok(outcome.clone())
            } else {
                Err(errors::cloud_error(
                    OPERATION,
                    "IdempotentParameterMismatch",
                    "The client token was used before with other parameters",
                    Some(400),
                ))
            };
        }
        for template in &record.templates {
            let Some(known) = self.templates.get(&template.name) else {
                return Err(errors::cloud_error(
                    OPERATION,
                    "InvalidLaunchTemplateName.NotFoundException",
                    &format!("there is no launch template {}", template.name),
                    Some(400),
                ));
            };
            // Those that users name are theirs; those that a controller makes must have been made.
            let profile = &known.instance_profile;
            if profile.starts_with("tonnage-") && !self.profiles.contains_key(profile) {
                return Err(errors::cloud_error(
                    OPERATION,
                    "InvalidParameterValue",
                    &format!("Invalid IAM Instance Profile name: {profile}"),
                    Some(400),
                ));
            }
        }
        let outcome = self.buy(record, buyer, most);
        self.answers
            .insert(token, (record.clone(), outcome.clone()));
        Ok(outcome)
    }

    fn buy(&mut self, record: &LaunchRecord, buyer: &Buyer, most: Option<usize>) -> LaunchOutcome {
        let now = self.clock.now();
        let wanted = usize::try_from(record.size).unwrap_or(0);
        let mut left = most.unwrap_or(wanted).min(wanted);
        let mut outcome = LaunchOutcome::default();
        for choice in self.choices(record, now) {
            if left == 0 && outcome.instances.len() == wanted {
                break;
            }
            let bought = choice.room.min(left);
            for _machine in 0..bought {
                let id = self.start(&choice, record, buyer, now);
                outcome.instances.push(LaunchedInstance {
                    id,
                    offering: choice.offering.clone(),
                    image_id: self.image_of(&choice.of.0.name),
                    subnet_id: choice.of.1.subnet.clone(),
                });
            }
            left -= bought;
            if outcome.instances.len() < wanted {
                outcome.shortfalls.push(shortfall(&choice.offering));
            }
        }
        outcome.instances.sort();
        outcome.shortfalls.sort();
        outcome
    }

    /// What may be bought, in the order in which EC2 tries it.
    fn choices<'record>(
        &self,
        record: &'record LaunchRecord,
        now: Timestamp,
    ) -> Vec<Wanted<'record>> {
        let mut choices: Vec<Wanted<'record>> = record
            .templates
            .iter()
            .flat_map(|template| template.overrides.iter().map(move |what| (template, what)))
            .filter_map(|(template, what)| {
                let offering =
                    OfferingKey::new(&what.instance_type, &what.zone, record.capacity_type);
                let price = self.markets.price(&offering, now)?;
                let room = self.room(&offering, now);
                Some(Choice {
                    of: (template, what),
                    offering,
                    price,
                    room,
                })
            })
            .collect();
        choice::order(&mut choices, record.capacity_type);
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
        self.markets.room(offering, now, used)
    }

    fn image_of(&self, template: &str) -> String {
        self.templates
            .get(template)
            .map_or_else(String::new, |template| template.image_id.clone())
    }

    /// Starts one machine.
    fn start(
        &mut self,
        choice: &Wanted<'_>,
        record: &LaunchRecord,
        buyer: &Buyer,
        now: Timestamp,
    ) -> String {
        let number = self.next_number();
        let template = self.templates.get(&choice.of.0.name).cloned();
        let mut all = BTreeMap::from([
            (tags::CLUSTER.to_owned(), buyer.cluster.clone()),
            (
                format!("{}{}", tags::OWNED_PREFIX, buyer.cluster),
                "owned".to_owned(),
            ),
            (tags::NODE_CLASS.to_owned(), buyer.node_class.clone()),
            (tags::BATCH.to_owned(), record.batch.clone()),
        ]);
        if let Some(node_pool) = &buyer.node_pool {
            all.insert(tags::NODE_POOL.to_owned(), node_pool.clone());
        }
        if let Some(template) = &template {
            all.extend(template.tags.clone());
        }
        let instance = Instance {
            id: format!("i-{number:017x}"),
            offering: choice.offering.clone(),
            state: InstanceState::Pending,
            launched: now,
            image_id: self.image_of(&choice.of.0.name),
            subnet_id: choice.of.1.subnet.clone(),
            private_dns_name: format!(
                "ip-10-{}-{}-{}.ec2.internal",
                number / 62_500 % 250,
                number / 250 % 250,
                number % 250
            ),
            tags: all,
        };
        let id = instance.id.clone();
        let random =
            |(least, spread): (u64, u64)| Duration::from_millis(least + self.random.below(spread));
        let machine = Machine {
            profile: template
                .as_ref()
                .map_or_else(String::new, |template| template.instance_profile.clone()),
            user_data: template.map_or_else(String::new, |template| template.user_data),
            fees: buyer.fees,
            running_at: later(now, random(machine::START)),
            boot: random(machine::BOOT),
            never_joins: self.barren > 0,
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
                "nodePool": buyer.node_pool,
            }),
        );
        self.machines.insert(id.clone(), machine);
        self.tell(&id);
        id
    }
}

fn shortfall(offering: &OfferingKey) -> Shortfall {
    let error = errors::cloud_error(
        OPERATION,
        "InsufficientInstanceCapacity",
        &format!(
            "There is no {} capacity for {} in {} at the moment",
            offering.capacity_type, offering.instance_type, offering.zone
        ),
        None,
    );
    Shortfall {
        offering: Some(offering.clone()),
        class: error.class,
        code: error.code,
        message: error.message,
    }
}
