//! Acting by turns: of several processes only the one that holds the lease acts.
//!
//! Given what a process is made of and its part in the election; it starts every loop when it comes to
//! lead, with nothing remembered from an earlier term, and ends them when the lease is lost or the
//! world stops. The lease is let go only when nothing acts any more. The mirror is shared by all
//! terms, so who stands by is ready to act.

use std::sync::Arc;
use std::time::Duration;

use super::assembly::Parts;
use crate::cluster::Kind;
use crate::cluster::lease::{Election, Term};
use crate::world::World;

/// How long the first look at a new term's claims rests after a failure; it repeats itself before.
const CATCH_UP_AGAIN: Duration = Duration::from_secs(1);

/// Takes part in the election until the world stops.
pub(super) async fn lead_by_turns(parts: Arc<Parts>, mut election: Election, world: World) {
    let stop = world.stop().clone();
    parts.metrics.stands_by();
    for number in 1_u64.. {
        let term = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            term = election.acquire() => term,
        };
        parts.metrics.leads();
        let part = world.part(&format!("term/{number}"));
        part.spawn(serve(Arc::clone(&parts), term.clone(), part.clone()));
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = election.keep(&term) => {}
        }
        part.shut_down().await;
        term.end();
        parts.metrics.stands_by();
    }
    election.release().await;
}

/// Starts the loops of a term once what the last leader wrote is known.
async fn serve(parts: Arc<Parts>, term: Term, part: World) {
    let kubernetes = parts.kubernetes(&term, &part);
    let caught_up = async {
        let mirror = &parts.mirror;
        mirror.synced().await;
        let mut lists_again = false;
        loop {
            match kubernetes.catch_up().await {
                // A list that has nothing where claims are known is no list of what there is.
                Ok(found) if found.claims == 0 && !mirror.view().claims.is_empty() => {
                    tracing::warn!("nothing is done while claims are known and none are listed");
                }
                // Once: a list that is awaited ends by itself, and what an API server says that has just been
                // restored may change from list to list.
                Ok(found) if !found.agrees && !lists_again => {
                    tracing::info!(
                        "the watches are behind what the API server lists: everything is listed again"
                    );
                    mirror.list_again();
                    lists_again = true;
                }
                Ok(_found) if lists_again && mirror.may_be_behind(&[Kind::NodeClaim]) => {}
                Ok(_found) => break,
                Err(error) => {
                    tracing::warn!("nothing is done before the claims are listed: {error}");
                }
            }
            tokio::time::sleep(CATCH_UP_AGAIN).await;
        }
    };
    let stop = part.stop().clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = caught_up => {}
    }
    parts.start(kubernetes, term, &part);
}
