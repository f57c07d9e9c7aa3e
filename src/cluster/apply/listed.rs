//! NodeClaims as the API server itself lists them, beside the watch.
//!
//! Given what is known of claims; given back every claim of ours, complete or not at all. Of a claim that is known just as
//! it is listed no second copy is made, so that a list of ten thousand costs what has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::ListParams;
use tokio::time::Instant;

use super::{Kubernetes, Operation, WriteError};
use crate::api::NodeClaim;
use crate::cluster::observe;
use crate::model::claim::Claim;

/// Pages of a list that is read on purpose.
const PAGE: u32 = 500;

/// What [`Kubernetes::catch_up`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUp {
    /// How many claims of ours there are.
    pub claims: usize,
    /// The watch shows them as well. Where it does not it is behind, or the API server was restored.
    pub agrees: bool,
}

impl Kubernetes {
    /// Lists every claim of ours from the API server itself, complete or not at all: what a mass
    /// deletion must be based on. One that is `known` by its name in the same version is given back as it is known.
    pub async fn list_claims(
        &self,
        known: &BTreeMap<String, Arc<Claim>>,
    ) -> Result<Vec<Arc<Claim>>, WriteError> {
        let api = self.all::<NodeClaim>();
        let mut claims = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self
                .call(Operation::ListClaims, "all", || api.list(&params))
                .await?;
            let ours = page
                .items
                .iter()
                .filter(|claim| claim.spec.node_class_ref.is_ours());
            claims.extend(ours.map(|object| {
                as_known(object, known)
                    .map_or_else(|| Arc::new(observe::claim::claim(object)), Arc::clone)
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(claims),
            }
        }
    }

    /// Puts every claim of ours as the API server has it into the ledger. Whoever begins to act where
    /// another has just stopped must not decide by a watch that is behind what the other wrote last.
    pub async fn catch_up(&self) -> Result<CaughtUp, WriteError> {
        let mirror = &self.shared.mirror;
        let (asked, shown) = (Instant::now(), mirror.claims_shown());
        let claims = self.list_claims(&shown).await?;
        Ok(CaughtUp {
            claims: claims.len(),
            agrees: mirror.claims_listed(claims, &shown, asked),
        })
    }
}

/// The claim as it is known, if that is the very object in the very version: one that was made anew under its name is
/// another.
fn as_known<'known>(
    object: &NodeClaim,
    known: &'known BTreeMap<String, Arc<Claim>>,
) -> Option<&'known Arc<Claim>> {
    let metadata = &object.metadata;
    let claim = known.get(metadata.name.as_deref()?)?;
    let is_same = metadata.uid.as_ref() == Some(&claim.uid)
        && metadata.resource_version.as_ref() == Some(&claim.resource_version);
    is_same.then_some(claim)
}
