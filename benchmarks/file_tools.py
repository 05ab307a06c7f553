"""Tools that keep a folder of files in a bucket: Keepstone, DVC and `aws s3 sync`, as their users run them.

Each step is what one types: whole processes, whose start counts for everybody alike. DVC and the AWS command line live
in environments of their own in the cache folder, made once by pip, since they pin libraries that Keepstone does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.servers.program import Access, ServerFailedError, cache_folder

from benchmarks.timing import KEEPSTONE

DVC: Final = "DVC"
AWS: Final = "aws s3 sync"
PACKAGES: Final = {DVC: ("dvc[s3]", "3.67.1", "dvc"), AWS: ("awscli", "1.46.3", "aws")}
"""Requirement, version and program of each peer."""
_NAME: Final = "data"


def _home(tool: str) -> Path:
    requirement, version, _ = PACKAGES[tool]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return cache_folder() / f"{requirement.partition('[')[0]}-{version}-{python}"


def program(tool: str) -> Path:
    """Return a peer's program; it may not be there."""
    return _home(tool) / "bin" / PACKAGES[tool][2]


def install(tool: str) -> None:
    """Make a peer's environment where there is none; pip writes the program last.

    Raises:
        ServerFailedError: pip failed.
    """
    if program(tool).exists() and (_home(tool) / "bin" / "python").exists():
        return
    requirement, version, _ = PACKAGES[tool]
    venv.create(_home(tool), with_pip=True, clear=True)
    pip = [str(_home(tool) / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, f"{requirement}=={version}"], capture_output=True, text=True)
    if done.returncode:
        raise ServerFailedError(f"pip could not install {requirement}: {done.stderr[-2_000:]}")


class Tool(ABC):
    """One tool with a fresh place in a bucket: who saves, and a colleague elsewhere who has nothing yet.

    `source` is a folder of the one who saves; the tool may link its files. All but `prepare` return seconds.
    """

    def __init__(self, folder: Path, access: Access, url: str) -> None:
        self.folder = folder
        self.url = url
        self.source = folder / "one" / _NAME
        self.arrived = folder / "two" / _NAME
        nothing = folder / "nothing"
        for made in (folder / "one", folder / "two"):
            made.mkdir(parents=True)
        nothing.touch()
        self._environment = bare_environment() | {
            **access.environment(),
            # An empty file and not the null device, which DVC takes for a file that is not there.
            "AWS_CONFIG_FILE": str(nothing),
            "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
            "HOME": str(folder),
        }

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once for a project, before there are data."""

    @abstractmethod
    def save(self) -> float:
        """Keep the folder as it is now, on this machine."""

    @abstractmethod
    def push(self) -> float:
        """Bring to the bucket what it lacks."""

    @abstractmethod
    def pull(self) -> float:
        """Let the colleague, who has nothing, have the folder."""

    @abstractmethod
    def pull_again(self) -> float:
        """Let the colleague, who has an earlier version, have the newest."""

    def _run(self, *command: str, where: str = "one", more: Mapping[str, str] | None = None) -> float:
        start = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.folder / where,
            env={**self._environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2_000:]}")
        return seconds


class Keepstone(Tool):
    """An artifact in a store of one's own, pushed to the store in the bucket, cloned and loaded by the colleague."""

    def prepare(self) -> None:
        """Make both stores; the one in the bucket is probed then."""
        self._keepstone("init")
        self._keepstone("push", self.url, "--create")

    def save(self) -> float:
        """`keepstone save`; what it says is on disk when it returns."""
        return self._keepstone("save", _NAME, str(self.source))

    def push(self) -> float:
        """`keepstone push`."""
        return self._keepstone("push", self.url)

    def pull(self) -> float:
        """`keepstone clone`, and the folder written by `keepstone load`."""
        return self._keepstone("clone", self.url, who="two") + self._load()

    def pull_again(self) -> float:
        """`keepstone pull`, and the folder written anew by `keepstone load --force`."""
        return self._keepstone("pull", self.url, who="two") + self._load("--force")

    def _load(self, *options: str) -> float:
        return self._keepstone("load", _NAME, str(self.arrived), *options, who="two")

    def _keepstone(self, *words: str, who: str = "one") -> float:
        own = {
            "KEEPSTONE_SPOOL": str(self.folder / f"spool-{who}"),
            "KEEPSTONE_CACHE": str(self.folder / f"cache-{who}"),
        }
        return self._run(sys.executable, "-m", "keepstone", *words, where=who, more=own)


