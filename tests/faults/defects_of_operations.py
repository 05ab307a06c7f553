"""Defects of syncing: what is lost, published or overruled between two stores."""

from __future__ import annotations

from typing import Final

from tests.faults.defect import Defect

OPERATIONS_DEFECTS: Final = (
    Defect(
        "conflict overruled",
        "An alias that was moved in both stores follows the source all the same.",
        "keepstone.operations.sync_names",
        (("    return Verdict(target, False, source != base)", "    return Verdict(source, True, False)"),),
        "tests/operations/test_sync_aliases.py::test_an_alias_that_both_moved_is_a_conflict_until_they_agree",
    ),
    Defect(
        "superseded entries go over",
        "Of a key all entries go over: what was replaced or removed is published.",
        "keepstone.operations.sync_rows",
        (
            (
                "                newest[key] = number << _ROW_BITS | row\n",
                "                newest[key] = number << _ROW_BITS | row\n                wanted[number][row] = 1\n",
            ),
        ),
        "tests/operations/test_sync_selection.py::test_what_was_replaced_or_removed_is_published_nowhere",
    ),
    Defect(
        "pack copied for a part of it",
        "A large pack is copied whole although not everything in it goes over.",
        "keepstone.operations.sync_survey",
        (
            (
                " or not all(r.is_whole for r in rows):\n",
                " or not rows:\n",
            ),
        ),
        "tests/operations/test_sync.py::test_a_large_pack_is_copied_as_it_is_only_if_all_of_it_is_wanted",
    ),
    Defect(
        "needs of a sync not stated",
        "What the target has already is relied on without naming its packs.",
        "keepstone.operations.sync_transfer",
        (("        staging.rely_on(found.needs)\n", ""),),
        "tests/operations/test_sync.py::test_content_that_is_there_is_not_copied_and_its_packs_are_needed",
    ),
    Defect(
        "merged packs taken for known",
        "What was merged from new packs before it was pushed is not looked at.",
        "keepstone.operations.sync_memory",
        (("            if packs.isdisjoint(group.olds):", "            if True:"),),
        "tests/operations/test_sync_requests.py::test_what_was_merged_before_it_was_pushed_is_new",
    ),
    Defect(
        "removed version comes back",
        "A version that was removed at the target is brought again.",
        "keepstone.operations.sync_names",
        (("            elif gone[row.digest] > 0:", "            elif False:"),),
        "tests/operations/test_sync.py::test_what_was_saved_here_and_removed_there_without_a_sync_stays_away",
    ),
    Defect(
        "sum of pieces not compared",
        "A large blob goes over without comparing the sum of its pieces.",
        "keepstone.operations.sync_outbox",
        (
            (
                "                if item.is_all and hasher.digest() != item.digest:\n",
                "                if False:\n",
            ),
        ),
        "tests/operations/test_sync_refusals.py::test_a_recipe_in_another_s_place_is_noticed",
    ),
    Defect(
        "collection not listed again",
        "Items come to a collection that was removed at the target, and nobody sees them.",
        "keepstone.operations.sync_names",
        (("not ref.number and begins:", "not ref.number and False:"),),
        "tests/operations/test_sync.py::test_a_collection_that_was_removed_there_is_listed_again_with_a_new_item",
    ),
    Defect(
        "another history not noticed",
        "A store that was put back is taken for the one that was synced with.",
        "keepstone.operations.sync_memory",
        (("    if found != mark.other_hash and mark.other >= 0:", "    if False:"),),
        "tests/operations/test_sync_refusals.py::test_another_store_in_the_old_one_s_place_is_noticed",
    ),
    Defect(
        "snapshot without its values",
        "The values of a snapshot are left behind where no entry brings them.",
        "keepstone.operations.sync_content",
        (
            (
                "            if newest is None or not (comes and self._arrivals.bring(collection, newest)):",
                "            if False:",
            ),
        ),
        "tests/operations/test_sync_selection.py::test_a_snapshot_by_itself_brings_its_values",
    ),
    Defect(
        "cut off sync forgotten",
        "What a sync that was cut off has written is written again under other names.",
        "keepstone.operations.sync",
        (("            return was_begun, True", "            return state.length, False"),),
        "tests/operations/test_sync_requests.py::test_an_interrupted_push_uploads_only_what_is_missing",
    ),
    Defect(
        "part taken for everything",
        "After a push of a selection the rest counts as pushed.",
        "keepstone.operations.sync",
        (('        if way == "push" and self._select is None:', '        if way == "push":'),),
        "tests/operations/test_sync_selection.py::test_one_version_keeps_its_number_and_the_others_can_still_come",
    ),
)
