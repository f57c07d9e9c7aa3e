//! From EC2's description of an instance type to plain facts.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_ec2::types::{
    self as ec2, AttachmentLimitType, EbsOptimizedSupport, EphemeralNvmeSupport, InstanceTypeInfo,
    NitroEnclavesSupport, SupportedAdditionalProcessorFeature, UsageClassType,
};

use crate::cloud::facts::{
    self, Architecture, AttachmentLimit, Feature, Gpu, InstanceFacts, Neuron,
};
use crate::model::placement_group::Strategy;

/// Network cards of a type at most, well above what any type has (32).
const MOST_CARDS: usize = 256;

/// The facts of a type; `None` where EC2 leaves out what every type has, or the architecture is
/// none that nodes run on.
pub(super) fn facts_of(info: &InstanceTypeInfo) -> Option<InstanceFacts> {
    let name: Arc<str> = info.instance_type()?.as_str().into();
    let processor = info.processor_info();
    let architecture = processor
        .map(ec2::ProcessorInfo::supported_architectures)
        .unwrap_or_default()
        .iter()
        .find_map(|architecture| Architecture::parse(architecture.as_str()))?;
    let network = info.network_info()?;
    let default_card = network.default_network_card_index().unwrap_or(0);
    let interfaces = network
        .network_cards()
        .iter()
        .find(|card| card.network_card_index() == Some(default_card))
        .and_then(ec2::NetworkCardInfo::maximum_network_interfaces)
        .or_else(|| network.maximum_network_interfaces());
    // What no API tells is in the built-in table, for the types that it knows.
    let known = facts::built_in().types.get(&name);
    let usage = info.supported_usage_classes();
    Some(InstanceFacts {
        vcpus: positive(info.v_cpu_info()?.default_v_cpus())?,
        memory_mib: u64::try_from(info.memory_info()?.size_in_mib()?).ok()?,
        architecture,
        cpu_manufacturer: kebab(
            processor
                .and_then(|processor| processor.manufacturer())
                .unwrap_or(""),
        ),
        clock_mhz: thousands(processor.and_then(ec2::ProcessorInfo::sustained_clock_speed_in_ghz)),
        hypervisor: info
            .hypervisor()
            .map_or("", |hypervisor| hypervisor.as_str())
            .to_owned(),
        bare_metal: info.bare_metal().unwrap_or(false),
        gpus: gpus(info),
        neurons: neurons(info),
        local_nvme_gb: local_nvme_gb(info),
        interfaces: count(interfaces),
        cards: cards(network),
        addresses_per_interface: count(network.ipv4_addresses_per_interface()),
        branch_interfaces: known.map_or(0, |known| known.branch_interfaces),
        efa_interfaces: count(
            network
                .efa_info()
                .and_then(ec2::EfaInfo::maximum_efa_interfaces),
        ),
        placement: placement(info),
        features: features(info),
        network_mbps: known.map_or_else(
            || {
                let cards = network.network_cards().iter();
                thousands(
                    cards
                        .map(ec2::NetworkCardInfo::baseline_bandwidth_in_gbps)
                        .sum(),
                )
            },
            |known| known.network_mbps,
        ),
        ebs_mbps: ebs_mbps(info),
        volume_attachments: positive(
            info.ebs_info()
                .and_then(ec2::EbsInfo::maximum_ebs_attachments),
        ),
        attachment_limit: attachment_limit(info),
        encrypted_in_transit: network.encryption_in_transit_supported(),
        on_demand: usage.contains(&UsageClassType::OnDemand),
        spot: usage.contains(&UsageClassType::Spot),
        name,
    })
}

/// What else counts as a volume; everything does where EC2 does not say.
fn attachment_limit(info: &InstanceTypeInfo) -> AttachmentLimit {
    let kind = info
        .ebs_info()
        .and_then(ec2::EbsInfo::attachment_limit_type);
    AttachmentLimit::of(kind == Some(&AttachmentLimitType::Dedicated))
}

