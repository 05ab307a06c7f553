"""HTTP/1.1 as it stands on the wire: heads and bodies, read and handed on without changing a byte."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

PIECE_BYTES: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024
_NO_BODY: Final = (204, 304)


class EndedError(ConnectionError):
    """The other side went away in the middle of a message."""


class Stream:
    """One side of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self._read = b""

    def some(self, bytes_max: int = PIECE_BYTES) -> bytes:
        """Return what is there, at least one byte; nothing at the end."""
        if not self._read:
            self._read = self.connection.recv(PIECE_BYTES)
        piece, self._read = self._read[:bytes_max], self._read[bytes_max:]
        return piece

    def through(self, end: bytes, bytes_max: int) -> bytes:
        """Return everything up to and with `end`; nothing where the stream ends before its first byte.

        Raises:
            EndedError: the stream ended in between, or `end` did not come.
        """
        while end not in self._read:
            more = self.connection.recv(PIECE_BYTES)
            if not more and not self._read:
                return b""
            if not more or len(self._read) > bytes_max:
                raise EndedError(f"no {end!r} in {self._read[:200]!r}")
            self._read += more
        cut = self._read.index(end) + len(end)
        found, self._read = self._read[:cut], self._read[cut:]
        return found

    def is_waiting(self) -> bool:
        """Whether bytes, or the end, are there to be read at once."""
        return bool(self._read) or is_readable(self.connection)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)


def is_readable(*connections: socket.socket, seconds: float = 0) -> bool:
    """Wait until one of them has bytes, or its end, to be read; return whether one has."""
    waiting = select.poll()
    for connection in connections:
        waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


class Head(NamedTuple):
    """What stands before a body."""

    raw: bytes

    @property
    def first(self) -> str:
        """The line of the request, or of the status."""
        return self.raw.partition(b"\r\n")[0].decode("latin-1")

    def get(self, name: str) -> str:
        """Return the value of a header; empty where there is none."""
        found = re.search(rb"\r\n%s:[ \t]*([^\r\n]*)" % re.escape(name.encode()), self.raw, re.IGNORECASE)
        return found[1].decode("latin-1").strip() if found else ""

    def without(self, name: str) -> Head:
        return Head(
            re.sub(rb"\r\n%s:[^\r\n]*" % re.escape(name.encode()), b"", self.raw, flags=re.IGNORECASE)
        )

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def closes(self) -> bool:
        return self.get("Connection").lower() == "close" or "HTTP/1.0" in self.first


def read_head(stream: Stream) -> Head | None:
    """Return the next head; None where the other side has nothing more to say."""
    raw = stream.through(b"\r\n\r\n", HEAD_BYTES_MAX)
    return Head(raw) if raw else None


def request_body(head: Head, stream: Stream) -> Iterator[bytes]:
    """Yield the body of a request as it comes; every byte of the framing too."""
    if head.get("Transfer-Encoding").lower() == "chunked":
        return _chunked(stream)
    return _counted(stream, int(head.get("Content-Length") or 0))


def response_body(head: Head, stream: Stream, *, method: str) -> Iterator[bytes]:
    """Yield the body of a response as it comes; every byte of the framing too."""
    if method == "HEAD" or head.status in _NO_BODY:
        return iter(())
    if head.get("Transfer-Encoding").lower() == "chunked":
        return _chunked(stream)
    if length := head.get("Content-Length"):
        return _counted(stream, int(length))
    return iter(stream.some, b"")


def _counted(stream: Stream, left: int) -> Iterator[bytes]:
    while left:
        piece = stream.some(min(left, PIECE_BYTES))
        if not piece:
            raise EndedError(f"{left} bytes are missing")
        left -= len(piece)
        yield piece


def _chunked(stream: Stream) -> Iterator[bytes]:
    line, size = b"", -1
    while size:
        line = _line(stream)
        yield line
        size = int(line.partition(b";")[0], 16)
        yield from _counted(stream, size + 2 if size else 0)
    # What may follow the last chunk: lines up to an empty one.
    while line != b"\r\n":
        line = _line(stream)
        yield line


def _line(stream: Stream) -> bytes:
    if line := stream.through(b"\r\n", HEAD_BYTES_MAX):
        return line
    raise EndedError("a chunk is missing")
