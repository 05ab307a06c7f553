"""The rules that every commit keeps, in one place for both sides of the log.

Layer: history. Format: docs/format.md, "Rules of the log". A writer judges its draft before it claims a slot,
a reader judges every commit that it folds, by the same function; what a writer may claim, no reader refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Final, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode
from keepstone.foundation.errors import (
    ConflictError,
    InvalidInputError,
    MalformedError,
    RefConflictError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import (
    INLINE_BYTES_MAX,
    READ_FEATURES,
    REF_NAME_BYTES_MAX,
    REF_VALUE_BYTES_MAX,
    WRITE_FEATURES,
)
from keepstone.history.commit import (
    NO_PARENT,
    SEAL_BYTES,
    Change,
    Commit,
    Draft,
    PackName,
    RefChange,
    where_is,
)

FEATURES_REF: Final = ":features"
HORIZON_PREFIX: Final = ":horizon/"
HORIZON_BYTES: Final = 8


class Rule(StrEnum):
    """Which rule a commit breaks; the value stands in messages."""

    CHAIN = "chain"
    NEEDS = "needs are live"
    FLOOR = "floor never falls, and no pack is added below it"
    DROPPED = "no dropped name is added again"
    DROP = "only live packs are dropped"
    REPLACE = "replacements are whole"
    REF = "refs step from their present value"
    HORIZON = "horizons never fall"
    SEAL = "journals are sealed once"
    SHAPE = "fields agree with each other"


STALE_RULES: Final = frozenset(
    {Rule.NEEDS, Rule.FLOOR, Rule.DROPPED, Rule.DROP, Rule.REPLACE, Rule.HORIZON, Rule.SEAL}
)
"""Rules that a correct draft breaks only because the log moved on: build it again."""


class StaleDraftError(ConflictError):
    """The log moved on and this draft no longer fits; inside `Log.append` the builder then builds again."""

    def __init__(self, message: str, *, rule: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rule = rule


class View(Protocol):
    """What the rules look at: a `State`, or the fold on its way to one."""

    @property
    def number(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def packs(self) -> Collection[PackName]: ...
    @property
    def dropped(self) -> Collection[PackName]: ...
    @property
    def refs(self) -> Mapping[str, bytes]: ...
    @property
    def floor(self) -> int: ...
    @property
    def sealed(self) -> Collection[bytes]: ...


class Violation(NamedTuple):
    """One broken rule."""

    rule: Rule
    message: str
    change: RefChange | None = None
    """For `Rule.REF`: the step whose `old` is not the present value."""


def check_draft(view: View, draft: Draft) -> None:
    """Return if `draft` may be claimed as the commit after `view`.

    Raises:
        RefConflictError: a ref is not at the value that the draft states.
        StaleDraftError: a pack, the floor, a horizon or a journal is no longer as the draft takes it to be.
        InvalidInputError: it could never be committed.
    """
    if draft.inline is not None and Digest.of(draft.inline_bytes) != draft.inline.name.digest:
        raise InvalidInputError(f"the inline bytes are not those of pack {draft.inline.name}")
    found = next(violations(view, draft), None)
    if found is None:
        check_features(draft)
        return
    if found.change is not None:
        present = view.refs.get(found.change.name)
        raise RefConflictError(
            found.message,
            name=found.change.name,
            expected=_value_shown(found.change.old),
            found=_value_shown(present),
            hint="look at its present value, then decide again",
        )
    if found.rule in STALE_RULES:
        raise StaleDraftError(f"{found.message} ({found.rule})", rule=found.rule.name, hint="try again")
    raise InvalidInputError(f"cannot be committed: {found.message} ({found.rule})")


def check_commit(view: View, commit: Commit) -> None:
    """Return if `commit` is a valid continuation of `view`.

    Raises:
        MalformedError: it breaks a rule, which the message names.
    """
    found = _chain_violation(view, commit) or next(violations(view, commit), None)
    if found is not None:
        raise MalformedError(
            f"{where_is(commit.number)} breaks the rule '{found.rule}': {found.message}",
            where=where_is(commit.number),
            hint="run `keepstone fsck`",
        )


def check_features(draft: Draft) -> None:
    """Return if this release may set the `:features` that `draft` sets, if any.

    Raises:
        InvalidInputError: they are not of the format, or unknown here.
    """
    for change in draft.refs:
        if change.name == FEATURES_REF and change.new is not None:
            try:
                locked = read_features(change.new, where=FEATURES_REF)
            except (MalformedError, UnsupportedFormatError) as error:
                raise InvalidInputError(f"cannot be committed: {error}", hint=error.hint) from error
            if locked:
                raise InvalidInputError(
                    "cannot be committed: it sets a feature that this release does not know"
                )


# ---- the rules ---------------------------------------------------------------------------------------------


def violations(view: View, change: Change) -> Iterator[Violation]:
    """Yield every rule that `change`, as the commit after `view`, breaks; chain and features apart."""
    yield from _shape(view, change)
    yield from _packs_added(view, change)
    yield from _packs_removed(view, change)
    yield from _refs(view, change.refs)
    for journal in change.seals:
        if journal in view.sealed:
            yield Violation(Rule.SEAL, f"journal {journal.hex()} is sealed already")


def _chain_violation(view: View, commit: Commit) -> Violation | None:
    if commit.number != view.number + 1:
        return Violation(Rule.CHAIN, f"it stands after commit {view.number}")
    expected = view.hash if view.number >= 0 else NO_PARENT
    if commit.parent != expected:
        return Violation(
            Rule.CHAIN, f"its parent is {commit.parent.hex()}, the commit before is {expected.hex()}"
        )
    return None


def _shape(view: View, change: Change) -> Iterator[Violation]:
    length = view.number + 1
    added = [record.name for record in change.added]
    removed = change.removed
    for what, items in (
        ("adds a pack", added),
        ("drops a pack", removed),
        ("changes a ref", [ref.name for ref in change.refs]),
        ("seals a journal", change.seals),
    ):
        if len(set(items)) != len(items):
            yield Violation(Rule.SHAPE, f"it {what} twice")
    if not set(added).isdisjoint(removed):
        yield Violation(Rule.SHAPE, "it drops a pack that it adds")
    if not set(change.needs).isdisjoint(removed):
        yield Violation(Rule.SHAPE, "it drops a pack that it needs")
    for record in change.added:
        # A base above the length would let a pack slip over floors that condemn it.
        if record.name.base > length:
            yield Violation(Rule.SHAPE, f"pack {record.name} was begun at log length {length} at most")
        if record.footer_size > record.size:
            yield Violation(Rule.SHAPE, f"pack {record.name} has a footer larger than itself")
    if change.inline is not None and change.inline.size > INLINE_BYTES_MAX:
        yield Violation(
            Rule.SHAPE, f"its inline pack has {change.inline.size:,} bytes; at most {INLINE_BYTES_MAX:,}"
        )
    if change.floor is not None and change.floor > length + 1:
        yield Violation(Rule.SHAPE, f"its floor {change.floor} is above the log's length {length + 1}")
    if any(len(journal) != SEAL_BYTES for journal in change.seals):
        yield Violation(Rule.SHAPE, f"a journal's id takes {SEAL_BYTES} bytes")
    for group in change.replace:
        if not group.olds:
            yield Violation(Rule.SHAPE, "a replacement replaces nothing")
        if not set(group.news).issubset(added):
            yield Violation(Rule.SHAPE, "a replacement's new pack is not added")


def _packs_added(view: View, change: Change) -> Iterator[Violation]:
    for name in change.needs:
        if name not in view.packs:
            yield Violation(Rule.NEEDS, f"pack {name}, which it relies on, is not live")
    floor = view.floor
    if change.floor is not None:
        if change.floor < floor:
            yield Violation(Rule.FLOOR, f"its floor is {change.floor}, the present one {floor}")
        floor = max(floor, change.floor)
    for record in change.added:
        # Adding a live name again changes nothing, so nothing can be wrong with it (rule 2).
        if record.name in view.packs:
            continue
        if record.name.base < floor:
            yield Violation(Rule.FLOOR, f"pack {record.name} is below the floor {floor}")
        if record.name in view.dropped:
            yield Violation(Rule.DROPPED, f"pack {record.name} was dropped before")


def _packs_removed(view: View, change: Change) -> Iterator[Violation]:
    for name in change.drop:
        if name not in view.packs:
            yield Violation(Rule.DROP, f"pack {name}, which it drops, is not live")
    for group in change.replace:
        for name in group.olds:
            if name not in view.packs:
                yield Violation(Rule.REPLACE, f"pack {name}, which it replaces, is not live")


def _refs(view: View, changes: tuple[RefChange, ...]) -> Iterator[Violation]:
    for change in changes:
        present = view.refs.get(change.name)
        if not 1 <= len(change.name.encode()) <= REF_NAME_BYTES_MAX:
            yield Violation(Rule.SHAPE, f"a ref's name takes 1 to {REF_NAME_BYTES_MAX} bytes")
        if change.new is not None and len(change.new) > REF_VALUE_BYTES_MAX:
            yield Violation(Rule.SHAPE, f"ref {change.name!r} is longer than {REF_VALUE_BYTES_MAX:,} bytes")
        if present != change.old:
            message = f"ref {change.name!r} is {_value_shown(present)}, not {_value_shown(change.old)}"
            yield Violation(Rule.REF, message, change)
        if change.name.startswith(HORIZON_PREFIX) and change.new != present:
            if change.new is None or len(change.new) != HORIZON_BYTES:
                yield Violation(Rule.SHAPE, f"{change.name!r} is not a time of {HORIZON_BYTES} bytes")
            # Big-endian, so bytes compare as the times do.
            elif present is not None and change.new < present:
                yield Violation(Rule.HORIZON, f"{change.name!r} would go back")


def _value_shown(value: bytes | None) -> str:
    if value is None:
        return "absent"
    return value.hex() if len(value) <= 40 else f"{value[:40].hex()}… ({len(value):,} bytes)"


# ---- horizons and features ---------------------------------------------------------------------------------


def horizon_value(stamp_ns: int) -> bytes:
    """Return the value of a `:horizon/<collection>` ref: entries stamped below it are dead (rule 10)."""
    return stamp_ns.to_bytes(HORIZON_BYTES, "big")


def read_horizon(refs: Mapping[str, bytes], collection: str) -> int:
    """Return the horizon of `collection` [ns]; 0 where none was set."""
    return int.from_bytes(refs.get(HORIZON_PREFIX + collection, b""), "big")


_Feature = Annotated[str, Meta(max_length=64)]


class Features(msgspec.Struct, frozen=True):
    """The value of `:features`: what a release must know to read, and to write, this store."""

    read: Annotated[tuple[_Feature, ...], Meta(max_length=64)] = ()
    write: Annotated[tuple[_Feature, ...], Meta(max_length=64)] = ()


def read_features(value: bytes | None, *, where: str) -> bool:
    """Return whether `:features` of this value lets this release read but not write.

    Raises:
        UnsupportedFormatError: reading needs a feature that this release does not know.
        MalformedError: not of the format.
    """
    if value is None:
        return False
    features = decode(value, Features, what=f"{FEATURES_REF} of {where}", bytes_max=REF_VALUE_BYTES_MAX)
    unknown = sorted(set(features.read) - READ_FEATURES)
    if unknown:
        raise UnsupportedFormatError(
            f"{where} uses {', '.join(unknown)}, which this release cannot read",
            found=", ".join(unknown),
            supported=", ".join(sorted(READ_FEATURES)) or "no features",
            hint="upgrade keepstone",
        )
    return not WRITE_FEATURES.issuperset(features.write)
