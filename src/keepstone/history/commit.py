"""Commits: what one append to the log decides, and the bytes of its slot.

Layer: history. Format: docs/format.md, "Commits". A slot is one header frame and, behind it, the bytes of
a small pack (the inline pack). Commits are chained by the hash of the header frame alone, so trimming the
inline bytes away breaks nothing. Sizes and offsets are bytes, times are nanoseconds since 1970.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.encoding import decode
from keepstone.foundation.errors import DigestMismatchError, InvalidInputError, MalformedError
from keepstone.foundation.format import (
    COMMIT_BYTES_MAX,
    FORMAT_VERSION,
    INLINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX,
    REF_NAME_BYTES_MAX,
    REF_VALUE_BYTES_MAX,
    Codec,
    Kind,
    log_key,
    pack_key,
)
from keepstone.foundation.frame import encode_frame, read_header, read_payload

DAY_NS: Final = 86_400 * 10**9
NO_PARENT: Final = bytes(DIGEST_BYTES)
"""The parent of commit 0."""
TXN_BYTES: Final = 16
WRITER_BYTES: Final = 8
SEAL_BYTES: Final = 16
STORE_ID_BYTES_MAX: Final = 64

_INT_MAX: Final = 2**63 - 1

Natural = Annotated[int, Meta(ge=0, le=_INT_MAX)]
Hash = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Txn = Annotated[bytes, Meta(min_length=TXN_BYTES, max_length=TXN_BYTES)]
WriterId = Annotated[bytes, Meta(min_length=WRITER_BYTES, max_length=WRITER_BYTES)]
StoreId = Annotated[bytes, Meta(min_length=1, max_length=STORE_ID_BYTES_MAX)]
SealId = Annotated[bytes, Meta(min_length=SEAL_BYTES, max_length=SEAL_BYTES)]
RefName = Annotated[str, Meta(min_length=1, max_length=REF_NAME_BYTES_MAX)]
RefValue = Annotated[bytes, Meta(max_length=REF_VALUE_BYTES_MAX)]
CollectionName = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
Message = Annotated[str, Meta(max_length=MESSAGE_BYTES_MAX)]


class PackName(msgspec.Struct, frozen=True, order=True, array_like=True):
    """The name of a pack; no two packs ever share one, over the whole life of a store."""

    base: Natural
    """The log's length when the pack was begun."""
    digest: Hash
    """BLAKE3 of the pack's stored bytes."""

    def __str__(self) -> str:
        return f"{self.base:020d}-{self.digest.hex()}"

    @property
    def key(self) -> str:
        """The storage key, unless the pack is inline in a commit."""
        return pack_key(self.base, self.digest.hex())


class PackRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a commit says about a pack that it adds: enough to open it in one request."""

    name: PackName
    size: Natural
    footer_size: Natural
    entries: Natural
    collections: tuple[CollectionName, ...]
    stamp_max: Natural
    """Highest stamp of its entries [ns]; 0 without entries."""
    origin: Annotated[int, Meta(ge=0, le=255)]
    """A value of `format.Origin`."""


class RefChange(msgspec.Struct, frozen=True, array_like=True):
    """One ref's step from `old` to `new`; None is absence.

    `old == new` states what must still be so (rule 3).
    """

    name: RefName
    old: RefValue | None
    new: RefValue | None


class Replacement(msgspec.Struct, frozen=True, array_like=True):
    """A repack: `olds` are dropped because `news`, added by the same commit, hold what is kept of them.

    Olds stand here only, not in `drop` as well. A group is valid as a whole or not at all (rule 4).
    """

    olds: tuple[PackName, ...]
    news: tuple[PackName, ...]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What a commit does to the state; shared by drafts and commits, so that one set of rules judges both."""

    message: Message = ""
    add: tuple[PackRecord, ...] = ()
    inline: PackRecord | None = None
    """A pack whose bytes stand in the slot itself; not repeated in `add`."""
    drop: tuple[PackName, ...] = ()
    replace: tuple[Replacement, ...] = ()
    needs: tuple[PackName, ...] = ()
    """Packs that this commit relies on and did not write."""
    refs: tuple[RefChange, ...] = ()
    floor: Natural | None = None
    """From this commit on, no pack with a lower base can be added."""
    seals: tuple[SealId, ...] = ()
    """Ids of the journals that this commit adopts."""

    @property
    def added(self) -> tuple[PackRecord, ...]:
        """All packs that this adds, the inline one last."""
        return self.add if self.inline is None else (*self.add, self.inline)

    @property
    def removed(self) -> tuple[PackName, ...]:
        """All packs that this drops: `drop`, then the olds of every replacement."""
        return (*self.drop, *(old for group in self.replace for old in group.olds))


