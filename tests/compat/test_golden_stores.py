"""Stores that releases left behind: each is read as it was meant, in place and unchanged, and worked on in a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from tests.compat.make import HERE, described, files_below
from tests.format_reader import read_store

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import SerializerError
from keepstone.operations.findings import Severity
from keepstone.repository.merging import merge

STORES = sorted(path.parent for path in HERE.glob("*/*/store.json"))


@pytest.fixture(params=STORES, ids=lambda path: f"{path.parent.name}-{path.name}")
def golden(request: pytest.FixtureRequest) -> Path:
    return request.param


def expected_of(golden: Path) -> dict[str, Any]:
    return json.loads((golden.parent / "expected.json").read_text(encoding="utf-8"))[golden.name]


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of every file."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_is_as_expected(store: Store, expected: dict[str, Any], scratch: Path) -> None:
    assert store.id == expected["id"]
    assert_names_are(store, expected)
    assert_files_are(store, expected, scratch)
    assert_items_are(store, expected)


def assert_names_are(store: Store, expected: dict[str, Any]) -> None:
    for selector, digest in expected.get("digests", {}).items():
        assert store.resolve(selector).digest == digest, selector
    for selector, value in expected.get("values", {}).items():
        assert described(store.load(selector)) == value, selector
    for selector, value in expected.get("pickled", {}).items():
        with pytest.raises(SerializerError, match="pickle"):
            store.load(selector)
        assert sorted(store.load(selector, allow_pickle=True)) == value
    for selector, metadata in expected.get("metadata", {}).items():
        assert store.resolve(selector).metadata == metadata
    for selector, parents in expected.get("parents", {}).items():
        assert list(store.resolve(selector).parents) == parents
    for name, numbers in expected.get("versions", {}).items():
        assert [version.number for version in store.versions(name)] == numbers
    for name, aliases in expected.get("aliases", {}).items():
        assert store.aliases(name) == aliases
    for selector in expected.get("absent", []):
        assert not store.exists(selector), selector
    messages = [entry.message for entry in store.history() if entry.message]
    assert messages[-len(expected.get("messages", [])) :] == expected.get("messages", messages)


def assert_files_are(store: Store, expected: dict[str, Any], scratch: Path) -> None:
    for selector, files in expected.get("files", {}).items():
        target = scratch / selector
        store.resolve(selector).checkout(target)
        assert files_below(target) == files
        shutil.rmtree(target)
    for selector, content in expected.get("file", {}).items():
        assert described(store.resolve(selector).open().read()) == content


def assert_items_are(store: Store, expected: dict[str, Any]) -> None:
    for name, items in expected.get("items", {}).items():
        collection = store.collection(name)
        assert store.kind(name) == "collection"
        assert {key: described(collection[key]) for key in items} == items
        if name not in expected["whole"]:
            assert set(collection) == set(items)
    for name, digest in expected.get("whole", {}).items():
        everything = dict(store.collection(name))
        assert blake3(msgspec.json.encode(everything, order="sorted")).hexdigest() == digest
    for selector, digest in expected.get("snapshots", {}).items():
        frozen = dict(store.collection(selector))
        assert blake3(msgspec.json.encode(frozen, order="sorted")).hexdigest() == digest
    for name, keys in expected.get("missing", {}).items():
        assert list(store.collection(name).missing(keys)) == keys


def lock_of(golden: Path) -> Path:
    return golden.parent / f"{golden.name}.lock"


def test_there_are_golden_stores_of_this_format() -> None:
    assert {"names", "items"} <= {path.name for path in STORES}
    for release in {path.parent for path in STORES}:
        size = sum(path.stat().st_size for path in release.rglob("*") if path.is_file())
        assert size < 300_000, "git keeps golden stores for ever"


def test_opened_in_place_it_is_right_and_stays_as_it_is(golden: Path, tmp_path: Path) -> None:
    before = everything_in(golden)
    expected = expected_of(golden)

    with keepstone.open(golden, mode="r") as store:
        state = store.repository.session.log.state
        assert [state.number, state.hash.hex()] == expected["tip"]
        assert_is_as_expected(store, expected, tmp_path)
        # Packs that a merge replaced wait there for garbage collection.
        report = store.fsck(read_data=True)
        assert {finding.severity for finding in report.findings} <= {Severity.LITTER}

    assert everything_in(golden) == before


def test_the_reader_made_from_the_page_reads_it_too(golden: Path) -> None:
    expected = expected_of(golden)

    found = read_store(golden)

    for name, items in expected.get("items", {}).items():
        values = found.collection(name)
        assert {key: described(values[key]) for key in items} == items
    for selector, digest in expected.get("digests", {}).items():
        _, _, value, _ = found.entries[":versions", selector]
        assert value is not None
        assert "b3:" + value.hex() == digest
        assert blake3(found.value(value)).hexdigest() == value.hex()


def test_a_copy_is_recovered_written_to_and_merged(golden: Path, tmp_path: Path) -> None:
    place = shutil.copytree(golden, tmp_path / "anywhere" / "copy")
    expected = expected_of(golden)
    journals = len(list((golden / "journals").glob("[!.]*")))

    with keepstone.open(place) as store:
        assert_is_as_expected(store, expected, tmp_path)
        recovered = store.recover()
        # A journal tells where it was written, and is adopted wherever it has gone with its store.
        assert (recovered.journals, recovered.strangers) == (journals, ())
        number = store.save("new/name", {"saved": "by a later release"}).number
        store.collection("new items", durability="store").update({"a": 1, "b": 2})
        merge(store.repository.session, packs_min=2)
        assert_is_as_expected(store, expected, tmp_path)
        assert store.fsck(read_data=True).ok

    with keepstone.open(place, mode="r") as store:
        assert_is_as_expected(store, expected, tmp_path)
        assert store.load(f"new/name@v{number}") == {"saved": "by a later release"}
        assert dict(store.collection("new items")) == {"a": 1, "b": 2}
        assert store.stats().journals == 0


def test_without_checkpoints_it_is_the_same(golden: Path, tmp_path: Path) -> None:
    place = shutil.copytree(golden, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))

    with keepstone.open(place, mode="r") as store:
        state = store.repository.session.log.state
        assert [state.number, state.hash.hex()] == expected_of(golden)["tip"]
        assert_is_as_expected(store, expected_of(golden), tmp_path)


def test_its_lock_is_read_verified_and_restored(golden: Path, tmp_path: Path) -> None:
    lock, before = lock_of(golden), everything_in(golden.parent)

    with keepstone.open(golden, mode="r") as store:
        assert [Path(pin.path) for pin in store.pins()] == [lock]
        assert store.verify(lock).ok
    with keepstone.locked(lock) as locked, keepstone.open(tmp_path / "new") as store:
        for name in store.restore(lock).names:
            assert store.resolve(name.selector).digest == name.digest == locked.resolve(name.locked).digest
    assert everything_in(golden.parent) == before


@pytest.mark.parametrize("bundle", sorted(HERE.glob("*/*.bundle")), ids=lambda path: path.parent.name)
def test_a_bundle_is_restored(bundle: Path, tmp_path: Path) -> None:
    expected = json.loads((bundle.parent / "expected.json").read_text(encoding="utf-8"))["names"]

    with keepstone.open(tmp_path / "new") as store:
        store.restore(bundle)
        assert store.names() == ["cut/in pieces", "folder", "pickled", "turns"]
        assert described(store.load("cut/in pieces")) == expected["values"]["cut/in pieces"]
        assert described(store.load("turns")) == expected["values"]["turns@best"]
        store.resolve("folder").checkout(tmp_path / "folder")
        assert files_below(tmp_path / "folder") == expected["files"]["folder"]
        assert store.fsck(read_data=True).ok
