//! What the selectors of a node class find: subnets and security groups.
//!
//! Given: the terms. Given back: what they match in a fixed order, or an [`Unresolved`] that names
//! the terms and the fix. A list of terms matches what any of them matches.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{self as ec2, Filter};

use super::Api;
use super::call::{failed, filter, tag_filters};
use crate::api::ConditionReason;
use crate::api::node_class::selectors::{SecurityGroupSelectorTerm, SubnetSelectorTerm};
use crate::cloud::buckets::Bucket;
use crate::cloud::terms::{describe, nothing_matches};
use crate::cloud::{CloudError, Unresolved};
use crate::model::node_class::Subnet;

/// Security groups of a network interface at most. Source: "Security groups" of "Amazon VPC quotas" in the VPC user guide.
const MOST_GROUPS: usize = 16;
/// The same unless the quota of the account was raised.
const USUAL_GROUPS: usize = 5;

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

/// What terms found, and for people, the terms that found nothing.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    pub(super) nothing: Vec<String>,
}

/// Subnets by zone, the one with most free addresses first.
pub(super) async fn subnets(
    api: &Api,
    terms: &[SubnetSelectorTerm],
) -> Result<Found<FoundSubnet>, CloudError> {
    let ids: Vec<&String> = terms.iter().filter_map(|term| term.id.as_ref()).collect();
    let named = |(index, term): (usize, &SubnetSelectorTerm)| {
        describe(index, id_of(term.id.as_ref()), &term.tags)
    };
    let mut queries: Vec<(Vec<Filter>, Option<String>)> = terms
        .iter()
        .enumerate()
        .filter(|(_index, term)| term.id.is_none())
        .map(|(index, term)| (tag_filters(&term.tags), Some(named((index, term)))))
        .collect();
    if !ids.is_empty() {
        queries.push((vec![filter("subnet-id", ids)], None));
    }
    let mut found: BTreeMap<String, FoundSubnet> = BTreeMap::new();
    let mut nothing = Vec::new();
    for (filters, term) in queries {
        let mut matched = false;
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
            for subnet in page.subnets().iter().filter_map(subnet_of) {
                matched = true;
                found.insert(subnet.subnet.id.clone(), subnet);
            }
        }
        nothing.extend(term.filter(|_term| !matched));
    }
    let is_absent =
        |term: &SubnetSelectorTerm| term.id.as_ref().is_some_and(|id| !found.contains_key(id));
    let absent = terms
        .iter()
        .enumerate()
        .filter(|(_index, term)| is_absent(term));
    nothing.extend(absent.map(named));
    let mut items: Vec<FoundSubnet> = found.into_values().collect();
    items.sort_by(|one, other| {
        let key = |found: &FoundSubnet| (-found.subnet.free_addresses, found.subnet.id.clone());
        key(one).cmp(&key(other))
    });
    Ok(Found { items, nothing })
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
            .map(|(index, term)| describe(index, id_of(term.id.as_ref()), &term.tags));
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
) -> Result<Found<FoundGroup>, CloudError> {
    let ids: Vec<&String> = terms.iter().filter_map(|term| term.id.as_ref()).collect();
    let named = |(index, term): (usize, &SecurityGroupSelectorTerm)| {
        let name = term.name.as_ref().map(|name| format!("name {name}"));
        describe(index, id_of(term.id.as_ref()).chain(name), &term.tags)
    };
    let mut queries: Vec<(Vec<Filter>, Option<String>)> = terms
        .iter()
        .enumerate()
        .filter(|(_index, term)| term.id.is_none())
        .map(|(index, term)| {
            let mut filters = tag_filters(&term.tags);
            filters.extend(term.name.as_ref().map(|name| filter("group-name", [name])));
            (filters, Some(named((index, term))))
        })
        .collect();
    if !ids.is_empty() {
        queries.push((vec![filter("group-id", ids)], None));
    }
    let mut found = BTreeSet::new();
    let mut nothing = Vec::new();
    for (filters, term) in queries {
        let mut matched = false;
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
            let groups = page.security_groups().iter().filter_map(|group| {
                Some(FoundGroup {
                    id: group.group_id()?.to_owned(),
                    vpc: group.vpc_id().unwrap_or("").to_owned(),
                })
            });
            for group in groups {
                matched = true;
                found.insert(group);
            }
        }
        nothing.extend(term.filter(|_term| !matched));
    }
    let is_absent = |term: &SecurityGroupSelectorTerm| {
        let is_id = |id: &String| found.iter().any(|group: &FoundGroup| group.id == *id);
        term.id.as_ref().is_some_and(|id| !is_id(id))
    };
    let absent = terms
        .iter()
        .enumerate()
        .filter(|(_index, term)| is_absent(term));
    nothing.extend(absent.map(named));
    Ok(Found {
        items: found.into_iter().collect(),
        nothing,
    })
}

