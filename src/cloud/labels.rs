//! Labels that every node of an instance type carries.
//!
//! Given: the facts of a type. Given back: its labels, keyed as workloads know them
//! (`karpenter.k8s.aws/instance-*` keep their meaning). Zone and capacity type are an offering's,
//! not a type's, and are never here.

use std::collections::BTreeMap;

use super::facts::InstanceFacts;
use crate::api::labels as keys;

/// The labels of a type in a region.
pub fn of_type(facts: &InstanceFacts, region: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut add = |key: &str, value: String| {
        labels.insert(key.to_owned(), value);
    };
    add(keys::INSTANCE_TYPE, facts.name.to_string());
    add(keys::ARCH, facts.architecture.as_str().to_owned());
    add(keys::OS, "linux".to_owned());
    add(keys::REGION, region.to_owned());
    let (family, size) = facts.name.split_once('.').unwrap_or((&facts.name, ""));
    add(keys::INSTANCE_FAMILY, family.to_owned());
    add(keys::INSTANCE_SIZE, size.to_owned());
    if let Some((category, generation)) = category_and_generation(family) {
        add(keys::INSTANCE_CATEGORY, category);
        add(keys::INSTANCE_GENERATION, generation);
    }
    add(
        keys::INSTANCE_CAPABILITY_FLEX,
        family.contains("-flex").to_string(),
    );
    add(keys::INSTANCE_CPU, facts.vcpus.to_string());
    add(
        keys::INSTANCE_CPU_MANUFACTURER,
        facts.cpu_manufacturer.clone(),
    );
    if facts.clock_mhz > 0 {
        add(
            keys::INSTANCE_CPU_SUSTAINED_CLOCK_SPEED_MHZ,
            facts.clock_mhz.to_string(),
        );
    }
    add(keys::INSTANCE_MEMORY, facts.memory_mib.to_string());
    if facts.ebs_mbps > 0 {
        add(keys::INSTANCE_EBS_BANDWIDTH, facts.ebs_mbps.to_string());
    }
    if facts.network_mbps > 0 {
        add(
            keys::INSTANCE_NETWORK_BANDWIDTH,
            facts.network_mbps.to_string(),
        );
    }
    add(keys::INSTANCE_HYPERVISOR, facts.hypervisor.clone());
    if let Some(encrypted) = facts.encrypted_in_transit {
        add(
            keys::INSTANCE_ENCRYPTION_IN_TRANSIT_SUPPORTED,
            encrypted.to_string(),
        );
    }
    if facts.local_nvme_gb > 0 {
        add(keys::INSTANCE_LOCAL_NVME, facts.local_nvme_gb.to_string());
    }
    add(keys::INSTANCE_TENANCY, "default".to_owned());
    add_accelerators(facts, add);
    labels
}

/// A label of an accelerator says something only when there is one kind of it.
fn add_accelerators(facts: &InstanceFacts, mut add: impl FnMut(&str, String)) {
    if let [gpu] = facts.gpus.as_slice() {
        add(keys::INSTANCE_GPU_NAME, gpu.name.clone());
        add(keys::INSTANCE_GPU_MANUFACTURER, gpu.manufacturer.clone());
        add(keys::INSTANCE_GPU_COUNT, gpu.count.to_string());
        add(keys::INSTANCE_GPU_MEMORY, gpu.memory_mib.to_string());
    }
    if let [neuron] = facts.neurons.as_slice() {
        add(keys::INSTANCE_ACCELERATOR_NAME, neuron.name.clone());
        add(keys::INSTANCE_ACCELERATOR_MANUFACTURER, "aws".to_owned());
        add(keys::INSTANCE_ACCELERATOR_COUNT, neuron.count.to_string());
    }
}

/// `c` and `5` of `c5d`; the high-memory family `u-6tb1` is category `u`, generation 1.
fn category_and_generation(family: &str) -> Option<(String, String)> {
    let letters: String = family
        .chars()
        .take_while(char::is_ascii_lowercase)
        .collect();
    let rest = family.strip_prefix(letters.as_str())?;
    let digits = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let generation = match rest.strip_prefix('-') {
        Some(high_memory) => digits(
            high_memory
                .split_once("tb")
                .map_or("", |(_size, generation)| generation),
        ),
        None => digits(rest),
    };
    (!letters.is_empty() && !generation.is_empty()).then_some((letters, generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::facts::built_in;

    #[test]
    fn labels_of_a_gpu_type() {
        let labels = of_type(&built_in().types["g4dn.xlarge"], "us-east-1");
        let listed: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            listed,
            [
                "karpenter.k8s.aws/instance-capability-flex=false",
                "karpenter.k8s.aws/instance-category=g",
                "karpenter.k8s.aws/instance-cpu=4",
                "karpenter.k8s.aws/instance-cpu-manufacturer=intel",
                "karpenter.k8s.aws/instance-cpu-sustained-clock-speed-mhz=2500",
                "karpenter.k8s.aws/instance-ebs-bandwidth=3500",
                "karpenter.k8s.aws/instance-encryption-in-transit-supported=true",
                "karpenter.k8s.aws/instance-family=g4dn",
                "karpenter.k8s.aws/instance-generation=4",
                "karpenter.k8s.aws/instance-gpu-count=1",
                "karpenter.k8s.aws/instance-gpu-manufacturer=nvidia",
                "karpenter.k8s.aws/instance-gpu-memory=16384",
                "karpenter.k8s.aws/instance-gpu-name=t4",
                "karpenter.k8s.aws/instance-hypervisor=nitro",
                "karpenter.k8s.aws/instance-local-nvme=125",
                "karpenter.k8s.aws/instance-memory=16384",
                "karpenter.k8s.aws/instance-network-bandwidth=5000",
                "karpenter.k8s.aws/instance-size=xlarge",
                "karpenter.k8s.aws/instance-tenancy=default",
                "kubernetes.io/arch=amd64",
                "kubernetes.io/os=linux",
                "node.kubernetes.io/instance-type=g4dn.xlarge",
                "topology.kubernetes.io/region=us-east-1",
            ]
        );
    }

    #[test]
    fn categories_and_generations() {
        for (family, category, generation) in [
            ("c5", "c", "5"),
            ("m7i-flex", "m", "7"),
            ("inf2", "inf", "2"),
            ("u-6tb1", "u", "1"),
            ("u7i-12tb", "u", "7"),
            ("x2iedn", "x", "2"),
        ] {
            assert_eq!(
                category_and_generation(family),
                Some((category.to_owned(), generation.to_owned())),
                "{family}"
            );
        }
        assert_eq!(category_and_generation("strange"), None);
    }
}
