//! Launch templates: what is in them, and which offerings share one.

use std::sync::Arc;

use super::*;
use crate::api::node_class::selectors::CapacityReservationSelectorTerm;
use crate::cloud::builtin;
use crate::cloud::catalogue::Terms;
use crate::cloud::class::{self, ClassDefaults};
use crate::model::node_class::{Accelerator, Image, PlainRoot, Subnet};
use crate::model::taint::{Taint, TaintEffect};

fn spec() -> EC2NodeClassSpec {
    serde_json::from_value(serde_json::json!({
        "subnetSelectorTerms": [{ "tags": { "a": "b" } }],
        "securityGroupSelectorTerms": [{ "name": "nodes" }],
        "amiSelectorTerms": [{ "id": "ami-1" }],
        "amiFamily": "AL2023",
        "instanceProfile": "nodes",
        "tags": { "team": "data" },
    }))
    .unwrap()
}

fn resolved(settings: &ClassSettings) -> NodeClass {
    let zones = ["us-east-1a", "us-east-1b"];
    let images = BTreeMap::from([("amd64".to_owned(), Accelerator::all())]);
    let in_zones = zones.map(|zone| (zone.to_owned(), false)).into();
    let terms = Terms::of(settings, images, in_zones);
    NodeClass {
        name: "default".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
        ready: true,
        not_ready: String::new(),
        subnets: zones
            .map(|zone| {
                let subnet = Subnet {
                    id: format!("subnet-{zone}"),
                    zone: zone.to_owned(),
                    zone_id: String::new(),
                    free_addresses: 100,
                };
                (zone.to_owned(), vec![subnet])
            })
            .into(),
        security_groups: vec!["sg-1".to_owned()],
        images: BTreeMap::from([("amd64".to_owned(), vec![Image::new("ami-1", "one")])]),
        hash: String::new(),
        catalogue: Arc::new(builtin::catalogue(&terms)),
        reservations: Vec::new(),
        placement_group: None,
        lists_interfaces: false,
    }
}

fn claim() -> Claim {
    Claim {
        name: "executors-abcde".to_owned(),
        uid: "uid".to_owned(),
        resource_version: "1".to_owned(),
        generation: 1,
        node_pool: Some("executors".to_owned()),
        node_class: "default".to_owned(),
        labels: Arc::new(BTreeMap::from([(
            "karpenter.sh/nodepool".to_owned(),
            "executors".to_owned(),
        )])),
        taints: vec![Taint::new("dedicated", "executor", TaintEffect::NoSchedule)],
        ..Claim::default()
    }
}

fn cluster() -> ClusterFacts {
    ClusterFacts {
        name: "blue".to_owned(),
        endpoint: "https://blue.example".to_owned(),
        certificate_authority: "Q0E=".to_owned(),
        service_cidr: "10.100.0.0/16".to_owned(),
        dns_address: None,
    }
}

fn groups(spec: &EC2NodeClassSpec, claim: &Claim, offerings: &[&str]) -> Vec<TemplateGroup> {
    groups_in("us-east-1", spec, claim, offerings)
}

fn groups_in(
    region: &str,
    spec: &EC2NodeClassSpec,
    claim: &Claim,
    offerings: &[&str],
) -> Vec<TemplateGroup> {
    let settings = class::read(spec, ClassDefaults::default()).unwrap();
    let resolved = resolved(&settings);
    let cluster = cluster();
    let source = Source {
        cluster: &cluster,
        region,
        spec,
        settings: &settings,
        resolved: &resolved,
        instance_profile: "nodes",
        taken: &Taken::default(),
    };
    let offerings: Vec<OfferingKey> = offerings.iter().map(|text| text.parse().unwrap()).collect();
    group(&source, claim, &offerings).unwrap()
}

fn listed(groups: &[TemplateGroup]) -> Vec<Vec<String>> {
    groups
        .iter()
        .map(|group| {
            group
                .overrides
                .iter()
                .map(|choice| {
                    format!(
                        "{} {} {} {}",
                        choice.priority, choice.instance_type, choice.zone, choice.subnet
                    )
                })
                .collect()
        })
        .collect()
}

#[test]
fn isolated_regions_are_told_of_ipv6_only_where_it_is_to_be_on() {
    let said = |region: &str, spec: &EC2NodeClassSpec| {
        let groups = groups_in(region, spec, &claim(), &["c5.xlarge/us-east-1a/spot"]);
        groups[0].template.metadata.ipv6.clone()
    };
    let mut on = spec();
    on.metadata_options.http_protocol_ipv6 = Toggle::Enabled;
    for region in [
        "us-iso-east-1",
        "us-isob-east-1",
        "us-isof-south-1",
        "eu-isoe-west-1",
    ] {
        assert_eq!(said(region, &spec()), None, "{region}");
        assert_eq!(said(region, &on).as_deref(), Some("enabled"), "{region}");
    }
    for region in ["us-east-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"] {
        assert_eq!(said(region, &spec()).as_deref(), Some("disabled"));
    }
}

