"""A transaction: several names change in one commit, or none does; what it has read must still be so.

Layer: repository. Nothing is decided before the block ends: until then content is staged, and reads are answered by the
store as it was when the block began, with the transaction's own changes on top. The commit takes the steps anew on what
others decided meanwhile; it is refused only if something that was read, or expected, has changed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TypeVar

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    KindError,
    RefConflictError,
)
from keepstone.foundation.names import check_alias, check_name, parse_selector
from keepstone.repository.arguments import check_message, check_save
from keepstone.repository.name_view import Found, VersionGoneError
from keepstone.repository.repository import RESTAGES_MAX, Repository, too_fast
from keepstone.repository.secret_watch import Secrets
from keepstone.repository.sketch import ANY, Saved, Sketch
from keepstone.repository.staging import Restage, Staging
from keepstone.repository.version import Version

_NOT_BEGUN: Final = 0
_ENDED: Final = -1
_COLLECTION: Final = "a collection"
_OWN: Final = 0
"""Stands for the number of a version that the transaction itself saves."""

S = TypeVar("S")
Outcome = tuple[int, Digest] | str | None
"""What a selector meant: number and digest of a version, a collection, or nothing."""


class Transaction:
    """Several changes of names, all or none, in one commit: `with store.transaction() as change:`.

    Safe to use from many threads; it belongs to the process that began it. Leaving the block with an exception changes
    nothing. What was read in it must still be so when it ends.
    """

    def __init__(self, repository: Repository, message: str = "") -> None:
        check_message(message)
        repository.session.require_writable()
        self._repository = repository
        self._message = message
        self._lock = threading.RLock()
        self._process = _NOT_BEGUN
        """The process that it belongs to, while it lasts."""
        self._steps: list[Callable[[Sketch], object]] = []
        self._changes = 0
        """How many of the steps are no reads."""
        self._saves: list[tuple[Version, int]] = []
        """Versions that were saved, each with the position of its step."""
        self._own: dict[tuple[str, int], Version] = {}
        """The same by the numbers that they have on the view."""

    def __enter__(self) -> Transaction:
        if self._process != _NOT_BEGUN:
            raise InvalidInputError(
                "this transaction was begun before", hint="begin another one with store.transaction()"
            )
        session = self._repository.session
        session.refresh()
        self._view = Sketch(session, self._repository.naming, session.log.state, checks_expectations=False)
        """The store as it was when the block began, with the steps so far."""
        self._staging = Staging(session)
        self._process = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._using():
            self._process = _ENDED
            try:
                if kind is None and self._changes:
                    self._commit()
            finally:
                for version, _ in self._saves:
                    version.discard()
                del self._staging, self._view

    @contextmanager
    def _using(self) -> Generator[None]:
        # Before the lock, which a forked child may have inherited locked.
        self._require_open()
        with self._lock:
            self._require_open()
            yield

    def _require_open(self) -> None:
        if self._process == os.getpid():
            return
        what = {_NOT_BEGUN: "has not begun", _ENDED: "has ended"}.get(
            self._process, "belongs to another process"
        )
        raise InvalidInputError(
            f"this transaction {what}", hint="use it inside of `with store.transaction() as change:`"
        )

    # ---- changing ----------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: Iterable[str | Version] = (),
        aliases: Iterable[str] = (),
        expected: str | None = ANY,
        serializer: str | None = None,
        secrets: Secrets = "warn",
    ) -> Version:
        """Keep `value` as the next version of `name`, which gets its number when the block ends; see `Store.save`.

        Two saves of one name make two versions. `expected` is looked at when the block ends.

        Raises:
            InvalidInputError, SerializerError, KindError: as `Store.save`; nothing is changed by this call then.
        """
        repository = self._repository
        with self._using():
            wanted = check_save(name, metadata, aliases)
            version = repository.stage_version(
                self._staging,
                name,
                value,
                metadata=metadata,
                parents=repository.parents_of(parents, self._parent),
                serializer=serializer,
                secrets=secrets,
            )
            digest = version.digest_bytes
            saved = self._take(lambda sketch: sketch.save(name, digest, wanted, expected))
            self._saves.append((version, len(self._steps) - 1))
            if saved.created_new:
                self._own[name, saved.found.number] = version
            return version

    def alias(self, selector: str, alias: str, *, expected: str | None = ANY) -> None:
        """Let `alias` mean what `selector` means when the block ends; see `Store.alias`.

        Raises:
            ArtifactNotFoundError: `selector` means nothing.
        """
        with self._using():
            check_alias(alias)
            self._refuse_tentative(self._view, selector)
            if isinstance(expected, str) and expected != ANY:
                self._refuse_tentative(self._view, expected)
            self._take(lambda sketch: sketch.alias(selector, alias, expected))

    def unalias(self, name: str, alias: str) -> None:
        """Remove an alias; the version that it meant stays.

        Raises:
            ArtifactNotFoundError: there is no such alias.
        """
        with self._using():
            check_name(name)
            check_alias(alias)
            self._take(lambda sketch: sketch.unalias(name, alias))

    def remove(self, selector: str) -> None:
        """Remove one version, or an artifact with all its versions and aliases; see `Store.remove`.

        Raises:
            ArtifactNotFoundError: there is nothing of that name.
            ConflictError: an alias still means the version.
            KindError: it is a collection, whose items are not part of any commit.
        """
        with self._using():
            self._refuse_tentative(self._view, selector)
            self._take(lambda sketch: sketch.remove(selector))

    def _take(self, step: Callable[[Sketch], S]) -> S:
        # On the view first: what cannot be done is refused where it is asked for.
        try:
            result = step(self._view)
        except VersionGoneError as error:
            raise _moved(error.selector, "there", "removed") from error
        self._steps.append(step)
        self._changes += 1
        return result

    def _parent(self, selector: str) -> Version:
        # Lineage says what was used; it need not be the newest when the block ends.
        return self._version(self._find(self._view, selector))

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(self, selector: str, *, type: Any = None, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value that `selector` means, a fresh copy; see `Store.load` and `resolve`."""
        return self.resolve(selector).load(type, allow_pickle=allow_pickle)

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means: of this transaction's own, else as it was when the block began.

        It must mean the same when the block ends.

        Raises:
            ArtifactNotFoundError: it means nothing; that must still be so as well.
            RefConflictError: the version was removed since the block began.
        """
        with self._using():
            self._remember(selector)
            return self._version(self._find(self._view, selector))

    def exists(self, selector: str) -> bool:
        """Whether `selector` means something; the answer must be the same when the block ends."""
        with self._using():
            return self._remember(selector) is not None

    def _remember(self, selector: str) -> Outcome:
        """Return what `selector` means on the view, and make sure that it still does when the block ends."""
        try:
            then = self._outcome(self._view, selector)
        except VersionGoneError as error:
            raise _moved(selector, "there", "removed") from error

        def check(sketch: Sketch) -> None:
            now = self._outcome(sketch, selector)
            # Of an own version the content counts: its number is given at the end. What was the newest already when it
            # was saved here is an own one by then, if others saved meanwhile.
            if isinstance(then, tuple) and isinstance(now, tuple) and _OWN in (then[0], now[0]):
                same = now[1] == then[1]
            else:
                same = now == then
            if not same:
                raise _moved(selector, _shown(then), _shown(now))

        self._steps.append(check)
        return then

    def _outcome(self, sketch: Sketch, selector: str) -> Outcome:
        if parse_selector(selector).name not in sketch.refs:
            return None
        try:
            found = self._find(sketch, selector)
        except VersionGoneError:
            raise
        except ArtifactNotFoundError:
            return None
        except KindError:
            name = parse_selector(selector).name
            is_collection = selector == name and self._repository.naming.kind_in(sketch, name) == "collection"
            return _COLLECTION if is_collection else None
        return (found.number if found.stamp else _OWN, found.digest)

    def _find(self, sketch: Sketch, selector: str) -> Found:
        self._refuse_tentative(sketch, selector)
        return self._repository.naming.find_in(sketch, selector)

    def _refuse_tentative(self, sketch: Sketch, selector: str) -> None:
        # The number of an own version may be another one when the block ends.
        parsed = parse_selector(selector)
        found = sketch.find_version(parsed.name, parsed.number) if parsed.kind == "number" else None
        if found is not None and not found.stamp:
            raise ArtifactNotFoundError(
                f"version {parsed.number} of {parsed.name!r} does not exist yet",
                selector=selector,
                hint="what a transaction saves gets its number when the block ends; use the name alone",
            )

    def _version(self, found: Found) -> Version:
        own = None if found.stamp else self._own.get((found.name, found.number))
        return own or self._repository.naming.version(found)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        self._staging.settle()
        for _ in range(RESTAGES_MAX):
            try:
                self._repository.decide(self._replay, self._staging, self._message, self._settle)
            except Restage:
                self._staging = self._staging.renewed()
                continue
            return
        raise too_fast()

    def _replay(self, sketch: Sketch) -> list[object]:
        return [step(sketch) for step in self._steps]

    def _settle(self, results: list[object], sketch: Sketch) -> None:
        for version, position in self._saves:
            saved = results[position]
            if isinstance(saved, Saved):
                sketch.settle(version, saved)


def _moved(selector: str, then: str, now: str) -> RefConflictError:
    return RefConflictError(
        f"{selector!r} was {then} when this transaction read it, and is {now} now",
        name=selector,
        expected=then,
        found=now,
        hint="nothing was changed; run the whole block again",
    )


def _shown(outcome: Outcome) -> str:
    if outcome is None:
        return "absent"
    if isinstance(outcome, str):
        return outcome
    number, digest = outcome
    return f"v{number}" if number != _OWN else f"what it saved itself ({digest})"
