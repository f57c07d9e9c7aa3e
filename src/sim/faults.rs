//! What can go wrong on the way to the API server, and in EC2.
//!
//! Given a request or a call and what it is about; given back how long it travels and what happens to it. The calm
//! world answers everything after a moment; the simulation tests bring their own.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::api_server::{Refusal, Resource};

/// What happens to a request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFault {
    /// It never arrives.
    Lost,
    /// It takes effect, and the answer never arrives.
    AnswerLost,
    /// The server refuses it without looking.
    Refused(Refusal),
}

/// The way of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// Time to the server.
    pub there: Duration,
    /// Time back.
    pub back: Duration,
    /// For watches: how late each event is.
    pub lag: Duration,
    /// What goes wrong.
    pub fault: Option<RequestFault>,
}

/// What happens to a call to EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallFault {
    /// It never arrives.
    Lost,
    /// It takes effect, and the answer never arrives.
    AnswerLost,
    /// It arrives so long after it was sent, and takes effect then, whether or not anybody waits for it still.
    Late(Duration),
    /// Too many calls.
    Throttled,
    /// A fault of EC2.
    Internal,
    /// The caller may not do it: it has no effect.
    Denied,
    /// Nobody knows the caller's key: it has no effect.
    WrongKey,
    /// A launch gets at most so many instances.
    Short(usize),
}

/// What a call to EC2 is about, as far as who makes it says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum About {
    /// No claim's own.
    #[default]
    Nobody,
    /// The claim of a name, for which something is prepared.
    Claim(String),
    /// The launch of a batch.
    Launch(String),
    /// Machines, by id.
    Machines(Vec<String>),
    /// Every machine of the cluster.
    AllMachines,
}

/// The source of faults.
pub trait Faults: Send + Sync + fmt::Debug {
    /// The way of a request of a process.
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey;

    /// How long a call to EC2 takes, and what goes wrong with it.
    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>);

    /// Until which moment, that is still to come, the watches of a process tell it nothing: then all that they have
    /// held back comes at once. `None` while they tell.
    fn deaf_until(&self, _who: &str) -> Option<Instant> {
        None
    }

    /// A slow watch has told of a change of a kind, as a line of JSON, later than it happened.
    fn told_late(&self, _resource: Resource, _line: &[u8]) {}
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calm;

impl Faults for Calm {
    fn request(&self, _who: &str, _method: &http::Method, _path: &str) -> Journey {
        Journey {
            there: Duration::from_millis(1),
            back: Duration::from_millis(1),
            lag: Duration::ZERO,
            fault: None,
        }
    }

    fn call(&self, _who: &str, operation: &str, _about: &About) -> (Duration, Option<CallFault>) {
        let milliseconds = match operation {
            "CreateFleet" => 700,
            "TerminateInstances" => 250,
            _ => 60,
        };
        (Duration::from_millis(milliseconds), None)
    }
}
