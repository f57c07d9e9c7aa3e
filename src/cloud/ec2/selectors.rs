//! What the selectors of a node class find: subnets, security groups, images.
//!
//! Given: the terms. Given back: what they match in a fixed order, or an [`Unresolved`] that names
//! the terms and the fix. A list of terms matches what any of them matches.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{self as ec2, Filter};
use jiff::Timestamp;

use super::Api;
use super::call::{failed, filter, tag_filters};
use crate::api::node_class::selectors::{
    AmiSelectorTerm, SecurityGroupSelectorTerm, SubnetSelectorTerm,
};
use crate::cloud::buckets::Bucket;
use crate::cloud::facts::Architecture;
use crate::cloud::{CloudError, Unresolved};
use crate::model::node_class::{Image, Subnet};

/// A subnet with what the catalogue and the checks need beside it.
#[derive(Debug, Clone)]
pub(super) struct FoundSubnet {
    pub(super) subnet: Subnet,
    pub(super) vpc: String,
    pub(super) gives_public_address: bool,
}

/// A security group with its VPC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoundGroup {
    pub(super) id: String,
    pub(super) vpc: String,
}

/// Subnets by zone, the one with most free addresses first.
pub(super) async fn subnets(
    api: &Api,
    terms: &[SubnetSelectorTerm],
) -> Result<Vec<FoundSubnet>, CloudError> {
    let ids: Vec<&String> = terms.iter().filter_map(|term| term.id.as_ref()).collect();
    let mut queries: Vec<Vec<Filter>> = terms
        .iter()
        .filter(|term| term.id.is_none())
        .map(|term| tag_filters(&term.tags))
        .collect();
    if !ids.is_empty() {
        queries.push(vec![filter("subnet-id", ids)]);
    }
    let mut found: BTreeMap<String, FoundSubnet> = BTreeMap::new();
    for filters in queries {
        let mut pages = api
            .ec2
            .describe_subnets()
            .set_filters(Some(filters))
            .into_paginator()
            .page_size(500)
            .send();
        loop {
            api.buckets.take(Bucket::Describe, 1).await;
            let Some(page) = pages.next().await else {
                break;
            };
            let page = page.map_err(|error| failed("DescribeSubnets", &error))?;
            let subnets = page.subnets().iter().filter_map(subnet_of);
            found.extend(subnets.map(|subnet| (subnet.subnet.id.clone(), subnet)));
        }
    }
    let mut found: Vec<FoundSubnet> = found.into_values().collect();
    found.sort_by(|one, other| {
        let key = |found: &FoundSubnet| (-found.subnet.free_addresses, found.subnet.id.clone());
        key(one).cmp(&key(other))
    });
    Ok(found)
}

fn subnet_of(subnet: &ec2::Subnet) -> Option<FoundSubnet> {
    if subnet
        .state()
        .is_some_and(|state| *state != ec2::SubnetState::Available)
    {
        return None;
    }
    Some(FoundSubnet {
        subnet: Subnet {
            id: subnet.subnet_id()?.to_owned(),
            zone: subnet.availability_zone()?.to_owned(),
            zone_id: subnet.availability_zone_id().unwrap_or("").to_owned(),
            free_addresses: i64::from(subnet.available_ip_address_count().unwrap_or(0)),
        },
        vpc: subnet.vpc_id().unwrap_or("").to_owned(),
        gives_public_address: subnet.map_public_ip_on_launch().unwrap_or(false),
    })
}

/// Why there are no subnets to use, if so.
pub(super) fn check_subnets(
    terms: &[SubnetSelectorTerm],
    found: &[FoundSubnet],
) -> Result<(), Unresolved> {
    if found.is_empty() {
        let terms = terms
            .iter()
            .enumerate()
            .map(|(index, term)| describe(index, term.id.as_deref(), None, &term.tags));
        return Err(Unresolved {
            reason: "SubnetsNotFound",
            message: nothing_matches("subnet", "spec.subnetSelectorTerms", terms),
        });
    }
    let networks: BTreeSet<&str> = found.iter().map(|found| found.vpc.as_str()).collect();
    if networks.len() > 1 {
        return Err(Unresolved {
            reason: "SubnetsNotFound",
            message: format!(
                "spec.subnetSelectorTerms match subnets of several VPCs ({}): select those of the \
                 cluster's VPC only",
                list(networks)
            ),
        });
    }
    Ok(())
}

