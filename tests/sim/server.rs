//! What befalls the API server itself: it goes back to a backup, starts again with nothing to list, or has its
//! clock set. And the person who looks after it: whoever restores an API server reads what Tonnage holds back, and
//! allows it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tonnage::sim::api_server::{Backup, Cache, Key, Resource, Versions};
use tonnage::world::RandomStream;

use crate::acts::USER;
use crate::checks::IMPOSTOR;
use crate::kinds::Fault;
use crate::leadership::{Leadership, Renewals};
use crate::phases::Target;
use crate::trial::Trial;

/// How far the clock of the API server is off at most, seconds.
const CLOCK_OFF: u64 = 180;
/// How long a backup that is restored is old at most, seconds. Half of them are no older than the other: a restore
/// meets what is on its way only where the backup is of a moment ago.
const OLDEST: u64 = 300;
const YOUNG: u64 = 10;
/// How long lists have nothing at least, seconds, and how much longer at most: less than the minute after which an
/// empty list is believed.
const EMPTY: (u64, u64) = (5, 45);
/// How long the person looks before what Tonnage holds back is allowed, seconds.
const LOOKS: u64 = 120;
/// The annotation of a NodePool by which a person allows it.
const ACKNOWLEDGE: &str = "tonnage.dev/acknowledge-orphans";
/// What stands before the token in the message that says how.
const ALLOW: &str = "acknowledge-orphans=";

/// A backup that is to be restored.
#[derive(Debug)]
struct Planned {
    /// The second.
    at: u64,
    backup: Backup,
    /// The renewals of the lease that it has.
    renewals: Renewals,
}

/// The API server's misfortunes, and what the person knows.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// Backups that are to be restored, and when.
    backups: Vec<Planned>,
    /// When lists have something again.
    filled: Option<u64>,
    /// Somebody looks after it since it forgot something.
    is_looked_after: bool,
    /// When each token was first read.
    read: BTreeMap<String, u64>,
}

impl Trial {
    /// Something befalls the API server; false when that is not what the fault is.
    pub(crate) fn strike_server(&mut self, fault: Fault, dice: &RandomStream) -> bool {
        match fault {
            Fault::ServerRestored => {
                let most = if dice.below(2) == 0 { YOUNG } else { OLDEST };
                let at = self.second + 1 + dice.below(most);
                let leadership = self.checks.leadership.as_ref();
                self.server.backups.push(Planned {
                    at,
                    backup: self.world.api.backup(),
                    renewals: leadership.map(Leadership::renewals).unwrap_or_default(),
                });
            }
            Fault::EmptyLists if self.server.filled.is_none() => {
                self.storm.count(fault, Target::Everything);
                self.server.filled = Some(self.second + EMPTY.0 + dice.below(EMPTY.1));
                let cache = match dice.below(2) {
                    0 => Cache::Blank,
                    _ => Cache::BlankFor(Resource::NodeClaim),
                };
                self.world.api.start_again(cache);
                self.server.is_looked_after = true;
            }
            Fault::ServerClockJump => {
                let off = i64::try_from(1 + dice.below(CLOCK_OFF)).unwrap_or(0);
                let ahead = match dice.below(3) {
                    0 => 0,
                    1 => off,
                    _ => -off,
                };
                if self.set_server_clock(SignedDuration::from_secs(ahead)) {
                    self.storm.count(fault, Target::Everything);
                }
            }
            Fault::EmptyLists => {}
            _ => return false,
        }
        true
    }

    /// The clock of the API server is ahead by so much from now on; says whether it jumped.
    fn set_server_clock(&mut self, ahead: SignedDuration) -> bool {
        let jumps = !self.world.server_clock.set_ahead(ahead).is_zero();
        if jumps {
            let now = self.world.now();
            self.checks.aftermath.clock_set(ahead, now);
        }
        jumps
    }

    /// What was planned for this second is done. At the end of the storm the clock is set right and lists are
    /// filled; backups that were not restored by then are not.
    pub(crate) fn recover_server(&mut self, all: bool) {
        let second = self.second;
        if all {
            self.server.backups.clear();
            self.set_server_clock(SignedDuration::ZERO);
        }
        if self.server.filled.is_some_and(|at| all || at <= second) {
            self.server.filled = None;
            self.world.api.start_again(Cache::Filled);
        }
        let backups = std::mem::take(&mut self.server.backups);
        let (due, later): (Vec<_>, Vec<_>) = backups
            .into_iter()
            .partition(|planned| planned.at <= second);
        self.server.backups = later;
        for planned in due {
            self.restore(planned);
        }
    }

    fn restore(&mut self, planned: Planned) {
        self.world.api.restore(&planned.backup, Versions::Raised);
        self.checks.restored(&self.world, planned.renewals);
        self.server.is_looked_after = true;
        // Whom it meets is whom it leaves: the claims of the backup, as far as they had come then.
        self.storm.count(Fault::ServerRestored, Target::Everything);
        // Nodes that are not what they say may be back, and go as they would have gone.
        let mut back = Vec::new();
        self.world.api.each(Resource::Node, |key, _node| {
            if key.name.starts_with(IMPOSTOR) {
                back.push(key.name.clone());
            }
        });
        for name in back {
            self.impostors.entry(name).or_insert(self.second);
        }
    }

    /// Somebody who knows what happened reads what Tonnage holds back, looks, and allows it; what has become more
    /// meanwhile has another token, and is looked at anew.
    pub(crate) fn look_after_server(&mut self) {
        if !self.server.is_looked_after {
            return;
        }
        let mut told = Vec::new();
        self.world.api.each(Resource::NodePool, |key, pool| {
            if let Some(token) = token_in(pool) {
                let allowed = &pool["metadata"]["annotations"][ACKNOWLEDGE];
                told.push((key.clone(), token.to_owned(), *allowed == *token));
            }
        });
        for (pool, token, is_allowed) in told {
            let read = *self.server.read.entry(token.clone()).or_insert(self.second);
            if !is_allowed && self.second >= read + LOOKS {
                self.allow(&pool, &token);
            }
        }
    }

    fn allow(&self, pool: &Key, token: &str) {
        let change = |pool: &mut Value| {
            pool["metadata"]["annotations"][ACKNOWLEDGE] = json!(token);
        };
        // Somebody may have changed it at the same time: then it is done a second later.
        self.world.api.change(USER, pool, None, change).ok();
    }
}

/// The token with which a NodePool says that orphans may be collected.
fn token_in(pool: &Value) -> Option<&str> {
    let conditions = pool["status"]["conditions"].as_array()?;
    let held = conditions.iter().filter(|found| found["status"] == "True");
    let mut messages = held.filter_map(|found| found["message"].as_str());
    messages.find_map(|message| Some(message.rsplit_once(ALLOW)?.1))
}
