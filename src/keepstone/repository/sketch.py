"""What names will mean after the commit that is being drafted: one state of the log, and the steps taken on it.

Layer: repository. All that changes names (a save, an alias, a removal, a transaction of them, an undo) takes its steps
on a sketch, and the log commits the draft; when the log has moved on, they are taken again on a new sketch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from keepstone.blobs.footer import Entry
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ConflictError, RefConflictError
from keepstone.foundation.format import Form
from keepstone.foundation.names import parse_selector
from keepstone.history.commit import Commit, Draft, PackName, RefChange
from keepstone.history.state import State
from keepstone.repository.name_view import Found, Published
from keepstone.repository.naming import Naming, not_found
from keepstone.repository.refs import (
    VERSIONS,
    AliasRef,
    Kind,
    NameRef,
    alias_ref,
    check_kind,
    read_name_ref,
    text_of,
    version_key,
)
from keepstone.repository.session import Session
from keepstone.repository.staging import Staging
from keepstone.repository.version import Version

ANY: Final = "any"
"""`expected=ANY`: whatever stands there now."""


class Saved(NamedTuple):
    """What a save came to."""

    found: Found
    created_new: bool


class _Refs(Mapping[str, bytes]):
    """Refs of a state below, changes of them above; None stands for a ref that goes."""

    def __init__(self, below: Mapping[str, bytes]) -> None:
        self.below = below
        self.above: dict[str, bytes | None] = {}

    def __getitem__(self, name: str) -> bytes:
        value = self.above[name] if name in self.above else self.below.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self.below if name not in self.above)
        yield from (name for name, value in self.above.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def changes(self) -> list[RefChange]:
        """Return the steps from below to above."""
        steps = (RefChange(name, self.below.get(name), new) for name, new in self.above.items())
        return [step for step in steps if step.old != step.new]


class Sketch:
    """Steps on one state. Each is taken whole, or raises and leaves the sketch as it was."""

    def __init__(
        self, session: Session, naming: Naming, state: State, *, checks_expectations: bool = True
    ) -> None:
        self._session = session
        self._naming = naming
        self._published = Published(session, state)
        self._checks_expectations = checks_expectations
        self.state = state
        self._refs = _Refs(state.refs)
        self._versions: dict[tuple[str, int], Found | None] = {}
        """Made or given back by the steps; None where they removed one."""
        self._aliases: defaultdict[str, set[str]] | None = None
        """Refs of aliases by the name in front, once they are asked for: removing many names looks at each ref once."""
        self._stated: set[str] = set()
        """Names whose refs must not move: this commit relies on a version of theirs."""
        self.needs: set[PackName] = set()
        """Packs that it relies on and no ref reaches yet."""
        self.commit: Commit | None = None
        """What came of it, once that stands."""

    @property
    def refs(self) -> Mapping[str, bytes]:
        """The refs after the steps."""
        return self._refs

    def has_set(self, ref: str) -> bool:
        """Whether a step has set or removed this ref."""
        return ref in self._refs.above

    def find_version(self, name: str, number: int) -> Found | None:
        """Return a version as it is after the steps, None where there is no such one."""
        if (name, number) in self._versions:
            return self._versions[name, number]
        return self._published.find_version(name, number)

    def name_ref(self, name: str) -> NameRef | None:
        """Return what the ref of a name says after the steps, None where it was never used."""
        value = self._refs.get(name)
        return None if value is None else read_name_ref(value, name)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def save(
        self, name: str, digest: Digest, aliases: Iterable[str], expected: str | None, kind: Kind = "artifact"
    ) -> Saved:
        """Let the manifest `digest` be the newest version of `name`; a new one unless it is already.

        Raises:
            RefConflictError: the newest version is not the expected one.
            KindError: the name is of the other kind.
        """
        old = self._refs.get(name)
        ref = read_name_ref(old, name) if old is not None else NameRef(kind)
        check_kind(ref, name, kind)
        if self._checks_expectations:
            _require_expected(name, ref, expected)
        if ref.newest and ref.digest == digest:
            same = self.find_version(name, ref.newest)
            saved = Saved(same or Found(name, ref.newest, digest, 0), False)
        else:
            number = ref.given + 1
            saved = Saved(Found(name, number, digest, 0), True)
            self.put(saved.found)
            self.set_name(name, ref.at_version(number, bytes(digest)))
        for alias in aliases:
            self._point(alias, saved.found)
        return saved

    def alias(self, selector: str, alias: str, expected: str | None) -> Found:
        """Let `alias` mean what `selector` means after the steps so far.

        Raises:
            ArtifactNotFoundError: that is nothing.
            RefConflictError: the alias does not mean the expected version.
        """
        found = self._naming.find_in(self, selector)
        if self._checks_expectations:
            self._require_alias(found.name, alias, expected)
        self._point(alias, found)
        return found

    def unalias(self, name: str, alias: str) -> None:
        """Remove an alias.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        target = alias_ref(name, alias)
        if target not in self._refs:
            raise not_found(self._refs, target, f"{name!r} has no alias {alias!r}")
        self.set_ref(target, None)

    def remove(self, selector: str) -> tuple[str, ...]:
        """Remove one version, or an artifact with all its versions and aliases; return the versions' selectors.

        Raises:
            ArtifactNotFoundError: there is nothing of that name.
            ConflictError: an alias means the version; only a whole name takes its aliases with it.
            KindError: it is a collection by its name alone, whose items are part of no commit.
        """
        name = parse_selector(selector).name
        whole = selector == name
        ref = self.name_ref(name) or NameRef("artifact")
        if whole:
            check_kind(ref, name, "artifact")
        versions = (
            list(self._naming.found_in(self, name)) if whole else [self._naming.find_in(self, selector)]
        )
        if not versions:
            raise not_found(self._refs, selector, f"there is no artifact {name!r}")
        return self._drop(name, ref, versions, whole=whole)

    def remove_collection(self, name: str) -> tuple[str, ...]:
        """Remove the name of a collection with its snapshots and aliases; return it, and the snapshots' selectors."""
        ref = self.name_ref(name)
        if ref is None or not ref.number:
            return (name,)
        versions = list(self._naming.found_in(self, name))
        return (name, *self._drop(name, msgspec.structs.replace(ref, number=0), versions, whole=True))

    def _drop(self, name: str, ref: NameRef, versions: list[Found], *, whole: bool) -> tuple[str, ...]:
        gone = {version.number for version in versions}
        for alias in self.require_unaliased(name, gone, whole=whole):
            self.set_ref(alias_ref(name, alias), None)
        for number in gone:
            self.take_away(name, number)
        newest = next(self._naming.found_in(self, name), None)
        number, digest = (newest.number, bytes(newest.digest)) if newest else (0, b"")
        self.set_name(
            name, msgspec.structs.replace(ref.at_version(number, digest), removals=ref.removals + 1)
        )
        return tuple(version.selector for version in versions)

    def require_unaliased(self, name: str, numbers: set[int], *, whole: bool = False) -> list[str]:
        """Return the aliases that mean one of these versions, sorted; there must be none unless the `whole` name goes.

        Raises:
            ConflictError: an alias means one of them.
        """
        means = {alias: number for alias, number in self._aliases_of(name) if number in numbers}
        if means and not whole:
            alias, number = next(iter(sorted(means.items())))
            raise ConflictError(
                f"alias {alias!r} means v{number} of {name!r}",
                hint=f"move it first, or remove it with `keepstone remove {name}@{alias}`",
            )
        return sorted(means)

    # ---- what steps are made of --------------------------------------------------------------------------------------

    def put(self, found: Found) -> None:
        """Let a version be there."""
        self._versions[found.name, found.number] = found

    def take_away(self, name: str, number: int) -> None:
        """Let a version not be there.

        One that an earlier step made leaves a tombstone as well: a number of which nothing is known counts as lost.
        """
        self._versions[name, number] = None

    def set_ref(self, name: str, value: bytes | None) -> None:
        """Let a ref be `value` after the commit; None for absent."""
        self._refs.above[name] = value
        if self._aliases is not None and "@" in name:
            self._aliases[name.partition("@")[0]].add(name)

    def set_name(self, name: str, ref: NameRef) -> None:
        """Let the ref of a name be `ref` after the commit."""
        self.set_ref(name, ref.encoded())

    def state_name(self, name: str) -> None:
        """Rely on a name's ref as it is in the state."""
        self._stated.add(name)

    def _point(self, alias: str, found: Found) -> None:
        # Reached by a ref already: stating it is enough, nothing needs to be written again.
        self.set_ref(alias_ref(found.name, alias), AliasRef(found.number, bytes(found.digest)).encoded())
        self.state_name(found.name)

    def _aliases_of(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield the aliases of a name and the numbers of the versions that they mean."""
        if self._aliases is None:
            self._aliases = defaultdict(set)
            for ref in self._refs:
                if "@" in ref:
                    self._aliases[ref.partition("@")[0]].add(ref)
        for ref in self._aliases.get(name, ()):
            target = self._naming.alias_target(name, ref.partition("@")[2], self._refs.get(ref))
            if target is not None:
                yield ref.partition("@")[2], target.number

    def _require_alias(self, name: str, alias: str, expected: str | None) -> None:
        if expected == ANY:
            return
        target = alias_ref(name, alias)
        found = self._naming.alias_target(name, alias, self._refs.get(target))
        wanted = None if expected is None else self._naming.find_in(self, expected).digest
        if (None if found is None else Digest(found.digest)) != wanted:
            at = "absent" if found is None else f"v{found.number}"
            raise RefConflictError(
                f"alias {target} is {at}, not {expected or 'absent'}",
                name=target,
                expected=expected or "absent",
                found=at,
                hint="look at it again and decide anew",
            )

    def settle(self, version: Version, saved: Saved) -> None:
        """Tell a version that was staged what this sketch, which was committed, made of it."""
        found = self.find_version(saved.found.name, saved.found.number) or saved.found
        version.settle(found.number, found.stamp, saved.created_new)

    # ---- the commit --------------------------------------------------------------------------------------------------

    def draft(self, staging: Staging, message: str) -> Draft | None:
        """Return the commit of all steps, None where they come to nothing.

        Raises:
            Restage: what was staged relies on a pack that is not live any more.
        """
        refs = self._refs.changes()
        if not refs:
            return None
        moved = {change.name for change in refs}
        for name in sorted(self._stated - moved):
            value = self.state.refs.get(name)
            refs.append(RefChange(name, value, value))
        entries: list[tuple[str, Entry]] = []
        for (name, number), found in self._versions.items():
            key = version_key(name, number)
            stamp = self._session.stamp(VERSIONS, key)
            digest = None if found is None else found.digest
            entry = Entry(key, stamp, self._session.spool.writer, digest, Form.MANIFEST)
            entries.append((VERSIONS, entry))
            if found is not None:
                self._versions[name, number] = found._replace(stamp=stamp)
        if not entries:
            return Draft(message=message, refs=tuple(refs), needs=tuple(sorted(self.needs)))
        return staging.draft(
            self.state, message=message, refs=tuple(refs), entries=tuple(entries), needs=self.needs
        )


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
