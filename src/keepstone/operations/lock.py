"""The lock: a text file that names versions by their digests, made to be kept in git.

Layer: operations. Format: docs/format.md §12. Neither times nor host names nor credentials stand in it, so equal pins
give equal bytes. Reading is strict: a line that is not as it would be written is an error that says which.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    MalformedError,
    NotFoundError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import LOCK_BYTES_MAX, LOCK_FORMAT, PACK_FRAME_MAGIC
from keepstone.foundation.names import check_name, is_control, matches_digest, parse_selector, shown, unquote
from keepstone.repository.refs import Kind
from keepstone.storage.calls import Calls
from keepstone.storage.files import path_text, read_whole
from keepstone.storage.locate import is_url, without_credentials

MAGIC: Final = "keepstone-lock"
_STORE_ID: Final = re.compile(r"[0-9a-f]{32}")
_NUMBER: Final = re.compile(r"(.+)@v([1-9][0-9]{0,17})", re.DOTALL)
_CONFLICT: Final = re.compile(r"(<{7}|={7}|>{7}|\|{7})( .*)?")
_SORTED: Final = "move the line up to where it belongs, or write the file anew with `keepstone pin`"
_ONE_STORE: Final = (
    "a lock is of one store: restore from both into one store and pin there, or keep two locks"
)
_AGAIN: Final = "write it anew with `keepstone pin`, or take it from a copy"


class LockedName(msgspec.Struct, frozen=True):
    """One line of a lock: a version, and what its bytes are."""

    name: str
    number: int
    """Of the version, in the store where it was pinned."""
    digest: Digest
    """Of its manifest; of a collection, of the root of its snapshot."""
    kind: Kind

    @property
    def selector(self) -> str:
        """`name@v3`, as in the store where it was pinned."""
        return f"{self.name}@v{self.number}"


class Lock(msgspec.Struct, frozen=True):
    """What a lock file says."""

    store_id: str
    """32 hex digits, of the store where it was pinned."""
    location: str
    """Where that store was: a URL, or a path that counts from the lock's folder; empty where no path helps."""
    remotes: tuple[str, ...]
    """URLs of copies of the store, without credentials."""
    names: tuple[LockedName, ...]
    """Sorted by name, then number."""

    def find(self, selector: str) -> LockedName:
        """Return the line that `selector` means: a name, `name@v3` or `name@b3:9f2c`.

        Raises:
            ArtifactNotFoundError: the lock names no such thing.
            InvalidInputError: it names several versions, or `selector` is none that a lock can answer.
        """
        parsed = parse_selector(selector)
        if parsed.kind in ("alias", "date"):
            raise InvalidInputError(
                f"a lock holds versions, not aliases or dates: {shown(selector)}",
                hint=f"ask for {parsed.name!r}, or one of its versions by number or digest",
            )
        # They are sorted, and a lock may have a hundred thousand.
        first = bisect_left(self.names, parsed.name, key=_name_of)
        found = self.names[first : bisect_right(self.names, parsed.name, lo=first, key=_name_of)]
        if parsed.kind == "number":
            found = tuple(line for line in found if line.number == parsed.number)
        elif parsed.kind == "digest":
            found = tuple(line for line in found if matches_digest(parsed, line.digest))
        if len(found) > 1:
            raise InvalidInputError(
                f"the lock names {len(found)} versions that {shown(selector)} could mean",
                hint="write " + " or ".join(line.selector for line in found[:5]),
            )
        if not found:
            import difflib

            near = tuple(difflib.get_close_matches(parsed.name, {line.name for line in self.names}, n=3))
            raise ArtifactNotFoundError(
                f"the lock does not name {shown(selector)}",
                selector=selector,
                near=near,
                hint=f"did you mean {' or '.join(near)}?" if near else "`names()` lists what it names",
            )
        return found[0]


def how_many(names: Sequence[LockedName]) -> str:
    """Return the number of versions that a lock names, for the history."""
    return f"{len(names):,} version{'' if len(names) == 1 else 's'}"


def _name_of(line: LockedName) -> str:
    return line.name


# ---- writing -------------------------------------------------------------------------------------------------------


def make_lock(store_id: str, location: str, remotes: Iterable[str], names: Iterable[LockedName]) -> Lock:
    """Return the lock of these names; each once, sorted, no credentials in any URL."""
    unique = {(line.name, line.number): line for line in names}
    cleaned = sorted({without_credentials(remote) for remote in remotes})
    return Lock(
        store_id, without_credentials(location), tuple(cleaned), tuple(unique[k] for k in sorted(unique))
    )