class Draft(Change, frozen=True, kw_only=True):
    """What a builder proposes; the log gives it number, parent and time when it wins a slot."""

    inline_bytes: bytes = b""
    """The bytes of the pack that `inline` describes."""


class _Body(Change, frozen=True, kw_only=True):
    """The part of a commit that may be encrypted one day."""

    store: StoreId
    writer: WriterId
    time: Natural


class Commit(_Body, frozen=True, kw_only=True):
    """One slot of the log."""

    number: Natural
    parent: Hash
    """Hash of the commit before, `NO_PARENT` for number 0."""
    txn: Txn
    """Names the attempt, so that a writer whose answer was lost knows its own commit again (rule 6)."""
    hash: bytes = b""
    """BLAKE3 of the header frame's bytes; set by `decode_commit` and `identify`."""
    header_size: int = 0
    """Bytes of the header frame, so also the offset of the inline pack; set with `hash`."""

    @property
    def version(self) -> int:
        """The format version; it stands in the frame header, and only this one is read."""
        return FORMAT_VERSION

    @property
    def slot_size(self) -> int:
        """Bytes of the untrimmed slot."""
        return self.header_size + (0 if self.inline is None else self.inline.size)


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """The header frame's payload. Only what is beside `body` ever needs to be readable without a key."""

    number: Natural
    parent: Hash
    txn: Txn
    body: Annotated[bytes, Meta(max_length=COMMIT_BYTES_MAX)]


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"a commit cannot hold {value!r}")


# A digest is a kind of bytes, which msgspec would refuse, and callers pass digests where bytes are asked for.
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_as_bytes)


def encode_struct(value: msgspec.Struct) -> bytes:
    """Return `value` as canonical MessagePack, digests as bytes."""
    return _ENCODER.encode(value)


def where_is(number: int) -> str:
    """Return how messages name the slot of commit `number`."""
    return f"commit {number} ({log_key(number)})"


def encode_commit(commit: Commit, inline_bytes: bytes = b"") -> bytes:
    """Return the slot's bytes, which `decode_commit` is known to accept.

    Raises:
        InvalidInputError: a field, the inline pack or the whole is above its limit, or the inline pack is not
            the one that `commit.inline` describes.
    """
    body = _Body(**{name: getattr(commit, name) for name in _Body.__struct_fields__})
    try:
        raw = encode_struct(_Header(commit.number, commit.parent, commit.txn, encode_struct(body)))
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            "the commit's message or a ref's name has a lone surrogate", hint="decode the text properly"
        ) from error
    data = encode_frame(Kind.COMMIT, raw) + inline_bytes
    if len(data) > COMMIT_BYTES_MAX:
        raise InvalidInputError(
            f"commit {commit.number} would take {len(data):,} bytes; the limit is {COMMIT_BYTES_MAX:,}",
            hint="split the work into several commits, or shorten the message",
        )
    if len(inline_bytes) != (0 if commit.inline is None else commit.inline.size):
        raise InvalidInputError(
            f"commit {commit.number} has {len(inline_bytes):,} inline bytes, not as many as stated"
        )
    try:
        decode_commit(data, where=where_is(commit.number))
    except (MalformedError, DigestMismatchError) as error:
        raise InvalidInputError(f"cannot be committed: {error}", hint=error.hint) from error
    return data


