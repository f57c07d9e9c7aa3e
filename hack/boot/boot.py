#!/usr/bin/env python3
"""The boot of EC2 machines: registers a Node for every running instance, from nothing but its user data.

Given: the EC2 endpoint, the name of the cluster and a token for its API server. Gives: some seconds after an instance runs,
the Node that its kubelet would register at the API server that the user data names, trusting the authority found there. When
the instance no longer runs, its kubelet stops; the Node stays, because nobody but the provisioner deletes it. An instance
whose user data is wrong never joins, and the log says why.

    boot.py --control-port P --endpoint URL --cluster-name N --kubeconfig FILE [--boot-seconds S]

Control API on 127.0.0.1, JSON (bodies are objects):
    GET  /state                 {"settings": ..., "machines": [{"id", "node", "state", "reason", "running"}]};
                                states: booting, joined, never joins (the reason says why), stopped
    POST /settings              {"bootSeconds": 2.0}  from running to registered, for machines not yet seen
                                {"apartSeconds": 2.0} between the boots of machines that run at once (0 unless told)
                                {"neverJoin": 3}      the next three machines that would register do not
                                {"claimOther": ["aws:///us-east-1a/i-..."]}  the next machine registers with this providerID
    POST /freeze, POST /thaw    {"instance": "i-..."} or {"node": "..."}: the kubelet stops, or goes on
"""

import argparse
import http.client
import json
import queue
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cluster import Cluster, Rejected, Unreachable, from_kubeconfig
from fleet import BootedMachines, Endpoint
from machine import node
from user_data import NodeConfig, Unbootable, parse

KUBELET = "tonnage.test/kubelet"
POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0
# Enough for hundreds of machines that boot at once, few enough for two cores.
WORKERS = 8


def say(text: str) -> None:
    # One write, so that lines of several workers do not run into each other.
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


