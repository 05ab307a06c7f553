"""Configurations of result sets: what answers depend on, so that different ones never mix.

Layer: workflows. Stored as the artifact `NAME:config`, one version for each accepted configuration, without
credentials. `accepted` lists the digests whose records count; a record under another one is to be done again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    ConfigChangedError,
    InvalidInputError,
    RefConflictError,
)
from keepstone.objects.redact import redact, redact_command
from keepstone.repository.tracking import untracked
from keepstone.storage.calls import preparing
from keepstone.workflows.values import canonical_digest, plain

if TYPE_CHECKING:
    from keepstone.api import Store

CHANGES_SHOWN_MAX: Final = 20
_READ_BYTES: Final = 1024 * 1024
WAYS_ON: Final = (
    "--set NAME (from Python: another name) keeps the answers apart; --accept-change (accept_change=True) goes on, "
    "and each record keeps its own configuration; --redo (redo=True) asks again what was answered otherwise"
)


class Config(msgspec.Struct, frozen=True):
    """A configuration without credentials."""

    value: Any
    """Plain JSON types."""
    digest: str
    removed: tuple[str, ...] = ()
    """Where credentials were removed."""


class Claim(msgspec.Struct, frozen=True):
    """What is stored as `NAME:config`."""

    config: Any
    digest: str
    accepted: tuple[str, ...]
    """Digests of the configurations whose records count, the present one last."""
    removed: tuple[str, ...] = ()
    redone: bool = False
    """Whether an earlier configuration was ever given up, so that stored records must be looked at."""


def value_config(value: object) -> Config:
    """Return the configuration that is any JSON-like value (None: nothing is said)."""
    clean = redact(plain(value, "config"))
    return Config(clean.value, canonical_digest(clean.value), clean.removed)


def command_config(
    command: Sequence[str],
    *,
    files: Sequence[str] = (),
    key: str | None = None,
    expected: str | None = None,
    search_path: str | None = None,
) -> Config:
    """Return the configuration of a command: its arguments and the digests of the files that they name.

    A file is the program itself, each argument that is an existing file, also as `--option=path`, and each of
    `files`. Folders, and files that a program reads by itself, are not seen. A file that the command names
    and that only comes to be after the first run is taken for something that the program writes: see `claim`.

    Raises:
        InvalidInputError: there is no such program, or one of `files` cannot be read.
    """
    clean = redact_command(command)
    named = dict(_named_files(command, files, search_path))
    digests = {redact_command([name]).value[0]: _file_digest(path) for name, path in sorted(named.items())}
    value = {"command": clean.value, "files": digests, "key": key, "expected": expected}
    return Config(value, canonical_digest(value), clean.removed)


def find_program(command: Sequence[str], search_path: str | None = None) -> str:
    """Return the path of the program that `command` starts.

    Raises:
        InvalidInputError: no program, or none of that name.
    """
    if not command:
        raise InvalidInputError("no program is given", hint="write it behind --, as in: -- python answer.py")
    path = shutil.which(command[0], path=search_path)
    if path is None:
        raise InvalidInputError(
            f"program {command[0]!r} is not found, or is not executable",
            hint="check its spelling; write ./name for one in this folder, and chmod +x a script",
        )
    return path


def _named_files(
    command: Sequence[str], files: Sequence[str], search_path: str | None
) -> Iterator[tuple[str, str]]:
    program = find_program(command, search_path)
    yield command[0], program
    for argument in command[1:]:
        value = argument.partition("=")[2] if argument.startswith("-") else argument
        if value and "\0" not in value and os.path.isfile(value):
            yield value, value
    for path in files:
        if not os.path.isfile(path):
            raise InvalidInputError(
                f"config file {path!r} is not a file", hint="give the path of an existing file"
            )
        yield path, path


def _file_digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return str(Digest.of_chunks(iter(lambda: file.read(_READ_BYTES), b"")))
    except PermissionError:
        # A program may be executable and not readable; its path is all that can be said.
        return f"unreadable:{path}"
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}", hint="check the file") from error


# ---- claiming ----------------------------------------------------------------------------------------------


def artifact_name(name: str) -> str:
    """Return the name of the artifact that holds the configuration of result set `name`."""
    return f"{name}:config"


def read_claim(store: Store, name: str) -> tuple[Claim | None, str]:
    """Return the stored configuration of `name` (None if there is none) and the digest of its version."""
    try:
        version = store.resolve(artifact_name(name))
        with untracked():
            return cast("Claim", version.load(Claim)), str(version.digest)
    except ArtifactNotFoundError:
        return None, ""


def claim(
    store: Store, name: str, config: Config, *, accept_change: bool = False, redo: bool = False
) -> Claim:
    """Make `config` the configuration of `name`, or find that it is, and return what is stored now.

    Of two callers at once with different configurations one is refused. A command that differs only in named
    files which did not exist when it was claimed goes on as it is stored.

    Raises:
        ConfigChangedError: the set was made under another one, and neither way on was chosen.
    """
    while True:
        present, version = read_claim(store, name)
        if present is not None and present.digest == config.digest:
            if not redo or present.accepted == (config.digest,):
                return present
        elif present is not None and not redo and _is_same_but_for_new_files(present.config, config.value):
            return present
        elif present is not None and not accept_change and not redo:
            raise changed_error(
                name, diff(present.config, config.value), "was made under another configuration"
            )
        wanted = _next_claim(present, config, redo=redo)
        try:
            with preparing(), untracked():
                store.save(artifact_name(name), wanted, expected=None if present is None else version)
        except RefConflictError:
            continue
        return wanted


def _is_same_but_for_new_files(old: Any, new: Any) -> bool:
    """Whether two commands differ only in files that were not there before: what the program writes, such as
    a log."""
    if not (isinstance(old, dict) and isinstance(new, dict) and "command" in old and "files" in old):
        return False
    before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
    known: dict[str, str] = before["files"]
    now: dict[str, str] = after.get("files", {})
    rest = {name: value for name, value in now.items() if name in known}
    return canonical_digest({**after, "files": rest}) == canonical_digest(before)


def _next_claim(present: Claim | None, config: Config, *, redo: bool) -> Claim:
    earlier = () if present is None or redo else tuple(d for d in present.accepted if d != config.digest)
    return Claim(
        config=config.value,
        digest=config.digest,
        accepted=(*earlier, config.digest),
        removed=config.removed,
        redone=present is not None and (redo or present.redone),
    )


def changed_error(name: str, changes: Sequence[str], what: str) -> ConfigChangedError:
    """Return the error that refuses to go on with result set `name`; the hint has the ways on."""
    shown = "; ".join(changes[:CHANGES_SHOWN_MAX])
    more = f"; and {len(changes) - CHANGES_SHOWN_MAX} more" if len(changes) > CHANGES_SHOWN_MAX else ""
    return ConfigChangedError(
        f"result set {name!r} {what}: {shown}{more}", name=name, changes=tuple(changes), hint=WAYS_ON
    )


# ---- differences -------------------------------------------------------------------------------------------


def diff(old: Any, new: Any) -> list[str]:
    """Return the differences of two plain values, a line each: `answer.py: b3:12ab34… → b3:9f00aa…`."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    places = [*before, *(place for place in after if place not in before)]
    return [
        f"{place or 'config'}: {before.get(place, '(absent)')} → {after.get(place, '(absent)')}"
        for place in places
        if before.get(place) != after.get(place)
    ]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in cast("dict[str, Any]", value).items():
            # The digest of a file stands under its own name, which says all.
            yield from _leaves(item, name if place == "files" or not place else f"{place}.{name}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _leaves(item, f"{place}[{index}]")
    else:
        yield place, _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        if value.startswith("b3:"):
            return value[:11] + "…"
        # The digest of what is cut keeps two long prompts apart that begin alike.
        return repr(value) if len(value) <= 60 else f"{value[:40]!r}… ({canonical_digest(value)[:11]}…)"
    return "null" if value is None else str(value)
