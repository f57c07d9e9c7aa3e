"""The Node object that a booted machine's kubelet registers.

Given: the instance as EC2 shows it, the facts of its type, and its NodeConfig. Gives: the Node with the labels and taints
asked for, the cloud's own labels, capacity and allocatable. The figures are the machine's, not a planner's wish: memory
is what a virtual machine really sees, and what is reserved is only what the user data says or nodeadm sets by default.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from user_data import NodeConfig, Unbootable

_SUFFIXES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|[KMGT]i|[kMGT])?")
_MEBIBYTE = 2**20
# Firmware and kernel keep about this share of a virtual machine's nominal memory for themselves.
_HIDDEN_MEMORY_PERCENT = 7
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass
class TypeFacts:
    """What DescribeInstanceTypes says of a type."""

    cpus: int
    memory_mib: int
    nvidia_gpus: int
    architectures: list[str]
    interfaces: int
    addresses_per_interface: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> "TypeFacts":
        network = row["NetworkInfo"]
        cards = network.get("NetworkCards") or []
        default = network.get("DefaultNetworkCardIndex", 0)
        interfaces = cards[default]["MaximumNetworkInterfaces"] if cards else network["MaximumNetworkInterfaces"]
        gpus = (row.get("GpuInfo") or {}).get("Gpus") or []
        return cls(
            cpus=row["VCpuInfo"]["DefaultVCpus"],
            memory_mib=row["MemoryInfo"]["SizeInMiB"],
            nvidia_gpus=sum(gpu["Count"] for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA"),
            architectures=row["ProcessorInfo"]["SupportedArchitectures"],
            interfaces=interfaces,
            addresses_per_interface=network["Ipv4AddressesPerInterface"],
        )

    def default_pods(self) -> int:
        return self.interfaces * (self.addresses_per_interface - 1) + 2


def quantity(text: Any, milli: bool = False) -> int:
    """A Kubernetes quantity in whole units (or thousandths); raises Unbootable."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if not found:
        raise Unbootable(f"the kubelet does not take the quantity {text!r}")
    number, suffix = Decimal(found[1]), found[2] or ""
    value = number / 1000 if suffix == "m" else number * _SUFFIXES[suffix]
    return int(value * 1000 if milli else value)


def _reserved_cpu_milli(cpus: int) -> int:
    """nodeadm's default: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    tiers = ((1000, 600), (1000, 100), (2000, 50), (1 << 30, 25))
    left, reserved = cpus * 1000, 0
    for width, per_ten_thousand in tiers:
        part = min(left, width)
        reserved += part * per_ten_thousand // 10000
        left -= part
    return reserved


def _threshold(value: Any, capacity: int) -> int:
    """An eviction threshold in bytes: a quantity, or a percentage of the capacity rounded up; 100 % turns it off."""
    text = str(value).strip()
    if not text.endswith("%"):
        return quantity(text)
    try:
        percent = Decimal(text[:-1])
    except ArithmeticError as failure:
        raise Unbootable(f"the kubelet does not take the threshold {text!r}") from failure
    return 0 if percent == 100 else int(-(-capacity * percent // 100))


def _mapping(kubelet: dict[str, Any], key: str) -> dict[str, Any]:
    value = kubelet.get(key) or {}
    if not isinstance(value, dict):
        raise Unbootable(f"the kubelet's {key} is not a mapping")
    return value


def _resources(facts: TypeFacts, kubelet: dict[str, Any], root_gib: int) -> tuple[dict[str, str], dict[str, str]]:
    """Capacity and allocatable."""
    pods = int(kubelet.get("maxPods") or facts.default_pods())
    if kubelet.get("podsPerCore"):
        pods = min(pods, int(kubelet["podsPerCore"]) * facts.cpus)
    memory = (facts.memory_mib - facts.memory_mib * _HIDDEN_MEMORY_PERCENT // 100) * _MEBIBYTE
    disk = root_gib * 2**30
    kube = {
        "cpu": f"{_reserved_cpu_milli(facts.cpus)}m",
        "memory": f"{11 * facts.default_pods() + 255}Mi",
        "ephemeral-storage": "1Gi",
        **_mapping(kubelet, "kubeReserved"),
    }
    system = _mapping(kubelet, "systemReserved")
    eviction = {"memory.available": "100Mi", "nodefs.available": "10%", **_mapping(kubelet, "evictionHard")}
    cpu_left = facts.cpus * 1000 - sum(quantity(part.get("cpu", 0), milli=True) for part in (kube, system))
    memory_left = memory - sum(quantity(part.get("memory", 0)) for part in (kube, system))
    memory_left -= _threshold(eviction["memory.available"], memory)
    disk_left = disk - sum(quantity(part.get("ephemeral-storage", 0)) for part in (kube, system))
    disk_left -= _threshold(eviction["nodefs.available"], disk)
    if min(cpu_left, memory_left, disk_left) < 0:
        raise Unbootable("the kubelet's reservations are more than the machine has")
    capacity = {"cpu": str(facts.cpus), "memory": f"{memory // 1024}Ki", "pods": str(pods), "ephemeral-storage": f"{disk // 1024}Ki"}
    allocatable = {**capacity, "cpu": f"{cpu_left}m", "memory": f"{memory_left // 1024}Ki", "ephemeral-storage": str(disk_left)}
    if facts.nvidia_gpus:
        # By the device plugin of the image, which is there when the kubelet is.
        capacity["nvidia.com/gpu"] = allocatable["nvidia.com/gpu"] = str(facts.nvidia_gpus)
    return capacity, allocatable


def node(
    instance: dict[str, Any], zone_id: str, facts: TypeFacts, config: NodeConfig, provider_id: str | None = None
) -> dict[str, Any]:
    """The Node as its kubelet registers it; `provider_id` lets it claim another's."""
    name, zone = instance["privateDnsName"], instance["zone"]
    architecture = instance.get("architecture") or facts.architectures[0]
    if architecture not in facts.architectures:
        raise Unbootable(f"an image for {architecture} does not start on {instance['type']}")
    capacity, allocatable = _resources(facts, config.kubelet, instance["rootVolumeGiB"])
    labels = {
        **config.labels,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES[architecture],
        "node.kubernetes.io/instance-type": instance["type"],
        "topology.kubernetes.io/region": zone[:-1],
        "topology.kubernetes.io/zone": zone,
        "topology.k8s.aws/zone-id": zone_id,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": provider_id or f"aws:///{zone}/{instance['id']}", "taints": config.taints},
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": instance["privateIpAddress"]},
                {"type": "InternalDNS", "address": name},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": _ARCHITECTURES[architecture],
                "operatingSystem": "linux",
                "osImage": "Amazon Linux 2023 (test double)",
                "kernelVersion": "6.12",
                "kubeletVersion": "v1.36.3",
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "containerd://2.1",
                "bootID": instance["id"],
                "machineID": instance["id"],
                "systemUUID": instance["id"],
            },
        },
    }
