"""What every S3 server of the tests is made of: how it is reached, installed, started and stopped.

A server listens on 127.0.0.1 only, keeps its files in the folder that it is given, and ends with whoever started it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

REGION: Final = "us-east-1"
STOP_SECONDS_MAX: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


class Access(NamedTuple):
    """How a server is reached."""

    endpoint: str
    key: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return what a client needs in its environment, this process's or a child's.

        The region stands here and not in the arguments of a client, where it breaks the creation of buckets.
        The user's own profiles and the machine's own role are kept out.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }

    @staticmethod
    def unwanted() -> tuple[str, ...]:
        """Return the variables that would lead a client elsewhere."""
        return (
            "AWS_PROFILE",
            "AWS_SESSION_TOKEN",
            "AWS_ENDPOINT_URL_S3",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        )


class Program(NamedTuple):
    """One kind of server."""

    name: str
    missing: Callable[[], str]
    """Says why it cannot run here and what to do; empty where it can."""
    install: Callable[[], None]
    running: Callable[[Path], AbstractContextManager[Access]]
    """Runs it in the folder until the block is left."""


class ServerFailedError(Exception):
    """A server did not start; the message holds the end of its log."""


def cache_folder() -> Path:
    """Return where servers are installed that have an environment of their own; kept between runs."""
    if own := os.environ.get("KEEPSTONE_TEST_SERVERS"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "keepstone-test-servers"


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _dies_with_its_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def child(
    command: list[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block is left: asked to end first, killed where it does not.

    On Linux it also ends where this process is killed.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            preexec_fn=_dies_with_its_parent if sys.platform == "linux" else None,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_it_listens(
    endpoint: str, process: subprocess.Popen[bytes], *, log: Path, seconds: float = 60
) -> None:
    """Return once somebody accepts connections at `endpoint`.

    Raises:
        ServerFailedError: the process ended, or nobody did in time.
    """
    place = urlsplit(endpoint)
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((place.hostname or "", place.port or 0), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ServerFailedError(f"{process.args!r} does not listen at {endpoint}\n{tail_of(log)}")


@contextmanager
def listening(
    endpoint: str, command: list[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block is left, which begins when it accepts connections.

    Raises:
        ServerFailedError: it did not start.
    """
    with child(command, log=log, environment=environment) as process:
        wait_until_it_listens(endpoint, process, log=log)
        yield


def tail_of(log: Path, bytes_max: int = 4_000) -> str:
    return log.read_bytes()[-bytes_max:].decode(errors="replace") if log.exists() else f"no {log}"


def command_line(program: Program, arguments: list[str] | None = None) -> int:
    """Install a server, or run it until SIGINT or SIGTERM; the first lines printed are what a shell exports."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.servers.{program.name}")
    parser.add_argument("--install", action="store_true", help="install the server and end")
    parser.add_argument("--folder", type=Path, help="where its files go; a new temporary folder otherwise")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.install:
            program.install()
    except ServerFailedError as error:
        print(error, file=sys.stderr)
        return 1
    if why := program.missing():
        print(why, file=sys.stderr)
        return 1
    if chosen.install:
        print(f"{program.name}: installed")
        return 0
    return _run(program, chosen.folder)


def _run(program: Program, own: Path | None) -> int:
    folder = own or Path(tempfile.mkdtemp(prefix=f"keepstone-{program.name}-"))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with program.running(folder) as access:
            for name, value in access.environment().items():
                print(f"export {name}={value}")
            print(
                f"# {program.name} runs as process {os.getpid()}; Ctrl-C, or kill it, to end it", flush=True
            )
            while not ended.wait(1):
                pass
    finally:
        if own is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0
