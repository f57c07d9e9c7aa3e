#!/usr/bin/env python3
"""The EC2, Pricing, SSM, IAM, SQS and STS endpoint of the demo and the tests: moto's server with EC2's answers laid over it.

Usage: serve.py --port N [--boot-seconds-pending SECONDS] [--terminated-visible-seconds SECONDS]

Serves on 127.0.0.1 in the foreground until SIGTERM; logs to standard error. The control API is described in control.py.
"""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True

import argparse
import os
import signal
import threading
from typing import Any

# Moto's 1,301 public images cost a second at start and slow every look-up; tests use the seeded ones.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import moto
from capacity import Capacity
from control import Control
from fleet import Fleets
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from overlay import install
from seed import seed
from werkzeug.serving import make_server

PINNED = "5.2.5"


class Handler(MotoRequestHandler):
    """Keeps connections open between calls and logs failures alone."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        if str(code).startswith("5"):
            super().log_request(code, size)


def main() -> int:
    parser = argparse.ArgumentParser(description="EC2 endpoint of the demo and the tests (moto with EC2's answers laid over it)")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--boot-seconds-pending", type=float, default=1.0, help="seconds an instance stays pending, and later shutting-down")
    parser.add_argument("--terminated-visible-seconds", type=float, default=600.0, help="seconds a terminated instance stays in DescribeInstances")
    arguments = parser.parse_args()
    if moto.__version__ != PINNED:
        print(f"endpoint: moto {PINNED} is needed, found {moto.__version__}: install hack/requirements.txt", file=sys.stderr)
        return 1
    capacity = Capacity()
    fleets = Fleets(capacity)
    install(fleets, arguments.boot_seconds_pending, arguments.terminated_visible_seconds)
    seed()
    application = Control(DomainDispatcherApplication(create_backend_app), capacity, fleets)
    server = make_server("127.0.0.1", arguments.port, application, threaded=True, request_handler=Handler)

    def stop(signal_number: int, frame: Any) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"endpoint: serving on http://127.0.0.1:{arguments.port}", file=sys.stderr, flush=True)
    server.serve_forever()
    # Request threads may still hold open connections; nothing of theirs outlives the process.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
