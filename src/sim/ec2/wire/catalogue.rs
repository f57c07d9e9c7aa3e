//! What the region sells, as EC2 describes it: types, the zones that offer them, spot prices.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Desk;
use super::answer::{Element, set, text, texts, within};
use super::filter::Filters;
use super::page::{Length, page};
use crate::cloud::facts::{Architecture, AttachmentLimit, Feature, Gpu, InstanceFacts, Neuron};
use crate::model::offering::{CapacityType, OfferingKey};
use crate::sim::ec2::market::PRICE_STEP;
use crate::sim::ec2::refusal::Refusal;
use crate::sim::ec2::template::Tags;

/// The one product that spot prices are of.
const PRODUCT: &str = "Linux/UNIX";
/// How far back spot prices are told; EC2 tells 90 days.
const PRICES_KEPT: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn describe_instance_types(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let names = [
        "bare-metal",
        "hypervisor",
        "instance-type",
        "processor-info.supported-architecture",
        "supported-usage-class",
        "supported-virtualization-type",
    ];
    let filters = Filters::read(&desk.all, &names)?;
    let asked = desk.all.texts("InstanceType");
    let sold = &desk.state.markets.sold().types;
    let unknown: Vec<&str> = asked
        .iter()
        .copied()
        .filter(|name| !sold.contains_key(*name))
        .collect();
    if !unknown.is_empty() {
        return Err(Refusal::new(
            "InvalidInstanceType",
            format!(
                "The following supplied instance types do not exist: [{}]",
                unknown.join(", ")
            ),
        ));
    }
    let found = sold
        .iter()
        .filter(|(name, _facts)| asked.is_empty() || asked.contains(&&***name))
        .filter(|(_name, facts)| filters.meet(&Tags::new(), |filter| of_type(facts, filter)))
        .map(|(name, facts)| (name.to_string(), Arc::clone(facts)));
    let length = Length {
        least: 5,
        most: 100,
        usual: 100,
    };
    let page = page(found.collect(), &desk.all, length)?;
    let mut answer = vec![set(
        "instanceTypeSet",
        page.things.iter().map(|facts| type_info(facts)),
    )];
    answer.extend(page.next);
    Ok(answer)
}

fn of_type(facts: &InstanceFacts, filter: &str) -> Vec<String> {
    match filter {
        "bare-metal" => vec![facts.bare_metal.to_string()],
        "hypervisor" => vec![facts.hypervisor.clone()],
        "instance-type" => vec![facts.name.to_string()],
        "processor-info.supported-architecture" => vec![architecture(facts).to_owned()],
        "supported-usage-class" => usage_classes(facts),
        "supported-virtualization-type" => vec!["hvm".to_owned()],
        _ => Vec::new(),
    }
}

const fn architecture(facts: &InstanceFacts) -> &'static str {
    match facts.architecture {
        Architecture::Amd64 => "x86_64",
        Architecture::Arm64 => "arm64",
    }
}

fn usage_classes(facts: &InstanceFacts) -> Vec<String> {
    [("on-demand", facts.on_demand), ("spot", facts.spot)]
        .into_iter()
        .filter(|(_class, sold)| *sold)
        .map(|(class, _sold)| class.to_owned())
        .collect()
}

/// A number of thousandths, as the decimal that EC2 writes.
fn decimal(thousandths: u32) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

