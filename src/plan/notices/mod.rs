//! What to do about EC2's announcements.
//!
//! Given a snapshot and notices, [`decide`] gives back what follows for the claims that own the
//! machines: a machine that is taken away in two minutes is drained with that as its deadline, so
//! that its pods end by themselves and their successors are planned at once; maintenance in the
//! future is written down and acted on when it comes near, so that running jobs are not ended weeks
//! too early; a change that what runs on the machine outlives, or whose time is not known, is told of; the claims in a
//! capacity block that expires are drained as they are where its end was known before; a recommendation only keeps
//! Tonnage from buying more of the same. Notices about machines that no claim owns are nobody's business, but while claims
//! wait for their machines a young one is not decided. Nothing is written here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::decision::Decision;
use super::launch::{offering_of, reservation_of};
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::notice::{LeftAlone, Notice, NoticeKind};
use crate::model::offering::OfferingKey;
use crate::model::reservation::BlockEnd;
use crate::model::snapshot::Snapshot;

/// How long after an interruption notice pods may run. Source: "Spot Instance interruption notices"
/// in the EC2 user guide gives two minutes; the last ten seconds are for ending the machine itself.
pub const INTERRUPTION_GRACE: SignedDuration = SignedDuration::from_secs(110);
/// How long before announced maintenance a node is drained.
pub const BEFORE_MAINTENANCE: SignedDuration = SignedDuration::from_mins(60);

/// How much earlier than its end has it a capacity block may be said to expire: two clocks are compared. What says so
/// earlier than that contradicts itself, and a block that is paid for is not left for it.
const EXPIRES_EARLIER: SignedDuration = SignedDuration::from_mins(5);

/// How old a notice may be whose machine may be one that was launched a moment ago: a claim learns of its machine in
/// seconds, or when EC2 shows the machine after an answer was lost, which takes three minutes at most.
const WRITTEN_WITHIN: SignedDuration = SignedDuration::from_mins(4);

/// What follows from a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeStep {
    /// Write the drain's deadline onto the claim, then delete it.
    End {
        /// The claim.
        claim: Arc<Claim>,
        /// When pods go whatever protects them; `None` leaves the claim's own deadline.
        deadline: Option<Timestamp>,
        /// The event's reason.
        reason: &'static str,
        /// The event's message.
        message: String,
    },
    /// Write onto the claim when its machine's maintenance begins.
    Schedule {
        /// The claim.
        claim: Arc<Claim>,
        /// When it begins; `None` when it will not.
        begins: Option<Timestamp>,
        /// The event's message.
        message: String,
    },
    /// Only tell.
    Tell {
        /// The claim.
        claim: Arc<Claim>,
        /// The event's reason.
        reason: &'static str,
        /// The event's message.
        message: String,
    },
}

impl NoticeStep {
    /// What may not run twice at the same time.
    pub fn key(&self) -> String {
        let (Self::End { claim, .. } | Self::Schedule { claim, .. } | Self::Tell { claim, .. }) =
            self;
        format!("claim/{}", claim.name)
    }
}

/// What follows from some notices.
#[derive(Debug, Default)]
pub struct Heeded {
    /// Steps, machines to look at, and when to look again.
    pub decision: Decision<NoticeStep>,
    /// Offerings that are better not bought for a while.
    pub scarce: Vec<OfferingKey>,
    /// Machines that EC2 takes back: what each was bought as, and its id.
    pub taken: Vec<(OfferingKey, String)>,
    /// Machines that EC2 advises to leave.
    pub advised: Vec<(OfferingKey, String)>,
    /// Notices about machines that no claim owns, and about blocks that none is in.
    pub unowned: usize,
    /// Those of them that a claim may turn out to own whose machine is not written down yet.
    pub undecided: usize,
}

/// Decides about notices.
pub fn decide(snapshot: &Snapshot, notices: &[Notice]) -> Heeded {
    let owners: BTreeMap<&str, &Arc<Claim>> = snapshot
        .claims
        .values()
        .filter_map(|claim| Some((claim.instance_id()?, claim)))
        .collect();
    let mut claims = snapshot.claims.values();
    let are_launching = claims.any(|claim| claim.provider_id.is_empty());
    let mut heeded = Heeded::default();
    for notice in notices {
        if let NoticeKind::CapacityBlockExpiring { end } = notice.kind {
            heeded.expiring(snapshot, &notice.subject, end);
            continue;
        }
        if let Some(claim) = owners.get(notice.subject.as_str()) {
            heeded.heed(snapshot.now, claim, notice);
            continue;
        }
        heeded.unowned += 1;
        let is_young = snapshot.now.duration_since(notice.at).abs() < WRITTEN_WITHIN;
        heeded.undecided += usize::from(are_launching && is_young);
    }
    heeded
}