#[test]
fn offerings_of_one_size_share_a_template_and_keep_their_rank() {
    let groups = groups(
        &spec(),
        &claim(),
        &[
            "c5.xlarge/us-east-1a/spot",
            "c5.4xlarge/us-east-1a/spot",
            "c5d.xlarge/us-east-1b/spot",
            "c5.xlarge/us-east-1b/on-demand",
            "c5.xlarge/us-east-1f/spot",
            "m6g.large/us-east-1a/spot",
            "c5.xlarge/us-east-1b/spot",
        ],
    );
    assert_eq!(
        listed(&groups),
        [
            vec![
                "0 c5.xlarge us-east-1a subnet-us-east-1a",
                "2 c5d.xlarge us-east-1b subnet-us-east-1b",
                "3 c5.xlarge us-east-1b subnet-us-east-1b",
            ],
            vec!["1 c5.4xlarge us-east-1a subnet-us-east-1a"],
        ]
    );
}

#[test]
fn the_name_follows_the_content_and_nothing_else() {
    let name = |spec: &EC2NodeClassSpec, claim: &Claim| {
        groups(spec, claim, &["c5.xlarge/us-east-1a/spot"])[0]
            .template
            .name()
    };
    let base = name(&spec(), &claim());
    assert!(base.starts_with("tonnage-") && base.len() == 40, "{base}");
    let another = Claim {
        name: "executors-fghij".to_owned(),
        uid: "other".to_owned(),
        ..claim()
    };
    assert_eq!(name(&spec(), &another), base);
    let mut tagged = spec();
    tagged.tags.insert("team".to_owned(), "other".to_owned());
    assert_ne!(name(&tagged, &claim()), base);
    let tainted = Claim {
        taints: Vec::new(),
        ..claim()
    };
    assert_ne!(name(&spec(), &tainted), base);
}

