"""Stores that are damaged, and what is missed where it can be missed."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.errors.store_to_harm import Place, flip, make_store

import keepstone
from keepstone.history.checkpoint import Checkpoints


def damaged(harm: Callable[[Place], object]) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        harm(place)
        return place.read_all()

    return provoke


def newer_store(place: Place) -> None:
    path = place.path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def newer_commit(place: Place) -> None:
    data = bytearray(place.slot(1).read_bytes())
    data[4] = 2
    data[72:76] = struct.pack("<I", zlib.crc32(data[:72]))
    place.slot(1).write_bytes(data)


def gap(place: Place) -> object:
    place.slot(1).unlink()
    return place.save(1)


def foreign_commit(place: Place) -> None:
    other = make_store(place.folder / "other")
    place.slot(1).write_bytes((other / "log" / place.slot(1).name).read_bytes())


def cut_pack(place: Place) -> None:
    place.pack().write_bytes(place.pack().read_bytes()[:1000])


def torn_journal(place: Place) -> object:
    with keepstone.open(place.path) as store:
        answers = store.collection("c", durability="process")
        answers["first"] = "whole"
        answers["torn"] = "torn"
    last = max((place.path / "journals").glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns)
    last.write_bytes(last.read_bytes()[:-10])
    items = place.read_all()[3]
    assert items["first"] == "whole"
    assert "torn" not in items


def with_checkpoint(place: Place) -> tuple[Path, tuple[Any, ...]]:
    before = place.read_all()
    store = place.open()
    log = store.repository.session.log
    Checkpoints(store.repository.session.storage, log._slots).write(log.state)
    place.close()
    return next((place.path / "checkpoints").glob("0*")), before


def flipped_checkpoint(place: Place) -> object:
    path, before = with_checkpoint(place)
    flip(path, path.stat().st_size // 2)
    assert place.read_all() == before


def garbage_last(place: Place) -> object:
    _, before = with_checkpoint(place)
    (place.path / "checkpoints" / "LAST").write_bytes(b"garbage")
    assert place.read_all() == before


def no_caches(place: Place) -> object:
    _, before = with_checkpoint(place)
    shutil.rmtree(place.path / "checkpoints")
    shutil.rmtree(place.path / "cache", ignore_errors=True)
    assert place.read_all() == before


DAMAGE: Final[dict[str, Callable[[Place], object]]] = {
    "a byte of `store.json` is flipped": damaged(lambda p: flip(p.path / "store.json", 60)),
    "`store.json` is deleted": damaged(lambda p: (p.path / "store.json").unlink()),
    "`store.json` names a newer format": damaged(newer_store),
    "a byte of a commit is flipped": damaged(lambda p: flip(p.slot(1), 100)),
    "a commit of a newer format": damaged(newer_commit),
    "a commit in the middle is deleted, then one is made": gap,
    "a commit of another store in the log": damaged(foreign_commit),
    "a byte of a pack's content is flipped": damaged(lambda p: flip(p.pack(), 1000)),
    "a pack is cut short": damaged(cut_pack),
    "a pack is deleted": damaged(lambda p: p.pack().unlink()),
    "a journal's last item is torn": torn_journal,
    "a byte of a checkpoint is flipped": flipped_checkpoint,
    "`checkpoints/LAST` is garbage": garbage_last,
    "all caches and checkpoints are deleted": no_caches,
}
