"""moto: S3 in this process, up in milliseconds; and the same in a process of its own, for measurements.

It heeds all conditions, but it checks no signature, closes every connection after one answer, and shares the
interpreter's lock with the tests. It looks whether an object exists and creates it in two steps, so that of two that
race both may win, and it closes what others still read when an object is written anew: requests are let in one at a
time here, and then do what S3 promises.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.servers.program import Access, Program, command_line, free_port, listening

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

KEY: Final = "keepstone-test-key"
SECRET: Final = "keepstone-test-secret"
ROOT: Final = Path(__file__).resolve().parents[2]
ALONE: Final = """\
import sys
sys.path.insert(0, sys.argv[2])
from tests.servers.moto import serve
serve(int(sys.argv[1]))
"""


def missing() -> str:
    if importlib.util.find_spec("moto") and importlib.util.find_spec("flask"):
        return ""
    return "moto is not installed: pip install -e '.[test]'"


def install() -> None:
    """It comes with the extra `test`, resolved together with s3fs: both pin botocore."""


def one_at_a_time(app: WSGIApplication) -> WSGIApplication:
    """Return `app` with at most one request in it."""
    lock = threading.Lock()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if size := int(environ.get("CONTENT_LENGTH") or 0):
            # Whoever sends slowly, or not to the end, keeps nobody else waiting.
            body = environ["wsgi.input"].read(size)
            if len(body) < size:
                raise ConnectionError("the client sent less than it said")
            environ["wsgi.input"] = io.BytesIO(body)
        with lock:
            return list(app(environ, start_response))

    return answer


def serve(port: int) -> None:
    """Answer at `port` until the process is ended."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler).serve_forever()


@contextmanager
def in_process() -> Iterator[Access]:
    """Run moto in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    assert server._server is not None
    server._server.app = one_at_a_time(server._server.app)
    host, port = server.get_host_and_port()
    try:
        yield Access(f"http://{host}:{port}", KEY, SECRET)
    finally:
        server.stop()
        # Its own `stop` leaves the listening socket to the garbage collector, which warns.
        server._server.server_close()


@contextmanager
def running(folder: Path) -> Iterator[Access]:
    """Run moto in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log, port = folder / "moto.log", free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with listening(endpoint, [sys.executable, "-c", ALONE, str(port), str(ROOT)], log=log):
        yield Access(endpoint, KEY, SECRET)


PROGRAM: Final = Program("moto", missing, install, running)

if __name__ == "__main__":
    sys.exit(command_line(PROGRAM))