/// Ends the claims whose machines' maintenance is near, or whose capacity blocks expire.
pub fn due(snapshot: &Snapshot) -> Decision<NoticeStep> {
    let mut decision = Decision::default();
    for claim in snapshot.claims.values() {
        if claim.deleting_since.is_none() {
            expiring(snapshot, claim, &mut decision);
        }
        let begins = claim
            .annotations
            .get(labels::MAINTENANCE)
            .and_then(|text| text.parse::<Timestamp>().ok());
        let Some(begins) = begins.filter(|_begins| claim.deleting_since.is_none()) else {
            continue;
        };
        let from = drained_from(begins);
        if snapshot.now < from {
            decision.wake_at(from);
        } else {
            decision.push(maintenance(claim, begins));
        }
    }
    decision
}

/// EC2 ends the machines of a capacity block before its end: their pods are moved before that.
fn expiring(snapshot: &Snapshot, claim: &Arc<Claim>, decision: &mut Decision<NoticeStep>) {
    let Some(id) = reservation_of(claim) else {
        return;
    };
    let class = snapshot.node_classes.get(&claim.node_class);
    let mut selected = class.into_iter().flat_map(|class| &class.reservations);
    // A class that selects it no more, or may not read it, knows nothing: then what was known counts.
    let block = match selected.find(|found| found.id == id) {
        Some(known) => known.block_end(),
        None => written_end(claim),
    };
    let Some(block) = block else {
        return;
    };
    let from = block.expires_at();
    if snapshot.now < from {
        decision.wake_at(from);
        return;
    }
    decision.push(leave_block(claim, id, block));
}

/// Moves the pods of a claim out of a capacity block before EC2 ends its machines.
fn leave_block(claim: &Arc<Claim>, id: &str, block: BlockEnd) -> NoticeStep {
    let end = block.machines_end_at();
    NoticeStep::End {
        claim: Arc::clone(claim),
        deadline: Some(end),
        reason: "CapacityBlockExpiring",
        message: format!(
            "capacity block {id} expires: EC2 ends its machines from {end} on; their pods are moved before"
        ),
    }
}

/// When the capacity block of a claim ends, as its claim has it.
fn written_end(claim: &Claim) -> Option<BlockEnd> {
    let text = claim.annotations.get(labels::CAPACITY_BLOCK_END)?;
    text.parse().ok().map(BlockEnd)
}

/// When the drain before maintenance begins.
fn drained_from(begins: Timestamp) -> Timestamp {
    begins
        .saturating_sub(BEFORE_MAINTENANCE)
        .unwrap_or(Timestamp::MIN)
}

fn maintenance(claim: &Arc<Claim>, begins: Timestamp) -> NoticeStep {
    NoticeStep::End {
        claim: Arc::clone(claim),
        deadline: Some(begins),
        reason: "ScheduledChange",
        message: format!(
            "EC2 stops, restarts or retires the machine at {begins}; its pods are moved before"
        ),
    }
}

impl Heeded {
    fn heed(&mut self, now: Timestamp, claim: &Arc<Claim>, notice: &Notice) {
        match &notice.kind {
            NoticeKind::SpotInterruption => self.taken(claim, notice, "SpotInterrupted"),
            NoticeKind::ReservationInterruption => {
                self.taken(claim, notice, "CapacityReservationInstanceInterrupted");
            }
            // It is about many claims, and was heeded for all of them.
            NoticeKind::CapacityBlockExpiring { .. } => {}
            NoticeKind::RebalanceRecommendation => {
                let offering = offering_of(claim);
                self.advised
                    .extend(offering.clone().map(|key| (key, notice.subject.clone())));
                self.scarce.extend(offering);
                self.decision.push(NoticeStep::Tell {
                    claim: Arc::clone(claim),
                    reason: "SpotRebalanceRecommendation",
                    message: "EC2 may soon take the spot machine back; no more of its kind are \
                              bought for a while, and its pods are left alone"
                        .to_owned(),
                });
            }
            NoticeKind::ScheduledChange { begins } => self.scheduled(now, claim, *begins),
            NoticeKind::ScheduledChangeLeftAlone { code, why } => {
                self.left_alone(claim, code, *why);
            }
            NoticeKind::MaintenanceOver => self.over(claim),
            NoticeKind::StateChange => {
                self.decision.look_at.insert(notice.subject.clone());
            }
        }
    }

