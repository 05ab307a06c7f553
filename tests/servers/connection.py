"""One client's connection through the proxy, and the one to the server that serves it.

What befalls a request is decided by the proxy's rules; how it goes wrong then is done here.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.servers.faults import AFTER, ANSWERS, ANSWERS_AFTER, Answer, Fault, Rule
from tests.servers.http_streams import (
    EndedError,
    Head,
    Stream,
    is_readable,
    read_head,
    request_body,
    response_body,
)
from tests.servers.s3_requests import Seen
from tests.servers.signing import without_condition

if TYPE_CHECKING:
    from tests.servers.proxy import Proxy

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CONTINUE_SECONDS_MAX: Final = 2.0
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class _Exchange(NamedTuple):
    """What the server answered."""

    head: Head
    body: Iterator[bytes]
    ends: bool
    """Whether the connection can carry nothing more after it."""


class Connection:
    """One client's connection, and the one to the server that serves it."""

    def __init__(self, proxy: Proxy, client: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server: Stream | None = None

    def serve(self) -> None:
        """Serve one request after the other, until one side ends."""
        goes_on = True
        while goes_on and (head := read_head(self._client)):
            request, rule = self._proxy.note(head)
            time.sleep((self._proxy.write_ms if request.writes else self._proxy.read_ms) / 1000)
            try:
                goes_on = self._befall(head, request, rule) if rule else self._pass(head, request)
            finally:
                self._proxy.finished(request)

    def end(self) -> None:
        """Let whoever waits for either side find its end, also where a forked child holds it too."""
        for stream in filter(None, (self._client, self._server)):
            with suppress(OSError):
                stream.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for stream in filter(None, (self._client, self._server)):
            stream.connection.close()

    def _pass(self, head: Head, request: Seen) -> bool:
        """Hand a request on and its answer back; return whether another may follow."""
        return self._answer(self._ask(head, request), request)

    def _answer(self, exchange: _Exchange, request: Seen) -> bool:
        request.status = exchange.head.status
        self._client.send(exchange.head.raw)
        for piece in exchange.body:
            # Before it is sent: who has the whole answer must find it counted.
            request.answered_bytes += len(piece)
            self._client.send(piece)
        return not exchange.ends

    def _ask(self, head: Head, request: Seen) -> _Exchange:
        """Hand a request on; return the answer, its body still to be read.

        Raises:
            EndedError: one side went away.
        """
        server = self._connected()
        server.send(self._forwarded(head))
        if head.get("Expect").lower() == "100-continue":
            if not self._client.is_waiting():
                is_readable(self._client.connection, server.connection, seconds=CONTINUE_SECONDS_MAX)
            if server.is_waiting():
                answer = _known(read_head(server))
                if answer.status != 100:
                    return self._answered(answer, head, request, is_whole=False)
                self._client.send(answer.raw)
        for piece in request_body(head, self._client):
            request.sent_bytes += len(piece)
            try:
                server.send(piece)
            except ConnectionError:
                # It has heard enough, and may have said why.
                return self._answered(_known(read_head(server)), head, request, is_whole=False)
        return self._answered(_known(read_head(server)), head, request)

    def _ask_whole(self, head: Head, body: bytes, request: Seen) -> _Exchange:
        """Hand a request on whose body was read already."""
        server = self._connected()
        server.send(self._forwarded(head.without("Expect")) + body)
        return self._answered(_known(read_head(server)), head, request)

    def _forwarded(self, head: Head) -> bytes:
        return (without_condition(head, self._proxy.signer) if self._proxy.drops_condition else head).raw

    def _answered(self, answer: Head, head: Head, request: Seen, *, is_whole: bool = True) -> _Exchange:
        server = self._connected_already()
        while answer.status == 100:
            answer = _known(read_head(server))
        request.served = answer.status
        has_end = answer.get("Content-Length") or answer.get("Transfer-Encoding")
        has_body = request.method != "HEAD" and answer.status not in (204, 304)
        ends = not is_whole or head.closes or answer.closes or bool(has_body and not has_end)
        return _Exchange(answer, response_body(answer, server, method=request.method), ends)

    def _connected(self) -> Stream:
        """Return the connection to the server; a new one where it has ended."""
        if self._server is not None and not self._server.is_waiting():
            return self._server
        if self._server is not None:
            self._server.connection.close()
        self._server = self._proxy.connect()
        return self._server

    def _connected_already(self) -> Stream:
        assert self._server is not None
        return self._server

    def _befall(self, head: Head, request: Seen, rule: Rule) -> bool:
        """Let a request go wrong; return whether another may follow."""
        fault = rule.fault
        if fault in AFTER:
            return self._befall_after(head, request, rule)
        if fault is Fault.CUT:
            rule.arrived.set()
            return self._cut()
        body = self._drained(head, request)
        rule.arrived.set()
        if fault in ANSWERS:
            return self._say(ANSWERS[fault], head, request)
        if fault is Fault.HANG:
            return self._wait()
        if fault is Fault.HOLD:
            rule.released.wait()
            return self._answer(self._ask_whole(head, body, request), request)
        self._cut()
        if fault is Fault.HALF_SENT and body:
            self._connected().send(self._forwarded(head.without("Expect")) + body[: len(body) // 2])
        elif fault is Fault.LATE:
            self._client.connection.shutdown(socket.SHUT_RDWR)
            rule.released.wait(rule.seconds)
            self._ask_whole(head, body, request)
        return False

    def _befall_after(self, head: Head, request: Seen, rule: Rule) -> bool:
        """Let a request take effect, and then go wrong."""
        exchange = self._ask(head, request)
        body = b"".join(exchange.body)
        rule.arrived.set()
        if rule.fault is Fault.HOLD_AFTER:
            rule.released.wait()
            return self._answer(exchange._replace(body=iter((body,))), request)
        if rule.fault is Fault.HANG_AFTER:
            return self._wait()
        if rule.fault in ANSWERS_AFTER:
            return self._say(ANSWERS_AFTER[rule.fault], head, request, ends=exchange.ends)
        if rule.fault is Fault.HALF_ANSWERED:
            whole = exchange.head.raw
            self._client.send(whole + body[: len(body) // 2] if body else whole[: len(whole) // 2])
        return False

    def _drained(self, head: Head, request: Seen) -> bytes:
        """Return the body of a request that is not handed on."""
        if head.get("Expect").lower() == "100-continue":
            self._client.send(CONTINUE)
        pieces = list(request_body(head, self._client))
        request.sent_bytes = sum(map(len, pieces))
        return b"".join(pieces)

    def _say(self, answer: Answer, head: Head, request: Seen, *, ends: bool = False) -> bool:
        request.status = int(answer.status[:3])
        body = answer.body()
        lines = [f"HTTP/1.1 {answer.status}", "Content-Type: application/xml", f"Content-Length: {len(body)}"]
        ends = ends or head.closes
        if ends:
            # Else the client may send its next request while this end is closed.
            lines.append("Connection: close")
        shown = b"" if request.method == "HEAD" else body
        request.answered_bytes = len(shown)
        self._client.send("\r\n".join((*lines, "", "")).encode() + shown)
        return not ends

    def _cut(self) -> bool:
        """End the client's connection with a reset, as a machine that has gone away."""
        self._client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        return False

    def _wait(self) -> bool:
        """Say nothing until the client has gone."""
        while self._client.some():
            pass
        return False


def _known(head: Head | None) -> Head:
    if head is None:
        raise EndedError("the server ended the connection")
    return head
