//! What must hold: at every step, which is each second and each moment at which a claim is written or a machine is
//! launched or ends, and when it has been quiet for long enough.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tonnage::cloud::tags;
use tonnage::sim::Embedded;
use tonnage::sim::api_server::Resource;
use tonnage::sim::demo::Tally;
use tonnage::sim::history::Line;

use crate::acts::{Acts, field};
use crate::aftermath::Aftermath;
use crate::duplicates::{Bought, without_a_claim};
use crate::leadership::{Leadership, Renewals, sent};
use crate::limits::Limits;
use crate::phases::{self, Phase, text};
use crate::quiet::is_daemon;
use crate::trial::LIMITED;

/// The annotation of a pod that must not be disrupted.
pub(crate) const PROTECTED: &str = "karpenter.sh/do-not-disrupt";
/// Nodes that are not the machine that they say have names that begin so.
pub(crate) const IMPOSTOR: &str = "impostor-";
/// How long a machine may be without an owner while faults strike, pauses aside: two complete lists a minute apart,
/// with what the storm takes from them.
const OWNERLESS: SignedDuration = SignedDuration::from_mins(15);
/// How long a machine may still run whose claim says that it is being terminated.
const ENDING: SignedDuration = SignedDuration::from_mins(5);
/// The batch of machines that somebody else has started.
const STRAY: &str = "stray";

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) violations: BTreeSet<String>,
    pub(crate) tally: Tally,
    pub(crate) acts: Acts,
    pub(crate) aftermath: Aftermath,
    /// The highest limits that NodePool [`LIMITED`] ever had: nothing is taken down where they are lower again.
    pub(crate) limits: Limits,
    /// For how long NodePools were paused in all, which leaves machines without an owner alone.
    pub(crate) paused: SignedDuration,
    lines: UnboundedReceiver<Line>,
    /// What happened since the last step.
    news: Vec<Line>,
    /// Where controllers need a lease.
    pub(crate) leadership: Option<Leadership>,
    /// Claims that were ever seen with a batch.
    batches: BTreeMap<String, BTreeSet<String>>,
    /// Claims that went together with their machines.
    ended: BTreeSet<String>,
    ownerless: BTreeMap<String, Timestamp>,
    /// Claims of the last step.
    before: Vec<Claim>,
    /// Machines that run although their claims say that they are being terminated, since when.
    undead: BTreeMap<String, Timestamp>,
}

/// A claim as the checks see it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    name: String,
    uid: String,
    phase: Phase,
    node: String,
    pool: String,
    pub(crate) provider_id: String,
    instance_type: String,
    batch: String,
    deleting: bool,
}

/// True for a claim that has just been made and whose machine runs already: it had lost its own claim, as after a
/// restore, and nothing is bought for this one.
fn is_taken_back(world: &Embedded, claim: &Claim) -> bool {
    let now = world.now();
    let machines = world.ec2.alive();
    let mut shown = machines.iter().filter_map(|machine| machine.shown(now));
    shown.any(|instance| {
        claim.name.ends_with(instance.id.trim_start_matches("i-"))
            || instance.tags.get(tags::CLAIM) == Some(&claim.name)
    })
}

impl Claim {
    /// The type of its machine, empty before it has one.
    fn kind(&self) -> &str {
        &self.instance_type
    }
}

pub(crate) fn claims(world: &Embedded) -> Vec<Claim> {
    let mut claims = Vec::new();
    world.api.each(Resource::NodeClaim, |_key, claim| {
        let text = |pointer: &str| text(claim, pointer).to_owned();
        claims.push(Claim {
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            phase: Phase::of(claim),
            node: text("/status/nodeName"),
            pool: text("/metadata/labels/karpenter.sh~1nodepool"),
            provider_id: text("/status/providerID"),
            instance_type: text("/metadata/labels/node.kubernetes.io~1instance-type"),
            batch: phases::batch_of(claim).to_owned(),
            deleting: claim["metadata"]["deletionTimestamp"].is_string(),
        });
    });
    claims
}

impl Checks {
    /// Nothing seen yet of a world with these limits.
    pub(crate) fn watch(world: &Embedded, limits: Limits) -> Self {
        Self {
            violations: BTreeSet::new(),
            tally: Tally::default(),
            acts: Acts::default(),
            aftermath: Aftermath::default(),
            limits,
            paused: SignedDuration::ZERO,
            lines: world.history.listen(),
            news: Vec::new(),
            leadership: None,
            batches: BTreeMap::new(),
            ended: BTreeSet::new(),
            ownerless: BTreeMap::new(),
            before: Vec::new(),
            undead: BTreeMap::new(),
        }
    }

    fn violated(&mut self, what: String) {
        self.violations.insert(what);
    }

