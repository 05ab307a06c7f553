"""Contenders: Keepstone and what people use today, each as its own documentation recommends.

All keep the same results under the same keys. `level` is what a put survives when it returns: `process` a kill,
`disk` a loss of power, `store` the same and visible to everybody. Each worker thread opens a contender of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.machine import has_package
from benchmarks.timing import KEEPSTONE

Level = Literal["process", "disk", "store"]

JSONL, JSON_FILES, SQLITE, DISKCACHE, JOBLIB = "JSONL", "JSON files", "SQLite", "diskcache", "joblib"


class Contender(Protocol):
    """Something that keeps results by key."""

    def put(self, key: str, value: Any) -> None:
        """Keep one result, at the contender's level."""
        ...

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Keep many results as fast as possible; for preparing, never timed."""
        ...

    def get(self, key: str) -> Any:
        """Return one result."""
        ...

    def keys(self) -> Iterable[str]:
        """Return all keys that are there."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Keepstone:
    """A collection of a store; all threads of a process share its journal."""

    def __init__(self, folder: Path, level: Level) -> None:
        import keepstone

        self.store = keepstone.open(folder)
        self.collection = self.store.collection("answers", durability=level)

    def put(self, key: str, value: Any) -> None:
        """One append to the journal."""
        self.collection[key] = value

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Fill and publish, so that packs and catalog are complete."""
        self.collection.add_many(pairs)
        self.store.flush()

    def get(self, key: str) -> Any:
        """Read, verified."""
        return self.collection[key]

    def keys(self) -> Iterable[str]:
        """All keys."""
        return self.collection

    def close(self) -> None:
        """Seal what is worth it."""
        self.store.close()


class JsonLines:
    """One line a result, flushed; synced at `disk`."""

    def __init__(self, folder: Path, level: Level) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.jsonl"
        self.file = self.path.open("a", encoding="utf-8")
        self.syncs = level != "process"

    def put(self, key: str, value: Any) -> None:
        """Append one line."""
        self.file.write(json.dumps({"key": key, "value": value}) + "\n")
        self.file.flush()
        if self.syncs:
            os.fsync(self.file.fileno())

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Append without flushing each."""
        self.file.writelines(json.dumps({"key": key, "value": value}) + "\n" for key, value in pairs)
        self.file.flush()

    def get(self, key: str) -> Any:
        """Read the file up to the key; nobody would."""
        return next(row["value"] for row in self._rows() if row["key"] == key)

    def keys(self) -> Iterable[str]:
        """Read the whole file."""
        return (row["key"] for row in self._rows())

    def _rows(self) -> Iterator[Any]:
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class JsonFiles:
    """One file a result, renamed into place; synced before at `disk`, its folder too at `store`."""

    def __init__(self, folder: Path, level: Level) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.level = level

    def put(self, key: str, value: Any) -> None:
        """Write, rename."""
        path = self.folder / f"{key}.json"
        temporary = self.folder / f".{key}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file)
            if self.level != "process":
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if self.level == "store":
            descriptor = os.open(self.folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Write each."""
        for key, value in pairs:
            (self.folder / f"{key}.json").write_text(json.dumps(value), encoding="utf-8")

    def get(self, key: str) -> Any:
        """Read one file."""
        return json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))

    def keys(self) -> Iterable[str]:
        """List the folder."""
        return (name[:-5] for name in os.listdir(self.folder) if name.endswith(".json"))

    def close(self) -> None:
        """Nothing is held."""


class Sqlite:
    """A table in WAL mode, one transaction a put; `synchronous` NORMAL survives a kill, FULL a loss of power."""

    def __init__(self, folder: Path, level: Level) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(folder / "results.sqlite", isolation_level=None, timeout=60)
        self._use_wal()
        self.connection.execute(f"PRAGMA synchronous = {'NORMAL' if level == 'process' else 'FULL'}")
        self.connection.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value TEXT)")

    def _use_wal(self) -> None:
        # Changing the mode does not wait for a lock as everything else does, and all workers begin at once.
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def put(self, key: str, value: Any) -> None:
        """Insert, committed by itself."""
        self.connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, json.dumps(value)))

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Insert in one transaction."""
        self.connection.execute("BEGIN")
        rows = ((key, json.dumps(value)) for key, value in pairs)
        self.connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)
        self.connection.execute("COMMIT")

    def get(self, key: str) -> Any:
        """Select one row."""
        row = self.connection.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0])

    def keys(self) -> Iterable[str]:
        """Select all keys."""
        return (row[0] for row in self.connection.execute("SELECT key FROM results"))

    def close(self) -> None:
        """Close the connection, which folds the write-ahead log in."""
        self.connection.close()


class DiskCache:
    """diskcache as a persistent mapping: nothing is evicted."""

    def __init__(self, folder: Path, level: Level) -> None:
        import diskcache  # pyright: ignore[reportMissingTypeStubs]

        synchronous = 1 if level == "process" else 2
        self.cache: Any = diskcache.Cache(
            str(folder), eviction_policy="none", size_limit=2**40, sqlite_synchronous=synchronous
        )

    def put(self, key: str, value: Any) -> None:
        """Set one key; waits for other writers as long as it takes."""
        self.cache.set(key, value, retry=True)

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Set all keys in one transaction."""
        with self.cache.transact():
            for key, value in pairs:
                self.cache.set(key, value)

    def get(self, key: str) -> Any:
        """Get one key."""
        return self.cache[key]

    def keys(self) -> Iterable[str]:
        """All keys."""
        return iter(self.cache)

    def close(self) -> None:
        """Close the connection."""
        self.cache.close()


def _computed(key: str, value: Any) -> Any:
    return value


class Joblib:
    """A memoized function: a miss keeps its result, a hit reads it."""

    def __init__(self, folder: Path, level: Level) -> None:
        import joblib  # pyright: ignore[reportMissingTypeStubs]

        self.call: Callable[[str, Any], Any] = joblib.Memory(str(folder), verbose=0).cache(  # pyright: ignore[reportUnknownMemberType]
            _computed, ignore=["value"]
        )

    def put(self, key: str, value: Any) -> None:
        """Call with a new key."""
        self.call(key, value)

    def add_many(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Call for each."""
        for key, value in pairs:
            self.call(key, value)

    def get(self, key: str) -> Any:
        """Call with a known key."""
        return self.call(key, None)

    def keys(self) -> Iterable[str]:
        """joblib does not tell."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


CONTENDERS: dict[str, Callable[[Path, Level], Contender]] = {
    KEEPSTONE: Keepstone,
    JSONL: JsonLines,
    JSON_FILES: JsonFiles,
    SQLITE: Sqlite,
    DISKCACHE: DiskCache,
    JOBLIB: Joblib,
}


def available(*names: str) -> list[str]:
    """Return those of `names` that are installed, in order."""
    return [name for name in names if name not in (DISKCACHE, JOBLIB) or has_package(name)]


def open_contender(name: str, folder: Path, level: Level = "process") -> Contender:
    """Open a contender's files below `folder`, as made by `level`."""
    return CONTENDERS[name](folder, level)


def disk_bytes(folder: Path, *, without: tuple[str, ...] = ()) -> int:
    """Return what the files below `folder`, or one file, occupy in blocks of the disk; `without` names folders."""
    total = 0
    if folder.is_file():
        return folder.stat().st_blocks * 512
    for path in folder.rglob("*"):
        if path.relative_to(folder).parts[0] not in without:
            with contextlib.suppress(FileNotFoundError):
                total += path.lstat().st_blocks * 512
    return total