class Boot:
    """Watches the instances and lets each machine boot, join and stop."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.cluster_name = arguments.cluster_name
        self.own = from_kubeconfig(arguments.kubeconfig)
        self.endpoint = Endpoint(arguments.endpoint)
        self.machines = BootedMachines(arguments.boot_seconds)
        self.due: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self) -> None:
        for _ in range(WORKERS):
            threading.Thread(target=self.work, daemon=True).start()
        while True:
            started = time.monotonic()
            try:
                for instance_id in self.machines.observe(self.endpoint.instances(), started):
                    self.due.put(instance_id)
            except (OSError, ValueError, http.client.HTTPException) as failure:
                say(f"the endpoint does not answer: {failure}")
            time.sleep(max(0.0, started + POLL_SECONDS - time.monotonic()))

    def work(self) -> None:
        while True:
            machine = self.machines.get(self.due.get())
            if machine is None:
                continue
            try:
                if machine.running:
                    self.join(machine)
                else:
                    self.halt(machine)
            except Unbootable as failure:
                self.settle(machine, "never joins", str(failure))
            except (Unreachable, Rejected, OSError, http.client.HTTPException) as failure:
                self.settle(machine, machine.state, str(failure), retry=RETRY_SECONDS)
            except Exception as failure:  # a worker that died would leave machines unbooted without a word
                self.settle(machine, "never joins", f"{type(failure).__name__}: {failure}")

    def settle(self, machine: Any, state: str, reason: str = "", retry: float | None = None) -> None:
        if (state, reason) != (machine.state, machine.reason) and (reason or state != "joined"):
            say(f"{machine.id}: {state}{': ' + reason if reason else ''}")
        self.machines.settle(machine, state, reason, retry)

    def join(self, machine: Any) -> None:
        instance = machine.instance
        if machine.config is None:
            machine.config = self.configure(instance)
        if not machine.decided:
            machine.decided = True
            machine.never_joins, machine.provider_id = self.machines.fate()
        if machine.never_joins:
            raise Unbootable("told so by the control API")
        config: NodeConfig = machine.config
        facts, zone_id = self.endpoint.facts(instance["type"]), self.endpoint.zone_id(instance["zone"])
        wanted = node(instance, zone_id, facts, config, machine.provider_id)
        cluster = Cluster(config.api_server, config.authority, self.own.token)
        try:
            cluster.call("POST", "/api/v1/nodes", wanted)
        except Rejected as failure:
            if failure.status == 409:
                self.meet_namesake(cluster, wanted)
            elif failure.status in (400, 422):
                raise Unbootable(str(failure)) from failure
            else:
                raise
        else:
            say(f"{machine.id}: joined as {wanted['metadata']['name']} ({instance['type']}, {instance['zone']})")
        self.settle(machine, "joined")

    def configure(self, instance: dict[str, Any]) -> NodeConfig:
        config = parse(instance["userData"])
        if config.cluster_name != self.cluster_name:
            raise Unbootable(f"the API server does not know the cluster {config.cluster_name!r}, it is {self.cluster_name!r}")
        if not instance["instanceProfile"]:
            raise Unbootable("the instance has no instance profile, so the node has no credentials")
        if instance["metadataEndpoint"] == "disabled":
            raise Unbootable("the instance's metadata endpoint is disabled, so nodeadm cannot learn what it runs on")
        return config

    def meet_namesake(self, cluster: Cluster, wanted: dict[str, Any]) -> None:
        """The Node may be this machine's own, from before a restart; an older machine's has to go first."""
        name = wanted["metadata"]["name"]
        found = cluster.call("GET", f"/api/v1/nodes/{name}")
        if found["spec"].get("providerID") != wanted["spec"]["providerID"]:
            raise Unreachable(f"a Node {name} of another machine ({found['spec'].get('providerID')}) is still there")

    def halt(self, machine: Any) -> None:
        """The machine has gone, and its kubelet with it."""
        name = machine.instance["privateDnsName"]
        try:
            found = self.own.call("GET", f"/api/v1/nodes/{name}")
            if found["spec"].get("providerID") in (machine.provider_id, machine.own_provider_id()):
                self.mark(name, "stopped")
        except Rejected as failure:
            if failure.status != 404:
                raise
        self.settle(machine, "stopped")

    def mark(self, name: str, value: str | None) -> None:
        patch = {"metadata": {"annotations": {KUBELET: value}}}
        self.own.call("PATCH", f"/api/v1/nodes/{name}", patch, "application/merge-patch+json")

    def freeze_or_thaw(self, request: dict[str, Any], value: str | None) -> dict[str, Any]:
        name = request.get("node") or self.machines.node_of(str(request.get("instance", "")))
        if not name:
            raise ValueError("name an instance that has booted, or a node")
        self.mark(str(name), value)
        return {"node": name, "kubelet": value or "running"}


class Control(BaseHTTPRequestHandler):
    """The control API."""

    boot: Boot
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Only what the machines do is of interest in the log."""

    def do_GET(self) -> None:  # noqa: N802 (called by this name)
        path = urllib.parse.urlsplit(self.path).path
        if path == "/state":
            self.answer(200, {"settings": self.boot.machines.settings(), "machines": self.boot.machines.rows()})
        else:
            self.answer(404, {"error": f"GET {path} is not served"})

    def do_POST(self) -> None:  # noqa: N802 (called by this name)
        path = urllib.parse.urlsplit(self.path).path
        try:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if not isinstance(request, dict):
                raise ValueError("the body must be a JSON object")
            if path == "/settings":
                self.answer(200, self.boot.machines.change(request))
            elif path in ("/freeze", "/thaw"):
                self.answer(200, self.boot.freeze_or_thaw(request, "stopped" if path == "/freeze" else None))
            else:
                self.answer(404, {"error": f"POST {path} is not served"})
        except ValueError as failure:
            self.answer(400, {"error": str(failure)})
        except (Rejected, Unreachable) as failure:
            self.answer(502, {"error": str(failure)})

    def answer(self, status: int, body: Any) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main() -> None:
    parser = argparse.ArgumentParser(description="the boot of EC2 machines: registers a Node for every running instance")
    parser.add_argument("--control-port", type=int, required=True, help="TCP port of the control API on 127.0.0.1")
    parser.add_argument("--endpoint", required=True, help="URL of the EC2 endpoint")
    parser.add_argument("--cluster-name", required=True, help="the name that the user data has to carry")
    parser.add_argument("--kubeconfig", required=True, help="whose token machines register with, and where kubelets are stopped")
    parser.add_argument("--boot-seconds", type=float, default=2.0, help="seconds from running to registered")
    arguments = parser.parse_args()
    Control.boot = Boot(arguments)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.control_port), Control)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Control.boot.run()


if __name__ == "__main__":
    main()
