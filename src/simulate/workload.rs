//! What arrives: groups of equal pods, when, how many, and for how long each runs.

use std::fmt;
use std::sync::Arc;

use crate::model::pod::{DoNotDisrupt, Owner, PodSpec};

/// How long a pod runs once its containers have started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// At least and at most so many milliseconds; each pod draws its own.
    Between(u64, u64),
    /// Until the simulated time is over, as the pods of a service do.
    ToTheEnd,
}

/// Where a load is written, for whoever has to change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A workload of manifests.
    Workload {
        /// File, kind and name.
        place: Arc<str>,
        /// The field that says how many pods it makes.
        field: &'static str,
    },
    /// A line of a trace, counted from 1.
    Line(usize),
    /// A generator.
    Generator,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { place, field } => write!(formatter, "{place}: {field}"),
            Self::Line(number) => write!(formatter, "the trace, line {number}: count"),
            Self::Generator => formatter.write_str("the generated work: --scale"),
        }
    }
}

/// Equal pods that arrive together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Their names begin with it.
    pub name: String,
    /// What scheduling reads of each of them.
    pub spec: Arc<PodSpec>,
    /// Whoever makes a new pod when one is lost; nobody makes one for pods without an owner.
    pub owner: Option<Owner>,
    /// Whether they may be evicted before a spot machine is taken.
    pub do_not_disrupt: DoNotDisrupt,
    /// When they arrive: milliseconds from the beginning.
    pub at: i64,
    /// How many.
    pub count: u32,
    /// How many of them at a time, as a Job's `parallelism`: the next arrives when one has ended.
    /// Zero is all at once.
    pub parallel: u32,
    /// How long each runs.
    pub run: Run,
    /// Where it is written.
    pub origin: Origin,
}

impl Load {
    /// How many arrive at first.
    pub const fn first_wave(&self) -> u32 {
        if self.parallel == 0 || self.parallel > self.count {
            self.count
        } else {
            self.parallel
        }
    }
}