fn type_info(facts: &InstanceFacts) -> Vec<Element> {
    let mut processor = vec![
        texts("supportedArchitectures", [architecture(facts)]),
        text("manufacturer", &facts.cpu_manufacturer),
    ];
    if facts.clock_mhz > 0 {
        processor.push(text("sustainedClockSpeedInGhz", decimal(facts.clock_mhz)));
    }
    if facts.features.contains(&Feature::NestedVirtualization) {
        processor.push(texts("supportedFeatures", ["nested-virtualization"]));
    }
    let enclaves = if facts.features.contains(&Feature::Enclaves) {
        "supported"
    } else {
        "unsupported"
    };
    let mut info = vec![
        text("nitroEnclavesSupport", enclaves),
        text("instanceType", &facts.name),
        texts("supportedUsageClasses", usage_classes(facts)),
        texts("supportedVirtualizationTypes", ["hvm"]),
        text("bareMetal", facts.bare_metal),
        within("processorInfo", processor),
        within("vCpuInfo", vec![text("defaultVCpus", facts.vcpus)]),
        within("memoryInfo", vec![text("sizeInMiB", facts.memory_mib)]),
        within("ebsInfo", ebs_info(facts)),
        within("networkInfo", network_info(facts)),
        within(
            "placementGroupInfo",
            vec![texts(
                "supportedStrategies",
                facts.placement.iter().map(|strategy| strategy.as_str()),
            )],
        ),
    ];
    if !facts.hypervisor.is_empty() {
        info.push(text("hypervisor", &facts.hypervisor));
    }
    if facts.local_nvme_gb > 0 {
        let storage = vec![
            text("totalSizeInGB", facts.local_nvme_gb),
            text("nvmeSupport", "required"),
        ];
        info.push(within("instanceStorageInfo", storage));
    }
    if !facts.gpus.is_empty() {
        let gpus = set("gpus", facts.gpus.iter().map(gpu));
        info.push(within("gpuInfo", vec![gpus]));
    }
    if !facts.neurons.is_empty() {
        let devices = set("neuronDevices", facts.neurons.iter().map(neuron));
        info.push(within("neuronInfo", vec![devices]));
    }
    info
}

fn ebs_info(facts: &InstanceFacts) -> Vec<Element> {
    let mut info = Vec::new();
    if facts.ebs_mbps > 0 {
        info.push(text("ebsOptimizedSupport", "default"));
        let bandwidth = vec![text("maximumBandwidthInMbps", facts.ebs_mbps)];
        info.push(within("ebsOptimizedInfo", bandwidth));
    } else {
        info.push(text("ebsOptimizedSupport", "unsupported"));
    }
    info.extend(
        facts
            .volume_attachments
            .map(|most| text("maximumEbsAttachments", most)),
    );
    let kind = if facts.attachment_limit == AttachmentLimit::Shared {
        "shared"
    } else {
        "dedicated"
    };
    info.push(text("attachmentLimitType", kind));
    info
}

fn network_info(facts: &InstanceFacts) -> Vec<Element> {
    let share = u32::try_from(facts.cards.len().max(1)).unwrap_or(1);
    let cards = facts.cards.iter().enumerate().map(|(index, most)| {
        vec![
            text("networkCardIndex", index),
            text("maximumNetworkInterfaces", most),
            text(
                "baselineBandwidthInGbps",
                decimal(facts.network_mbps / share),
            ),
        ]
    });
    let mut info = vec![
        text("maximumNetworkInterfaces", facts.interfaces),
        text("maximumNetworkCards", facts.cards.len()),
        text("defaultNetworkCardIndex", 0),
        set("networkCards", cards),
        text("ipv4AddressesPerInterface", facts.addresses_per_interface),
        text("efaSupported", facts.efa_interfaces > 0),
    ];
    if facts.efa_interfaces > 0 {
        let most = vec![text("maximumEfaInterfaces", facts.efa_interfaces)];
        info.push(within("efaInfo", most));
    }
    info.extend(
        facts
            .encrypted_in_transit
            .map(|encrypted| text("encryptionInTransitSupported", encrypted)),
    );
    info
}

fn gpu(gpu: &Gpu) -> Vec<Element> {
    vec![
        text("name", &gpu.name),
        text("manufacturer", &gpu.manufacturer),
        text("count", gpu.count),
        within("memoryInfo", vec![text("sizeInMiB", gpu.memory_mib)]),
    ]
}

fn neuron(device: &Neuron) -> Vec<Element> {
    vec![
        text("name", &device.name),
        text("count", device.count),
        within("coreInfo", vec![text("count", device.cores)]),
    ]
}

