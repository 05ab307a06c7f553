"""Comparing versions: what each kind of content says, and what is never loaded for it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import Digest, Store
from keepstone.cli.main import main


def test_equal_versions_differ_in_nothing(store: Store) -> None:
    one = store.save("a", {"x": 1})
    found = store.diff("a", one)

    assert found.equal
    assert not found
    assert found.kind == "equal"
    assert str(found) == f"a@v1 and a@v1 are equal: {one.digest}"


def test_json_differs_by_place_and_metadata_and_parents_with_it(store: Store) -> None:
    parent = store.save("p", 1)
    store.save("a", {"x": [1, 2, 3], "y": 0.5}, metadata={"m": 1, "n": 2})
    store.save("a", {"x": [1, 3], "y": 0.25, "z": None}, metadata={"m": 2, "n": 2}, parents=[parent])
    found = store.diff("a@v1", "a")

    assert found.kind == "json"
    assert str(found).splitlines() == [
        "--- a@v1",
        "+++ a@v2",
        "~ metadata.m: 1 → 2",
        f"+ parent {parent.digest}",
        "- $.x[1]: 2",
        "~ $.y: 0.5 → 0.25",
        "+ $.z: null",
    ]
    assert [(c.path, c.verb, c.old, c.new) for c in found.changes] == [
        (("x", 1), "removed", 2, None),
        (("y",), "changed", 0.5, 0.25),
        (("z",), "added", None, None),
    ]
    assert store.diff("a", "a@v1").parents_removed == (parent.digest,)


def test_values_that_differ_in_the_order_of_keys_say_so(store: Store) -> None:
    store.save("a", {"x": 1, "y": 2})
    store.save("a", {"y": 2, "x": 1})
    found = store.diff("a@v1", "a@v2")

    assert found
    assert not found.changes
    assert "the order of keys" in str(found)


def test_texts_differ_by_line(store: Store) -> None:
    store.save("prompt", "Answer.\nBe brief.\n")
    store.save("prompt", "Answer.\nBe very brief.\n")

    assert str(store.diff("prompt@v1", "prompt")).splitlines() == [
        "--- prompt@v1",
        "+++ prompt@v2",
        "@@ -1,2 +1,2 @@",
        " Answer.",
        "-Be brief.",
        "+Be very brief.",
    ]


def make_folder(path: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_folders_differ_by_file(store: Store, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "same": "s",
        "gone": "g",
        "text": "a\nb\n",
        "in/bytes": b"\0\1",
        "run": "r",
    }
    store.save("f", make_folder(tmp_path / "one", files))
    two = make_folder(tmp_path / "two", {**files, "text": "a\nc\n", "in/bytes": b"\0\2", "new": "n"})
    (two / "gone").unlink()
    (two / "run").chmod(0o755)
    store.save("f", two)
    found = store.diff("f@v1", "f", texts=True)

    assert found.kind == "files"
    assert [(part.path, part.verb) for part in found.parts] == [
        ("gone", "removed"),
        ("in/bytes", "changed"),
        ("new", "added"),
        ("run", "changed"),
        ("text", "changed"),
    ]
    assert (found.parts[3].old_mode, found.parts[3].new_mode) == ("file", "executable")
    assert found.parts[4].lines[-2:] == ("-b", "+c")
    assert not found.parts[1].lines
    assert "~ run (1 → 1 byte, file → executable)" in str(found)
    assert not any(part.lines for part in store.diff("f@v1", "f").parts)


def test_checkpoints_differ_by_tensor(store: Store) -> None:
    import numpy

    weights = {"same": numpy.ones(2), "changed": numpy.zeros(2)}
    store.save("a", {"layers": weights})
    store.save("a", {"layers": weights | {"changed": numpy.full(2, 3.0)}})

    assert [part.path for part in store.diff("a@v1", "a@v2").parts] == ["tensors/layers/changed"]


def test_snapshots_differ_by_key(store: Store) -> None:
    items = store.collection("c")
    items.add_many({"a": 1, "b": 2, "c": 3})
    items.snapshot()
    items["b"] = 20
    items["d"] = 4
    del items["a"]
    items.snapshot()
    found = store.diff("c@v1", "c@latest")

    assert found.kind == "items"
    assert [(part.path, part.verb) for part in found.parts] == [
        ("a", "removed"),
        ("b", "changed"),
        ("d", "added"),
    ]
    assert "~ b" in str(found)


def test_different_kinds_and_bytes_say_sizes_and_digests(store: Store, tmp_path: Path) -> None:
    text, data = store.save("a", "text"), store.save("a", b"text")
    more = store.save("a", b"more\0")
    (tmp_path / "x.bin").write_bytes(b"\xff")
    (tmp_path / "y.bin").write_bytes(b"\xfe")
    store.save("file", tmp_path / "x.bin")
    store.save("file", tmp_path / "y.bin")

    kinds, found, files = store.diff(text, data), store.diff(data, more), store.diff("file@v1", "file")
    assert (kinds.kind, found.kind, files.kind) == ("kinds", "bytes", "bytes")
    assert "a@v1 is of kind text, a@v2 of kind bytes" in str(kinds)
    assert "4 bytes b3:" in str(found)
    assert "file x.bin" not in str(found)
    assert "x.bin file → y.bin file" in str(files)


def test_what_differs_only_in_metadata_says_so(store: Store) -> None:
    store.save("a", "text", metadata={"m": 1})
    store.save("a", "text", metadata={"m": 2})

    assert store.diff("a@v1", "a").notes == ("the content is equal",)


def test_large_and_equal_content_is_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = os.urandom(2_500_000)
    with keepstone.open(folder) as store:
        store.save("bytes", large)
        store.save("bytes", large[:-1] + bytes([large[-1] ^ 1]))
        store.save("text", "a" * 2_000_000)
        store.save("text", "b" * 2_000_000)
        store.save("equal", large, metadata={"m": 1})
        store.save("equal", large, metadata={"m": 2})
    calls = FaultyCalls()
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)
    with keepstone.open(folder, mode="r") as store:
        for name in ("bytes", "text", "equal"):
            assert store.diff(f"{name}@v1", f"{name}@v2")
    read = sum(args[1] for name, args in calls.made if name == "pread")
    assert read < 500_000


def test_what_is_shown_and_listed_is_bounded(store: Store) -> None:
    store.save("a", list(range(30_000)))
    store.save("a", [n + 0.5 for n in range(30_000)])
    store.save("b", {"x": "y" * 100_000})
    store.save("b", {"x": "z" * 100_000})
    found = store.diff("a@v1", "a")

    assert found.more
    assert len(found.changes) == 10_000
    assert len(str(found).splitlines()) == 201
    assert len(str(store.diff("b@v1", "b"))) < 500


def test_the_command_prints_them_and_tells_by_its_exit_code_when_asked(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save("a", {"x": 1})
    store.save("a", {"x": 2})

    def run(*arguments: str) -> tuple[int, Any]:
        code = main(["--store", str(folder), "diff", *arguments])
        return code, capsys.readouterr().out

    assert run("a@v1", "a") == (0, "--- a@v1\n+++ a@v2\n~ $.x: 1 → 2\n")
    assert run("a@v1", "a", "--exit-code")[0] == 9
    assert run("a@v2", "a", "--exit-code")[0] == 0
    code, out = run("a@v1", "a", "--json")
    facts = json.loads(out)
    assert (code, facts["equal"], facts["kind"]) == (0, False, "json")
    assert facts["changes"] == [{"path": ["x"], "verb": "changed", "old": 1, "new": 2, "place": "$.x"}]


def test_many_parents_are_compared_in_one_pass(store: Store) -> None:
    for number in range(2):
        parents = [str(Digest.of(f"{number}/{n}".encode())) for n in range(20_000)]
        store.save("made", number, parents=parents)
    begun = time.process_time()
    found = store.diff("made@v1", "made@v2")

    assert (len(found.parents_added), len(found.parents_removed)) == (20_000, 20_000)
    # One by one they would be 800 million comparisons.
    assert time.process_time() - begun < 2
