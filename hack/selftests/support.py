"""What the checks share: the environment of hack/up, clients, user data that a machine can boot from, and waiting."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import boto3
import yaml
from botocore.config import Config

NEEDED = (
    "KUBECONFIG", "KUBECONFIG_FAULTS", "TONNAGE_CLUSTER_NAME", "TONNAGE_CLUSTER_ENDPOINT", "TONNAGE_CLUSTER_CA_BUNDLE",
    "AWS_ENDPOINT_URL", "TONNAGE_EC2_DIRECT_URL", "TONNAGE_FAULTS_URL", "TONNAGE_BOOT_URL",
)  # fmt: skip
DISCOVERY = [{"Name": "tag:tonnage.dev/discovery", "Values": ["demo"]}]


def missing() -> list[str]:
    """Variables of hack/up that are not set."""
    return [name for name in NEEDED if not os.environ.get(name)]


def variable(name: str) -> str:
    return os.environ[name]


@cache
def aws(service: str, through_faults: bool = False) -> Any:
    """A client that tries once, straight to the endpoint or through the fault proxy."""
    url = variable("AWS_ENDPOINT_URL" if through_faults else "TONNAGE_EC2_DIRECT_URL")
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, max_pool_connections=64)
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="check", aws_secret_access_key="check", config=config)


def request(url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, tls: Any = None) -> tuple[int, Any]:
    """Status and JSON of one request; status 0 when the connection ended without an answer."""
    payload = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url + path, payload, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=20, context=tls) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
    except OSError:
        return 0, None


def endpoint(method: str, path: str, body: Any = None) -> Any:
    status, answer = request(variable("TONNAGE_EC2_DIRECT_URL"), method, f"/_tonnage/{path}", body)
    assert status == 200, f"{method} {path}: {status} {answer}"
    return answer


def faults(method: str, path: str, body: Any = None) -> Any:
    status, answer = request(variable("TONNAGE_FAULTS_URL"), method, path, body)
    assert status == 200, f"{method} {path}: {status} {answer}"
    return answer


def boot(method: str, path: str, body: Any = None) -> Any:
    status, answer = request(variable("TONNAGE_BOOT_URL"), method, path, body)
    assert status == 200, f"{method} {path}: {status} {answer}"
    return answer


class Kubernetes:
    """A few calls to the API server that a kubeconfig names."""

    def __init__(self, name: str) -> None:
        config = yaml.safe_load(Path(variable(name)).read_text(encoding="utf-8"))
        cluster = config["clusters"][0]["cluster"]
        authority = cluster.get("certificate-authority-data")
        text = base64.b64decode(authority).decode() if authority else Path(cluster["certificate-authority"]).read_text(encoding="utf-8")
        self.server: str = cluster["server"]
        self.token: str = config["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cadata=text)

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        return request(self.server, method, path, body, headers, self.tls)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Nodes by providerID."""
        return {node["spec"].get("providerID", ""): node for node in self.call("GET", "/api/v1/nodes")[1]["items"]}


T = TypeVar("T")


def eventually(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """Polls until `look` gives something true, and gives that back."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def node_config(**changes: Any) -> dict[str, Any]:
    """A NodeConfig that joins the cluster of hack/up; `changes` replace fields of spec.cluster, or kubelet as a whole."""
    kubelet = {
        "config": {
            "maxPods": 29,
            "kubeReserved": {"cpu": "80m", "memory": "574Mi", "ephemeral-storage": "1Gi"},
            "systemReserved": {"memory": "100Mi"},
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"},
            "registerWithTaints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}],
        },
        "flags": ['--node-labels="karpenter.sh/nodepool=check,team=a"'],
    }
    cluster = {
        "name": variable("TONNAGE_CLUSTER_NAME"),
        "apiServerEndpoint": variable("TONNAGE_CLUSTER_ENDPOINT"),
        "certificateAuthority": variable("TONNAGE_CLUSTER_CA_BUNDLE"),
        "cidr": "10.96.0.0/16",
    }
    kubelet = changes.pop("kubelet", kubelet)
    return {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": {"cluster": {**cluster, **changes}, "kubelet": kubelet}}


def user_data(document: Any) -> str:
    """The document as the one part of a MIME message, in base64."""
    text = document if isinstance(document, str) else json.dumps(document)
    lines = ["MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="//"', "", "--//", "Content-Type: application/node.eks.aws", "", text, "--//--", ""]
    return base64.b64encode("\n".join(lines).encode()).decode()


def settings(name: str | None = None) -> str:
    """Settings of Bottlerocket that join the cluster of hack/up, in base64."""
    lines = [
        "[settings.kubernetes]",
        f'cluster-name = "{variable("TONNAGE_CLUSTER_NAME") if name is None else name}"',
        f'api-server = "{variable("TONNAGE_CLUSTER_ENDPOINT")}"',
        f'cluster-certificate = "{variable("TONNAGE_CLUSTER_CA_BUNDLE")}"',
        'cluster-dns-ip = "10.96.0.10"',
        "max-pods = 29",
        'kube-reserved = { cpu = "80m", memory = "574Mi", ephemeral-storage = "1Gi" }',
        'node-labels = { "karpenter.sh/nodepool" = "check" }',
        'node-taints = { "karpenter.sh/unregistered" = [":NoExecute"] }',
        "",
    ]
    return base64.b64encode("\n".join(lines).encode()).decode()


class Check(unittest.TestCase):
    """A check that starts from an empty endpoint without faults and leaves one."""

    subnets: dict[str, str]
    group: str
    images: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.cleanse()
        subnets = aws("ec2").describe_subnets(Filters=DISCOVERY)["Subnets"]
        cls.subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets}
        cls.group = aws("ec2").describe_security_groups(Filters=DISCOVERY)["SecurityGroups"][0]["GroupId"]
        images = aws("ec2").describe_images(Filters=DISCOVERY)["Images"]
        cls.images = {image["Architecture"]: image["ImageId"] for image in images}

    @staticmethod
    def cleanse() -> None:
        faults("DELETE", "/rules")
        endpoint("POST", "reset", {})

    def setUp(self) -> None:
        self.addCleanup(self.cleanse)

    def template(self, data: str = "", **changes: Any) -> str:
        """A launch template's id."""
        content: dict[str, Any] = {
            "ImageId": self.images["x86_64"],
            "IamInstanceProfile": {"Name": "tonnage-node"},
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "Encrypted": True}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [self.group]}],
            "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "from", "Value": "template"}]}],
            **({"UserData": data} if data else {}),
            **changes,
        }
        name = f"check-{time.monotonic_ns()}"
        return str(aws("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=content)["LaunchTemplate"]["LaunchTemplateId"])

    def fleet(self, template: str, types: list[str], capacity_type: str, count: int, through_faults: bool = False, **more: Any) -> dict[str, Any]:
        """The answer of an instant CreateFleet over all zones."""
        overrides = [{"InstanceType": name, "SubnetId": subnet, "AvailabilityZone": zone} for name in types for zone, subnet in self.subnets.items()]
        strategy: dict[str, Any] = {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
        if capacity_type == "spot":
            strategy = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        tags = [{"Key": "owner", "Value": "check"}]
        answer: dict[str, Any] = aws("ec2", through_faults).create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"}, "Overrides": overrides}],
            TargetCapacitySpecification={"TotalTargetCapacity": count, "DefaultTargetCapacityType": capacity_type},
            TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "fleet")],
            **{**strategy, **more},
        )
        return answer
