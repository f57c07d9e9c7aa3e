//! What EC2 sells in the region, refreshed in the background.
//!
//! Given: the API. Given back: the newest market at once, or, before there is one, the first answer:
//! a market or why there is none. A refresh that fails keeps what was known and is tried again with
//! growing pauses. Types and zones are read every 12 hours, prices as often as the settings say, each
//! by itself, so that none waits for another. An answer that names nothing is no answer, and one that is
//! throttled slows down everything that draws on the same bucket.
//!
//! The first market needs four answers: what the types are, which zones offer them, spot prices and on-demand prices;
//! for prices it waits half a minute at most, and for on-demand prices no longer than until they were asked for once. Until
//! the first on-demand prices the built-in, dated ones serve, and types that have none are not bought on demand. The
//! built-in table of types does not serve: it lacks types, and machines of a type that nobody knows count as nothing and
//! would be bought a second time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::answers::{self, Types, Zones};
use super::unpriced::Unpriced;
use super::{Api, on_demand};
use crate::cloud::catalogue::Market;
use crate::cloud::prices::PriceTable;
use crate::cloud::{CloudError, errors};
use crate::model::launch::ErrorClass;
use crate::world::World;

const TYPES_EVERY: SignedDuration = SignedDuration::from_hours(12);
/// So long after the start prices are waited for. Plans without spot prices buy on-demand, so failures to read them are
/// waited out; those without on-demand prices lack the types that have none built in.
const PRICES_WITHIN: SignedDuration = SignedDuration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The same while there is no market: nothing is bought then, and whoever has mended a role or a route looks on.
const LONGEST_WITHOUT_MARKET: Duration = Duration::from_secs(30);

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
            known: Mutex::new(Known::at_first(&api.region, api.settings.price_api)),
            begun: api.world.now(),
            sender,
        };
        api.world.spawn(refresh.run());
        Self(receiver)
    }

    /// The newest market, if there is one.
    pub(super) fn newest(&self) -> Option<Arc<Market>> {
        match &*self.0.borrow() {
            State::Ready(market) => Some(Arc::clone(market)),
            State::Loading | State::Failed(_) => None,
        }
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
    const fn failure(&self) -> Option<&CloudError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::None | Self::Is(_) => None,
        }
    }

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
    /// Spot prices are not waited for any more.
    spot_is_settled: bool,
    /// Nor are on-demand prices.
    on_demand_is_settled: bool,
    /// What was said of types without a price.
    unpriced: Unpriced,
    /// Why prices cannot be read, by part, where asking again does not mend it.
    unread: BTreeMap<&'static str, CloudError>,
}

impl Known {
    fn at_first(region: &str, asks_price_list: bool) -> Self {
        Self {
            types: Answer::None,
            zones: Answer::None,
            prices: PriceTable::built_in(),
            spot_is_settled: !has_spot_in_dollars(region),
            on_demand_is_settled: !asks_price_list,
            unpriced: Unpriced::default(),
            unread: BTreeMap::new(),
        }
    }

    /// Remembers of a part of the prices whether asking again helps.
    fn heed_refusal<T>(&mut self, part: &'static str, answer: &Result<T, CloudError>) {
        match answer {
            Err(error) if error.class == ErrorClass::Unauthorized => {
                self.unread.insert(part, error.clone());
            }
            Err(_passing) => {}
            Ok(_read) => {
                self.unread.remove(part);
            }
        }
    }