#[test]
fn machines_are_called_like_their_node_pool_unless_the_class_names_them() {
    let tags = |spec: &EC2NodeClassSpec| {
        let mut groups = groups(spec, &claim(), &["c5.xlarge/us-east-1a/spot"]);
        groups.remove(0).template.tags
    };
    let pool = claim().node_pool.unwrap();
    let expected = [("Name", pool.as_str()), ("team", "data")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(tags(&spec()), BTreeMap::from(expected));
    let mut named = spec();
    named.tags.insert("Name".to_owned(), "ours".to_owned());
    assert_eq!(tags(&named), named.tags);
}

#[test]
fn a_template_holds_what_machines_need_and_imdsv2_by_default() {
    let groups = groups(&spec(), &claim(), &["c5.xlarge/us-east-1a/on-demand"]);
    let template = &groups[0].template;
    assert_eq!(template.security_groups, ["sg-1"]);
    assert_eq!(template.metadata.tokens, "required");
    assert_eq!(template.metadata.hop_limit, 1);
    assert!(template.user_data.contains("karpenter.sh/unregistered"));
    assert!(
        template
            .user_data
            .contains("karpenter.sh/capacity-type=on-demand")
    );
    assert!(template.user_data.contains("maxPods: 58"));
    assert!(template.user_data.contains("cpu: 80m"));
}

#[test]
fn a_root_volume_that_the_class_does_not_name_is_the_images_own_and_encrypted() {
    let mut spec = spec();
    spec.ami_family = serde_json::from_value("Custom".into()).unwrap();
    let settings = class::read(&spec, ClassDefaults::default()).unwrap();
    assert_eq!(settings.volumes, []);
    let image = |plain_root| Image {
        plain_root,
        ..Image::new("ami-1", "one")
    };
    let root = PlainRoot {
        device_name: "/dev/sda1".to_owned(),
        delete_on_termination: false,
    };
    let volumes = disks::of_machine(&settings.volumes, &image(Some(root)));
    let [volume] = volumes.as_slice() else {
        panic!("one volume expected: {volumes:?}");
    };
    assert_eq!(
        (volume.device_name.as_str(), volume.encrypted),
        ("/dev/sda1", true)
    );
    let of_the_image = (volume.gib, volume.kind, volume.delete_on_termination);
    assert_eq!(of_the_image, (None, None, false));
    // One that has a key of its own is not spoken of.
    assert_eq!(disks::of_machine(&settings.volumes, &image(None)), []);
}

#[test]
fn the_root_volume_of_any_of_its_images_counts_among_those_of_a_machine() {
    let mut spec = spec();
    spec.block_device_mappings = serde_json::from_value(serde_json::json!([
        { "deviceName": "/dev/xvda", "ebs": { "volumeSize": "20Gi" } },
        { "deviceName": "/dev/xvdc", "ebs": { "volumeSize": "20Gi" } },
    ]))
    .unwrap();
    let settings = class::read(&spec, ClassDefaults::default()).unwrap();
    let image = |device_name: &str| Image {
        plain_root: Some(PlainRoot {
            device_name: device_name.to_owned(),
            delete_on_termination: true,
        }),
        ..Image::new("ami-1", "one")
    };
    let most = |images: Vec<Image>| {
        let images = BTreeMap::from([("amd64".to_owned(), images)]);
        disks::most_of_machine(&settings.volumes, &images)
    };
    assert_eq!(most(vec![image("/dev/xvda")]), 2);
    assert_eq!(most(vec![image("/dev/xvda"), image("/dev/sda1")]), 3);
    assert_eq!(most(Vec::new()), 2);
}

#[test]
fn claims_that_ask_for_efa_have_a_template_of_their_own() {
    let offering = ["g4dn.12xlarge/us-east-1a/on-demand"];
    let plain = groups(&spec(), &claim(), &offering);
    let mut asking = claim();
    asking.requests.set(EFA, 1);
    let speaking = groups(&spec(), &asking, &offering);
    let traffic = |groups: &[TemplateGroup]| -> Vec<&str> {
        let interfaces = groups[0].template.interfaces.iter();
        interfaces.map(|found| found.traffic.as_str()).collect()
    };
    assert_eq!(
        (traffic(&plain), traffic(&speaking)),
        (Vec::new(), vec!["efa"])
    );
    assert_ne!(plain[0].template.name(), speaking[0].template.name());
}

#[test]
fn machines_are_placed_in_the_reservation_that_the_claim_names_or_in_none() {
    let reserving = |spec: &EC2NodeClassSpec, claim: &Claim, offering: &str| {
        let mut groups = groups(spec, claim, &[offering]).into_iter();
        groups.next().map(|group| group.template.reserving)
    };
    let mut named = claim();
    Arc::make_mut(&mut named.labels).insert(
        labels::CAPACITY_RESERVATION_ID.to_owned(),
        "cr-1".to_owned(),
    );
    let reserved = "c5.xlarge/us-east-1a/reserved";
    let expected = Some(Some(Reserving::Only("cr-1".to_owned())));
    assert_eq!(reserving(&spec(), &named, reserved), expected);
    assert_eq!(reserving(&spec(), &claim(), reserved), None);
    let kind = labels::CAPACITY_RESERVATION_TYPE.to_owned();
    Arc::make_mut(&mut named.labels).insert(kind, "capacity-block".to_owned());
    let expected = Some(Some(Reserving::Block("cr-1".to_owned())));
    assert_eq!(reserving(&spec(), &named, reserved), expected);
    let on_demand = "c5.xlarge/us-east-1a/on-demand";
    assert_eq!(reserving(&spec(), &claim(), on_demand), Some(None));
    let mut selecting = spec();
    selecting.capacity_reservation_selector_terms = vec![CapacityReservationSelectorTerm {
        id: Some("cr-1".to_owned()),
        ..CapacityReservationSelectorTerm::default()
    }];
    let nowhere = Some(Some(Reserving::Nowhere));
    assert_eq!(reserving(&selecting, &claim(), on_demand), nowhere);
}

#[test]
fn nothing_to_buy_needs_no_template() {
    assert_eq!(
        listed(&groups(&spec(), &claim(), &[])),
        Vec::<Vec<String>>::new()
    );
}

#[test]
fn a_machine_takes_an_address_for_each_interface_with_ip_and_those_of_its_prefixes() {
    let mut template = groups(&spec(), &claim(), &["c5.xlarge/us-east-1a/spot"])
        .remove(0)
        .template;
    assert_eq!(template.addresses(), 1);
    template.prefix_count = Some(2);
    assert_eq!(template.addresses(), 33);
    template.interfaces = [Traffic::Interface, Traffic::Efa, Traffic::EfaOnly]
        .into_iter()
        .zip(0..)
        .map(|(traffic, card)| Interface {
            card,
            device: u32::from(card > 0),
            traffic,
        })
        .collect();
    assert_eq!(template.addresses(), 66);
}
