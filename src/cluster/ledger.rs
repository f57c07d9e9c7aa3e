//! Own writes to NodeClaims that no watch has shown yet.
//!
//! Given: each claim as the API server answered it, and each claim that the watch shows or takes
//! away. Given back: the claims as they must be seen by decisions: with what was written a moment
//! ago. A write stays in the ledger until the watch shows it or something newer, or until
//! [`DEADLINE`] has passed; then the watch is believed. Nothing here waits or talks to anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::claim::Claim;

/// How long a write is believed without being seen: longer than it takes to notice that a watch is
/// silently dead (see `watch::WATCH_SECONDS`) and to begin a new one. A write that even that does
/// not show was lost; then the watch is believed.
pub(super) const DEADLINE: Duration = Duration::from_mins(3);

/// The writes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    writes: BTreeMap<String, Write>,
    /// Uids that the watch has shown to be gone, so that an answer that comes in after its object's
    /// end does not bring it back.
    gone: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Write {
    at: Instant,
    uid: String,
    /// The claim as written; `None` when it was removed for good.
    claim: Option<Arc<Claim>>,
}

impl Ledger {
    /// A claim was created or changed, and the API server answered with it.
    pub(super) fn written(&mut self, claim: &Arc<Claim>, seen: Option<&Claim>) {
        let overtaken = seen.is_some_and(|seen| supersedes(seen, claim));
        if overtaken || self.gone.contains_key(&claim.uid) {
            return;
        }
        if let Some(write) = self.writes.get(&claim.name)
            && write.uid == claim.uid
            && write
                .claim
                .as_ref()
                .is_none_or(|later| supersedes(later, claim))
        {
            return;
        }
        self.writes.insert(
            claim.name.clone(),
            Write {
                at: Instant::now(),
                uid: claim.uid.clone(),
                claim: Some(Arc::clone(claim)),
            },
        );
    }

    /// A claim was removed for good: it had no finalizer left.
    pub(super) fn removed(&mut self, name: &str, uid: &str) {
        // The claim that has the name by now is another one, and was written since.
        let is_followed = self.writes.get(name).is_some_and(|write| write.uid != uid);
        if is_followed || self.gone.contains_key(uid) {
            return;
        }
        self.writes.insert(
            name.to_owned(),
            Write {
                at: Instant::now(),
                uid: uid.to_owned(),
                claim: None,
            },
        );
    }

    /// The watch shows a claim.
    pub(super) fn shown(&mut self, claim: &Claim) {
        let settled = self
            .writes
            .get(&claim.name)
            .is_some_and(|write| match &write.claim {
                Some(written) => supersedes(claim, written),
                None => claim.uid != write.uid,
            });
        if settled {
            self.writes.remove(&claim.name);
        }
    }

    /// The watch shows that a claim is gone.
    pub(super) fn gone(&mut self, name: &str, uid: &str) {
        if self.writes.get(name).is_some_and(|write| write.uid == uid) {
            self.writes.remove(name);
        }
        self.gone.insert(uid.to_owned(), Instant::now());
    }

    /// A list that was asked for then has an object of this uid: an API server that was restored has what was gone
    /// before.
    pub(super) fn exists(&mut self, uid: &str, asked: Instant) {
        if self.gone.get(uid).is_some_and(|gone| *gone < asked) {
            self.gone.remove(uid);
        }
    }

    /// A complete list that began at `begun` is in: writes from before it are settled by it.
    pub(super) fn listed(&mut self, begun: Instant) {
        self.writes.retain(|_name, write| write.at >= begun);
    }

    /// Forgets writes past their deadline. Gives back the names whose view changed by it.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<String> {
        let current = |at: Instant| now.saturating_duration_since(at) < DEADLINE;
        self.gone.retain(|_uid, at| current(*at));
        let expired: Vec<String> = self
            .writes
            .iter()
            .filter(|(_name, write)| !current(write.at))
            .map(|(name, _write)| name.clone())
            .collect();
        for name in &expired {
            self.writes.remove(name);
        }
        expired
    }

    /// The claims as the watch shows them, with the writes laid over.
    pub(super) fn overlay(
        &self,
        seen: &Arc<BTreeMap<String, Arc<Claim>>>,
    ) -> Arc<BTreeMap<String, Arc<Claim>>> {
        if self.writes.is_empty() {
            return Arc::clone(seen);
        }
        let mut claims = BTreeMap::clone(seen);
        for (name, write) in &self.writes {
            match &write.claim {
                Some(claim) => {
                    claims.insert(name.clone(), Arc::clone(claim));
                }
                None => {
                    if claims.get(name).is_some_and(|claim| claim.uid == write.uid) {
                        claims.remove(name);
                    }
                }
            }
        }
        Arc::new(claims)
    }

    /// The claim of a name as it was written last, while no watch has shown that.
    pub(super) fn last_of(&self, name: &str) -> Option<&Arc<Claim>> {
        self.writes.get(name)?.claim.as_ref()
    }

    /// How many writes wait to be seen.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }
}

