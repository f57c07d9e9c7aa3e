"""Starts one instance from launch template data, as EC2 does when a fleet or a caller asks for it.

Given: a moto EC2 backend, the merged launch data of template and override, and the tags of the request. Gives: a moto
Instance with user data, security groups, metadata options, block devices, instance profile, image and tags applied, or a
`Refusal` with the error code EC2 puts into the fleet's errors. Nothing is started when it refuses.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.utils import utcnow
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.utils import convert_tag_spec, filter_iam_instance_profiles, random_spot_request_id

# EC2 takes at most this many bytes of user data, before base64.
USER_DATA_LIMIT = 16384


class Refusal(Exception):
    """Why EC2 does not start an instance in one pool: an error code and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Launch:
    """Everything needed to start instances in one pool, checked."""

    instance_type: str
    subnet: Any
    image: Any
    capacity_type: str
    data: dict[str, Any]
    security_groups: list[str]
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def zone(self) -> str:
        return str(self.subnet.availability_zone)


def _offered(region: str, instance_type: str, zone: str) -> bool:
    rows = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    return any(row["InstanceType"] == instance_type and row["Location"] == zone for row in rows)


def _subnet(backend: Any, override: dict[str, Any], data: dict[str, Any]) -> Any:
    zone = override.get("AvailabilityZone") or (data.get("Placement") or {}).get("AvailabilityZone")
    wanted = override.get("SubnetId") or next((nic["SubnetId"] for nic in data.get("NetworkInterfaces", []) if nic.get("SubnetId")), None)
    if wanted:
        found = next((subnet for subnet in backend.describe_subnets() if subnet.id == wanted), None)
        if found is None:
            raise Refusal("InvalidSubnetID.NotFound", f"The subnet ID '{wanted}' does not exist")
        if zone and found.availability_zone != zone:
            raise Refusal("InvalidParameterValue", f"The subnet '{wanted}' is not in Availability Zone {zone}")
        return found
    default = next((s for s in backend.describe_subnets() if s.default_for_az and zone in (None, s.availability_zone)), None)
    if default is None:
        raise Refusal("MissingInput", f"No default subnet for availability zone: '{zone}'.")
    return default