def format_lock(lock: Lock) -> str:
    """Return the text of a lock file.

    Raises:
        InvalidInputError: it is above the limit.
    """
    lines = [f"{MAGIC} {LOCK_FORMAT}", f"store {lock.store_id}"]
    if lock.location:
        lines.append(f"location {_quoted(lock.location)}")
    lines += [f"remote {_quoted(remote)}" for remote in lock.remotes]
    lines += [f"{_quoted(line.name)}@v{line.number} {line.digest} {line.kind}" for line in lock.names]
    text = "\n".join(lines) + "\n"
    if len(text.encode()) > LOCK_BYTES_MAX:
        raise InvalidInputError(
            f"a lock of {len(lock.names):,} names is above the limit of {LOCK_BYTES_MAX:,} bytes",
            hint="split it into several",
        )
    return text


def _quoted(text: str) -> str:
    """Return `text` without spaces and control characters; `names.unquote` gives it back."""
    return "".join(
        "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
        if c in "% " or is_control(c)
        else c
        for c in text
    )


def location_for(store_location: str, lock_path: str) -> str:
    """Return how a lock at `lock_path` names the store: by a URL, or by a path from its own folder.

    An absolute path where the two have nothing but the root in common; nothing for a store in memory.
    """
    if is_url(store_location):
        return "" if store_location.startswith("memory://") else without_credentials(store_location)
    folder = os.path.dirname(os.path.realpath(lock_path))
    store = os.path.realpath(store_location)
    if os.path.commonpath([folder, store]) == os.path.sep:
        return store
    return os.path.relpath(store, folder).replace(os.path.sep, "/")


# ---- reading -------------------------------------------------------------------------------------------------------


def read_lock(path: str | os.PathLike[str], calls: Calls | None = None) -> Lock:
    """Return the lock in the file at `path`.

    Raises:
        NotFoundError: there is no such file.
        MalformedError: a line is not as a lock has it; the message says which.
        UnsupportedFormatError: a newer release wrote it.
    """
    return parse_lock(read_lock_text(path, calls), where=path_text(path))


def read_lock_text(path: str | os.PathLike[str], calls: Calls | None = None) -> bytes:
    """Return the bytes of a lock file, which may be anything, of at most the limit and one."""
    try:
        return read_whole(path_text(path), LOCK_BYTES_MAX, calls or Calls())
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no lock file {path_text(path)!r}", hint="write one with `keepstone pin`"
        ) from error


def parse_lock(data: bytes, *, where: str) -> Lock:
    """Return the lock that `data` holds; `where` names it in messages."""
    if len(data) > LOCK_BYTES_MAX:
        raise MalformedError(
            f"{where} is above {LOCK_BYTES_MAX:,} bytes, the limit of a lock", where=where, hint=_AGAIN
        )
    lines = _lines(data, where)
    _check_format(lines, where)
    parser = _Parser(lines, where)
    lock = parser.parse()
    if format_lock(lock).encode() != data:
        raise parser.misplaced(lock)
    if not lock.names:
        raise MalformedError(
            f"{where}, line {len(lines) + 1}: it names no version, so it may be cut short",
            where=where,
            hint=_AGAIN,
        )
    return lock


