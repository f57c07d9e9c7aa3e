//! What EC2 sells in the region, refreshed in the background.
//!
//! Given: the API. Given back: the newest market at once, or, before there is one, the first answer:
//! a market or why there is none. A refresh that fails keeps what was known and is tried again with
//! growing pauses. Types and zones are read every 12 hours, spot prices every 5 minutes, on-demand
//! prices every 12 hours; until the first on-demand answer the built-in dated prices serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::LocationType;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::call::{failed, filter};
use super::{Api, on_demand, types};
use crate::cloud::CloudError;
use crate::cloud::buckets::Bucket;
use crate::cloud::catalogue::Market;
use crate::cloud::facts::InstanceFacts;
use crate::cloud::prices::{self, PriceTable, SpotRow};
use crate::model::money::UsdPerHour;
use crate::world::World;

const TYPES_EVERY: SignedDuration = SignedDuration::from_hours(12);
const ON_DEMAND_EVERY: SignedDuration = SignedDuration::from_hours(12);
const SPOT_EVERY: SignedDuration = SignedDuration::from_mins(5);
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
            types: None,
            prices: PriceTable::built_in(),
            spot_was_asked: false,
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
            State::Loading => Err(crate::cloud::errors::cloud_error(
                "DescribeInstanceTypes",
                crate::cloud::errors::NO_ANSWER,
                "the controller is shutting down",
                None,
            )),
        }
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

    fn settle<T>(&mut self, now: Timestamp, every: SignedDuration, answer: &Result<T, CloudError>) {
        let pause = if answer.is_ok() {
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
    types: Option<(Types, Zones)>,
    prices: PriceTable,
    spot_was_asked: bool,
    sender: watch::Sender<State>,
}

impl Refresh {
    async fn run(mut self) {
        let world = self.api.world.clone();
        let start = world.now();
        let (mut types, mut spot, mut on_demand) =
            (Due::now(start), Due::now(start), Due::now(start));
        let jitter = world.random("market-refresh");
        loop {
            let now = world.now();
            if types.at <= now {
                let answer = self.refresh_types().await;
                types.settle(now, TYPES_EVERY, &answer);
                if let Err(error) = answer {
                    self.fail(error);
                }
            }
            if spot.at <= now {
                let answer = self.refresh_spot().await;
                spot.settle(now, SPOT_EVERY, &answer);
                report(answer);
            }
            if self.api.settings.price_api && on_demand.at <= now {
                let answer = self.refresh_on_demand().await;
                on_demand.settle(now, ON_DEMAND_EVERY, &answer);
                report(answer);
            }
            let mut next = types.at.min(spot.at);
            if self.api.settings.price_api {
                next = next.min(on_demand.at);
            }
            if !pause(&world, next, jitter.below(1000)).await {
                return;
            }
        }
    }

    async fn refresh_types(&mut self) -> Result<(), CloudError> {
        let (types, zones) =
            futures::future::try_join(describe_types(&self.api), describe_zones(&self.api)).await?;
        self.types = Some((types, zones));
        self.publish();
        Ok(())
    }

    async fn refresh_spot(&mut self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let answer = describe_spot_prices(&self.api, read_at).await;
        self.spot_was_asked = true;
        let answer = answer.map(|spot| {
            self.prices.spot = spot;
            self.prices.spot_at = Some(read_at);
        });
        self.publish();
        answer
    }

    async fn refresh_on_demand(&mut self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let prices = on_demand::on_demand(&self.api).await?;
        self.prices.set_on_demand(&self.api.region, prices, read_at);
        self.publish();
        Ok(())
    }

    /// Readers see a market once types, zones and spot prices were asked for.
    fn publish(&self) {
        if let (Some((types, zones)), true) = (&self.types, self.spot_was_asked) {
            self.sender.send_replace(State::Ready(Arc::new(Market {
                region: self.api.region.to_string(),
                types: types.clone(),
                zones: zones.clone(),
                prices: self.prices.clone(),
            })));
        }
    }

    /// Without types there is no market, and whoever waits for one learns why. Prices have a
    /// substitute.
    fn fail(&self, error: CloudError) {
        if self.types.is_none() {
            self.sender.send_replace(State::Failed(error.clone()));
        }
        report(Err(error));
    }
}

fn report(answer: Result<(), CloudError>) {
    if let Err(error) = answer {
        tracing::warn!(%error, "the catalogue could not be refreshed; what is known is kept");
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