class Dvc(Tool):
    """A folder tracked by DVC in a Git repository, with the bucket as its remote; the colleague clones it."""

    def prepare(self) -> None:
        """`git init`, `dvc init`, `dvc remote add`, as the documentation has it, and the server's address."""
        self._environment |= {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / "site-one"),
            "PATH": f"{program(DVC).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            **{
                f"GIT_{who}_{what}": "nobody@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        self._run("git", "init", "-q")
        self._dvc("init", "-q")
        self._dvc("remote", "add", "-q", "-d", "bucket", self.url)
        self._dvc("remote", "modify", "-q", "bucket", "endpointurl", self._environment["AWS_ENDPOINT_URL"])
        self._run("git", "commit", "-q", "-m", "dvc")

    def save(self) -> float:
        """`dvc add`."""
        seconds = self._dvc("add", "-q", _NAME)
        self._run("git", "add", "-A")
        self._run("git", "commit", "-q", "-m", "data")
        return seconds

    def push(self) -> float:
        """`dvc push`."""
        return self._dvc("push", "-q")

    def pull(self) -> float:
        """`dvc pull` in a fresh clone."""
        self._run("git", "clone", "-q", str(self.folder / "one"), ".", where="two")
        return self._dvc("pull", "-q", who="two")

    def pull_again(self) -> float:
        """`dvc pull` after a `git pull`."""
        self._run("git", "pull", "-q", where="two")
        return self._dvc("pull", "-q", who="two")

    def _dvc(self, *words: str, who: str = "one") -> float:
        return self._run(
            "dvc", *words, where=who, more={"DVC_SITE_CACHE_DIR": str(self.folder / f"site-{who}")}
        )


class AwsSync(Tool):
    """The folder itself, mirrored; nothing is kept on this machine, and there are no versions."""

    def prepare(self) -> None:
        """Nothing."""

    def save(self) -> float:
        """Nothing: it has no such step."""
        return 0.0

    def push(self) -> float:
        """`aws s3 sync` up."""
        return self._run(str(program(AWS)), "s3", "sync", "--quiet", str(self.source), self.url)

    def pull(self) -> float:
        """`aws s3 sync` down; without that option a file that changed and kept its size is not noticed."""
        words = ("s3", "sync", "--quiet", "--exact-timestamps", self.url, str(self.arrived))
        return self._run(str(program(AWS)), *words)

    def pull_again(self) -> float:
        """The same."""
        return self.pull()


TOOLS: Final[dict[str, type[Tool]]] = {KEEPSTONE: Keepstone, DVC: Dvc, AWS: AwsSync}


def available() -> list[str]:
    """Return the tools that are here, or could be installed; say which could not."""
    return [KEEPSTONE, *installed(PACKAGES)]


def installed(peers: Iterable[str]) -> list[str]:
    """Return those of `peers` that are here, or could be installed; say which could not."""
    found: list[str] = []
    for tool in peers:
        try:
            if tool == DVC and shutil.which("git") is None:
                raise ServerFailedError("it needs git")
            install(tool)
            found.append(tool)
        except (ServerFailedError, OSError) as error:
            sys.stderr.write(f"without {tool}: {error}\n")
    return found


def bare_environment() -> dict[str, str]:
    """Return the environment without what is set for Keepstone, AWS or DVC, and with compiled modules kept."""
    ours = ("KEEPSTONE", "AWS_", "DVC_", "PYTHONDONTWRITEBYTECODE", "XDG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
