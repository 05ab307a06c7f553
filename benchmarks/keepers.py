"""Tools that keep versions of a folder on a local disk: Keepstone, `cp` with a sync, restic, borg and DVC.

Each save is what one types: a whole process, with the tool's own defaults, on the same folder at the same path. restic
and borg are those of the system; DVC is that of `file_tools`.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.file_tools import DVC, bare_environment, installed, program
from benchmarks.peers import disk_bytes
from benchmarks.timing import KEEPSTONE

CP: Final = "cp + fsync"
RESTIC: Final = "restic"
BORG: Final = "borg"
NAME: Final = "data"
"""The folder that is kept, beside the tools' own places."""


class Cost(NamedTuple):
    """What one save took."""

    seconds: float
    peak: float | None
    """The most memory of a process of it [MiB]; None where it is no more than what is counted of every child."""


class Keeper(ABC):
    """One tool with a place of its own in `folder`, where `data` is what it keeps."""

    label = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / self.label
        elsewhere = folder / f"{self.label}-elsewhere"
        self.place.mkdir(parents=True)
        elsewhere.mkdir()
        self._environment = bare_environment() | {"HOME": str(elsewhere), "XDG_CACHE_HOME": str(elsewhere)}

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once, before there are data."""

    @abstractmethod
    def save(self) -> Cost:
        """Keep `data` as it is now."""

    def kept_bytes(self) -> int:
        """Return what the place takes on the disk, without caches."""
        return disk_bytes(self.place)

    def _run(self, *command: str, more: Mapping[str, str] | None = None) -> Cost:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self._environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[-2_000:]!r}")
        # On Linux at least that of whoever started it is counted: of what takes less nothing is known.
        is_own = used.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return Cost(seconds, used.ru_maxrss / unit if is_own else None)


class Keepstone(Keeper):
    """An artifact in a store."""

    label = "keepstone"

    def prepare(self) -> None:
        """`keepstone init`."""
        self._keepstone("init")

    def save(self) -> Cost:
        """`keepstone save`; what it says is on disk when it returns."""
        return self._keepstone("save", NAME, NAME)

    def kept_bytes(self) -> int:
        """Return what the store takes, without its cache."""
        return disk_bytes(self.place, without=("cache",))

    def _keepstone(self, *words: str) -> Cost:
        return self._run(sys.executable, "-m", "keepstone", "--store", str(self.place), *words)


class Copy(Keeper):
    """A copy for each version, synced file by file."""

    label = "cp"
    _count = 0

    def prepare(self) -> None:
        """Nothing."""

    def save(self) -> Cost:
        """`cp -R`, and a sync of every file and folder of the copy."""
        self._count += 1
        target = self.place / str(self._count)
        # A copy that shares its blocks with the source would measure nothing.
        plain = ["--reflink=never"] if sys.platform == "linux" else []
        cost = self._run("cp", "-R", *plain, NAME, str(target))
        start = time.perf_counter()
        for folder, _, files in os.walk(target):
            for name in (*files, ""):
                descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        return cost._replace(seconds=cost.seconds + time.perf_counter() - start)


class Restic(Keeper):
    """A repository of restic; encrypted, as all of them are."""

    label = "restic"

    def prepare(self) -> None:
        """`restic init`."""
        self._restic("init")

    def save(self) -> Cost:
        """`restic backup`."""
        return self._restic("backup", NAME)

    def _restic(self, *words: str) -> Cost:
        own = {"RESTIC_PASSWORD": "none", "RESTIC_PROGRESS_FPS": "0.1"}
        return self._run("restic", "--quiet", "--repo", str(self.place), *words, more=own)


class Borg(Keeper):
    """A repository of borg, without encryption."""

    label = "borg"
    _count = 0

    def prepare(self) -> None:
        """`borg init`."""
        self._borg("init", "--encryption", "none", str(self.place))

    def save(self) -> Cost:
        """`borg create`."""
        self._count += 1
        return self._borg("create", f"{self.place}::{self._count}", NAME)

    def _borg(self, *words: str) -> Cost:
        own = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        return self._run("borg", *words, more=own)


class Dvc(Keeper):
    """A folder tracked by DVC in a Git repository; its cache is a copy of every file."""

    label = "dvc"

    def prepare(self) -> None:
        """`git init`, `dvc init`, and a cache elsewhere than in the folder."""
        own = str(program(DVC).parent)
        self._environment["PATH"] = f"{own}{os.pathsep}{self._environment.get('PATH', os.defpath)}"
        self._environment |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": self._environment["HOME"]}
        self._run("git", "init", "-q")
        self._run("dvc", "init", "-q")
        self._run("dvc", "cache", "dir", "-q", str(self.place))

    def save(self) -> Cost:
        """`dvc add`."""
        return self._run("dvc", "add", "-q", NAME)


KEEPERS: Final[dict[str, type[Keeper]]] = {
    KEEPSTONE: Keepstone,
    CP: Copy,
    RESTIC: Restic,
    BORG: Borg,
    DVC: Dvc,
}


def saved(keeper: Keeper, version: Path) -> Cost:
    """Let `keeper` keep `version`, which comes to the same path as all versions before."""
    data = keeper.folder / NAME
    # Moved and not copied: same files, same times, still in the page cache. What others wrote is on disk by then.
    version.rename(data)
    os.sync()
    cost = keeper.save()
    data.rename(version)
    return cost


def available() -> list[str]:
    """Return the tools that are here, or could be installed; say which are not."""
    found = [KEEPSTONE, CP]
    for name in (RESTIC, BORG):
        if shutil.which(name):
            found.append(name)
        else:
            sys.stderr.write(f"without {name}: it is not installed\n")
    return [*found, *installed((DVC,))]
