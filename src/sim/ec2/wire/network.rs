//! What the account has, as EC2 describes it: subnets, security groups, images.

use std::collections::BTreeMap;

use super::Desk;
use super::answer::{Element, set, tag_set, text};
use super::filter::Filters;
use super::page::{Length, page};
use crate::model::node_class::{Image, Subnet};
use crate::sim::ec2::account::{self, ACCOUNT, DISCOVERY, GROUP, NETWORK};
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// When the account's images were made, and when they become deprecated.
const IMAGE_TIMES: (&str, &str) = ("2027-01-01T00:00:00.000Z", "2029-01-01T00:00:00.000Z");

/// The tags of everything that the account has.
fn tags(desk: &Desk<'_>) -> Tags {
    Tags::from([(DISCOVERY.to_owned(), desk.discovery.to_owned())])
}

/// Refuses ids that are asked for and not there.
fn check(asked: &[&str], known: &[String], code: &'static str, what: &str) -> Result<(), Refusal> {
    let unknown = asked
        .iter()
        .find(|id| !known.iter().any(|known| known == *id));
    unknown.map_or(Ok(()), |id| {
        Err(Refusal::new(
            code,
            format!("The {what} ID '{id}' does not exist"),
        ))
    })
}

pub(super) fn describe_subnets(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let names = ["availability-zone", "state", "subnet-id", "vpc-id"];
    let filters = Filters::read(&desk.all, &names)?;
    let asked = desk.all.texts("SubnetId");
    let all = account::all_subnets();
    let ids: Vec<String> = all.iter().map(|subnet| subnet.id.clone()).collect();
    check(&asked, &ids, "InvalidSubnetID.NotFound", "subnet")?;
    let tags = tags(desk);
    let of = |subnet: &Subnet, filter: &str| match filter {
        "availability-zone" => vec![subnet.zone.clone()],
        "state" => vec!["available".to_owned()],
        "subnet-id" => vec![subnet.id.clone()],
        "vpc-id" => vec![NETWORK.to_owned()],
        _ => Vec::new(),
    };
    let found: BTreeMap<String, Vec<Element>> = all
        .iter()
        .filter(|subnet| asked.is_empty() || asked.contains(&subnet.id.as_str()))
        .filter(|subnet| filters.meet(&tags, |filter| of(subnet, filter)))
        .map(|subnet| {
            let member = vec![
                text("subnetId", &subnet.id),
                text("state", "available"),
                text("vpcId", NETWORK),
                text("availabilityZone", &subnet.zone),
                text("availabilityZoneId", &subnet.zone_id),
                text("availableIpAddressCount", subnet.free_addresses),
                text("mapPublicIpOnLaunch", false),
                text("ownerId", ACCOUNT),
                tag_set(&tags),
            ];
            (subnet.id.clone(), member)
        })
        .collect();
    paged("subnetSet", found, desk, Length::OLD)
}

pub(super) fn describe_security_groups(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &["group-id", "group-name", "vpc-id"])?;
    let (id, name) = GROUP;
    let asked = desk.all.texts("GroupId");
    check(
        &asked,
        &[id.to_owned()],
        "InvalidGroup.NotFound",
        "security group",
    )?;
    let names = desk.all.texts("GroupName");
    check(
        &names,
        &[name.to_owned()],
        "InvalidGroup.NotFound",
        "security group",
    )?;
    let tags = tags(desk);
    let of = |filter: &str| match filter {
        "group-id" => vec![id.to_owned()],
        "group-name" => vec![name.to_owned()],
        _ => vec![NETWORK.to_owned()],
    };
    let mut found = BTreeMap::new();
    if filters.meet(&tags, of) {
        let member = vec![
            text("groupId", id),
            text("groupName", name),
            text("groupDescription", "the machines of clusters"),
            text("vpcId", NETWORK),
            text("ownerId", ACCOUNT),
            tag_set(&tags),
        ];
        found.insert(id.to_owned(), member);
    }
    paged("securityGroupInfo", found, desk, Length::OLD)
}

pub(super) fn describe_images(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &["architecture", "image-id", "name", "state"])?;
    let asked = desk.all.texts("ImageId");
    let all = account::all_images();
    let ids: Vec<String> = all.values().map(|image| image.id.clone()).collect();
    check(&asked, &ids, "InvalidAMIID.NotFound", "image")?;
    let owners = desk.all.texts("Owner");
    let is_ours = owners.is_empty() || owners.iter().any(|owner| ["self", ACCOUNT].contains(owner));
    let tags = tags(desk);
    let of = |architecture: &str, image: &Image, filter: &str| match filter {
        "architecture" => vec![word_of(architecture).to_owned()],
        "image-id" => vec![image.id.clone()],
        "name" => vec![image.name.clone()],
        "state" => vec!["available".to_owned()],
        _ => Vec::new(),
    };
    let found: BTreeMap<String, Vec<Element>> = all
        .iter()
        .filter(|_image| is_ours)
        .filter(|(_architecture, image)| asked.is_empty() || asked.contains(&image.id.as_str()))
        .filter(|(architecture, image)| {
            filters.meet(&tags, |filter| of(architecture, image, filter))
        })
        .map(|(architecture, image)| {
            let member = vec![
                text("imageId", &image.id),
                text("name", &image.name),
                text("imageState", "available"),
                text("imageOwnerId", ACCOUNT),
                text("architecture", word_of(architecture)),
                text("creationDate", IMAGE_TIMES.0),
                text("deprecationTime", IMAGE_TIMES.1),
                text("virtualizationType", "hvm"),
                text("rootDeviceType", "ebs"),
                text("rootDeviceName", "/dev/xvda"),
                tag_set(&tags),
            ];
            (image.id.clone(), member)
        })
        .collect();
    let length = Length {
        least: 1,
        ..Length::OLD
    };
    paged("imagesSet", found, desk, length)
}

/// EC2's word for an architecture of Kubernetes.
fn word_of(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        other => other,
    }
}

fn paged(
    name: &'static str,
    found: BTreeMap<String, Vec<Element>>,
    desk: &Desk<'_>,
    length: Length,
) -> Result<Vec<Element>, Refusal> {
    let page = page(found, &desk.all, length)?;
    let mut answer = vec![set(name, page.things)];
    answer.extend(page.next);
    Ok(answer)
}
