"""Checkpoints: the state after one commit, kept so that opening need not fold the whole log.

Layer: history. Format: docs/format.md, "Checkpoints". Any of them may be missing, damaged or ahead of the
log: one counts only if its commit exists and has the hash that it names. Equal states give equal bytes.
Sizes are bytes.
"""

from __future__ import annotations

import string
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode
from keepstone.foundation.errors import (
    DigestMismatchError,
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    ObjectExistsError,
)
from keepstone.foundation.format import (
    CHECKPOINT_BYTES_MAX,
    CHECKPOINT_LAST_KEY,
    CHECKPOINT_PREFIX,
    Kind,
    checkpoint_key,
)
from keepstone.foundation.frame import compress_frame, decode_frame, encode_frame
from keepstone.history.commit import Hash, Natural, PackName, RefName, RefValue, SealId, encode_struct
from keepstone.history.slots import Slots
from keepstone.history.state import DroppedPack, LivePack, State, TimeRun
from keepstone.history.validate import FEATURES_REF, read_features
from keepstone.storage.base import Storage

PIECE_BYTES: Final = 16 * 1024 * 1024
"""A longer state is cut into frames of this size."""
LAST_BYTES_MAX: Final = 1024
COMMITS_MIN: Final = 128
"""A new checkpoint waits for more commits than this."""
BYTES_FRACTION: Final = 4
"""... and for a tail longer than the last checkpoint divided by this."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A state as it is stored: mappings as lists sorted by key."""

    number: Natural
    hash: Hash
    time: Natural
    floor: Natural
    log_bytes: Natural
    runs: tuple[TimeRun, ...]
    refs: list[tuple[RefName, RefValue]]
    packs: list[LivePack]
    dropped: list[tuple[PackName, DroppedPack]]
    sealed: list[tuple[SealId, Natural]]


class _Last(msgspec.Struct, frozen=True, array_like=True):
    """The content of `checkpoints/LAST`."""

    key: Annotated[str, Meta(max_length=255)]
    size: Natural
    log_bytes: Natural


class Mark(NamedTuple):
    """The newest checkpoint that a log knows of."""

    number: int = -1
    size: int = 0
    log_bytes: int = 0
    """Of the state in it, so that the tail's bytes are a subtraction."""


class Found(NamedTuple):
    """A checkpoint that counts."""

    state: State
    mark: Mark


def encode_checkpoint(state: State) -> bytes:
    """Return `state` (of a commit, not the empty one) as the bytes of a checkpoint.

    Raises:
        InvalidInputError: it is above the limit.
    """
    raw = encode_struct(
        _Stored(
            number=state.number,
            hash=state.hash,
            time=state.time,
            floor=state.floor,
            log_bytes=state.log_bytes,
            runs=state.runs,
            refs=sorted(state.refs.items()),
            packs=[state.packs[name] for name in sorted(state.packs)],
            dropped=sorted(state.dropped.items(), key=lambda item: item[0]),
            sealed=sorted(state.sealed.items()),
        )
    )
    if len(raw) > CHECKPOINT_BYTES_MAX:
        raise InvalidInputError(
            f"a checkpoint of {len(raw):,} bytes is above the limit of {CHECKPOINT_BYTES_MAX:,}"
        )
    return b"".join(
        compress_frame(Kind.CHECKPOINT, raw[start : start + PIECE_BYTES])
        for start in range(0, len(raw), PIECE_BYTES)
    )


def decode_checkpoint(data: bytes, *, where: str) -> State:
    """Return the state that `data` holds.

    Raises:
        CorruptionError: damaged, or not of the format.
        UnsupportedFormatError: written by a newer release, or the state has a feature unknown here.
    """
    pieces: list[bytes] = []
    offset = size = 0
    while offset < len(data):
        piece, offset = decode_frame(data, offset, kind=Kind.CHECKPOINT, where=where)
        pieces.append(piece)
        size += len(piece)
        if size > CHECKPOINT_BYTES_MAX:
            raise MalformedError(f"{where} holds more than {CHECKPOINT_BYTES_MAX:,} bytes", where=where)
    stored = decode(b"".join(pieces), _Stored, what=where, bytes_max=CHECKPOINT_BYTES_MAX)
    refs = dict(stored.refs)
    return State(
        number=stored.number,
        hash=stored.hash,
        time=stored.time,
        packs=MappingProxyType({pack.name: pack for pack in stored.packs}),
        dropped=MappingProxyType(dict(stored.dropped)),
        refs=MappingProxyType(refs),
        floor=stored.floor,
        sealed=MappingProxyType(dict(stored.sealed)),
        runs=stored.runs,
        log_bytes=stored.log_bytes,
        read_only=read_features(refs.get(FEATURES_REF), where=where),
    )


