"""A small web server that keeps connections: objects by path, ranges, `If-None-Match`; simple calls of S3 work."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PlainServer(ThreadingHTTPServer):
    """Objects in memory. `requests` holds the method and path of each request that came."""

    daemon_threads = True
    knows_ranges = True
    says_absent = 404
    says_code = "NoSuchKey"
    hangs_up_after = ""
    """The method whose next request takes effect, and then finds the connection closed instead of an answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlainServer

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        data = self.server.objects.get(self._begin())
        if data is None:
            return self._answer(self.server.says_absent)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted or not self.server.knows_ranges:
            return self._answer(200, data)
        start, end = int(wanted[1]), int(wanted[2] or len(data) - 1) + 1
        return self._answer(206, data[start:end]) if start < len(data) else self._answer(416)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        path = self._begin()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            taken = path in self.server.objects and self.headers.get("If-None-Match") == "*"
            if not taken:
                self.server.objects[path] = data
        self._answer(412 if taken else 200)

    def _begin(self) -> str:
        with self.server.lock:
            self.server.requests.append((self.command, self.path))
            self.server.headers.append(dict(self.headers.items()))
        return self.path

    def _error(self, status: int) -> bytes:
        code = "PreconditionFailed" if status == 412 else self.server.says_code
        return f"<Error><Code>{code}</Code></Error>".encode() if status >= 400 else b""

    def _answer(self, status: int, data: bytes = b"") -> None:
        if self.server.hangs_up_after == self.command:
            self.server.hangs_up_after = ""
            self.close_connection = True
            return
        data = data or (self._error(status) if self.command != "HEAD" else b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def plain_server() -> Iterator[PlainServer]:
    server = PlainServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
