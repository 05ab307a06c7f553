"""Selecting: only what is selected goes, with all that reading it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.operations.bucket import Requests

import keepstone
from keepstone import ArtifactNotFoundError, InvalidInputError, Store


def selectable(store: Store) -> None:
    store.save("prompts/a", "a prompt")
    store.save("models/x", "one", parents=["prompts/a"])
    store.save("models/x", "two", aliases=["prod"])
    store.save("models/x", "three", aliases=["new"])
    store.save("secret", "mine alone")
    store.collection("gsm8k").update({"q1": 1})
    store.collection("gsm8k:failed").update({"q2": "error"})
    store.save("gsm8k:config", {"model": "m"})
    store.collection("private").update({"k": "mine alone, too"})
    store.flush()


@pytest.mark.parametrize(
    ("select", "names"),
    [
        (["models/"], ["models/x"]),
        (["gsm8k"], ["gsm8k", "gsm8k:config", "gsm8k:failed"]),
        (["secret", "prompts/"], ["prompts/a", "secret"]),
        (["models/x@prod"], ["models/x"]),
    ],
)
def test_only_what_is_selected_goes(select: list[str], names: list[str], here: Store, there: Store) -> None:
    selectable(here)
    here.push(there, select=select)

    assert there.names() == names
    stored = b"".join(p.read_bytes() for p in Path(there.location).rglob("*") if p.is_file())
    assert b"private" not in stored
    assert here.push(there, select=select).is_nothing
    assert there.fsck(read_data=True).findings == ()


def test_one_version_keeps_its_number_and_the_others_can_still_come(here: Store, there: Store) -> None:
    selectable(here)
    here.push(there, select=["models/x@prod"])
    assert [v.selector for v in there.versions("models/x")] == ["models/x@v2"]
    assert there.aliases("models/x") == {"prod": 2}
    with pytest.raises(ArtifactNotFoundError):
        there.load("models/x@v1")
    here.push(there)
    assert [(v.number, v.load()) for v in there.versions("models/x")] == [
        (3, "three"),
        (2, "two"),
        (1, "one"),
    ]
    assert there.aliases("models/x") == {"new": 3, "prod": 2}
    assert [v.number for v in there.at(there.history().__next__().number).versions("models/x")] == [3, 2, 1]
    assert there.fsck(read_data=True).findings == ()


def test_lineage_brings_what_it_was_made_from(here: Store, there: Store) -> None:
    selectable(here)
    here.push(there, select=["models/x@v1"], lineage=True)
    assert there.names() == ["models/x", "prompts/a"]
    assert there.resolve("models/x").parents == (there.resolve("prompts/a").digest,)


def test_a_snapshot_by_itself_brings_its_values(full_store: Path, there: Store) -> None:
    with keepstone.open(full_store, mode="r") as store:
        store.push(there, select=["answers@submitted"])
        frozen = there.collection("answers@v1")
        assert {key: frozen.digest_of(key) for key in frozen} == {
            key: store.collection("answers@v1").digest_of(key) for key in store.collection("answers@v1")
        }
        assert frozen["q7"] == "another answer"
        assert there.aliases("answers") == {"submitted": 1}
        assert len(there.collection("answers")) == 0
        assert there.fsck(read_data=True).findings == ()
        store.push(there)
        assert there.collection("answers")["q8"] == "set after the snapshot"


def test_what_was_replaced_or_removed_is_published_nowhere(here: Store, there: Store) -> None:
    items = here.collection("c")
    items.update({"a": "the old secret", "b": "the removed secret", "d": "stays"})
    items.flush()
    items["a"] = "new"
    del items["b"]
    here.save("m", "the removed version")
    here.save("m", "the other version")
    here.remove("m@v1")
    here.push(there)

    stored = b"".join(p.read_bytes() for p in Path(there.location).rglob("*") if p.is_file())
    assert b"secret" not in stored
    assert b"removed version" not in stored
    assert b"stays" in stored


def test_what_was_replaced_before_it_was_sealed_is_published_nowhere(
    here: Store, tmp_path: Path, net: Requests
) -> None:
    place = f"bucket://{tmp_path.name}"
    program = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    store.collection("c")["a"] = "the old secret"
    print("set", flush=True)
    sys.stdin.readline()
    store.flush()
"""
    command = [sys.executable, "-c", program, here.location]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "set\n"
        items = here.collection("c")
        items["a"] = "new"
        items.flush()
        here.push(place, create=True)
        other.communicate("go on\n")
    assert other.returncode == 0
    # Its pack is news, and what it says is not.
    assert here.push(place).changes[0].items == 0
    with keepstone.open(place) as store:
        assert [row.digest for row in store.repository.session.entries.history("c", "a")] == [
            items.digest_of("a")
        ]


@pytest.mark.parametrize("select", [["nothing"], ["models/"], ["m@v9"]])
def test_what_is_not_there_cannot_be_selected(select: list[str], here: Store, there: Store) -> None:
    here.save("m", 1)
    with pytest.raises(ArtifactNotFoundError):
        here.push(there, select=select)
    assert there.stats().commits == 0


@pytest.mark.parametrize("select", ["m", [], ["a//"], ["m@"], [""]])
def test_a_selection_of_no_known_form_is_refused(select: Any, here: Store, there: Store) -> None:
    with pytest.raises(InvalidInputError):
        here.push(there, select=select)