/// Why there are no security groups to use, if so.
pub(super) fn check_groups(
    terms: &[SecurityGroupSelectorTerm],
    groups: &[FoundGroup],
    subnets: &[FoundSubnet],
) -> Result<(), Unresolved> {
    if groups.is_empty() {
        let terms = terms.iter().enumerate().map(|(index, term)| {
            let name = term.name.as_ref().map(|name| format!("name {name}"));
            describe(index, id_of(term.id.as_ref()).chain(name), &term.tags)
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
    if groups.len() > MOST_GROUPS {
        return Err(Unresolved {
            reason: ConditionReason::TooManySecurityGroups.as_str(),
            message: format!(
                "spec.securityGroupSelectorTerms match {} security groups ({}), and a network interface has {MOST_GROUPS} \
                 at most: select fewer",
                groups.len(),
                list(groups.iter().map(|group| group.id.as_str()))
            ),
        });
    }
    Ok(())
}

/// What is to be said of groups that EC2 takes only where the quota of the account was raised; whether it was, nobody
/// tells without a permission more.
pub(super) fn remark_on_groups(groups: &[FoundGroup]) -> Option<Unresolved> {
    let is_remarkable = USUAL_GROUPS + 1..=MOST_GROUPS;
    is_remarkable.contains(&groups.len()).then(|| Unresolved {
        reason: ConditionReason::TooManySecurityGroups.as_str(),
        message: format!(
            "spec.securityGroupSelectorTerms match {} security groups, and EC2 refuses more than {USUAL_GROUPS} for a \
             network interface unless the account's quota was raised: select fewer, or raise the quota for security \
             groups per network interface in Service Quotas, to {MOST_GROUPS} at most",
            groups.len()
        ),
    })
}

fn id_of(id: Option<&String>) -> impl Iterator<Item = String> {
    id.map(|id| format!("id {id}")).into_iter()
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

    fn subnet() -> FoundSubnet {
        FoundSubnet {
            subnet: Subnet {
                id: "subnet-1".to_owned(),
                zone: "us-east-1a".to_owned(),
                zone_id: String::new(),
                free_addresses: 1,
            },
            vpc: "vpc-1".to_owned(),
            gives_public_address: false,
        }
    }

    fn by_name() -> [SecurityGroupSelectorTerm; 1] {
        [SecurityGroupSelectorTerm {
            name: Some("nodes".to_owned()),
            ..SecurityGroupSelectorTerm::default()
        }]
    }

    #[test]
    fn groups_of_another_network_are_refused_before_ec2_does() {
        let group = FoundGroup {
            id: "sg-9".to_owned(),
            vpc: "vpc-2".to_owned(),
        };
        let error = check_groups(&by_name(), &[group], &[subnet()]).unwrap_err();
        assert!(error.message.contains("vpc-1: sg-9"), "{}", error.message);
    }

    #[test]
    fn more_groups_than_an_interface_may_have_are_refused_and_more_than_is_usual_are_told_of() {
        for (count, is_refused, is_told) in [
            (5, false, false),
            (6, false, true),
            (16, false, true),
            (17, true, false),
        ] {
            let group = |index| FoundGroup {
                id: format!("sg-{index}"),
                vpc: "vpc-1".to_owned(),
            };
            let groups: Vec<FoundGroup> = (0..count).map(group).collect();
            let checked = check_groups(&by_name(), &groups, &[subnet()]);
            assert_eq!(checked.is_err(), is_refused, "{count}: {checked:?}");
            if let Err(why) = checked {
                for part in ["17 security groups", "sg-16", "select fewer"] {
                    assert!(why.message.contains(part), "{}", why.message);
                }
            }
            let remark = remark_on_groups(&groups);
            assert_eq!(remark.is_some(), is_told, "{count}: {remark:?}");
            if let Some(remark) = remark {
                assert!(remark.message.contains("Service Quotas"));
            }
        }
    }
}
