"""A proxy on this machine, between a client and an S3 server: it counts, waits, and lets requests fail.

Requests and answers pass byte for byte, with the Host header that the client signed. Each connection of a client has
one of its own to the server. `python -m tests.servers.proxy --help` runs it as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import urlsplit

from tests.servers import s3_requests
from tests.servers.connection import Connection
from tests.servers.faults import Fault, Rule
from tests.servers.http_streams import Head, Stream
from tests.servers.program import Access
from tests.servers.s3_requests import Seen

CLOSE_SECONDS_MAX: Final = 10.0


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
        self._open: set[Connection] = set()
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
            connection = Connection(self, Stream(client))
            with self._changed:
                if self._closing:
                    client.close()
                    return
                self._open.add(connection)
                self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), name="proxied", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
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
