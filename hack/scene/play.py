"""Plays the scene on a running cluster and shows what happens, live on a terminal, as lines elsewhere.

Given: kubectl in PATH with KUBECONFIG set, the controller's metrics URL and log. Never talks to EC2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from typing import Any, Callable

STARTED = time.monotonic()


def kubectl(*arguments: str) -> str:
    """The output of a kubectl command; raises when it fails."""
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True).stdout


def objects(*arguments: str) -> list[dict[str, Any]]:
    """The items of `kubectl get ... -o json`."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))["items"]


def dollars_per_hour(url: str) -> float | None:
    """What the fleet costs now, as the controller counts it."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    found = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("tonnage_cluster_usd_per_hour")
    ]
    return sum(found) if found else 0.0


class View:
    """What is on the screen: redrawn in place on a terminal, one line a change elsewhere."""

    def __init__(self, metrics: str, log: str) -> None:
        self.metrics = metrics
        self.log = log
        self.chapter = ""
        self.last_line = ""
        self.drawn = 0
        self.live = sys.stdout.isatty()
        self.pods: Counter[str] = Counter()
        self.workers: list[dict[str, Any]] = []
        self.claims: list[dict[str, Any]] = []
        self.price: float | None = None

    def observe(self) -> None:
        """Reads pods, nodes and claims once and shows them."""
        self.pods = Counter(pod["status"].get("phase", "?") for pod in objects("pods"))
        self.workers = [
            node for node in objects("nodes") if not node["metadata"]["name"].startswith("system-")
        ]
        self.claims = objects("nodeclaims.karpenter.sh")
        self.price = dollars_per_hour(self.metrics)
        self.show("?" if self.price is None else f"{self.price:.4f}")

    def is_bare(self) -> bool:
        """Nothing is there, and nothing is billed any more."""
        return not self.claims and not self.workers and not self.price

    def show(self, price: str) -> None:
        elapsed = time.monotonic() - STARTED
        phases = "  ".join(f"{phase} {count}" for phase, count in sorted(self.pods.items())) or "none"
        line = (
            f"pods: {phases:<40} claims: {len(self.claims):<3} nodes: {len(self.workers):<3} "
            f"USD/h: {price}"
        )
        if not self.live:
            if line != self.last_line:
                print(f"{elapsed:6.1f} s  {self.chapter}: {line}", flush=True)
            self.last_line = line
            return
        rows = [f"\033[1m{elapsed:6.1f} s  {self.chapter}\033[0m", line, ""]
        rows += [self.machine_row(claim) for claim in self.claims[:24]]
        if len(self.claims) > 24:
            rows.append(f"  ... and {len(self.claims) - 24} more")
        rows += ["", "latest decisions:", *self.decisions()]
        if self.drawn:
            sys.stdout.write(f"\033[{self.drawn}A\033[J")
        sys.stdout.write("\n".join(rows) + "\n")
        sys.stdout.flush()
        self.drawn = len(rows)

    def machine_row(self, claim: dict[str, Any]) -> str:
        labels = claim["metadata"].get("labels", {})
        conditions = {
            condition["type"]: condition["status"]
            for condition in claim.get("status", {}).get("conditions", [])
        }
        state = "deciding"
        for condition, word in (
            ("Launched", "launched"), ("Registered", "registered"), ("Initialized", "ready")
        ):
            if conditions.get(condition) == "True":
                state = word
        if claim["metadata"].get("deletionTimestamp"):
            state = "leaving"
        return (
            f"  {claim['metadata']['name']:<24} {labels.get('node.kubernetes.io/instance-type', '-'):<12}"
            f" {labels.get('karpenter.sh/capacity-type', '-'):<10}"
            f" {labels.get('topology.kubernetes.io/zone', '-'):<12} {state}"
        )

    def decisions(self) -> list[str]:
        with open(self.log, encoding="utf-8", errors="replace") as log:
            lines = [line.rstrip()[:150] for line in log if " INFO " in line or " WARN " in line]
        return [f"  {line}" for line in lines[-5:]]

    def until(self, chapter: str, seconds: float, reached: Callable[[], bool]) -> None:
        """Shows until `reached`; ends the program when it takes too long."""
        self.chapter = chapter
        began = time.monotonic()
        while True:
            self.observe()
            if reached():
                break
            if time.monotonic() - began > seconds:
                print(f"\nnot reached in {seconds:.0f} s: {chapter}", file=sys.stderr)
                for pod in objects("pods"):
                    if pod["status"].get("phase") == "Pending":
                        print(kubectl("describe", "pod", pod["metadata"]["name"])[-600:], file=sys.stderr)
                        break
                raise SystemExit(1)
            time.sleep(1)
        print(f"{time.monotonic() - STARTED:6.1f} s  reached: {chapter}\n", flush=True)
        self.drawn = 0
        self.last_line = ""

    def started(self) -> int:
        return self.pods["Running"] + self.pods["Succeeded"]

    def waiting_reason(self) -> None:
        """Prints why pods still wait, in the words of their events."""
        for event in objects("events", "--field-selector", "involvedObject.kind=Pod"):
            source = event.get("reportingComponent") or event.get("source", {}).get("component", "")
            if source == "tonnage" and event.get("type") == "Warning":
                print(f"  {event['involvedObject']['name']}: {event['message']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    pinned = "pinned" in options.workload
    view = View(options.metrics, options.log)

    kubectl("apply", "--server-side", "-f", options.workload)
    kubectl("scale", "deployment/executor", "--replicas=10")
    expected = 12 if pinned else 13
    view.until(f"ten executors and three jobs: {expected} pods start", 180, lambda: view.started() >= expected)
    if pinned:
        print("What still waits, and what would make it fit:")
        view.waiting_reason()
    kubectl("scale", "deployment/executor", f"--replicas={20 if pinned else 50}")
    more = expected + (10 if pinned else 40)
    view.until(f"more executors: {more} pods start", 180, lambda: view.started() >= more)
    kubectl("delete", "deployments,jobs", "--all", "--wait=false")
    view.until("the work is done: the fleet goes to zero", 120, lambda: view.is_bare())
    print("Nothing runs and nothing is billed.")


if __name__ == "__main__":
    main()
