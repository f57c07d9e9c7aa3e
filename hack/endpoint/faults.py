#!/usr/bin/env python3
"""Two reverse proxies that fail on demand: one before the EC2 endpoint, one before the Kubernetes API server.

Usage: faults.py --control-port N --ec2 PORT=http://127.0.0.1:UP --kubernetes PORT=https://127.0.0.1:UP
                 --certificate FILE --key FILE

The Kubernetes proxy serves the given certificate (the API server's own) and passes tokens, watches and streams through.
Runs in the foreground until SIGTERM; logs to standard error. Control API on 127.0.0.1 (JSON):
  POST /rules {"target": "ec2"|"kubernetes", "match": {...}, "kind": ..., "times": n|null}   -> the rule, with its "id"
       match for ec2: {"action": "CreateFleet", "body": regex}; for kubernetes: {"verb": "PATCH" or "patch", "path": regex
       on path and query, "body": regex}; every key may be absent
       kinds: throttle | error ("status", "code") | reset | delay ("seconds") | hold_before | hold_after | lose_response
  GET /rules                      list with "hits" and "holding"
  POST /rules/ID/release          held requests go on; the rule stays
  DELETE /rules/ID, DELETE /rules held requests lose their connection; the rule ends
  GET /calls                      {"ec2": {action: n}, "kubernetes": {"verb resource": n}}
"""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True

import argparse
import asyncio
import contextlib
import json
import resource
import signal
import ssl
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wire
from answers import error_answer, throttle_answer
from rules import Call, Held, Rule, Rules, call_of


class Dropped(Exception):
    """The client's connection ends without an answer."""


