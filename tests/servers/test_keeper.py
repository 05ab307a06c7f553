"""One server for the processes of a run, and nothing left of it afterwards."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from tests.servers.keeper import shared
from tests.servers.program import ServerFailedError

REPOSITORY: Final = Path(__file__).resolve().parents[2]
USER: Final = """\
import sys
from pathlib import Path
from tests.servers.keeper import shared

with shared("moto", Path(sys.argv[1])) as access:
    print(access.endpoint, flush=True)
    sys.stdin.read()
"""


@contextmanager
def user(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a process that uses the server of a folder until its input ends; yields it and the endpoint."""
    command = [sys.executable, "-c", USER, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def listens(endpoint: str) -> bool:
    place = urlsplit(endpoint)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), timeout=5).close()
    except ConnectionError:
        return False
    return True


def ends_within(endpoint: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (there := listens(endpoint)) and time.monotonic() < until:
        time.sleep(0.05)
    return not there


def test_users_share_a_server_and_the_last_leaves_when_it_has_ended(tmp_path: Path) -> None:
    with user(tmp_path) as (_, endpoint):
        with user(tmp_path) as (_, other):
            assert other == endpoint
        assert listens(endpoint)
    assert not listens(endpoint)

    with user(tmp_path) as (_, later):
        assert listens(later)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a signal at the death of the parent")
@pytest.mark.parametrize("victim", ["users", "keeper"])
def test_a_server_ends_however_those_end_who_hold_it(tmp_path: Path, victim: str) -> None:
    with user(tmp_path) as (process, endpoint):
        assert listens(endpoint)
        if victim == "users":
            process.send_signal(signal.SIGKILL)
        else:
            subprocess.run(["kill", "-9", keeper_of(tmp_path)], check=True)

        assert ends_within(endpoint, 20)


def keeper_of(folder: Path) -> str:
    """Return the process id of the keeper of a folder; its server's folder is named by it."""
    (name,) = [path.name for path in folder.glob("moto-*")]
    found = re.fullmatch(r"moto-(\d+)", name)
    assert found
    return found[1]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailedError, match="KeyError: 'no-such-server'"),
        shared("no-such-server", tmp_path),
    ):
        pass
