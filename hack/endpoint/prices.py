"""Prices the endpoint answers with: on-demand from the carried table, spot derived from it.

Given: prices.json (USD per hour in us-east-1). Gives: `on_demand`, `spot`, and the price-list items of the Pricing API.
A type that the table does not know has no price here; nothing is ever guessed for it.
"""

from __future__ import annotations

import hashlib
import json
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

_TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text(encoding="utf-8"), parse_float=Decimal)
REGION: str = _TABLE["region"]
EFFECTIVE: str = _TABLE["effective"]
_ON_DEMAND: dict[str, Decimal] = {name: Decimal(price) for name, price in _TABLE["usdPerHour"].items()}
_TICK = Decimal("0.0001")

# The offer term and rate codes every on-demand hourly price of the EC2 price list carries.
_TERM = "JRTCKXETXF"
_RATE = "6YS6EN2CT7"


def on_demand(instance_type: str) -> Decimal | None:
    """USD per hour on demand, or None for a type without a listed price."""
    return _ON_DEMAND.get(instance_type)


# The price list's name for each family letter that the table holds.
_FAMILIES = {
    "c": "Compute optimized",
    "g": "GPU instance",
    "m": "General purpose",
    "p": "GPU instance",
    "r": "Memory optimized",
    "t": "General purpose",
}


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


# The share of on demand that all of the spot market costs while a test holds it, of 1000.
_held: int | None = None


def hold_spot(per_mille: int | None) -> None:
    """From now on all spot capacity costs this share of on demand, or each pair of type and zone its own again."""
    global _held
    if per_mille is not None and not 0 < per_mille <= 1000:
        raise ValueError(f"spotPerMille must be 1 to 1000, or null, not {per_mille!r}")
    _held = per_mille


def spot(instance_type: str, zone: str) -> Decimal | None:
    """USD per hour on the spot market: as it is held, else a fixed 30 to 45 % of on demand for each pair of type and zone."""
    price = on_demand(instance_type)
    if price is None or _held is None:
        return _own(instance_type, zone)
    return max((price * _held / 1000).quantize(_TICK, ROUND_DOWN), _TICK)


@cache
def _own(instance_type: str, zone: str) -> Decimal | None:
    price = on_demand(instance_type)
    if price is None:
        return None
    share = Decimal(3000 + int(_digest(instance_type, zone)[:8], 16) % 1501) / Decimal(10000)
    return max((price * share).quantize(_TICK, ROUND_HALF_UP), _TICK)


def _attributes(instance_type: str, facts: dict[str, Any]) -> dict[str, str]:
    metal = ".metal" in instance_type
    return {
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "instanceType": instance_type,
        "instanceFamily": _FAMILIES[instance_type[0]],
        "currentGeneration": "Yes" if facts.get("CurrentGeneration") else "No",
        "vcpu": str(facts["VCpuInfo"]["DefaultVCpus"]),
        "memory": f"{facts['MemoryInfo']['SizeInMiB'] / 1024:g} GiB",
        "location": "US East (N. Virginia)",
        "locationType": "AWS Region",
        "regionCode": REGION,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "licenseModel": "No License required",
        "tenancy": "Dedicated" if metal else "Shared",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "operation": "RunInstances",
        "usagetype": f"{'DedicatedUsage' if metal else 'BoxUsage'}:{instance_type}",
    }


def _item(instance_type: str, facts: dict[str, Any]) -> dict[str, Any]:
    attributes = _attributes(instance_type, facts)
    sku = _digest("sku", instance_type)[:16].upper()
    rate = f"{sku}.{_TERM}.{_RATE}"
    price = _ON_DEMAND[instance_type]
    tenancy = "Dedicated" if attributes["tenancy"] == "Dedicated" else "On Demand"
    return {
        "product": {
            "productFamily": "Compute Instance (bare metal)" if ".metal" in instance_type else "Compute Instance",
            "attributes": attributes,
            "sku": sku,
        },
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {
                f"{sku}.{_TERM}": {
                    "priceDimensions": {
                        rate: {
                            "unit": "Hrs",
                            "endRange": "Inf",
                            "description": f"${price} per {tenancy} Linux {instance_type} Instance Hour",
                            "appliesTo": [],
                            "rateCode": rate,
                            "beginRange": "0",
                            "pricePerUnit": {"USD": f"{price:.10f}"},
                        }
                    },
                    "sku": sku,
                    "effectiveDate": EFFECTIVE,
                    "offerTermCode": _TERM,
                    "termAttributes": {},
                }
            }
        },
        "version": EFFECTIVE.replace("-", "").replace(":", "").replace("T", "").replace("Z", ""),
        "publicationDate": EFFECTIVE,
    }


@cache
def _items() -> list[dict[str, Any]]:
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return [_item(name, INSTANCE_TYPES[name]) for name in sorted(_ON_DEMAND) if name in INSTANCE_TYPES]


def _matches(item: dict[str, Any], condition: dict[str, str]) -> bool:
    field, wanted = condition["Field"], condition["Value"]
    product = item["product"]
    if field.lower() == "servicecode":
        value: str | None = item["serviceCode"]
    elif field in ("productFamily", "sku"):
        value = product[field]
    else:
        value = product["attributes"].get(field)
    kind = condition.get("Type", "TERM_MATCH")
    if value is None:
        return kind == "NONE_OF"
    if kind in ("TERM_MATCH", "EQUALS"):
        return value == wanted
    if kind == "CONTAINS":
        return wanted in value
    listed = value in [part.strip() for part in wanted.split(",")]
    return listed if kind == "ANY_OF" else not listed


class PricingError(Exception):
    """A refused Pricing request: `code` is the error type on the wire."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_FILTER_TYPES = ("TERM_MATCH", "EQUALS", "CONTAINS", "ANY_OF", "NONE_OF")


def get_products(request: dict[str, Any]) -> dict[str, Any]:
    """Answer of `GetProducts` (AWS JSON 1.1): price-list items as JSON strings, at most 100 a page."""
    if "ServiceCode" not in request:
        raise PricingError("InvalidParameterException", "ServiceCode is a required parameter.")
    if request["ServiceCode"] != "AmazonEC2":
        raise PricingError("NotFoundException", f"The specified service code {request['ServiceCode']} was not found.")
    filters = request.get("Filters", [])
    for condition in filters:
        if condition.get("Type", "TERM_MATCH") not in _FILTER_TYPES:
            raise PricingError("InvalidParameterException", f"Filter type {condition['Type']} is not one of {_FILTER_TYPES}.")
    size = int(request.get("MaxResults", 100))
    if not 1 <= size <= 100:
        raise PricingError("InvalidParameterException", "MaxResults must be between 1 and 100.")
    token = request.get("NextToken") or "0"
    if not token.isdigit():
        raise PricingError("InvalidNextTokenException", "The pagination token is invalid.")
    start = int(token)
    found = [item for item in _items() if all(_matches(item, condition) for condition in filters)]
    answer: dict[str, Any] = {
        "FormatVersion": "aws_v1",
        "PriceList": [json.dumps(item, separators=(",", ":")) for item in found[start : start + size]],
    }
    if start + size < len(found):
        answer["NextToken"] = str(start + size)
    return answer
