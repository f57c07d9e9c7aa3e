"""What the account holds when the endpoint starts: a network, two images and a node role, tagged for discovery.

Given: moto's backends of the account. Gives: in us-east-1 one VPC with three subnets (zones a, b, c) and a security group,
an x86_64 and an arm64 image, all tagged `tonnage.dev/discovery: demo`, and the IAM role and instance profile `tonnage-node`.
"""

from __future__ import annotations

import json

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id
from moto.iam.models import iam_backends

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


def _role() -> None:
    backend = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    statement = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    backend.create_role(ROLE, policy, "/", None, "Nodes of the demo cluster", [], "3600")
    backend.create_instance_profile(ROLE, "/", [ROLE])


def seed() -> None:
    """Creates all of it; call once, after the overlay is installed."""
    _network(account())
    _images(account())
    _role()
