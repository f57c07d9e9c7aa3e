"""How much EC2 capacity is left: pools that a test sets through the control API.

Given: pools of {type, zone, capacityType, capacity}, each of the first three "*" or a value. Gives: how many more instances a
pool starts. The most specific pool that matches decides (of equals the later one); its number is shared by all that it
matches. An instance takes one away when it starts and gives nothing back when it ends, so that a test's figures hold still.
Without a matching pool capacity is unlimited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNLIMITED = 1 << 30


@dataclass
class Pool:
    """One row of the table; `left` is how many instances may still start."""

    instance_type: str
    zone: str
    capacity_type: str
    left: int

    def matches(self, instance_type: str, zone: str, capacity_type: str) -> bool:
        wanted = ((self.instance_type, instance_type), (self.zone, zone), (self.capacity_type, capacity_type))
        return all(mine in ("*", theirs) for mine, theirs in wanted)

    def rank(self) -> int:
        return sum(part != "*" for part in (self.instance_type, self.zone, self.capacity_type))


def _pool(row: Any) -> Pool:
    if not isinstance(row, dict):
        raise ValueError("each pool must be an object")
    capacity = row.get("capacity")
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 0:
        raise ValueError("capacity of a pool must be a whole number, zero or more")
    parts = [row.get(key, "*") for key in ("type", "zone", "capacityType")]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("type, zone and capacityType of a pool must be strings")
    if parts[2] not in ("*", "spot", "on-demand"):
        raise ValueError(f'capacityType must be "*", "spot" or "on-demand", not {parts[2]!r}')
    unknown = set(row) - {"type", "zone", "capacityType", "capacity"}
    if unknown:
        raise ValueError(f"unknown keys in a pool: {sorted(unknown)}")
    return Pool(parts[0], parts[1], parts[2], capacity)


class Capacity:
    """The table. Callers hold the endpoint's lock."""

    def __init__(self) -> None:
        self._pools: list[Pool] = []

    def replace(self, rows: Any) -> None:
        """Replace all pools; ValueError says what is wrong and leaves the old ones."""
        if not isinstance(rows, list):
            raise ValueError("pools must be a list")
        self._pools = [_pool(row) for row in rows]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"type": pool.instance_type, "zone": pool.zone, "capacityType": pool.capacity_type, "capacity": pool.left}
            for pool in self._pools
        ]

    def _deciding(self, instance_type: str, zone: str, capacity_type: str) -> Pool | None:
        found = [pool for pool in self._pools if pool.matches(instance_type, zone, capacity_type)]
        if not found:
            return None
        best = max(pool.rank() for pool in found)
        return [pool for pool in found if pool.rank() == best][-1]

    def left(self, instance_type: str, zone: str, capacity_type: str) -> int:
        pool = self._deciding(instance_type, zone, capacity_type)
        return UNLIMITED if pool is None else pool.left

    def take(self, instance_type: str, zone: str, capacity_type: str, count: int) -> None:
        pool = self._deciding(instance_type, zone, capacity_type)
        if pool is not None:
            pool.left -= count
