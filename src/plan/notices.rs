//! What to do about EC2's announcements.
//!
//! Given a snapshot and notices, [`decide`] gives back what follows for the claims that own the
//! machines: a machine that is taken away in two minutes is drained with that as its deadline, so
//! that its pods end by themselves and their successors are planned at once; maintenance in the
//! future is written down and acted on when it comes near, so that running jobs are not ended weeks
//! too early; a change that what runs on the machine outlives is told of; a recommendation only keeps Tonnage
//! from buying more of the same. Notices about
//! machines that no claim owns are nobody's business, but while claims wait for their machines a young one is
//! not decided. Nothing is written here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::decision::Decision;
use super::launch::offering_of;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::notice::{Notice, NoticeKind};
use crate::model::offering::OfferingKey;
use crate::model::reservation::BlockEnd;
use crate::model::snapshot::Snapshot;

/// How long after an interruption notice pods may run. Source: "Spot Instance interruption notices"
/// in the EC2 user guide gives two minutes; the last ten seconds are for ending the machine itself.
pub const INTERRUPTION_GRACE: SignedDuration = SignedDuration::from_secs(110);
/// How long before announced maintenance a node is drained.
pub const BEFORE_MAINTENANCE: SignedDuration = SignedDuration::from_mins(60);

/// How old a notice may be whose machine may be one that was launched a moment ago: a claim learns of its machine in
/// seconds, or when EC2 shows the machine after an answer was lost, which takes two minutes at most.
const WRITTEN_WITHIN: SignedDuration = SignedDuration::from_mins(3);

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
    /// Notices about machines that no claim owns.
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
        if let Some(claim) = owners.get(notice.instance.as_str()) {
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
    let Some(id) = claim.labels.get(labels::CAPACITY_RESERVATION_ID) else {
        return;
    };
    let class = snapshot.node_classes.get(&claim.node_class);
    let mut selected = class.into_iter().flat_map(|class| &class.reservations);
    // A class that selects it no more, or may not read it, knows nothing: then what was known counts.
    let block = match selected.find(|found| found.id == *id) {
        Some(known) => known.block_end(),
        None => written_end(claim),
    };
    let Some(block) = block else {
        return;
    };
    let (from, end) = (block.expires_at(), block.machines_end_at());
    if snapshot.now < from {
        decision.wake_at(from);
        return;
    }
    decision.push(NoticeStep::End {
        claim: Arc::clone(claim),
        deadline: Some(end),
        reason: "CapacityBlockExpiring",
        message: format!(
            "capacity block {id} expires: EC2 ends its machines from {end} on; their pods are moved before"
        ),
    });
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
            NoticeKind::RebalanceRecommendation => {
                let offering = offering_of(claim);
                self.advised
                    .extend(offering.clone().map(|key| (key, notice.instance.clone())));
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
            NoticeKind::ScheduledChangeLeftAlone { code } => self.left_alone(claim, code),
            NoticeKind::MaintenanceOver => self.over(claim),
            NoticeKind::StateChange => {
                self.decision.look_at.insert(notice.instance.clone());
            }
        }
    }

    /// The machine is taken away two minutes after the notice.
    fn taken(&mut self, claim: &Arc<Claim>, notice: &Notice, reason: &'static str) {
        let offering = offering_of(claim);
        self.taken
            .extend(offering.clone().map(|key| (key, notice.instance.clone())));
        self.scarce.extend(offering);
        let deadline = notice.at.saturating_add(INTERRUPTION_GRACE);
        let deadline = deadline.unwrap_or(notice.at);
        if claim.deleting_since.is_some() && termination(claim).is_some_and(|at| at <= deadline) {
            return;
        }
        self.decision.push(NoticeStep::End {
            claim: Arc::clone(claim),
            deadline: Some(deadline),
            reason,
            message: format!("EC2 takes the machine back; its pods have until {deadline}"),
        });
    }

    /// Something is planned that does not end what runs on the machine, or is not known to.
    fn left_alone(&mut self, claim: &Arc<Claim>, code: &str) {
        if claim.deleting_since.is_some() {
            return;
        }
        self.decision.push(NoticeStep::Tell {
            claim: Arc::clone(claim),
            reason: "ScheduledChange",
            message: format!(
                "EC2 plans {code} for the machine, which is not known to end or restart it; its pods are left alone. \
                 Should they be moved all the same, delete the NodeClaim"
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
                message: "EC2 stops, restarts or retires the machine and does not say when"
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

fn termination(claim: &Claim) -> Option<Timestamp> {
    claim
        .annotations
        .get(labels::TERMINATION_TIMESTAMP)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::examples::{as_spot, at, initialized, world};

    fn spot(name: &str) -> Claim {
        as_spot(initialized(name))
    }

    fn notice(name: &str, kind: NoticeKind) -> Notice {
        Notice {
            instance: format!("i-{name}"),
            kind,
            at: at(100),
        }
    }

    fn deadline(heeded: &Heeded) -> Option<Timestamp> {
        match heeded.decision.steps.as_slice() {
            [NoticeStep::End { deadline, .. }] => *deadline,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_interrupted_machine_is_drained_by_the_time_it_is_taken() {
        let notices = [
            notice("a", NoticeKind::SpotInterruption),
            notice("nobodys", NoticeKind::SpotInterruption),
        ];
        let heeded = decide(&world(101, &[spot("a"), spot("b")], &[], &[]), &notices);
        assert_eq!(deadline(&heeded), Some(at(210)));
        assert_eq!(heeded.unowned, 1);
        let scarce: Vec<String> = heeded.scarce.iter().map(ToString::to_string).collect();
        assert_eq!(scarce, ["c5.xlarge/us-east-1a/spot"]);
        let taken = [(
            "c5.xlarge/us-east-1a/spot".parse().unwrap(),
            "i-a".to_owned(),
        )];
        assert_eq!(
            (heeded.taken.as_slice(), heeded.advised.len()),
            (&taken[..], 0)
        );
    }

    #[test]
    fn a_young_notice_is_not_decided_while_a_claim_waits_for_its_machine() {
        let mut waiting = spot("a");
        waiting.provider_id = String::new();
        let notices = [notice("a", NoticeKind::SpotInterruption)];
        let undecided = |second, claims: &[Claim]| {
            let heeded = decide(&world(second, claims, &[], &[]), &notices);
            assert_eq!(heeded.unowned, 1);
            heeded.undecided
        };
        assert_eq!(undecided(101, std::slice::from_ref(&waiting)), 1);
        assert_eq!(undecided(101, &[spot("b")]), 0, "nobody waits");
        assert_eq!(undecided(300, &[waiting]), 0, "it would be known by now");
    }

    #[test]
    fn a_repeated_notice_changes_nothing_and_a_going_claim_gets_the_sooner_deadline() {
        let mut going = spot("a");
        going.deleting_since = Some(at(50));
        let notices = [notice("a", NoticeKind::SpotInterruption)];
        let heeded = decide(
            &world(101, std::slice::from_ref(&going), &[], &[]),
            &notices,
        );
        assert_eq!(deadline(&heeded), Some(at(210)), "it had none");
        let written = at(210).to_string();
        going
            .annotations
            .insert(labels::TERMINATION_TIMESTAMP.to_owned(), written);
        let heeded = decide(&world(102, &[going], &[], &[]), &notices);
        assert_eq!(heeded.decision.steps, []);
    }

    #[test]
    fn a_recommendation_disturbs_nobody() {
        let notices = [notice("a", NoticeKind::RebalanceRecommendation)];
        let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
        assert!(matches!(
            heeded.decision.steps.as_slice(),
            [NoticeStep::Tell { .. }]
        ));
        assert_eq!(heeded.scarce.len(), 1);
    }

    #[test]
    fn maintenance_is_written_down_and_acted_on_an_hour_before() {
        let begins = at(100_000);
        let kind = NoticeKind::ScheduledChange {
            begins: Some(begins),
        };
        let notices = [notice("a", kind)];
        let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
        assert!(matches!(
            heeded.decision.steps.as_slice(),
            [NoticeStep::Schedule { begins: found, .. }] if *found == Some(begins)
        ));
        let mut told = spot("a");
        told.annotations
            .insert(labels::MAINTENANCE.to_owned(), begins.to_string());
        let again = decide(&world(102, std::slice::from_ref(&told), &[], &[]), &notices);
        assert_eq!(again.decision.steps, []);
        let early = due(&world(102, std::slice::from_ref(&told), &[], &[]));
        assert_eq!(
            (early.steps.len(), early.wake),
            (0, Some(at(100_000 - 3_600)))
        );
        let near = due(&world(100_000 - 3_600, &[told], &[], &[]));
        assert!(matches!(
            near.steps.as_slice(),
            [NoticeStep::End { deadline: Some(found), .. }] if *found == begins
        ));
    }

    #[test]
    fn a_change_that_pods_outlive_moves_none_and_a_going_machine_is_not_spoken_of() {
        let code = "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED".to_owned();
        let notices = [notice("a", NoticeKind::ScheduledChangeLeftAlone { code })];
        let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
        let [NoticeStep::Tell { message, .. }] = heeded.decision.steps.as_slice() else {
            panic!("{:?}", heeded.decision.steps);
        };
        assert!(
            message.contains("INSTANCE_NETWORK_MAINTENANCE"),
            "{message}"
        );
        let mut going = spot("a");
        going.deleting_since = Some(at(50));
        let heeded = decide(&world(101, &[going], &[], &[]), &notices);
        assert_eq!(heeded.decision.steps, []);
    }

    #[test]
    fn maintenance_that_is_called_off_is_forgotten() {
        let notices = [notice("a", NoticeKind::MaintenanceOver)];
        let untold = decide(&world(101, &[spot("a")], &[], &[]), &notices);
        assert_eq!(untold.decision.steps, []);
        let mut told = spot("a");
        told.annotations
            .insert(labels::MAINTENANCE.to_owned(), at(100_000).to_string());
        let heeded = decide(&world(101, &[told], &[], &[]), &notices);
        assert!(matches!(
            heeded.decision.steps.as_slice(),
            [NoticeStep::Schedule { begins: None, .. }]
        ));
    }

    #[test]
    fn a_machine_that_stops_is_looked_at() {
        let notices = [notice("a", NoticeKind::StateChange)];
        let heeded = decide(&world(101, &[spot("a")], &[], &[]), &notices);
        assert_eq!(heeded.decision.steps, []);
        assert!(heeded.decision.look_at.contains("i-a"));
    }
}
