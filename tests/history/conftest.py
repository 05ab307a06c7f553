"""What the tests of the history layer share: logs in memory, drafts in few words, a medium that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Origin, log_key
from keepstone.history.commit import Commit, Draft, PackName, PackRecord, RefChange, encode_commit, identify
from keepstone.history.log import Log
from keepstone.history.state import State
from keepstone.storage.base import ObjectInfo, Storage
from keepstone.storage.memory import MemoryStorage

STORE_ID = bytes(range(16))
NOW_NS = 1_700_000_000 * 10**9


class Maker:
    """Short ways to the values that tests need."""

    store_id = STORE_ID
    now_ns = NOW_NS

    def name(self, content: str, base: int = 0) -> PackName:
        return PackName(base, Digest.of(content.encode()))

    def record(self, content: str, base: int = 0) -> PackRecord:
        return PackRecord(self.name(content, base), 1000, 100, 3, ("answers",), 7, Origin.JOURNAL)

    def inline(self, content: str, base: int = 0) -> Draft:
        data = content.encode()
        record = PackRecord(self.name(content, base), len(data), 0, 1, (), 7, Origin.SAVE)
        return Draft(inline=record, inline_bytes=data)

    def ref(self, name: str, new: bytes | None, old: bytes | None = None) -> Draft:
        return Draft(refs=(RefChange(name, old, new),))

    def next_commit(
        self, state: State, draft: Draft, time_ns: int = NOW_NS, txn: bytes = b"t" * 16
    ) -> Commit:
        """The commit of `draft` after `state`, unjudged."""
        fields: dict[str, Any] = {
            n: getattr(draft, n) for n in draft.__struct_fields__ if n != "inline_bytes"
        }
        commit = Commit(
            **fields,
            store=STORE_ID,
            writer=b"w" * 8,
            time=time_ns,
            number=state.length,
            parent=bytes(state.hash),
            txn=txn,
        )
        data = encode_commit(commit, draft.inline_bytes)
        return identify(commit, data, len(draft.inline_bytes))

    def fold(self, *drafts: Draft) -> State:
        state = State()
        for draft in drafts:
            state = state.advance([self.next_commit(state, draft)])
        return state

    def log(self, storage: Storage, *, writer: int = 1, now_ns: Callable[[], int] = lambda: NOW_NS) -> Log:
        """An opened log that never really sleeps."""
        log = Log(
            storage,
            store_id=STORE_ID,
            writer=writer.to_bytes(8, "big"),
            now_ns=now_ns,
            sleep=lambda seconds: None,
            random=lambda: 0.5,
        )
        log.open()
        return log


def count_up(log: Log, name: str = "counter", times: int = 1) -> None:
    """Add one to a ref `times` times, as anybody would who rebases by itself."""
    for _ in range(times):
        log.append(lambda state: step(state, name))


def step(state: State, name: str) -> Draft:
    old = state.refs.get(name)
    return Draft(refs=(RefChange(name, old, str(int(old or b"0") + 1).encode()),))


def put(storage: MemoryStorage, commit: Commit) -> None:
    """Write a commit to its slot, unjudged."""
    storage.write_new(log_key(commit.number), encode_commit(commit))


class FaultyStorage:
    """A storage in memory that counts calls and runs `on_write_new` and `on_read` in place of a call."""

    def __init__(self, inner: MemoryStorage) -> None:
        self.inner = inner
        self.writable = True
        self.reads_at_once = 16
        self.on_write_new: Callable[[str, bytes], None] = inner.write_new
        self.on_read: Callable[[str], None] = lambda key: None
        self.calls: list[tuple[str, str]] = []

    @property
    def location(self) -> str:
        return self.inner.location

    def read(self, key: str) -> bytes:
        self.calls.append(("read", key))
        self.on_read(key)
        return self.inner.read(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self.calls.append(("read_range", key))
        self.on_read(key)
        return self.inner.read_range(key, start, end)

    def write_new(self, key: str, data: bytes) -> None:
        self.calls.append(("write_new", key))
        self.on_write_new(key, data)

    def write_hint(self, key: str, data: bytes) -> None:
        self.calls.append(("write_hint", key))
        self.inner.write_hint(key, data)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.calls.append(("list", prefix))
        return self.inner.list(prefix)

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def settle(self, prefix: str) -> None:
        self.calls.append(("settle", prefix))

    def close(self) -> None:
        self.inner.close()


@pytest.fixture(scope="session")
def make() -> Maker:
    return Maker()


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def faulty(storage: MemoryStorage) -> FaultyStorage:
    return FaultyStorage(storage)