    /// Waits until something happens that a step must see at once; false when nothing did until then. Two changes
    /// within one moment of virtual time may be seen together, as time does not pass between them.
    pub(crate) async fn happens(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                biased;
                Some(line) = self.lines.recv() => {
                    let is_to_be_seen = changes_claims_or_machines(&line);
                    self.news.push(line);
                    if is_to_be_seen {
                        return true;
                    }
                }
                () = tokio::time::sleep_until(until) => return false,
            }
        }
    }

    /// Looks at everything once.
    pub(crate) fn step(&mut self, world: &Embedded) {
        self.tally.read(&world.history);
        let now = world.now();
        self.acts.reasons.look(world);
        let mut news = std::mem::take(&mut self.news);
        while let Ok(line) = self.lines.try_recv() {
            news.push(line);
        }
        for line in news {
            if let Some(leadership) = &mut self.leadership {
                leadership.take(&line, &mut self.violations);
            }
            let aftermath = &self.aftermath;
            self.violations
                .extend(self.acts.take(world, aftermath, &line));
        }
        let claims = claims(world);
        for claim in &claims {
            if !self.before.iter().any(|old| old.uid == claim.uid) {
                self.aftermath.made(&claim.uid, now);
                if is_taken_back(world, claim) {
                    self.aftermath.taken_back(&claim.uid);
                }
            }
        }
        for claim in claims.iter().filter(|claim| !claim.batch.is_empty()) {
            self.batches
                .entry(claim.batch.clone())
                .or_default()
                .insert(claim.uid.clone());
        }
        self.ended_with_machines(&claims);
        self.within_limits(&claims, now);
        self.machines(world, &claims);
        self.held(world, &claims);
        self.undead(world, &claims);
        self.bindings(world, &claims);
        self.lost_work(world);
        self.before = claims;
    }

    /// The API server has gone back to a backup: what was there before says nothing of what may be there now.
    pub(crate) fn restored(&mut self, world: &Embedded, renewals: Renewals) {
        self.aftermath.restored(world.now());
        self.acts.restored(world);
        if let Some(leadership) = &mut self.leadership {
            leadership.restored(world.now(), renewals);
        }
        self.before = claims(world);
    }

    /// A claim that has gone with its machine has none any more, unless a restore brings it back. One that has gone
    /// without ever naming a machine may still have one, which then is without an owner.
    fn ended_with_machines(&mut self, claims: &[Claim]) {
        let is_there = |uid: &str| claims.iter().any(|claim| claim.uid == uid);
        let named = self.before.iter().filter(|old| !old.provider_id.is_empty());
        let gone = named.filter(|old| !is_there(&old.uid));
        self.ended.extend(gone.map(|old| old.uid.clone()));
        self.ended.retain(|uid| !is_there(uid));
    }

    /// A claim stays as long as its machine.
    fn held(&mut self, world: &Embedded, claims: &[Claim]) {
        let now = world.now();
        let gone: Vec<String> = self
            .before
            .iter()
            .filter(|old| !old.provider_id.is_empty())
            .filter(|old| !claims.iter().any(|claim| claim.uid == old.uid))
            .filter(|old| {
                let machine = world.ec2.machine(instance_of(&old.provider_id));
                machine.is_some_and(|machine| machine.is_alive(now))
            })
            .map(|old| format!("NodeClaim {} is gone, {} runs", old.name, old.provider_id))
            .collect();
        self.violations.extend(gone);
    }

    /// A machine that was terminated, as its claim has it, ends.
    fn undead(&mut self, world: &Embedded, claims: &[Claim]) {
        let now = world.now();
        let undead: BTreeSet<String> = claims
            .iter()
            .filter(|claim| claim.phase == Phase::Ending)
            .map(|claim| instance_of(&claim.provider_id).to_owned())
            .filter(|id| {
                let machine = world.ec2.machine(id);
                machine.is_some_and(|machine| machine.is_alive(now))
            })
            .collect();
        self.undead.retain(|id, _since| undead.contains(id));
        for id in undead {
            let since = *self.undead.entry(id.clone()).or_insert(now);
            if now.duration_since(since) > ENDING {
                self.violated(format!(
                    "machine {id} runs, and was terminated at {since} as its claim has it"
                ));
            }
        }
    }

    /// No Node is bound to a claim whose machine it is not.
    fn bindings(&mut self, world: &Embedded, claims: &[Claim]) {
        for claim in claims
            .iter()
            .filter(|claim| claim.node.starts_with(IMPOSTOR))
        {
            self.violated(format!(
                "NodeClaim {} took the impostor {} for its Node",
                claim.name, claim.node
            ));
        }
        let mut bound = Vec::new();
        world.api.each(Resource::Node, |key, node| {
            let label = &node["metadata"]["labels"]["karpenter.sh/registered"];
            if key.name.starts_with(IMPOSTOR) && label.is_string() {
                bound.push(format!("the impostor {} was registered", key.name));
            }
        });
        self.violations.extend(bound);
    }

    /// The NodePool with limits has no more than it may.
    fn within_limits(&mut self, claims: &[Claim], now: Timestamp) {
        let all = || {
            let of_pool = claims.iter().filter(|claim| claim.pool == LIMITED);
            of_pool.filter(|claim| !claim.deleting)
        };
        let counted = all().filter(|claim| !self.aftermath.is_late(&claim.uid));
        let exceeded = self.limits.exceeded(counted.map(Claim::kind));
        for what in exceeded {
            self.violated(format!("NodePool {LIMITED} has {what}"));
        }
        let are_known = all().all(|claim| !claim.instance_type.is_empty());
        if are_known && self.limits.exceeded(all().map(Claim::kind)).is_empty() {
            self.aftermath.fit(all().map(|claim| &*claim.uid), now);
        }
    }

    /// No claim has two machines, and no machine is without a claim for long.
    fn machines(&mut self, world: &Embedded, claims: &[Claim]) {
        let now = world.now();
        let mut bought = Vec::new();
        let mut ownerless = BTreeSet::new();
        for machine in world.ec2.alive() {
            let Some(shown) = machine.shown(now) else {
                continue;
            };
            let batch = shown.tags.get(tags::BATCH).cloned().unwrap_or_default();
            let id = shown.provider_id();
            let named = claims.iter().filter(|claim| claim.provider_id == id);
            let mut waiting = claims.iter().filter(|claim| claim.provider_id.is_empty());
            if named.clone().next().is_none() && !waiting.any(|claim| claim.batch == batch) {
                ownerless.insert(shown.id.clone());
            }
            if batch != STRAY {
                let of_batch = self.batches.get(&batch).into_iter().flatten();
                let of_batch = of_batch.filter(|uid| !self.ended.contains(*uid));
                let claims = named.map(|claim| &claim.uid).chain(of_batch);
                bought.push(Bought {
                    id: shown.id,
                    claims: claims.map(String::as_str).collect(),
                });
            }
        }
        let left_over = without_a_claim(&bought);
        let told = left_over.map(|id| format!("machine {id} has no claim of its own"));
        self.violations.extend(told);
        self.ownerless.retain(|id, _since| ownerless.contains(id));
        for id in ownerless {
            let since = *self.ownerless.entry(id.clone()).or_insert(now);
            if now.duration_since(since) > OWNERLESS + self.paused {
                self.violated(format!("machine {id} has had no owner since {since}"));
            }
        }
    }

    /// Nothing runs on a machine that Tonnage terminates, unless EC2 is about to take it anyway.
    fn lost_work(&mut self, world: &Embedded) {
        let now = world.now();
        let terminated =
            self.tally.latest.iter().filter(|line| {
                line.event == "InstanceEnds" && field(line, "cause") == "terminated"
            });
        // A restore may have put pods there while the termination was on its way, for however long that was.
        let terminated =
            terminated.filter(|line| sent(line).is_none_or(|sent| !self.aftermath.is_fresh(sent)));
        let fresh: Vec<(String, String)> = terminated
            .filter_map(|line| world.ec2.machine(field(line, "instance"))?.shown(now))
            .map(|shown| (shown.id, shown.private_dns_name))
            .collect();
        for (id, node) in fresh {
            let deadline = self.acts.reasons.deadline(&node);
            if deadline.is_some_and(|deadline| now >= self.aftermath.earliest(deadline, now)) {
                continue;
            }
            let mut lost = Vec::new();
            world.api.each(Resource::Pod, |key, pod| {
                let runs = pod["status"]["phase"] == "Running"
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["spec"]["nodeName"] == node.as_str();
                // Those of DaemonSets are there for their Node alone.
                if runs && !is_daemon(pod) {
                    lost.push(key.to_string());
                }
            });
            if !lost.is_empty() {
                self.violated(format!(
                    "machine {id} was terminated under {}",
                    lost.join(", ")
                ));
            }
        }
    }
}

/// True for what may break a limit, leave a machine or a claim alone, or give a claim two machines.
fn changes_claims_or_machines(line: &Line) -> bool {
    match line.event {
        "InstanceLaunched" | "InstanceEnds" => true,
        "Write" => field(line, "object").starts_with("nodeclaims/"),
        _ => false,
    }
}

/// The id of the machine with a provider id.
pub(crate) fn instance_of(provider_id: &str) -> &str {
    provider_id.rsplit('/').next().unwrap_or_default()
}
