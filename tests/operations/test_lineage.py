"""Lineage: what a version was made from, and what was made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keepstone
from keepstone import ArtifactNotFoundError, InvalidInputError, Store
from keepstone.cli.main import main
from keepstone.foundation.digest import Digest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with keepstone.open(tmp_path / "store") as opened:
        opened.save("prompt", "first")
        opened.save("data", [1])
        opened.save("answers", "a", parents=["prompt", "data"])
        opened.save("prompt", "second")
        opened.save("answers", "b", parents=["prompt", "data"])
        opened.save("report", "r", parents=["answers@v1", "answers@v2"])
        yield opened


def test_up_shows_what_a_version_was_made_from(store: Store) -> None:
    assert str(store.lineage("report")) == (
        "report@v1\n← answers@v1\n  ← prompt@v1\n  ← data@v1\n← answers@v2\n  ← prompt@v2\n  ← data@v1"
    )


def test_down_shows_what_used_a_version(store: Store) -> None:
    assert str(store.lineage("prompt@v1", direction="down")) == "prompt@v1\n→ answers@v1\n  → report@v1"
    assert store.lineage("data", direction="down").selectors == ("answers@v1", "report@v1", "answers@v2")
    assert store.lineage("report", direction="down").selectors == ()


def test_depth_says_how_far_and_where_more_follows(store: Store) -> None:
    assert str(store.lineage("report", depth=1)) == "report@v1\n← answers@v1 …\n← answers@v2 …"
    assert str(store.lineage("report", depth=0)) == "report@v1 …"


def test_what_several_lead_to_is_followed_once(store: Store) -> None:
    store.save("a", "a", parents=["answers@v1"])
    store.save("b", "b", parents=["a", "answers@v1"])

    lines = str(store.lineage("b")).splitlines()
    assert lines == [
        "b@v1",
        "← a@v1",
        "  ← answers@v1 (followed elsewhere)",
        "← answers@v1",
        "  ← prompt@v1",
        "  ← data@v1",
    ]


def test_a_save_is_seen_at_once(store: Store) -> None:
    assert store.lineage("report", direction="down").selectors == ()
    store.save("summary", "s", parents=["report"])
    with keepstone.open(store.location) as again:
        assert again.lineage("report", direction="down").selectors == ("summary@v1",)


def test_parents_that_are_not_here_are_shown_by_digest(store: Store) -> None:
    elsewhere = str(Digest.of(b"elsewhere"))
    store.save("fetched", 1, parents=[elsewhere])

    assert str(store.lineage("fetched")) == f"fetched@v1\n← {elsewhere} (not in this store)"
    assert store.lineage(elsewhere, direction="down").selectors == ("fetched@v1",)
    assert not store.lineage(elsewhere).nodes[0].is_here


def test_a_version_that_was_removed_leads_on(store: Store) -> None:
    digest = store.resolve("answers@v1").digest
    store.remove("answers@v1")

    nodes = store.lineage("report").nodes
    assert nodes[1].digest == digest
    assert not nodes[1].is_here
    assert nodes[2].selectors == ("prompt@v1",)


def test_equal_content_under_several_names_is_one(store: Store) -> None:
    store.save("copies/prompt", "first")

    assert store.lineage("answers@v1").nodes[1].selectors == ("copies/prompt@v1", "prompt@v1")


def test_a_chain_longer_than_calls_are_deep(store: Store) -> None:
    with store.transaction() as change:
        version = change.save("chain", 0)
        for i in range(1, 1500):
            version = change.save("chain", i, parents=[version])

    assert len(store.lineage("chain").nodes) == 1500
    assert len(store.lineage("chain@v1", direction="down").nodes) == 1500
    assert len(str(store.lineage("chain")).splitlines()) == 1500


@given(
    parents=st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8), depth=st.none() | st.integers(0, 4)
)
@settings(max_examples=25, deadline=None)
def test_it_is_what_a_plain_search_finds(
    parents: list[set[int]], depth: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made_from = [sorted(p for p in chosen if p < i) for i, chosen in enumerate(parents)]
    with keepstone.open(tmp_path_factory.mktemp("store")) as store:
        with store.transaction() as change:
            for i, chosen in enumerate(made_from):
                change.save(f"n{i}", i, parents=[f"n{p}" for p in chosen])
        for direction in ("up", "down"):
            near = {
                i: made_from[i] if direction == "up" else [c for c, p in enumerate(made_from) if i in p]
                for i in range(len(parents))
            }
            start = len(parents) - 1 if direction == "up" else 0
            reached, layer = {start}, {start}
            for _ in range(len(parents) if depth is None else depth):
                layer = {n for i in layer for n in near[i]}
                reached |= layer
            found = store.lineage(f"n{start}", direction=direction, depth=depth)  # type: ignore[arg-type]
            assert set(found.selectors) == {f"n{i}@v1" for i in reached - {start}}


def test_bad_questions_are_refused(store: Store) -> None:
    with pytest.raises(ArtifactNotFoundError):
        store.lineage("nothing")
    with pytest.raises(InvalidInputError, match="unknown direction 'left'"):
        store.lineage("report", direction="left")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="depth is -1"):
        store.lineage("report", depth=-1)
    with pytest.raises(InvalidInputError, match="not a digest"):
        store.lineage("b3:xyz")


def test_the_command_prints_the_tree_or_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", store.location]
    assert main(["lineage", "prompt@v1", "--down", *where]) == 0
    assert capsys.readouterr().out == "prompt@v1\n→ answers@v1\n  → report@v1\n"
    assert main(["lineage", "report", "--depth", "1", "--json", *where]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["direction"] == "up"
    assert [node["selectors"] for node in shown["nodes"]] == [["report@v1"], ["answers@v1"], ["answers@v2"]]
    assert main(["lineage", "nothing", *where]) == 3
