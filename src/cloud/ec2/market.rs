//! What EC2 sells in the region, refreshed in the background.
//!
//! Given: the API. Given back: the newest market at once, or, before there is one, the first answer:
//! a market or why there is none. A refresh that fails keeps what was known and is tried again with
//! growing pauses. Types and zones are read every 12 hours, prices as often as the settings say, each
//! by itself, so that none waits for another.
//!
//! The first market needs two short answers: which zones offer which type, and spot prices. Until EC2
//! has described its types, which takes many pages, those of the built-in table serve; they are the same
//! in every region, and what a zone does not offer is not bought. Until the first on-demand prices the
//! built-in, dated ones serve. Which zones an account has nobody knows beforehand, so nothing is bought
//! before that answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::types::LocationType;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::call::{failed, filter};
use super::{Api, on_demand, types};
use crate::cloud::buckets::Bucket;
use crate::cloud::catalogue::Market;
use crate::cloud::facts::{self, InstanceFacts};
use crate::cloud::prices::{self, PriceTable, SpotRow};
use crate::cloud::{CloudError, errors};
use crate::model::money::UsdPerHour;
use crate::world::World;

const TYPES_EVERY: SignedDuration = SignedDuration::from_hours(12);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

type Types = BTreeMap<Arc<str>, Arc<InstanceFacts>>;
type Zones = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

#[derive(Debug, Clone)]
enum State {
    Loading,
    Failed(CloudError),
    Ready(Arc<Market>),
}

/// The newest market.
#[derive(Debug)]
pub(super) struct MarketWatch(watch::Receiver<State>);

impl MarketWatch {
    /// Starts refreshing.
    pub(super) fn start(api: &Api) -> Self {
        let (sender, receiver) = watch::channel(State::Loading);
        let refresh = Refresh {
            api: api.clone(),
            known: Mutex::new(Known::default()),
            sender,
        };
        api.world.spawn(refresh.run());
        Self(receiver)
    }

    /// The newest market. Waits only while the very first refresh is under way.
    pub(super) async fn get(&self) -> Result<Arc<Market>, CloudError> {
        let mut receiver = self.0.clone();
        let state = receiver
            .wait_for(|state| !matches!(state, State::Loading))
            .await
            .map_or(State::Loading, |state| state.clone());
        match state {
            State::Ready(market) => Ok(market),
            State::Failed(error) => Err(error),
            State::Loading => Err(errors::cloud_error(
                "DescribeInstanceTypes",
                errors::NO_ANSWER,
                "the controller is shutting down",
                None,
            )),
        }
    }
}

/// What EC2 answered to one question: the newest answer, or why there is none yet.
#[derive(Debug, Clone, Default)]
enum Answer<T> {
    #[default]
    None,
    Failed(CloudError),
    Is(T),
}