def make_commit(
    draft: Draft, *, store: bytes, writer: bytes, time: int, number: int, parent: bytes, txn: bytes
) -> tuple[Commit, bytes]:
    """Return what becomes of `draft` in slot `number`, and the bytes of that slot."""
    commit = Commit(
        **{name: getattr(draft, name) for name in draft.__struct_fields__ if name != "inline_bytes"},
        store=store,
        writer=writer,
        time=time,
        number=number,
        parent=parent,
        txn=txn,
    )
    data = encode_commit(commit, draft.inline_bytes)
    return identify(commit, data, len(draft.inline_bytes)), data


def identify(commit: Commit, data: bytes, inline_size: int) -> Commit:
    """Return `commit` with the hash and header size that its encoded slot `data` gives it."""
    header_size = len(data) - inline_size
    return msgspec.structs.replace(commit, hash=Digest.of(data[:header_size]), header_size=header_size)


def header_size_of(data: bytes, *, where: str) -> int:
    """Return the size of the header frame that begins `data`; its first bytes suffice.

    Raises:
        MalformedError: no commit begins here, or it is above the limit.
        UnsupportedFormatError: written by a newer release.
    """
    frame = read_header(data, where=where)
    if frame.kind != Kind.COMMIT or frame.codec != Codec.RAW or frame.frame_size > COMMIT_BYTES_MAX:
        raise MalformedError(
            f"{where} is not a commit (kind {frame.kind}, codec {frame.codec}, {frame.frame_size:,} bytes)",
            where=where,
        )
    return frame.frame_size


def trimmed(data: bytes, *, where: str) -> bytes:
    """Return the slot `data` without its inline pack; hash and chain stay (rule 1)."""
    return data[: header_size_of(data, where=where)]


def decode_commit(data: bytes, *, where: str) -> Commit:
    """Return the commit in the slot's bytes `data`, which may be trimmed to the header frame.

    Inline bytes that are there are verified.

    Raises:
        CorruptionError: damaged, cut, or not of the format.
        UnsupportedFormatError: written by a newer release.
    """
    size = header_size_of(data, where=where)
    frame = read_header(data, where=where)
    raw = read_payload(frame, data[size - frame.stored_size : size], where=where)
    header = decode(raw, _Header, what=where, bytes_max=COMMIT_BYTES_MAX)
    body = decode(header.body, _Body, what=where, bytes_max=COMMIT_BYTES_MAX)
    _check_inline(body.inline, data[size:], where=where, offset=size)
    return Commit(
        **{name: getattr(body, name) for name in _Body.__struct_fields__},
        number=header.number,
        parent=header.parent,
        txn=header.txn,
        hash=Digest.of(data[:size]),
        header_size=size,
    )


def commit_time(now_ns: int, parent_ns: int) -> int:
    """Return the time of a commit made at `now_ns` after one of `parent_ns` (rule 11).

    Times do not fall, except below a parent more than a day ahead: one wrong clock must not date all that
    follows.
    """
    return now_ns if parent_ns > now_ns + DAY_NS else max(now_ns, parent_ns)


def require_chain(before: Commit | None, commit: Commit | None) -> None:
    """Return if one commit follows the other; None for either says nothing.

    Raises:
        MalformedError: it does not.
    """
    if before is not None and commit is not None and commit.parent != before.hash:
        raise MalformedError(
            f"{where_is(commit.number)} does not follow the commit before it",
            where=where_is(commit.number),
            hint="run `keepstone fsck`",
        )


def _check_inline(record: PackRecord | None, found: bytes, *, where: str, offset: int) -> None:
    if record is not None and record.size > INLINE_BYTES_MAX:
        raise MalformedError(
            f"{where} has an inline pack of {record.size:,} bytes; the limit is {INLINE_BYTES_MAX:,}",
            where=where,
        )
    if not found:
        return
    expected = 0 if record is None else record.size
    if record is None or len(found) != expected:
        raise MalformedError(
            f"{where} has {len(found):,} bytes behind its header, not {expected:,}",
            where=where,
            offset=offset,
        )
    actual = Digest.of(found)
    if actual != record.name.digest:
        raise DigestMismatchError(
            f"the inline pack of {where} reads as {actual}",
            expected=str(Digest(record.name.digest)),
            actual=str(actual),
            hint="run `keepstone fsck`; `keepstone repair` can fetch a good copy",
        )
