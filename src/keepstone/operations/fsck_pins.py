"""Checking pins: is what locks protect there, also where no name means it any more?

Layer: operations. A version that was removed lives on as long as a pin names it, and nothing else would miss it.
"""

from __future__ import annotations

from collections.abc import Sequence

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode
from keepstone.foundation.format import LOCK_BYTES_MAX
from keepstone.history.state import State
from keepstone.operations.closure import Content, PackBlobs, contents
from keepstone.operations.findings import UNREADABLE, Findings, invariant_of, told
from keepstone.operations.fsck_packs import CheckedPack
from keepstone.operations.lock import LockedName, parse_lock
from keepstone.operations.pins import PIN_PREFIX, PinnedLock
from keepstone.repository.entries import pack_place
from keepstone.storage.base import Storage


def check_pins(storage: Storage, state: State, packs: Sequence[CheckedPack], findings: Findings) -> None:
    """Check that every blob of what pins name lies in a pack, and is none of those that cannot be read."""
    blobs = PackBlobs(storage, [pack_place(pack.pack) for pack in packs], storage.location)
    damaged = frozenset[bytes]().union(*(pack.damaged for pack in packs))
    for ref, value in sorted(state.refs.items()):
        if not ref.startswith(PIN_PREFIX):
            continue
        try:
            (place,) = blobs.locate([Digest(value)]).values()
            raw = blobs.whole(Content(Digest(value), place))
            pinned = decode(raw, PinnedLock, what=ref, bytes_max=2 * LOCK_BYTES_MAX)
            names = parse_lock(pinned.lock, where=ref).names
        except UNREADABLE as error:
            findings.damage(
                invariant_of(error, "I3"), ref, f"what it pins cannot be read: {told(error)}", [ref]
            )
            continue
        for line in names:
            _check_line(blobs, line, f"{line.selector} (pinned in {pinned.where})", damaged, findings)


def _check_line(
    blobs: PackBlobs, line: LockedName, title: str, damaged: frozenset[bytes], findings: Findings
) -> None:
    needed: set[bytes] = set()
    problem = ""
    try:
        for content in contents(blobs, line):
            needed.add(bytes(content.digest))
            pieces = blobs.pieces(content)
            blobs.locate(piece.digest for piece in pieces)
            needed.update(bytes(piece.digest) for piece in pieces)
    except UNREADABLE as error:
        problem = told(error)
    lost = needed & damaged
    guilty = [trouble for trouble in findings.troubles if trouble.lost & lost or (problem and trouble.pack)]
    for trouble in guilty:
        trouble.touches.add(title)
    if (problem or lost) and not guilty:
        findings.damage("I3", title, problem or "cannot be read", [title])
