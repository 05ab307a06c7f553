from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.storage.contract import StorageContract

from keepstone.foundation.errors import ObjectExistsError, StorageBusyError, StorageError
from keepstone.storage.base import ObjectInfo, Parts, Storage
from keepstone.storage.keys import check_range
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.retrying import SECONDS_MAX, TRIES_MAX, WAIT_SECONDS_MAX, Retrying

PACK = "packs/ab/00000000000000000001-x"


class Flaky(MemoryStorage):
    """Memory whose calls fail as it is told: "before" they took effect, or "after"."""

    def __init__(self, *failures: str) -> None:
        super().__init__()
        self.failures = list(failures)
        self.calls: list[str] = []

    def _try(self, name: str, call: Callable[[], object]) -> object:
        self.calls.append(name)
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise StorageBusyError("no answer", path="p", hint="h")
        result = call()
        if failure == "after":
            raise StorageBusyError("no answer", path="p", hint="h")
        return result

    def read(self, key: str) -> bytes:
        result = self._try("read", lambda: MemoryStorage.read(self, key))
        assert isinstance(result, bytes)
        return result

    def size(self, key: str) -> int:
        result = self._try("size", lambda: len(MemoryStorage.read(self, key)))
        assert isinstance(result, int)
        return result

    def read_range(self, key: str, start: int, end: int) -> bytes:
        check_range(key, start, end)
        result = self._try("read_range", lambda: MemoryStorage.read(self, key)[start:end])
        assert isinstance(result, bytes)
        return result

    def write_new(self, key: str, data: bytes) -> None:
        self._try("write_new", lambda: MemoryStorage.write_new(self, key, data))

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        self._try("write_parts", lambda: MemoryStorage.write_new(self, key, b"".join(parts())))

    def write_hint(self, key: str, data: bytes) -> None:
        self._try("write_hint", lambda: MemoryStorage.write_hint(self, key, data))

    def delete(self, key: str) -> None:
        self._try("delete", lambda: MemoryStorage.delete(self, key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._listed(MemoryStorage.list(self, prefix))

    def _listed(self, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        self.calls.append("list")
        for info in found:
            self._try("next", lambda: None)
            yield info


def patient(storage: Storage, waits: list[float] | None = None) -> Retrying:
    """Without real waiting; every wait is of middle length and takes its time on the clock."""
    waits = [] if waits is None else waits
    return Retrying(storage, sleep=waits.append, draw=lambda: 0.5, now=lambda: sum(waits))


class TestRetryingStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return Retrying(MemoryStorage())


class TestRetryingAStorageThatFailsNowAndThen(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return patient(Flaky(*(["before", "", "after", *[""] * 12] * 400)))


VERBS: dict[str, Callable[[Storage], object]] = {
    "read": lambda s: s.read("log/1"),
    "read_range": lambda s: s.read_range("log/1", 0, 2),
    "size": lambda s: s.size("log/1"),
    "write_new": lambda s: s.write_new("log/2", b"x"),
    "write_parts": lambda s: s.write_parts("log/2", 2, lambda: (part for part in (b"x", b"y"))),
    "write_hint": lambda s: s.write_hint("hint", b"x"),
    "delete": lambda s: s.delete("log/1"),
    "list": lambda s: list(s.list("")),
}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_tried_again_a_few_times_and_then_no_more(verb: str) -> None:
    storage = Flaky()
    storage.write_new("log/1", b"0123456789")
    storage.failures = ["before"] * 3
    waits: list[float] = []
    VERBS[verb](patient(storage, waits))
    assert len(waits) == 3
    MemoryStorage.write_hint(storage, "log/1", b"0123456789")

    storage.failures, waits = ["before"] * 50, []
    with pytest.raises(StorageBusyError, match=f"tried {TRIES_MAX} times") as caught:
        VERBS[verb](patient(storage, waits))
    assert len(waits) == TRIES_MAX - 1
    assert 50 - len(storage.failures) == TRIES_MAX
    assert (caught.value.path, caught.value.hint) == ("p", "h")


def test_waits_grow_and_chance_spreads_them() -> None:
    for drawn, expected in ((0.0, [0.05, 0.15, 0.45, 1.35, 4.05]), (1.0, [0.15, 0.45, 1.35, 4.05, 12.15])):
        waits: list[float] = []
        storage = Retrying(
            Flaky(*["before"] * 9), sleep=waits.append, draw=lambda d=drawn: d, now=lambda: 0.0
        )
        with pytest.raises(StorageBusyError):
            storage.read("log/1")
        assert waits == pytest.approx(expected)
        assert max(waits) <= 1.5 * WAIT_SECONDS_MAX


def test_slow_failures_are_not_tried_for_ever() -> None:
    storage = Flaky(*["before"] * 9)
    clock = iter(range(0, 10_000, 50))
    with pytest.raises(StorageBusyError, match="tried 3 times"):
        Retrying(storage, sleep=lambda _: None, now=lambda: float(next(clock))).read("log/1")

    assert SECONDS_MAX == 120


def test_what_trying_again_does_not_mend_is_raised_at_once() -> None:
    class Broken(MemoryStorage):
        calls = 0

        def read(self, key: str) -> bytes:
            self.calls += 1
            raise StorageError("broken")

        def write_new(self, key: str, data: bytes) -> None:
            self.calls += 1
            raise StorageBusyError("it has happened", landed=True)

    storage = Broken()
    with pytest.raises(StorageError, match="broken"):
        patient(storage).read("a")
    with pytest.raises(StorageBusyError) as caught:
        patient(storage).write_new("a", b"")

    assert caught.value.landed
    assert storage.calls == 2


def test_a_write_that_landed_in_silence_is_a_success() -> None:
    storage = Flaky("after")

    patient(storage).write_new("log/1", b"mine")

    assert storage.calls == ["write_new", "write_new", "read"]
    assert storage.read("log/1") == b"mine"


def test_parts_that_landed_in_silence_are_a_success() -> None:
    storage = Flaky("after")

    patient(storage).write_parts("log/1", 4, lambda: (part for part in (b"mi", b"ne")))

    assert storage.calls == ["write_parts", "write_parts", "read"]
    assert storage.read("log/1") == b"mine"


def test_a_write_that_did_not_land_and_lost_meanwhile_is_refused() -> None:
    storage = Flaky("before")
    MemoryStorage.write_new(storage, "log/1", b"theirs")

    with pytest.raises(ObjectExistsError):
        patient(storage).write_new("log/1", b"mine")


def test_a_key_that_was_taken_before_is_refused_without_a_look() -> None:
    storage = Flaky()
    MemoryStorage.write_new(storage, "log/1", b"mine")

    with pytest.raises(ObjectExistsError):
        patient(storage).write_new("log/1", b"mine")

    assert storage.calls == ["write_new"]


def test_the_look_back_is_patient_too() -> None:
    storage = Flaky("after", "", "before", "before")

    patient(storage).write_new("log/1", b"mine")

    assert storage.calls == ["write_new", "write_new", "read", "read", "read"]


def test_a_large_pack_is_known_by_its_name_and_size() -> None:
    data = b"x" * (1 << 20) + b"y"
    storage = Flaky("after")
    patient(storage).write_new(PACK, data)
    assert storage.calls == ["write_new", "write_new", "size"]

    storage = Flaky("before")
    MemoryStorage.write_new(storage, PACK, data[:-1])
    with pytest.raises(ObjectExistsError):
        patient(storage).write_new(PACK, data)

    storage = Flaky("after")
    patient(storage).write_new("log/1", data)
    assert storage.calls == ["write_new", "write_new", "read"]


def test_a_list_that_breaks_off_goes_on_where_it_was() -> None:
    storage = Flaky()
    for number in range(9):
        MemoryStorage.write_new(storage, f"log/{number}", b"x")
    storage.failures = ["", "", "", "before", "", "", "", "", "", "", "", "before"]

    assert [info.key for info in patient(storage).list("")] == [f"log/{number}" for number in range(9)]
    assert storage.calls.count("list") == 3


def test_it_shows_what_it_wraps() -> None:
    inner = MemoryStorage("memory://shown", writable=False)
    storage = Retrying(inner)

    assert storage.location == inner.location
    assert not storage.writable
    assert storage.reads_at_once == inner.reads_at_once
    assert repr(storage) == "Retrying(MemoryStorage('memory://shown'))"
    storage.settle("log/")
    storage.close()
