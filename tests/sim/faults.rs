//! Faults on the way to the API server and to EC2, by chance or aimed at a phase of a claim's life, counted by kind
//! and by the phases of the claims that they meet, while a storm lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::Instant;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::{ApiServer, Refusal, Resource};
use tonnage::sim::ec2::Ec2;
use tonnage::sim::faults::{About, CallFault, Faults, Journey, RequestFault};
use tonnage::world::RandomStream;

use crate::kinds::Fault;
use crate::phases::{Phase, Target};

/// How long a late write to the API server is on its way at least, milliseconds, and how much longer at most: less than
/// the three seconds between a lease and the next, which decision 0007 leaves for what is still on its way.
const LATE_REQUEST: (u64, u64) = (2_000, 900);
/// The same of a late call to EC2: within the minute for which its caller waits, if it has not lost the lease or died.
const LATE_CALL: (u64, u64) = (3_000, 56_500);

/// How many faults there were of each kind, and how often they met a claim in each phase: what lasts may meet many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) of: BTreeMap<Fault, usize>,
    pub(crate) met: BTreeMap<(Fault, Phase), usize>,
}

#[derive(Debug, Default)]
struct State {
    /// How often each kind strikes now, of 1000 requests or calls.
    rates: BTreeMap<Fault, u64>,
    /// Kinds that strike the next request or call about a claim in a phase, and until when they wait for one.
    aims: Vec<(Fault, Phase, Instant)>,
    /// Those whom the API server does not hear, until when, and whether connections are refused or silent.
    cut_off: BTreeMap<String, (Instant, bool)>,
    counts: Counts,
    /// Requests and calls since somebody asked how many there were.
    requests: usize,
}

/// The weather of one trial; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Storm {
    requests: RandomStream,
    calls: RandomStream,
    api: ApiServer,
    ec2: Ec2,
    state: Arc<Mutex<State>>,
}

