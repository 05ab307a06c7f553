"""Folders to parts, and parts to folders.

Layer: objects. Reading keeps names, executable bits, links as links and empty folders; it follows no
link. Writing never touches anything outside the target: it fills a new folder beside it, makes links
last, and renames it into place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from keepstone.foundation.digest import DIGEST_BYTES
from keepstone.foundation.errors import (
    ConflictError,
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    SerializerError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
)
from keepstone.foundation.format import (
    MANIFEST_BYTES_MAX,
    PART_PATH_BYTES_MAX,
    STORE_JSON_BYTES_MAX,
    STORE_KEY,
)
from keepstone.objects.manifest import Manifest, Part, PartMode, path_problem
from keepstone.objects.serializer import READ_FLAGS, PartSource, Source, file_error

ReadChunks = Callable[[Part], Iterable["bytes | memoryview"]]

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SUFFIXES: Final = {
    "arrow": ".arrow",
    "bytes": ".bin",
    "json": ".json",
    "msgpack": ".msgpack",
    "npy": ".npy",
    "pickle": ".pickle",
    "state": ".json",
    "text": ".txt",
    "yaml": ".yaml",
}
_KINDS: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "named pipe",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    # Links are followed before, as far as they lead anywhere.
    stat.S_IFLNK: "link in a circle",
}


# ---- reading -------------------------------------------------------------------------------------


def walk_file(path: str | os.PathLike[str]) -> PartSource:
    """Return the file at `path` as a part of the same name; a link that the user names is followed.

    Raises:
        InvalidInputError: nothing is there.
        SerializerError: it is no regular file.
    """
    given = os.path.abspath(path)
    # Resolved once, so that the file is opened without following links later on.
    real = os.path.realpath(given)
    try:
        facts = os.lstat(real)
    except OSError as error:
        raise file_error(error, os.fspath(path)) from error
    return _file_part(os.path.basename(given), real, facts)


def is_store(folder: str) -> bool:
    """Whether a folder is a store: then it is no content of the folder around it, neither saved nor replaced."""
    try:
        handle = os.open(os.path.join(folder, STORE_KEY), READ_FLAGS)
        try:
            return b'"store_id"' in os.read(handle, STORE_JSON_BYTES_MAX)
        finally:
            os.close(handle)
    except OSError:
        return False


def walk_folder(path: str | os.PathLike[str]) -> list[PartSource]:
    """Return everything below the folder at `path`, sorted by path; without the stores in it.

    Names that differ only in case or Unicode form are different names.

    Raises:
        SerializerError: a socket, pipe or device, or a name that is no Unicode text, lies in it; or more files
            than a manifest can list.
        StorageError: a folder in it cannot be read.
    """
    root = os.path.realpath(path)
    parts: list[PartSource] = []
    listed = 0
    pending = [""]
    while pending:
        inner = pending.pop()
        folder = os.path.join(root, inner) if inner else root
        if inner and is_store(folder):
            # As git leaves out `.git`: to save a project must not save its own store, which changes meanwhile.
            continue
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            raise file_error(error, folder) from error
        if not entries and inner:
            parts.append(PartSource(inner, Source.of_bytes(b""), PartMode.FOLDER))
        for entry in entries:
            below = f"{inner}/{entry.name}" if inner else entry.name
            if entry.is_dir(follow_symlinks=False):
                _check_name(below, entry.path)
                pending.append(below)
            else:
                parts.append(_entry_part(below, entry))
                # Known before anything is read, rather than when all is stored and cannot be described.
                listed += len(below) + DIGEST_BYTES
                if listed > MANIFEST_BYTES_MAX:
                    raise SerializerError(
                        f"cannot save folder {root!a}: its first {len(parts):,} files are more than one manifest lists",
                        hint="save the folders in it as artifacts of their own, in one transaction",
                    )
    return sorted(parts, key=lambda part: part.path)


def _entry_part(below: str, entry: os.DirEntry[str]) -> PartSource:
    try:
        if entry.is_symlink():
            _check_name(below, entry.path)
            target = os.fsencode(os.readlink(entry.path))
            return PartSource(below, Source.of_bytes(target), PartMode.SYMLINK)
        return _file_part(below, entry.path, entry.stat(follow_symlinks=False))
    except OSError as error:
        if isinstance(error, KeepstoneError):
            raise
        raise file_error(error, entry.path) from error


def _file_part(below: str, path: str, facts: os.stat_result) -> PartSource:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "special file")
        raise SerializerError(f"cannot save {kind} {path!a}", hint="move it out of the folder, or remove it")
    _check_name(below, path)
    mode = PartMode.EXECUTABLE if facts.st_mode & stat.S_IXUSR else PartMode.FILE
    return PartSource(below, Source.of_file(path, facts), mode)


def _check_name(below: str, path: str) -> None:
    problem = path_problem(below)
    if problem:
        raise SerializerError(f"cannot save file {path!a}: its path {problem}", hint="rename it")


# ---- writing -------------------------------------------------------------------------------------


def part_name(manifest: Manifest, part: Part) -> str:
    """Return the path at which `part` is written; `value` and a suffix where it has no file name."""
    return part.path or "value" + _SUFFIXES.get(manifest.serializer, "")


def write_tree(
    manifest: Manifest,
    read_chunks: ReadChunks,
    target: str | os.PathLike[str],
    *,
    outside_links: bool = False,
) -> None:
    """Write the parts of `manifest` as the folder `target`, whole or not at all; folders above it are made.

    Raises:
        ConflictError: something is there already, other than an empty folder.
        SerializerError: a link leads outside `target`, and `outside_links` is not given.
        MalformedError: a part has another size than the manifest says.
        StorageError: the medium failed.
    """
    place = os.path.abspath(target)
    above, name = os.path.split(place)
    if not name:
        raise InvalidInputError(f"cannot write a folder at {place!a}", hint="name a folder below it")
    _refuse_taken(place)
    # A random name of its own length: long target names must still fit into a file name.
    draft = os.path.join(above, f".keepstone-{os.urandom(16).hex()}.tmp")
    try:
        os.makedirs(above, exist_ok=True)
        os.mkdir(draft)
        try:
            fill_tree(manifest, read_chunks, draft, outside_links)
            _refuse_taken(place)
            os.rename(draft, place)
        except BaseException:
            import shutil

            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        if isinstance(error, KeepstoneError):
            raise
        raise write_error(error, place) from error


def links_last(parts: Iterable[Part]) -> list[Part]:
    """Return the parts in the order in which they are written."""
    return sorted(parts, key=lambda part: part.mode == PartMode.SYMLINK)


def write_error(error: OSError, place: str) -> StorageError:
    """Return the error to raise for a failing call below the user's folder `place`."""
    message = f"cannot write {place!a}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(message, path=place, hint="free some space; nothing was left behind")
    if isinstance(error, PermissionError):
        return StoragePermissionError(message, path=place, hint="name a folder that this user may write")
    return StorageError(message, path=place)


