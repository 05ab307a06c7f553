"""Defects of the history layer: slots, the rules of commits, checkpoints."""

from __future__ import annotations

from typing import Final

from tests.faults.defect import Defect

HISTORY_DEFECTS: Final = (
    Defect(
        "slot used again",
        "Who loses a slot to another empties it and takes it.",
        "keepstone.history.slots",
        (
            (
                "            if found:\n                return found\n",
                "            if found:\n"
                "                if found[0].txn == commit.txn:\n"
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
        "keepstone.history.log",
        (("        if there[0].txn != txn:\n", "        if there[0] is not commit:\n"),),
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
        (("        looks_behind = known is None\n", "        looks_behind = False\n"),),
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
