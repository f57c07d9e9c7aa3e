//! What the account has, as EC2 describes it: subnets, security groups, images.

use std::collections::BTreeMap;

use super::Desk;
use super::answer::{Element, set, tag_set, text, within};
use super::filter::Filters;
use super::page::{Length, page};
use crate::model::node_class::{Image, Subnet};
use crate::sim::ec2::account::{self, ACCOUNT, DISCOVERY, GROUP, NETWORK, ROOT_DEVICE};
use crate::sim::ec2::published::{self, PUBLISHER, Published};
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// When images were made, and when they become deprecated.
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
    let all = &desk.state.subnets;
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
                text(
                    "availableIpAddressCount",
                    desk.state.addresses_free(subnet, desk.now),
                ),
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

/// Whose an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Account,
    Aws,
}

impl Owner {
    fn is(self, asked: &str) -> bool {
        match self {
            Self::Account => ["self", ACCOUNT].contains(&asked),
            Self::Aws => ["amazon", PUBLISHER].contains(&asked),
        }
    }
}

/// An image as EC2 shows it.
struct Shown<'call> {
    id: &'call str,
    name: &'call str,
    /// In EC2's words.
    architecture: &'call str,
    owner: Owner,
    tags: Tags,
}

fn own_images(all: &BTreeMap<String, Image>, tags: Tags) -> impl Iterator<Item = Shown<'_>> {
    all.iter().map(move |(architecture, image)| Shown {
        id: &image.id,
        name: &image.name,
        architecture: word_of(architecture),
        owner: Owner::Account,
        tags: tags.clone(),
    })
}

impl<'call> Shown<'call> {
    fn of_aws(image: &'call Published) -> Self {
        Self {
            id: &image.id,
            name: &image.name,
            architecture: image.architecture,
            owner: Owner::Aws,
            tags: Tags::new(),
        }
    }

    fn filtered_by(&self, filter: &str) -> Vec<String> {
        let text = match filter {
            "architecture" => self.architecture,
            "image-id" => self.id,
            "name" => self.name,
            "state" => "available",
            _ => return Vec::new(),
        };
        vec![text.to_owned()]
    }

    fn described(&self) -> Vec<Element> {
        let (owner, alias) = match self.owner {
            Owner::Account => (ACCOUNT, None),
            Owner::Aws => (PUBLISHER, Some("amazon")),
        };
        let mut found = vec![
            text("imageId", self.id),
            text("name", self.name),
            text("imageState", "available"),
            text("imageOwnerId", owner),
            text("architecture", self.architecture),
            text("creationDate", IMAGE_TIMES.0),
            text("deprecationTime", IMAGE_TIMES.1),
            text("virtualizationType", "hvm"),
            text("rootDeviceType", "ebs"),
            text("rootDeviceName", ROOT_DEVICE),
            set("blockDeviceMapping", vec![root_volume()]),
            tag_set(&self.tags),
        ];
        found.extend(alias.map(|alias| text("imageOwnerAlias", alias)));
        found
    }
}

/// The root volume of every image: EC2 encrypts it where it is asked to.
fn root_volume() -> Vec<Element> {
    let ebs = vec![
        text("deleteOnTermination", true),
        text("encrypted", false),
        text("volumeSize", 8),
        text("volumeType", "gp3"),
    ];
    vec![text("deviceName", ROOT_DEVICE), within("ebs", ebs)]
}

pub(super) fn describe_images(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &["architecture", "image-id", "name", "state"])?;
    let asked = desk.all.texts("ImageId");
    let all = account::all_images();
    let all: Vec<Shown<'_>> = own_images(&all, tags(desk))
        .chain(published::images().iter().map(Shown::of_aws))
        .collect();
    let ids: Vec<String> = all.iter().map(|image| image.id.to_owned()).collect();
    check(&asked, &ids, "InvalidAMIID.NotFound", "image")?;
    let owners = desk.all.texts("Owner");
    let found: BTreeMap<String, Vec<Element>> = all
        .iter()
        .filter(|image| owners.is_empty() || owners.iter().any(|owner| image.owner.is(owner)))
        .filter(|image| asked.is_empty() || asked.contains(&image.id))
        .filter(|image| filters.meet(&image.tags, |filter| image.filtered_by(filter)))
        .map(|image| (image.id.to_owned(), image.described()))
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