impl<T> Answer<T> {
    /// A failure takes back no answer.
    fn heed(&mut self, answer: Result<T, CloudError>) -> Result<(), CloudError> {
        match answer {
            Ok(answer) => *self = Self::Is(answer),
            Err(error) => {
                if !matches!(self, Self::Is(_)) {
                    *self = Self::Failed(error.clone());
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Everything that was read so far.
#[derive(Debug)]
struct Known {
    types: Answer<Types>,
    zones: Answer<Zones>,
    prices: PriceTable,
    spot_was_asked: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            types: Answer::None,
            zones: Answer::None,
            prices: PriceTable::built_in(),
            spot_was_asked: false,
        }
    }
}

impl Known {
    fn state(&self, region: &str) -> State {
        let zones = match (&self.types, &self.zones) {
            // What asking again does not mend somebody must learn of, though the table would do.
            (Answer::Failed(error), _) if !errors::is_retryable(error.class) => {
                return State::Failed(error.clone());
            }
            (_, Answer::Failed(error)) => return State::Failed(error.clone()),
            // Spot counts at its ceiling until its prices were asked for: on-demand would be bought instead.
            (_, Answer::Is(zones)) if self.spot_was_asked => zones,
            _ => return State::Loading,
        };
        let types = match &self.types {
            Answer::Is(types) => types,
            _ => &facts::built_in().types,
        };
        State::Ready(Arc::new(Market {
            region: region.to_owned(),
            types: types.clone(),
            zones: zones.clone(),
            prices: self.prices.clone(),
        }))
    }
}

/// When something is read again.
#[derive(Debug)]
struct Due {
    at: Timestamp,
    pauses: ExponentialBackoff,
}

impl Due {
    fn now(now: Timestamp) -> Self {
        Self {
            at: now,
            pauses: growing_pauses(),
        }
    }

    fn settle(&mut self, now: Timestamp, every: SignedDuration, is_read: bool) {
        let pause = if is_read {
            self.pauses = growing_pauses();
            every
        } else {
            let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
            SignedDuration::try_from(pause).unwrap_or(every)
        };
        self.at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
    }
}

fn growing_pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

#[derive(Debug)]
struct Refresh {
    api: Api,
    known: Mutex<Known>,
    sender: watch::Sender<State>,
}

impl Refresh {
    async fn run(self) {
        let settings = &self.api.settings;
        let prices_every =
            SignedDuration::try_from(settings.price_refresh).unwrap_or(SignedDuration::MAX);
        let on_demand = async {
            if settings.price_api {
                let refresh = || self.refresh_on_demand();
                self.keep("market-on-demand", prices_every, refresh).await;
            }
        };
        futures::join!(
            self.keep("market-zones", TYPES_EVERY, || self.refresh_zones()),
            self.keep("market-types", TYPES_EVERY, || self.refresh_types()),
            self.keep("market-spot", prices_every, || self.refresh_spot()),
            on_demand,
        );
    }

    /// Reads something now and again until everything should stop.
    async fn keep<Reading>(&self, part: &str, every: SignedDuration, read: impl Fn() -> Reading)
    where
        Reading: Future<Output = Result<(), CloudError>>,
    {
        let world = &self.api.world;
        let jitter = world.random(part);
        let mut due = Due::now(world.now());
        loop {
            let now = world.now();
            if due.at <= now {
                let answer = read().await;
                due.settle(now, every, answer.is_ok());
                if let Err(error) = answer {
                    tracing::warn!(
                        %error,
                        "the catalogue could not be refreshed; what is known is kept"
                    );
                }
                self.publish();
            }
            if !pause(world, due.at, jitter.below(1000)).await {
                return;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh_types(&self) -> Result<(), CloudError> {
        let types = describe_types(&self.api).await;
        self.known().types.heed(types)
    }

    async fn refresh_zones(&self) -> Result<(), CloudError> {
        let zones = describe_zones(&self.api).await;
        self.known().zones.heed(zones)
    }

    async fn refresh_spot(&self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let answer = describe_spot_prices(&self.api, read_at).await;
        let mut known = self.known();
        known.spot_was_asked = true;
        known.prices.spot = answer?;
        known.prices.spot_at = Some(read_at);
        Ok(())
    }

    async fn refresh_on_demand(&self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let prices = on_demand::on_demand(&self.api).await?;
        let mut known = self.known();
        known
            .prices
            .set_on_demand(&self.api.region, prices, read_at);
        Ok(())
    }

    /// Hands out what is known now.
    fn publish(&self) {
        let state = self.known().state(&self.api.region);
        self.sender.send_replace(state);
    }
}

/// Sleeps until a time and a little longer; false when everything should stop.
async fn pause(world: &World, until: Timestamp, jitter_milliseconds: u64) -> bool {
    let left = until.duration_since(world.now()).max(SignedDuration::ZERO);
    let left = left.unsigned_abs() + Duration::from_millis(jitter_milliseconds);
    tokio::select! {
        biased;
        () = world.stop().cancelled() => false,
        () = tokio::time::sleep(left) => true,
    }
}

async fn describe_types(api: &Api) -> Result<Types, CloudError> {
    let mut found = BTreeMap::new();
    let mut pages = api
        .ec2
        .describe_instance_types()
        .filters(filter("supported-virtualization-type", ["hvm"]))
        .filters(filter(
            "processor-info.supported-architecture",
            ["x86_64", "arm64"],
        ))
        .into_paginator()
        .page_size(100)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(found);
        };
        let page = page.map_err(|error| failed("DescribeInstanceTypes", &error))?;
        let facts = page.instance_types().iter().filter_map(types::facts_of);
        found.extend(facts.map(|facts| (Arc::clone(&facts.name), Arc::new(facts))));
    }
}

async fn describe_zones(api: &Api) -> Result<Zones, CloudError> {
    let mut zones = Zones::new();
    let mut pages = api
        .ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZone)
        .into_paginator()
        .page_size(1000)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(zones);
        };
        let page = page.map_err(|error| failed("DescribeInstanceTypeOfferings", &error))?;
        for offering in page.instance_type_offerings() {
            if let (Some(instance_type), Some(zone)) =
                (offering.instance_type(), offering.location())
            {
                zones
                    .entry(instance_type.as_str().into())
                    .or_default()
                    .insert(zone.into());
            }
        }
    }
}

async fn describe_spot_prices(
    api: &Api,
    now: Timestamp,
) -> Result<BTreeMap<Arc<str>, BTreeMap<Arc<str>, UsdPerHour>>, CloudError> {
    let mut rows = Vec::new();
    // A history that starts now is one row for each type and zone: the price that holds.
    let mut pages = api
        .ec2
        .describe_spot_price_history()
        .start_time(aws_smithy_types::DateTime::from_secs(now.as_second()))
        .product_descriptions("Linux/UNIX")
        .product_descriptions("Linux/UNIX (Amazon VPC)")
        .into_paginator()
        .page_size(1000)
        .send();
    loop {
        api.buckets.take(Bucket::Describe, 1).await;
        let Some(page) = pages.next().await else {
            return Ok(prices::newest_spot_prices(rows));
        };
        let page = page.map_err(|error| failed("DescribeSpotPriceHistory", &error))?;
        rows.extend(page.spot_price_history().iter().filter_map(|row| {
            Some(SpotRow {
                instance_type: row.instance_type()?.as_str().into(),
                zone: row.availability_zone()?.into(),
                price: UsdPerHour::parse(row.spot_price()?).ok()?,
                at: Timestamp::from_second(row.timestamp()?.secs()).ok()?,
            })
        }));
    }
}
