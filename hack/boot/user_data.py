"""What nodeadm of an AL2023 machine, or Bottlerocket, reads from its user data.

Given: the raw user data of an instance. Gives: the merged NodeConfig, or the settings as one, or Unbootable with what a person would find in the
machine's console log. Parts of other types (shell scripts) are no concern of nodeadm and are skipped. Nothing is guessed:
a machine whose user data misses what it needs to find its cluster never joins.
"""

import base64
import binascii
import email
import email.policy
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

import yaml

# EC2's limit, before base64.
MAX_USER_DATA_BYTES = 16384
NODE_CONFIG_TYPE = "application/node.eks.aws"
# What `kubelet --node-labels` accepts in kubernetes.io and k8s.io; anything else there ends the kubelet at once.
_KUBELET_LABELS = {
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
}
_KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class Unbootable(Exception):
    """The machine starts, but no node ever joins; the text says why."""


@dataclass
class NodeConfig:
    """The merged configuration: where the cluster is, and how the kubelet is to run."""

    cluster_name: str
    api_server: str
    authority: bytes
    kubelet: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)


def parse(raw: bytes) -> NodeConfig:
    """The configuration in `raw`; raises Unbootable."""
    if not raw:
        raise Unbootable("there is no user data")
    if len(raw) > MAX_USER_DATA_BYTES:
        raise Unbootable(f"the user data has {len(raw)} bytes, more than {MAX_USER_DATA_BYTES}")
    if re.search(rb"^\[settings[.\]]", raw, re.MULTILINE):
        return _bottlerocket(raw)
    merged: dict[str, Any] = {}
    flags: list[str] = []
    for document in _documents(raw):
        spec = document.get("spec") or {}
        flags += _strings(_at(spec, "kubelet", "flags"), "spec.kubelet.flags")
        _merge(merged, spec)
    cluster = merged.get("cluster") or {}
    missing = [key for key in ("name", "apiServerEndpoint", "certificateAuthority", "cidr") if not cluster.get(key)]
    if missing:
        raise Unbootable("the NodeConfig lacks " + ", ".join(f"spec.cluster.{key}" for key in missing))
    kubelet = _at(merged, "kubelet", "config") or {}
    if not isinstance(kubelet, dict):
        raise Unbootable("spec.kubelet.config is not a mapping")
    labels, taints = _flags(flags)
    taints = _taints(kubelet.get("registerWithTaints")) + taints
    return NodeConfig(cluster["name"], str(cluster["apiServerEndpoint"]), _authority(cluster), kubelet, labels, taints)


