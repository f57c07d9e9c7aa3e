//! One seed: an hour of a cluster's life or less, most of it work under faults, then quiet, then nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tonnage::sim::api_server::{DeleteOptions, Key, Resource};
use tonnage::sim::ec2::market::Weather;
use tonnage::sim::history::{Detail, Line};
use tonnage::sim::{Embedded, Options, runtime, watchdog};
use tonnage::world::RandomStream;

use crate::acts::USER;
use crate::aims::Aims;
use crate::checks::Checks;
use crate::controllers::{Controllers, Places};
use crate::faults::{Counts, Storm};
use crate::furniture::{FAMILIES, Furniture, Starting};
use crate::lasting::Lasting;
use crate::leadership::Leadership;
use crate::mutations::Mutation;
use crate::quiet;
use crate::script::{self, Deed, Disturbance, GUST, Script};
use crate::server::Server;
use crate::wander::Wander;
use crate::wishes::Paused;

pub(crate) const CLUSTER: &str = "trial";
/// How long a world lasts at least unless somebody says otherwise, seconds.
pub(crate) const HOUR: u64 = 3_600;
/// How long everything may take to run once it is quiet, seconds: timeouts of claims, and back-offs.
const PATIENCE: u64 = 2_400;
/// The NodePool that has limits.
pub(crate) const LIMITED: &str = "limited";
/// The most that controllers may ask of the API server and EC2 in one second of a world of this size: what asks
/// more asks in a circle.
const MOST_REQUESTS: usize = 2_000;
/// How often what waits for a claim in a phase looks for one: some are over within a fraction of a second.
const MOMENT: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long the world lasts at least, seconds.
    pub(crate) seconds: u64,
    pub(crate) controllers: Controllers,
    /// Disturbances that are left out, by number.
    pub(crate) without: BTreeSet<usize>,
    /// What is wrong with the controllers.
    pub(crate) mutation: Option<&'static Mutation>,
    /// End at the first violation.
    pub(crate) hasty: bool,
}

impl Plan {
    /// A seed as it is.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            seconds: HOUR,
            controllers: Controllers::of(seed),
            without: BTreeSet::new(),
            mutation: None,
            hasty: false,
        }
    }

    /// The command that runs it again, all of it.
    pub(crate) fn replay(&self) -> String {
        let minutes = if self.seconds == HOUR {
            String::new()
        } else {
            format!(" --minutes {}", self.seconds / 60)
        };
        let broken = self
            .mutation
            .map_or_else(String::new, |found| format!(" --mutation {}", found.name));
        format!("hack/sim --seeds 1 --start {}{minutes}{broken}", self.seed)
    }

    /// The same with broken controllers, until they are found out.
    pub(crate) fn mutated(seed: u64, mutation: &'static Mutation) -> Self {
        Self {
            controllers: mutation.controllers,
            mutation: Some(mutation),
            hasty: true,
            ..Self::of(seed)
        }
    }
}

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) counts: Counts,
    /// How often a controller took the lease.
    pub(crate) terms: usize,
    pub(crate) pods: usize,
    pub(crate) nodes: usize,
    /// How long the world lasted.
    pub(crate) seconds: u64,
    /// The most requests to the API server and calls to EC2 in one second.
    pub(crate) busiest: usize,
    pub(crate) history: Vec<String>,
    pub(crate) digest: (u64, u64),
    /// Everything that was done to it, left out or not.
    pub(crate) disturbances: Vec<Disturbance>,
}

/// Runs a seed.
pub(crate) fn run(plan: &Plan) -> io::Result<Report> {
    runtime::run(async {
        let replay = plan.replay();
        watchdog::begins(
            format!("see what goes round: {replay} --log tonnage=debug"),
            0,
        );
        let mut trial = Trial::begin(plan.clone());
        trial.storm().await;
        trial.quiet().await;
        trial.rest().await;
        let report = trial.end().await;
        watchdog::rests();
        report
    })
}

