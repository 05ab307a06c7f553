"""Golden bytes: what each structure of the format is, of fixed input, as bytes.

    python -m tests.compat.vectors     # writes vectors.json anew; only together with a change of the format

What is compressed is whatever the zstd library at hand makes of it: its bytes are compared only under the library that
made the vector, and are always read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import zstandard

from keepstone.blobs.footer import Entry
from keepstone.blobs.journal import encode_entry
from keepstone.blobs.journal_header import JournalHeader, encode_journal_header
from keepstone.blobs.pack import Pack, PackBuilder
from keepstone.blobs.recipe import Piece, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Form, Kind, Origin
from keepstone.foundation.frame import compress_frame, encode_frame
from keepstone.history.checkpoint import encode_checkpoint
from keepstone.history.commit import (
    Commit,
    PackName,
    PackRecord,
    RefChange,
    Replacement,
    encode_commit,
    identify,
)
from keepstone.history.state import State
from keepstone.objects.manifest import Manifest, Part, encode_manifest
from keepstone.objects.plain import encode_value
from keepstone.repository.refs import AliasRef, NameRef

PATH: Final = Path(__file__).with_name("vectors.json")
CONTENTS: Final = (b"", b"one", "zwölf".encode() * 400, bytes(range(256)) * 3)
VALUES: Final[dict[str, Any]] = {
    "text": "ü\u2028\n",
    "bytes": b"\0\xff",
    "tree": {"b": [1, -2, 2**63, 0.1, 1e21, True, None, "é"], "a": {}},
}
STAMP: Final = 1_700_000_000_000_000_000


def digest_of(number: int) -> Digest:
    """Return a digest that is different for each number."""
    return Digest.of(f"digest {number}".encode())


def pack() -> Pack:
    """Return a pack with blobs, a recipe, entries of two collections, a tombstone, a value of another pack."""
    builder = PackBuilder(Origin.SAVE)
    for content in CONTENTS:
        builder.add(Digest.of(content), content)
    pieces = [Piece(Digest.of(content), len(content)) for content in CONTENTS[2:]]
    builder.add(Digest.of(CONTENTS[2] + CONTENTS[3]), encode_recipe(pieces), Kind.RECIPE)
    writer, other = b"writer 1", b"writer 2"
    builder.add_entry("answers", Entry("b", STAMP + 5, writer, Digest.of(b"one"), Form.BYTES))
    builder.add_entry("answers", Entry("a/ü", STAMP, other, digest_of(1), Form.JSON))
    builder.add_entry("answers", Entry("", STAMP + 5, other, None, Form.BYTES))
    builder.add_entry(":versions", Entry("m@v1", STAMP + 9, writer, Digest.of(b""), Form.MANIFEST))
    return builder.finish()


def record(number: int) -> PackRecord:
    """Return a record of a pack that does not exist."""
    return PackRecord(
        PackName(number, bytes(digest_of(number))), 1_000, 300, 7, ("answers", "b"), STAMP, Origin.JOURNAL
    )


def commits() -> list[tuple[Commit, bytes]]:
    """Return two commits and their slots: one with a pack inline, one with all else that a commit may say."""
    inline = pack()
    made = PackRecord(
        PackName(0, bytes(inline.digest)),
        len(inline.data),
        inline.footer_size,
        inline.entries,
        inline.collections,
        inline.stamp_max,
        int(inline.origin),
    )
    name = NameRef("artifact", 1, 1, bytes(digest_of(2)), 0).encoded()
    common: dict[str, Any] = {"store": b"store id, 16 by.", "writer": b"writer 1"}
    first = Commit(
        message="first, ü",
        add=(record(0),),
        inline=made,
        refs=(
            RefChange("m", None, name),
            RefChange("m@prod", None, AliasRef(1, bytes(digest_of(2))).encoded()),
        ),
        time=STAMP,
        number=0,
        parent=bytes(32),
        txn=b"transaction no 1",
        **common,
    )
    slot = encode_commit(first, inline.data)
    second = Commit(
        add=(record(1),),
        replace=(Replacement((record(0).name,), (record(1).name,)),),
        needs=(made.name,),
        refs=(RefChange("m", name, name), RefChange(":horizon/answers", None, STAMP.to_bytes(8, "big"))),
        floor=1,
        seals=(b"journal id no. 1",),
        time=STAMP + 1,
        number=1,
        parent=identify(first, slot, len(inline.data)).hash,
        txn=b"transaction no 2",
        **common,
    )
    return [
        (identify(first, slot, len(inline.data)), slot),
        (identify(second, encode_commit(second), 0), encode_commit(second)),
    ]


def manifest() -> Manifest:
    """Return a manifest with everything that one may hold."""
    return Manifest(
        serializer="folder",
        serializer_version=1,
        type_name="folder",
        parts=(Part("a", bytes(digest_of(1)), 3, 1), Part("b/ü", bytes(digest_of(2)), 70_000, 0)),
        metadata={"z": 1, "a": {"y": [1.5, None], "b": "ü"}},
        parents=(str(digest_of(3)),),
        packages={"numpy": "2.0"},
        detail={"kind": "tree"},
    )


def journal() -> bytes:
    """Return a journal of two items and a removal."""
    header = JournalHeader(
        b"store id, 16 by.", "/where", "host", b"journal id no. 1", b"writer 1", 1, bytes(digest_of(1)), STAMP
    )
    data = encode_journal_header(header)
    for turn, (key, value) in enumerate({"a": b"one", "b/ü": b"", "c": None}.items()):
        digest = None if value is None else Digest.of(value)
        if value is not None:
            data += encode_frame(Kind.BLOB, value)
        tag, stamp = header.journal_id[:8], STAMP + turn
        data += encode_entry(tag, len(data), stamp, 0, digest, Form.BYTES, b"answers", key.encode())
    return data + encode_frame(Kind.FINAL, b"")


def plain() -> dict[str, bytes]:
    """Return what is the same under every library, by name."""
    found = {f"value {name}": (encode_value(value) or (0, b""))[1] for name, value in VALUES.items()}
    found["frame"] = encode_frame(Kind.BLOB, b"one")
    found["recipe"] = encode_recipe([Piece(digest_of(1), 1 << 20), Piece(digest_of(2), 5)])
    found["manifest"] = encode_manifest(manifest())
    found["name ref"] = NameRef("collection", 3, 1, b"", 2).encoded()
    found["alias ref"] = AliasRef(300, bytes(digest_of(1))).encoded()
    found["journal"] = journal()
    found["commit without a pack"] = commits()[1][1]
    return found


def compressed() -> dict[str, bytes]:
    """Return what zstd has a part in, by name."""
    state = State().advance([commit for commit, _ in commits()])
    return {
        "compressed frame": compress_frame(Kind.CHECKPOINT, CONTENTS[2]),
        "pack": pack().data,
        "commit with a pack": commits()[0][1],
        "checkpoint": encode_checkpoint(state),
    }


def main() -> None:
    """Write the vectors of the code as it is."""
    vectors = {
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        "plain": {name: data.hex() for name, data in plain().items()},
        "compressed": {name: data.hex() for name, data in compressed().items()},
        "hashes": [commit.hash.hex() for commit, _ in commits()],
    }
    PATH.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
