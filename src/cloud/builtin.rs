//! The catalogue without EC2: what `tonnage plan` and the tests plan with.
//!
//! Given: nothing, or the terms of a node class. Given back: the types, zones and on-demand prices
//! of us-east-1 that ship with the binary. Spot prices change by the minute, so none ship: spot
//! offerings are there at the on-demand price, which they never exceed. So a plan made offline is
//! an upper bound where spot is allowed, and pools that allow only spot can be planned too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;

use super::catalogue::{self, Market, Terms};
use super::class::{self, ClassDefaults, ClassError};
use super::facts::{self, Architecture};
use super::images;
use super::prices::PriceTable;
use crate::api::image_alias::ImageAlias;
use crate::api::node_class::{EC2NodeClass, EC2NodeClassSpec};
use crate::model::kubernetes_version::KubernetesVersion;
use crate::model::node_class::{Accelerator, Image, NodeClass, Subnet};
use crate::model::offering::Catalogue;

/// The market of us-east-1 as it ships with the binary.
pub fn market() -> Market {
    let table = facts::built_in();
    Market {
        region: facts::BUILT_IN_REGION.to_owned(),
        types: table.types.clone(),
        zones: table.zones.clone(),
        prices: PriceTable::built_in(),
        unread: Vec::new(),
    }
}

/// The zones of the built-in market, none with public addresses: where a node class of a manifest
/// is taken to have its subnets.
pub fn zones() -> BTreeMap<String, bool> {
    facts::built_in()
        .zones
        .values()
        .flatten()
        .map(|zone| (zone.to_string(), false))
        .collect()
}

/// What can be bought under the terms of a node class, offline.
pub fn catalogue(terms: &Terms) -> Catalogue {
    catalogue::build(&market(), terms)
}

/// A node class of a manifest as if its selectors had matched: a subnet in every zone, and an image
/// for amd64, or for the architectures that its image terms speak of.
pub fn node_class(object: &EC2NodeClass) -> Result<NodeClass, ClassError> {
    let settings = class::read(&object.spec, ClassDefaults::default())?;
    let is_deleting = object.metadata.deletion_timestamp.is_some();
    let zones = zones();
    let public = object.spec.associate_public_ip_address == Some(true);
    let served = served(&object.spec);
    let in_zones = zones.keys().map(|zone| (zone.clone(), public)).collect();
    let terms = Terms::of(&settings, served.clone(), in_zones);
    let subnet = |zone: &String| Subnet {
        id: format!("subnet-in-{zone}"),
        zone: zone.clone(),
        zone_id: String::new(),
        free_addresses: i64::from(u16::MAX),
    };
    let image = |architecture: &String, serves: &BTreeSet<Accelerator>| Image {
        serves: serves.clone(),
        ..Image::new(format!("image-for-{architecture}"), "")
    };
    Ok(NodeClass {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or(0),
        ready: !is_deleting,
        not_ready: if is_deleting {
            class::DELETING.to_owned()
        } else {
            String::new()
        },
        subnets: zones
            .keys()
            .map(|zone| (zone.clone(), vec![subnet(zone)]))
            .collect(),
        security_groups: Vec::new(),
        images: served
            .iter()
            .map(|(architecture, serves)| (architecture.clone(), vec![image(architecture, serves)]))
            .collect(),
        hash: class::hash(&object.spec),
        catalogue: Arc::new(catalogue(&terms)),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: !object.spec.network_interfaces.is_empty(),
    })
}

/// As [`node_class`]; a class that cannot be used is not ready, and says why.
pub fn node_class_or_reason(object: &EC2NodeClass) -> NodeClass {
    node_class(object).unwrap_or_else(|problem| NodeClass {
        name: object.name_any(),
        uid: String::new(),
        generation: 0,
        ready: false,
        not_ready: problem.to_string(),
        subnets: BTreeMap::new(),
        security_groups: Vec::new(),
        images: BTreeMap::new(),
        hash: String::new(),
        catalogue: Arc::new(Catalogue::default()),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: false,
    })
}