pub(crate) struct Trial {
    pub(crate) world: Embedded,
    pub(crate) storm: Storm,
    pub(crate) checks: Checks,
    pub(crate) places: Places,
    pub(crate) wander: Wander,
    pub(crate) second: u64,
    /// Machines without an owner that were started.
    pub(crate) strays: usize,
    /// Nodes that are not what they say, and when they go.
    pub(crate) impostors: BTreeMap<String, u64>,
    pub(crate) aims: Aims,
    pub(crate) lasting: Lasting,
    /// When the shortage storm ends.
    pub(crate) shortage_until: Option<u64>,
    pub(crate) server: Server,
    pub(crate) paused: Paused,
    pub(crate) starting: Starting,
    plan: Plan,
    script: Script,
    /// The most requests in one second so far.
    busiest: usize,
}

impl Trial {
    fn begin(plan: Plan) -> Self {
        let world = Embedded::begin(Options {
            cluster: CLUSTER.to_owned(),
            weather: Weather {
                reclaimed_per_mille: 300,
                dry_spot_per_mille: 150,
                ..Weather::USUAL
            },
            families: FAMILIES.to_vec(),
            detail: Detail::Events,
            ..Options::calm(plan.seed)
        });
        let elect = plan.controllers.elect();
        let Furniture { manifests, limits } = Furniture::draw(&world.world().random("furniture"));
        let mut trial = Self {
            storm: Storm::new(&world),
            checks: Checks::watch(&world, limits),
            places: Places::new(&world, plan.controllers, plan.mutation),
            wander: Wander::default(),
            second: 0,
            strays: 0,
            impostors: BTreeMap::new(),
            aims: Aims::default(),
            lasting: Lasting::default(),
            shortage_until: None,
            server: Server::default(),
            paused: Paused::new(),
            starting: Starting::new(),
            script: Script::draw(world.world(), plan.seconds, elect),
            busiest: 0,
            plan,
            world,
        };
        for manifest in manifests {
            trial.apply(manifest);
        }
        if elect {
            trial.checks.leadership = Some(Leadership::default());
        }
        trial
    }

    pub(crate) fn apply(&mut self, object: Value) {
        if let Err(refusal) = self.world.apply(object) {
            self.checks
                .violations
                .insert(format!("a manifest was refused: {refusal}"));
        }
    }

    /// The dice of one disturbance, which are its own.
    pub(crate) fn dice(&self, number: usize) -> RandomStream {
        let name = self.script.dice.get(number);
        let name = name.map_or("", String::as_str);
        self.world.world().random(name)
    }

    /// True once there is nothing more to find.
    fn is_over(&self) -> bool {
        self.plan.hasty && !self.checks.violations.is_empty()
    }

    /// Work comes and goes and everything fails now and then.
    async fn storm(&mut self) {
        let mut next = 0;
        while self.second < self.script.length && !self.is_over() {
            if self.second.is_multiple_of(GUST) {
                let all = self.script.disturbances.iter().enumerate();
                let blowing = all.filter(|(number, _found)| !self.plan.without.contains(number));
                let blowing = blowing.map(|(_number, found)| found);
                self.storm.set(script::rates(blowing, self.second));
            }
            while let Some(found) = self.script.disturbances.get(next)
                && found.second <= self.second
            {
                let deed = found.deed.clone();
                if !self.plan.without.contains(&next) {
                    self.perform(&deed, next);
                }
                next += 1;
            }
            self.recover(false);
            self.pass().await;
        }
        self.aims.clear();
        self.recover(true);
        self.storm.calm_down();
    }

    fn perform(&mut self, deed: &Deed, number: usize) {
        match deed {
            Deed::Work(order) => self.work(order),
            Deed::Wish(wish) => self.grant(*wish, &self.dice(number)),
            Deed::Strike(fault, None) => self.strike(*fault, None, &self.dice(number)),
            Deed::Strike(fault, Some(phase)) => self.wait(number, *fault, *phase),
            Deed::Gust(..) => {}
        }
    }

