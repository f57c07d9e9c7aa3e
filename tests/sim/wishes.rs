//! What users do beside submitting and removing work: they delete NodeClaims and Nodes, pause NodePools for a while,
//! scale Deployments, and raise limits. Whatever they ask for, budgets and protected pods are respected.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::sim::api_server::{Key, Resource};
use tonnage::world::RandomStream;

use crate::acts::USER;
use crate::phases::text;
use crate::shapes::{FEW, is_coupled, one_of, weighted};
use crate::trial::{LIMITED, Trial};

/// How long a NodePool is paused at least, seconds, and how much longer at most.
const PAUSE: (u64, u64) = (20, 160);
/// The most pods that a Deployment is scaled to whose pods do not mind where the others are.
const MOST: u32 = 10;

/// Something that a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A NodeClaim is deleted, in whichever phase it is.
    ClaimGone,
    /// The Node of a claim is deleted.
    NodeGone,
    /// A NodePool is paused for a while.
    Pause,
    /// A Deployment is given another number of pods.
    Scale,
    /// The limits of the NodePool that has some are raised.
    Raise,
}

/// All of them, and how often one is drawn against the others.
const WISHES: [(Wish, u64); 5] = [
    (Wish::ClaimGone, 3),
    (Wish::NodeGone, 2),
    (Wish::Pause, 2),
    (Wish::Scale, 3),
    (Wish::Raise, 1),
];

impl Wish {
    /// Which users have in a world of so long, and in which seconds.
    pub(crate) fn draw(dice: &RandomStream, length: u64) -> Vec<(u64, Self)> {
        let mut wishes = Vec::new();
        let mut second = 60 + dice.below(180);
        while second < length {
            wishes.extend(weighted(&WISHES, dice).map(|wish| (second, wish)));
            second += 40 + dice.below(360);
        }
        wishes
    }

    /// What a user does, for people.
    pub(crate) const fn deed(self) -> &'static str {
        match self {
            Self::ClaimGone => "a user deletes a NodeClaim",
            Self::NodeGone => "a user deletes a Node",
            Self::Pause => "a user pauses a NodePool",
            Self::Scale => "a user scales a Deployment",
            Self::Raise => "a user raises the limits of a NodePool",
        }
    }
}

/// NodePools that are paused, and the second in which each pause ends.
pub(crate) type Paused = BTreeMap<String, u64>;

fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

impl Trial {
    /// A user has a wish, and does something about it if there is anything to be done.
    pub(crate) fn grant(&mut self, wish: Wish, dice: &RandomStream) {
        match wish {
            Wish::ClaimGone => self.delete_claim(dice),
            Wish::NodeGone => self.delete_node(dice),
            Wish::Pause => self.pause(dice),
            Wish::Scale => self.scale(dice),
            Wish::Raise => {
                let limits = self.checks.limits.raised(dice);
                self.checks.limits = limits;
                let pool = Key::new(Resource::NodePool, "", LIMITED);
                self.edit(&pool, |pool| pool["spec"]["limits"] = limits.manifest());
            }
        }
    }

    /// Changes what may be gone already, as a user.
    fn edit(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        self.world.api.change(USER, key, None, change).ok();
    }

    fn delete_claim(&mut self, dice: &RandomStream) {
        let mut claims = Vec::new();
        self.world.api.each(Resource::NodeClaim, |key, claim| {
            if !is_going(claim) {
                claims.push((key.clone(), text(claim, "/metadata/uid").to_owned()));
            }
        });
        if let Some((key, uid)) = one_of(&claims, dice) {
            self.checks.acts.reasons.claim_deleted(uid);
            self.remove(key);
        }
    }

    /// Deletes a Node that a claim names: of any other nobody would know whose machine it is.
    fn delete_node(&mut self, dice: &RandomStream) {
        let mut named = BTreeSet::new();
        self.world.api.each(Resource::NodeClaim, |_key, claim| {
            if !is_going(claim) {
                named.insert(text(claim, "/status/nodeName").to_owned());
            }
        });
        let mut nodes = Vec::new();
        self.world.api.each(Resource::Node, |key, node| {
            let held = node["metadata"]["finalizers"].as_array();
            let mut held = held.into_iter().flatten();
            let is_held = held.any(|finalizer| finalizer == labels::TERMINATION_FINALIZER);
            if is_held && !is_going(node) && named.contains(&key.name) {
                nodes.push((key.clone(), text(node, "/spec/providerID").to_owned()));
            }
        });
        if let Some((key, provider_id)) = one_of(&nodes, dice) {
            let reasons = &mut self.checks.acts.reasons;
            reasons.node_deleted(&key.name, provider_id);
            self.remove(key);
        }
    }

    fn pause(&mut self, dice: &RandomStream) {
        let mut pools = Vec::new();
        self.world
            .api
            .each(Resource::NodePool, |key, _pool| pools.push(key.clone()));
        let length = PAUSE.0 + dice.below(PAUSE.1);
        let Some(pool) = one_of(&pools, dice) else {
            return;
        };
        let until = self.second + length;
        let paused = self.paused.entry(pool.name.clone()).or_insert(until);
        *paused = until.max(*paused);
        let length = i64::try_from(length).unwrap_or(0);
        self.checks.paused += SignedDuration::from_secs(length);
        self.edit(pool, |pool| {
            pool["metadata"]["annotations"][labels::PAUSED] = json!("true");
        });
    }

    fn scale(&self, dice: &RandomStream) {
        let mut all = Vec::new();
        self.world
            .api
            .each(Resource::Deployment, |key, deployment| {
                all.push((key.clone(), is_coupled(deployment)));
            });
        let Some((key, is_coupled)) = one_of(&all, dice) else {
            return;
        };
        let most = if *is_coupled { FEW } else { MOST };
        let pods = dice.below(u64::from(most) + 1);
        self.edit(key, |deployment| {
            deployment["spec"]["replicas"] = json!(pods);
        });
    }

    /// Pauses end when their time has come, or now; so does one that a restore has brought back.
    pub(crate) fn end_pauses(&mut self, all: bool) {
        let second = self.second;
        self.paused.retain(|_pool, until| !all && second < *until);
        let mut over = Vec::new();
        self.world.api.each(Resource::NodePool, |key, pool| {
            let is_paused = pool["metadata"]["annotations"][labels::PAUSED].is_string();
            if is_paused && !self.paused.contains_key(&key.name) {
                over.push(key.clone());
            }
        });
        for pool in over {
            self.edit(&pool, |pool| {
                if let Some(annotations) = pool["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(labels::PAUSED);
                }
            });
        }
    }
}
