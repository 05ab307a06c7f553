"""The machine that figures come from: what matters for them, and nothing that identifies it."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("keepstone", "blake3", "msgspec", "zstandard", "diskcache", "joblib")


def describe(folder: Path) -> dict[str, str]:
    """Return model, cores, memory, system, file system of `folder`, Python and package versions."""
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "filesystem": _filesystem(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "packages": ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
    }


def has_package(name: str) -> bool:
    """Whether a peer is installed here."""
    return bool(_version(name))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def _filesystem(folder: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return sys.platform
    best, kind = "", "unknown"
    where = str(folder.resolve())
    for line in mounts:
        _, point, found, *_ = line.split()
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        # A later mount of the same point covers the earlier one.
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
