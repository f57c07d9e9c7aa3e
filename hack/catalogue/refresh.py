"""The built-in table of instance types, from what AWS says now.

Given: the table as it is, and EC2's and the price list's answers. Gives: the table with today's facts on standard output, in
order of name. Nothing is written to the repository, and nothing is guessed: what no API tells is kept or zero.
"""

import argparse
import datetime
import json
import pathlib
import sys
from typing import Any

import boto3

TABLE = pathlib.Path(__file__).resolve().parents[2] / "src/cloud/data/instance-types.csv"
REGION = "us-east-1"
# The line that says when the table was written last.
WRITTEN = "# Written anew by hack/refresh-types"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


def read_table() -> tuple[list[str], list[str], dict[str, dict[str, str]]]:
    """The comment, the columns, and the rows by name."""
    lines = TABLE.read_text().splitlines()
    comment = [line for line in lines if line.startswith("#") and not line.startswith(WRITTEN)]
    columns, *rows = [line.split(",") for line in lines if line and not line.startswith("#")]
    return comment, columns, {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


def pages(client: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    """Every item of a paginated answer."""
    found = client.get_paginator(operation).paginate(**arguments)
    return [item for page in found for item in page[key]]


def kebab(text: str) -> str:
    return text.strip().lower().replace(" ", "-")


def flag(value: bool | None) -> str:
    return {None: "", True: "y", False: "n"}[value]


def facts(info: dict[str, Any], before: dict[str, str]) -> dict[str, str] | None:
    """A row without zones and price; None for a type that nodes do not run on or that the table has no room for."""
    processor = info.get("ProcessorInfo", {})
    known = [ARCHITECTURES[one] for one in processor.get("SupportedArchitectures", []) if one in ARCHITECTURES]
    gpus = info.get("GpuInfo", {}).get("Gpus", [])
    if not known or len(gpus) > 1 or "NeuronInfo" in info:
        return None
    network, ebs = info["NetworkInfo"], info.get("EbsInfo", {})
    cards = {card["NetworkCardIndex"]: card for card in network.get("NetworkCards", [])}
    first = cards.get(network.get("DefaultNetworkCardIndex", 0), network)
    storage = info.get("InstanceStorageInfo", {})
    nvme = storage.get("TotalSizeInGB", 0) if storage.get("NvmeSupport") != "unsupported" else 0
    bandwidth = ebs.get("EbsOptimizedInfo", {}) if ebs.get("EbsOptimizedSupport") == "default" else {}
    baseline = round(sum(card.get("BaselineBandwidthInGbps", 0) for card in cards.values()) * 1000)
    gpu = gpus[0] if gpus else {}
    row = {
        "name": info["InstanceType"],
        "vcpu": info["VCpuInfo"]["DefaultVCpus"],
        "memory": info["MemoryInfo"]["SizeInMiB"],
        "arch": known[0],
        "manufacturer": kebab(processor.get("Manufacturer", "")) or before.get("manufacturer", ""),
        "clock": round(processor.get("SustainedClockSpeedInGhz", 0) * 1000),
        "hypervisor": info.get("Hypervisor", ""),
        "metal": flag(info.get("BareMetal", False)),
        "gpus": gpu.get("Count", ""),
        "gpu_name": kebab(gpu.get("Name", "")),
        "gpu_manufacturer": kebab(gpu.get("Manufacturer", "")),
        "gpu_memory": gpu.get("MemoryInfo", {}).get("SizeInMiB", ""),
        "nvme": nvme,
        "enis": first["MaximumNetworkInterfaces"],
        "addresses": network["Ipv4AddressesPerInterface"],
        "branch_enis": before.get("branch_enis", 0),
        "efa": network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
        "network": before.get("network", baseline),
        "ebs": bandwidth.get("MaximumBandwidthInMbps", 0),
        "attachments": ebs.get("MaximumEbsAttachments", before.get("attachments", "")),
        "encrypted": flag(network.get("EncryptionInTransitSupported")),
    }
    return {column: str(value) for column, value in row.items()}


def price(pricing: Any, name: str) -> str | None:
    """US dollars per hour on demand: Linux, shared tenancy (metal is sold as dedicated), nothing installed; None if there is none."""
    wanted = {
        "regionCode": REGION,
        "instanceType": name,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "tenancy": "Dedicated" if ".metal" in name else "Shared",
    }
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    products = [json.loads(text) for text in pages(pricing, "get_products", "PriceList", ServiceCode="AmazonEC2", Filters=filters)]
    found = {
        dimension["pricePerUnit"]["USD"].rstrip("0").rstrip(".")
        for product in products
        for term in product["terms"].get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if dimension["unit"] == "Hrs" and float(dimension["pricePerUnit"].get("USD", 0)) > 0
    }
    if len(found) > 1:
        sys.exit(f"hack/refresh-types: {name} has {len(found)} prices, one is expected: {sorted(found)}")
    return found.pop() if found else None


def left_out(name: str, why: str) -> None:
    print(f"hack/refresh-types: {name} is left out: {why}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="hack/refresh-types")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--families", help="families of the new table, with commas; the types of the table without it")
    wanted.add_argument("--all", action="store_true", help="every type that AWS describes and offers, and has a price for")
    parser.add_argument("--keep-prices", action="store_true", help="keep the prices of the table")
    arguments = parser.parse_args()
    comment, columns, before = read_table()
    ec2 = boto3.client("ec2", region_name=REGION)
    described = {info["InstanceType"]: info for info in pages(ec2, "describe_instance_types", "InstanceTypes")}
    offered = pages(ec2, "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone")
    zones: dict[str, set[str]] = {}
    for offering in offered:
        zones.setdefault(offering["InstanceType"], set()).add(offering["Location"].removeprefix(REGION))
    families = set(arguments.families.split(",")) if arguments.families else None
    if arguments.all:
        # What no zone offers is described, and cannot be bought.
        names = sorted(name for name in described if name in zones)
    elif families is not None:
        names = sorted(name for name in described if name.split(".")[0] in families)
    else:
        names = sorted(before)
    pricing = None if arguments.keep_prices else boto3.client("pricing", region_name=REGION)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    print("\n".join([*comment, f"{WRITTEN} on {today}.", ",".join(columns)]))
    for name in names:
        known = before.get(name, {})
        row = facts(described[name], known) if name in described else None
        if row is None:
            left_out(name, "AWS does not describe it, or not as a node's machine")
            continue
        row["zones"] = "".join(sorted(zones.get(name, set()))) or "-"
        usd = known.get("usd") if pricing is None else price(pricing, name)
        if usd is None:
            why = "no price to keep: leave --keep-prices out" if pricing is None else "no price on demand"
            if not arguments.all:
                sys.exit(f"hack/refresh-types: {name} has {why}")
            left_out(name, f"it has {why}")
            continue
        row["usd"] = usd
        print(",".join(row[column] for column in columns))


if __name__ == "__main__":
    main()