/// As [`node_class_or_reason`], by name.
pub fn node_classes(objects: &[EC2NodeClass]) -> BTreeMap<String, Arc<NodeClass>> {
    objects
        .iter()
        .map(node_class_or_reason)
        .map(|class| (class.name.clone(), Arc::new(class)))
        .collect()
}

/// What the images of a class serve: those of an alias what AWS publishes, others every machine of the
/// architectures that their terms speak of.
fn served(spec: &EC2NodeClassSpec) -> BTreeMap<String, BTreeSet<Accelerator>> {
    // Which images there are is the same for every version.
    let any = KubernetesVersion { major: 1, minor: 0 };
    let mut found: BTreeMap<String, BTreeSet<Accelerator>> = BTreeMap::new();
    for term in &spec.ami_selector_terms {
        if let Some(Ok(alias)) = term.alias.as_deref().map(ImageAlias::parse) {
            for parameter in images::parameters_of(&alias, any) {
                let architecture = parameter.architecture.as_str().to_owned();
                found
                    .entry(architecture)
                    .or_default()
                    .extend(parameter.serves);
            }
            continue;
        }
        let texts = [&term.name, &term.ssm_parameter];
        let says_arm = texts
            .into_iter()
            .flatten()
            .chain(term.tags.values())
            .any(|text| text.contains("arm64") || text.contains("aarch64"));
        let architecture = if says_arm {
            Architecture::Arm64
        } else {
            Architecture::Amd64
        };
        found.insert(architecture.as_str().to_owned(), Accelerator::all());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(ami: &serde_json::Value) -> EC2NodeClass {
        let spec = serde_json::from_value(serde_json::json!({
            "subnetSelectorTerms": [{ "tags": { "a": "b" } }],
            "securityGroupSelectorTerms": [{ "name": "nodes" }],
            "amiSelectorTerms": [ami],
            "amiFamily": "AL2023",
            "instanceProfile": "nodes",
            "blockDeviceMappings": [
                { "deviceName": "/dev/xvda", "ebs": { "volumeSize": "100Gi", "volumeType": "gp3" } },
            ],
        }))
        .unwrap();
        EC2NodeClass::new("default", spec)
    }

    #[test]
    fn a_manifest_becomes_a_class_that_can_be_planned_with() {
        let class = node_class(&class(&serde_json::json!({ "id": "ami-1" }))).unwrap();
        assert!(class.ready && class.images.contains_key("amd64"));
        let offering = class
            .catalogue
            .offerings
            .iter()
            .find(|offering| offering.key.to_string() == "c5.xlarge/us-east-1a/on-demand")
            .unwrap();
        assert_eq!(offering.price.to_string(), "0.170");
        assert_eq!(offering.fees.to_string(), "0.0109589041");
    }

    #[test]
    fn architectures_follow_the_image_terms() {
        let of = |ami: serde_json::Value| {
            let class = node_class(&class(&ami)).unwrap();
            class.images.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of(serde_json::json!({ "name": "node-*" })), ["amd64"]);
        assert_eq!(of(serde_json::json!({ "name": "node-arm64-*" })), ["arm64"]);
        assert_eq!(
            of(serde_json::json!({ "alias": "al2023@latest" })),
            ["amd64", "arm64"]
        );
        let types =
            |ami: serde_json::Value| node_class(&class(&ami)).unwrap().catalogue.types.clone();
        let by_alias = types(serde_json::json!({ "alias": "al2023@latest" }));
        assert!(by_alias.contains_key("g4dn.xlarge") && by_alias.contains_key("c5.xlarge"));
    }

    #[test]
    fn zones_that_sell_todays_types() {
        let zones: Vec<String> = zones().into_keys().collect();
        assert_eq!(
            zones,
            ["a", "b", "c", "d", "f"].map(|letter| format!("us-east-1{letter}"))
        );
    }
}
