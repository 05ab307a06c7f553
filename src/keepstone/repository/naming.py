"""From what a user writes to the version that is meant.

Layer: repository. Every answer is about one state of the log, so that a name resolved once means one version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

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
from keepstone.repository.name_view import Departed, Found, Moment, Published, VersionGoneError, View, ref_of
from keepstone.repository.refs import (
    AliasRef,
    Kind,
    NameRef,
    alias_ref,
    read_alias_ref,
    read_name_ref,
    require_artifact,
    version_key,
)
from keepstone.repository.session import Session
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository

T = TypeVar("T")


class Naming:
    """Names, versions and aliases of one store: as they are, or as they were at one moment."""

    def __init__(self, session: Session, moment: Moment | None = None) -> None:
        self._session = session
        self._moment = moment
        self.repository: Repository | None = None

    def present(self) -> Published | Departed:
        """Return what names mean now, or meant at the moment."""
        if self._moment is not None:
            return Departed(self._session, self._moment)
        self._session.refresh()
        return Published(self._session, self._session.log.state)

    @property
    def _state(self) -> State:
        return self._session.log.state if self._moment is None else self._moment.state

    def names(self, prefix: str, kind: Kind | None) -> list[str]:
        """Return the names that exist and begin with `prefix`, sorted."""
        return [
            name
            for name, ref in _name_refs(self.present().refs, prefix)
            if ref.number and (kind is None or ref.kind == kind)
        ]

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means now.

        Raises:
            ArtifactNotFoundError: there is no such name, version or alias; `near` has names spelled alike.
            KindError: the name is a collection's.
            InvalidInputError: not a selector, or a digest prefix that several versions share.
        """
        return self._steadily(lambda view: self.version(self.find_in(view, selector)))

    def place(self, selector: str) -> Found:
        """Return which version `selector` means now, without reading its manifest.

        Raises:
            ArtifactNotFoundError, KindError, InvalidInputError: as `resolve`.
        """
        return self._steadily(lambda view: self.find_in(view, selector))

    def _steadily(self, ask: Callable[[Published | Departed], T]) -> T:
        while True:
            view = self.present()
            try:
                answer = ask(view)
            except VersionGoneError:
                # Another thread has seen its removal since the refs were taken: ask the newer ones.
                if self._moment is not None or self._session.log.state.number == view.state.number:
                    raise
                continue
            # Refs of one moment and versions of another would be of none; what is past stays as it was.
            if self._moment is not None or self._session.entries.number == view.state.number:
                return answer

    def find_in(self, view: View, selector: str) -> Found:
        """Return which version `selector` means in `view`.

        Raises:
            ArtifactNotFoundError, KindError, InvalidInputError: as `resolve`.
        """
        parsed = parse_selector(selector)
        refs = view.refs
        if parsed.kind == "date":
            number = min(self._session.log.number_at(parsed.until_ns), self._state.number)
            refs = self._session.log.state_at(number).refs
        ref = ref_of(refs, parsed.name)
        if ref is not None and selector == parsed.name:
            # A collection by its name alone is what it holds now, which is no version.
            require_artifact(ref, parsed.name)
        if ref is None or not ref.newest:
            raise _no_version(view, parsed, ref)
        if parsed.kind in ("latest", "date"):
            return _existing(view, parsed.name, ref.newest)
        if parsed.kind == "number":
            return _numbered(view, parsed, ref)
        if parsed.kind == "alias":
            alias = self.alias_target(parsed.name, parsed.value, view.refs.get(str(parsed)))
            if alias is None:
                known = ", ".join(sorted(self.aliases_in(view, parsed.name))) or "none"
                raise not_found(
                    view.refs,
                    selector,
                    f"{parsed.name!r} has no alias {parsed.value!r}",
                    hint=f"it has versions v1 to v{ref.given} and aliases: {known}",
                )
            return _existing(view, parsed.name, alias.number)
        return self._by_digest(view, parsed)

    def _by_digest(self, view: View, parsed: Selector) -> Found:
        found = [v for v in self.found_in(view, parsed.name) if matches_digest(parsed, v.digest)]
        if len({version.digest for version in found}) > 1:
            raise InvalidInputError(
                f"{parsed.value} begins the digests of {len(found)} versions of {parsed.name!r}",
                hint="write more of the digest",
            )
        if not found:
            problem = f"no version of {parsed.name!r} begins with {parsed.value}"
            raise not_found(view.refs, str(parsed), problem)
        return found[0]

    def version(self, found: Found, *, created_new: bool = False) -> Version:
        """Return the version that was found, its manifest read."""
        assert self.repository is not None
        manifest = self._session.read_manifest(found.digest)
        return Version(
            self.repository,
            found.name,
            found.number,
            found.digest,
            found.stamp,
            manifest,
            created_new=created_new,
        )

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a name, newest first; of a collection, its snapshots.

        Raises:
            ArtifactNotFoundError: there is no such name.
        """
        check_name(name)

        def list_all(view: Published | Departed) -> list[Found]:
            if name not in view.refs:
                raise not_found(view.refs, name, f"there is no artifact {shown(name)}")
            return list(self.found_in(view, name))

        return [self.version(found) for found in self._steadily(list_all)]

    def found_in(self, view: View, name: str) -> Iterator[Found]:
        """Yield the versions of a name that exist, newest first."""
        ref = ref_of(view.refs, name)
        for number in range(ref.newest if ref else 0, 0, -1):
            found = view.find_version(name, number)
            if found is not None:
                yield found

    def aliases_in(self, view: View | State, name: str) -> dict[str, AliasRef]:
        """Return the aliases of a name."""
        prefix = alias_ref(name, "")
        return {
            ref[len(prefix) :]: read_alias_ref(value, ref)
            for ref, value in view.refs.items()
            if ref.startswith(prefix)
        }

    def alias_target(self, name: str, alias: str, value: bytes | None) -> AliasRef | None:
        """Return what an alias's ref says, None where there is none."""
        return None if value is None else read_alias_ref(value, alias_ref(name, alias))

    def find(self, prefix: str, where: Callable[[Version], bool] | None) -> list[Version]:
        """Return the newest version of each artifact below `prefix` for which `where` is true.

        A version whose metadata lacks what `where` looks up (KeyError) does not match.
        """
        found: list[Version] = []
        for version in self.newest(self.names(prefix, "artifact")):
            try:
                if where is None or where(version):
                    found.append(version)
            except KeyError:
                continue
        return found

    def newest(self, names: Iterable[str]) -> list[Version]:
        """Return the newest version of each of these artifacts that is there, all of one moment."""
        wanted = list(names)

        def list_all(view: Published | Departed) -> list[Found]:
            return [self.find_in(view, name) for name in wanted if self.kind_in(view, name) == "artifact"]

        return [self.version(found) for found in self._steadily(list_all)]

    def kind_of(self, name: str) -> Kind | None:
        """Return what a name is now; None where it does not exist."""
        return self.kind_in(self._state, name)

    def kind_in(self, view: View | State, name: str) -> Kind | None:
        """Return what a name is in `view`; None where it does not exist."""
        ref = ref_of(view.refs, check_name(name))
        return ref.kind if ref is not None and ref.number else None

    def exists(self, selector: str) -> bool:
        """Whether `selector` means something now: a version, or a collection by its name alone."""
        return self._steadily(lambda view: self.exists_in(view, selector))

    def exists_in(self, view: View, selector: str) -> bool:
        """Whether `selector` means something in `view`."""
        if parse_selector(selector).name not in view.refs:
            # A name that was ever there keeps its ref. An error would look through all names for one spelled alike.
            return False
        try:
            self.find_in(view, selector)
        except VersionGoneError:
            raise
        except ArtifactNotFoundError:
            return False
        except KindError:
            return "@" not in selector and self.kind_in(view, selector) == "collection"
        return True


