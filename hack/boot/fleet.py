"""What is known of the machines: the endpoint's view of the instances, and how far each has come.

Given: the list of instances, again and again. Gives: the ids that have something to do now (boot is due, kubelet must stop),
and the settings of the control API. All of it may be called from several threads.
"""

import base64
import binascii
import http.client
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

import boto3
from machine import TypeFacts
from user_data import NodeConfig


class Endpoint:
    """The EC2 endpoint: its list of instances, and the facts of types."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._ec2 = boto3.client(
            "ec2", endpoint_url=url, region_name="us-east-1", aws_access_key_id="boot", aws_secret_access_key="boot"
        )
        self._facts: dict[str, TypeFacts] = {}
        self._zones: dict[str, str] = {}
        self._lock = threading.Lock()

    def instances(self) -> list[dict[str, Any]]:
        """Only the polling thread calls this."""
        try:
            self._connection.request("GET", "/_tonnage/instances")
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status != 200:
            raise OSError(f"{answer.status} {content[:200]!r}")
        return [_instance(row) for row in json.loads(content)]

    def facts(self, instance_type: str) -> TypeFacts:
        with self._lock:
            if instance_type not in self._facts:
                rows = self._ec2.describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
                self._facts[instance_type] = TypeFacts.of(rows[0])
            return self._facts[instance_type]

    def zone_id(self, zone: str) -> str:
        with self._lock:
            if not self._zones:
                rows = self._ec2.describe_availability_zones()["AvailabilityZones"]
                self._zones = {row["ZoneName"]: row["ZoneId"] for row in rows}
            return self._zones[zone]


def _instance(row: dict[str, Any]) -> dict[str, Any]:
    try:
        user_data = base64.b64decode(row["userData"] or "", validate=True)
    except (binascii.Error, ValueError):
        user_data = b"(user data that EC2 was not given as base64)"
    return {
        "id": row["id"],
        "type": row["type"],
        "zone": row["zone"],
        "running": row["state"] == "running",
        "gone": row["state"] not in ("pending", "running"),
        "userData": user_data,
        "privateDnsName": row["privateDnsName"],
        "privateIpAddress": row["privateIp"],
        "architecture": row["architecture"],
        "instanceProfile": row["instanceProfile"],
        "metadataEndpoint": row["metadataOptions"]["httpEndpoint"],
        "rootVolumeGiB": int(row["volumes"][0]["sizeGiB"]) if row["volumes"] else 8,
    }


@dataclass
class Machine:
    """One instance on its way. States: booting, joined, never joins, stopped."""

    id: str
    instance: dict[str, Any]
    due: float | None
    state: str = "booting"
    reason: str = ""
    running: bool = True
    busy: bool = False
    decided: bool = False
    never_joins: bool = False
    provider_id: str | None = None
    config: NodeConfig | None = None

    def own_provider_id(self) -> str:
        return f"aws:///{self.instance['zone']}/{self.id}"


class BootedMachines:
    """All machines that have run, and the settings."""

    def __init__(self, boot_seconds: float) -> None:
        self._boot_seconds = boot_seconds
        self._apart_seconds = 0.0
        self._never_join = 0
        self._claim_other: list[str] = []
        self._machines: dict[str, Machine] = {}
        self._lock = threading.Lock()

    def observe(self, instances: list[dict[str, Any]], now: float) -> list[str]:
        """Notes the instances; gives the ids of machines that are due."""
        with self._lock:
            seen = {instance["id"]: instance for instance in instances}
            for instance in instances:
                known = self._machines.get(instance["id"])
                if known is None and instance["running"]:
                    self._machines[instance["id"]] = Machine(instance["id"], instance, self._first_due(now))
            for machine in self._machines.values():
                current = seen.get(machine.id)
                if machine.running and (current is None or current["gone"]):
                    machine.running = False
                    # A Node may be there in whatever state the machine was, unless it can never have joined.
                    machine.due = None if machine.state == "never joins" else now
            ended = [m.id for m in self._machines.values() if not m.running and m.due is None and not m.busy]
            for gone in set(ended).difference(seen):
                del self._machines[gone]
            due = [m for m in self._machines.values() if m.due is not None and m.due <= now and not m.busy]
            for machine in due:
                machine.busy = True
            return [machine.id for machine in due]

    def _first_due(self, now: float) -> float:
        latest = max((m.due for m in self._machines.values() if m.state == "booting" and m.due is not None), default=now)
        return max(now + self._boot_seconds, latest + self._apart_seconds)

    def get(self, instance_id: str) -> Machine | None:
        with self._lock:
            return self._machines.get(instance_id)

    def settle(self, machine: Machine, state: str, reason: str, retry: float | None) -> None:
        """The end of one attempt; with `retry` the machine is due again after so many seconds."""
        with self._lock:
            machine.state, machine.reason, machine.busy = state, reason, False
            machine.due = None if retry is None else time.monotonic() + retry
            if not machine.running and state not in ("stopped", "never joins") and machine.due is None:
                machine.due = time.monotonic()

    def fate(self) -> tuple[bool, str | None]:
        """What the control API holds in store for the next machine: whether it never joins, and a false providerID."""
        with self._lock:
            if self._never_join > 0:
                self._never_join -= 1
                return True, None
            return False, self._claim_other.pop(0) if self._claim_other else None

    def node_of(self, instance_id: str) -> str | None:
        machine = self.get(instance_id)
        return machine.instance["privateDnsName"] if machine and machine.state == "joined" else None

    def rows(self) -> list[dict[str, Any]]:
        with self._lock:
            return [
                {"id": m.id, "node": m.instance["privateDnsName"], "state": m.state, "reason": m.reason, "running": m.running}
                for m in sorted(self._machines.values(), key=lambda m: m.id)
            ]

    def settings(self) -> dict[str, Any]:
        with self._lock:
            return {
                "bootSeconds": self._boot_seconds,
                "apartSeconds": self._apart_seconds,
                "neverJoin": self._never_join,
                "claimOther": list(self._claim_other),
            }

    def change(self, request: dict[str, Any]) -> dict[str, Any]:
        """New settings; ValueError names the one that is wrong, and then none is changed."""
        unknown = sorted(set(request) - {"bootSeconds", "apartSeconds", "neverJoin", "claimOther"})
        if unknown:
            raise ValueError(f"there is no setting {unknown[0]}")
        names = ("bootSeconds", "apartSeconds", "neverJoin", "claimOther")
        seconds, apart, count, claim_other = (request.get(key) for key in names)
        for name, value in (("bootSeconds", seconds), ("apartSeconds", apart)):
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 86400):
                raise ValueError(f"{name} must be a number of seconds up to a day")
        if count is not None and not (isinstance(count, int) and count >= 0):
            raise ValueError("neverJoin must be a whole number, zero or more")
        if claim_other is not None and not (isinstance(claim_other, list) and all(isinstance(i, str) for i in claim_other)):
            raise ValueError("claimOther must be a list of providerIDs")
        with self._lock:
            self._boot_seconds = self._boot_seconds if seconds is None else float(seconds)
            self._apart_seconds = self._apart_seconds if apart is None else float(apart)
            self._never_join = self._never_join if count is None else count
            self._claim_other = self._claim_other if claim_other is None else list(claim_other)
        return self.settings()
