"""EC2's answers where moto's differ: patches on moto's model and responses, installed once at start.

Given: moto (the pinned version) and the endpoint's state. Gives: instances that change state by time, addresses that come
back, fleets that apply their template, current spot prices, paging at EC2's limits and EC2's error codes. Nothing here
keeps a second copy of what moto stores.
"""

from __future__ import annotations

import fnmatch
import time
from collections import deque
from typing import Any

import prices
from fleet import Fleets
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2 import utils as ec2_utils
from moto.ec2.exceptions import EC2ClientError, InvalidInstanceIdError
from moto.ec2.models import EC2Backend
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES, InstanceTypeOfferingBackend
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses.fleets import Fleets as FleetResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances

_STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}


def _states_by_time(pending_seconds: float, visible_seconds: float) -> None:
    """pending -> running and shutting-down -> terminated after a moment; long terminated ones are forgotten."""

    def become(state: InstanceState, name: str) -> None:
        state.name, state.code = name, _STATE_CODES[name]

    def get(self: Instance) -> InstanceState:
        state: InstanceState = self.__dict__["_timed_state"]
        if state.name in ("pending", "shutting-down") and time.monotonic() >= self.__dict__["_settles_at"]:
            become(state, "running" if state.name == "pending" else "terminated")
        return state

    def put(self: Instance, state: InstanceState) -> None:
        become(state, "pending")
        self.__dict__["_timed_state"] = state
        self.__dict__["_settles_at"] = time.monotonic() + pending_seconds

    terminate = Instance.terminate

    def timed_terminate(self: Instance) -> InstanceState:
        before = InstanceState(self._state.name, self._state.code)
        if before.name in ("shutting-down", "terminated"):
            return before
        for nic in self.nics.values():
            nic.delete_on_termination = True
        subnet = self.ec2_backend.get_subnet(self.subnet_id)
        # Already while it ends, or an instance that lived for long counts as long forgotten and is not found.
        self.__dict__["_settles_at"] = time.monotonic() + pending_seconds
        terminate(self)
        for address in self._private_ips:
            subnet.del_subnet_ip(address)
        become(self._state, "shutting-down")
        self.__dict__["_settles_at"] = time.monotonic() + pending_seconds
        request = self.ec2_backend.spot_instance_requests.get(getattr(self, "spot_instance_request_id", None))
        if request is not None:
            request.state, request._status_code = "closed", "instance-terminated-by-user"
        return before

    all_reservations = InstanceBackend.all_reservations

    def without_the_forgotten(self: Any, filters: Any = None) -> Any:
        horizon = time.monotonic() - visible_seconds
        for reservation_id, reservation in list(self.reservations.items()):
            if all(i.state == "terminated" and i.__dict__["_settles_at"] < horizon for i in reservation.instances):
                for instance in reservation.instances:
                    self.tags.pop(instance.id, None)
                del self.reservations[reservation_id]
        return all_reservations(self, filters)

    patch(Instance, "_state", property(get, put))
    patch(Instance, "terminate", timed_terminate)
    patch(InstanceBackend, "all_reservations", without_the_forgotten)

    address, name = Instance.private_ip_address, Instance.private_dns_name

    def private_ip_address(self: Instance) -> str | None:
        return None if self.state == "terminated" else address.fget(self)  # type: ignore[attr-defined]

    def private_dns_name(self: Instance) -> str:
        return "" if self.state == "terminated" else name.fget(self)  # type: ignore[attr-defined]

    patch(Instance, "private_ip_address", property(private_ip_address))
    patch(Instance, "private_dns_name", property(private_dns_name))
    patch(Instance, "assigned_dns_name", property(name.fget))  # type: ignore[attr-defined]


def patch(owner: Any, name: str, value: Any) -> None:
    """Replaces or adds one attribute of a class of moto."""
    setattr(owner, name, value)