def _existing(view: View, name: str, number: int) -> Found:
    found = view.find_version(name, number)
    if found is None:
        raise VersionGoneError(f"{name!r} has no version {number}", selector=version_key(name, number))
    return found


def _no_version(view: View, parsed: Selector, ref: NameRef | None) -> ArtifactNotFoundError:
    if parsed.kind == "date":
        when = format_time(parsed.until_ns)
        message = f"{parsed.name!r} did not exist at {when}"
        if ref is not None and ref.number:
            message = f"collection {parsed.name!r} had no snapshot at {when}"
        return not_found(view.refs, str(parsed), message)
    if ref is not None and ref.kind == "collection" and ref.number:
        return not_found(
            view.refs,
            str(parsed),
            f"collection {parsed.name!r} has no snapshot",
            hint=f"`keepstone snapshot {parsed.name}` makes one",
        )
    if ref is not None and ref.kind == "collection":
        return not_found(
            view.refs, str(parsed), f"there is no collection {shown(parsed.name)} any more: it was removed"
        )
    removed = " any more: its versions were removed" if ref is not None and ref.given else ""
    return not_found(view.refs, str(parsed), f"there is no artifact {shown(parsed.name)}{removed}")


def _numbered(view: View, parsed: Selector, ref: NameRef) -> Found:
    found = view.find_version(parsed.name, parsed.number)
    if found is None:
        gone = "was removed" if parsed.number <= ref.given else "does not exist yet"
        raise not_found(
            view.refs,
            str(parsed),
            f"version {parsed.number} of {parsed.name!r} {gone}",
            hint=f"its newest is v{ref.newest}; `keepstone versions` lists them",
        )
    return found


def _name_refs(refs: Mapping[str, bytes], prefix: str = "") -> list[tuple[str, NameRef]]:
    return [
        (name, read_name_ref(value, name))
        for name, value in sorted(refs.items())
        if name.startswith(prefix) and "@" not in name and not name.startswith(":")
    ]


def not_found(
    refs: Mapping[str, bytes], selector: str, message: str, *, hint: str = ""
) -> ArtifactNotFoundError:
    """Return the error that says what is missing, and what is spelled alike."""
    import difflib

    name = selector.partition("@")[0]
    names = [known for known, ref in _name_refs(refs) if ref.number]
    near = tuple(n for n in difflib.get_close_matches(name, names, n=3, cutoff=0.6) if n != name)
    if not hint:
        hint = f"did you mean {' or '.join(near)}?" if near else "`keepstone list` shows all names"
    return ArtifactNotFoundError(message, selector=selector, near=near, hint=hint)
