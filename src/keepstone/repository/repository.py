"""The repository: names and values of one store, joined from blobs, history and objects.

Layer: repository. A save writes content first and decides last, in one commit; until then nothing refers to it, so a
crash leaves garbage, never a broken artifact. Numbers are given by the commit that wins, so saves never conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from keepstone.blobs.footer import Entry
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError, RefConflictError
from keepstone.foundation.format import Form, Origin
from keepstone.foundation.names import check_alias, check_name
from keepstone.history.commit import Commit, Draft, RefChange
from keepstone.history.state import State
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.serializer import Registry
from keepstone.objects.standard import standard_registry
from keepstone.repository.arguments import check_kind_of, check_message, check_metadata
from keepstone.repository.naming import Naming, not_found
from keepstone.repository.refs import (
    VERSIONS,
    AliasRef,
    NameRef,
    alias_ref,
    check_kind,
    read_name_ref,
    text_of,
    version_key,
)
from keepstone.repository.sealer import Sealer
from keepstone.repository.session import Session
from keepstone.repository.staging import Restage, Staging
from keepstone.repository.version import Version

ANY: Final = "any"
"""`expected=ANY`: save whatever stands there now."""
_RESTAGES_MAX: Final = 16
_READ_BYTES: Final = 4 * 1024 * 1024

S = TypeVar("S")


class Repository:
    """Names ↔ values of one store."""

    def __init__(self, session: Session, sealer: Sealer) -> None:
        self.session = session
        self.sealer = sealer
        self.registry: Registry = standard_registry()
        self.naming = Naming(session)
        self.naming.repository = self
        self._counts: dict[str, tuple[object, int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        from keepstone.repository.opening import reopen_repository

        return (reopen_repository, (self.session.storage.location, self.session.writable))

    # ---- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: Iterable[str | Version] = (),
        aliases: Iterable[str] = (),
        message: str = "",
        expected: str | None = ANY,
        serializer: str | None = None,
    ) -> Version:
        """Keep `value` as the next version of `name`, published when this returns.

        See `Store.save`.
        """
        self.session.require_writable()
        check_name(name)
        check_message(message)
        check_metadata(metadata)
        wanted = check_aliases(aliases)
        origins = tuple(self._parent(parent) for parent in _listed(parents, "parents"))
        facts = dict(metadata or {})

        def stage(staging: Staging) -> tuple[Digest, int]:
            return self.stage_artifact(
                staging, value, metadata=facts, parents=origins, serializer=serializer
            ), 0

        def build(staging: Staging, state: State, staged: tuple[Digest, int]) -> Draft | None:
            old = state.refs.get(name)
            ref = read_name_ref(old, name) if old is not None else NameRef("artifact")
            check_kind(ref, name, "artifact")
            _require_expected(name, ref, expected)
            return self.version_draft(staging, state, ref, name, staged[0], wanted, message)

        return self.made_version(name, self.commit_staged(stage, build))

    def _parent(self, parent: str | Version) -> str:
        if isinstance(parent, Version):
            return parent.digest
        if isinstance(parent, str) and parent.startswith("b3:"):  # pyright: ignore[reportUnnecessaryIsInstance]
            return str(Digest.parse(parent))
        return self.resolve(parent).digest

    def stage_artifact(
        self,
        staging: Staging,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: tuple[str, ...] = (),
        serializer: str | None = None,
    ) -> Digest:
        """Stage a value's parts and manifest; return the manifest's digest, which is the artifact's."""
        chosen = self.registry.find(value, serializer)
        dumped = chosen.dump(value)
        parts: list[Part] = []
        for source in dumped.parts:
            digest, size = staging.add_content(source.source.chunks(_READ_BYTES))
            parts.append(Part(source.path, digest, size, source.mode))
        manifest = Manifest(
            serializer=chosen.id,
            serializer_version=chosen.version,
            type_name=dumped.type_name,
            parts=tuple(parts),
            metadata=dict(metadata or {}),
            parents=parents,
            packages=dumped.packages,
            detail=dumped.detail,
        )
        return staging.add_content([encode_manifest(manifest)])[0]

    def version_draft(
        self,
        staging: Staging,
        state: State,
        ref: NameRef,
        name: str,
        digest: Digest,
        aliases: tuple[str, ...],
        message: str,
    ) -> Draft | None:
        """Return the commit that makes `digest` the newest version of `name`, which is at `ref`; None where it is.

        Aliases move either way.
        """
        old = state.refs.get(name)
        same = ref.newest > 0 and ref.digest == digest
        number = ref.newest if same else ref.given + 1
        changes: list[RefChange] = []
        for alias in aliases:
            target = alias_ref(name, alias)
            moved = AliasRef(number, bytes(digest)).encoded()
            if state.refs.get(target) != moved:
                changes.append(RefChange(target, state.refs.get(target), moved))
        if same and not changes:
            return None
        if same:
            # Reached by a ref already: stating it is enough, nothing needs to be written again.
            return Draft(message=message, refs=(*changes, RefChange(name, old, old)))
        changes.append(RefChange(name, old, ref.at_version(number, bytes(digest)).encoded()))
        stamp = self.session.clock.stamp()
        entry = Entry(version_key(name, number), stamp, self.session.spool.writer, digest, Form.MANIFEST)
        return staging.draft(state, message=message, refs=tuple(changes), entries=((VERSIONS, entry),))

    def made_version(self, name: str, commit: Commit | None) -> Version:
        """Return the version of `name` that `commit` made or confirmed; the newest one where there was no commit."""
        version = self.naming.newest(name)
        if commit is None:
            return version
        # Another process may have saved since: the version that this commit made is the one to return.
        made = next(ref for ref in commit.refs if ref.name == name)
        before = read_name_ref(made.old, name).given if made.old else 0
        number = read_name_ref(made.new or b"", name).newest
        found = version if version.number == number else self.naming.numbered(name, number)
        found.created_new = number > before
        return found

    def commit_staged(
        self,
        stage: Callable[[Staging], S],
        build: Callable[[Staging, State, S], Draft | None],
        *,
        origin: Origin = Origin.SAVE,
    ) -> Commit | None:
        """Stage content, then commit what `build` makes of it; stage again if what it relied on was dropped."""
        for _ in range(_RESTAGES_MAX):
            staging = Staging(self.session, origin)
            staged = stage(staging)
            staging.settle()
            try:
                commit = self.session.log.append(lambda state, s=staging, t=staged: build(s, state, t))
            except Restage:
                self.session.refresh()
                continue
            self.session.refresh()
            self.sealer.merge_if_crowded()
            return commit
        raise InvalidInputError(
            "what this save relies on is dropped faster than it can be written",
            hint="give garbage collection a longer minimum age",
        )

    # ---- loading -----------------------------------------------------------------------------------------------------

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means now."""
        return self.naming.resolve(selector)

    def load(self, selector: str, type: Any = None, *, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value of the version that `selector` means."""
        return self.resolve(selector).load(type, allow_pickle=allow_pickle)

    def load_manifest(self, manifest: Manifest, type: Any, *, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value that a manifest describes."""
        read: Callable[[Part], bytes] = lambda part: self.session.read_blob(Digest(part.digest))  # noqa: E731
        return self.registry.load(manifest, read, type, allow_pickle=allow_pickle)

    def manifest(self, digest: Digest) -> Manifest:
        """Return the manifest of that digest."""
        return decode_manifest(self.session.read_blob(digest))

    # ---- aliases and removal -----------------------------------------------------------------------------------------

    def alias(self, selector: str, alias: str, *, expected: str | None = ANY, message: str = "") -> Version:
        """Let `alias` mean the version that `selector` means now. See `Store.alias`."""
        self.session.require_writable()
        check_alias(alias)
        check_message(message)
        found: list[Version] = []

        def build(state: State) -> Draft | None:
            version = self.naming.resolve_in(state, selector)
            found[:] = [version]
            target = alias_ref(version.name, alias)
            old = state.refs.get(target)
            self._require_alias(version.name, alias, old, expected)
            moved = AliasRef(version.number, bytes(version.digest_bytes)).encoded()
            if old == moved:
                return None
            stated = state.refs.get(version.name)
            return Draft(
                message=message, refs=(RefChange(target, old, moved), RefChange(version.name, stated, stated))
            )

        self.session.log.append(build)
        self.session.refresh()
        return found[0]

    def _require_alias(self, name: str, alias: str, old: bytes | None, expected: str | None) -> None:
        if expected == ANY:
            return
        found = self.naming.alias_target(name, alias, old)
        wanted = None if expected is None else self.resolve(expected).digest
        if (None if found is None else str(Digest(found.digest))) != wanted:
            at = "absent" if found is None else f"v{found.number}"
            raise RefConflictError(
                f"alias {name}@{alias} is {at}, not {expected or 'absent'}",
                name=alias_ref(name, alias),
                expected=expected or "absent",
                found=at,
                hint="look at it again and decide anew",
            )

    def unalias(self, name: str, alias: str, *, message: str = "") -> None:
        """Remove an alias; the version stays."""
        self.session.require_writable()
        check_name(name)
        check_message(message)
        target = alias_ref(name, check_alias(alias))

        def build(state: State) -> Draft:
            old = state.refs.get(target)
            if old is None:
                raise not_found(state, target, f"{name!r} has no alias {alias!r}")
            return Draft(message=message, refs=(RefChange(target, old, None),))

        self.session.log.append(build)
        self.session.refresh()

    def remove(self, selector: str, *, message: str = "") -> tuple[str, ...]:
        """Remove one version (`name@…`), or a name with all its versions or keys; return what was removed."""
        from keepstone.repository.removal import remove

        return remove(self, selector, message)

    # ---- asking ------------------------------------------------------------------------------------------------------

    def count_of(self, collection: str) -> int:
        """Return how many keys a collection has; counted again only when something changed."""
        session = self.session
        session.refresh_if_stale()
        marks = (
            session.log.state.number,
            tuple((journal.name, journal.end) for journal in session.spool.journals()),
        )
        known = self._counts.get(collection)
        if known is not None and known[0] == marks:
            return known[1]
        from keepstone.repository.collection import Collection

        count = sum(1 for _ in Collection[Any](self, collection, None, "disk"))
        self._counts[collection] = (marks, count)
        return count

    def history(self, name: str | None = None) -> Iterator[Commit]:
        """Yield the commits that moved a ref of `name` (of any name), newest first."""
        if name is not None:
            check_name(name)
        self.session.refresh()
        for commit in self.session.log.commits_backwards():
            moved = [ref.name for ref in commit.refs if ref.old != ref.new]
            if name is None or any(ref == name or ref.startswith(name + "@") for ref in moved):
                yield commit


def _require_expected(name: str, ref: NameRef, expected: str | None) -> None:
    if expected == ANY:
        return
    if (expected or "nothing") != text_of(ref.digest if ref.number else b""):
        raise RefConflictError(
            f"{name!r} is at {text_of(ref.digest)}, not at {expected or 'nothing'}",
            name=name,
            expected=expected or "nothing",
            found=text_of(ref.digest),
            hint="load it again, and decide anew what to save",
        )


def check_aliases(aliases: Iterable[str]) -> tuple[str, ...]:
    """Return the aliases that a save is given, each once and in order."""
    return tuple(dict.fromkeys(check_alias(alias) for alias in _listed(aliases, "aliases")))


def _listed(values: Iterable[Any], what: str) -> tuple[Any, ...]:
    if isinstance(values, str):
        raise InvalidInputError(
            f"{what} is the text {values!r}, not a list", hint=f"write {what}=[{values!r}]"
        )
    check_kind_of(values, Iterable, what, "a list")
    return tuple(values)