/// Security groups in id order.
pub(super) async fn security_groups(
    api: &Api,
    terms: &[SecurityGroupSelectorTerm],
) -> Result<Vec<FoundGroup>, CloudError> {
    let ids: Vec<&String> = terms.iter().filter_map(|term| term.id.as_ref()).collect();
    let names: Vec<&String> = terms.iter().filter_map(|term| term.name.as_ref()).collect();
    let mut queries: Vec<Vec<Filter>> = terms
        .iter()
        .filter(|term| term.id.is_none() && term.name.is_none())
        .map(|term| tag_filters(&term.tags))
        .collect();
    if !ids.is_empty() {
        queries.push(vec![filter("group-id", ids)]);
    }
    if !names.is_empty() {
        queries.push(vec![filter("group-name", names)]);
    }
    let mut found = BTreeSet::new();
    for filters in queries {
        let mut pages = api
            .ec2
            .describe_security_groups()
            .set_filters(Some(filters))
            .into_paginator()
            .page_size(500)
            .send();
        loop {
            api.buckets.take(Bucket::Describe, 1).await;
            let Some(page) = pages.next().await else {
                break;
            };
            let page = page.map_err(|error| failed("DescribeSecurityGroups", &error))?;
            found.extend(page.security_groups().iter().filter_map(|group| {
                Some(FoundGroup {
                    id: group.group_id()?.to_owned(),
                    vpc: group.vpc_id().unwrap_or("").to_owned(),
                })
            }));
        }
    }
    Ok(found.into_iter().collect())
}

/// Why there are no security groups to use, if so.
pub(super) fn check_groups(
    terms: &[SecurityGroupSelectorTerm],
    groups: &[FoundGroup],
    subnets: &[FoundSubnet],
) -> Result<(), Unresolved> {
    if groups.is_empty() {
        let terms = terms.iter().enumerate().map(|(index, term)| {
            describe(index, term.id.as_deref(), term.name.as_deref(), &term.tags)
        });
        return Err(Unresolved {
            reason: "SecurityGroupsNotFound",
            message: nothing_matches("security group", "spec.securityGroupSelectorTerms", terms),
        });
    }
    let networks: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.vpc.as_str()).collect();
    let strangers: Vec<&str> = groups
        .iter()
        .filter(|group| !networks.is_empty() && !networks.contains(group.vpc.as_str()))
        .map(|group| group.id.as_str())
        .collect();
    if !strangers.is_empty() {
        return Err(Unresolved {
            reason: "SecurityGroupsNotFound",
            message: format!(
                "spec.securityGroupSelectorTerms match groups that are not in the subnets' VPC {}: \
                 {}; select groups of that VPC only",
                list(networks),
                strangers.join(", ")
            ),
        });
    }
    Ok(())
}

/// An image with what it is chosen by.
#[derive(Debug, Clone)]
struct FoundImage {
    image: Image,
    architecture: Architecture,
    deprecated: bool,
    created: String,
}

/// Images by architecture: not deprecated ones first, then newest first.
pub(super) async fn images(
    api: &Api,
    terms: &[AmiSelectorTerm],
) -> Result<BTreeMap<String, Vec<Image>>, CloudError> {
    let mut found: BTreeMap<String, FoundImage> = BTreeMap::new();
    for term in terms {
        if term.alias.is_some() || term.ssm_parameter.is_some() {
            continue;
        }
        let mut filters = tag_filters(&term.tags);
        if let Some(id) = &term.id {
            filters.push(filter("image-id", [id]));
        }
        if let Some(name) = &term.name {
            filters.push(filter("name", [name]));
        }
        let owners = match (&term.id, &term.owner) {
            (Some(_id), _) => None,
            (None, Some(owner)) => Some(vec![owner.clone()]),
            // Anybody can publish an image under any name.
            (None, None) => Some(vec!["self".to_owned(), "amazon".to_owned()]),
        };
        let mut pages = api
            .ec2
            .describe_images()
            .set_filters(Some(filters))
            .set_owners(owners)
            .include_deprecated(true)
            .into_paginator()
            .page_size(1000)
            .send();
        loop {
            api.buckets.take(Bucket::Describe, 1).await;
            let Some(page) = pages.next().await else {
                break;
            };
            let page = page.map_err(|error| failed("DescribeImages", &error))?;
            let now = api.world.now();
            let images = page
                .images()
                .iter()
                .filter_map(|image| image_of(image, now));
            found.extend(images.map(|image| (image.image.id.clone(), image)));
        }
    }
    Ok(by_architecture(found.into_values().collect()))
}

fn image_of(image: &ec2::Image, now: Timestamp) -> Option<FoundImage> {
    if image
        .state()
        .is_some_and(|state| *state != ec2::ImageState::Available)
    {
        return None;
    }
    let deprecated = image
        .deprecation_time()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|time| time <= now);
    Some(FoundImage {
        image: Image {
            id: image.image_id()?.to_owned(),
            name: image.name().unwrap_or("").to_owned(),
        },
        architecture: Architecture::parse(image.architecture()?.as_str())?,
        deprecated,
        created: image.creation_date().unwrap_or("").to_owned(),
    })
}

