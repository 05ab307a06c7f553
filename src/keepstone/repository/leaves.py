"""Leaves: the content of a snapshot in stretches of about a thousand keys.

Layer: repository. Format: docs/format.md §12. A leaf ends where a key's hash says so, never where a count does: so a
key that is added, changed or removed changes its own leaf, and all others stay the blobs that they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from blake3 import blake3
from msgspec import Meta

from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import KEY_BYTES_MAX, LEAF_BYTES_MAX, LEAF_KEYS_MAX, Form

_CUT_MASK: Final = 1023
"""A leaf ends behind a key whose hash ends in so many zero bits: every 1,024th, on average."""
_RAW_BYTES_MAX: Final = LEAF_BYTES_MAX - 8 * 1024
"""A leaf of very long keys ends here; the key that is added last and the frame around still fit."""
_FORMS: Final = frozenset(Form)


class LeafRow(NamedTuple):
    """One item of a snapshot."""

    key: str
    digest: Digest
    form: int


class Leaf(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of the items of a snapshot, by column."""

    keys: Annotated[tuple[str, ...], Meta(min_length=1, max_length=LEAF_KEYS_MAX)]
    """Sorted by their characters, which is the order of their UTF-8 bytes."""
    digests: bytes
    """32 bytes for each key."""
    forms: bytes
    """One byte for each key."""

    def row(self, position: int) -> LeafRow:
        """Return one item."""
        start = position * DIGEST_BYTES
        return LeafRow(
            self.keys[position], Digest(self.digests[start : start + DIGEST_BYTES]), self.forms[position]
        )

    def values(self) -> Iterator[bytes]:
        """Yield the digests of all items, 32 bytes each."""
        return (self.digests[i : i + DIGEST_BYTES] for i in range(0, len(self.digests), DIGEST_BYTES))

    def rows(self) -> Iterator[LeafRow]:
        """Yield all items."""
        return map(self.row, range(len(self.keys)))


def cut_leaves(rows: Iterable[LeafRow]) -> Iterator[Leaf]:
    """Yield sorted `rows` as leaves; equal rows give equal leaves."""
    keys: list[str] = []
    digests: list[bytes] = []
    forms = bytearray()
    size = 0
    for key, digest, form in rows:
        encoded = key.encode()
        added = len(encoded) + 5 + DIGEST_BYTES + 1
        if size + added > _RAW_BYTES_MAX:
            yield Leaf(tuple(keys), b"".join(digests), bytes(forms))
            keys, digests, forms, size = [], [], bytearray(), 0
        keys.append(key)
        digests.append(digest)
        forms.append(form)
        size += added
        ends = not int.from_bytes(blake3(encoded).digest(4), "little") & _CUT_MASK
        if ends or len(keys) == LEAF_KEYS_MAX:
            yield Leaf(tuple(keys), b"".join(digests), bytes(forms))
            keys, digests, forms, size = [], [], bytearray(), 0
    if keys:
        yield Leaf(tuple(keys), b"".join(digests), bytes(forms))


def encode_leaf(leaf: Leaf) -> bytes:
    """Return the bytes of a leaf; equal leaves give equal bytes."""
    return encode(leaf)


def decode_leaf(data: bytes, *, where: str) -> Leaf:
    """Return the leaf that `data` encodes.

    Raises:
        MalformedError: it is none.
    """
    leaf = decode(data, Leaf, what=f"a leaf of {where}", bytes_max=LEAF_BYTES_MAX)
    keys, count = leaf.keys, len(leaf.keys)
    sound = len(leaf.digests) == count * DIGEST_BYTES and len(leaf.forms) == count
    sound = sound and all(a < b for a, b in pairwise(keys))
    sound = (
        sound and _FORMS.issuperset(leaf.forms) and max(len(key.encode()) for key in keys) <= KEY_BYTES_MAX
    )
    if not sound:
        raise MalformedError(f"{where} has a leaf that does not add up", where=where)
    return leaf


class Root(msgspec.Struct, frozen=True):
    """What the manifest of a snapshot says about its leaves, in `detail`."""

    count: Annotated[int, Meta(ge=0)]
    """Items in all leaves."""
    firsts: tuple[str, ...]
    """The first key of each leaf."""


def decode_root(detail: dict[str, Any], leaves: int, *, where: str) -> Root:
    """Return the root that the `detail` of a manifest with so many `leaves` holds.

    Raises:
        MalformedError: it holds none.
    """
    try:
        root = msgspec.convert(detail, Root)
    except msgspec.ValidationError as error:
        raise MalformedError(f"{where} has a root that cannot be read: {error}", where=where) from error
    if len(root.firsts) != leaves or any(a >= b for a, b in pairwise(root.firsts)):
        raise MalformedError(f"{where} has a root that does not add up", where=where)
    return root
