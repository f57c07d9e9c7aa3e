//! Instance profiles on the wire: IAM's query protocol, in as far as instance profiles go.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Desk;
use super::answer::{Element, members, text, within};
use super::page;
use crate::sim::ec2::account::ACCOUNT;
use crate::sim::ec2::profiles::{self, Profile};
use crate::sim::ec2::refusal::Refusal;

/// Profiles on a page unless the request says otherwise, and at most. Source: "ListInstanceProfiles" in
/// the IAM API reference.
const USUAL_PAGE: i64 = 100;
const LONGEST_PAGE: i64 = 1_000;
/// Tags of a profile at most. Source: "IAM and AWS STS quotas".
const MOST_TAGS: usize = 50;

/// The profile that a request names.
pub(super) fn named(desk: &Desk<'_>) -> Result<(String, Profile), Refusal> {
    let name = desk.all.required("InstanceProfileName")?;
    Ok((name.to_owned(), desk.state.profiles.known(name)?))
}

/// The profile that a request makes.
pub(super) fn new(desk: &Desk<'_>) -> Result<(String, Profile), Refusal> {
    let name = desk.all.required("InstanceProfileName")?;
    let path = desk.all.text("Path").unwrap_or("/");
    if !path.starts_with('/') || !path.ends_with('/') {
        return Err(desk
            .all
            .wrong("Path", "It must begin and end with a slash."));
    }
    let tags = desk.all.tags_of("Tags.member")?;
    if tags.len() > MOST_TAGS {
        return Err(desk.all.wrong("Tags", "Fifty tags are the most."));
    }
    let profile = Profile {
        path: path.to_owned(),
        role: None,
        tags,
        made: desk.now,
    };
    Ok((name.to_owned(), profile))
}

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let (name, profile) = new(desk)?;
    let answer = vec![within("InstanceProfile", described(&name, &profile))];
    desk.state.profiles.create(&name, profile)?;
    Ok(answer)
}

pub(super) fn get(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let (name, profile) = named(desk)?;
    Ok(vec![within("InstanceProfile", described(&name, &profile))])
}

pub(super) fn list(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let prefix = desk.all.text("PathPrefix").unwrap_or("/");
    let wanted = desk.all.number("MaxItems")?.unwrap_or(USUAL_PAGE);
    let wanted = usize::try_from(wanted)
        .ok()
        .filter(|_wanted| (1..=LONGEST_PAGE).contains(&wanted))
        .ok_or_else(|| desk.all.wrong("MaxItems", "It must be from 1 to 1000."))?;
    let after = page::after(&desk.all, "Marker")?;
    let made = desk.state.profiles.made().iter();
    let all: BTreeMap<String, Vec<Element>> = made
        .filter(|(_name, profile)| profile.path.starts_with(prefix))
        .map(|(name, profile)| (name.clone(), described(name, profile)))
        .collect();
    let (things, marker) = page::cut(all, after.as_deref(), wanted);
    let mut answer = vec![
        members("InstanceProfiles", things),
        text("IsTruncated", marker.is_some()),
    ];
    answer.extend(marker.map(|marker| text("Marker", marker)));
    Ok(answer)
}

pub(super) fn add_role(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let name = desk.all.required("InstanceProfileName")?;
    let role = desk.all.required("RoleName")?;
    desk.state.profiles.add_role(name, role)?;
    Ok(Vec::new())
}

pub(super) fn remove_role(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let name = desk.all.required("InstanceProfileName")?;
    let role = desk.all.required("RoleName")?;
    desk.state.profiles.remove_role(name, role)?;
    Ok(Vec::new())
}

pub(super) fn delete(desk: &mut Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let name = desk.all.required("InstanceProfileName")?;
    desk.state.profiles.delete(name)?;
    Ok(Vec::new())
}

/// A time as IAM writes it.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn described(name: &str, profile: &Profile) -> Vec<Element> {
    let role = |role: &String| {
        vec![
            text("Path", "/"),
            text("RoleName", role),
            text("RoleId", format!("AROA{}", role.to_uppercase())),
            text("Arn", format!("arn:aws:iam::{ACCOUNT}:role/{role}")),
            text("CreateDate", time(Timestamp::UNIX_EPOCH)),
        ]
    };
    let tag = |(key, value): (&String, &String)| vec![text("Key", key), text("Value", value)];
    vec![
        text("Path", &profile.path),
        text("InstanceProfileName", name),
        text("InstanceProfileId", format!("AIPA{}", name.to_uppercase())),
        text("Arn", profiles::arn(&profile.path, name)),
        text("CreateDate", time(profile.made)),
        members("Roles", profile.role.iter().map(role)),
        members("Tags", profile.tags.iter().map(tag)),
    ]
}
