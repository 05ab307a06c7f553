"""The filesystem `keepstone://` for whatever opens files through fsspec: pandas, pyarrow, datasets, universal_pathlib.

Layer: interop. Versions are read, and never change; what is written becomes a new version, whole or not at all. One
instance stands for one store, by its absolute location, whichever way a program names it; it pickles as that.
"""

from __future__ import annotations

import datetime
import posixpath
from functools import partial
from typing import IO, Any, ClassVar, Final, NoReturn, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]
from fsspec.utils import stringify_path  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from keepstone.api import Store
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import PathIsFolderError, PathNotFoundError, PathReadOnlyError
from keepstone.foundation.names import shown
from keepstone.interop.instances import OnePerStore
from keepstone.interop.paths import Found, Resolver, Tree, lists_versions, not_found, not_in, write_path
from keepstone.interop.writing import NewFile, SavingTransaction, exists, packed, packer_for, save_file
from keepstone.objects.manifest import Part, PartMode
from keepstone.repository.arguments import check_kind_of
from keepstone.repository.version import Version

_Base: Any = fsspec.AbstractFileSystem
Info = dict[str, Any]


class KeepstoneFileSystem(_Base, metaclass=OnePerStore):
    """The artifacts of one store as folders and files.

    A path is `name/file`, or `name@selector/file` with any selector. An artifact of one value is a file itself; names,
    and artifacts of many parts, are folders. `ls("name@")` lists the versions and aliases of a name.

    Raises:
        InvalidInputError: no store is given.
    """

    protocol: ClassVar[str] = "keepstone"
    transaction_type: ClassVar[type] = SavingTransaction

    def __init__(self, store: str, *, offline: bool = False, **options: Any) -> None:
        _Base.__init__(self, **options)
        self.location: Final = store
        self._offline = offline
        self._stores: dict[str, Store] = {}
        self._resolver: Final = Resolver()
        self._last: Tree | None = None
        """Who walks a version asks for it again and again."""

    @property
    def store(self) -> Store:
        """The store, to be read."""
        return self._store("r")

    def writable_store(self) -> Store:
        """Return the store, to be written to."""
        return self._store("a")

    def _store(self, mode: Any) -> Store:
        if mode not in self._stores:
            self._stores[mode] = Store(self.location, mode=mode, offline=self._offline)
        return self._stores[mode]

    @property
    def fsid(self) -> str:
        """An id that is the same wherever this store is opened."""
        return f"keepstone-{self.store.id}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in cast("list[Any]", path)]
        text: str = cast(Any, stringify_path)(path)
        check_kind_of(text, str, "path", "text, or a path")
        return text.removeprefix("keepstone://").strip("/")

    # ---- looking -----------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        """Return name, type ("file", "directory", "link") and size [bytes]; of what is in a version also its digest,
        its selector as `version`, and when it was saved as `created` and `mtime`.

        Raises:
            PathNotFoundError: nothing is there.
        """
        path = self._strip_protocol(path)
        if lists_versions(self.store, path):
            return _folder(path)
        found = self._found(path)
        known = self._info_in(found, path) if found else None
        if known is not None:
            return known
        if not path or self._names_below(path):
            return _folder(path)
        raise not_in(found, path) if found else not_found(self.store, path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what is in a folder, sorted, or the one file, as `info` does; only the paths without `detail`.

        Raises:
            PathNotFoundError: nothing is there.
        """
        path = self._strip_protocol(path)
        infos = self._versions(path) if lists_versions(self.store, path) else self._listed(path)
        if not infos:
            # Of what is there and no empty folder it is the only entry.
            known = self.info(path)
            infos = [] if known["type"] == "directory" else [known]
        infos.sort(key=lambda info: info["name"])
        return infos if detail else list(dict.fromkeys(info["name"] for info in infos))

    def _listed(self, path: str) -> list[Info]:
        infos: dict[tuple[str, bool], Info] = {}
        found = self._found(path)
        if found:
            tree = self._tree(found.version)
            if tree.is_folder(found.inner):
                for name in tree.folders[found.inner]:
                    inner = posixpath.join(found.inner, name)
                    known = self._info_in(Found(found.version, inner), f"{path}/{name}")
                    infos[f"{path}/{name}", False] = cast(Info, known)
        own: list[str] = []
        start = len(path) + 1 if path else 0
        for name in self._names_below(path):
            below, more, _ = name[start:].partition("/")
            child = f"{path}/{below}" if path else below
            # A name may be a file, and begin another name: then it is both.
            if more:
                infos.setdefault((child, True), _folder(child))
            else:
                own.append(name)
        for version in self.store.repository.naming.newest(own):
            infos[version.name, False] = cast(Info, self._info_in(Found(version, ""), version.name))
        for child, is_folder in list(infos):
            if is_folder and infos.get((child, False), {}).get("type") == "directory":
                del infos[child, True]
        return list(infos.values())

    def _names_below(self, path: str) -> list[str]:
        # No name has an '@': inside of a version nobody need be asked.
        return [] if "@" in path else self.store.names(f"{path}/" if path else "", kind="artifact")

    def _versions(self, path: str) -> list[Info]:
        name = path[:-1]
        store = self.store
        versions = {version.number: version for version in store.versions(name)}
        words = {f"v{number}": number for number in versions} | store.aliases(name)
        return [
            cast(Info, self._info_in(Found(versions[number], ""), path + word))
            for word, number in words.items()
            if number in versions
        ]

    def _found(self, path: str) -> Found | None:
        return self._resolver.read_path(self.store, path) if path else None

    def _info_in(self, found: Found, path: str) -> Info | None:
        version, inner = found
        tree = self._tree(version)
        facts = {
            "version": version.selector,
            "created": version.created,
            "mtime": version.created.timestamp(),
        }
        part = tree.file(inner)
        if part is None:
            is_root = {"digest": version.digest} if not inner else {}
            return {**_folder(path), **facts, **is_root} if tree.is_folder(inner) else None
        link = {"islink": True} if part.mode == PartMode.SYMLINK else {}
        behind = tree.followed(inner, partial(_read_link, version))
        kind, part = ("file", behind) if behind else ("link", part)
        return {
            "name": path,
            "type": kind,
            "size": part.size,
            "digest": (digest := str(Digest(part.digest))),
            # Programs that keep what they downloaded look here whether it is still the same.
            "ETag": digest,
            **facts,
            **link,
        }

    def _tree(self, version: Version) -> Tree:
        tree = self._last
        if tree is None or tree.digest != version.digest:
            tree = self._last = Tree(version)
        return tree

    def exists(self, path: str, **_: Any) -> bool:
        """Whether something is there; what hinders finding out is raised."""
        return self._kind(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether a file is there."""
        return self._kind(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether a folder is there."""
        return self._kind(path) == "directory"

    def _kind(self, path: str) -> str | None:
        try:
            return self.info(path)["type"]
        except PathNotFoundError:
            return None

    def created(self, path: str) -> datetime.datetime:
        """Return when the version was saved that a path is in.

        Raises:
            PathIsFolderError: it is a folder of names, and no version.
        """
        return self._fact(path, "created")

    def modified(self, path: str) -> datetime.datetime:
        """Return the same as `created`: versions never change."""
        return self.created(path)

    def ukey(self, path: str) -> str:
        """Return the digest of what is at a path: of a file that of its bytes.

        Raises:
            PathIsFolderError: it is a folder of names, or inside of a version.
        """
        return self._fact(path, "digest")

    def checksum(self, path: str) -> int:
        """Return the digest of what is at a path as a number."""
        return int(self.ukey(path).partition(":")[2], 16)

    def _fact(self, path: str, name: str) -> Any:
        info = self.info(path)
        if name not in info:
            raise PathIsFolderError(
                f"{shown(info['name'])} is a folder: it has no {name}", hint="name a file, or a version"
            )
        return info[name]

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _part(self, path: str) -> tuple[Version, Part]:
        path = self._strip_protocol(path)
        found = self._found(path)
        if found is None:
            if not path or self._names_below(path):
                raise _is_folder(path)
            raise not_found(self.store, path)
        tree = self._tree(found.version)
        part = tree.followed(found.inner, partial(_read_link, found.version))
        if part is not None:
            return found.version, part
        if tree.is_folder(found.inner):
            raise _is_folder(path)
        if tree.file(found.inner) is not None:
            raise PathNotFoundError(
                f"{shown(path)} is a link that leads to no file of {found.version.selector}",
                selector=path,
                hint="check the version out to have its links",
            )
        raise not_in(found, path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return the bytes of a file from `start` up to `end`, counted from its end where they are negative.

        Raises:
            PathNotFoundError, PathIsFolderError: there is no such file.
            CorruptionError: its bytes are damaged; nothing wrong is returned.
        """
        version, part = self._part(path)
        begin, stop, _step = slice(start, end).indices(part.size)
        with version.open_part(part) as file:
            file.seek(begin)
            return file.read(max(0, stop - begin))

    def open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """Return a file: to be read, or to become a version when it is closed, also through what compresses it.

        Raises:
            PathNotFoundError, PathIsFolderError: there is no such file.
            PathReadOnlyError, InvalidInputError: this cannot be written.
        """
        if compression is None or "b" not in mode or "r" in mode:
            return _Base.open(self, path, mode, block_size, cache_options, compression, **options)
        packer = packer_for(self._strip_protocol(path), compression)
        return packed(_Base.open(self, path, mode, block_size, cache_options, **options), packer)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **_: Any,
    ) -> IO[bytes]:
        if mode == "rb":
            version, part = self._part(path)
            return version.open_part(part)
        target = write_path(path)
        if mode not in ("wb", "xb"):
            raise PathReadOnlyError(
                f"cannot open {shown(path)} with mode {mode!r}: versions never change",
                hint="read it, and write a new version with 'wb'",
            )
        if autocommit and target.inner:
            raise PathReadOnlyError(
                f"cannot write {shown(path)} by itself: a folder is saved as a whole",
                hint="write its files inside of `with fs.transaction:`, on this very filesystem",
            )
        if mode == "xb" and self.exists(path):
            raise exists(target)
        return NewFile(target, self._keep, exclusive=mode == "xb", autocommit=autocommit)

    def _keep(self, file: NewFile) -> None:
        save_file(self.writable_store(), file)

    # ---- changing ----------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing: folders are made by what lies in them."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: folders are made by what lies in them."""

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Save an empty file as the next version of a name.

        Raises:
            PathReadOnlyError: not `truncate`, and it is there: a version keeps its time.
        """
        if not truncate and self.exists(path):
            raise _refused("touch", path)
        self.pipe_file(path, b"")

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Save what is at one path as the next version of another name; its bytes are kept once.

        Of a folder nothing is copied: what lies in it makes it.
        """
        if self.isdir(path1):
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb") as target:
            while chunk := source.read(self.blocksize):
                target.write(chunk)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> NoReturn:
        """Refuse: what a name means is removed through the store, where the history keeps it.

        Raises:
            PathReadOnlyError: always.
        """
        raise _refused("remove", path)

    def rm_file(self, path: str) -> NoReturn:
        """Refuse, as `rm` does."""
        raise _refused("remove", path)

    def rmdir(self, path: str) -> NoReturn:
        """Refuse, as `rm` does."""
        raise _refused("remove", path)

    def mv(self, path1: Any, path2: Any, **_: Any) -> NoReturn:
        """Refuse, as `rm` does; nothing is copied."""
        raise _refused("move", path1)


def _folder(path: str) -> Info:
    return {"name": path, "type": "directory", "size": 0}


def _read_link(version: Version, part: Part) -> bytes:
    # Not by `open_part`: who looks where a link leads has not read the version.
    return b"".join(version.stream(part))


def _is_folder(path: str) -> PathIsFolderError:
    return PathIsFolderError(
        f"{shown(path) if path else 'this'} is a folder", hint=f"ls({path!r}) lists what is in it"
    )


def _refused(what: str, path: Any) -> PathReadOnlyError:
    named = shown(path) if isinstance(path, str) else "these paths"
    return PathReadOnlyError(
        f"cannot {what} {named}: versions never change, and this filesystem removes nothing",
        hint="`store.remove(selector)` and `keepstone remove` take a name or a version away, and can be undone",
    )
