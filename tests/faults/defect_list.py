"""Defects of the real code: mistakes that somebody might make, or has made in another store.

Each is a piece of source text and what takes its place, and names the fastest test that notices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]


class Defect(NamedTuple):
    """What is wrong with the code, and which test says so."""

    name: str
    what: str
    """In words, for docs/defects.md."""
    module: str
    edits: tuple[tuple[str, str], ...]
    """Text that stands once in the module, and what takes its place."""
    test: str
    """As pytest names it."""

    @property
    def path(self) -> Path:
        """The module's file in this checkout."""
        return ROOT / "src" / Path(*self.module.split(".")).with_suffix(".py")


_STORAGE: Final = (
    Defect(
        "file not synced",
        "An object gets its name before its bytes are on the disk.",
        "keepstone.storage.local",
        (("            uninterrupted(self.calls.fsync, draft.fd)\n", ""),),
        "tests/storage/test_local_faults.py::test_the_order_is_write_fsync_link_fsync_of_the_folder",
    ),
    Defect(
        "folder not synced",
        "A new object's name is not brought to the disk.",
        "keepstone.storage.local",
        (
            (
                "without it.\n                self.folders.sync(folder)\n",
                "without it.\n",
            ),
        ),
        "tests/storage/test_local_faults.py::test_the_order_is_write_fsync_link_fsync_of_the_folder",
    ),
    Defect(
        "sync tried again",
        "After a failed fsync the same file is synced again, which then succeeds without having written.",
        "keepstone.storage.local",
        (
            (
                "            uninterrupted(self.calls.fsync, draft.fd)\n",
                "            try:\n"
                "                self.calls.fsync(draft.fd)\n"
                "            except OSError:\n"
                "                self.calls.fsync(draft.fd)\n",
            ),
        ),
        "tests/storage/test_local_faults.py::test_a_failed_fsync_is_never_tried_again_on_the_same_file",
    ),
    Defect(
        "EEXIST taken as success",
        "Writing to a key that is taken seems to succeed.",
        "keepstone.storage.local",
        (
            (
                "        if not landed:\n            raise ObjectExistsError(",
                "        if False:\n            raise ObjectExistsError(",
            ),
        ),
        "tests/storage/test_local.py::TestLocalStorage::test_a_taken_key_keeps_its_bytes",
    ),
    Defect(
        "name given by rename",
        "A temporary file gets its name even where that is taken: slots are overwritten.",
        "keepstone.storage.draft",
        (
            (
                "uninterrupted(self._calls.link, self._temporary, name, folder=self._folder)",
                "uninterrupted(self._calls.rename, self._temporary, name, folder=self._folder)",
            ),
        ),
        "tests/storage/test_local.py::TestLocalStorage::test_of_racing_writers_exactly_one_wins",
    ),
    Defect(
        "lockf for flock",
        "Locks belong to the process: a second opening of a store takes the journals of the first.",
        "keepstone.storage.platform",
        (("fcntl.flock(fd, ", "fcntl.lockf(fd, "),),
        "tests/storage/test_platform.py::test_the_lock_is_held_by_one_open_file_until_that_is_closed",
    ),
)