def _refuse_taken(place: str) -> None:
    if os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place) or os.listdir(place)):
        raise ConflictError(
            f"{place!a} exists already and is no empty folder",
            hint="name a new folder, remove this one first, or update it",
        )


def fill_tree(manifest: Manifest, read_chunks: ReadChunks, draft: str, outside_links: bool) -> None:
    """Write the parts into the new folder `draft`, which nobody else sees yet; errors as of `write_tree`."""
    links: list[Part] = []
    root = os.open(draft, FOLDER_FLAGS)
    try:
        for part in manifest.parts:
            path = part_name(manifest, part)
            # Decoding a manifest has checked this; a hand-made one has not been decoded.
            if path_problem(path):
                raise MalformedError(
                    f"manifest has a part {path!a}, which {path_problem(path)}", where="manifest"
                )
            if part.mode == PartMode.SYMLINK:
                links.append(part)
            elif part.mode == PartMode.FOLDER:
                os.close(open_folder(root, path.split("/")))
            else:
                _write_file(root, path, part, read_chunks)
        for part in links:
            _write_link(root, part, read_chunks)
    finally:
        os.close(root)
    if not outside_links:
        for part in links:
            _refuse_outside(draft, part)


def open_folder(root: int, segments: list[str]) -> int:
    """Return a descriptor of the folder below `root`, made where it is missing; passes through no link."""
    current = os.dup(root)
    for segment in segments:
        try:
            try:
                os.mkdir(segment, dir_fd=current)
            except FileExistsError:
                pass
            below = os.open(segment, FOLDER_FLAGS, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _write_file(root: int, path: str, part: Part, read_chunks: ReadChunks) -> None:
    *folders, name = path.split("/")
    folder = open_folder(root, folders)
    try:
        mode = 0o777 if part.mode == PartMode.EXECUTABLE else 0o666
        handle = os.open(name, _FILE_FLAGS, mode, dir_fd=folder)
    finally:
        os.close(folder)
    with open(handle, "wb") as file:
        for chunk in _counted(part, read_chunks(part)):
            file.write(chunk)


def _write_link(root: int, part: Part, read_chunks: ReadChunks) -> None:
    if part.size > PART_PATH_BYTES_MAX:
        raise MalformedError(f"link {part.path!a} has a target of {part.size:,} bytes", where=part.path)
    target = b"".join(_counted(part, read_chunks(part)))
    if not target or b"\0" in target:
        raise MalformedError(f"link {part.path!a} has no valid target", where=part.path)
    *folders, name = part.path.split("/")
    folder = open_folder(root, folders)
    try:
        os.symlink(target, os.fsencode(name), dir_fd=folder)
    finally:
        os.close(folder)


def _counted(part: Part, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > part.size:
            break
        yield chunk
    if size != part.size:
        raise MalformedError(
            f"part {part.path!a} is not of the {part.size:,} bytes that its manifest says",
            where=part.path,
        )


def _refuse_outside(draft: str, part: Part) -> None:
    # Looked up through all other links, since two harmless looking ones can lead outside together.
    top = os.path.realpath(draft)
    link = os.path.join(top, part.path)
    outside = os.path.isabs(os.readlink(link))
    if outside or os.path.commonpath([top, os.path.realpath(link)]) != top:
        raise SerializerError(
            f"link {part.path!a} leads to {os.readlink(link)!a}, outside the folder",
            hint="if you trust whoever saved it: outside_links=True, `keepstone checkout --outside-links`",
        )
