"""The fault proxies disturb exactly what a rule names, at the moment it names."""

from __future__ import annotations

import functools
import http.client
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from support import Check, Kubernetes, aws, endpoint, eventually, faults, request, variable

MAPS = "/api/v1/namespaces/default/configmaps"
CONNECTION_LOST = (ConnectionClosedError, HTTPClientError)


def rule(target: str, match: dict[str, str], kind: str, **more: Any) -> str:
    return str(faults("POST", "/rules", {"target": target, "match": match, "kind": kind, "times": 1, **more})["id"])


def shown(identity: str) -> dict[str, Any]:
    return next(row for row in faults("GET", "/rules") if row["id"] == identity)


def holds(identity: str) -> bool:
    return bool(shown(identity)["holding"] == 1)


class Ec2(Check):
    def started(self) -> int:
        return len(endpoint("GET", "instances"))

    def launch(self) -> Any:
        return self.fleet(self.template(), ["c5.large"], "on-demand", 1, through_faults=True)

    def test_throttle_and_errors_come_once(self) -> None:
        rule("ec2", {"action": "CreateFleet"}, "throttle")
        with self.assertRaises(ClientError) as caught:
            self.launch()
        self.assertEqual(caught.exception.response["Error"]["Code"], "RequestLimitExceeded")
        self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 503)
        rule("ec2", {"action": "CreateFleet"}, "error", status=500)
        with self.assertRaises(ClientError) as caught:
            self.launch()
        self.assertEqual(caught.exception.response["Error"]["Code"], "InternalError")
        self.assertEqual(self.started(), 0)
        self.launch()
        self.assertEqual(self.started(), 1)

    def test_a_reset_is_never_forwarded_and_a_lost_response_is(self) -> None:
        rule("ec2", {"action": "CreateFleet"}, "reset")
        self.assertRaises(CONNECTION_LOST, self.launch)
        self.assertEqual(self.started(), 0)
        rule("ec2", {"action": "CreateFleet"}, "lose_response")
        self.assertRaises(CONNECTION_LOST, self.launch)
        self.assertEqual(self.started(), 1)

    def test_a_held_fleet_starts_at_release(self) -> None:
        identity = rule("ec2", {"action": "CreateFleet"}, "hold_before")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.launch)
            eventually("the call is held", 5, lambda: shown(identity)["holding"] == 1)
            self.assertEqual(self.started(), 0)
            faults("POST", f"/rules/{identity}/release")
            self.assertEqual(len(answer.result(10)["Instances"]), 1)
        self.assertEqual((shown(identity)["hits"], shown(identity)["holding"]), (1, 0))

    def test_a_dropped_hold_loses_the_connection(self) -> None:
        for kind, started in (("hold_before", 0), ("hold_after", 1)):
            identity = rule("ec2", {"action": "CreateFleet"}, kind)
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(self.launch)
                eventually("the call is held", 5, functools.partial(holds, identity))
                self.assertEqual(self.started(), started)
                faults("DELETE", f"/rules/{identity}")
                self.assertRaises(CONNECTION_LOST, answer.result, 10)
            self.assertEqual(self.started(), started)

    def test_a_delay_delays(self) -> None:
        rule("ec2", {"action": "DescribeSubnets"}, "delay", seconds=0.5)
        begun = time.monotonic()
        aws("ec2", True).describe_subnets()
        self.assertGreaterEqual(time.monotonic() - begun, 0.5)

    def test_calls_are_counted_by_action(self) -> None:
        def count(action: str) -> int:
            return int(faults("GET", "/calls")["ec2"].get(action, 0))

        before = count("DescribeVpcs"), count("GetProducts")
        aws("ec2", True).describe_vpcs()
        aws("pricing", True).get_products(ServiceCode="AmazonEC2", MaxResults=1)
        self.assertEqual((count("DescribeVpcs"), count("GetProducts")), (before[0] + 1, before[1] + 1))

    def test_bad_rules_are_refused(self) -> None:
        for bad in ({}, {"target": "s3", "kind": "reset"}, {"target": "ec2", "kind": "explode"}, {"target": "ec2", "kind": "reset", "match": {"path": "x"}}, {"target": "kubernetes", "kind": "reset", "match": {"path": "("}}):
            status, answer = request(variable("TONNAGE_FAULTS_URL"), "POST", "/rules", bad)
            self.assertEqual((status, "error" in answer), (400, True), bad)


class ApiServer(Check):
    def setUp(self) -> None:
        super().setUp()
        self.direct, self.proxied = Kubernetes("KUBECONFIG"), Kubernetes("KUBECONFIG_FAULTS")
        self.addCleanup(self.remove)

    def remove(self) -> None:
        self.direct.call("DELETE", f"{MAPS}?labelSelector=hack-selftest")

    def create(self, name: str) -> int:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"hack-selftest": ""}}}
        return self.proxied.call("POST", MAPS, body)[0]

    def exists(self, name: str) -> bool:
        return self.direct.call("GET", f"{MAPS}/{name}")[0] == 200

    def test_throttle_error_reset_and_lost_response(self) -> None:
        for kind, more, status, there in (
            ("throttle", {}, 429, False), ("error", {"status": 409}, 409, False), ("reset", {}, 0, False), ("lose_response", {}, 0, True),
        ):  # fmt: skip
            rule("kubernetes", {"verb": "POST", "path": "/configmaps$"}, kind, **more)
            name = f"check-{kind.replace('_', '-')}"
            self.assertEqual(self.create(name), status, kind)
            self.assertEqual(self.exists(name), there, kind)

    def test_a_hold_before_a_client_that_goes_is_never_forwarded(self) -> None:
        identity = rule("kubernetes", {"verb": "create", "path": "/configmaps", "body": "check-gone"}, "hold_before")
        url = urlsplit(self.proxied.server)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=self.proxied.tls)
        body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"check-gone"}}'
        connection.request("POST", MAPS, body, {"Authorization": f"Bearer {self.proxied.token}", "Content-Type": "application/json"})
        eventually("the call is held", 5, lambda: shown(identity)["holding"] == 1)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        eventually("the hold ends with its client", 5, lambda: shown(identity)["holding"] == 0)
        self.assertFalse(self.exists("check-gone"))

    def test_a_watch_passes_event_by_event(self) -> None:
        asked = urllib.request.Request(f"{self.proxied.server}{MAPS}?watch=true&timeoutSeconds=15", headers={"Authorization": f"Bearer {self.proxied.token}"})
        with urllib.request.urlopen(asked, timeout=15, context=self.proxied.tls) as stream:
            self.assertEqual(self.create("check-watch"), 201)
            end = time.monotonic() + 10
            while b"check-watch" not in stream.readline():
                self.assertLess(time.monotonic(), end, "the event did not come")

    def test_hundreds_of_connections_at_once(self) -> None:
        barrier = threading.Barrier(200)

        def ask(_: int) -> int:
            barrier.wait(30)
            return self.proxied.call("GET", "/api/v1/namespaces/default")[0]

        with ThreadPoolExecutor(200) as pool:
            self.assertEqual(set(pool.map(ask, range(200))), {200})
