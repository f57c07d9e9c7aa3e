#!/usr/bin/env python3
"""The fault proxy: stands before the EC2 endpoint and before kube-apiserver, and lets tests break what passes.

    proxy.py --control-port P --ec2-port P --ec2 URL --kubernetes-port P --kubernetes URL
             --authority FILE --certificate FILE --key FILE

Control API on 127.0.0.1, JSON (bodies are objects):
    POST   /rules          adds a rule; gives it with its id. Fields:
                             kind       throttle, error500, error, reset, delay, hold_before, hold_after, lose_response,
                                        insufficient_capacity, partial (rules.py says what each does)
                             target     "ec2" (default) or "kubernetes"
                             action     as counted: "CreateFleet", "Create*,Delete*"; "PATCH nodes", "POST pods/eviction",
                                        "LIST pods", "WATCH nodes"
                             verb, resource, subresource, namespace, name    parts of a Kubernetes call
                             match      EC2 parameters, names with *: {"*.Overrides.*.InstanceType": "g4dn.*"}
                             body       a regular expression that is found in the request's body
                             times      how often it strikes (default 1; null: always); skip: how many fitting calls pass first
                             seconds    of a delay; status, code, message of an error; count of a partial fleet
    GET    /rules          all rules with hits and what is left
    DELETE /rules/ID       removes one; what it holds stays held
    GET    /holds?wait=S   the calls that are held, with clientAlive; waits up to S seconds for one
    POST   /release        {"outcome": "forward"|"drop", "rule": ID, "hold": ID}: all holds, or those of a rule, or one.
                           drop resets the connection; in phase "before" the call was then never sent
    GET    /calls          how often each action was called since the last clear
    GET    /log?target=T   the calls one by one: at, action, path, status (null: no answer), fault, seconds
    POST   /clear          removes rules, holds and counters; held calls go on, unless their client has gone
Patterns have * and ?, several are separated by commas. Of several fitting rules the one added first strikes.
"""

import argparse
import json
import signal
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler
from typing import Any

import forward
from rules import Faults


class Control(BaseHTTPRequestHandler):
    """The control API."""

    faults: Faults
    sides: list[forward.Side]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Quiet."""

    def serve(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        try:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if not isinstance(request, dict):
                raise ValueError("the body must be a JSON object")
            query = {key: values[-1] for key, values in urllib.parse.parse_qs(url.query).items()}
            status, answer = self.route(url.path, query, request)
        except ValueError as failure:
            status, answer = 400, {"error": str(failure)}
        payload = json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = serve  # noqa: N815

    def route(self, path: str, query: dict[str, str], request: dict[str, Any]) -> tuple[int, Any]:
        match self.command, path.strip("/").split("/"):
            case "GET", ["rules"]:
                return 200, {"rules": self.faults.rules()}
            case "POST", ["rules"]:
                return 200, self.faults.add(request)
            case "DELETE", ["rules", number]:
                removed = self.faults.remove(int(number))
                return (200, {"removed": int(number)}) if removed else (404, {"error": f"there is no rule {number}"})
            case "GET", ["holds"]:
                return 200, {"holds": self.faults.holds(min(float(query.get("wait", "0")), 60.0))}
            case "POST", ["release"]:
                released = self.faults.release(str(request.get("outcome", "forward")), request.get("rule"), request.get("hold"))
                return 200, {"released": released}
            case "GET", ["calls"]:
                return 200, self.faults.calls()
            case "GET", ["log"]:
                return 200, {"log": self.faults.log(query.get("target"))}
            case "POST", ["clear"]:
                self.faults.clear()
                for side in self.sides:
                    side.pinned.clear()
                return 200, {}
        return 404, {"error": f"{self.command} {path} is not served"}


def main() -> None:
    parser = argparse.ArgumentParser(description="fault proxy before the EC2 endpoint and kube-apiserver")
    for name in ("control-port", "ec2-port", "kubernetes-port"):
        parser.add_argument(f"--{name}", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--ec2", required=True, help="URL of the EC2 endpoint")
    parser.add_argument("--kubernetes", required=True, help="URL of kube-apiserver")
    parser.add_argument("--authority", required=True, help="file with kube-apiserver's certificate authority")
    parser.add_argument("--certificate", required=True, help="file with kube-apiserver's own certificate")
    parser.add_argument("--key", required=True, help="file with its key")
    arguments = parser.parse_args()
    faults = Faults()
    Control.faults = faults
    Control.sides = [
        forward.ec2_side(arguments.ec2, faults),
        forward.kubernetes_side(arguments.kubernetes, faults, arguments.authority, arguments.certificate, arguments.key),
    ]
    servers = [
        forward.server(arguments.ec2_port, Control.sides[0]),
        forward.server(arguments.kubernetes_port, Control.sides[1]),
        forward.Server(("127.0.0.1", arguments.control_port), Control),
    ]
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    for one in servers:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    stopped.wait()


if __name__ == "__main__":
    main()
