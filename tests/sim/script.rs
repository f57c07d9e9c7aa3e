//! What is done to a world and when, drawn before it begins: each disturbance has a number, and any of
//! them can be left out without another one being drawn differently.

use std::collections::BTreeMap;
use std::fmt;

use tonnage::world::{RandomStream, World};

use crate::kinds::Fault;
use crate::phases::Phase;
use crate::shapes::{Shape, one_of, weighted};
use crate::trial::HOUR;
use crate::wishes::Wish;

/// How long one gust of a kind lasts, seconds.
pub(crate) const GUST: u64 = 300;

/// Something that is done to the world.
#[derive(Debug, Clone)]
pub(crate) struct Disturbance {
    /// When, in seconds from the beginning.
    pub(crate) second: u64,
    pub(crate) deed: Deed,
}

#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// A user submits or removes work.
    Work(Order),
    /// A user does something else.
    Wish(Wish),
    /// Something goes wrong once: at once, or as soon as there is a claim in a phase.
    Strike(Fault, Option<Phase>),
    /// For [`GUST`] seconds so many of 1000 requests or calls go wrong.
    Gust(Fault, u64),
}

/// What a user does.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The number of the workload, which is its name.
    pub(crate) number: u64,
    pub(crate) what: What,
    pub(crate) shape: Shape,
    /// For the NodePool with a limit.
    pub(crate) limited: bool,
    /// With a disruption budget.
    pub(crate) budget: bool,
    /// Its pods must not be disrupted.
    pub(crate) protected: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// A Job whose pods run so many seconds.
    Job(u32),
    /// A Deployment.
    Service,
    /// The end of an earlier Deployment or Job, if it is still there.
    End(u64),
}

/// Everything that is done to one world.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// How long the storm lasts, seconds.
    pub(crate) length: u64,
    /// In the order in which they are done.
    pub(crate) disturbances: Vec<Disturbance>,
    /// What the dice of each of them are called.
    pub(crate) dice: Vec<String>,
}

/// The most of 1000 that a kind gets in a gust.
const GUSTS: [(Fault, u64); 14] = [
    (Fault::RequestLost, 30),
    (Fault::AnswerLost, 30),
    (Fault::ServerError, 40),
    (Fault::Conflict, 40),
    (Fault::Throttled, 20),
    (Fault::SlowWatch, 500),
    (Fault::CallLost, 30),
    (Fault::CallAnswerLost, 150),
    (Fault::CallThrottled, 60),
    (Fault::CallFailed, 40),
    (Fault::CallDenied, 40),
    (Fault::LaunchShort, 300),
    (Fault::RequestLate, 30),
    (Fault::CallLate, 60),
];

/// Kinds that strike calls to EC2 of any kind.
const CALLS: [Fault; 6] = [
    Fault::CallLost,
    Fault::CallAnswerLost,
    Fault::CallThrottled,
    Fault::CallFailed,
    Fault::CallDenied,
    Fault::CallLate,
];

/// Kinds that strike once, and how often one is drawn against the others.
const STRIKES: [(Fault, u64); 13] = [
    (Fault::ControllerCrash, 8),
    (Fault::WatchCut, 8),
    (Fault::Compaction, 5),
    (Fault::ClockJump, 4),
    (Fault::MachineFailure, 6),
    (Fault::SpotReclaim, 6),
    (Fault::MachineNeverJoins, 2),
    (Fault::MachinesShownLate, 3),
    (Fault::StrayMachine, 1),
    (Fault::ImpostorNode, 3),
    (Fault::PoolDry, 8),
    (Fault::ShortageStorm, 2),
    (Fault::WatchSilent, 3),
];

/// Kinds that need a lease.
const WANDERING: [Fault; 5] = [
    Fault::LeaderCutOff,
    Fault::ControllerStop,
    Fault::LeaseStolen,
    Fault::LeaseDeleted,
    Fault::LeaseSetBack,
];

/// What befalls the API server itself.
const OF_SERVER: [Fault; 3] = [
    Fault::ServerRestored,
    Fault::EmptyLists,
    Fault::ServerClockJump,
];
/// It befalls one world in so many: after a restore more is forgiven, and a person has to help.
const ONE_IN: u64 = 3;

