"""Removing: a version, or a name with all its versions or keys.

Layer: repository. Removal is a commit like any other: the history keeps it, and numbers are never given again. The
bytes go when garbage is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keepstone.blobs.footer import Entry
from keepstone.foundation.errors import ConflictError
from keepstone.foundation.format import Form
from keepstone.foundation.names import parse_selector
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.repository.arguments import check_message
from keepstone.repository.naming import not_found
from keepstone.repository.refs import VERSIONS, NameRef, alias_ref, read_name_ref, version_key
from keepstone.repository.staging import Staging
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository


def remove(repository: Repository, selector: str, message: str) -> tuple[str, ...]:
    """Remove what `selector` means; return the selectors of what was removed.

    Raises:
        ArtifactNotFoundError: there is nothing of that name.
        ConflictError: an alias means the version; only a whole name takes its aliases with it.
    """
    repository.session.require_writable()
    check_message(message)
    repository.session.refresh()
    name = parse_selector(selector).name
    value = repository.session.log.state.refs.get(name)
    if value is not None and read_name_ref(value, name).kind == "collection" and selector == name:
        return _remove_collection(repository, name, message)
    removed: list[str] = []

    def build(staging: Staging, state: State, _: None) -> Draft:
        versions = (
            list(repository.naming.versions_in(state, name))
            if selector == name
            else [repository.naming.resolve_in(state, selector)]
        )
        old = state.refs.get(name)
        if not versions or old is None:
            raise not_found(state, selector, f"there is no artifact {name!r}")
        ref = read_name_ref(old, name)
        removed[:] = [version.selector for version in versions]
        changes = _alias_changes(repository, state, name, versions, whole=selector == name)
        changes.append(RefChange(name, old, _without(repository, state, ref, name, versions).encoded()))
        entries = _tombstones(repository, versions)
        return staging.draft(state, message=message, refs=tuple(changes), entries=entries)

    repository.commit_staged(lambda staging: None, build)
    return tuple(removed)


def _tombstones(repository: Repository, versions: list[Version]) -> tuple[tuple[str, Entry], ...]:
    session = repository.session
    return tuple(
        (
            VERSIONS,
            Entry(
                version_key(v.name, v.number),
                session.clock.stamp(),
                session.spool.writer,
                None,
                Form.MANIFEST,
            ),
        )
        for v in versions
    )


def _without(
    repository: Repository, state: State, ref: NameRef, name: str, versions: list[Version]
) -> NameRef:
    gone = {version.number for version in versions}
    rest = (v for v in repository.naming.versions_in(state, name) if v.number not in gone)
    newest = next(rest, None)
    number, digest = (newest.number, bytes(newest.digest_bytes)) if newest else (0, b"")
    return msgspec.structs.replace(ref.at_version(number, digest), removals=ref.removals + 1)


def _alias_changes(
    repository: Repository, state: State, name: str, versions: list[Version], *, whole: bool
) -> list[RefChange]:
    numbers = {version.number for version in versions}
    pointing = {a: r for a, r in repository.naming.aliases_in(state, name).items() if r.number in numbers}
    if pointing and not whole:
        alias, ref = next(iter(sorted(pointing.items())))
        raise ConflictError(
            f"alias {alias!r} means v{ref.number} of {name!r}",
            hint=f"move it first, or remove it with `keepstone remove {name}@{alias}`",
        )
    return [RefChange(alias_ref(name, a), state.refs[alias_ref(name, a)], None) for a in sorted(pointing)]


def _remove_collection(repository: Repository, name: str, message: str) -> tuple[str, ...]:
    from keepstone.repository.collection import Collection

    collection = Collection[object](repository, name, None, "disk")
    if repository.naming.kind_of(name) is None:
        raise not_found(repository.session.log.state, name, f"there is no collection {name!r}")
    collection.clear()
    collection.flush()

    removed: list[str] = []

    def build(staging: Staging, state: State, _: None) -> Draft | None:
        old = state.refs[name]
        ref = read_name_ref(old, name)
        removed[:] = [name]
        if not ref.number:
            return None
        versions = list(repository.naming.versions_in(state, name))
        removed.extend(version.selector for version in versions)
        gone = msgspec.structs.replace(ref.at_version(0, b""), number=0, removals=ref.removals + 1)
        changes = _alias_changes(repository, state, name, versions, whole=True)
        changes.append(RefChange(name, old, gone.encoded()))
        entries = _tombstones(repository, versions)
        return staging.draft(state, message=message, refs=tuple(changes), entries=entries)

    repository.commit_staged(lambda staging: None, build)
    return tuple(removed)
