"""Defects of the blobs layer: digests, frames, journals and their locks."""

from __future__ import annotations

from typing import Final

from tests.faults.defect import Defect

BLOBS_DEFECTS: Final = (
    Defect(
        "digest not compared",
        "What a pack gives is handed on without comparing its digest.",
        "keepstone.blobs.blobstore",
        (
            (
                "    if actual != digest:\n        raise DigestMismatchError(",
                "    if False:\n        raise DigestMismatchError(",
            ),
        ),
        "tests/blobs/test_blobstore.py::test_a_frame_copied_over_another_is_noticed",
    ),
    Defect(
        "digest of a journal's value not compared",
        "What a journal gives is handed on without comparing its digest.",
        "keepstone.blobs.journal",
        (("        if actual != row.digest:\n", "        if False:\n"),),
        "tests/blobs/test_journal.py::test_a_value_damaged_after_it_was_indexed_is_an_error",
    ),
    Defect(
        "footer trusted",
        "The footer of a pack is used without looking at its checks.",
        "keepstone.blobs.pack",
        (
            (
                "    payload, _ = decode_frame(tail, start, kind=Kind.FOOTER, where=where)\n",
                "    payload = bytes(tail[start + 76 : len(tail) - TRAILER_BYTES])\n",
            ),
        ),
        "tests/blobs/test_footer.py::test_a_flipped_byte_in_a_footer_is_an_error",
    ),
    Defect(
        "torn frame accepted",
        "A journal's frames are taken without looking at their check.",
        "keepstone.blobs.journal",
        (
            (
                "            if zlib.crc32(window[payload:following]) != check:\n                if",
                "            if False:\n                if",
            ),
        ),
        "tests/blobs/test_journal.py::test_damage_below_what_was_synced_is_told_from_what_power_loss_leaves",
    ),
    Defect(
        "half a write taken for damage",
        "A frame that is still being written at the end of a living journal is stepped over.",
        "keepstone.blobs.journal",
        (
            (
                "                if following == size and not more:\n                    # The last",
                "                if False:\n                    # The last",
            ),
        ),
        "tests/blobs/test_journal.py::test_a_write_that_is_under_way_is_waited_for",
    ),
    Defect(
        "journal born unlocked",
        "A journal has its name before it is locked, so it can be adopted while it is born.",
        "keepstone.blobs.journal_writer",
        (('path, born = folder / name, f".tmp-{name}"', "path, born = folder / name, name"),),
        "tests/blobs/test_journal_writer.py::test_a_journal_is_locked_and_synced_before_it_has_a_name",
    ),
    Defect(
        "journal born unsynced",
        "A journal has its name before its header is on the disk.",
        "keepstone.blobs.journal_writer",
        (("            calls.fsync(lock.descriptor)\n", ""),),
        "tests/blobs/test_journal_writer.py::test_a_journal_is_locked_and_synced_before_it_has_a_name",
    ),
    Defect(
        "cut off at a counted end",
        "After an interrupt a torn write is cut off where the process thinks that the file ends.",
        "keepstone.blobs.journal_writer",
        (
            (
                "                self.poll()\n                if end != self.end:\n",
                "                if end != self.end:\n",
            ),
        ),
        "tests/blobs/test_journal_writer.py::test_an_interrupted_append_counts_whole_and_once",
    ),
    Defect(
        "acknowledged before the sync",
        "Threads that wait for a sync are told before it has ended.",
        "keepstone.blobs.journal_writer",
        (
            (
                "            self._sync_file()\n            self.synced = target\n",
                "            self.synced = target\n            self._sync_file()\n",
            ),
        ),
        "tests/blobs/test_journal_writer.py::test_a_sync_covers_what_was_appended_before_it_and_counts_when_it_has_ended",
    ),
    Defect(
        "sync covers what came later",
        "What was appended while a sync ran counts as synced.",
        "keepstone.blobs.journal_writer",
        (
            (
                "            target = self.end\n            self._sync_file()\n            self.synced = target\n",
                "            self._sync_file()\n            self.synced = self.end\n",
            ),
        ),
        "tests/blobs/test_journal_writer.py::test_a_sync_covers_what_was_appended_before_it_and_counts_when_it_has_ended",
    ),
    Defect(
        "error of fdatasync ignored",
        "A sync that failed counts as one that succeeded.",
        "keepstone.blobs.journal_writer",
        (("            self._failure = error\n            raise\n", "            self._failure = error\n"),),
        "tests/blobs/test_journal_writer.py::test_a_sync_that_fails_for_good_is_an_error_for_everybody",
    ),
    Defect(
        "lock inherited by a fork",
        "A forked child keeps its copies of the parent's locks.",
        "keepstone.blobs.held",
        (("    for lock in list(_held):\n        lock.close()\n", ""),),
        "tests/blobs/test_held.py::test_a_lock_is_free_when_its_holder_lets_go_whatever_children_live",
    ),
    Defect(
        "inode not checked",
        "Who locks a journal does not look whether its name still means the locked file.",
        "keepstone.blobs.adopting",
        (
            (
                "    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) and held.st_nlink > 0\n",
                "    return True\n",
            ),
            (
                "    try:\n        named, held",
                "    named = held = None\n    return True\n    try:\n        named, held",
            ),
        ),
        "tests/blobs/test_spool.py::test_who_locks_a_journal_that_was_adopted_meanwhile_lets_go",
    ),
    Defect(
        "gone journals forgotten at once",
        "A journal that is gone is forgotten before the log was read.",
        "keepstone.blobs.spool",
        (
            (
                "            return frozenset(known - listed)\n",
                "            self.forget(known - listed)\n            return frozenset(known - listed)\n",
            ),
        ),
        "tests/blobs/test_spool.py::test_a_journal_that_is_gone_answers_until_it_is_forgotten",
    ),
    Defect(
        "read by itself when it comes back",
        "A range that comes back much later counts as planned with what is let go before.",
        "keepstone.blobs.read_ahead",
        (("if known and known[-1].window >= self._window - 1:", "if known:"),),
        "tests/blobs/test_read_ahead.py::test_a_range_that_comes_back_is_fetched_once_in_a_while",
    ),
)