fn by_architecture(mut found: Vec<FoundImage>) -> BTreeMap<String, Vec<Image>> {
    found.sort_by(|one, other| {
        (
            one.deprecated,
            &other.created,
            &other.image.name,
            &one.image.id,
        )
            .cmp(&(
                other.deprecated,
                &one.created,
                &one.image.name,
                &other.image.id,
            ))
    });
    let mut images: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for found in found {
        images
            .entry(found.architecture.as_str().to_owned())
            .or_default()
            .push(found.image);
    }
    images
}

/// Why there are no images to use, if so.
pub(super) fn check_images(
    terms: &[AmiSelectorTerm],
    images: &BTreeMap<String, Vec<Image>>,
) -> Result<(), Unresolved> {
    let by_lookup: Vec<&str> = terms
        .iter()
        .filter_map(|term| term.alias.as_deref().or(term.ssm_parameter.as_deref()))
        .collect();
    if images.is_empty() && !by_lookup.is_empty() {
        return Err(Unresolved {
            reason: "UnsupportedAlias",
            message: format!(
                "spec.amiSelectorTerms {}: aliases and SSM parameters are not supported by this \
                 version; select the image by id, name or tags",
                by_lookup.join(", ")
            ),
        });
    }
    if images.is_empty() {
        let terms = terms.iter().enumerate().map(|(index, term)| {
            describe(index, term.id.as_deref(), term.name.as_deref(), &term.tags)
        });
        return Err(Unresolved {
            reason: "AMINotFound",
            message: nothing_matches("image", "spec.amiSelectorTerms", terms),
        });
    }
    Ok(())
}

fn nothing_matches(what: &str, path: &str, terms: impl Iterator<Item = String>) -> String {
    let terms: Vec<String> = terms.collect();
    format!(
        "no {what} matches {path}{}: correct the terms, or tag the {what}s so that they match",
        terms.join(&format!(" or {path}"))
    )
}

fn describe(
    index: usize,
    id: Option<&str>,
    name: Option<&str>,
    tags: &BTreeMap<String, String>,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(id.map(|id| format!("id {id}")));
    parts.extend(name.map(|name| format!("name {name}")));
    parts.extend(tags.iter().map(|(key, value)| format!("tag {key}={value}")));
    format!("[{index}] ({})", parts.join(", "))
}

fn list<'text>(texts: impl IntoIterator<Item = &'text str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn selectors_that_match_nothing_are_named_with_the_fix() {
        let terms = [
            SubnetSelectorTerm {
                tags: tagged("cluster", "blue"),
                id: None,
            },
            SubnetSelectorTerm {
                tags: BTreeMap::new(),
                id: Some("subnet-1".to_owned()),
            },
        ];
        assert_eq!(
            check_subnets(&terms, &[]).unwrap_err().message,
            "no subnet matches spec.subnetSelectorTerms[0] (tag cluster=blue) or \
             spec.subnetSelectorTerms[1] (id subnet-1): correct the terms, or tag the subnets so \
             that they match"
        );
    }

    #[test]
    fn groups_of_another_network_are_refused_before_ec2_does() {
        let terms = [SecurityGroupSelectorTerm {
            name: Some("nodes".to_owned()),
            ..SecurityGroupSelectorTerm::default()
        }];
        let subnet = FoundSubnet {
            subnet: Subnet {
                id: "subnet-1".to_owned(),
                zone: "us-east-1a".to_owned(),
                zone_id: String::new(),
                free_addresses: 1,
            },
            vpc: "vpc-1".to_owned(),
            gives_public_address: false,
        };
        let group = FoundGroup {
            id: "sg-9".to_owned(),
            vpc: "vpc-2".to_owned(),
        };
        let error = check_groups(&terms, &[group], &[subnet]).unwrap_err();
        assert!(error.message.contains("vpc-1: sg-9"), "{}", error.message);
    }

    #[test]
    fn the_newest_image_that_is_not_deprecated_comes_first() {
        let image = |id: &str, deprecated, created: &str| FoundImage {
            image: Image {
                id: id.to_owned(),
                name: String::new(),
            },
            architecture: Architecture::Amd64,
            deprecated,
            created: created.to_owned(),
        };
        let images = by_architecture(vec![
            image("ami-old", false, "2026-01-01"),
            image("ami-deprecated", true, "2026-09-01"),
            image("ami-new", false, "2026-06-01"),
        ]);
        let ids: Vec<&str> = images["amd64"]
            .iter()
            .map(|image| image.id.as_str())
            .collect();
        assert_eq!(ids, ["ami-new", "ami-old", "ami-deprecated"]);
    }
}
