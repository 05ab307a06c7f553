"""What a loss of power may leave of recorded calls: a model of a file system, as little obliging as POSIX allows.

Assumed of the medium, and nothing more:

- What was synced is there: bytes and size of a file by a sync of the file, names in a folder by a sync of the folder.
  Syncing a file does not keep its name; syncing a folder keeps neither the files nor the folders below it.
- Of what was not synced each name that was given or taken is there or not, whatever came before or after it, in the
  same folder or another. One renaming is there whole or not at all.
- Of the bytes that were not synced each sector of 512 bytes holds what it held at any time since the last sync, zeros,
  noise, or what another file held there before (of a sector that was synced in part, that part is kept). The file ends
  where it ended at any time since, or at any sector in between.
- A file without any name is gone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.faults.recorded_calls import (
    ROOT,
    Created,
    Cut,
    Event,
    Named,
    RecordedCalls,
    Renamed,
    Synced,
    Unnamed,
    Wrote,
)

SECTOR = 512
PAGE = 4096
PENDING_MAX = 8
"""Up to so many effects that were not synced all their subsets are tried; of more, samples are drawn."""
SAMPLES = 2_000
"""Drawn at one point where the subsets are too many."""
SECTORS_MAX = 24
"""Of a longer stretch that was not synced so many sectors are tried as the one where it was torn."""
MIXES, MIXES_LONG = 4, 100
"""Of each file so many states are drawn in which each sector has a fate of its own."""

Image = Callable[[Sequence[bytes], int, Sequence[bytes], random.Random], bytes]
"""From all versions of a file since it was synced, where they begin to differ, and other files, to what may be left."""


class Crash(NamedTuple):
    """One state that a loss of power may leave."""

    prefix: int
    """So many events had happened."""
    whole: bool
    """Whether all of them are there, as after `kill -9`."""
    tree: dict[str, bytes | None]
    """Content by path; None for folders."""
    told: str
    """What is missing, for people."""


class Disk:
    """What a medium holds for certain, and what it may hold besides."""

    def __init__(self, files: dict[int, bytes], folders: dict[int, dict[str, int]]) -> None:
        self.files = files
        self.folders = folders
        self.names: list[tuple[int, Named | Renamed | Unnamed]] = []
        """Names given and taken that were not synced, each with the number of its event."""
        self.changes: dict[int, list[tuple[int, Wrote | Cut]]] = {}
        """Changes of files that were not synced."""

    def copy(self) -> Disk:
        """Return a disk that goes its own way from here."""
        other = Disk(dict(self.files), {inode: dict(names) for inode, names in self.folders.items()})
        other.names = list(self.names)
        other.changes = {inode: list(changes) for inode, changes in self.changes.items()}
        return other

    def happen(self, number: int, event: Event) -> None:
        """Take in event `number`."""
        if isinstance(event, Created):
            if event.is_folder:
                self.folders[event.inode] = {}
            else:
                self.files[event.inode] = b""
        elif isinstance(event, Wrote | Cut):
            self.changes.setdefault(event.inode, []).append((number, event))
        elif isinstance(event, Synced):
            self._sync(event)
        else:
            self.names.append((number, event))

    def _sync(self, event: Synced) -> None:
        if event.inode in self.folders:
            rest: list[tuple[int, Named | Renamed | Unnamed]] = []
            for number, name in self.names:
                if name.folder == event.inode and number < event.before:
                    give(self.folders[name.folder], name)
                else:
                    rest.append((number, name))
            self.names = rest
            return
        later: list[tuple[int, Wrote | Cut]] = []
        for number, change in self.changes.pop(event.inode, []):
            if number < event.before:
                self.files[event.inode] = changed(self.files[event.inode], change)
            else:
                later.append((number, change))
        if later:
            self.changes[event.inode] = later

    def versions(self, inode: int) -> list[bytes]:
        """Return what a file held since it was synced: first what is certain, last what was written last."""
        found = [self.files[inode]]
        for _, change in self.changes.get(inode, ()):
            found.append(changed(found[-1], change))
        return found

    def start(self, inode: int) -> int:
        """Return up to where a file holds for certain what was synced."""
        return min(
            len(self.files[inode]),
            *(c.offset if isinstance(c, Wrote) else c.size for _, c in self.changes.get(inode, ())),
        )

    def tree(self, kept: Sequence[bool], contents: dict[int, bytes]) -> dict[str, bytes | None]:
        """Return all paths, where of the names not synced those are there that `kept` says."""
        folders = dict(self.folders)
        for (_, event), there in zip(self.names, kept, strict=True):
            if there:
                folders[event.folder] = names = dict(folders[event.folder])
                give(names, event)
        tree: dict[str, bytes | None] = {}
        self._collect(folders, contents, ROOT, "", tree)
        return tree

    def _collect(
        self,
        folders: dict[int, dict[str, int]],
        contents: dict[int, bytes],
        folder: int,
        path: str,
        tree: dict[str, bytes | None],
    ) -> None:
        for name, inode in folders[folder].items():
            below = f"{path}/{name}" if path else name
            if inode in folders:
                tree[below] = None
                self._collect(folders, contents, inode, below, tree)
            else:
                tree[below] = contents[inode] if inode in contents else self.files[inode]


def give(names: dict[str, int], event: Named | Renamed | Unnamed) -> None:
    """Change the names of a folder as `event` does."""
    if isinstance(event, Named):
        names[event.name] = event.inode
    elif isinstance(event, Renamed):
        names.pop(event.source, None)
        names[event.target] = event.inode
    else:
        names.pop(event.name, None)


def changed(content: bytes, change: Wrote | Cut) -> bytes:
    """Return what a file holds after `change`."""
    if isinstance(change, Cut):
        return content[: change.size].ljust(change.size, b"\0")
    return (
        content[: change.offset].ljust(change.offset, b"\0")
        + change.data
        + content[change.offset + len(change.data) :]
    )


# ---- what may be left of one file ------------------------------------------------------------------------------------


def images(versions: Sequence[bytes], start: int, rng: random.Random, mixes: int) -> list[Image]:
    """Return the ways in which a file with these versions may be found, other than whole and untouched."""
    found: list[Image] = [_version(i) for i in range(1, len(versions) - 1)]
    bounds = list(range(start // SECTOR * SECTOR + SECTOR, max(map(len, versions)), SECTOR))
    if len(bounds) > SECTORS_MAX:
        pages = [bound for bound in bounds if bound % PAGE == 0]
        some = rng.sample(bounds[4:-4], 8) + rng.sample(pages, min(8, len(pages)))
        bounds = sorted({*bounds[:4], *bounds[-4:], *some})
    for bound in (start, *bounds):
        found += (_torn(bound, "none"), _torn(bound, "zeros"), _torn(bound, "noise"), _torn(bound, "stale"))
        found += (_hole(bound, SECTOR), _hole(bound // PAGE * PAGE, PAGE))
    return found + [_mixed] * (mixes if bounds or len(versions) > 2 else 0)


def _version(index: int) -> Image:
    return lambda versions, start, others, rng: versions[index]


def _torn(bound: int, rest: str) -> Image:
    def image(versions: Sequence[bytes], start: int, others: Sequence[bytes], rng: random.Random) -> bytes:
        last = versions[-1]
        at = min(len(last), max(bound, start))
        if rest == "none":
            return last[:at]
        return last[:at] + _junk(rest, at, len(last) - at, others, rng)

    return image


def _hole(bound: int, size: int) -> Image:
    def image(versions: Sequence[bytes], start: int, others: Sequence[bytes], rng: random.Random) -> bytes:
        last = versions[-1]
        first = max(bound, start)
        end = min(len(last), bound + size)
        if first >= end:
            return last
        return last[:first] + bytes(end - first) + last[end:]

    return image


def _mixed(versions: Sequence[bytes], start: int, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Each sector from another time, or lost."""
    size = len(rng.choice(versions))
    certain = versions[0][: min(start, size)]
    parts = [certain]
    position = len(certain)
    while position < size:
        end = min(size, position // SECTOR * SECTOR + SECTOR)
        sector = rng.choice((*versions, versions[-1]))[position:end]
        if len(sector) < end - position or rng.random() < 0.2:
            sector = _junk(rng.choice(("zeros", "noise", "stale")), position, end - position, others, rng)
        parts.append(sector)
        position = end
    return b"".join(parts)


def _junk(kind: str, position: int, size: int, others: Sequence[bytes], rng: random.Random) -> bytes:
    if kind == "noise":
        return rng.randbytes(size)
    if kind == "stale" and others:
        return rng.choice(others)[position : position + size].ljust(size, b"\0")
    return bytes(size)


# ---- all states ------------------------------------------------------------------------------------------------------


def crashes(calls: RecordedCalls, *, first: int, seed: int, exhaustive: bool) -> Iterator[Crash]:
    """Yield states that a loss of power may leave behind at any point from event `first` on, some more than once.

    First of every point the one where least is left, then the one where all is, then others, in turns; so whoever
    stops early has seen something of every point.
    """
    rng = random.Random(seed)
    disk = Disk(dict(calls.files), {inode: dict(names) for inode, names in calls.folders.items()})
    points: list[Iterator[Crash]] = []
    for number, event in enumerate((*calls.events, None)):
        if number >= first:
            points.append(_crashes_at(disk.copy(), number, random.Random(rng.random()), exhaustive))
        if event is not None:
            disk.happen(number, event)
    while points:
        rng.shuffle(points)
        for point in list(points):
            crash = next(point, None)
            if crash is None:
                points.remove(point)
            else:
                yield crash


def _crashes_at(disk: Disk, prefix: int, rng: random.Random, exhaustive: bool) -> Iterator[Crash]:
    count, files = len(disk.names), sorted(disk.changes)
    versions = {inode: disk.versions(inode) for inode in files}
    last = {inode: found[-1] for inode, found in versions.items()}
    if count or files:
        yield Crash(prefix, False, disk.tree([False] * count, {}), "nothing that was not synced is there")
    yield Crash(prefix, True, disk.tree([True] * count, last), "all is there")
    if not count and not files:
        return
    others = [content for inode, content in disk.files.items() if inode not in versions and content]
    starts = {inode: disk.start(inode) for inode in files}
    ways = _ways(versions, starts, rng, MIXES_LONG if exhaustive else MIXES)
    total = len(ways) << count
    if count + len(files) <= PENDING_MAX:
        picks = iter(rng.sample(range(total), total if exhaustive else min(total, SAMPLES)))
    else:
        picks = (rng.randrange(total) for _ in range(SAMPLES))
    for pick in picks:
        kept = [bool(pick >> bit & 1) for bit in range(count)]
        way = ways[pick >> count]
        contents = {inode: image(versions[inode], starts[inode], others, rng) for inode, image in way.items()}
        whole = all(kept) and contents == last
        told = (
            f"names {[event for (_, event), there in zip(disk.names, kept, strict=True) if not there]} lost"
        )
        yield Crash(prefix, whole, disk.tree(kept, contents), f"{told}, files {sorted(contents)} torn")


def _ways(
    versions: dict[int, list[bytes]], starts: dict[int, int], rng: random.Random, mixes: int
) -> list[dict[int, Image]]:
    """Return what may be left of all files together: each untouched or whole, and one of them torn."""
    if len(versions) <= PENDING_MAX:
        some = [list(pick) for pick in itertools.product((False, True), repeat=len(versions))]
    else:
        some = [[rng.random() < 0.5 for _ in versions] for _ in range(2**PENDING_MAX)]
    ways = [
        {inode: _version(-1) for inode, there in zip(versions, pick, strict=True) if there} for pick in some
    ]
    whole: dict[int, Image] = {inode: _version(-1) for inode in versions}
    for inode, found in versions.items():
        ways += [{**whole, inode: image} for image in images(found, starts[inode], rng, mixes)]
    return ways
