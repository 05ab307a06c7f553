"""The surroundings of a program: its command line, the state of its code in git, Python and packages.

Layer: operations. Nothing here stands for a moment or a machine: the same program in the same surroundings gives the
same description. What cannot be found out is said and raises nothing; credentials are removed.
"""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from keepstone.objects.redact import redact, redact_command
from keepstone.objects.secret_scan import remove_secrets

DIFF_BYTES_MAX: Final = 1024 * 1024
COMMAND_BYTES_MAX: Final = 64 * 1024
PACKAGES_MAX: Final = 1000
GIT_SECONDS_MAX: Final = 10.0
_GIT: Final = ("git", "--no-optional-locks", "--no-pager", "-c", "core.fsmonitor=false")
_DIFF: Final = ("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short", "--")


class Surroundings(NamedTuple):
    """What is known of them, as plain values."""

    facts: dict[str, Any]
    removed: tuple[str, ...]
    """Where credentials were removed: `command[3]`."""


def surroundings() -> Surroundings:
    """Return command line, git and Python of this process, as they are now."""
    command = redact_command(_command())
    git, git_removed = git_state(code_folder())
    facts = {
        "command": command.value,
        "git": git,
        "python": platform.python_version(),
        # Not the kernel's release: results do not depend on it, and it changes with every update.
        "platform": f"{platform.system()} {platform.machine()}",
    }
    return Surroundings(facts, (*command.removed, *git_removed))


def _command() -> list[str]:
    # A notebook or a prompt has no command line of its own: that of its kernel names a temporary file.
    if code_file() is None:
        return []
    kept: list[str] = []
    left = COMMAND_BYTES_MAX
    for argument in sys.orig_argv:
        text = argument.encode("utf-8", "replace").decode()
        left -= len(text.encode())
        if left < 0:
            return [*kept, "…"]
        kept.append(text)
    return kept


def code_file() -> Path | None:
    """Return the file of the program that runs; None in a notebook or at a prompt."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file) if isinstance(file, str) else None


def code_folder() -> Path:
    """Return the folder whose git repository holds the program, or the current one where none does."""
    file = code_file()
    if file is not None and _git(file.absolute().parent, "rev-parse", "--git-dir").ok:
        return file.absolute().parent
    return Path.cwd()


class _Said(NamedTuple):
    """What git answered."""

    ok: bool
    data: bytes
    problem: str


def _git(folder: Path, *arguments: str, bytes_max: int = 64 * 1024) -> _Said:
    try:
        process = subprocess.Popen(
            [*_GIT, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        return _Said(False, b"", f"git could not be started: {error.strerror}")
    timer = threading.Timer(GIT_SECONDS_MAX, process.kill)
    timer.daemon = True
    timer.start()
    with process:
        assert process.stdout is not None
        try:
            data = process.stdout.read(bytes_max + 1)
            is_cut = len(data) > bytes_max
            if is_cut:
                process.kill()
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if is_cut or code == 0:
        return _Said(True, data, "")
    late = f"git did not answer within {GIT_SECONDS_MAX:.0f} s"
    return _Said(False, b"", late if code < 0 else "not in a git repository")


def git_state(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return commit, branch and what differs from the commit, and where credentials were removed from that."""
    where = _git(folder, "rev-parse", "--git-dir")
    if not where.ok:
        return {"missing": where.problem}, ()
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    state: dict[str, Any] = {
        "commit": commit.data.decode().strip() or None,
        "branch": branch.data.decode("utf-8", "replace").strip() or None,
    }
    if not commit.ok:
        return state, ()
    said = _git(folder, *_DIFF, bytes_max=DIFF_BYTES_MAX)
    if not said.ok:
        return {**state, "diff_missing": said.problem}, ()
    whole = len(said.data) <= DIFF_BYTES_MAX
    data = said.data if whole else said.data[: said.data.rfind(b"\n", 0, DIFF_BYTES_MAX) + 1]
    diff = data.decode("utf-8", "replace").replace("\0", "\ufffd")
    clean = remove_secrets(redact(diff).value)
    state |= {"dirty": bool(diff), "diff": clean} | ({} if whole else {"diff_is_cut": True})
    return state, ("git.diff",) if clean != diff else ()


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    from importlib import metadata

    return metadata.packages_distributions()


def imported_packages() -> dict[str, str]:
    """Return distribution → version of what this process has imported, sorted; `PACKAGES_MAX` of them at most."""
    from importlib import metadata

    known = _distributions()
    names = {name for module in list(sys.modules) for name in known.get(module.partition(".")[0], ())}
    found: dict[str, str] = {}
    for name in sorted(names, key=str.lower)[:PACKAGES_MAX]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Removed since it was imported.
            continue
    return found
