"""From what a user writes to the version that is meant.

Layer: repository. Every answer is about one state of the log, so that a name resolved once means one version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ArtifactNotFoundError, InvalidInputError, KindError
from keepstone.foundation.names import (
    Selector,
    check_name,
    format_time,
    matches_digest,
    parse_selector,
    shown,
)
from keepstone.history.state import State
from keepstone.objects.manifest import decode_manifest
from keepstone.repository.refs import (
    VERSIONS,
    AliasRef,
    Kind,
    NameRef,
    alias_ref,
    check_kind,
    read_alias_ref,
    read_name_ref,
    version_key,
)
from keepstone.repository.session import Session
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository


class Naming:
    """Names, versions and aliases of one store."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.repository: Repository | None = None

    def names(self, prefix: str, kind: Kind | None) -> list[str]:
        """Return the names that exist and begin with `prefix`, sorted."""
        self._session.refresh()
        return [
            name
            for name, ref in _name_refs(self._session.log.state, prefix)
            if ref.number and (kind is None or ref.kind == kind)
        ]

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means now.

        Raises:
            ArtifactNotFoundError: there is no such name, version or alias; `near` has names spelled alike.
            KindError: the name is a collection's.
            InvalidInputError: not a selector, or a digest prefix that several versions share.
        """
        self._session.refresh()
        return self.resolve_in(self._session.log.state, selector)

    def resolve_in(self, state: State, selector: str) -> Version:
        """Return the version that `selector` means in `state`, which must be the present one or older."""
        parsed = parse_selector(selector)
        if parsed.kind == "date":
            number = self._session.log.number_at(parsed.until_ns)
            state = self._session.log.state_at(number)
        ref = _ref_of(state, parsed.name)
        if ref is not None and selector == parsed.name:
            # A collection by its name alone is what it holds now, which is no version.
            check_kind(ref, parsed.name, "artifact")
        if ref is None or not ref.newest:
            raise self._no_version(state, parsed, ref)
        if parsed.kind in ("latest", "date"):
            return self._version(parsed.name, ref.newest)
        if parsed.kind == "number":
            return self._numbered(state, parsed, ref)
        if parsed.kind == "alias":
            alias = self.alias_target(parsed.name, parsed.value, state.refs.get(str(parsed)))
            if alias is None:
                known = ", ".join(sorted(self.aliases_in(state, parsed.name))) or "none"
                raise not_found(
                    state,
                    selector,
                    f"{parsed.name!r} has no alias {parsed.value!r}",
                    hint=f"it has versions v1 to v{ref.given} and aliases: {known}",
                )
            return self._version(parsed.name, alias.number)
        return self._by_digest(state, parsed)

    def _no_version(self, state: State, parsed: Selector, ref: NameRef | None) -> ArtifactNotFoundError:
        if parsed.kind == "date":
            when = format_time(parsed.until_ns)
            message = f"{parsed.name!r} did not exist at {when}"
            if ref is not None and ref.number:
                message = f"collection {parsed.name!r} had no snapshot at {when}"
            return not_found(self._session.log.state, str(parsed), message)
        if ref is not None and ref.kind == "collection" and ref.number:
            return not_found(
                state,
                str(parsed),
                f"collection {parsed.name!r} has no snapshot",
                hint=f"`keepstone snapshot {parsed.name}` makes one",
            )
        removed = " any more: its versions were removed" if ref is not None and ref.given else ""
        return not_found(state, str(parsed), f"there is no artifact {shown(parsed.name)}{removed}")

    def _numbered(self, state: State, parsed: Selector, ref: NameRef) -> Version:
        try:
            return self.numbered(parsed.name, parsed.number)
        except ArtifactNotFoundError as error:
            gone = "was removed" if parsed.number <= ref.given else "does not exist yet"
            raise not_found(
                state,
                str(parsed),
                f"version {parsed.number} of {parsed.name!r} {gone}",
                hint=f"its newest is v{ref.newest}; `keepstone versions` lists them",
            ) from error

    def _by_digest(self, state: State, parsed: Selector) -> Version:
        found = [
            v for v in self.versions_in(state, parsed.name) if matches_digest(parsed, Digest.parse(v.digest))
        ]
        if len({version.digest for version in found}) > 1:
            raise InvalidInputError(
                f"{parsed.value} begins the digests of {len(found)} versions of {parsed.name!r}",
                hint="write more of the digest",
            )
        if not found:
            raise not_found(state, str(parsed), f"no version of {parsed.name!r} begins with {parsed.value}")
        return found[0]

    def numbered(self, name: str, number: int) -> Version:
        """Return one version by its number."""
        return self._version(name, number)

    def newest(self, name: str) -> Version:
        """Return the newest version of a name, of a collection its newest snapshot."""
        return self.resolve(f"{name}@latest")

    def _version(self, name: str, number: int, *, created_new: bool = False) -> Version:
        row = self._session.find(VERSIONS, version_key(name, number))
        if row is None or row.digest is None:
            raise ArtifactNotFoundError(f"{name!r} has no version {number}", selector=f"{name}@v{number}")
        assert self.repository is not None
        manifest = decode_manifest(self._session.read_blob(row.digest))
        return Version(
            self.repository, name, number, row.digest, row.stamp, manifest, created_new=created_new
        )

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a name, newest first; of a collection, its snapshots.

        Raises:
            ArtifactNotFoundError: there is no such name.
        """
        check_name(name)
        self._session.refresh()
        state = self._session.log.state
        ref = _ref_of(state, name)
        if ref is None:
            raise not_found(state, name, f"there is no artifact {shown(name)}")
        return list(self.versions_in(state, name))

    def versions_in(self, state: State, name: str) -> Iterator[Version]:
        """Yield the versions that exist, newest first."""
        ref = _ref_of(state, name)
        for number in range(ref.newest if ref else 0, 0, -1):
            row = self._session.peek(VERSIONS, version_key(name, number))
            if row is not None and row.digest is not None:
                yield self._version(name, number)

    def aliases_in(self, state: State, name: str) -> dict[str, AliasRef]:
        """Return the aliases of a name."""
        prefix = alias_ref(name, "")
        return {
            ref[len(prefix) :]: read_alias_ref(value, ref)
            for ref, value in state.refs.items()
            if ref.startswith(prefix)
        }

    def alias_target(self, name: str, alias: str, value: bytes | None) -> AliasRef | None:
        """Return what an alias's ref says, None where there is none."""
        return None if value is None else read_alias_ref(value, alias_ref(name, alias))

    def kind_of(self, name: str) -> Kind | None:
        """Return what a name is now; None where it does not exist."""
        ref = _ref_of(self._session.log.state, check_name(name))
        return ref.kind if ref is not None and ref.number else None

    def exists(self, selector: str) -> bool:
        """Whether `selector` means something now: a version, or a collection by its name alone."""
        try:
            self.resolve(selector)
        except ArtifactNotFoundError:
            return False
        except KindError:
            return "@" not in selector and self.kind_of(selector) == "collection"
        return True


def _ref_of(state: State, name: str) -> NameRef | None:
    value = state.refs.get(name)
    return None if value is None else read_name_ref(value, name)


def _name_refs(state: State, prefix: str = "") -> list[tuple[str, NameRef]]:
    return [
        (name, read_name_ref(value, name))
        for name, value in sorted(state.refs.items())
        if name.startswith(prefix) and "@" not in name and not name.startswith(":")
    ]


def not_found(state: State, selector: str, message: str, *, hint: str = "") -> ArtifactNotFoundError:
    """Return the error that says what is missing, and what is spelled alike."""
    import difflib

    name = selector.partition("@")[0]
    names = [known for known, ref in _name_refs(state) if ref.number]
    near = tuple(n for n in difflib.get_close_matches(name, names, n=3, cutoff=0.6) if n != name)
    if not hint:
        hint = f"did you mean {' or '.join(near)}?" if near else "`keepstone list` shows all names"
    return ArtifactNotFoundError(message, selector=selector, near=near, hint=hint)