pub(super) fn describe_instance_type_offerings(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let filters = Filters::read(&desk.all, &["instance-type", "location"])?;
    let by_zone = match desk.all.text("LocationType") {
        Some("availability-zone") => true,
        None | Some("region") => false,
        Some(_other) => {
            let wanted = "Locations are zones (availability-zone) or the region here.";
            return Err(desk.all.wrong("LocationType", wanted));
        }
    };
    let market = desk.state.markets.sold();
    let mut found = BTreeMap::new();
    for (name, zones) in &market.zones {
        let locations: Vec<&str> = if by_zone {
            zones.iter().map(|zone| &**zone).collect()
        } else {
            vec![&market.region]
        };
        for location in locations {
            let of = |filter: &str| match filter {
                "location" => vec![location.to_owned()],
                _ => vec![name.to_string()],
            };
            if filters.meet(&Tags::new(), of) {
                let member = vec![
                    text("instanceType", name),
                    text(
                        "locationType",
                        if by_zone {
                            "availability-zone"
                        } else {
                            "region"
                        },
                    ),
                    text("location", location),
                ];
                found.insert(format!("{name}/{location}"), member);
            }
        }
    }
    let length = Length {
        usual: 1_000,
        ..Length::OLD
    };
    let page = page(found, &desk.all, length)?;
    let mut answer = vec![set("instanceTypeOfferingSet", page.things)];
    answer.extend(page.next);
    Ok(answer)
}

pub(super) fn describe_spot_price_history(desk: &Desk<'_>) -> Result<Vec<Element>, Refusal> {
    let names = ["availability-zone", "instance-type", "product-description"];
    let filters = Filters::read(&desk.all, &names)?;
    let products = desk.all.texts("ProductDescription");
    let asked = desk.all.texts("InstanceType");
    let end = time(desk, "EndTime")?.unwrap_or(desk.now).min(desk.now);
    let earliest = desk.now.saturating_sub(PRICES_KEPT).unwrap_or(end);
    let start = time(desk, "StartTime")?
        .unwrap_or(earliest)
        .max(earliest)
        .min(end);
    let mut found = BTreeMap::new();
    for (name, zones) in &desk.state.markets.sold().zones {
        let is_asked = asked.is_empty() || asked.contains(&&**name);
        if !is_asked || !(products.is_empty() || products.contains(&PRODUCT)) {
            continue;
        }
        for zone in zones {
            let of = |filter: &str| match filter {
                "availability-zone" => vec![zone.to_string()],
                "instance-type" => vec![name.to_string()],
                _ => vec![PRODUCT.to_owned()],
            };
            if filters.meet(&Tags::new(), of) {
                let key = OfferingKey {
                    instance_type: Arc::clone(name),
                    zone: Arc::clone(zone),
                    capacity_type: CapacityType::Spot,
                };
                found.extend(prices(desk, &key, start, end));
            }
        }
    }
    let length = Length {
        least: 1,
        most: 1_000,
        usual: 1_000,
    };
    let page = page(found, &desk.all, length)?;
    let mut answer = vec![set("spotPriceHistorySet", page.things)];
    answer.extend(page.next);
    Ok(answer)
}

/// The price that held at the start, and each that followed until the end.
fn prices(
    desk: &Desk<'_>,
    key: &OfferingKey,
    start: Timestamp,
    end: Timestamp,
) -> Vec<(String, Vec<Element>)> {
    let mut found = Vec::new();
    let mut last = None;
    let mut step = start.as_second().div_euclid(PRICE_STEP);
    while step.saturating_mul(PRICE_STEP) <= end.as_second() {
        let since = Timestamp::from_second(step.saturating_mul(PRICE_STEP)).unwrap_or(start);
        let price = desk.state.markets.price(key, since);
        if let Some(price) = price.filter(|price| last != Some(*price)) {
            let row = vec![
                text("instanceType", &key.instance_type),
                text("availabilityZone", &key.zone),
                text("productDescription", PRODUCT),
                text("spotPrice", price),
                text("timestamp", super::time(since)),
            ];
            found.push((format!("{key}/{}", super::time(since)), row));
        }
        last = price;
        step += 1;
    }
    found
}

fn time(desk: &Desk<'_>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    desk.all
        .text(name)
        .map(str::parse::<Timestamp>)
        .transpose()
        .map_err(|_no_time| desk.all.wrong(name, "It must be a time in ISO 8601."))
}