    async fn pass(&mut self) {
        self.look_after_server();
        self.take_off_startup_taints();
        self.places.fill(&self.world, &self.storm, self.second);
        let end = Instant::now() + SECOND;
        while Instant::now() < end {
            self.aim();
            let mut until = end;
            if !self.aims.is_empty() {
                until = end.min(Instant::now() + MOMENT);
            }
            // Between two seconds nothing may be wrong either, where a claim or a machine changes.
            if self.checks.happens(until).await {
                self.look();
            }
        }
        self.second += 1;
        self.look();
        self.checks.violations.extend(self.places.plans.take());
        let requests = self.storm.requests();
        self.busiest = self.busiest.max(requests);
        if requests > MOST_REQUESTS {
            let second = self.second;
            let violation =
                format!("the controllers asked {requests} times for something in second {second}");
            self.checks.violations.insert(violation);
        }
        watchdog::lives(self.second);
    }

    /// Whom what lasts meets, and what may not be.
    fn look(&mut self) {
        self.lasting.look(&self.world, &self.storm);
        self.checks.step(&self.world);
    }

    /// Nothing goes wrong any more: everything runs, then everything is deleted, and nothing is left.
    async fn quiet(&mut self) {
        let mut idle = quiet::Idle::default();
        for second in 0..PATIENCE {
            if self.is_over() {
                return;
            }
            self.pass().await;
            // Machines of a calm world may still be reclaimed; what counts is one moment of rest.
            let waiting = quiet::waiting(&self.world);
            let mismatches = quiet::mismatches(&self.world);
            let is_settled = waiting.is_empty() && mismatches.is_empty();
            let idle = idle.look(&self.world, is_settled, second);
            if let Some(violation) = idle.too_long {
                self.checks.violations.insert(violation);
                break;
            }
            if is_settled && idle.now == 0 {
                break;
            }
            if second + 1 == PATIENCE {
                let violation = format!(
                    "after {PATIENCE} quiet seconds wait {waiting:?}, and do not match {mismatches:?}"
                );
                self.checks.violations.insert(violation);
            }
        }
        for resource in [Resource::Deployment, Resource::Job] {
            let mut all = Vec::new();
            self.world
                .api
                .each(resource, |key, _object| all.push(key.clone()));
            for key in all {
                self.remove(&key);
            }
        }
        for second in 0..PATIENCE {
            if self.is_over() {
                return;
            }
            self.pass().await;
            let left = quiet::left(&self.world);
            if left.is_empty() && self.world.api.count(Resource::Pod) == 0 {
                break;
            }
            if second + 1 == PATIENCE {
                let pods = self.world.api.count(Resource::Pod);
                let violation = format!(
                    "{PATIENCE} seconds after the last work {left:?} and {pods} pods are left"
                );
                self.checks.violations.insert(violation);
            }
        }
    }

    /// Deletes what may be gone already, as a user.
    pub(crate) fn remove(&self, key: &Key) {
        let options = DeleteOptions::default();
        self.world.api.delete(USER, key, &options).ok();
    }

    /// The rest of the time: nothing comes back.
    async fn rest(&mut self) {
        let clean = self.checks.violations.is_empty();
        while self.second < self.plan.seconds && !self.is_over() {
            self.pass().await;
        }
        let left = quiet::left(&self.world);
        if clean && !left.is_empty() {
            let violation = format!("at the end of its time there are {left:?} again");
            self.checks.violations.insert(violation);
        }
    }

    async fn end(mut self) -> Report {
        self.places.stop().await;
        if self.checks.tally.nodes_bought > 0 && self.places.plans.seen() == 0 {
            let violation = "machines were bought, and none of the plans was looked at".to_owned();
            self.checks.violations.insert(violation);
        }
        self.world.end().await;
        let history = self.world.history.since(0);
        let leadership = self.checks.leadership.as_ref();
        Report {
            counts: self.storm.counts(),
            terms: leadership.map_or(0, Leadership::terms),
            pods: self.checks.tally.pods,
            nodes: self.checks.tally.nodes_bought,
            seconds: self.second,
            busiest: self.busiest,
            violations: self.checks.violations.into_iter().collect(),
            history: history.iter().map(Line::text).collect(),
            digest: self.world.history.digest(),
            disturbances: self.script.disturbances,
        }
    }
}
