//! The placement group that a node class selects, as EC2 describes it.
//!
//! Given a selector; given back the group, or why there is none. Without a selector EC2 is not asked.

use aws_sdk_ec2::types::{PlacementGroup as Shown, PlacementGroupState, PlacementStrategy};

use super::Api;
use super::call::failed;
use crate::api::node_class::selectors::PlacementGroupSelector;
use crate::cloud::buckets::Bucket;
use crate::cloud::placement_groups::{self, Described};
use crate::cloud::{CloudError, Unresolved};
use crate::model::launch::ErrorClass;
use crate::model::placement_group::PlacementGroup;

const DESCRIBE: &str = "DescribePlacementGroups";

/// Looks it up.
pub(super) async fn selected(
    api: &Api,
    selector: Option<&PlacementGroupSelector>,
) -> Result<Option<Result<PlacementGroup, Unresolved>>, CloudError> {
    let Some(selector) = selector else {
        return Ok(None);
    };
    api.buckets.take(Bucket::Describe, 1).await;
    let answer = api
        .ec2
        .describe_placement_groups()
        .set_group_names(selector.name.clone().map(|name| vec![name]))
        .set_group_ids(selector.id.clone().map(|id| vec![id]))
        .send()
        .await
        .map_err(|error| failed(DESCRIBE, &error));
    let found = match answer {
        Ok(answer) => answer.placement_groups().first().map(described),
        Err(error) if error.class == ErrorClass::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Some(placement_groups::select(selector, found)))
}

fn described(shown: &Shown) -> Described {
    let text = |text: Option<&str>| text.unwrap_or("").to_owned();
    Described {
        id: text(shown.group_id()),
        name: text(shown.group_name()),
        strategy: text(shown.strategy().map(PlacementStrategy::as_str)),
        state: text(shown.state().map(PlacementGroupState::as_str)),
    }
}