class Proxy:
    """One reverse proxy. EC2 requests each get a connection of their own, so that none is ever sent twice."""

    def __init__(self, target: str, upstream: str, rules: Rules, calls: Counter[str]) -> None:
        url = urlsplit(upstream)
        self._target = target
        self._host, self._port = url.hostname or "127.0.0.1", url.port or (443 if url.scheme == "https" else 80)
        self._rules = rules
        self._calls = calls
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._tls = ssl.create_default_context()
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    async def serve(self, reader: wire.ClientReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one client connection."""
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while (head := await wire.read_head(reader)) is not None:
                if head.headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await wire.read_body(reader, head)
                method, path, _ = head.first.split(" ", 2)
                call = call_of(self._target, method, path, head.headers, body)
                self._calls[call.name] += 1
                rule = self._rules.take(call)
                if rule is not None and await self._before(rule, call, head, reader, writer):
                    continue
                if upstream is None or upstream[0].at_eof() or upstream[1].is_closing():
                    upstream = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=wire.LIMIT)
                reuse = await self._forward(head, method, body, rule, reader, writer, upstream)
                if not reuse or self._target == "ec2":
                    upstream[1].close()
                    upstream = None
                if head.closes:
                    return
        except Dropped:
            writer.transport.abort()
        finally:
            if upstream is not None:
                upstream[1].close()

    async def _before(self, rule: Rule, call: Call, head: wire.Head, reader: wire.ClientReader, writer: asyncio.StreamWriter) -> bool:
        """What happens before a request is forwarded; True when it is answered already."""
        print(f"faults: {rule.kind} (rule {rule.id}) on {call.name}", file=sys.stderr, flush=True)
        if rule.kind == "delay":
            await asyncio.sleep(rule.seconds)
            if reader.gone.is_set():
                raise Dropped
        elif rule.kind == "hold_before":
            await self._hold(rule, reader)
        elif rule.kind == "reset":
            wire.reset(writer)
            raise Dropped
        elif rule.kind in ("throttle", "error"):
            make = throttle_answer if rule.kind == "throttle" else error_answer
            status, payload, kind, added = make(rule, call, "x-amz-target" in head.headers)
            await wire.answer(writer, status, payload, kind, added)
            return True
        return False

    @staticmethod
    async def _hold(rule: Rule, reader: wire.ClientReader) -> None:
        """Waits for the test's verdict or for the client to go; only a release lets the request go on."""
        held = Held(asyncio.get_running_loop().create_future())
        rule.held.append(held)
        gone = asyncio.ensure_future(reader.gone.wait())
        waited: set[asyncio.Future[Any]] = {held.verdict, gone}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            rule.held.remove(held)
        if reader.gone.is_set() or held.verdict.result() != "release":
            raise Dropped

    async def _forward(
        self, head: wire.Head, method: str, body: bytes, rule: Rule | None, reader: wire.ClientReader,
        writer: asyncio.StreamWriter, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:  # fmt: skip
        """Sends the request on and relays the answer; ends when the client goes. True if the upstream can be used again."""
        work = asyncio.ensure_future(self._exchange(head, method, body, rule, reader, writer, upstream))
        gone = asyncio.ensure_future(reader.gone.wait())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work
                raise Dropped
            return work.result()
        finally:
            gone.cancel()

    async def _exchange(
        self, head: wire.Head, method: str, body: bytes, rule: Rule | None, reader: wire.ClientReader,
        writer: asyncio.StreamWriter, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:  # fmt: skip
        source, sink = upstream
        length = [("Content-Length", str(len(body)))] if body or method in ("POST", "PUT", "PATCH") else []
        sink.write(head.bytes_with(length) + body)
        await sink.drain()
        answer = await wire.read_head(source)
        while answer is not None and answer.first.split(" ")[1] == "100":
            answer = await wire.read_head(source)
        if answer is None:
            raise Dropped
        kind = wire.body_kind(method, int(answer.first.split(" ")[1]), answer)
        if rule is not None and rule.kind == "hold_after":
            await self._hold(rule, reader)
        elif rule is not None and rule.kind == "lose_response":
            raise Dropped
        added = [("Transfer-Encoding", "chunked")] if kind == "chunked" else []
        if "content-length" in answer.headers:
            added = [("Content-Length", answer.headers["content-length"])]
        if kind == "close":
            added = [("Connection", "close")]
        writer.write(answer.bytes_with(added))
        await writer.drain()
        await wire.relay_body(source, writer, kind, answer)
        if kind == "close":
            raise Dropped
        return not answer.closes


class Control:
    """The control API."""

    def __init__(self, rules: Rules, calls: dict[str, Counter[str]]) -> None:
        self._rules = rules
        self._calls = calls

    async def serve(self, reader: wire.ClientReader, writer: asyncio.StreamWriter) -> None:
        while (head := await wire.read_head(reader)) is not None:
            body = await wire.read_body(reader, head)
            method, path, _ = head.first.split(" ", 2)
            try:
                status, result = 200, self._answer(method, [part for part in path.split("/") if part], body)
            except KeyError as error:
                status, result = 404, {"error": f"no rule or path {error}"}
            except ValueError as error:
                status, result = 400, {"error": str(error)}
            await wire.answer(writer, status, json.dumps(result).encode(), "application/json")
            if head.closes:
                return

    def _answer(self, method: str, parts: list[str], body: bytes) -> Any:
        match (method, parts):
            case ("POST", ["rules"]):
                return self._rules.add(json.loads(body or b"{}")).shown()
            case ("GET", ["rules"]):
                return self._rules.shown()
            case ("POST", ["rules", identity, "release"]):
                return {"released": self._rules.release(identity)}
            case ("DELETE", ["rules", identity]):
                return {"dropped": self._rules.remove(identity)}
            case ("DELETE", ["rules"]):
                return {"dropped": self._rules.clear()}
            case ("GET", ["calls"]):
                return {target: dict(sorted(calls.items())) for target, calls in self._calls.items()}
        raise KeyError(f"{method} /{'/'.join(parts)}")


def _pair(text: str) -> tuple[int, str]:
    port, separator, url = text.partition("=")
    if not separator or not port.isdigit() or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT=URL")
    return int(port), url


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reverse proxies before EC2 and Kubernetes that fail on demand")
    parser.add_argument("--control-port", type=int, required=True, help="TCP port of the control API on 127.0.0.1")
    parser.add_argument("--ec2", type=_pair, required=True, metavar="PORT=URL", help="port to serve on, URL of the EC2 endpoint")
    parser.add_argument("--kubernetes", type=_pair, required=True, metavar="PORT=URL", help="port to serve on, URL of the API server")
    parser.add_argument("--certificate", type=Path, required=True, help="certificate that the Kubernetes proxy serves")
    parser.add_argument("--key", type=Path, required=True, help="its key")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    rules = Rules()
    calls: dict[str, Counter[str]] = {"ec2": Counter(), "kubernetes": Counter()}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    tls.set_alpn_protocols(["http/1.1"])
    ec2 = Proxy("ec2", arguments.ec2[1], rules, calls["ec2"])
    kubernetes = Proxy("kubernetes", arguments.kubernetes[1], rules, calls["kubernetes"])
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    servers = [
        await wire.listen(arguments.ec2[0], ec2.serve),
        await wire.listen(arguments.kubernetes[0], kubernetes.serve, tls),
        await wire.listen(arguments.control_port, Control(rules, calls).serve),
    ]
    print(f"faults: control API on http://127.0.0.1:{arguments.control_port}", file=sys.stderr, flush=True)
    await stopping.wait()
    for server in servers:
        server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def main() -> int:
    # Each client connection needs two descriptors; the soft limit of a shell is often 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard) if hard != resource.RLIM_INFINITY else max(soft, 8192), hard))
    asyncio.run(_run(_arguments()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
