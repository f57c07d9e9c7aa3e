//! Faults by chance, counted by kind, while a storm lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;
use tonnage::sim::api_server::Refusal;
use tonnage::sim::faults::{CallFault, Faults, Journey, RequestFault};
use tonnage::world::{RandomStream, World};

/// How often each kind strikes, of 1000 requests or calls.
#[derive(Debug, Clone, Copy)]
struct Rates {
    lost: u64,
    answer_lost: u64,
    error: u64,
    conflict: u64,
    throttled: u64,
    slow_watch: u64,
    call_lost: u64,
    call_answer_lost: u64,
    call_throttled: u64,
    call_error: u64,
    call_denied: u64,
    short: u64,
}

#[derive(Debug)]
struct State {
    storm: bool,
    /// Those whom the API server does not hear, until when, and whether connections are refused or silent.
    cut_off: BTreeMap<String, (Instant, bool)>,
    counts: BTreeMap<&'static str, usize>,
}

/// The weather of one trial; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Storm {
    requests: RandomStream,
    calls: RandomStream,
    rates: Rates,
    state: Arc<Mutex<State>>,
}

impl Storm {
    /// A storm whose kinds are as strong as the seed has it, some absent.
    pub(crate) fn new(world: &World) -> Self {
        let dice = world.random("storm/rates");
        let rate = |most: u64| {
            if dice.below(3) == 0 {
                0
            } else {
                dice.below(most + 1)
            }
        };
        Self {
            rates: Rates {
                lost: rate(30),
                answer_lost: rate(30),
                error: rate(40),
                conflict: rate(40),
                throttled: rate(20),
                slow_watch: rate(500),
                call_lost: rate(30),
                call_answer_lost: rate(60),
                call_throttled: rate(60),
                call_error: rate(40),
                call_denied: rate(40),
                short: rate(300),
            },
            requests: world.random("storm/requests"),
            calls: world.random("storm/calls"),
            state: Arc::new(Mutex::new(State {
                storm: true,
                cut_off: BTreeMap::new(),
                counts: BTreeMap::new(),
            })),
        }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm_down(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.storm = false;
        state.cut_off.clear();
    }

    /// The API server does not hear a controller for a while; EC2 does.
    pub(crate) fn cut_off(&self, who: &str, length: Duration, silent: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + length;
        state.cut_off.insert(who.to_owned(), (until, silent));
    }

    /// The way of a request of one who is not heard.
    fn unheard(&self, who: &str) -> Option<Journey> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, silent) = state.cut_off.get(who)?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let there = if *silent {
            left
        } else {
            Duration::from_millis(1)
        };
        Some(Journey {
            there,
            back: Duration::ZERO,
            lag: Duration::ZERO,
            fault: Some(RequestFault::Lost),
        })
    }

    /// Counts a fault.
    pub(crate) fn count(&self, kind: &'static str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.counts.entry(kind).or_default() += 1;
    }

    /// Faults so far, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.clone()
    }

    fn rages(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.storm
    }

    /// The kind that strikes, if any: at most one.
    fn strike<T: Clone>(&self, dice: &RandomStream, kinds: &[(&'static str, u64, T)]) -> Option<T> {
        let mut draw = dice.below(1_000);
        for (name, rate, kind) in kinds {
            if draw < *rate {
                self.count(name);
                return Some(kind.clone());
            }
            draw -= rate;
        }
        None
    }
}

fn refusal(code: u16, reason: &'static str) -> RequestFault {
    RequestFault::Refused(Refusal::new(code, reason, "as the storm has it"))
}

impl Faults for Storm {
    fn request(&self, who: &str, method: &Method, path: &str) -> Journey {
        if let Some(journey) = self.unheard(who) {
            return journey;
        }
        let mut journey = Journey {
            there: Duration::from_millis(1 + self.requests.below(4)),
            back: Duration::from_millis(1 + self.requests.below(4)),
            lag: Duration::ZERO,
            fault: None,
        };
        if !self.rages() {
            return journey;
        }
        if self.requests.below(50) == 0 {
            journey.there += Duration::from_millis(self.requests.below(2_000));
        }
        let rates = self.rates;
        let writes = *method == Method::PUT || *method == Method::PATCH;
        let conflict = if writes { rates.conflict } else { 0 };
        journey.fault = self.strike(
            &self.requests,
            &[
                ("request lost", rates.lost, RequestFault::Lost),
                ("answer lost", rates.answer_lost, RequestFault::AnswerLost),
                ("server error", rates.error, refusal(500, "InternalError")),
                ("conflict", conflict, refusal(409, "Conflict")),
                (
                    "throttled",
                    rates.throttled,
                    refusal(429, "TooManyRequests"),
                ),
            ],
        );
        if *method == Method::GET
            && !path.contains("/nodes/")
            && self.requests.below(1_000) < rates.slow_watch
        {
            self.count("slow watch");
            journey.lag = Duration::from_millis(self.requests.below(3_000));
        }
        journey
    }

    fn call(&self, _who: &str, operation: &str) -> (Duration, Option<CallFault>) {
        let takes = match operation {
            "CreateFleet" => 500 + self.calls.below(1_500),
            "TerminateInstances" => 200 + self.calls.below(400),
            _ => 40 + self.calls.below(200),
        };
        let takes = Duration::from_millis(takes);
        if !self.rages() {
            return (takes, None);
        }
        let rates = self.rates;
        let launch = operation == "CreateFleet";
        let short = if launch { rates.short } else { 0 };
        let some = usize::try_from(self.calls.below(2)).unwrap_or(0);
        let fault = self.strike(
            &self.calls,
            &[
                ("call lost", rates.call_lost, CallFault::Lost),
                (
                    "call answer lost",
                    rates.call_answer_lost,
                    CallFault::AnswerLost,
                ),
                ("call throttled", rates.call_throttled, CallFault::Throttled),
                ("call failed", rates.call_error, CallFault::Internal),
                ("call denied", rates.call_denied, CallFault::Denied),
                ("launch short", short, CallFault::Short(some)),
            ],
        );
        (takes, fault)
    }
}
