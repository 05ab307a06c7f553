"""Defects of the repository layer, and of the clock: stamps, sealing, merging, the catalog, names, snapshots."""

from __future__ import annotations

from typing import Final

from tests.faults.defect import Defect

REPOSITORY_DEFECTS: Final = (
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
        (("return max(stamp, horizon, 0 if row is None else row.stamp + 1)", "return stamp"),),
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
                "        gone = self.spool.refresh()\n        state = read_log()\n",
                "        state = read_log()\n        gone = self.spool.refresh()\n",
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
        "keepstone.blobs.streaming",
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
                "self._needs.add(name)\n        self._relied[digest] = place\n",
                "self._relied[digest] = place\n",
            ),
        ),
        "tests/repository/test_statements.py::test_a_save_states_the_packs_in_which_it_found_its_content",
    ),
    Defect(
        "pieces not stated",
        "A commit states the pack of a recipe that it found, and not those of the pieces.",
        "keepstone.repository.staging",
        (("                places[piece.digest] = found\n", "                pass\n"),),
        "tests/repository/test_large_content.py::test_content_that_was_cut_in_another_way_is_not_stored_again",
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
                "        else:\n            self._session.spool.sync(ticket)\n",
                "",
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