/// Room for interfaces by the card's index; a card that EC2 does not describe has none.
fn cards(network: &ec2::NetworkInfo) -> Vec<u32> {
    let mut cards = Vec::new();
    for card in network.network_cards() {
        let index = card
            .network_card_index()
            .and_then(|index| usize::try_from(index).ok());
        let Some(index) = index.filter(|index| *index < MOST_CARDS) else {
            continue;
        };
        if cards.len() <= index {
            cards.resize(index + 1, 0);
        }
        if let Some(most) = cards.get_mut(index) {
            *most = count(card.maximum_network_interfaces());
        }
    }
    cards
}

fn placement(info: &InstanceTypeInfo) -> BTreeSet<Strategy> {
    let groups = info.placement_group_info();
    let strategies = groups.map(ec2::PlacementGroupInfo::supported_strategies);
    let words = strategies.unwrap_or_default().iter();
    words
        .filter_map(|strategy| Strategy::parse(strategy.as_str()))
        .collect()
}

fn features(info: &InstanceTypeInfo) -> BTreeSet<Feature> {
    let enclaves = info.nitro_enclaves_support() == Some(&NitroEnclavesSupport::Supported);
    let nested = info.processor_info().is_some_and(|processor| {
        processor
            .supported_features()
            .contains(&SupportedAdditionalProcessorFeature::NestedVirtualization)
    });
    [
        (Feature::Enclaves, enclaves),
        (Feature::NestedVirtualization, nested),
    ]
    .into_iter()
    .filter(|(_feature, has)| *has)
    .map(|(feature, _has)| feature)
    .collect()
}

fn gpus(info: &InstanceTypeInfo) -> Vec<Gpu> {
    info.gpu_info()
        .map(ec2::GpuInfo::gpus)
        .unwrap_or_default()
        .iter()
        .map(|gpu| Gpu {
            count: count(gpu.count()),
            name: kebab(gpu.name().unwrap_or("")),
            manufacturer: kebab(gpu.manufacturer().unwrap_or("")),
            memory_mib: count(
                gpu.memory_info()
                    .and_then(ec2::GpuDeviceMemoryInfo::size_in_mib),
            ),
        })
        .collect()
}

fn neurons(info: &InstanceTypeInfo) -> Vec<Neuron> {
    info.neuron_info()
        .map(ec2::NeuronInfo::neuron_devices)
        .unwrap_or_default()
        .iter()
        .map(|device| Neuron {
            count: count(device.count()),
            cores: count(
                device
                    .core_info()
                    .and_then(ec2::NeuronDeviceCoreInfo::count),
            ),
            name: kebab(device.name().unwrap_or("")),
        })
        .collect()
}

fn local_nvme_gb(info: &InstanceTypeInfo) -> u64 {
    info.instance_storage_info()
        .filter(|storage| storage.nvme_support() != Some(&EphemeralNvmeSupport::Unsupported))
        .and_then(|storage| u64::try_from(storage.total_size_in_gb()?).ok())
        .unwrap_or(0)
}

fn ebs_mbps(info: &InstanceTypeInfo) -> u32 {
    let bandwidth = info
        .ebs_info()
        .filter(|ebs| ebs.ebs_optimized_support() == Some(&EbsOptimizedSupport::Default))
        .and_then(|ebs| ebs.ebs_optimized_info())
        .and_then(ec2::EbsOptimizedInfo::maximum_bandwidth_in_mbps);
    count(bandwidth)
}

fn positive(value: Option<i32>) -> Option<u32> {
    u32::try_from(value?).ok().filter(|value| *value > 0)
}

fn count(value: Option<i32>) -> u32 {
    value
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(0)
}

/// GHz as MHz, Gbps as Mbps; nothing and nonsense are 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is rounded and within bounds"
)]
fn thousands(value: Option<f64>) -> u32 {
    match value {
        Some(value) if value.is_finite() && (0.0..4_000_000.0).contains(&value) => {
            (value * 1000.0).round() as u32
        }
        _ => 0,
    }
}

fn kebab(text: &str) -> String {
    text.trim().to_lowercase().replace(' ', "-")
}
