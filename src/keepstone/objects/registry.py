"""The serializers at hand, and which of them saves or loads a value.

Layer: objects. Others are found through the entry point group `keepstone.serializers` (the entry's name is the id),
which is looked at only when no built-in one fits. Those whose values come from other people's libraries are imported
when such a value, or an artifact of theirs, is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from keepstone.foundation.errors import InvalidInputError, SerializerError, UnsupportedFormatError
from keepstone.objects.manifest import Manifest
from keepstone.objects.models import shown_type
from keepstone.objects.roundtrip import hint_for
from keepstone.objects.serializer import (
    PICKLE_ID,
    Declined,
    Dumped,
    OpensItems,
    Reader,
    ReadParts,
    Serializer,
)

ENTRY_POINT_GROUP: Final = "keepstone.serializers"


class Later:
    """A serializer that is made, and its module imported, when a value may be its own or an artifact is."""

    def __init__(
        self,
        id: str,  # noqa: A002
        make: Callable[[], Serializer],
        *,
        libraries: tuple[str, ...] = (),
        method: str = "",
    ) -> None:
        """`libraries` are those that its values come from; others have the method `method`."""
        self.id = id
        self._make = make
        self._libraries = libraries
        self._method = method

    @cached_property
    def serializer(self) -> Serializer:
        """The serializer itself; the same one for all threads, since it may remember what it saw."""
        return self.__dict__.setdefault("serializer", self._make())

    def matches(self, value: object) -> bool:
        """Whether the serializer takes `value`."""
        may = hasattr(type(value), self._method) or not sys.modules.keys().isdisjoint(self._libraries)
        return may and self.serializer.matches(value)


class Registry:
    """The serializers at hand: registered ones first, the newest before all; then the built-in ones."""

    def __init__(
        self, serializers: Iterable[Serializer | Later] = (), *, group: str = ENTRY_POINT_GROUP
    ) -> None:
        self._serializers: list[Serializer | Later] = list(serializers)
        self._group = group
        self._failures: list[str] = []
        self._installed: dict[str, Serializer] | None = None

    def register(self, serializer: Serializer) -> None:
        """Put `serializer` before all others; one of the same id is replaced."""
        if serializer.id == PICKLE_ID:
            raise InvalidInputError("serializer id 'pickle' is taken", hint="choose another id")
        others = [known for known in self._serializers if known.id != serializer.id]
        self._serializers = [serializer, *others]

    def find(self, value: object, id: str | None = None) -> Serializer:  # noqa: A002
        """Return the serializer that saves `value`: the one named `id`, else the first that matches.

        Asking for "pickle" by name is the consent to write one.

        Raises:
            SerializerError: there is none; says what to do with such a value.
        """
        if id is not None:
            return self.by_id(id, allow_pickle=True)
        for serializer in self._matching(value):
            return serializer
        raise self._nothing_saves(value)

    def dump(self, value: object, id: str | None = None) -> tuple[Serializer, Dumped]:  # noqa: A002
        """Take `value` apart; return by whom and into what. `id` as for `find`.

        Raises:
            SerializerError: nothing saves it, or it would not load as it is.
        """
        if id is not None:
            chosen = self.by_id(id, allow_pickle=True)
            return chosen, chosen.dump(value)
        declined: Declined | None = None
        for serializer in self._matching(value):
            try:
                return serializer, serializer.dump(value)
            except Declined as error:
                declined = declined or error
        raise declined or self._nothing_saves(value)

    def _matching(self, value: object) -> Iterator[Serializer]:
        for known in self._serializers:
            if known.matches(value):
                yield _made(known)
        for serializer in self._load_installed().values():
            if serializer.matches(value):
                yield serializer

    def _nothing_saves(self, value: object) -> SerializerError:
        failed = f" ({'; '.join(self._failures)})" if self._failures else ""
        return SerializerError(
            f"cannot save value: nothing here saves a {shown_type(type(value))}{failed}",
            hint=f'{hint_for(value)}; serializer="pickle" saves anything, for trusted readers only',
        )

    def by_id(self, id: str, *, version: int = 1, allow_pickle: bool = False) -> Serializer:  # noqa: A002
        """Return the serializer `id` that can read what its `version` wrote.

        Raises:
            SerializerError: it is not installed, or it is pickle and that was not allowed.
            UnsupportedFormatError: the one at hand is older.
        """
        if id == PICKLE_ID and not allow_pickle:
            raise SerializerError(
                "this artifact is a pickle, and loading a pickle can run any code that is in it",
                hint="pass allow_pickle=True if you trust whoever saved it",
            )
        serializer = next((_made(known) for known in self._serializers if known.id == id), None)
        if serializer is None:
            serializer = self._load_installed().get(id)
        if serializer is None:
            failed = f" ({'; '.join(self._failures)})" if self._failures else ""
            raise SerializerError(
                f"no serializer {id!r} is registered or installed{failed}",
                hint=f"install the package that provides {id!r}, or register() one (group {self._group})",
            )
        if version > serializer.version:
            raise UnsupportedFormatError(
                f"this artifact was written by version {version} of serializer {id!r}",
                found=f"{id} {version}",
                supported=f"{id} {serializer.version}",
                hint="upgrade keepstone, or the package that provides the serializer",
            )
        return serializer

    def load(
        self,
        manifest: Manifest,
        read: Reader,
        type: Any = None,  # noqa: A002
        *,
        allow_pickle: bool = False,
    ) -> Any:
        """Return the value that `manifest` describes; `read` gives a part's verified bytes.

        Raises:
            SerializerError: no serializer (names the packages that it needs), no such `type`, or pickle
                without consent.
        """
        try:
            serializer = self.by_id(
                manifest.serializer, version=manifest.serializer_version, allow_pickle=allow_pickle
            )
        except SerializerError as error:
            if manifest.packages and manifest.serializer != PICKLE_ID:
                wanted = " ".join(f"{name}=={version}" for name, version in sorted(manifest.packages.items()))
                error.hint += f"; it was saved with {wanted}"
            raise
        return serializer.load(manifest, read, type)

    def open(self, manifest: Manifest, read: ReadParts) -> Mapping[str, Any] | None:
        """Return the items of the value that `manifest` describes; None where its serializer reads it whole only.

        Raises:
            SerializerError: no serializer.
        """
        serializer = self.by_id(manifest.serializer, version=manifest.serializer_version, allow_pickle=True)
        return serializer.open(manifest, read) if isinstance(serializer, OpensItems) else None

    def _load_installed(self) -> dict[str, Serializer]:
        if self._installed is None:
            from importlib import metadata

            installed: dict[str, Serializer] = {}
            for entry in metadata.entry_points(group=self._group):
                # One broken package must not stop the others; the message names it if nothing fits.
                try:
                    made: Any = entry.load()
                    found: Serializer = made() if isinstance(made, type) else made
                    if entry.name != PICKLE_ID and found.id == entry.name:
                        installed[entry.name] = found
                    else:
                        self._failures.append(f"entry point {entry.name!r} gives serializer {found.id!r}")
                except Exception as error:
                    self._failures.append(f"entry point {entry.name!r} failed: {error}")
            self._installed = installed
        return self._installed


def _made(known: Serializer | Later) -> Serializer:
    return known.serializer if isinstance(known, Later) else known
