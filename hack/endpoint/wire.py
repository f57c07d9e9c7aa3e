"""HTTP/1.1 on asyncio streams, as much as a proxy needs: heads, bodies by length, in chunks or to the end, and resets.

Given: a stream reader. Gives: parsed heads and whole request bodies; response bodies are relayed as they come, so that a
watch passes through event by event.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

LIMIT = 1 << 20
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "expect", "te", "upgrade"}


class ClientReader(asyncio.StreamReader):
    """A reader that says at once when its peer has gone, without being read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(LIMIT, loop)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


Handler = Callable[[ClientReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def listen(port: int, handler: Handler, tls: Any = None) -> asyncio.Server:
    """A server on 127.0.0.1 whose handler gets a `ClientReader`."""
    loop = asyncio.get_running_loop()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, ClientReader)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    return await loop.create_server(
        lambda: asyncio.StreamReaderProtocol(ClientReader(loop), guarded, loop=loop), "127.0.0.1", port, ssl=tls, backlog=1024
    )


@dataclass
class Head:
    """First line and headers of a message; names in lower case in `headers`, as sent in `lines`."""

    first: str
    lines: list[tuple[str, str]]

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.lines}

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower() or self.first.startswith("HTTP/1.0") or self.first.endswith("HTTP/1.0")

    def bytes_with(self, added: list[tuple[str, str]]) -> bytes:
        """The head for the next hop: without what belongs to one connection, with `added`."""
        kept = [(name, value) for name, value in self.lines if name.lower() not in _HOP_BY_HOP]
        return "".join([f"{self.first}\r\n", *(f"{name}: {value}\r\n" for name, value in kept + added), "\r\n"]).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, or None at the end of the connection."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise
        return None
    first, *rest = text[:-4].lstrip("\r\n").split("\r\n")
    lines = []
    for line in rest:
        name, separator, value = line.partition(":")
        if not separator:
            raise ValueError(f"not a header: {line!r}")
        lines.append((name.strip(), value.strip()))
    return Head(first, lines)


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """The whole body of a request."""
    if head.chunked:
        parts: list[bytes] = []
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            if size == 0:
                while (await reader.readline()).strip():
                    pass
                return b"".join(parts)
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
    length = int(head.headers.get("content-length", "0"))
    return await reader.readexactly(length) if length else b""


def body_kind(method: str, status: int, head: Head) -> str:
    """How a response's body ends: "none", "chunked", "length" or "close"."""
    if method == "HEAD" or status in (204, 304) or status < 200:
        return "none"
    if head.chunked:
        return "chunked"
    return "length" if "content-length" in head.headers else "close"


async def relay_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str, head: Head) -> None:
    """Copies a response's body piece by piece."""
    if kind == "chunked":
        while True:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            if size == 0:
                trailer = line
                while (extra := await reader.readline()).strip():
                    trailer += extra
                writer.write(trailer + b"\r\n")
                await writer.drain()
                return
            writer.write(line + await reader.readexactly(size + 2))
            await writer.drain()
    elif kind == "length":
        left = int(head.headers["content-length"])
        while left:
            piece = await reader.read(min(left, 65536))
            if not piece:
                raise ConnectionResetError("the upstream ended early")
            left -= len(piece)
            writer.write(piece)
            await writer.drain()
    elif kind == "close":
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answer(writer: asyncio.StreamWriter, status: int, body: bytes, kind: str, added: dict[str, str] | None = None) -> None:
    """A whole response."""
    reasons = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 503: "Service Unavailable"}
    lines = {"Content-Type": kind, "Content-Length": str(len(body)), **(added or {})}
    head = "".join([f"HTTP/1.1 {status} {reasons.get(status, 'Fault')}\r\n", *(f"{k}: {v}\r\n" for k, v in lines.items()), "\r\n"])
    writer.write(head.encode("latin-1") + body)
    await writer.drain()
