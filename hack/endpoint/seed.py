"""What the account holds when the endpoint starts: a network, images, a node role, and the SSM parameters of images.

Given: moto's backends of the account. Gives: in us-east-1 one VPC with three subnets (zones a, b, c) and a security group,
an x86_64 and an arm64 image, all tagged `tonnage.dev/discovery: demo`, and the IAM role and instance profile `tonnage-node`.
Beside them what AWS publishes for EKS under a few versions of Kubernetes (images by family, architecture and accelerator, and
the parameters that name them), one image that its owner deprecated, and parameters of the account's own under /tonnage-test/.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id
from moto.iam.models import iam_backends
from moto.ssm.models import Parameter, ssm_backends

REGION = "us-east-1"
DISCOVERY = {"tonnage.dev/discovery": "demo"}
ROLE = "tonnage-node"
IMAGES = {"tonnage-test-node-x86_64": "x86_64", "tonnage-test-node-arm64": "arm64"}
_NETWORK = "10.0.0.0/16"
_SUBNETS = {"a": "10.0.0.0/18", "b": "10.0.64.0/18", "c": "10.0.128.0/18"}


def account() -> EC2Backend:
    """The EC2 backend of the default account in the seeded region."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][REGION]


def _network(backend: EC2Backend) -> None:
    vpc = backend.create_vpc(_NETWORK)
    vpc.add_tags({"Name": "tonnage-demo", **DISCOVERY})
    for letter, block in _SUBNETS.items():
        subnet = backend.create_subnet(vpc.id, block, availability_zone=REGION + letter)
        subnet.add_tags({"Name": f"tonnage-demo-{letter}", **DISCOVERY})
    group = backend.create_security_group("tonnage-demo-node", "nodes of the demo cluster", vpc_id=vpc.id)
    group.add_tags({"Name": "tonnage-demo-node", **DISCOVERY})


def _images(backend: EC2Backend) -> None:
    for name, architecture in IMAGES.items():
        image_id = random_ami_id()
        backend.amis[image_id] = Ami(
            backend,
            image_id,
            name=name,
            description="Node image of the demo and the tests",
            architecture=architecture,
            virtualization_type="hvm",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name="/dev/xvda",
            boot_mode="uefi-preferred" if architecture == "x86_64" else "uefi",
            tags={"Name": name, **DISCOVERY},
        )


# Kubernetes versions that AWS publishes images for; the last one is that of hack/up's control plane.
_VERSIONS = ("1.33", "1.36")
_RELEASE = "v20250915"
_VARIANTS = {"x86_64": ("standard", "nvidia", "neuron"), "arm64": ("standard", "nvidia")}


def _image(backend: EC2Backend, name: str, architecture: str) -> Ami:
    image_id = random_ami_id()
    image = Ami(
        backend,
        image_id,
        name=name,
        description="As published by AWS",
        architecture=architecture,
        virtualization_type="hvm",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name="/dev/xvda",
        owner_id="602401143452",
        owner_alias="amazon",
        public=True,
        creation_date=datetime(2025, 9, 15),
    )
    backend.amis[image_id] = image
    return image


def _parameter(name: str, value: str) -> None:
    # Not through PutParameter: names under /aws/ are AWS's own.
    parameters = ssm_backends[DEFAULT_ACCOUNT_ID][REGION]._parameters
    text = Parameter(DEFAULT_ACCOUNT_ID, name, value, "String", None, None, None, datetime.now(UTC), 1, "text")
    parameters[name].append(text)


def _published(backend: EC2Backend) -> None:
    """Images of Amazon Linux and Bottlerocket with their parameters, as AWS documents them."""
    for version in _VERSIONS:
        for architecture, variants in _VARIANTS.items():
            for variant in variants:
                name = f"amazon-eks-node-al2023-{architecture}-{variant}-{version}-{_RELEASE}"
                image = _image(backend, name, architecture)
                folder = f"/aws/service/eks/optimized-ami/{version}/amazon-linux-2023/{architecture}/{variant}"
                for release in ("recommended", name):
                    _parameter(f"{folder}/{release}/image_id", image.id)
            for variant in ("", "-nvidia"):
                image = _image(backend, f"bottlerocket-aws-k8s-{version}{variant}-{architecture}-v1.46.0-0a1b2c3d", architecture)
                for release in ("latest", "1.46.0"):
                    _parameter(f"/aws/service/bottlerocket/aws-k8s-{version}{variant}/{architecture}/{release}/image_id", image.id)
    old = _image(backend, "tonnage-test-deprecated", "x86_64")
    old.deprecation_time = "2025-01-01T00:00:00.000Z"
    _parameter("/tonnage-test/image", old.id)
    _parameter("/tonnage-test/no-image", "nothing")


def _role() -> None:
    backend = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    statement = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    backend.create_role(ROLE, policy, "/", None, "Nodes of the demo cluster", [], "3600")
    backend.create_instance_profile(ROLE, "/", [ROLE])
    backend.create_role("tonnage-other", policy, "/", None, "Other nodes", [], "3600")


def seed() -> None:
    """Creates all of it; call once, after the overlay is installed."""
    _network(account())
    _images(account())
    _published(account())
    _role()