impl Script {
    /// The script of a world of so many seconds; `elect` says whether its controllers need a lease.
    pub(crate) fn draw(world: &World, seconds: u64, elect: bool) -> Self {
        let length = (2_100 + world.random("script/length").below(900)) * seconds / HOUR;
        let shapes = world.random("script/shapes");
        let mut disturbances = works(&world.random("script/works"), &shapes, length);
        disturbances.extend(gusts(&world.random("script/gusts"), length));
        disturbances.extend(strikes(&world.random("script/strikes"), length));
        if elect {
            disturbances.extend(wandering(&world.random("script/lease"), length));
        }
        disturbances.sort_by_key(|disturbance| disturbance.second);
        // Each has dice of its own, and those of the others are what they would be without these.
        let mut all = named("disturbance", disturbances);
        let of_server = of_server(&world.random("script/server"), length);
        all.extend(named("server", of_server));
        let aimed = aimed(&world.random("script/aimed"), length);
        all.extend(named("aimed", aimed));
        let wishes = Wish::draw(&world.random("script/wishes"), length).into_iter();
        let wished = |(second, wish)| Disturbance {
            second,
            deed: Deed::Wish(wish),
        };
        all.extend(named("wish", wishes.map(wished).collect()));
        all.sort_by_key(|(disturbance, _dice)| disturbance.second);
        let (disturbances, dice) = all.into_iter().unzip();
        Self {
            length,
            disturbances,
            dice,
        }
    }
}

/// Disturbances, and what their dice are called.
fn named(kind: &str, disturbances: Vec<Disturbance>) -> Vec<(Disturbance, String)> {
    let dice = (0_usize..).map(|number| format!("{kind}/{number}"));
    disturbances.into_iter().zip(dice).collect()
}

fn of_server(dice: &RandomStream, length: u64) -> Vec<Disturbance> {
    let mut strikes = Vec::new();
    if dice.below(ONE_IN) > 0 {
        return strikes;
    }
    let mut second = 60 + dice.below(240);
    while second < length {
        strikes.extend(one_of(&OF_SERVER, dice).map(|fault| Disturbance {
            second,
            deed: Deed::Strike(*fault, aim(dice, *fault)),
        }));
        second += 60 + dice.below(540);
    }
    strikes
}

fn works(dice: &RandomStream, shapes: &RandomStream, length: u64) -> Vec<Disturbance> {
    let mut works = Vec::new();
    let mut second = dice.below(20);
    while second < length {
        let number = works.len() as u64;
        let small = |bound| u32::try_from(dice.below(bound)).unwrap_or(0);
        let limited = dice.below(4) == 0;
        let what = match dice.below(5) {
            // A service that fills the limit for ever would leave other pods without a place for ever.
            0 if !limited => What::Service,
            1 if number > 0 => What::End(dice.below(number)),
            // Two machines must get through all of their jobs within the patience at the end.
            _ if limited => What::Job(20 + small(600) / 3),
            _ => What::Job(20 + small(600)),
        };
        let order = Order {
            number,
            what,
            shape: Shape::draw(limited, shapes),
            limited,
            budget: dice.below(4) == 0,
            protected: dice.below(8) == 0,
        };
        works.push(Disturbance {
            second,
            deed: Deed::Work(order),
        });
        second += 30 + dice.below(80);
    }
    works
}

/// Each kind blows in two of three worlds, in each gust as strong as the dice have it.
fn gusts(dice: &RandomStream, length: u64) -> Vec<Disturbance> {
    let mut gusts = Vec::new();
    for (fault, most) in GUSTS {
        let blows = dice.below(3) > 0;
        for start in (0..length).step_by(usize::try_from(GUST).unwrap_or(1)) {
            let rate = dice.below(most + 1);
            if blows && rate > 0 {
                gusts.push(Disturbance {
                    second: start,
                    deed: Deed::Gust(fault, rate),
                });
            }
        }
    }
    gusts
}

