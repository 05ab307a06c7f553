"""Making a folder that exists into another version: what is equal stays, what differs is replaced file by file.

Layer: objects. All that is new is written and verified beside what is there; only then is anything removed or replaced,
each file by one rename. Whoever is killed in between leaves old files and new ones, never halves, and does it again.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ConflictError, KeepstoneError, StorageBusyError, StorageError
from keepstone.foundation.names import plural
from keepstone.objects.manifest import Manifest, Part, PartMode
from keepstone.objects.serializer import READ_FLAGS
from keepstone.objects.trees import (
    FOLDER_FLAGS,
    ReadChunks,
    fill_tree,
    is_store,
    links_last,
    open_folder,
    part_name,
    write_error,
    write_tree,
)
from keepstone.storage.platform import try_lock

T = TypeVar("T")

_READ_BYTES: Final = 1024 * 1024
_THREADS_MAX: Final = 8
_BATCH: Final = 10_000
_NAMED_MAX: Final = 5
_DRAFT: Final = re.compile(r"\.keepstone-[0-9a-f]{32}\.tmp")


class _Entry(NamedTuple):
    """What lies at a path now, as it was when it was looked at."""

    mode: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> _Entry:
        return cls(facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def may_be(self, part: Part) -> bool:
        """Whether it is of the kind and size that `part` is."""
        if part.mode == PartMode.SYMLINK:
            return stat.S_ISLNK(self.mode)
        return part.mode != PartMode.FOLDER and stat.S_ISREG(self.mode) and self.size == part.size


class _Plan(NamedTuple):
    """What there is to do; paths are relative."""

    write: list[Part]
    """Files and links that are missing or differ."""
    remove: list[str]
    """Files and links that the version does not have, or that are in its way."""
    remove_folders: list[str]
    """The innermost ones first."""
    folders: list[str]
    """Folders that must be there."""
    modes: list[Part]
    """Files that differ by being executable alone."""
    touched: dict[str, _Entry]
    """What is removed or replaced, as it was when it was looked at."""


def update_tree(
    manifest: Manifest,
    read_chunks: ReadChunks,
    target: str | os.PathLike[str],
    *,
    is_kept: Callable[[Digest], bool],
    ahead: Callable[[Iterable[Part]], AbstractContextManager[None]],
    overwrite: bool = False,
    outside_links: bool = False,
) -> None:
    """Make the folder `target` hold the parts of `manifest` and nothing else; a new one where there is none.

    `is_kept` says whether content can be had again: what cannot is neither removed nor replaced, unless `overwrite`
    is given. `ahead` is told what will be read.

    Raises:
        ConflictError: `target` holds what would be lost, or is no folder, or was changed meanwhile; or it is a store,
            or the version has files where a store in it is. Other stores in it stay as they are.
        StorageBusyError: it is being updated by somebody else.
        SerializerError, MalformedError, StorageError: as `write_tree`; nothing has changed, unless moving files into
            place was what failed.
    """
    place = os.path.abspath(target)
    try:
        if not os.path.lexists(place):
            with ahead(links_last(manifest.parts)):
                write_tree(manifest, read_chunks, place, outside_links=outside_links)
            return
        if os.path.islink(place) or not os.path.isdir(place):
            raise ConflictError(f"{place!a} is no folder", hint="name a folder, or remove this first")
        root = os.open(place, FOLDER_FLAGS)
        try:
            is_alone = _is_alone(root, place)
            stores: list[str] = []
            found = dict(_walk(root, place, stores))
            found = _without_stores(found, stores, manifest, place)
            tops = {part.path.split("/", 1)[0] for part in manifest.parts}
            for name in [name for name in found if _DRAFT.fullmatch(name) and name not in tops]:
                # Of a checkout that was killed.
                if is_alone and found[name].is_folder:
                    shutil.rmtree(os.path.join(place, name))
                found = {path: entry for path, entry in found.items() if path.split("/", 1)[0] != name}
            plan = _plan(root, manifest, found, None if overwrite else is_kept, place)
            _carry_out(root, place, manifest, plan, read_chunks, ahead, outside_links)
        finally:
            os.close(root)
    except OSError as error:
        if isinstance(error, KeepstoneError):
            raise
        raise write_error(error, place) from error


def _is_alone(root: int, place: str) -> bool:
    """Whether nobody else is at it, as far as that can be known: not every file system has locks.

    Raises:
        StorageBusyError: somebody is.
    """
    try:
        if try_lock(root):
            return True
    except StorageError:
        return False
    raise StorageBusyError(
        f"{place!a} is being updated by another checkout", path=place, hint="wait for it to end"
    )


# ---- looking ---------------------------------------------------------------------------------------------------------


def _walk(root: int, place: str, stores: list[str]) -> Iterator[tuple[str, _Entry]]:
    """Yield all below `root`, the folder at `place`; no link is followed. Stores are noted in `stores`, not entered."""
    pending = [""]
    while pending:
        inner = pending.pop()
        if is_store(os.path.join(place, inner)):
            stores.append(inner)
            continue
        folder = _existing_folder(root, inner)
        try:
            with os.scandir(folder) as listing:
                entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in listing]
        finally:
            os.close(folder)
        for name, facts in entries:
            path = f"{inner}/{name}" if inner else name
            yield path, _Entry.of(facts)
            if stat.S_ISDIR(facts.st_mode):
                pending.append(path)


def _without_stores(
    found: dict[str, _Entry], stores: list[str], manifest: Manifest, place: str
) -> dict[str, _Entry]:
    """Return `found` without the stores in it, and without the folders that they lie in.

    Raises:
        ConflictError: the folder is a store itself, or the version has something where one is.
    """
    for store in stores:
        if not store or any(_is_at(part_name(manifest, part), store) for part in manifest.parts):
            raise ConflictError(
                f"{os.path.normpath(os.path.join(place, store))!a} is a store, which no checkout replaces",
                hint="name another folder, or move the store away",
            )
    return {path: entry for path, entry in found.items() if not any(_is_at(path, store) for store in stores)}


def _is_at(path: str, store: str) -> bool:
    """Whether a path is that of the store, of something in it, or of a folder that it lies in."""
    return f"{path}/".startswith(f"{store}/") or store.startswith(f"{path}/")


def _existing_folder(root: int, path: str) -> int:
    current = os.dup(root)
    for segment in path.split("/") if path else ():
        try:
            below = os.open(segment, FOLDER_FLAGS, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _plan(
    root: int,
    manifest: Manifest,
    found: dict[str, _Entry],
    is_kept: Callable[[Digest], bool] | None,
    place: str,
) -> _Plan:
    wanted = {part_name(manifest, part): part for part in manifest.parts}
    folders = {path for path, part in wanted.items() if part.mode == PartMode.FOLDER}
    for path in wanted:
        while path := path.rpartition("/")[0]:
            folders.add(path)
    alike: list[str] = []
    differing: list[str] = []
    extra_folders: list[str] = []
    for path, entry in found.items():
        part = wanted.get(path)
        if entry.is_folder:
            if path not in folders:
                extra_folders.append(path)
        elif part is not None and entry.may_be(part):
            alike.append(path)
        else:
            differing.append(path)
    digests = dict(
        _digests(root, [(path, found[path]) for path in (*alike, *(differing if is_kept else ()))])
    )
    equal = {path for path in alike if digests[path] == wanted[path].digest}
    differing += [path for path in alike if path not in equal]
    if is_kept is not None:
        _refuse_to_lose(sorted(path for path in differing if not _is_kept(digests[path], is_kept)), place)
    replaced = {path for path in differing if path in wanted and wanted[path].mode != PartMode.FOLDER}
    return _Plan(
        write=links_last(
            part for path, part in wanted.items() if path not in equal and part.mode != PartMode.FOLDER
        ),
        remove=[path for path in differing if path not in replaced],
        remove_folders=sorted(extra_folders, reverse=True),
        folders=sorted(folders),
        modes=[wanted[path] for path in equal if _mode_differs(found[path], wanted[path])],
        touched={path: found[path] for path in differing},
    )


def _is_kept(digest: Digest | None, is_kept: Callable[[Digest], bool]) -> bool:
    return digest is not None and is_kept(digest)


def _refuse_to_lose(lost: list[str], place: str) -> None:
    if lost:
        some = ", ".join(ascii(path) for path in lost[:_NAMED_MAX])
        more = f" and {len(lost) - _NAMED_MAX:,} more" if len(lost) > _NAMED_MAX else ""
        raise ConflictError(
            f"{place!a} has {plural(len(lost), 'file')} that this store does not hold: {some}{more}",
            hint="save them or move them away; overwrite=True, or --force, gives them up",
        )


def _digests(root: int, entries: list[tuple[str, _Entry]]) -> Iterator[tuple[str, Digest | None]]:
    """Yield the digest of each file or link; None where it has none, or changes while it is read."""
    from concurrent.futures import ThreadPoolExecutor

    def digest_of(item: tuple[str, _Entry]) -> tuple[str, Digest | None]:
        return item[0], _digest(root, *item)

    with ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        for start in range(0, len(entries), _BATCH):
            yield from pool.map(digest_of, entries[start : start + _BATCH])


def _digest(root: int, path: str, entry: _Entry) -> Digest | None:
    above, _, name = path.rpartition("/")
    folder = _existing_folder(root, above)
    try:
        if stat.S_ISLNK(entry.mode):
            return Digest.of(os.fsencode(os.readlink(name, dir_fd=folder)))
        if not stat.S_ISREG(entry.mode):
            return None
        handle = os.open(name, READ_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        hasher = blake3()
        while chunk := os.read(handle, _READ_BYTES):
            hasher.update(chunk)
        return Digest(hasher.digest()) if _Entry.of(os.fstat(handle)) == entry else None
    finally:
        os.close(handle)


def _mode_differs(entry: _Entry, part: Part) -> bool:
    return part.mode != PartMode.SYMLINK and bool(entry.mode & stat.S_IXUSR) != (
        part.mode == PartMode.EXECUTABLE
    )


# ---- doing -----------------------------------------------------------------------------------------------------------


def _carry_out(
    root: int,
    place: str,
    manifest: Manifest,
    plan: _Plan,
    read_chunks: ReadChunks,
    ahead: Callable[[Iterable[Part]], AbstractContextManager[None]],
    outside_links: bool,
) -> None:
    draft = f".keepstone-{os.urandom(16).hex()}.tmp"
    if plan.write:
        os.mkdir(draft, dir_fd=root)
    try:
        if plan.write:
            # All links of the version, also those that stay: together they may lead outside.
            written = {part.path for part in plan.write}
            links = [p for p in manifest.parts if p.mode == PartMode.SYMLINK and p.path not in written]
            fresh = msgspec.structs.replace(manifest, parts=(*plan.write, *links))
            with ahead((*plan.write, *links)):
                fill_tree(fresh, read_chunks, os.path.join(place, draft), outside_links)
        _refuse_changed(root, plan.touched, place)
        for path in plan.remove:
            _in_folder(root, path, lambda name, folder: os.unlink(name, dir_fd=folder))
        for path in plan.remove_folders:
            _in_folder(root, path, lambda name, folder: os.rmdir(name, dir_fd=folder))
        for path in plan.folders:
            os.close(open_folder(root, path.split("/")))
        for part in plan.write:
            _move(root, draft, part_name(manifest, part))
        for part in plan.modes:
            _in_folder(root, part_name(manifest, part), _set_executable(part.mode == PartMode.EXECUTABLE))
    finally:
        if plan.write:
            shutil.rmtree(os.path.join(place, draft), ignore_errors=True)


def _refuse_changed(root: int, touched: dict[str, _Entry], place: str) -> None:
    for path, entry in touched.items():
        try:
            facts = _in_folder(root, path, lambda n, f: os.stat(n, dir_fd=f, follow_symlinks=False))
        except OSError:
            facts = None
        if facts is None or _Entry.of(facts) != entry:
            raise ConflictError(
                f"{os.path.join(place, path)!a} was changed while the folder was being updated",
                hint="do it again when nothing writes to it any more; nothing has changed",
            )


def _in_folder(root: int, path: str, call: Callable[[str, int], T]) -> T:
    above, _, name = path.rpartition("/")
    folder = _existing_folder(root, above)
    try:
        return call(name, folder)
    finally:
        os.close(folder)


def _move(root: int, draft: str, path: str) -> None:
    above, _, name = path.rpartition("/")
    source = _existing_folder(root, f"{draft}/{above}" if above else draft)
    try:
        target = _existing_folder(root, above)
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _set_executable(is_executable: bool) -> Callable[[str, int], None]:
    def set_mode(name: str, folder: int) -> None:
        handle = os.open(name, READ_FLAGS, dir_fd=folder)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            # Who may read it may start it, as a new file would have it.
            os.fchmod(handle, mode | (mode & 0o444) >> 2 if is_executable else mode & ~0o111)
        finally:
            os.close(handle)

    return set_mode