def _bottlerocket(raw: bytes) -> NodeConfig:
    """The settings of Bottlerocket in the terms of a NodeConfig."""
    try:
        settings = _at(tomllib.loads(raw.decode()), "settings", "kubernetes") or {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise Unbootable(f"the user data is no TOML: {failure}") from failure
    missing = [key for key in ("cluster-name", "api-server", "cluster-certificate", "cluster-dns-ip") if not settings.get(key)]
    if missing:
        raise Unbootable("the settings lack " + ", ".join(f"settings.kubernetes.{key}" for key in missing))
    names = {"max-pods": "maxPods", "kube-reserved": "kubeReserved", "system-reserved": "systemReserved", "eviction-hard": "evictionHard"}
    kubelet = {field: settings[key] for key, field in names.items() if key in settings}
    labels = dict(_label(f"{key}={value}") for key, value in (settings.get("node-labels") or {}).items())
    taints = []
    for key, values in (settings.get("node-taints") or {}).items():
        for value in _strings(values, "settings.kubernetes.node-taints"):
            text, _, effect = value.rpartition(":")
            taints.append(_taint({"key": key, "value": text, "effect": effect}, f"{key}={value}"))
    authority = _authority({"certificateAuthority": settings["cluster-certificate"]})
    return NodeConfig(settings["cluster-name"], str(settings["api-server"]), authority, kubelet, labels, taints)


def _documents(raw: bytes) -> list[dict[str, Any]]:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    if not message.is_multipart():
        # cloud-init hands one part of the right type on, and so does a bare NodeConfig; any other text is a script.
        parts = [raw] if b"node.eks.aws/" in raw and not message.get("Content-Type") else []
        if message.get_content_type() == NODE_CONFIG_TYPE:
            parts = [message.get_payload(decode=True)]
    else:
        parts = [part.get_payload(decode=True) for part in message.iter_parts() if part.get_content_type() == NODE_CONFIG_TYPE]
    if not parts:
        raise Unbootable(f"the user data has no part of type {NODE_CONFIG_TYPE}")
    return [_document(part) for part in parts]


def _document(part: bytes) -> dict[str, Any]:
    try:
        document = yaml.safe_load(part)
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise Unbootable(f"the NodeConfig is no YAML: {' '.join(str(failure).split())}") from failure
    if not isinstance(document, dict):
        raise Unbootable("the NodeConfig is no mapping")
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind != ("node.eks.aws/v1alpha1", "NodeConfig"):
        raise Unbootable(f"the NodeConfig calls itself {kind[0]} {kind[1]}, expected node.eks.aws/v1alpha1 NodeConfig")
    unknown = sorted(set(document.get("spec") or {}) - {"cluster", "containerd", "instance", "kubelet", "featureGates"})
    if unknown:
        raise Unbootable(f"the NodeConfig has an unknown field spec.{unknown[0]}")
    return document


def _authority(cluster: dict[str, Any]) -> bytes:
    try:
        found = base64.b64decode(str(cluster["certificateAuthority"]), validate=True)
    except (binascii.Error, ValueError) as failure:
        raise Unbootable("spec.cluster.certificateAuthority is no base64") from failure
    if b"BEGIN CERTIFICATE" not in found:
        raise Unbootable("spec.cluster.certificateAuthority holds no PEM certificate")
    return found


def _flags(flags: list[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Labels and taints of the kubelet's flags; a later flag replaces an earlier one, as flags do."""
    labels: dict[str, str] = {}
    taints: list[dict[str, str]] = []
    for flag in flags:
        name, separator, value = flag.partition("=")
        if not name.startswith("--") or not separator:
            raise Unbootable(f"the kubelet does not know the flag {flag!r}: flags are written --name=value")
        value = value.strip('"')
        if name == "--node-labels":
            labels = dict(_label(pair) for pair in value.split(",") if pair)
        elif name == "--register-with-taints":
            taints = [_flag_taint(item) for item in value.split(",") if item]
    return labels, taints


def _label(pair: str) -> tuple[str, str]:
    key, separator, value = pair.partition("=")
    domain, slash, name = key.rpartition("/")
    if not separator or not _NAME.fullmatch(name) or (value and not _NAME.fullmatch(value)):
        raise Unbootable(f"the kubelet does not take the label {pair!r}")
    reserved = slash and any(domain == root or domain.endswith("." + root) for root in ("kubernetes.io", "k8s.io"))
    allowed = any(domain == root or domain.endswith("." + root) for root in _KUBELET_DOMAINS)
    if reserved and key not in _KUBELET_LABELS and not allowed:
        raise Unbootable(f"the kubelet may not set the label {key} itself")
    return key, value


def _flag_taint(item: str) -> dict[str, str]:
    pair, separator, effect = item.rpartition(":")
    key, _, value = pair.partition("=")
    return _taint({"key": key, "value": value, "effect": effect if separator else ""}, item)


def _taints(rows: Any) -> list[dict[str, str]]:
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unbootable("registerWithTaints is no list of taints")
    return [_taint({key: str(row.get(key) or "") for key in ("key", "value", "effect")}, row) for row in rows]


def _taint(taint: dict[str, str], shown: Any) -> dict[str, str]:
    if not taint["key"] or taint["effect"] not in _EFFECTS:
        raise Unbootable(f"the kubelet does not take the taint {shown!r}")
    return {key: value for key, value in taint.items() if value}


def _strings(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Unbootable(f"{where} is no list of strings")
    return value


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    """Several NodeConfigs are merged field by field; the last one wins."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value is not None:
            into[key] = value
