"""CreateFleet of type instant, answered as EC2 answers it.

Given: the parsed request, moto's EC2 backend, the capacity table and the price table. Gives: fleet id, instances grouped by
override, and an error for each pool that was tried and could not serve. The same client token with the same parameters
gives the same answer again and starts nothing; with other parameters it is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import prices
from capacity import Capacity
from launch import Launch, Refusal, check, start
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.utils import convert_tag_spec, random_fleet_id

# EC2's limit of instance pools (overrides over all launch template configurations) in one fleet request.
MAX_OVERRIDES = 300
# Accepted by EC2, not by this endpoint: refused by name, so that no test passes because a field is ignored.
_NOT_HERE = ("MinTargetCapacity", "SingleInstanceType", "SingleAvailabilityZone", "MaxTotalPrice", "CapacityReservationOptions")
_STRATEGIES = {
    "spot": ("lowest-price", "price-capacity-optimized", "capacity-optimized", "capacity-optimized-prioritized", "diversified"),
    "on-demand": ("lowest-price", "prioritized"),
}


@dataclass
class Candidate:
    """One pool of the request: an override with its template, and the launch it describes or why there is none."""

    index: int
    specification: dict[str, Any]
    override: dict[str, Any]
    template_tags: dict[str, str]
    launch: Launch | None = None
    refusal: Refusal | None = None


@dataclass
class Fleet:
    """What DescribeFleets shows of an instant fleet."""

    id: str
    type: str
    target_capacity: int
    client_token: str | None
    capacity_type: str
    instance_ids: list[str] = field(default_factory=list)


class Fleets:
    """Remembers client tokens and fleets. Callers hold the endpoint's lock."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._answers: dict[tuple[str, str, str], tuple[str, dict[str, Any]]] = {}

    def clear(self) -> None:
        self._answers.clear()

    def create(self, backend: Any, params: dict[str, Any]) -> dict[str, Any]:
        """The answer of an instant CreateFleet; EC2ClientError when the whole call is refused."""
        token = params.get("ClientToken")
        key = (backend.account_id, backend.region_name, token or "")
        print_of_request = json.dumps({k: v for k, v in params.items() if k != "DryRun"}, sort_keys=True, default=str)
        if token and key in self._answers:
            known, answer = self._answers[key]
            if known != print_of_request:
                raise EC2ClientError("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
            return answer
        answer = self._create(backend, params)
        if token:
            self._answers[key] = (print_of_request, answer)
        return answer

    def _create(self, backend: Any, params: dict[str, Any]) -> dict[str, Any]:
        capacity_type, total = _target(params)
        options = params.get("SpotOptions" if capacity_type == "spot" else "OnDemandOptions") or {}
        strategy = _strategy(options, capacity_type)
        tags = _request_tags(params)
        fleet_id = random_fleet_id()
        candidates = _candidates(backend, params, capacity_type, tags)
        ordered = self._order(candidates, strategy, capacity_type)
        errors: list[dict[str, Any]] = []
        started: dict[int, list[Any]] = {}
        quota = -(-total // len(ordered)) if strategy == "diversified" else total
        for limit in dict.fromkeys((quota, total)):
            for candidate in ordered:
                remaining = total - sum(len(instances) for instances in started.values())
                if remaining == 0:
                    break
                wanted = min(remaining, limit)
                if wanted > 0:
                    room, refusal = self._room(candidate, capacity_type, wanted)
                    for _ in range(room):
                        number = sum(len(instances) for instances in started.values())
                        instance = _start(backend, candidate, fleet_id, number)
                        started.setdefault(candidate.index, []).append(instance)
                    if room and candidate.launch:
                        self._capacity.take(candidate.launch.instance_type, candidate.launch.zone, capacity_type, room)
                    if refusal and limit == total:
                        errors.append(_error(candidate, capacity_type, refusal))
        instances = [_group(candidate, capacity_type, started[candidate.index]) for candidate in ordered if candidate.index in started]
        ids = [instance_id for group in instances for instance_id in group["InstanceIds"]]
        backend.fleets[fleet_id] = _described(backend, fleet_id, params, capacity_type, total, ids)
        return {"FleetId": fleet_id, "Errors": errors, "Instances": instances}

    def _order(self, candidates: list[Candidate], strategy: str, capacity_type: str) -> list[Candidate]:
        def key(candidate: Candidate) -> tuple[Any, ...]:
            price = _price(candidate, capacity_type)
            priority = candidate.override.get("Priority")
            ranked = Decimal(str(priority)) if priority is not None else Decimal("Infinity")
            launch = candidate.launch
            depth = self._capacity.left(launch.instance_type, launch.zone, capacity_type) if launch else 0
            if strategy == "prioritized":
                return (ranked, candidate.index)
            if strategy == "capacity-optimized":
                return (-depth, price, candidate.index)
            if strategy == "capacity-optimized-prioritized":
                return (-depth, ranked, price, candidate.index)
            if strategy == "price-capacity-optimized":
                return (depth < 1, price, candidate.index)
            return (price, candidate.index)

        return sorted(candidates, key=key)

    def _room(self, candidate: Candidate, capacity_type: str, wanted: int) -> tuple[int, Refusal | None]:
        if candidate.refusal:
            return 0, candidate.refusal
        launch = candidate.launch
        assert launch is not None
        bid = candidate.override.get("MaxPrice")
        if capacity_type == "spot" and bid is not None and Decimal(str(bid)) < _price(candidate, capacity_type):
            return 0, Refusal("SpotMaxPriceTooLow", f"Your Spot request price of {bid} is lower than the minimum required Spot request fulfillment price.")
        left = self._capacity.left(launch.instance_type, launch.zone, capacity_type)
        free = int(launch.subnet.available_ip_address_count)
        room = min(wanted, left, free)
        if room == wanted:
            return room, None
        if free < min(wanted, left):
            return room, Refusal("InsufficientFreeAddressesInSubnet", f"There are not enough free addresses in subnet '{launch.subnet.id}' to satisfy the requested number of instances.")
        return room, Refusal("InsufficientInstanceCapacity", _no_capacity(launch, capacity_type))


def _no_capacity(launch: Launch, capacity_type: str) -> str:
    if capacity_type == "spot":
        return "There is no Spot capacity available that matches your request."
    return (
        f"We currently do not have sufficient {launch.instance_type} capacity in the Availability Zone you requested "
        f"({launch.zone}). Our system will be working on provisioning additional capacity."
    )


def _price(candidate: Candidate, capacity_type: str) -> Decimal:
    """USD per hour that orders the pools; a pool that cannot launch takes the place its type and zone would have."""
    launch, override = candidate.launch, candidate.override
    instance_type = launch.instance_type if launch else override.get("InstanceType") or ""
    zone = launch.zone if launch else override.get("AvailabilityZone") or ""
    price = prices.spot(instance_type, zone) if capacity_type == "spot" else prices.on_demand(instance_type)
    return Decimal("Infinity") if price is None else price


def _target(params: dict[str, Any]) -> tuple[str, int]:
    target = params.get("TargetCapacitySpecification") or {}
    capacity_type = target.get("DefaultTargetCapacityType") or "on-demand"
    if capacity_type not in _STRATEGIES:
        raise EC2ClientError("UnsupportedOperation", f"This endpoint starts spot and on-demand capacity, not {capacity_type}.")
    total = int(target.get("TotalTargetCapacity") or 0)
    other = target.get("OnDemandTargetCapacity" if capacity_type == "spot" else "SpotTargetCapacity") or 0
    if int(other) > 0:
        raise EC2ClientError("UnsupportedOperation", "This endpoint starts one capacity type per fleet.")
    if total < 1:
        raise EC2ClientError("InvalidTargetCapacitySpecification", "TotalTargetCapacity must be at least 1 for an instant fleet.")
    return capacity_type, total


def _strategy(options: dict[str, Any], capacity_type: str) -> str:
    for name in _NOT_HERE:
        if options.get(name):
            raise EC2ClientError("UnsupportedOperation", f"This endpoint does not act on {name}.")
    strategy = str(options.get("AllocationStrategy") or "lowest-price")
    if strategy not in _STRATEGIES[capacity_type]:
        raise EC2ClientError("InvalidParameterValue", f"AllocationStrategy '{strategy}' is not valid for {capacity_type} capacity.")
    return strategy


def _request_tags(params: dict[str, Any]) -> dict[str, dict[str, str]]:
    tags = convert_tag_spec(params.get("TagSpecifications") or [])
    for kind, values in tags.items():
        if kind not in ("instance", "volume", "fleet", "network-interface", "spot-instances-request"):
            raise EC2ClientError("InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation.")
        reserved = [key for key in values if key.startswith("aws:")]
        if reserved:
            raise EC2ClientError("InvalidParameterValue", f"Tag keys starting with 'aws:' are reserved for internal use: {reserved}")
        if len(values) > 50:
            raise EC2ClientError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
    return tags


def _template(backend: Any, specification: dict[str, Any]) -> tuple[Any, Any]:
    by_id, by_name = specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName")
    if bool(by_id) == bool(by_name):
        raise EC2ClientError("InvalidParameterCombination", "Specify either LaunchTemplateId or LaunchTemplateName.")
    if by_id:
        template = backend.launch_templates.get(by_id)
        if template is None:
            raise EC2ClientError("InvalidLaunchTemplateId.NotFound", f"The specified launch template, with template ID {by_id}, does not exist.")
    else:
        template = backend.launch_templates.get(backend.launch_template_name_to_ids.get(by_name))
        if template is None:
            raise EC2ClientError("InvalidLaunchTemplateName.NotFoundException", f"The specified launch template, with template name {by_name}, does not exist.")
    return template, template.get_version(specification.get("Version") or "$Default")


def _candidates(backend: Any, params: dict[str, Any], capacity_type: str, tags: dict[str, dict[str, str]]) -> list[Candidate]:
    configurations = params.get("LaunchTemplateConfigs") or []
    found: list[Candidate] = []
    pools: set[str] = set()
    for configuration in configurations:
        template, version = _template(backend, configuration.get("LaunchTemplateSpecification") or {})
        specification = {"LaunchTemplateId": template.id, "Version": str(version.number)}
        template_tags = {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": str(version.number)}
        for override in configuration.get("Overrides") or [{}]:
            for name in ("InstanceRequirements", "WeightedCapacity"):
                if override.get(name) not in (None, 1, 1.0):
                    raise EC2ClientError("UnsupportedOperation", f"This endpoint does not act on {name} of an override.")
            identity = json.dumps([override.get(key) for key in ("InstanceType", "SubnetId", "AvailabilityZone")])
            if identity in pools:
                raise EC2ClientError("InvalidFleetConfig", f"The fleet configuration contains duplicate instance pools: {identity}")
            pools.add(identity)
            candidate = Candidate(len(found), specification, override, template_tags)
            try:
                candidate.launch = check(backend, version.data, override, capacity_type, tags)
            except Refusal as refusal:
                candidate.refusal = refusal
            found.append(candidate)
    if not found:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
    if len(found) > MAX_OVERRIDES:
        raise EC2ClientError("InvalidFleetConfig", f"The request has {len(found)} instance pools, at most {MAX_OVERRIDES} are allowed.")
    return found


def _start(backend: Any, candidate: Candidate, fleet_id: str, number: int) -> Any:
    assert candidate.launch is not None
    instance = start(backend, candidate.launch, f"{fleet_id}-{number}")
    instance.add_tags({**candidate.template_tags, "aws:ec2:fleet-id": fleet_id})
    instance.launch_template = dict(candidate.specification)
    return instance


def _echo(candidate: Candidate) -> dict[str, Any]:
    answer: dict[str, Any] = {"LaunchTemplateSpecification": candidate.specification}
    if candidate.override:
        answer["Overrides"] = candidate.override
    return answer


def _group(candidate: Candidate, capacity_type: str, instances: list[Any]) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": _echo(candidate),
        "Lifecycle": capacity_type,
        "InstanceIds": [instance.id for instance in instances],
        "InstanceType": instances[0].instance_type,
    }


def _error(candidate: Candidate, capacity_type: str, refusal: Refusal) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": _echo(candidate),
        "Lifecycle": capacity_type,
        "ErrorCode": refusal.code,
        "ErrorMessage": refusal.message,
    }


def _described(backend: Any, fleet_id: str, params: dict[str, Any], capacity_type: str, total: int, ids: list[str]) -> Fleet:
    backend.create_tags([fleet_id], convert_tag_spec(params.get("TagSpecifications") or []).get("fleet", {}))
    return Fleet(fleet_id, "instant", total, params.get("ClientToken"), capacity_type, ids)
