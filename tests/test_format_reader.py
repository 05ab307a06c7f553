"""What Keepstone wrote is read by a reader written from docs/format.md alone."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.format_reader import Store, digest_of, read_frame, read_pack, read_store, unpacked

import keepstone


def items(count: int) -> dict[str, Any]:
    return {
        f"q{i}": {"answer": i, "why": f"because {i} is the number that was asked for, {'x' * 40}"}
        for i in range(count)
    }


def test_a_reader_made_from_the_page_reads_what_keepstone_wrote(tmp_path: Path) -> None:
    wanted = items(6_000)
    with keepstone.open(tmp_path / "store") as store:
        version = store.save(
            "models/email", {"weights": [1, 2]}, metadata={"accuracy": 0.5}, aliases=["prod"]
        )
        answers = store.collection("answers", durability="process")
        answers.add_many(wanted)
        answers["text"], answers["bytes"], answers["gone"] = "ü", b"\0", 1
        del answers["gone"]
        store.flush()

    found = read_store(tmp_path / "store")

    assert found.collection("answers") == wanted | {"text": "ü", "bytes": b"\0"}
    kind, last, number, digest, removals, *snapshots = unpacked(found.refs["models/email"])
    assert (kind, last, number, "b3:" + digest.hex(), removals) == ("artifact", 1, 1, version.digest, 0)
    assert snapshots == [0, 0]
    assert unpacked(found.refs["models/email@prod"]) == [1, digest]
    manifest = unpacked(found.value(found.entries[":versions", "models/email@v1"][2] or b""))
    assert list(manifest)[:4] == ["format", "serializer", "serializer_version", "type_name"]
    assert manifest["metadata"] == {"accuracy": 0.5}
    assert json.loads(found.value(manifest["parts"][0][1])) == {"weights": [1, 2]}
    assert 2 in found.codecs, "nothing was stored with a dictionary, so that was not tested"


def test_a_journal_is_read_by_the_page(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        answers = store.collection("answers")
        answers.update(items(20))
        del answers["q3"]

    assert any((tmp_path / "store" / "journals").glob("[!.]*"))
    found = read_store(tmp_path / "store")
    assert found.collection("answers") == {key: value for key, value in items(20).items() if key != "q3"}


def test_a_journal_kept_as_a_value_is_not_taken_for_entries(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        answers = store.collection("answers")
        answers["inner"] = "an item of the inner journal"
        journal = next((tmp_path / "store" / "journals").glob("[!.]*")).read_bytes()
        answers["journal"] = journal
        del answers["inner"]

    with keepstone.open(tmp_path / "store") as store:
        assert dict(store.collection("answers")) == {"journal": journal}
    assert read_store(tmp_path / "store").collection("answers") == {"journal": journal}


def test_a_large_value_is_put_together_by_the_page(tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 5)
    with keepstone.open(tmp_path / "store") as store:
        store.save("data", content)

    found = read_store(tmp_path / "store")
    manifest = unpacked(found.value(found.entries[":versions", "data@v1"][2] or b""))
    assert len(found.recipes) == 1
    assert found.value(manifest["parts"][0][1]) == content


def cut(keys: list[str]) -> list[list[str]]:
    """Return where the page says that leaves of small items end."""
    leaves: list[list[str]] = [[]]
    for key in keys:
        leaves[-1].append(key)
        if not struct.unpack("<I", digest_of(key.encode())[:4])[0] % 1024:
            leaves.append([])
    return [leaf for leaf in leaves if leaf]


def test_a_snapshot_is_read_by_the_page(tmp_path: Path) -> None:
    wanted = items(5_000) | {"ü": "text", "large": "x" * 9_000_000}
    with keepstone.open(tmp_path / "store") as store:
        answers = store.collection("answers")
        answers.update(wanted)
        version = answers.snapshot(metadata={"why": "a test"})
        answers.update(dict.fromkeys(items(5_000), "overwritten"))

    found = read_store(tmp_path / "store")
    *_, digest, _, snapshots, newest = unpacked(found.refs["answers"])
    assert ("b3:" + digest.hex(), snapshots, newest) == (version.digest, 1, 1)
    root = unpacked(found.value(digest))
    assert (root["serializer"], root["serializer_version"]) == ("snapshot", 1)
    assert root["metadata"] == {"why": "a test"}
    leaves = [unpacked(found.value(leaf)) for _, leaf, _, _ in root["parts"]]
    assert [path for path, _, _, _ in root["parts"]] == [f"{n:08d}" for n in range(len(leaves))]
    assert root["detail"] == {"count": len(wanted), "firsts": [keys[0] for keys, _, _ in leaves]}
    assert len(leaves) > 1
    assert [keys for keys, _, _ in leaves] == cut(sorted(wanted))
    decode = {2: lambda data: data.decode(), 3: json.loads}
    held = {
        key: decode[forms[i]](found.value(digests[32 * i : 32 * i + 32]))
        for keys, digests, forms in leaves
        for i, key in enumerate(keys)
    }
    assert held == wanted


def test_arrays_and_tensors_are_read_by_the_page(tmp_path: Path) -> None:
    import numpy

    base = numpy.arange(6, dtype="<i2")
    with keepstone.open(tmp_path / "store") as store:
        store.save("array", numpy.asfortranarray(base.reshape(2, 3)))
        store.save("tree", {"w": base, (1, "x"): [base[4:0:-2], float("nan")], "a/b": numpy.float32(2)})
    found = read_store(tmp_path / "store")
    manifest = unpacked(found.value(found.entries[":versions", "array@v1"][2]))
    assert (manifest["serializer"], manifest["detail"]) == ("npy", {"dtype": "<i2", "shape": [2, 3]})
    content = found.value(manifest["parts"][0][1])
    assert content[:8] == b"\x93NUMPY\1\0"
    end = 10 + struct.unpack_from("<H", content, 8)[0]
    assert end == 128
    assert content[end:] == base.reshape(2, 3).T.tobytes()
    manifest = unpacked(found.value(found.entries[":versions", "tree@v1"][2]))
    parts = {path: found.value(digest) for path, digest, _, _ in manifest["parts"]}
    structure = json.loads(parts["structure.json"])
    whole, view, scalar = structure["tensors"]
    w, key, items, name, number = structure["tree"][2], *structure["tree"][3:]
    assert (w, key, items) == (["tensor", 0], ["tuple", 1, "x"], ["list", ["tensor", 1], ["float", "nan"]])
    assert (name, number) == ("a/b", ["tensor", 2])
    assert (whole["part"], whole["offset"], whole["strides"]) == ("tensors/w", 0, [2])
    assert parts["tensors/w"] == base.tobytes()
    first = view["offset"]
    assert [
        struct.unpack_from("<h", parts[view["part"]], first + n * view["strides"][0])[0] for n in range(2)
    ] == [4, 2]
    assert (scalar["part"], scalar["kind"], scalar["shape"]) == ("tensors/a%2Fb", "scalar", [])
    assert struct.unpack("<f", parts["tensors/a%2Fb"]) == (2,)


def test_a_bundle_is_read_by_the_page(tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 5)
    with keepstone.open(tmp_path / "store") as store:
        store.save("large file", content)
        store.save("value", {"a": [1, 2]})
        pinned = store.pin(["large file", "value"], tmp_path / "x.lock")
        store.bundle(tmp_path / "x.lock", tmp_path / "x.bundle")

    data = (tmp_path / "x.bundle").read_bytes()
    size, check, magic = struct.unpack("<QI8s", data[-20:])
    assert magic == b"KPSTBNDL"
    assert zlib.crc32(data[-20:-12]) == check
    frame = read_frame(data, len(data) - 20 - size)
    assert frame.kind == 11
    lock, packs = unpacked(frame.raw)
    assert lock == (tmp_path / "x.lock").read_bytes()
    found, offset = Store(tmp_path), 0
    for digest, pack_size, _ in packs:
        pack = data[offset : offset + pack_size]
        assert digest_of(pack) == digest
        read_pack(found, pack)
        offset += pack_size
    assert offset == frame.start
    first, store_line, location, *lines = lock.decode().splitlines()
    assert (first, location) == ("keepstone-lock 1", "location store")
    assert store_line == f"store {pinned.lock.store_id}"
    values = {}
    for line in lines:
        name, digest, kind = line.split(" ")
        assert kind == "artifact"
        manifest = unpacked(found.value(bytes.fromhex(digest.removeprefix("b3:"))))
        values[name] = found.value(manifest["parts"][0][1])
    assert values["large%20file@v1"] == content
    assert json.loads(values["value@v1"]) == {"a": [1, 2]}


def test_a_pin_is_read_by_the_page(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        store.save("value", 1)
        store.pin(["value"], tmp_path / "x.lock")

    found = read_store(tmp_path / "store")
    (ref,) = [ref for ref in found.refs if ref.startswith(":pins/")]
    assert ref == f":pins/{found.refs[ref].hex()[:32]}"
    assert unpacked(found.value(found.refs[ref])) == ["../x.lock", (tmp_path / "x.lock").read_bytes()]