def _addresses_come_back() -> None:
    """A freed address is given out again only when the subnet has no unused one, as EC2 does in practice."""

    class Freed(deque[str]):
        def add(self, address: str) -> None:
            self.append(address)

    original = Subnet.get_available_subnet_ip

    def get_available_subnet_ip(self: Subnet, instance: Any) -> str:
        freed, self._unused_ips = self._unused_ips, set()
        try:
            return original(self, instance)
        except (StopIteration, RuntimeError):
            if not freed:
                raise
            address = str(freed.popleft()) if isinstance(freed, deque) else str(freed.pop())
            self._subnet_ips[address] = instance
            return address
        finally:
            self._unused_ips = freed

    create = Subnet.__init__

    def with_queue(self: Subnet, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        self._unused_ips = Freed()  # type: ignore[assignment]

    patch(Subnet, "__init__", with_queue)
    patch(Subnet, "get_available_subnet_ip", get_available_subnet_ip)


def _tags() -> None:
    """Tags of one resource by a look-up instead of a walk over all tags; no tags on instances that are not there."""

    def get_tags(self: Any) -> list[dict[str, str]]:
        kind = ec2_utils.EC2_PREFIX_TO_RESOURCE.get(ec2_utils.get_prefix(self.id), "")
        found = self.ec2_backend.tags.get(self.id, {})
        return [{"resource_id": self.id, "key": key, "value": value, "resource_type": kind} for key, value in found.items()]

    exist = EC2Backend.do_resources_exist

    def do_resources_exist(self: EC2Backend, resource_ids: list[str]) -> bool:
        for resource_id in resource_ids:
            if resource_id.startswith("i-") and self.get_instance_by_id(resource_id) is None:
                raise InvalidInstanceIdError(resource_id)
        return exist(self, resource_ids)

    patch(TaggedEC2Resource, "get_tags", get_tags)
    patch(EC2Backend, "do_resources_exist", do_resources_exist)


def _describe_instances() -> None:
    """More of EC2's filters, and its error for one it does not know."""
    mapping = ec2_utils.filter_dict_attribute_mapping
    mapping.update(
        {
            "client-token": "client_token",
            "instance-lifecycle": "lifecycle",
            "spot-instance-request-id": "spot_instance_request_id",
            "instance-state-code": "state_code_text",
            "iam-instance-profile.arn": "profile_arn",
            "network-interface.subnet-id": "subnet_id",
            "metadata-options.http-tokens": "http_tokens_text",
            "metadata-options.http-endpoint": "http_endpoint_text",
        }
    )
    patch(Instance, "spot_instance_request_id", None)
    patch(Instance, "launch_template", None)
    patch(Instance, "state_code_text", property(lambda self: str(self._state.code)))
    patch(Instance, "profile_arn", property(lambda self: (self.iam_instance_profile or {}).get("Arn")))
    patch(Instance, "http_tokens_text", property(lambda self: self.metadata_options.http_tokens))
    patch(Instance, "http_endpoint_text", property(lambda self: self.metadata_options.http_endpoint))
    describe = InstanceResponse.describe_instances

    def describe_instances(self: InstanceResponse) -> ActionResult:
        for name in self._filters_from_querystring():
            if name not in mapping and not ec2_utils.is_tag_filter(name):
                raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
        for instance_id in self._get_param("InstanceIds", []):
            if not ec2_utils.is_valid_resource_id(instance_id):
                raise EC2ClientError("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
        return describe(self)

    patch(InstanceResponse, "describe_instances", describe_instances)


def _page(self: Any, rows: list[Any], default: int, limit: int) -> tuple[list[Any], str]:
    size = int(self._get_param("MaxResults") or default)
    if not 1 <= size <= limit:
        raise EC2ClientError("InvalidParameterValue", f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value up to {limit}.")
    token = self._get_param("NextToken") or "0"
    if not str(token).isdigit():
        raise EC2ClientError("InvalidNextToken", f"The token '{token}' is invalid")
    start = int(token)
    return rows[start : start + size], str(start + size) if start + size < len(rows) else ""


def _paging() -> None:
    """DescribeInstanceTypes and DescribeInstanceTypeOfferings in pages; wildcards in the type filter of the latter."""

    def describe_instance_types(self: InstanceResponse) -> ActionResult:
        wanted = self._get_param("InstanceTypes", [])
        if len(wanted) > 100:
            raise EC2ClientError("InvalidParameterValue", "At most 100 instance types may be named.")
        rows = self.ec2_backend.describe_instance_types(wanted, self._filters_from_querystring())
        page, token = _page(self, rows, 100, 100)
        return ActionResult({"InstanceTypes": page, **({"NextToken": token} if token else {})})

    def describe_instance_type_offerings(self: InstanceResponse) -> ActionResult:
        rows = self.ec2_backend.describe_instance_type_offerings(self._get_param("LocationType"), self._filters_from_querystring())
        page, token = _page(self, rows, 1000, 1000)
        return ActionResult({"InstanceTypeOfferings": page, **({"NextToken": token} if token else {})})

    matches = InstanceTypeOfferingBackend.matches_filters

    def matches_filters(self: Any, offering: dict[str, Any], filters: Any, location_type: str) -> bool:
        names = filters.get("instance-type")
        if names is not None and not isinstance(names, str):
            if not any(fnmatch.fnmatchcase(offering["InstanceType"], name) for name in names):
                return False
            filters = {key: value for key, value in filters.items() if key != "instance-type"}
        return matches(self, offering, filters, location_type)

    patch(InstanceResponse, "describe_instance_types", describe_instance_types)
    patch(InstanceResponse, "describe_instance_type_offerings", describe_instance_type_offerings)
    patch(InstanceTypeOfferingBackend, "matches_filters", matches_filters)


_PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


def _spot_rows(region: str, wanted: dict[str, list[str]]) -> list[dict[str, Any]]:
    now = utcnow().replace(microsecond=0)
    rows = []
    for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, []):
        name, zone = offering["InstanceType"], offering["Location"]
        price = prices.spot(name, zone)
        if price is None or "spot" not in INSTANCE_TYPES.get(name, {}).get("SupportedUsageClasses", []):
            continue
        row = {"InstanceType": name, "ProductDescription": _PRODUCTS[0], "SpotPrice": f"{price:.6f}", "AvailabilityZone": zone, "Timestamp": now}
        keys = {"instance-type": name, "availability-zone": zone, "spot-price": row["SpotPrice"], "product-description": _PRODUCTS[0]}
        if all(any(fnmatch.fnmatchcase(keys[key], value) for value in values) for key, values in wanted.items()):
            rows.append(row)
    return sorted(rows, key=lambda row: (row["InstanceType"], row["AvailabilityZone"]))


def _spot_prices() -> None:
    """DescribeSpotPriceHistory with the current price of each type and zone."""

    def describe_spot_price_history(self: SpotInstances) -> ActionResult:
        wanted: dict[str, list[str]] = dict(self._filters_from_querystring())  # type: ignore[arg-type]
        unknown = set(wanted) - {"instance-type", "availability-zone", "spot-price", "product-description"}
        if unknown:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{sorted(unknown)[0]}' is invalid")
        products = self._get_param("ProductDescriptions", []) + wanted.pop("product-description", [])
        for name, parameter in (("instance-type", "InstanceTypes"), ("availability-zone", "AvailabilityZone")):
            value = self._get_param(parameter)
            if value:
                wanted[name] = value if isinstance(value, list) else [value]
        rows = _spot_rows(self.region, wanted)
        if products and not set(products) & set(_PRODUCTS):
            rows = []
        page, token = _page(self, rows, 1000, 1000)
        return ActionResult({"SpotPriceHistory": page, "NextToken": token})

    patch(SpotInstances, "describe_spot_price_history", describe_spot_price_history)


def _spot_requests() -> None:
    """A spot request that a fleet records names the instance that fulfils it, so none is started for it."""
    launch_instance = SpotInstanceRequest.launch_instance

    def fulfilled(self: SpotInstanceRequest) -> Any:
        return self.launch_spec if isinstance(self.launch_spec, Instance) else launch_instance(self)

    patch(SpotInstanceRequest, "launch_instance", fulfilled)


def _fleets(fleets: Fleets) -> None:
    """CreateFleet instant of our own; other types stay moto's."""
    create, describe = FleetResponse.create_fleet, FleetResponse.describe_fleets

    def create_fleet(self: FleetResponse) -> ActionResult:
        if self._get_param("Type", "maintain") != "instant":
            return create(self)
        self.error_on_dryrun()
        return ActionResult(fleets.create(self.ec2_backend, dict(self.params)))

    def describe_fleets(self: FleetResponse) -> ActionResult:
        wanted = self._get_param("FleetIds", [])
        if not wanted:
            return describe(self)
        return ActionResult({"Fleets": self.ec2_backend.describe_fleets(wanted)})

    patch(FleetResponse, "create_fleet", create_fleet)
    patch(FleetResponse, "describe_fleets", describe_fleets)


def install(fleets: Fleets, pending_seconds: float, visible_seconds: float) -> None:
    """Puts all patches in place; call once, before the first request."""
    _states_by_time(pending_seconds, visible_seconds)
    _addresses_come_back()
    _tags()
    _describe_instances()
    _paging()
    _spot_prices()
    _spot_requests()
    _fleets(fleets)
