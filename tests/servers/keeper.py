"""One server for all processes of a test run, ended when the last of them is gone, however it went.

Who uses a server holds a shared lock on a file beside it. A process of its own runs the server, waits for the
exclusive lock, which it gets when nobody is left, and ends the server. The system lets go of the locks of a killed
process, so nothing stays behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers import ministack, moto, rgw, s3rver
from tests.servers.program import Access, Program, ServerFailedError, tail_of

PROGRAMS: Final[dict[str, Program]] = {
    program.name: program for program in (moto.PROGRAM, ministack.PROGRAM, s3rver.PROGRAM, rgw.PROGRAM)
}
REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_SECONDS_MAX: Final = 110


@contextmanager
def shared(name: str, folder: Path) -> Iterator[Access]:
    """Use the server `name` of `folder`; the first starts it, others find it, the last leaves when it has ended.

    Raises:
        ServerFailedError: it did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users").open("ab") as users:
        with (folder / "starting").open("ab") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            # Waits here while an earlier one is being ended.
            fcntl.flock(users, fcntl.LOCK_SH)
            access = _told(folder) or _start(name, folder)
        try:
            yield access
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            # A moment for the keeper to take the lock, if this was the last; it holds it until the server has ended.
            time.sleep(0.1)
            fcntl.flock(users, fcntl.LOCK_SH)


def _told(folder: Path) -> Access | None:
    """Return how the server is reached, if there is a keeper that runs it."""
    told = folder / "access.json"
    if not told.exists():
        return None
    with (folder / "keeper").open("ab") as keeper:
        try:
            fcntl.flock(keeper, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Access(*json.loads(told.read_text()))
    return None


def _start(name: str, folder: Path) -> Access:
    log = folder / "keeper.log"
    (folder / "access.json").unlink(missing_ok=True)
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.keeper", name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            # Ctrl-C goes to the tests; it ends when they do.
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and keeper.poll() is None:
        if access := _told(folder):
            # It outlives this process where others still use it: nobody here waits for it.
            keeper.returncode = 0
            return access
        time.sleep(0.05)
    keeper.kill()
    keeper.wait()
    raise ServerFailedError(f"{name} did not start\n{tail_of(log)}")


def keep(name: str, folder: Path) -> None:
    """Run the server until nobody uses it any more."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    told, draft = folder / "access.json", folder / "access.tmp"
    with (folder / "users").open("ab") as users, (folder / "keeper").open("ab") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with PROGRAMS[name].running(folder / f"{name}-{os.getpid()}") as access:
            draft.write_text(json.dumps(access))
            draft.rename(told)
            fcntl.flock(users, fcntl.LOCK_EX)
            told.unlink(missing_ok=True)


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
