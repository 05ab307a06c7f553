"""Installing a server by a program of the system: npm, apt-get, the pip of an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.program import ServerFailedError


def run_installer(what: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
    """Run the installer of `what`, and wait for it.

    Raises:
        ServerFailedError: it is not on this machine, or failed; the message holds the end of what it said.
    """
    name = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise ServerFailedError(f"{what} is installed by {name}, which is not on this machine")
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        raise ServerFailedError(f"{name} could not install {what}: {done.stderr[-2_000:]}")