def _lines(data: bytes, where: str) -> list[str]:
    if data.startswith(PACK_FRAME_MAGIC):
        raise MalformedError(
            f"{where}, line 1: this is a bundle, and no lock",
            where=where,
            hint="`keepstone restore` and `keepstone verify` take bundles, too; the others want the lock itself",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise MalformedError(f"{where}, line {line}: is no UTF-8 text", where=where, hint=_AGAIN) from error
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if _CONFLICT.fullmatch(line.rstrip("\r")):
            raise MalformedError(
                f"{where}, line {number}: git could not merge this file and left its marks",
                where=where,
                hint="keep the lines that are right and remove the marks, or write it anew with `keepstone pin`",
            )
        if line.endswith("\r"):
            raise MalformedError(
                f"{where}, line {number}: ends with a carriage return",
                where=where,
                hint="git changed the line ends: put `*.lock -text` into .gitattributes, and check it out again",
            )
    if lines[-1]:
        raise MalformedError(
            f"{where}, line {len(lines)}: has no end of line, so the file may be cut short",
            where=where,
            hint=_AGAIN,
        )
    return lines[:-1]


def _check_format(lines: list[str], where: str) -> None:
    first = lines[0] if lines else ""
    match = re.fullmatch(rf"{MAGIC} ([1-9][0-9]{{0,8}})", first)
    if match is None:
        raise MalformedError(
            f"{where}, line 1: is {shown(first)}, not {MAGIC} {LOCK_FORMAT}: this is no lock",
            where=where,
            hint="name a file that `keepstone pin` wrote",
        )
    if int(match[1]) != LOCK_FORMAT:
        raise UnsupportedFormatError(
            f"{where} is a lock of format {match[1]}; this release reads format {LOCK_FORMAT}",
            found=f"lock format {match[1]}",
            supported=f"lock format {LOCK_FORMAT}",
            hint="upgrade keepstone",
        )


class _Parser:
    """Reads the lines behind the first one by one."""

    def __init__(self, lines: list[str], where: str) -> None:
        self._lines = lines
        self._where = where

        self._numbers: list[int] = []
        """Of the lines that name a version."""
        self._named: list[LockedName] = []

    def wrong(self, number: int, problem: str, hint: str = _AGAIN) -> MalformedError:
        """Return the error about one line."""
        line = shown(self._lines[number - 1]) if number <= len(self._lines) else "the end"
        return MalformedError(f"{self._where}, line {number}: {line} {problem}", where=self._where, hint=hint)

    def misplaced(self, lock: Lock) -> MalformedError:
        """Return the error about lines that are right by themselves, and not as `lock` is written."""
        seen: dict[tuple[str, int], int] = {}
        above = ("", 0)
        for number, line in zip(self._numbers, self._named, strict=True):
            key = (line.name, line.number)
            if key in seen:
                same = self._lines[number - 1] == self._lines[seen[key] - 1]
                problem = "stands there twice" if same else f"says otherwise than line {seen[key]}"
                return self.wrong(
                    number, problem, "keep the one that is right, or write it anew with `keepstone pin`"
                )
            if key < above:
                return self.wrong(number, "is out of order: names are sorted", _SORTED)
            seen[key], above = number, key
        written = enumerate(zip(self._lines, format_lock(lock).split("\n"), strict=False), 1)
        number = next((number for number, (a, b) in written if a != b), len(self._lines))
        return self.wrong(number, "is out of order, double or misquoted")

    def parse(self) -> Lock:
        """Return the lock, before its order is checked."""
        facts: dict[str, list[str]] = {"store": [], "location": [], "remote": []}
        for number, line in enumerate(self._lines[1:], 2):
            fields = line.split(" ")
            if len(fields) == 2 and fields[0] in facts and not self._named:
                if fields[0] == "store" and facts["store"] not in ([], [fields[1]]):
                    raise self.wrong(number, "names another store than line 2", _ONE_STORE)
                facts[fields[0]].append(self._text(number, fields[1]))
            elif len(fields) == 3:
                self._named.append(self._name(number, *fields))
                self._numbers.append(number)
            else:
                raise self.wrong(number, "is no line of a lock")
        if len(facts["store"]) != 1 or not _STORE_ID.fullmatch(facts["store"][0]):
            raise self.wrong(2, "is not `store` and 32 hex digits")
        if len(facts["location"]) > 1:
            raise self.wrong(3, "is followed by another location")
        location = facts["location"][0] if facts["location"] else ""
        for place in (location, *facts["remote"]):
            if place != without_credentials(place):
                raise self.wrong(2, f"is followed by credentials in {shown(without_credentials(place))}")
        return make_lock(facts["store"][0], location, facts["remote"], self._named)

    def _text(self, number: int, quoted: str) -> str:
        try:
            text = unquote(quoted)
        except InvalidInputError as error:
            raise self.wrong(number, "is not quoted as a lock does it") from error
        if not text or "\0" in text:
            raise self.wrong(number, "names nothing")
        return text

    def _name(self, number: int, versioned: str, digest: str, kind: str) -> LockedName:
        match = _NUMBER.fullmatch(versioned)
        if match is None:
            raise self.wrong(number, "does not begin with a version such as models/email@v3")
        if kind not in ("artifact", "collection"):
            raise self.wrong(number, "is neither an artifact nor a collection")
        try:
            name = check_name(self._text(number, match[1]))
            return LockedName(name, int(match[2]), Digest.parse(digest), kind)
        except InvalidInputError as error:
            raise self.wrong(number, f"cannot be right: {error}") from error
