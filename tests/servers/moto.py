"""moto: S3 in this process, up in milliseconds; and the same in a process of its own, for measurements.

It heeds all conditions and its races have one winner, but it checks no signature, closes every connection after one
answer, and shares the interpreter's lock with the tests.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.program import Access, Program, child, command_line, free_port, wait_until_it_listens

KEY: Final = "keepstone-test-key"
SECRET: Final = "keepstone-test-secret"
QUIETLY: Final = """\
import logging, sys
from moto.server import main
logging.getLogger("werkzeug").setLevel(logging.ERROR)
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


def missing() -> str:
    if importlib.util.find_spec("moto") and importlib.util.find_spec("flask"):
        return ""
    return "moto is not installed: pip install -e '.[test]'"


def install() -> None:
    """It comes with the extra `test`, resolved together with s3fs: both pin botocore."""


@contextmanager
def in_process() -> Iterator[Access]:
    """Run moto in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Access(f"http://{host}:{port}", KEY, SECRET)
    finally:
        server.stop()
        # Its own `stop` leaves the listening socket to the garbage collector, which warns.
        if server._server is not None:
            server._server.server_close()


@contextmanager
def running(folder: Path) -> Iterator[Access]:
    """Run moto in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log, port = folder / "moto.log", free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with child([sys.executable, "-c", QUIETLY, str(port)], log=log) as process:
        wait_until_it_listens(endpoint, process, log=log)
        yield Access(endpoint, KEY, SECRET)


PROGRAM: Final = Program("moto", missing, install, running)

if __name__ == "__main__":
    sys.exit(command_line(PROGRAM))
