"""ministack: a second opinion on what S3 does, in an environment of its own, since it pins another botocore.

`python -m tests.servers.ministack --install` makes that environment, once, in the cache folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.installer import run_installer
from tests.servers.program import (
    Access,
    Program,
    cache_folder,
    command_line,
    free_port,
    listening,
)

VERSION: Final = "1.5.33"
KEY: Final = "keepstone-test-key"
SECRET: Final = "keepstone-test-secret"


def _home() -> Path:
    return cache_folder() / f"ministack-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"


def _program() -> Path:
    return _home() / "bin" / "ministack"


def missing() -> str:
    # The second is a link to the Python that it was made with, which may be gone.
    if _program().exists() and (_home() / "bin" / "python").exists():
        return ""
    return "ministack is not installed: python -m tests.servers.ministack --install"


def install() -> None:
    """Make its environment, whole or not at all: pip writes the program last.

    Raises:
        ServerFailedError: pip failed.
    """
    if not missing():
        return
    import venv

    venv.create(_home(), with_pip=True, clear=True)
    pip = str(_home() / "bin" / "pip")
    run_installer("ministack", pip, "install", "-q", "--disable-pip-version-check", f"ministack=={VERSION}")


@contextmanager
def running(folder: Path) -> Iterator[Access]:
    """Run it with nothing in it.

    Raises:
        ServerFailedError: it did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, port = folder / "ministack.log", free_port()
    settings = {
        # All interfaces otherwise.
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "TMPDIR": str(folder),
        "LOG_LEVEL": "ERROR",
        "SERVICES": "s3",
        # Listeners at fixed ports that nobody needs here.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # It tidies up containers that it takes for its own: there are none to be found.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }
    endpoint = f"http://127.0.0.1:{port}"
    with listening(endpoint, [str(_program())], log=log, environment=settings):
        yield Access(endpoint, KEY, SECRET)


PROGRAM: Final = Program("ministack", missing, install, running)

if __name__ == "__main__":
    sys.exit(command_line(PROGRAM))
