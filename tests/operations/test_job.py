"""`store.track`: what is read inside becomes a parent of what is saved inside, and it is kept as one artifact."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.repository.conftest import commits

import keepstone
from keepstone import InvalidInputError, KindError, Results, Store
from keepstone.repository.tracking import SEEN_MAX, note_read


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    with keepstone.open("store") as opened:
        opened.save("prompts/reader", "Answer with a number.")
        opened.save("data/train", ["a", "b"])
        yield opened


def digests(store: Store, *selectors: str) -> tuple[str, ...]:
    return tuple(store.resolve(selector).digest for selector in selectors)


def test_what_is_read_becomes_a_parent_of_what_is_saved_after_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    store.save("data/files", tmp_path / "folder")
    with store.track("train") as job:
        early = store.save("early", 1)
        store.load("prompts/reader")
        store.resolve("data/train").open().read()
        store.load("prompts/reader")
        middle = store.save("middle", 2)
        store.resolve("data/files").checkout(tmp_path / "out")
        by_hand = store.save("late", 3, parents=["early"])
    after = store.save("after", 4)

    read = digests(store, "prompts/reader", "data/train", "data/files")
    assert early.parents == ()
    assert middle.parents == read[:2]
    assert by_hand.parents == (early.digest, *read)
    assert after.parents == ()
    assert job.inputs == read
    assert job.outputs == (early.digest, middle.digest, by_hand.digest)
    assert job.version.parents == (*read, *job.outputs)


def test_what_is_only_looked_at_is_no_input(store: Store) -> None:
    with store.track("look") as job:
        assert store.exists("data/train")
        assert store.resolve("data/train").size_bytes
        assert store.versions("prompts/reader")

    assert job.inputs == ()


def test_the_artifact_says_what_was_done_and_around_what(store: Store) -> None:
    with store.track("train", config={"rate": 0.1, "api_key": "abc"}, message="first try") as job:
        store.load("data/train")
        store.save("model", [1.0])

    kept: dict[str, Any] = store.load("train")
    assert kept["config"] == {"rate": 0.1, "api_key": "[removed]"}
    assert kept["removed"] == ["config.api_key"]
    assert "config.api_key" in job.removed
    assert kept["inputs"] == [{"name": "data/train", "digest": store.resolve("data/train").digest}]
    assert kept["outputs"] == [{"name": "model", "digest": store.resolve("model").digest}]
    assert kept["failed"] is None
    assert kept["python"] == ".".join(map(str, sys.version_info[:3]))
    assert kept["packages"]["msgspec"]
    assert kept["git"].keys() & {"commit", "missing"}
    assert isinstance(kept["command"], list)
    message = next(iter(store.history("train"))).message
    assert message.startswith("first try\n\nbegan 20")
    assert message.endswith(" s")


def test_doing_the_same_again_makes_no_new_version(store: Store) -> None:
    def work() -> bool:
        with store.track("train", config={"rate": 0.1}) as job:
            store.save("model", [len(store.load("data/train"))])
        return job.version.created_new

    work()
    before = commits(store)
    assert not work()
    assert commits(store) == before
    store.save("data/train", ["a", "b", "c"])
    assert work()


def test_an_exception_is_noted_by_its_type_and_goes_on(store: Store) -> None:
    def work() -> None:
        with store.track("train"):
            store.load("data/train")
            store.save("half", 1)
            raise ValueError("secret detail")

    with pytest.raises(ValueError, match="secret detail"):
        work()

    kept = store.load("train")
    assert kept["failed"] == "ValueError"
    assert [made["name"] for made in kept["outputs"]] == ["half"]
    assert "secret detail" not in str(kept)


def test_an_exception_is_not_replaced_when_nothing_can_be_kept(store: Store) -> None:
    def work() -> None:
        with store.track("train"):
            store.close()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        work()

    assert any("could not be kept" in note for note in caught.value.__notes__)


def test_inner_reads_count_for_the_outer_and_saves_take_the_innermost(store: Store) -> None:
    with store.track("pipeline") as outer:
        store.load("prompts/reader")
        with store.track("step") as inner:
            store.load("data/train")
            step = store.save("step-output", 1)
        total = store.save("total", 2)

    prompt, data = digests(store, "prompts/reader", "data/train")
    assert step.parents == (data,)
    assert total.parents == (prompt, data)
    assert inner.inputs == (data,)
    assert outer.inputs == (prompt, data)
    assert outer.outputs == (step.digest, inner.version.digest, total.digest)


def test_a_transaction_and_its_versions_belong_to_the_block(store: Store) -> None:
    with store.track("train") as job:
        with store.transaction() as change:
            change.load("data/train")
            version = change.save("model", 1)
        with contextlib.suppress(RuntimeError), store.transaction() as change:
            change.save("never", 1)
            raise RuntimeError

    assert version.parents == digests(store, "data/train")
    assert job.outputs == (version.digest,)


def test_snapshots_are_read_and_taken_as_versions(store: Store) -> None:
    answers = store.collection("answers")
    answers["a"] = 1
    first = answers.snapshot()
    with store.track("judge") as job:
        assert store.collection("answers@v1")["a"] == 1
        answers["b"] = 2
        second = answers.snapshot()

    assert job.inputs == (first.digest,)
    assert second.parents == (first.digest,)
    assert dict(second.items()) == {"a": 1, "b": 2}


def test_the_past_and_other_stores_count(store: Store) -> None:
    with keepstone.open("other") as other, store.track("train") as job:
        there = other.save("b", "other")
        store.at("2100-01-01").load("data/train")
        there.load()

    assert job.inputs == (*digests(store, "data/train"), there.digest)


def test_a_result_sets_own_configuration_is_no_input(store: Store) -> None:
    with store.track("answering") as job:
        for _ in range(2):
            results = Results(store, "set", config={"a": 1})
            results.run(len, ["x"], key=str)

    assert job.inputs == ()
    assert job.outputs == ()
    assert len(store.versions("set:config")) == 1


def test_tasks_of_asyncio_belong_to_the_block(store: Store) -> None:
    async def read(selector: str) -> None:
        await asyncio.sleep(0)
        await asyncio.to_thread(store.load, selector)

    async def work() -> tuple[str, ...]:
        with store.track("async") as job:
            await asyncio.gather(read("data/train"), read("prompts/reader"))
        return job.inputs

    assert set(asyncio.run(work())) == set(digests(store, "data/train", "prompts/reader"))


def test_two_blocks_side_by_side_do_not_mix(store: Store) -> None:
    async def work(name: str, selector: str) -> tuple[str, ...]:
        with store.track(name) as job:
            await asyncio.sleep(0)
            store.load(selector)
            await asyncio.sleep(0)
        return job.inputs

    async def both() -> list[tuple[str, ...]]:
        return await asyncio.gather(work("a", "data/train"), work("b", "prompts/reader"))

    assert asyncio.run(both()) == [digests(store, "data/train"), digests(store, "prompts/reader")]


def test_a_thread_belongs_to_the_block_if_it_is_given_the_context(store: Store) -> None:
    def run(target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        thread.start()
        thread.join()

    with store.track("threads") as job:
        run(store.load, "prompts/reader")
        run(contextvars.copy_context().run, store.load, "data/train")

    # A Python without the interpreter lock gives it to every thread.
    is_given = bool(getattr(sys.flags, "thread_inherit_context", 0))
    assert job.inputs == digests(store, *["prompts/reader"] * is_given, "data/train")


def test_a_thread_that_goes_on_reading_while_the_block_ends_does_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.transaction() as change:
        many = [change.save("many", number) for number in range(900)]
    ending = threading.Event()

    def packages() -> dict[str, str]:
        ending.set()
        return {}

    def read_others() -> None:
        ending.wait()
        for version in many[600:]:
            note_read(version)

    monkeypatch.setattr("keepstone.operations.job.imported_packages", packages)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            ending.clear()
            with store.track("read") as job:
                for version in many[:600]:
                    note_read(version)
                thread = threading.Thread(target=contextvars.copy_context().run, args=(read_others,))
                thread.start()
            thread.join()
            kept = tuple(read["digest"] for read in job.version.load()["inputs"])
            assert kept == job.version.parents
            assert len(kept) >= 600
    finally:
        sys.setswitchinterval(interval)


def test_beyond_the_limit_it_is_said_how_many_were_left_out(store: Store) -> None:
    with store.transaction() as change:
        many = [change.save("many", i) for i in range(SEEN_MAX + 2)]
    with store.track("all") as job:
        for version in many:
            version.load()

    assert job.inputs == tuple(version.digest for version in many[:SEEN_MAX])
    assert store.load("all")["left_out"] == 2


@dataclass
class Settings:
    rate: float


@pytest.mark.parametrize(
    ("config", "kept"), [(None, None), (Settings(0.5), {"rate": 0.5}), ("text", "text"), ([1], [1])]
)
def test_a_config_is_any_plain_value(store: Store, config: object, kept: object) -> None:
    with store.track("train", config=config):
        pass

    assert store.load("train")["config"] == kept


def test_what_cannot_be_tracked_is_refused_before_anything_runs(store: Store) -> None:
    store.collection("answers")["a"] = 1
    store.flush()
    with pytest.raises(KindError), store.track("answers"):
        pytest.fail("the block ran")
    with pytest.raises(InvalidInputError, match="name 'a@b'"):
        store.track("a@b")
    with pytest.raises(InvalidInputError, match="config is of type bytes"):
        store.track("a", config=b"x")
    with pytest.raises(InvalidInputError, match="message is of type int"):
        store.track("a", message=3)  # type: ignore[arg-type]
    with store.track("a") as job:
        with pytest.raises(InvalidInputError, match="not kept yet"):
            _ = job.version
        with pytest.raises(InvalidInputError, match="begun before"):
            job.__enter__()
