"""What a sync costs in requests, where a store is elsewhere: what looking took is counted, what follows is reckoned.

Layer: operations. A plan looks at both stores as the sync itself does first; so what it asked is counted, and only what
is then read and written is an estimate, from the sizes of what goes over.
"""

from __future__ import annotations

from typing import Final

from keepstone.history.state import LivePack
from keepstone.operations.sync_outbox import NEW_PACK_BYTES
from keepstone.operations.sync_reading import PART_BYTES as READ_BYTES
from keepstone.operations.sync_reading import RUN_BYTES_MAX, SMALL_PACK_BYTES
from keepstone.operations.sync_survey import Survey
from keepstone.repository.medium import is_for_one_writer, probe_ref
from keepstone.storage.base import Storage
from keepstone.storage.bucket import PART_BYTES, SINGLE_BYTES_MAX
from keepstone.storage.locate import is_bucket
from keepstone.storage.probe import PROBE_REQUESTS

COMMIT_REQUESTS: Final = 2
"""The slot, and offering it once more: the first commit of a session sees whether the medium refuses."""
CREATE_REQUESTS: Final = 7
"""Looking for a store once more, `store.json`, the log, and the commit that records the probe."""


def sending_requests(source: Storage, target: Storage, found: Survey) -> int:
    """Return how many requests it takes, about, to bring over what a survey found, at the stores that are elsewhere."""
    if found.is_empty:
        return 0
    reads = _reading(found) if source.reads_at_once > 1 else 0
    return reads + (_writing(found) if target.reads_at_once > 1 else 0) + _probing(target, found)


def creating_requests(target: Storage) -> int:
    """Return how many requests it takes to make a store."""
    if target.reads_at_once <= 1:
        return 0
    return CREATE_REQUESTS + (PROBE_REQUESTS if is_bucket(target.location) else 0)


def _probing(target: Storage, found: Survey) -> int:
    state = found.target_state
    if state.number < 0 or not is_bucket(target.location) or probe_ref(target.location) in state.refs:
        return 0
    return 0 if is_for_one_writer(state) else PROBE_REQUESTS


def _writing(found: Survey) -> int:
    whole = [pack.record.size for pack in found.packs]
    rest, packs = found.bytes - sum(whole), found.objects - len(whole)
    full = min(packs, rest // NEW_PACK_BYTES)
    new = [NEW_PACK_BYTES] * full + ([rest - full * NEW_PACK_BYTES] if packs > full else [])
    return sum(map(_puts, [*whole, *new])) + (packs - len(new)) + COMMIT_REQUESTS


def _puts(size: int) -> int:
    return 1 if size <= SINGLE_BYTES_MAX else 2 - (-size // PART_BYTES)


def _reading(found: Survey) -> int:
    """Neighbours are read together, small packs at once; footers were read by looking."""
    whole = sum(-(-pack.record.size // READ_BYTES) for pack in found.packs)
    packs: dict[tuple[str, int], int] = {}
    for rows in (rows for of_pack in found.rows for rows in of_pack):
        _note(packs, rows.pack)
    blobs: dict[tuple[str, int], int] = {}
    for item in found.content:
        for place in (item.place, *(place for _, place in item.pieces)):
            key = place.pack.key, place.pack.offset
            blobs[key] = blobs.get(key, 0) + place.stored_size
            packs.setdefault(key, 0)
    return whole + sum(_runs(max(size, blobs.get(key, 0))) for key, size in packs.items())


def _note(packs: dict[tuple[str, int], int], pack: LivePack) -> None:
    packs[pack.key, pack.offset] = pack.record.size


def _runs(size: int) -> int:
    return 1 if size <= SMALL_PACK_BYTES else -(-size // RUN_BYTES_MAX)
