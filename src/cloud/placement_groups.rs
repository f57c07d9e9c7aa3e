//! Which placement group a node class selects, and what is wrong when it selects none.
//!
//! Given what EC2 describes for a selector; given back the group, or why there is none. Nothing is asked of EC2 here.

use super::Unresolved;
use crate::api::node_class::selectors::PlacementGroupSelector;
use crate::model::placement_group::{PlacementGroup, Strategy};

/// A placement group as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// EC2's word for its strategy.
    pub strategy: String,
    /// `available` when machines can be launched into it.
    pub state: String,
}

/// True for the group that a selector names.
pub fn is_named(selector: &PlacementGroupSelector, name: &str, id: &str) -> bool {
    selector.name.as_deref() == Some(name) || selector.id.as_deref() == Some(id)
}

fn text(selector: &PlacementGroupSelector) -> String {
    match (&selector.name, &selector.id) {
        (Some(name), _) => format!("name {name}"),
        (None, Some(id)) => format!("id {id}"),
        (None, None) => "neither name nor id".to_owned(),
    }
}

/// The group of a selector, from what EC2 describes for it.
///
/// # Errors
/// There is no such group, it is not there to launch into, or its strategy is not known.
pub fn select(
    selector: &PlacementGroupSelector,
    described: Option<Described>,
) -> Result<PlacementGroup, Unresolved> {
    let asked = text(selector);
    let Some(found) = described else {
        return Err(Unresolved {
            reason: "PlacementGroupNotFound",
            message: format!(
                "spec.placementGroupSelector ({asked}) names no placement group of this account and region: create \
                 it, or correct the selector"
            ),
        });
    };
    let failed = |message: String| Unresolved {
        reason: "PlacementGroupResolutionFailed",
        message,
    };
    if found.state != "available" {
        return Err(failed(format!(
            "the placement group of spec.placementGroupSelector ({asked}) is {}: wait until it is available, or \
             select another",
            found.state
        )));
    }
    let strategy = Strategy::parse(&found.strategy).ok_or_else(|| {
        failed(format!(
            "the placement group of spec.placementGroupSelector ({asked}) has the unknown strategy `{}`: select one \
             with cluster, partition or spread",
            found.strategy
        ))
    })?;
    Ok(PlacementGroup {
        id: found.id,
        name: found.name,
        strategy,
    })
}
