"""A proxy on this machine, between a client and an S3 server: it counts, waits, and lets requests fail.

Requests and answers pass byte for byte, with the Host header that the client signed. Each connection of a client has
one of its own to the server. `python -m tests.servers.proxy --help` runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TextIO
from urllib.parse import urlsplit

from tests.servers import s3_requests
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
from tests.servers.program import Access
from tests.servers.s3_requests import Seen
from tests.servers.signing import without_condition

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CONTINUE_SECONDS_MAX: Final = 2.0
CLOSE_SECONDS_MAX: Final = 10.0
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Proxy:
    """A proxy in threads of this process, from `with` to its end. What it has seen may be read at any time."""

    def __init__(self, upstream: Access, *, port: int = 0, record: TextIO | None = None) -> None:
        self.read_ms = 0.0
        """How long requests wait that read."""
        self.write_ms = 0.0
        self.drops_condition = False
        """Whether `If-None-Match` is taken away from what passes, and what was signed is signed again."""
        self.signs_again = True
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self.errors: list[Exception] = []
        """Errors of the proxy itself; a test that leaves one is wrong."""
        self.connections = 0
        """How many clients opened so far."""
        place = urlsplit(upstream.endpoint)
        self._upstream = (place.hostname or "", place.port or 0)
        self._record = record
        self._changed = threading.Condition()
        self._open: set[_Connection] = set()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.access = upstream._replace(endpoint=f"http://127.0.0.1:{self._listener.getsockname()[1]}")
        """How it is reached, with the same credentials."""

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut all connections and wait for their threads."""
        with self._changed:
            self._closing = True
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self.release()
            for connection in self._open:
                connection.end()
            gone = self._changed.wait_for(lambda: not self._open, CLOSE_SECONDS_MAX)
        assert gone, "connections of the proxy stay open"

    def fail(
        self,
        fault: Fault,
        *,
        kind: str = "",
        key: str = "",
        nth: int = 1,
        times: int | None = 1,
        seconds: float = 0.5,
    ) -> Rule:
        """Let a request to come go wrong; the first rule that strikes counts."""
        rule = Rule(fault, kind, key, nth, times, seconds)
        with self._changed:
            self.rules.append(rule)
        return rule

    def release(self) -> None:
        """Let go of everything that is held."""
        for rule in self.rules:
            rule.released.set()

    def clear(self) -> None:
        """Forget all rules and all that was seen; what is held goes on."""
        with self._changed:
            self.release()
            self.rules.clear()
            self.seen.clear()

    @contextmanager
    def counted(self) -> Iterator[list[Seen]]:
        """Fill a list with the requests of this block, once it is left."""
        requests: list[Seen] = []
        before = len(self.seen)
        try:
            yield requests
        finally:
            requests.extend(self.seen[before:])

    def counts(self, requests: Iterable[Seen] | None = None) -> Counter[str]:
        """Return how many requests of each kind came: these, or all."""
        return s3_requests.counted(list(self.seen) if requests is None else requests)

    def dollars(self, requests: Iterable[Seen] | None = None) -> float:
        """Return what requests would have cost in S3 standard: these, or all."""
        return s3_requests.dollars(list(self.seen) if requests is None else requests)

    @property
    def signer(self) -> Access:
        return self.access if self.signs_again else self.access._replace(key="")

    def connect(self) -> Stream:
        return Stream(socket.create_connection(self._upstream))

    def note(self, head: Head) -> tuple[Seen, Rule | None]:
        """Remember a request; return it, and the rule that it falls under."""
        with self._changed:
            request = s3_requests.seen(len(self.seen) + 1, head)
            self.seen.append(request)
            # Every rule counts, whichever strikes.
            striking = [rule for rule in self.rules if rule.strikes(request)]
        rule = striking[0] if striking else None
        request.fault = rule.fault.value if rule else ""
        return request, rule

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            connection = _Connection(self, Stream(client))
            with self._changed:
                if self._closing:
                    client.close()
                    return
                self._open.add(connection)
                self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), name="proxied", daemon=True).start()

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve()
        except OSError:
            pass  # one of the two went away, which is what clients and faults do
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.end()
            connection.close()
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()

    def finished(self, request: Seen) -> None:
        if self._record is not None:
            with self._changed:
                self._record.write(json.dumps(request.facts()) + "\n")
                self._record.flush()


class _Exchange(NamedTuple):
    """What the server answered."""

    head: Head
    body: Iterator[bytes]
    ends: bool
    """Whether the connection can carry nothing more after it."""


class _Connection:
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


def _rule(text: str) -> Rule:
    """Read "FAULT[:KIND[:KEY[:NTH[:TIMES]]]]"; TIMES may be "always"."""
    fault, kind, key, nth, times = [*text.split(":"), "", "", "", ""][:5]
    return Rule(Fault(fault), kind, key, int(nth or 1), None if times == "always" else int(times or 1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.proxy", description=__doc__)
    parser.add_argument("upstream", help="endpoint of the server, such as http://127.0.0.1:9000")
    parser.add_argument("--port", type=int, default=0, help="a free one by default")
    parser.add_argument("--read-ms", type=float, default=0.0, help="wait before requests that read")
    parser.add_argument("--write-ms", type=float, default=0.0, help="wait before requests that write")
    parser.add_argument("--drop-condition", action="store_true", help="take If-None-Match away")
    parser.add_argument("--fail", action="append", default=[], metavar="FAULT[:KIND[:KEY[:NTH[:TIMES]]]]")
    parser.add_argument("--record", type=Path, help="write each request as a line of JSON")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    record = chosen.record.open("a") if chosen.record else None
    with Proxy(Access(chosen.upstream, "", ""), port=chosen.port, record=record) as proxy:
        proxy.read_ms, proxy.write_ms = chosen.read_ms, chosen.write_ms
        proxy.drops_condition = chosen.drop_condition
        proxy.rules.extend(map(_rule, chosen.fail))
        print(proxy.access.endpoint, flush=True)
        while not ended.wait(1):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