_BLOBS: Final = (
    Defect(
        "digest not compared",
        "What a pack gives is handed on without comparing its digest.",
        "keepstone.blobs.blobstore",
        (
            (
                "        if actual != digest:\n            raise DigestMismatchError(",
                "        if False:\n            raise DigestMismatchError(",
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
)

_HISTORY: Final = (
    Defect(
        "slot used again",
        "Who loses a slot to another empties it and takes it.",
        "keepstone.history.slots",
        (
            (
                "                return found if found.txn == commit.txn else None\n",
                "                if found.txn == commit.txn:\n"
                "                    return found\n"
                "                self._storage.delete(key)\n"
                "                continue\n",
            ),
        ),
        "tests/history/test_log_faults.py::test_a_lost_race_is_lost_at_the_slot_and_won_at_the_next",
    ),
    Defect(
        "txn not compared",
        "After a lost answer the own commit is taken for somebody else's.",
        "keepstone.history.slots",
        (("return found if found.txn == commit.txn else None", "return None"),),
        "tests/history/test_log_faults.py::test_a_lost_answer_of_a_commit_that_landed_is_a_success",
    ),
    Defect(
        "landed not told",
        "A commit whose folder cannot be synced is tried again as if nothing had happened.",
        "keepstone.history.slots",
        (("                if error.landed:\n                    raise\n", ""),),
        "tests/history/test_log_faults.py::test_a_commit_that_landed_but_may_be_lost_is_folded_and_reported",
    ),
    Defect(
        "others' commits not settled",
        "A commit is built on another's before that one is durable.",
        "keepstone.history.log",
        (("            self._slots.settle()\n", ""),),
        "tests/history/test_log_faults.py::test_others_commits_are_settled_before_they_are_built_on",
    ),
    Defect(
        "gap filled",
        "A lost slot before the last one is taken for the end of the log.",
        "keepstone.history.log",
        (("            self._slots.require(state.length)\n", "            pass\n"),),
        "tests/history/test_log_damage.py::test_a_log_with_a_gap_is_neither_read_nor_filled",
    ),
    Defect(
        "needs ignored",
        "A commit may rest on packs that are not live any more.",
        "keepstone.history.validate",
        (
            (
                "        if name not in view.packs:\n            yield Violation(Rule.NEEDS",
                "        if False:\n            yield Violation(Rule.NEEDS",
            ),
        ),
        "tests/history/test_validate.py::test_a_need_must_be_live",
    ),
    Defect(
        "stated ref ignored",
        "A ref that a commit only states need not be so.",
        "keepstone.history.validate",
        (
            (
                "        if present != change.old:\n",
                "        if present != change.old and change.old != change.new:\n",
            ),
        ),
        "tests/history/test_validate.py::test_a_stated_ref_must_still_be_so",
    ),
    Defect(
        "floor ignored",
        "A pack below the floor can be added.",
        "keepstone.history.validate",
        (("        if record.name.base < floor:\n", "        if False:\n"),),
        "tests/history/test_validate.py::test_a_pack_below_the_floor_is_not_added",
    ),
    Defect(
        "dropped name added again",
        "A pack whose deletion may be under way can be added.",
        "keepstone.history.validate",
        (("        if record.name in view.dropped:\n", "        if False:\n"),),
        "tests/history/test_validate.py::test_a_dropped_pack_is_not_added_again",
    ),
    Defect(
        "half a replacement",
        "Packs are replaced although one of the old ones is gone.",
        "keepstone.history.validate",
        (
            (
                "            if name not in view.packs:\n                yield Violation(Rule.REPLACE",
                "            if False:\n                yield Violation(Rule.REPLACE",
            ),
        ),
        "tests/history/test_validate.py::test_a_replacement_stands_on_live_packs_only",
    ),
    Defect(
        "horizon goes back",
        "A horizon can be set to an earlier time: what was forgotten is back.",
        "keepstone.history.validate",
        (("            elif present is not None and change.new < present:\n", "            elif False:\n"),),
        "tests/history/test_validate.py::test_a_horizon_never_goes_back_nor_vanishes",
    ),
    Defect(
        "journal sealed twice",
        "A journal that is in the log already can be adopted by another commit.",
        "keepstone.history.validate",
        (("        if journal in view.sealed:\n", "        if False:\n"),),
        "tests/history/test_validate.py::test_a_journal_is_sealed_once",
    ),
    Defect(
        "checkpoint not compared",
        "A checkpoint counts although the commit in its slot is another one.",
        "keepstone.history.checkpoint",
        (("        if state.number != number or state.hash != commit.hash:\n            return None\n", ""),),
        "tests/history/test_checkpoint.py::test_trouble_with_checkpoints_changes_only_speed",
    ),
    Defect(
        "checkpoint ahead of the log",
        "A checkpoint counts although its commit is not there.",
        "keepstone.history.checkpoint",
        (
            ("            if commit is None:\n                return None\n", ""),
            (" or state.hash != commit.hash:", " or (commit is not None and state.hash != commit.hash):"),
        ),
        "tests/history/test_checkpoint.py::test_a_log_shorter_than_its_checkpoint_is_continued_without_a_hole",
    ),
    Defect(
        "checkpoint one commit off",
        "A state of the past is taken from the checkpoint behind it.",
        "keepstone.history.checkpoint",
        (("number > number_max):", "number > number_max + 1):"),),
        "tests/history/test_log_past.py::test_the_state_at_every_number_is_the_state_that_was",
    ),
)

_REPOSITORY: Final = (
    Defect(
        "stamp not advanced",
        "A stamp is what the clock says, also after the clock was set back.",
        "keepstone.foundation.clock",
        (("now if now > last else last + 1", "now"),),
        "tests/faults/test_places.py::test_the_later_put_wins_after_the_clock_went_back_in_one_process",
    ),
    Defect(
        "stamps not followed",
        "A writer does not stamp above what others on the machine have set.",
        "keepstone.foundation.clock",
        (("            self._last = max(self._last, stamp)\n", ""),),
        "tests/faults/test_places.py::test_the_later_put_wins_after_the_clock_went_back_between_processes",
    ),
    Defect(
        "far stamps followed",
        "One clock in the next century drags all stamps there.",
        "keepstone.foundation.clock",
        (("            if stamp > self.now_ns() + FOLLOW_AHEAD_NS_MAX:\n", "            if False:\n"),),
        "tests/faults/test_places.py::test_a_clock_in_2099_drags_no_other_clock_along",
    ),
    Defect(
        "hidden by a far stamp",
        "What replaces an entry that lies far ahead is stamped below it.",
        "keepstone.repository.session",
        (("return stamp if row is None else max(stamp, row.stamp + 1)", "return stamp"),),
        "tests/faults/test_places.py::test_what_a_clock_in_2099_set_can_be_set_again",
    ),
    Defect(
        "older entry wins",
        "Of two entries of a key in packs the one with the lower stamp counts: what was removed is back.",
        "keepstone.repository.overlay",
        (
            (
                "            newer = self._order(spot) >= self._order(known)\n",
                "            newer = self._order(spot) <= self._order(known)\n",
            ),
        ),
        "tests/repository/test_collection.py::test_removed_keys_stay_removed_across_flushes_and_reopening",
    ),
    Defect(
        "log before journals",
        "A miss reads the log first and the journals second.",
        "keepstone.repository.session",
        (
            (
                "            gone = self.spool.refresh()\n            state = self.log.refresh()\n",
                "            state = self.log.refresh()\n            gone = self.spool.refresh()\n",
            ),
        ),
        "tests/repository/test_reading.py::test_an_item_that_is_published_between_two_looks_is_found",
    ),
    Defect(
        "sealing leaves out what others hold",
        "A pack sealed from journals does not carry a value that another pack holds already.",
        "keepstone.repository.sealing",
        (
            (
                "            if raw is not None and row.digest is not None:\n",
                "            if raw is not None and row.digest and not session.entries.find_blob(row.digest):\n",
            ),
        ),
        "tests/repository/test_sealing.py::test_a_sealed_pack_carries_the_value_of_every_entry_in_it",
    ),
    Defect(
        "journal removed before its commit",
        "A journal is unlinked when its pack is written, before the commit that adopts it.",
        "keepstone.repository.sealing",
        (
            (
                "        commit = session.log.append(\n",
                "        _ = [_unlink(session, adopted) for adopted in fresh]\n        commit = session.log.append(\n",
            ),
        ),
        "tests/repository/test_sealing.py::test_a_journal_whose_commit_fails_stays",
    ),
    Defect(
        "sealed journal adopted again",
        "A journal that is back after its commit is made into a second pack.",
        "keepstone.repository.sealing",
        (
            (
                "    fresh = [a for a in batch if a.journal.header.journal_id not in state.sealed]\n",
                "    fresh = batch\n",
            ),
            (
                "    sealed = [a for a in batch if a.journal.header.journal_id in state.sealed]\n",
                "    sealed = []\n",
            ),
            ("    if all(journal in state.sealed for journal in ids):\n        return None\n", ""),
        ),
        "tests/operations/test_recover.py::test_a_journal_that_comes_back_after_it_was_published_changes_nothing",
    ),
    Defect(
        "merging drops the newest entry",
        "When packs are merged, the newest entry of each is left out.",
        "keepstone.repository.merging",
        (
            (
                "        for collection, entry in contents.entries:\n",
                "        for collection, entry in contents.entries[:-1]:\n",
            ),
        ),
        "tests/repository/test_collection.py::test_many_small_packs_are_merged",
    ),
    Defect(
        "row not checked",
        "A row of the catalog is used without its check: a flipped bit leads to another's value.",
        "keepstone.repository.catalog",
        (
            (
                "            if pack is None or proof != entry_proof(\n",
                "            if pack is None or not entry_proof(\n",
            ),
        ),
        "tests/repository/test_catalog.py::test_a_damaged_key_in_the_catalog_hides_no_item",
    ),
    Defect(
        "catalog ahead of the log",
        "A catalog is believed although the log has no such commit.",
        "keepstone.repository.catalog",
        (("                if known != tip_hash or not self", "                if not self"),),
        "tests/repository/test_catalog.py::test_a_lost_commit_takes_no_older_item_with_it",
    ),
    Defect(
        "sum of the pieces not compared",
        "A large value is handed on without comparing the digest of the whole.",
        "keepstone.repository.session",
        (("actual = Digest(hasher.digest())", "actual = digest"),),
        "tests/repository/test_reading.py::test_pieces_that_do_not_make_the_whole_are_an_error",
    ),
    Defect(
        "gone pack looked for once",
        "A pack that was packed anew while it was looked for is an error.",
        "keepstone.repository.session",
        (
            (
                "                if self.log.state.number == tip:\n                    raise\n",
                "                raise\n",
            ),
        ),
        "tests/repository/test_reading.py::test_a_pack_that_was_merged_away_meanwhile_is_looked_up_again",
    ),
    Defect(
        "needs not stated",
        "A commit does not state the packs in which it found what it did not write.",
        "keepstone.repository.staging",
        (
            (
                "self._needs.add(name)\n            self._relied[digest] = place\n",
                "self._relied[digest] = place\n",
            ),
        ),
        "tests/repository/test_statements.py::test_a_save_states_the_packs_in_which_it_found_its_content",
    ),
    Defect(
        "alias states nothing",
        "An alias is set without stating the name whose version it means.",
        "keepstone.repository.sketch",
        (("        for name in sorted(self._stated - moved):\n", "        for name in ():\n"),),
        "tests/repository/test_statements.py::test_an_alias_states_the_name_whose_version_it_means",
    ),
    Defect(
        "number given again",
        "A version number is given again after its version was removed.",
        "keepstone.repository.refs",
        (("        given = max(self.given, number)\n", "        given = number\n"),),
        "tests/repository/test_artifacts.py::test_removed_numbers_are_never_given_again",
    ),
    Defect(
        "on disk without a sync",
        "An item counts as on disk when it is written.",
        "keepstone.repository.collection",
        (
            (
                '        if self.durability == "disk":\n            self._session.spool.sync(ticket)\n        elif',
                "        if",
            ),
        ),
        "tests/repository/test_sealing.py::test_an_item_is_on_disk_when_the_call_returns",
    ),
    Defect(
        "merging drops tombstones",
        "When packs are merged, removals are left out: what was removed is back.",
        "keepstone.repository.merging",
        (
            (
                "            contents.entries.append((collection, entry))\n",
                "            contents.entries.extend([(collection, entry)] if entry.digest else [])\n",
            ),
        ),
        "tests/repository/test_sealing.py::test_what_was_removed_stays_removed_when_packs_are_merged",
    ),
    Defect(
        "horizon ignored",
        "Entries below the horizon of their collection count.",
        "keepstone.repository.snapshot",
        (("since=read_horizon(state.refs, self._name)", "since=0"),),
        "tests/repository/test_snapshot.py::test_entries_below_the_horizon_are_in_no_snapshot",
    ),
    Defect(
        "damaged journal removed",
        "A journal is removed although something that had been synced cannot be read from it.",
        "keepstone.repository.sealing",
        (("        if adopted.path.name in damaged:\n", "        if False:\n"),),
        "tests/operations/test_recover.py::test_damage_below_what_was_synced_is_set_aside_and_the_rest_published",
    ),
    Defect(
        "journal of another history sealed",
        "A journal that goes on from commits that the log does not have is published all the same.",
        "keepstone.repository.sealing",
        (("                if not _fits(session, adopted):\n", "                if False:\n"),),
        "tests/repository/test_sealing.py::test_a_journal_of_another_history_is_left_alone",
    ),
)

DEFECTS: Final = {defect.name: defect for defect in (*_STORAGE, *_BLOBS, *_HISTORY, *_REPOSITORY)}
