"""Paths of the filesystem: which version a path means, and what lies in it.

Layer: interop. `name`, `name@v3`, `name@prod/folder/file`: a name has no `@`, so the first one ends it. Without one the
newest version is meant, and the longest name that there is counts, since a name may begin with another one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from functools import cached_property
from typing import Final, NamedTuple

from keepstone.api import Store
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    KindError,
    PathNotFoundError,
    PathReadOnlyError,
)
from keepstone.foundation.names import check_name, plural, shown
from keepstone.objects.manifest import Part, PartMode, path_problem
from keepstone.objects.trees import part_name
from keepstone.repository.name_view import Found as Place
from keepstone.repository.version import Version

LINKS_MAX: Final = 40
"""Links that are followed one after the other; a circle has no end."""


class Found(NamedTuple):
    """A version, and a path inside of it; empty for the version itself."""

    version: Version
    inner: str


class Target(NamedTuple):
    """What is to be written: a name that becomes a file, or a file in the folder that it becomes."""

    name: str
    inner: str


class Tree:
    """What lies in a version: one file without a path of its own, or files in folders."""

    def __init__(self, version: Version) -> None:
        self.digest: Final = version.digest
        manifest = version.manifest
        parts = () if version.is_snapshot else manifest.parts
        self.single: Part | None = None
        """The file that the version itself is."""
        if len(parts) == 1 and (not parts[0].path or manifest.serializer == "file"):
            self.single = parts[0]
        self._named: Final = [(part_name(manifest, part), part) for part in parts]

    @cached_property
    def files(self) -> dict[str, Part]:
        """Every file, also a link, by its path."""
        return {path: part for path, part in self._named if part.mode != PartMode.FOLDER}

    @cached_property
    def folders(self) -> dict[str, dict[str, None]]:
        """The names in each folder."""
        folders: dict[str, dict[str, None]] = {"": {}}
        for path, part in self._named:
            if part.mode == PartMode.FOLDER:
                folders.setdefault(path, {})
            below = path
            while below:
                above, _, name = below.rpartition("/")
                is_known = above in folders
                folders.setdefault(above, {})[name] = None
                if is_known:
                    break
                below = above
        return folders

    def file(self, inner: str) -> Part | None:
        """Return the file at a path; of one that is all there is, the empty path is it."""
        return self.single if not inner and self.single else self.files.get(inner)

    def is_folder(self, inner: str) -> bool:
        """Whether there is a folder at a path."""
        return inner in self.folders if inner else not self.single

    def followed(self, inner: str, read: Callable[[Part], bytes]) -> Part | None:
        """Return the file at a path, behind the links that stand there; None where they lead to none in here."""
        part = self.file(inner)
        for _ in range(LINKS_MAX):
            if part is None or part.mode != PartMode.SYMLINK:
                return part
            to = read(part).decode("utf-8", "surrogateescape")
            part = self.files.get(posixpath.normpath(posixpath.join(posixpath.dirname(part.path), to)))
        return None


class Resolver:
    """Resolves selectors; keeps the last version, since who reads its files asks for it again with each."""

    def __init__(self) -> None:
        self._last: tuple[Place, Version] | None = None

    def read_path(self, store: Store, path: str) -> Found | None:
        """Return what a path means now; None where no name that there is begins it.

        Raises:
            PathNotFoundError: the name is there, and not that version of it.
        """
        head, at, rest = path.partition("@")
        selector, _, inner = rest.partition("/")
        problem: PathNotFoundError | None = None
        if at:
            # The usual case needs no look at names, which takes a request where the store is elsewhere.
            try:
                version = self._resolve(store, f"{head}@{selector}", path)
                if not version.is_snapshot:
                    return Found(version, inner)
            except PathNotFoundError as error:
                problem = error
        else:
            store.repository.session.refresh()
        if problem and _is_artifact(store, head):
            raise problem
        segments = path.split("/")
        for count in range(len(segments), 0, -1):
            name = "/".join(segments[:count])
            if _is_artifact(store, name):
                return Found(self._resolve(store, name, path), "/".join(segments[count:]))
        return None

    def _resolve(self, store: Store, selector: str, path: str) -> Version:
        naming = store.repository.naming
        try:
            place = naming.place(selector)
        except (ArtifactNotFoundError, KindError, InvalidInputError) as error:
            hint = error.hint or f"ls({selector.partition('@')[0] + '@'!r}) lists the versions"
            raise PathNotFoundError(f"no {shown(path)}: {error}", selector=path, hint=hint) from error
        last = self._last
        if last is None or last[0] != place:
            last = self._last = (place, naming.version(place))
        return last[1]


def _is_artifact(store: Store, name: str) -> bool:
    try:
        return store.repository.naming.kind_of(name) == "artifact"
    except InvalidInputError:
        return False


def lists_versions(store: Store, path: str) -> bool:
    """Whether a path is `name@`, of a name that there is; a file may end so, too."""
    if not path.endswith("@"):
        return False
    store.repository.session.refresh()
    return _is_artifact(store, path[:-1])


def not_found(store: Store, path: str) -> PathNotFoundError:
    """Return the error for a path behind which nothing is."""
    name = path.partition("@")[0]
    try:
        kind = store.repository.naming.kind_of(name)
    except InvalidInputError:
        kind = None
    if kind == "collection":
        return PathNotFoundError(
            f"{shown(path)} is a collection: it has items, and no files",
            selector=path,
            hint=f"read it with store.collection({name!r})",
        )
    return PathNotFoundError(
        f"there is no {shown(path)} in the store at {store.location}",
        selector=path,
        hint="ls('') lists what there is; a path is name/file or name@version/file",
    )


def not_in(found: Found, path: str) -> PathNotFoundError:
    """Return the error for a path that is not in the version which it names."""
    parts = plural(len(found.version.parts), "part")
    return PathNotFoundError(
        f"there is no {shown(found.inner)} in {found.version.selector}, which has {parts}",
        selector=path,
        near=tuple(part.path for part in found.version.parts[:8] if part.path),
        hint=f"ls({found.version.selector!r}) lists them",
    )


def write_path(path: str) -> Target:
    """Return what is to be written at a path: `name`, or `name@latest/file` for a file in a folder.

    What exists has no say in it: the same path means the same for everyone who writes.

    Raises:
        PathReadOnlyError: it names a version that is there for good.
        InvalidInputError: no name, or no path, that could be kept.
    """
    name, at, rest = path.partition("@")
    check_name(name)
    selector, _, inner = rest.partition("/")
    if at and selector != "latest":
        raise PathReadOnlyError(
            f"cannot write to {shown(path)}: versions never change, and a name has no '@'",
            hint=f"write {name!r} for a file, or '{name}@latest/…' for the files of a folder",
        )
    if inner and (problem := path_problem(inner)):
        raise InvalidInputError(
            f"cannot write to {shown(path)}: the path {problem}", hint="choose another path"
        )
    return Target(name, inner)