    fn state(&self, region: &str) -> State {
        let (types, zones) = match (&self.types, &self.zones) {
            // Spot counts at its ceiling until its prices are known: on-demand would be bought instead. And of types
            // without a built-in price nothing would be bought on demand.
            (Answer::Is(types), Answer::Is(zones))
                if self.spot_is_settled && self.on_demand_is_settled =>
            {
                (types, zones)
            }
            // And which question is answered first must not say what is told of.
            (Answer::Is(_), Answer::Is(_)) | (Answer::None, _) | (_, Answer::None) => {
                return State::Loading;
            }
            (types, zones) => {
                let failures = [types.failure(), zones.failure()];
                return errors::one_of(failures.into_iter().flatten())
                    .map_or(State::Loading, State::Failed);
            }
        };
        State::Ready(Arc::new(Market {
            region: region.to_owned(),
            types: types.clone(),
            zones: zones.clone(),
            prices: self.prices.clone(),
            unread: self.unread.values().map(ToString::to_string).collect(),
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

    /// When to read again after an answer, or after a failure, for which there is a longest pause.
    fn settle(&mut self, now: Timestamp, answer: Result<SignedDuration, Duration>) {
        let pause = match answer {
            Ok(every) => {
                self.pauses = growing_pauses();
                every
            }
            Err(longest) => {
                let pause = self.pauses.next().unwrap_or(longest).min(longest);
                SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
            }
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
    begun: Timestamp,
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
                let reading = self.keep("market-on-demand", prices_every, refresh);
                futures::join!(reading, self.settle_in_time());
            }
        };
        let spot = async {
            if has_spot_in_dollars(&self.api.region) {
                self.keep("market-spot", prices_every, || self.refresh_spot())
                    .await;
            }
        };
        futures::join!(
            self.keep("market-zones", TYPES_EVERY, || self.refresh_zones()),
            self.keep("market-types", TYPES_EVERY, || self.refresh_types()),
            spot,
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
                if let Err(error) = &answer {
                    tracing::warn!(
                        %error,
                        "the catalogue could not be refreshed; what is known is kept"
                    );
                }
                self.publish();
                let longest = self.longest_pause();
                due.settle(now, answer.map(|()| every).map_err(|_told| longest));
            }
            if !pause(world, due.at, jitter.below(1000)).await {
                return;
            }
        }
    }

    fn longest_pause(&self) -> Duration {
        if matches!(&*self.sender.borrow(), State::Ready(_)) {
            LONGEST_PAUSE
        } else {
            LONGEST_WITHOUT_MARKET
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh_types(&self) -> Result<(), CloudError> {
        let types = self.api.heed(answers::types(&self.api).await);
        self.known().types.heed(types)
    }

    async fn refresh_zones(&self) -> Result<(), CloudError> {
        let zones = self.api.heed(answers::zones(&self.api).await);
        self.known().zones.heed(zones)
    }

    async fn refresh_spot(&self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let answer = answers::spot_prices(&self.api, read_at).await;
        let answer = self.api.heed(answer);
        let waited = self.api.world.now().duration_since(self.begun);
        let mut known = self.known();
        known.spot_is_settled |= is_settled(answer.as_ref().err(), waited);
        known.heed_refusal("spot", &answer);
        known.prices.spot = answer?;
        known.prices.spot_at = Some(read_at);
        Ok(())
    }

    async fn refresh_on_demand(&self) -> Result<(), CloudError> {
        let read_at = self.api.world.now();
        let answer = self.api.heed(on_demand::on_demand(&self.api).await);
        let mut known = self.known();
        // Where the list cannot be read the built-in prices serve, and so they do until it can.
        known.on_demand_is_settled = true;
        known.heed_refusal("on-demand", &answer);
        known
            .prices
            .set_on_demand(&self.api.region, answer?, read_at);
        Ok(())
    }

    /// A price list that does not answer at all, and does not fail either, is waited for no longer than this.
    async fn settle_in_time(&self) {
        let until = self.begun.saturating_add(PRICES_WITHIN);
        if pause(&self.api.world, until.unwrap_or(Timestamp::MAX), 0).await {
            self.known().on_demand_is_settled = true;
            self.publish();
        }
    }

    /// Hands out what is known now, if it is news: a new market makes everybody look their classes up again.
    fn publish(&self) {
        let state = self.known().state(&self.api.region);
        let market = match &state {
            State::Ready(market) => Some(Arc::clone(market)),
            State::Loading | State::Failed(_) => None,
        };
        let is_published = self.sender.send_if_modified(|before| {
            let is_news = match (&*before, &state) {
                (State::Ready(before), State::Ready(now)) => before != now,
                _ => true,
            };
            if is_news {
                *before = state;
            }
            is_news
        });
        let Some(market) = market.filter(|_market| is_published) else {
            return;
        };
        let unpriced = self.known().unpriced.news(&market);
        if let Some(told) = unpriced {
            tracing::info!("{told}");
        }
    }
}

/// Whether spot prices can be compared with on-demand prices: the history of the regions in China is in
/// CNY, and does not say so.
fn has_spot_in_dollars(region: &str) -> bool {
    !region.starts_with("cn-")
}

/// Whether plans are made with what is known of spot prices after so long.
fn is_settled(failure: Option<&CloudError>, waited: SignedDuration) -> bool {
    failure.is_none_or(|error| !errors::is_retryable(error.class) || waited >= PRICES_WITHIN)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::builtin;

    /// Everything but spot prices is known.
    fn known(region: &str) -> Known {
        let market = builtin::market();
        Known {
            types: Answer::Is(market.types),
            zones: Answer::Is(market.zones),
            ..Known::at_first(region, false)
        }
    }

    #[test]
    fn nothing_is_sold_before_ec2_has_described_its_types() {
        let settled = Known {
            spot_is_settled: true,
            ..known("us-east-1")
        };
        assert!(matches!(settled.state("us-east-1"), State::Ready(_)));
        let undescribed = Known {
            types: Answer::None,
            ..settled
        };
        assert!(matches!(undescribed.state("us-east-1"), State::Loading));
        for code in ["RequestLimitExceeded", "UnauthorizedOperation"] {
            let failed = errors::cloud_error("DescribeInstanceTypes", code, "", None);
            let known = Known {
                types: Answer::Failed(failed),
                zones: undescribed.zones.clone(),
                spot_is_settled: true,
                ..Known::at_first("us-east-1", true)
            };
            let state = known.state("us-east-1");
            assert!(matches!(state, State::Failed(_)), "{state:?}");
        }
    }

    #[test]
    fn spot_prices_are_waited_for_unless_asking_again_does_not_help() {
        let soon = SignedDuration::from_secs(29);
        let failure = |code| errors::cloud_error("DescribeSpotPriceHistory", code, "", None);
        let throttled = failure("RequestLimitExceeded");
        assert!(is_settled(None, SignedDuration::ZERO));
        assert!(!is_settled(Some(&throttled), soon));
        assert!(is_settled(Some(&throttled), PRICES_WITHIN));
        assert!(is_settled(Some(&failure("UnauthorizedOperation")), soon));
        assert!(matches!(
            known("us-east-1").state("us-east-1"),
            State::Loading
        ));
    }

    #[test]
    fn on_demand_prices_are_waited_for_where_the_price_list_is_asked() {
        for (asks_price_list, is_ready) in [(true, false), (false, true)] {
            let known = Known {
                spot_is_settled: true,
                on_demand_is_settled: Known::at_first("us-east-1", asks_price_list)
                    .on_demand_is_settled,
                ..known("us-east-1")
            };
            let state = known.state("us-east-1");
            assert_eq!(matches!(state, State::Ready(_)), is_ready, "{state:?}");
        }
    }

    #[test]
    fn who_mends_a_role_waits_for_the_first_market_half_a_minute_at_most() {
        let start = Timestamp::UNIX_EPOCH;
        let pauses = |longest| {
            let mut due = Due::now(start);
            let pause = |_time| {
                due.settle(start, Err(longest));
                due.at.duration_since(start).as_secs()
            };
            (0..10).map(pause).collect::<Vec<i64>>()
        };
        let without = pauses(LONGEST_WITHOUT_MARKET);
        assert_eq!((without.first(), without.last()), (Some(&2), Some(&30)));
        assert_eq!(pauses(LONGEST_PAUSE).last(), Some(&300));
        let mut due = Due::now(start);
        for answer in [
            Err(LONGEST_PAUSE),
            Err(LONGEST_PAUSE),
            Ok(TYPES_EVERY),
            Err(LONGEST_PAUSE),
        ] {
            due.settle(start, answer);
        }
        assert_eq!(
            due.at.duration_since(start).as_secs(),
            2,
            "an answer ends the growing"
        );
    }

    #[test]
    fn spot_prices_in_another_currency_are_not_taken() {
        for region in ["cn-north-1", "cn-northwest-1"] {
            assert!(!has_spot_in_dollars(region));
            let State::Ready(market) = known(region).state(region) else {
                panic!("{region} waits for prices that are not read");
            };
            assert_eq!(market.prices.spot_at, None, "spot counts at its ceiling");
        }
        assert!(has_spot_in_dollars("ca-central-1"));
    }
}
