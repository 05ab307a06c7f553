"""docs/format.md against the code: every table is parsed and compared."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec
import pytest

from keepstone.blobs import compression, footer, journal, pack, pack_frame, recipe
from keepstone.foundation import format as numbers
from keepstone.foundation import frame
from keepstone.history import checkpoint, commit, state, waiting
from keepstone.history.validate import Rule
from keepstone.objects.manifest import Manifest, Part, PartMode
from keepstone.objects.standard import standard_registry
from keepstone.objects.tensors import Structure, TensorRecord
from keepstone.operations import bundle
from keepstone.operations.pins import PinnedLock
from keepstone.operations.sync_memory import SyncMark, SyncMemory
from keepstone.repository import leaves
from keepstone.repository.identity import Identity
from keepstone.repository.medium import ProbeRecord
from keepstone.repository.refs import AliasRef, NameRef

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
CODES: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}

Table = list[dict[str, str]]


def tables() -> dict[str, Table]:
    """Return the tables of the page by the title of the column that names them."""
    found: dict[str, Table] = {}
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        head, rows = lines[0], lines[2:]
        name = head[3] if head[0] == "offset" else head[0]
        assert name not in found, f"two tables are called {name}"
        found[name] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


TABLES: Final = tables()
LAYOUTS: Final = {
    "field": ("<" + (frame._FIELDS.format + frame._CHECK.format).replace("<", ""), "field"),
    "pack frame": (pack_frame._HEADER.format, "pack frame"),
    "trailer": (pack._TRAILER.format, "trailer"),
    "entry": (journal._ENTRY.format, "entry"),
    "recipe": (recipe._HEAD.format, "recipe"),
    "piece": (recipe._PIECE.format, "piece"),
    "waiting": (waiting._LAYOUT.format, "waiting"),
    "bundle trailer": (bundle._TRAILER.format, "bundle trailer"),
}
STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        footer.Footer,
        footer.Section,
        journal.JournalHeader,
        commit._Header,
        commit._Body,
        commit.PackRecord,
        commit.PackName,
        commit.RefChange,
        commit.Replacement,
        checkpoint._Stored,
        checkpoint._Last,
        state.LivePack,
        Identity,
        NameRef,
        AliasRef,
        leaves.Leaf,
        Structure,
        TensorRecord,
        Manifest,
        Part,
        PinnedLock,
        ProbeRecord,
        SyncMemory,
        SyncMark,
        bundle.BundleTable,
        bundle.BundledPack,
    )
}
ENUMS: Final[dict[str, type[IntEnum]]] = {
    "kind": numbers.Kind,
    "codec": numbers.Codec,
    "origin": numbers.Origin,
    "form": numbers.Form,
    "mode": PartMode,
}
OTHERS: Final = {"key", "ref", "rule", "limit", "line", "node", "serializer"}


def test_every_table_is_compared_with_something() -> None:
    assert TABLES.keys() == LAYOUTS.keys() | STRUCTS.keys() | ENUMS.keys() | OTHERS


def test_every_serializer_of_the_table_is_there_and_of_version_1() -> None:
    registry = standard_registry()
    names = [name for row in TABLES["serializer"] for name in re.findall(r"`([^`]+)`", row["serializer"])]

    assert len(names) >= 9
    assert {registry.by_id(name, allow_pickle=True).version for name in names} == {1}


@pytest.mark.parametrize("name", LAYOUTS)
def test_structs_are_as_the_tables_say(name: str) -> None:
    expected, offset = "<", 0
    for row in TABLES[name]:
        if row["type"] == "end":
            continue
        assert int(row["offset"]) == offset, row
        expected += CODES.get(row["type"]) or f"{row['size']}s"
        offset += int(row["size"])
        assert struct.calcsize(expected) == offset, row

    assert LAYOUTS[name][0] == expected


def test_the_sizes_in_the_text_are_those_of_the_code() -> None:
    assert f"a header of {frame.HEADER_BYTES} bytes" in PAGE
    assert f"A slim frame is a header of {pack_frame.PACK_FRAME_HEADER_BYTES} bytes" in PAGE
    assert f"An entry's payload is {journal._ENTRY.size} bytes" in PAGE
    assert f"or {footer.TOMBSTONE} for a tombstone" in PAGE
    for magic in (
        numbers.FRAME_MAGIC,
        numbers.PACK_FRAME_MAGIC,
        numbers.PACK_TRAILER_MAGIC,
        numbers.BUNDLE_TRAILER_MAGIC,
    ):
        assert f"MUST be ASCII `{magic.decode()}`" in PAGE


def test_thresholds_of_compression_are_those_of_the_code() -> None:
    assert (compression.SEAL_LEVEL, compression.MERGE_LEVEL) == (3, 12)
    assert "level 3 when sealing, 12 when merging" in PAGE
    assert compression.DICTIONARY_BLOB_BYTES_MAX == compression.DICTIONARY_BYTES_MAX == 64 * 1024
    assert (compression._SAMPLES_MIN, compression.DICTIONARY_RAW_BYTES_MIN) == (16, 512 * 1024)
    assert "at least 16 of them and together they have at least 512 KiB" in PAGE


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_are_encoded_in_the_order_of_the_tables(name: str) -> None:
    assert tuple(row[name].strip("`") for row in TABLES[name]) == STRUCTS[name].__struct_fields__


@pytest.mark.parametrize(
    "name", sorted(STRUCTS.keys() - {"Manifest", "Identity", "Structure", "TensorRecord"})
)
def test_array_structs_are_arrays(name: str) -> None:
    assert STRUCTS[name].__struct_config__.array_like


@pytest.mark.parametrize("name", ENUMS)
def test_numbers_are_as_the_tables_say(name: str) -> None:
    listed = {row[name].strip("`"): int(row["number"]) for row in TABLES[name]}

    assert listed == {member.name: member.value for member in ENUMS[name]}


def test_limits_are_as_the_table_says() -> None:
    listed = {row["limit"].strip("`"): int(row["bytes"].replace(",", "")) for row in TABLES["limit"]}
    known = {
        name: value
        for name, value in vars(numbers).items()
        if isinstance(value, int) and re.search(r"_BYTES(_MAX|_TARGET)?$", name)
    }

    assert listed == known
    assert f"nested {numbers.VALUE_DEPTH_MAX} deep" in PAGE


def test_leaves_are_cut_as_the_text_says() -> None:
    assert f"1 to {numbers.LEAF_KEYS_MAX:,}" in PAGE
    assert f"above {leaves._RAW_BYTES_MAX:,} bytes" in PAGE
    assert f"a multiple of {leaves._CUT_MASK + 1:,}" in PAGE
    assert f"`serializer` is `{numbers.SNAPSHOT_SERIALIZER}`" in PAGE


def test_rules_are_as_the_table_says() -> None:
    listed = {row["rule"].strip("`"): row["words in messages"] for row in TABLES["rule"]}

    assert listed == {rule.name: rule.value for rule in Rule}


def test_keys_are_made_as_the_table_says() -> None:
    listed = [row["key"].strip("`") for row in TABLES["key"]]

    assert listed[:3] == [numbers.STORE_KEY, "log/<number>", "packs/<xx>/<base>-<digest>"]
    assert numbers.log_key(7) == f"log/{7:020d}"
    assert numbers.pack_key(7, "ab" * 32) == f"packs/ab/{7:020d}-{'ab' * 32}"
    assert numbers.checkpoint_key(7, "ab" * 32) == f"checkpoints/{7:020d}-{'ab' * 32}"