fn strikes(dice: &RandomStream, length: u64) -> Vec<Disturbance> {
    let mut strikes = Vec::new();
    let mut second = dice.below(60);
    while second < length {
        strikes.extend(weighted(&STRIKES, dice).map(|fault| Disturbance {
            second,
            deed: Deed::Strike(fault, aim(dice, fault)),
        }));
        second += 1 + dice.below(60);
    }
    strikes
}

/// Whether a kind strikes by chance, request by request and call by call.
pub(crate) fn is_gust(fault: Fault) -> bool {
    GUSTS.iter().any(|(kind, _most)| *kind == fault)
}

/// Single requests and calls that go wrong for a claim in a phase. What is called for one that is only planned, a launch
/// template, is there for all that come later: so one kind of call is aimed at it from the beginning.
fn aimed(dice: &RandomStream, length: u64) -> Vec<Disturbance> {
    let at = |second, fault, phase| Disturbance {
        second,
        deed: Deed::Strike(fault, Some(phase)),
    };
    let first = one_of(&CALLS, dice).map(|fault| at(0, *fault, Phase::Planned));
    let mut aimed: Vec<Disturbance> = first.into_iter().collect();
    let kinds: Vec<Fault> = GUSTS.iter().map(|(fault, _most)| *fault).collect();
    let mut second = dice.below(120);
    while second < length {
        if let Some(fault) = one_of(&kinds, dice)
            && let Some(phase) = aim(dice, *fault)
        {
            aimed.push(at(second, *fault, phase));
        }
        second += 1 + dice.below(120);
    }
    aimed
}

/// Half of what strikes waits for a claim in some phase: most phases are over in a moment, and would hardly
/// ever be met.
fn aim(dice: &RandomStream, fault: Fault) -> Option<Phase> {
    let index = usize::try_from(dice.below(2 * Phase::ALL.len() as u64)).unwrap_or(0);
    let phase = Phase::ALL.get(index).copied();
    phase.filter(|phase| fault.can_meet(*phase))
}

fn wandering(dice: &RandomStream, length: u64) -> Vec<Disturbance> {
    let mut wandering = Vec::new();
    let mut second = dice.below(120);
    while second < length {
        let index = usize::try_from(dice.below(7)).unwrap_or(0);
        // The first two need no accident of the lease, and happen more often.
        let fault = WANDERING.get(index).or_else(|| WANDERING.get(index % 2));
        wandering.extend(fault.map(|fault| Disturbance {
            second,
            deed: Deed::Strike(*fault, aim(dice, *fault)),
        }));
        second += 1 + dice.below(120);
    }
    wandering
}

/// The rates that the gusts of a moment come to.
pub(crate) fn rates<'script>(
    disturbances: impl Iterator<Item = &'script Disturbance>,
    second: u64,
) -> BTreeMap<Fault, u64> {
    disturbances
        .filter(|found| found.second <= second && second < found.second + GUST)
        .filter_map(|found| match found.deed {
            Deed::Gust(fault, rate) => Some((fault, rate)),
            _ => None,
        })
        .collect()
}

impl fmt::Display for Disturbance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "second {}: ", self.second)?;
        match &self.deed {
            Deed::Work(order) => order.fmt(formatter),
            Deed::Wish(wish) => formatter.write_str(wish.deed()),
            Deed::Strike(fault, None) => formatter.write_str(fault.name()),
            Deed::Strike(fault, Some(phase)) => {
                write!(
                    formatter,
                    "{}, when a claim is {}",
                    fault.name(),
                    phase.name()
                )
            }
            Deed::Gust(fault, rate) => {
                write!(formatter, "{}, {rate} of 1000 for {GUST} s", fault.name())
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::End(number) => return write!(formatter, "work-{number} is deleted"),
            What::Job(seconds) => write!(
                formatter,
                "Job work-{} for {seconds} s of {}",
                self.number, self.shape
            )?,
            What::Service => {
                write!(
                    formatter,
                    "Deployment work-{} of {}",
                    self.number, self.shape
                )?;
            }
        }
        for (is, word) in [
            (self.limited, "limited"),
            (self.budget, "with a budget"),
            (self.protected, "protected"),
        ] {
            if is {
                write!(formatter, ", {word}")?;
            }
        }
        Ok(())
    }
}
