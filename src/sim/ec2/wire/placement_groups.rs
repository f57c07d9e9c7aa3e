//! Placement groups on the wire.

use super::Desk;
use super::answer::{Element, set, text};
use crate::sim::ec2::refusal::Refusal;

pub(super) fn describe(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let names = desk.all.texts("GroupName");
    let ids = desk.all.texts("GroupId");
    let groups = &desk.state.placement_groups;
    let is_unknown = |name: &&&str| !groups.values().any(|group| group.name == ***name);
    let unknown = names.iter().find(is_unknown);
    if let Some(unknown) = unknown.or_else(|| ids.iter().find(|id| !groups.contains_key(**id))) {
        return Err(Refusal::no_placement_group(unknown));
    }
    let shown = groups
        .values()
        .filter(|group| names.is_empty() || names.contains(&group.name.as_str()))
        .filter(|group| ids.is_empty() || ids.contains(&group.id.as_str()))
        .map(|group| {
            vec![
                text("groupId", &group.id),
                text("groupName", &group.name),
                text("strategy", group.strategy.as_str()),
                text("state", "available"),
            ]
        });
    Ok(vec![set("placementGroupSet", shown)])
}