    /// The machine is taken away two minutes after the notice.
    fn taken(&mut self, claim: &Arc<Claim>, notice: &Notice, reason: &'static str) {
        let offering = offering_of(claim);
        self.taken
            .extend(offering.clone().map(|key| (key, notice.subject.clone())));
        self.scarce.extend(offering);
        let deadline = notice.at.saturating_add(INTERRUPTION_GRACE);
        let deadline = deadline.unwrap_or(notice.at);
        if goes_by(claim, deadline) {
            return;
        }
        self.decision.push(NoticeStep::End {
            claim: Arc::clone(claim),
            deadline: Some(deadline),
            reason,
            message: format!("EC2 takes the machine back; its pods have until {deadline}"),
        });
    }

    /// The machines in a capacity block are ended half an hour before its end. Its claims may be on their way already,
    /// where the end was known.
    fn expiring(&mut self, snapshot: &Snapshot, id: &str, block: BlockEnd) {
        let claims = snapshot.claims.values();
        let inside: Vec<&Arc<Claim>> = claims
            .filter(|claim| reservation_of(claim) == Some(id))
            .collect();
        self.unowned += usize::from(inside.is_empty());
        let earliest = block.expires_at().saturating_sub(EXPIRES_EARLIER);
        if snapshot.now < earliest.unwrap_or(Timestamp::MIN) {
            return;
        }
        let staying = inside
            .into_iter()
            .filter(|claim| !goes_by(claim, block.machines_end_at()));
        let steps = staying.map(|claim| leave_block(claim, id, block));
        self.decision.steps.extend(steps);
    }

    /// Something is planned that does not end what runs on the machine, or is not known to, or not when.
    fn left_alone(&mut self, claim: &Arc<Claim>, code: &str, why: LeftAlone) {
        if claim.deleting_since.is_some() {
            return;
        }
        let what = match why {
            LeftAlone::Outlived => "which is not known to end or restart it",
            LeftAlone::NoTime => "and does not say when",
            LeftAlone::UnreadableTime => "at a time that Tonnage cannot read",
        };
        self.decision.push(NoticeStep::Tell {
            claim: Arc::clone(claim),
            reason: "ScheduledChange",
            message: format!(
                "EC2 plans {code} for the machine, {what}; its pods are left alone. Should they be moved all the same, \
                 delete the NodeClaim"
            ),
        });
    }

    /// What was announced is over or called off.
    fn over(&mut self, claim: &Arc<Claim>) {
        if claim.annotations.contains_key(labels::MAINTENANCE) && claim.deleting_since.is_none() {
            self.decision.push(NoticeStep::Schedule {
                claim: Arc::clone(claim),
                begins: None,
                message: "EC2's maintenance of the machine is over or called off; the node stays"
                    .to_owned(),
            });
        }
    }

    fn scheduled(&mut self, now: Timestamp, claim: &Arc<Claim>, begins: Option<Timestamp>) {
        if claim.deleting_since.is_some() {
            return;
        }
        let Some(begins) = begins else {
            self.decision.push(NoticeStep::End {
                claim: Arc::clone(claim),
                deadline: None,
                reason: "ScheduledChange",
                message:
                    "EC2 is about to stop, restart or retire the machine and does not say when"
                        .to_owned(),
            });
            return;
        };
        if now >= drained_from(begins) {
            self.decision.push(maintenance(claim, begins));
            return;
        }
        let written = claim.annotations.get(labels::MAINTENANCE);
        if written.is_none_or(|known| *known != begins.to_string()) {
            self.decision.push(NoticeStep::Schedule {
                claim: Arc::clone(claim),
                begins: Some(begins),
                message: format!(
                    "EC2 stops, restarts or retires the machine at {begins}; the node is drained an hour before, \
                     or goes earlier when it is empty"
                ),
            });
        }
    }
}

/// True for a claim that is on its way out and will be gone by then.
fn goes_by(claim: &Claim, deadline: Timestamp) -> bool {
    claim.deleting_since.is_some() && termination(claim).is_some_and(|at| at <= deadline)
}

fn termination(claim: &Claim) -> Option<Timestamp> {
    claim
        .annotations
        .get(labels::TERMINATION_TIMESTAMP)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests;