def _security_groups(backend: Any, data: dict[str, Any], vpc_id: str) -> list[str]:
    nics = data.get("NetworkInterfaces", [])
    primary: dict[str, Any] = next((nic for nic in nics if int(nic.get("DeviceIndex", 0)) == 0), {})
    wanted = list(primary.get("Groups") or data.get("SecurityGroupIds") or [])
    for name in data.get("SecurityGroups") or []:
        group = backend.get_security_group_by_name_or_id(name)
        if group is None:
            raise Refusal("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
        wanted.append(group.id)
    if not wanted:
        default = backend.get_security_group_from_name("default", vpc_id)
        wanted = [default.id] if default else []
    for group_id in wanted:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            raise Refusal("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != vpc_id:
            raise Refusal("InvalidParameter", f"Security group {group_id} and the subnet belong to different networks.")
    return wanted


def _check_type(region: str, instance_type: str, zone: str, capacity_type: str) -> dict[str, Any]:
    facts = INSTANCE_TYPES.get(instance_type)
    if facts is None:
        raise Refusal("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
    if not _offered(region, instance_type, zone):
        raise Refusal(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}).",
        )
    if capacity_type not in facts["SupportedUsageClasses"]:
        raise Refusal("Unsupported", f"The instance type '{instance_type}' is not supported as {capacity_type} capacity.")
    return dict(facts)


def _check_image(backend: Any, image_id: str | None, facts: dict[str, Any]) -> Any:
    image = backend.amis.get(image_id) if image_id else None
    if image is None:
        raise Refusal("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    supported = facts["ProcessorInfo"]["SupportedArchitectures"]
    if image.architecture not in supported:
        raise Refusal(
            "InvalidParameterValue",
            f"The architecture '{','.join(supported)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI.",
        )
    return image


def _check_data(backend: Any, data: dict[str, Any], capacity_type: str) -> None:
    if data.get("UserData"):
        try:
            size = len(base64.b64decode(str(data["UserData"]), validate=True))
        except binascii.Error as error:
            raise Refusal("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from error
        if size > USER_DATA_LIMIT:
            raise Refusal("InvalidUserData.Malformed", f"User data is limited to {USER_DATA_LIMIT} bytes")
    profile = data.get("IamInstanceProfile") or {}
    if profile:
        name = profile.get("Name") or profile.get("Arn")
        try:
            filter_iam_instance_profiles(backend.account_id, backend.partition, profile.get("Arn"), profile.get("Name"))
        except ServiceException as error:
            raise Refusal(
                "InvalidParameterValue",
                f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
            ) from error
    kinds = {spec["ResourceType"] for spec in data.get("TagSpecifications") or []}
    if capacity_type != "spot" and "spot-instances-request" in kinds:
        raise Refusal("InvalidParameterValue", "Tag specification resource type 'spot-instances-request' needs a spot request.")


def check(backend: Any, data: dict[str, Any], override: dict[str, Any], capacity_type: str, tags: dict[str, dict[str, str]]) -> Launch:
    """The launch that override and template describe, or `Refusal`. `data` is the template's, not changed here."""
    instance_type = override.get("InstanceType") or data.get("InstanceType")
    if not instance_type:
        raise Refusal("MissingParameter", "The request must contain the parameter InstanceType")
    subnet = _subnet(backend, override, data)
    facts = _check_type(backend.region_name, instance_type, subnet.availability_zone, capacity_type)
    image = _check_image(backend, override.get("ImageId") or data.get("ImageId"), facts)
    _check_data(backend, data, capacity_type)
    merged = {kind: dict(values) for kind, values in convert_tag_spec(data.get("TagSpecifications") or []).items()}
    for kind, values in tags.items():
        merged.setdefault(kind, {}).update(values)
    groups = _security_groups(backend, data, subnet.vpc_id)
    return Launch(instance_type, subnet, image, capacity_type, data, groups, merged)


def _block_devices(launch: Launch) -> list[dict[str, Any]]:
    root = launch.image.root_device_name
    mappings = [dict(row) for row in launch.data.get("BlockDeviceMappings") or [] if "Ebs" in row]
    if root not in [row["DeviceName"] for row in mappings]:
        mappings.insert(0, {"DeviceName": root, "Ebs": {}})
    for row in mappings:
        ebs = dict(row["Ebs"])
        ebs.setdefault("DeleteOnTermination", row["DeviceName"] == root)
        if ebs.get("VolumeSize") is None:
            ebs["VolumeSize"] = launch.image.block_device_mappings[0]["Ebs"]["VolumeSize"]
        row["Ebs"] = ebs
    return mappings


def _record_spot_request(backend: Any, launch: Launch, instance: Any) -> None:
    # The last argument names the instance that fulfils the request already (see overlay.py); moto would start another.
    unset: Any = None
    request = SpotInstanceRequest(
        backend, random_spot_request_id(), unset, launch.image.id, "one-time", None, None, None, None, unset,
        launch.security_groups, launch.data.get("UserData"), launch.instance_type, launch.zone, None, None, False,
        launch.subnet.id, launch.tags, None, "terminate", instance,
    )  # fmt: skip
    backend.spot_instance_requests[request.id] = request
    instance.spot_instance_request_id = request.id


def _apply_volumes(instance: Any, mappings: list[dict[str, Any]]) -> None:
    for device_name, block in instance.get_block_device_mapping:
        ebs: dict[str, Any] = next((row["Ebs"] for row in mappings if row["DeviceName"] == device_name), {})
        volume = instance.ec2_backend.volumes[block.volume_id]
        volume.iops = ebs.get("Iops") or volume.iops
        volume.throughput = ebs.get("Throughput") or (125 if ebs.get("VolumeType") == "gp3" else None)


def start(backend: Any, launch: Launch, client_token: str) -> Any:
    """Starts one instance; the caller has checked capacity and free addresses."""
    data = launch.data
    nic: dict[str, Any] = next((nic for nic in data.get("NetworkInterfaces", []) if int(nic.get("DeviceIndex", 0)) == 0), {})
    mappings = _block_devices(launch)
    reservation = backend.run_instances(
        launch.image.id,
        1,
        data.get("UserData"),
        [],
        instance_type=launch.instance_type,
        is_instance_type_default=False,
        region_name=backend.region_name,
        subnet_id=launch.subnet.id,
        security_group_ids=launch.security_groups,
        associate_public_ip=nic.get("AssociatePublicIpAddress"),
        block_device_mappings=mappings,
        metadata_options=data.get("MetadataOptions") or {},
        monitoring_state="enabled" if (data.get("Monitoring") or {}).get("Enabled") else "disabled",
        key_name=data.get("KeyName"),
        ebs_optimized=data.get("EbsOptimized") or False,
        lifecycle="spot" if launch.capacity_type == "spot" else None,
        client_token=client_token,
        tags=launch.tags,
    )
    instance = reservation.instances[0]
    instance.launch_time = utcnow()
    _apply_volumes(instance, mappings)
    profile = data.get("IamInstanceProfile")
    if profile:
        backend.associate_iam_instance_profile(instance.id, profile.get("Name"), profile.get("Arn"))
    if launch.capacity_type == "spot":
        _record_spot_request(backend, launch, instance)
    return instance
