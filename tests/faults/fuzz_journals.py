"""Journals to fuzz: their headers, entries and frames."""

from __future__ import annotations

import random
from functools import partial

from tests.faults.fuzz_mutations import mutated
from tests.faults.fuzz_target import ID, STORE, Target, payload_of, resealed

from keepstone.blobs.journal import JournalFile, encode_entry
from keepstone.blobs.journal_header import JournalHeader, encode_journal_header, read_journal_header
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import Kind
from keepstone.foundation.frame import encode_frame, encode_header
from keepstone.storage.calls import Calls


class _InMemory(Calls):
    """One file, in memory: all that reading a journal needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self, fd: int) -> None:
        return None


def _journal_parts(keys: int = 12) -> list[bytes]:
    header = JournalHeader(STORE, "/store", "host", ID, bytes(8), -1, bytes(32), 10**18)
    parts = [encode_journal_header(header)]
    end = len(parts[0])
    for n in range(keys):
        value = f"value {n} ".encode() * (n + 1)
        digest = Digest.of(value)
        parts.append(encode_header(int(Kind.BLOB), value, digest) + value)
        end += len(parts[-1])
        removed = n % 5 == 4
        parts.append(
            encode_entry(
                ID[:8], end, 10**18 + n, 0, None if removed else digest, 1, b"items", f"k{n}".encode()
            )
        )
        end += len(parts[-1])
    parts.append(encode_frame(Kind.FINAL, b""))
    return parts


def _lying_journal(random: random.Random, _: bytes, others: list[bytes]) -> bytes:
    """A journal whose frames are sound, but repeated, left out, in another order, or lying in what they say."""
    parts = _journal_parts()
    for _ in range(random.choice((1, 2, 5))):
        place = random.randrange(1, len(parts))
        action = random.random()
        if action < 0.25:
            del parts[place]
        elif action < 0.5:
            parts.insert(place, parts[random.randrange(len(parts))])
        elif action < 0.75:
            parts[place] = mutated(random, parts[place], others)
        else:
            numbers = [
                random.choice((0, 10**18, 2**63, 2**64 - 1, sum(map(len, parts[:place])))) for _ in "abc"
            ]
            parts[place] = encode_entry(
                ID[:8], *numbers, random.choice((None, bytes(32))), 9, random.randbytes(3), b"k\xff"
            )
    return b"".join(parts)


def _read_journal(data: bytes) -> object:
    calls = _InMemory(data)
    header, end = read_journal_header("journal", 3, calls)
    journal = JournalFile("journal", 3, header, end, calls, keep_history=True)
    journal.poll_to_end()
    for _, row in journal.all_rows():
        if row.offset >= 0:
            try:
                journal.read_value(row)
            except KeepstoneError:
                continue
    return list(journal.values()), journal.damage


def targets() -> list[Target]:
    """Return the decoders of journals."""
    journal = b"".join(_journal_parts())
    header_frame = partial(resealed, kind=Kind.JOURNAL, open_payload=partial(payload_of, Kind.JOURNAL))
    return [
        Target("journal", [journal], _read_journal),
        Target("journal header, sealed", [journal], _read_journal, header_frame),
        Target("journal, sealed frames", [journal], _read_journal, _lying_journal),
    ]
