"""One proxied connection: reads requests, lets the rules decide, forwards to the server behind, streams the answer back.

Given: a listening side (EC2 in plain HTTP, or the API server with its own certificate) and the server behind it. What never
happens here: a request is sent twice, or an answer is changed that no rule asked for. Watches stream chunk by chunk.
"""

import http.client
import select
import socket
import ssl
import struct
import sys
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ec2
import kubernetes
from rules import Call, Faults, Rule

_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_CLIENT_GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, ssl.SSLError, TimeoutError)


@dataclass
class Side:
    """What differs between EC2 and Kubernetes."""

    upstream: str
    faults: Faults
    describe: Callable[[str, str, dict[str, str], bytes], Call]
    refusal: Callable[[Rule, dict[str, str]], tuple[int, dict[str, str], bytes]]
    trust: ssl.SSLContext | None = None
    identity: ssl.SSLContext | None = None
    # EC2 by client token: an answer that a rule changed stays the answer to the same token, as client tokens promise.
    pinned: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        url = urllib.parse.urlsplit(self.upstream)
        if url.scheme == "https":
            return http.client.HTTPSConnection(url.hostname or "", url.port, context=self.trust)
        return http.client.HTTPConnection(url.hostname or "", url.port)


def ec2_side(upstream: str, faults: Faults) -> Side:
    return Side(upstream, faults, ec2.describe, ec2.refusal)


def kubernetes_side(upstream: str, faults: Faults, authority: str, certificate: str, key: str) -> Side:
    """The API server's own pair serves here too, so that its kubeconfigs need another address and nothing else."""
    trust = ssl.create_default_context(cafile=authority)
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the API server's own pair has not all that Python 3.13 asks for
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(certificate, key)
    return Side(upstream, faults, kubernetes.describe, kubernetes.refusal, trust, identity)


class Dropped(Exception):
    """The client's connection is to be reset."""


class Handler(BaseHTTPRequestHandler):
    """One client connection with one connection of its own to the server behind."""

    side: Side
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.side.identity:
            self.request = self.side.identity.wrap_socket(self.request, server_side=True)
        super().setup()
        self.upstream = self.side.connect()
        self.answered: int | None = None

    def finish(self) -> None:
        self.upstream.close()
        try:
            super().finish()
        except _CLIENT_GONE:
            pass
        self.request.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """The log of calls is at the control API."""

    def client_alive(self) -> bool:
        """Whether the client still holds its end open."""
        try:
            poll = select.poll()
            poll.register(self.request.fileno(), select.POLLRDHUP)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def serve(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = self.read_body(headers)
        if "upgrade" in headers:
            self.send_answer(501, {"Content-Type": "text/plain"}, b"the fault proxy does not switch protocols\n")
            return
        call = self.side.describe(self.command, self.path, headers, body)
        rule = self.side.faults.judge(call)
        self.answered = None
        try:
            self.carry_out(call, rule, headers)
        except Dropped:
            self.reset()
        except _CLIENT_GONE:
            self.close_connection = True
        finally:
            self.side.faults.note(call, rule, self.answered)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve  # noqa: N815

    def read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def carry_out(self, call: Call, rule: Rule | None, headers: dict[str, str]) -> None:
        pinned = self.side.pinned.get(call.facts.get("ClientToken", ""))
        if pinned and call.action == "CreateFleet" and (rule is None or rule.fields["kind"] in ("partial", "insufficient_capacity")):
            self.send_answer(*pinned)
            return
        match rule.fields["kind"] if rule else None:
            case None:
                self.forward(call)
            case "throttle" | "error500" | "error":
                self.send_answer(*self.side.refusal(rule, headers))
            case "reset":
                raise Dropped
            case "delay":
                time.sleep(rule.fields["seconds"])
                self.forward(call)
            case "hold_before":
                if self.side.faults.hold(rule, call, "before", self.client_alive) == "drop":
                    raise Dropped
                self.forward(call)
            case "hold_after":
                answer = self.whole_answer(call)
                if self.side.faults.hold(rule, call, "after", self.client_alive) == "drop":
                    raise Dropped
                self.send_answer(*answer)
            case "lose_response":
                self.whole_answer(call)
                raise Dropped
            case "insufficient_capacity":
                self.pin(call, ec2.without_capacity(call, rule))
            case "partial":
                call.body = ec2.smaller(call, rule)
                status, answer_headers, answer = self.whole_answer(call)
                self.pin(call, (status, answer_headers, ec2.with_errors(answer, call, rule)))

    def pin(self, call: Call, answer: tuple[int, dict[str, str], bytes]) -> None:
        token = call.facts.get("ClientToken")
        if token and answer[0] == 200:
            self.side.pinned[token] = answer
        self.send_answer(*answer)

    def send_upstream(self, call: Call) -> http.client.HTTPResponse:
        connection = self.upstream.sock
        if connection is not None and select.select([connection], [], [], 0)[0]:
            self.upstream.close()  # the server behind has closed the idle connection
        kept = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP | {"content-length"}}
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for key, value in kept.items():
            self.upstream.putheader(key, value)
        if call.body or self.command in ("POST", "PUT", "PATCH"):
            self.upstream.putheader("Content-Length", str(len(call.body)))
        self.upstream.endheaders(call.body or None)
        return self.upstream.getresponse()

    def attempt(self, call: Call) -> http.client.HTTPResponse | None:
        try:
            return self.send_upstream(call)
        except (OSError, http.client.HTTPException) as failure:
            self.upstream.close()
            print(f"faults: {call.action}: the server behind does not answer: {failure}", file=sys.stderr, flush=True)
            return None

    def whole_answer(self, call: Call) -> tuple[int, dict[str, str], bytes]:
        response = self.attempt(call)
        if response is None:
            raise Dropped
        content = response.read()
        headers = {key: value for key, value in response.getheaders() if key.lower() not in _HOP_BY_HOP | {"content-length"}}
        return response.status, headers, content

    def send_answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.answered = status

    def forward(self, call: Call) -> None:
        response = self.attempt(call)
        if response is None:
            raise Dropped
        length = response.getheader("Content-Length")
        bodiless = self.command == "HEAD" or response.status in (204, 304)
        self.send_response_only(response.status)
        for key, value in response.getheaders():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        if length is None and not bodiless:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.answered = response.status
        try:
            self.stream(response, chunked=length is None and not bodiless)
        except (http.client.HTTPException, ConnectionResetError):
            self.upstream.close()
            raise Dropped from None

    def stream(self, response: http.client.HTTPResponse, chunked: bool) -> None:
        while part := response.read1(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """An RST instead of an orderly end, as a peer that died."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Threads per connection; a burst of connections waits instead of being refused."""

    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        failure = sys.exc_info()[1]
        if not isinstance(failure, (OSError, ValueError)):
            super().handle_error(request, client_address)


def server(port: int, side: Side) -> Server:
    """A server on 127.0.0.1 that carries calls to the side's upstream."""
    return Server(("127.0.0.1", port), type("SideHandler", (Handler,), {"side": side}))