def number_of(key: str) -> int | None:
    """Return the commit number in a checkpoint's key; None if it is not the key of one."""
    number, dash, digest = key.removeprefix(CHECKPOINT_PREFIX).partition("-")
    if not key.startswith(CHECKPOINT_PREFIX) or not dash or len(number) != 20 or len(digest) != 64:
        return None
    if not (number.isascii() and number.isdigit()) or not set(string.hexdigits.lower()).issuperset(digest):
        return None
    return int(number)


class Checkpoints:
    """The checkpoints of one store. Reading them only saves time, so no trouble with one is an error."""

    def __init__(self, storage: Storage, slots: Slots) -> None:
        self._storage = storage
        self._slots = slots

    def hinted(self) -> Found | None:
        """Return the checkpoint that LAST names, if it counts."""
        last = self._read_last()
        return None if last is None else self._load(last.key)

    def listed(self, *, above: int = -1, number_max: int | None = None) -> Found | None:
        """Return the newest checkpoint that counts, of a commit above `above` and not above `number_max`."""
        try:
            keys = [info.key for info in self._storage.list(CHECKPOINT_PREFIX)]
        except KeepstoneError:
            return None
        for key in sorted(keys, reverse=True):
            number = number_of(key)
            if number is None or number <= above or (number_max is not None and number > number_max):
                continue
            found = self._load(key)
            if found is not None:
                return found
        return None

    def write_if_due(self, state: State, mark: Mark) -> Mark:
        """Write a checkpoint of `state` if it is time to; return the newest one known then.

        Never raises: a commit that stands must not fail for want of a checkpoint.
        """
        if not self._storage.writable or not _is_due(state, mark):
            return mark
        try:
            last = self._read_last()
            number = None if last is None else number_of(last.key)
            if last is not None and number is not None and mark.number < number <= state.number:
                # Another process was first. Without this look every writer would write its own.
                mark = Mark(number, last.size, last.log_bytes)
                if not _is_due(state, mark):
                    return mark
            return self.write(state)
        except KeepstoneError:
            # Try again when as much has come again, not at every commit from now on.
            return mark._replace(number=state.number, log_bytes=state.log_bytes)

    def write(self, state: State) -> Mark:
        """Write a checkpoint of `state` and point LAST to it."""
        data = encode_checkpoint(state)
        key = checkpoint_key(state.number, Digest.of(data).hex())
        try:
            self._storage.write_new(key, data)
        except ObjectExistsError:
            pass
        last = encode_struct(_Last(key, len(data), state.log_bytes))
        self._storage.write_hint(CHECKPOINT_LAST_KEY, encode_frame(Kind.CHECKPOINT, last))
        return Mark(state.number, len(data), state.log_bytes)

    def _read_last(self) -> _Last | None:
        try:
            data = self._storage.read_range(CHECKPOINT_LAST_KEY, 0, LAST_BYTES_MAX)
            raw, _ = decode_frame(data, kind=Kind.CHECKPOINT, where=CHECKPOINT_LAST_KEY)
            return decode(raw, _Last, what=CHECKPOINT_LAST_KEY, bytes_max=LAST_BYTES_MAX)
        except KeepstoneError:
            return None

    def _load(self, key: str) -> Found | None:
        number = number_of(key)
        if number is None:
            return None
        try:
            # The commit first: it is small, and without it the rest is not worth reading.
            commit = self._slots.find(number)
            if commit is None:
                return None
            data = self._storage.read(key)
            _check_digest(key, data)
            state = decode_checkpoint(data, where=key)
        except KeepstoneError:
            # Folding the log meets again what is damaged or unsupported for good, and says so by its commit.
            return None
        if state.number != number or state.hash != commit.hash:
            return None
        return Found(state, Mark(number, len(data), state.log_bytes))


def _is_due(state: State, mark: Mark) -> bool:
    return (
        state.number - mark.number > COMMITS_MIN
        and (state.log_bytes - mark.log_bytes) * BYTES_FRACTION > mark.size
    )


def _check_digest(key: str, data: bytes) -> None:
    expected, actual = key[-64:], Digest.of(data)
    if actual.hex() != expected:
        raise DigestMismatchError(f"{key} reads as {actual}", expected=f"b3:{expected}", actual=str(actual))