/// True when one version of an object is known to come before another.
pub(super) fn is_before(version: &str, other: &str) -> bool {
    match (version.parse::<u64>(), other.parse::<u64>()) {
        (Ok(version), Ok(other)) => version < other,
        _ => false,
    }
}

/// True when `seen` is the same object as `known`, as it was before.
pub(super) fn is_older(seen: &Claim, known: &Claim) -> bool {
    seen.uid == known.uid && is_before(&seen.resource_version, &known.resource_version)
}

/// True when `seen` is `written` or something later of the same name. Resource versions of one
/// resource are decimal numbers that grow with time (guaranteed since Kubernetes 1.35, true of
/// etcd-backed servers always); where they are not, only equality counts.
fn supersedes(seen: &Claim, written: &Claim) -> bool {
    if seen.uid != written.uid {
        return seen.created >= written.created;
    }
    match (
        seen.resource_version.parse::<u64>(),
        written.resource_version.parse::<u64>(),
    ) {
        (Ok(seen), Ok(written)) => seen >= written,
        _ => seen.resource_version == written.resource_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::observe;

    fn claim(uid: &str, resource_version: &str) -> Arc<Claim> {
        let object = serde_json::json!({
            "metadata": {
                "name": "c",
                "uid": uid,
                "resourceVersion": resource_version,
                "creationTimestamp": "2026-11-25T00:00:00Z",
            },
            "spec": {
                "requirements": [],
                "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
            },
        });
        Arc::new(observe::claim::claim(
            &serde_json::from_value(object).unwrap(),
        ))
    }

    fn seen(claims: &[Arc<Claim>]) -> Arc<BTreeMap<String, Arc<Claim>>> {
        Arc::new(
            claims
                .iter()
                .map(|claim| (claim.name.clone(), Arc::clone(claim)))
                .collect(),
        )
    }

    fn version(ledger: &Ledger, watch: &[Arc<Claim>]) -> Option<String> {
        let view = ledger.overlay(&seen(watch));
        view.get("c").map(|claim| claim.resource_version.clone())
    }

    #[test]
    fn a_write_shows_until_the_watch_has_it_or_something_newer() {
        for shown in ["10", "11"] {
            let mut ledger = Ledger::default();
            ledger.written(&claim("u", "10"), None);
            assert_eq!(version(&ledger, &[]).as_deref(), Some("10"));
            ledger.shown(&claim("u", "9"));
            assert_eq!(version(&ledger, &[claim("u", "9")]).as_deref(), Some("10"));
            ledger.shown(&claim("u", shown));
            assert_eq!(ledger.len(), 0);
        }
    }

    #[test]
    fn an_answer_that_comes_after_its_objects_end_does_not_bring_it_back() {
        let mut ledger = Ledger::default();
        ledger.gone("c", "u");
        ledger.written(&claim("u", "10"), None);
        assert_eq!(version(&ledger, &[]), None);
    }

    #[test]
    fn an_older_answer_does_not_hide_a_newer_one() {
        let mut ledger = Ledger::default();
        ledger.written(&claim("u", "12"), None);
        ledger.written(&claim("u", "11"), None);
        assert_eq!(version(&ledger, &[]).as_deref(), Some("12"));
        ledger.written(&claim("u", "13"), Some(&claim("u", "14")));
        assert_eq!(version(&ledger, &[]).as_deref(), Some("12"));
    }

    #[test]
    fn a_removed_claim_is_hidden_but_not_its_successor() {
        let mut ledger = Ledger::default();
        ledger.removed("c", "u");
        assert_eq!(version(&ledger, &[claim("u", "10")]), None);
        assert_eq!(version(&ledger, &[claim("v", "20")]).as_deref(), Some("20"));
        ledger.shown(&claim("v", "20"));
        assert_eq!(ledger.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_never_seen_is_given_up() {
        let mut ledger = Ledger::default();
        ledger.written(&claim("u", "10"), None);
        tokio::time::advance(DEADLINE / 2).await;
        assert!(ledger.expire(Instant::now()).is_empty());
        tokio::time::advance(DEADLINE / 2).await;
        assert_eq!(ledger.expire(Instant::now()), ["c"]);
        assert_eq!(version(&ledger, &[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_began_after_a_write_settles_it() {
        let mut ledger = Ledger::default();
        ledger.written(&claim("u", "10"), None);
        let before = Instant::now()
            .checked_sub(Duration::from_millis(1))
            .unwrap();
        ledger.listed(before);
        assert_eq!(ledger.len(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        ledger.listed(Instant::now());
        assert_eq!(ledger.len(), 0);
    }
}