impl Storm {
    /// Calm weather, until rates are set.
    pub(crate) fn new(world: &Embedded) -> Self {
        Self {
            requests: world.world().random("storm/requests"),
            calls: world.world().random("storm/calls"),
            api: world.api.clone(),
            ec2: world.ec2.clone(),
            state: Arc::default(),
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on kinds strike so often of 1000 requests or calls, and kinds that are not named never.
    pub(crate) fn set(&self, rates: BTreeMap<Fault, u64>) {
        self.locked().rates = rates;
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm_down(&self) {
        let mut state = self.locked();
        state.rates.clear();
        state.aims.clear();
        state.cut_off.clear();
    }

    /// The next request or call about a claim in a phase goes wrong, if there is one within so long.
    pub(crate) fn aim(&self, fault: Fault, phase: Phase, within: Duration) {
        let until = Instant::now() + within;
        self.locked().aims.push((fault, phase, until));
    }

    /// The API server does not hear a controller for a while, and its watches tell it nothing; EC2 hears it.
    pub(crate) fn cut_off(&self, who: &str, length: Duration, silent: bool) {
        let until = Instant::now() + length;
        self.locked()
            .cut_off
            .insert(who.to_owned(), (until, silent));
    }

    /// The way of a request of one who is not heard.
    fn unheard(&self, who: &str) -> Option<Journey> {
        let state = self.locked();
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

    /// Counts a fault and whom it met.
    pub(crate) fn count(&self, fault: Fault, target: Target<'_>) {
        let phases = target.phases(&self.api, &self.ec2);
        *self.locked().counts.of.entry(fault).or_default() += 1;
        for phase in phases {
            self.met(fault, phase);
        }
    }

    /// A fault that was counted before, and lasts, has met a claim in a phase.
    pub(crate) fn met(&self, fault: Fault, phase: Phase) {
        let counts = &mut self.locked().counts;
        *counts.met.entry((fault, phase)).or_default() += 1;
    }

    /// Requests to the API server and calls to EC2 since this was asked before.
    pub(crate) fn requests(&self) -> usize {
        std::mem::take(&mut self.locked().requests)
    }

    /// Faults so far.
    pub(crate) fn counts(&self) -> Counts {
        self.locked().counts.clone()
    }

    fn rates(&self) -> Option<BTreeMap<Fault, u64>> {
        let state = self.locked();
        let is_calm = state.rates.is_empty() && state.aims.is_empty();
        (!is_calm).then(|| state.rates.clone())
    }

    /// The kind that was aimed at a phase of what is touched, if any of these was.
    fn aimed<T: Clone>(&self, kinds: &[(Fault, T)], target: Target<'_>) -> Option<T> {
        let now = Instant::now();
        let waits = |fault: &Fault| kinds.iter().any(|(kind, _effect)| kind == fault);
        {
            let aims = &mut self.locked().aims;
            aims.retain(|(_fault, _phase, until)| now < *until);
            if !aims.iter().any(|(fault, ..)| waits(fault)) {
                return None;
            }
        }
        let phases = target.phases(&self.api, &self.ec2);
        let fault = {
            let aims = &mut self.locked().aims;
            let mut all = aims.iter();
            let found =
                all.position(|(fault, phase, _until)| waits(fault) && phases.contains(phase))?;
            aims.remove(found).0
        };
        self.count(fault, target);
        let mut kinds = kinds.iter();
        kinds.find_map(|(kind, effect)| (*kind == fault).then(|| effect.clone()))
    }

    /// The kind that strikes, if any: at most one.
    fn strike<T: Clone>(
        &self,
        dice: &RandomStream,
        rates: &BTreeMap<Fault, u64>,
        kinds: &[(Fault, T)],
        target: Target<'_>,
    ) -> Option<T> {
        let mut draw = dice.below(1_000);
        for (fault, effect) in kinds {
            let rate = rates.get(fault).copied().unwrap_or(0);
            if draw < rate {
                self.count(*fault, target);
                return Some(effect.clone());
            }
            draw -= rate;
        }
        self.aimed(kinds, target)
    }
}

/// A duration that is drawn: at least so many milliseconds, and so many more at most.
fn drawn(dice: &RandomStream, (least, more): (u64, u64)) -> Duration {
    Duration::from_millis(least + dice.below(more + 1))
}

/// What a kind does to the request that it strikes.
#[derive(Debug, Clone)]
enum Struck {
    /// It goes wrong.
    Wrong(RequestFault),
    /// It is on its way for so long.
    Late(Duration),
}

fn refusal(code: u16, reason: &'static str) -> RequestFault {
    RequestFault::Refused(Refusal::new(code, reason, "as the storm has it"))
}

/// What can strike a request of a method; one that is late is so by so much.
fn strikes(method: &Method, late: Duration) -> Vec<(Fault, Struck)> {
    let mut kinds = vec![
        (Fault::RequestLost, Struck::Wrong(RequestFault::Lost)),
        (Fault::AnswerLost, Struck::Wrong(RequestFault::AnswerLost)),
        (
            Fault::ServerError,
            Struck::Wrong(refusal(500, "InternalError")),
        ),
        (
            Fault::Throttled,
            Struck::Wrong(refusal(429, "TooManyRequests")),
        ),
    ];
    // Nothing but a change of what is there can be in conflict.
    if *method == Method::PUT || *method == Method::PATCH {
        kinds.push((Fault::Conflict, Struck::Wrong(refusal(409, "Conflict"))));
    }
    // What changes nothing is only slow.
    if *method != Method::GET {
        kinds.push((Fault::RequestLate, Struck::Late(late)));
    }
    kinds
}

impl Faults for Storm {
    fn request(&self, who: &str, method: &Method, path: &str) -> Journey {
        self.locked().requests += 1;
        if let Some(journey) = self.unheard(who) {
            return journey;
        }
        let mut journey = Journey {
            there: Duration::from_millis(1 + self.requests.below(4)),
            back: Duration::from_millis(1 + self.requests.below(4)),
            lag: Duration::ZERO,
            fault: None,
        };
        let Some(rates) = self.rates() else {
            return journey;
        };
        if self.requests.below(50) == 0 {
            journey.there += Duration::from_millis(self.requests.below(2_000));
        }
        let target = Target::of_path(path);
        let kinds = strikes(method, drawn(&self.requests, LATE_REQUEST));
        match self.strike(&self.requests, &rates, &kinds, target) {
            Some(Struck::Wrong(fault)) => journey.fault = Some(fault),
            Some(Struck::Late(late)) => journey.there = late,
            None => {}
        }
        let slow = rates.get(&Fault::SlowWatch).copied().unwrap_or(0);
        if *method == Method::GET && !path.contains("/nodes/") && self.requests.below(1_000) < slow
        {
            // Whom it meets is whom it tells of late.
            self.count(Fault::SlowWatch, Target::Nothing);
            journey.lag = Duration::from_millis(self.requests.below(3_000));
        }
        journey
    }

    fn call(&self, _who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        self.locked().requests += 1;
        let launch = operation == "CreateFleet";
        let takes = match operation {
            "CreateFleet" => 500 + self.calls.below(1_500),
            "TerminateInstances" => 200 + self.calls.below(400),
            _ => 40 + self.calls.below(200),
        };
        let takes = Duration::from_millis(takes);
        let Some(rates) = self.rates() else {
            return (takes, None);
        };
        let some = usize::try_from(self.calls.below(2)).unwrap_or(0);
        let late = drawn(&self.calls, LATE_CALL);
        let all = [
            (Fault::CallLost, CallFault::Lost),
            (Fault::CallAnswerLost, CallFault::AnswerLost),
            (Fault::CallThrottled, CallFault::Throttled),
            (Fault::CallFailed, CallFault::Internal),
            (Fault::CallDenied, CallFault::Denied),
            (Fault::CallLate, CallFault::Late(late)),
            (Fault::LaunchShort, CallFault::Short(some)),
        ];
        let kinds = all.get(..if launch { 7 } else { 6 }).unwrap_or_default();
        let target = Target::of_call(operation, about);
        (takes, self.strike(&self.calls, &rates, kinds, target))
    }

    fn deaf_until(&self, who: &str) -> Option<Instant> {
        let state = self.locked();
        let (until, _silent) = state.cut_off.get(who)?;
        (Instant::now() < *until).then_some(*until)
    }

    fn told_late(&self, resource: Resource, line: &[u8]) {
        if resource != Resource::NodeClaim {
            return;
        }
        let event = serde_json::from_slice::<Value>(line).unwrap_or_default();
        if event["object"]["kind"] == "NodeClaim" {
            self.met(Fault::SlowWatch, Phase::of(&event["object"]));
        }
    }
}
