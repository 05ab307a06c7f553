"""Saving, loading, versions, aliases, removal, history."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import keepstone
from keepstone.api import Store


@dataclass
class Answer:
    value: int
    why: str = ""


def test_load_gives_what_was_saved(any_store: Store) -> None:
    for name, value in {
        "a": {"x": [1, 2.5, None, "é"]},
        "b": "text",
        "c": b"\0bytes",
        "d": [],
        "e": 0,
    }.items():
        any_store.save(name, value)
        assert any_store.load(name) == value


def test_load_by_version_ignores_later_saves(store: Store) -> None:
    store.save("model", b"old")
    store.save("model", b"new")

    assert store.load("model@v1") == b"old"
    assert store.load("model") == store.load("model@latest") == b"new"


def test_load_builds_the_class_that_is_asked_for(store: Store) -> None:
    store.save("answer", Answer(72, "because"))

    assert store.load("answer", type=Answer) == Answer(72, "because")
    assert store.load("answer") == {"value": 72, "why": "because"}


def test_loads_are_fresh_copies(store: Store) -> None:
    store.save("a", {"list": [1]})
    store.load("a")["list"].append(2)

    assert store.load("a") == {"list": [1]}


def test_version_says_what_it_is(store: Store) -> None:
    version = store.save(
        "models/email", {"w": 1}, metadata={"accuracy": 0.87}, message="first", aliases=["prod"]
    )

    assert (version.name, version.number, version.selector) == ("models/email", 1, "models/email@v1")
    assert version.digest.startswith("b3:")
    assert len(version.digest) == 67
    assert version.metadata == {"accuracy": 0.87}
    assert version.created_new
    assert version.size_bytes == len(b'{"w":1}')
    assert version.created.tzinfo is not None
    assert version.load() == {"w": 1}
    assert version.open().read() == b'{"w":1}'
    assert store.resolve("models/email@prod") == version
    with pytest.raises(TypeError):
        version.metadata["accuracy"] = 1.0  # type: ignore[index]


def test_saving_the_same_again_makes_no_version(store: Store) -> None:
    first = store.save("a", {"x": 1}, metadata={"m": 1})
    again = store.save("a", {"x": 1}, metadata={"m": 1})

    assert not again.created_new
    assert again == first
    assert len(store.versions("a")) == 1


def test_other_metadata_makes_a_version_over_the_same_blobs(store: Store) -> None:
    content = bytes(range(256)) * 4096 * 3
    store.save("a", content, metadata={"m": 1})
    before = store.stats()
    version = store.save("a", content, metadata={"m": 2})
    after = store.stats()

    assert version.number == 2
    assert store.load("a") == content
    grown = (after.pack_bytes + after.log_bytes) - (before.pack_bytes + before.log_bytes)
    assert grown < 4096


def test_going_back_to_an_old_value_makes_a_third_version(store: Store) -> None:
    for value in (b"A", b"B", b"A"):
        store.save("a", value)

    assert [v.number for v in store.versions("a")] == [3, 2, 1]
    assert store.resolve("a@v3").digest == store.resolve("a@v1").digest


def test_aliases_move_also_where_no_version_is_made(store: Store) -> None:
    store.save("a", b"1", aliases=["prod"])
    store.save("a", b"2")
    again = store.save("a", b"2", aliases=["prod"])

    assert not again.created_new
    assert store.aliases("a") == {"prod": 2}
    assert store.load("a@prod") == b"2"


def test_alias_with_a_stale_expectation_is_refused(store: Store) -> None:
    store.save("a", b"1")
    store.save("a", b"2")
    store.alias("a@v1", "prod", expected=None)

    with pytest.raises(keepstone.RefConflictError, match="is v1, not absent"):
        store.alias("a@v2", "prod", expected=None)
    store.alias("a@v2", "prod", expected="a@v1")
    assert store.load("a@prod") == b"2"


def test_save_with_a_stale_expectation_is_refused(store: Store) -> None:
    first = store.save("a", b"1", expected=None)
    with pytest.raises(keepstone.RefConflictError):
        store.save("a", b"2", expected=None)
    store.save("a", b"2", expected=first.digest)
    with pytest.raises(keepstone.RefConflictError):
        store.save("a", b"3", expected=first.digest)
    assert store.load("a") == b"2"


def test_unalias_keeps_the_version(store: Store) -> None:
    store.save("a", b"1", aliases=["prod"])
    store.unalias("a", "prod")

    assert store.aliases("a") == {}
    assert store.load("a@v1") == b"1"
    with pytest.raises(keepstone.ArtifactNotFoundError, match="no alias 'prod'"):
        store.unalias("a", "prod")


def test_removed_numbers_are_never_given_again(store: Store) -> None:
    store.save("a", b"1")
    store.save("a", b"2")
    assert store.remove("a@v2") == ("a@v2",)
    assert store.load("a") == b"1"
    assert store.save("a", b"3").number == 3
    assert store.remove("a") == ("a@v3", "a@v1")
    assert not store.exists("a")
    assert "a" not in store.names()
    assert store.save("a", b"4").number == 4
    with pytest.raises(keepstone.ArtifactNotFoundError, match="version 2 of 'a' was removed"):
        store.load("a@v2")


def test_a_version_with_an_alias_cannot_be_removed_alone(store: Store) -> None:
    store.save("a", b"1", aliases=["prod"])
    with pytest.raises(keepstone.ConflictError, match="alias 'prod' means v1"):
        store.remove("a@v1")
    store.remove("a")
    assert store.aliases("a") == {}


def test_unknown_names_say_what_is_spelled_alike(store: Store) -> None:
    store.save("models/email", b"1")
    with pytest.raises(keepstone.ArtifactNotFoundError) as caught:
        store.load("models/emial")
    assert caught.value.near == ("models/email",)
    assert "did you mean models/email?" in caught.value.hint


def test_digest_prefix_selects_a_version(store: Store) -> None:
    first = store.save("a", b"1")
    store.save("a", b"2")

    assert store.load(f"a@{first.digest}") == store.load(f"a@{first.digest[:12]}") == b"1"
    with pytest.raises(keepstone.ArtifactNotFoundError):
        store.load("a@b3:" + "0" * 64)


def test_date_selects_the_newest_version_of_that_time(store: Store) -> None:
    store.save("a", b"1")
    day = store.resolve("a").created.strftime("%Y-%m-%d")

    assert store.load(f"a@{day}") == b"1"
    with pytest.raises(keepstone.ArtifactNotFoundError, match="did not exist at 2001"):
        store.load("a@2001-01-01")


def test_parents_are_kept_as_digests(store: Store) -> None:
    prompt = store.save("prompts/reader", "read!")
    store.save("prompts/reader", "read well!")
    answer = store.save("answer", b"x", parents=["prompts/reader@v1", store.resolve("prompts/reader")])

    assert answer.parents == (prompt.digest, store.resolve("prompts/reader@v2").digest)
    with pytest.raises(keepstone.ArtifactNotFoundError):
        store.save("answer", b"y", parents=["nobody"])


def test_a_name_is_an_artifact_or_a_collection(store: Store) -> None:
    store.save("a", b"1")
    store.collection("c")["k"] = 1

    with pytest.raises(keepstone.KindError, match="'a' is an artifact"):
        store.collection("a")
    with pytest.raises(keepstone.KindError, match="'c' is a collection"):
        store.save("c", b"1")
    with pytest.raises(keepstone.KindError):
        store.load("c")
    assert store.kind("a") == "artifact"
    assert store.kind("c") == "collection"
    assert store.kind("x") is None
    assert store.names(kind="artifact") == ["a"]
    assert store.names(kind="collection") == ["c"]
    assert store.exists("a")
    assert store.exists("c")
    assert not store.exists("c@v1")


def test_find_takes_those_whose_metadata_match(store: Store) -> None:
    store.save("m/a", b"1", metadata={"accuracy": 0.9})
    store.save("m/b", b"2", metadata={"accuracy": 0.5})
    store.save("m/c", b"3")
    store.save("x", b"4", metadata={"accuracy": 0.95})

    assert [v.name for v in store.find("m/", lambda v: v.metadata["accuracy"] > 0.8)] == ["m/a"]
    assert [v.name for v in store.find("m/")] == ["m/a", "m/b", "m/c"]


def test_history_tells_newest_first_what_moved(store: Store) -> None:
    store.save("a", b"1", message="first")
    store.save("b", b"1")
    store.alias("a@v1", "prod")
    store.remove("b")

    assert [entry.changes for entry in store.history("a")] == [("a@prod v1",), ("a v1",)]
    assert [entry.message for entry in store.history("a")] == ["", "first"]
    assert [entry.number for entry in store.history()] == [3, 2, 1, 0]
    assert next(iter(store.history())).changes == ("b removed",)


def test_large_content_is_cut_and_put_together(store: Store) -> None:
    content = b"".join(i.to_bytes(4, "little") for i in range(1_500_000))
    version = store.save("big", content)

    assert version.size_bytes == len(content) == sum(map(len, version.chunks()))
    assert store.load("big") == content


def test_equal_pieces_of_large_content_are_stored_once(store: Store) -> None:
    piece = bytes(range(256)) * 4096
    store.save("a", piece * 3 + b"tail")
    before = store.stats().pack_bytes
    store.save("b", piece * 5 + b"end")

    assert store.load("b") == piece * 5 + b"end"
    assert store.stats().pack_bytes - before < len(piece)


def test_file_and_folder_come_back_as_they_were(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "sub" / "data.bin").write_bytes(bytes(2_000_000))
    version = store.save("folder", source)
    version.checkout(tmp_path / "copy")

    copy = tmp_path / "copy"
    assert (copy / "sub" / "data.bin").read_bytes() == bytes(2_000_000)
    assert (copy / "run.sh").stat().st_mode & 0o111
    assert (copy / "sub" / "empty").is_dir()
    assert version.open("run.sh").read() == b"#!/bin/sh\n"
    with pytest.raises(keepstone.ArtifactNotFoundError, match="no part 'nope'"):
        version.open("nope")


def test_saves_from_many_threads_make_all_versions(store: Store) -> None:
    def work(thread: int) -> None:
        for i in range(10):
            store.save("a", f"{thread}-{i}")

    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    versions = store.versions("a")
    assert [v.number for v in versions] == list(range(80, 0, -1))
    assert {v.load() for v in versions} == {f"{t}-{i}" for t in range(8) for i in range(10)}


def test_pickle_is_read_only_when_allowed(store: Store) -> None:
    store.save("p", {1, 2}, serializer="pickle")
    with pytest.raises(keepstone.SerializerError, match="pickle"):
        store.load("p")
    assert store.load("p", allow_pickle=True) == {1, 2}


def test_a_failed_save_leaves_nothing_behind(store: Store) -> None:
    before = store.stats()
    for value in ({"x": float("nan")}, {1, 2}, object()):
        with pytest.raises(keepstone.SerializerError):
            store.save("a", value)

    assert store.stats() == before
    assert not store.exists("a")


def test_versions_and_errors_survive_pickling_of_the_store(store: Store) -> None:
    store.save("a", b"1")
    again: Store = pickle.loads(pickle.dumps(store))

    assert again.load("a") == b"1"
    assert again.id == store.id
    again.close()
    assert store.load("a") == b"1"


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(keepstone.StorageError, match="was closed"):
        store.names()


@pytest.mark.parametrize("name", ["", "a@b", "../x", "a//b", "a\0", "x" * 600, ":versions", "/a", "e\u0301"])
def test_odd_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(keepstone.InvalidInputError):
        store.save(name, b"1")
    # Of a collection, what stands behind "@" is a snapshot's.
    refused = keepstone.ArtifactNotFoundError if name == "a@b" else keepstone.InvalidInputError
    with pytest.raises(refused):
        store.collection(name)


def test_any_text_is_a_name_once_quoted(store: Store) -> None:
    for text in ("../../etc", "a@b", "🦆", "Ä", "A", "a", "\n"):
        store.save(keepstone.quote(text), text)
    assert sorted(keepstone.unquote(n) for n in store.names()) == sorted(
        ("../../etc", "a@b", "🦆", "Ä", "A", "a", "\n")
    )


def test_lists_given_as_one_text_are_refused(store: Store) -> None:
    with pytest.raises(keepstone.InvalidInputError, match="is the text 'prod', not a list"):
        store.save("a", b"1", aliases="prod")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.save("a", b"1", metadata=[1]),
        lambda s: s.save("a", b"1", parents=[3]),
        lambda s: s.save("a", b"1", parents=3),
        lambda s: s.save("a", b"1", aliases=3),
        lambda s: s.save("a", b"1", aliases=[3]),
        lambda s: s.save("a", b"1", message=3),
        lambda s: s.save("a", b"1", message="x" * 70_000),
        lambda s: s.save("a", b"1", message="\ud800"),
        lambda s: s.save(3, b"1"),
        lambda s: s.load(3),
        lambda s: s.names(3),
        lambda s: s.names(kind="x"),
        lambda s: s.find(where=3),
        lambda s: list(s.history(3)),
        lambda s: s.register(3),
        lambda s: s.alias("a", 3),
        lambda s: s.remove(3),
        lambda s: s.collection(3),
        lambda s: s.collection("c").add_many([1]),
        lambda s: s.collection("c").add_many([("a", 1, 2)]),
        lambda s: keepstone.open(3),
        lambda s: keepstone.open("x", mode="w"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_by_name(store: Store, call: Callable[[Any], object]) -> None:
    before = store.stats()
    with pytest.raises(keepstone.InvalidInputError):
        call(store)
    assert store.stats() == before


def test_stores_in_a_folder_are_not_saved_with_it(store: Store, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data" / "store.json").write_text('{"shops": []}')
    for place in (project / ".keepstone", project / "data" / "old"):
        with keepstone.open(place, create=True) as inside:
            inside.save("x", 1)
            inside.collection("c")["k"] = 2
            version = inside.save("project", project)

            assert [part.path for part in version.parts] == ["data/store.json"]
            assert not inside.save("project", project).created_new
