"""The rules of the log: each broken once, on the writer's side and on the reader's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    RefConflictError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import INLINE_BYTES_MAX
from keepstone.history.commit import Draft, PackRecord, RefChange, Replacement
from keepstone.history.state import State
from keepstone.history.validate import (
    FEATURES_REF,
    HORIZON_PREFIX,
    Rule,
    StaleDraftError,
    check_draft,
    horizon_value,
    read_horizon,
)

Refused = Callable[[State, Draft, type[KeepstoneError], Rule], None]


@pytest.fixture
def refused(make: Any) -> Refused:
    """Check that the writer refuses a draft with one error, and the reader the commit by its rule."""

    def check(state: State, draft: Draft, error: type[KeepstoneError], rule: Rule) -> None:
        with pytest.raises(error):
            check_draft(state, draft)
        with pytest.raises(MalformedError) as caught:
            state.advance([make.next_commit(state, draft)])
        assert f"commit {state.length} " in str(caught.value)
        assert f"'{rule}'" in str(caught.value)

    return check


@pytest.fixture
def state(make: Any) -> State:
    """Packs a and b are live, c is dropped, the floor is 1."""
    return make.fold(
        Draft(add=(make.record("a"), make.record("b"), make.record("c"))),
        Draft(drop=(make.name("c"),), floor=1),
    )


def test_a_need_must_be_live(make: Any, state: State, refused: Refused) -> None:
    check_draft(state, Draft(needs=(make.name("a"),)))
    refused(state, Draft(needs=(make.name("c"),)), StaleDraftError, Rule.NEEDS)
    refused(state, Draft(needs=(make.name("never"),)), StaleDraftError, Rule.NEEDS)


def test_a_pack_below_the_floor_is_not_added(make: Any, state: State, refused: Refused) -> None:
    check_draft(state, Draft(add=(make.record("new", base=1),)))
    refused(state, Draft(add=(make.record("new", base=0),)), StaleDraftError, Rule.FLOOR)


def test_a_commit_that_raises_the_floor_adds_nothing_below_it(
    make: Any, state: State, refused: Refused
) -> None:
    check_draft(state, Draft(add=(make.record("new", base=2),), floor=2))
    refused(state, Draft(add=(make.record("new", base=1),), floor=2), StaleDraftError, Rule.FLOOR)


def test_an_inline_pack_is_judged_as_any_other(make: Any, state: State, refused: Refused) -> None:
    check_draft(state, make.inline("new", base=1))
    refused(state, make.inline("new", base=0), StaleDraftError, Rule.FLOOR)


def test_the_floor_never_falls(state: State, refused: Refused) -> None:
    check_draft(state, Draft(floor=1))
    refused(state, Draft(floor=0), StaleDraftError, Rule.FLOOR)


def test_the_floor_is_never_above_the_log(state: State, refused: Refused) -> None:
    check_draft(state, Draft(floor=3))
    refused(state, Draft(floor=4), InvalidInputError, Rule.SHAPE)


def test_a_dropped_pack_is_not_added_again(make: Any, refused: Refused) -> None:
    state = make.fold(Draft(add=(make.record("c"),)), Draft(drop=(make.name("c"),)))

    refused(state, Draft(add=(make.record("c"),)), StaleDraftError, Rule.DROPPED)
    check_draft(state, Draft(add=(make.record("c", base=2),)))


def test_adding_a_live_pack_again_is_no_fault_even_below_the_floor(make: Any, state: State) -> None:
    check_draft(state, Draft(add=(make.record("a"),)))


def test_only_a_live_pack_is_dropped(make: Any, state: State, refused: Refused) -> None:
    check_draft(state, Draft(drop=(make.name("a"),)))
    refused(state, Draft(drop=(make.name("c"),)), StaleDraftError, Rule.DROP)


def test_a_replacement_stands_on_live_packs_only(make: Any, state: State, refused: Refused) -> None:
    merged = make.record("merged", base=2)
    whole = Replacement((make.name("a"), make.name("b")), (merged.name,))
    lost = Replacement((make.name("a"), make.name("c")), (merged.name,))

    check_draft(state, Draft(add=(merged,), replace=(whole,)))
    refused(state, Draft(add=(merged,), replace=(lost,)), StaleDraftError, Rule.REPLACE)


def test_a_replacement_brings_its_new_packs_and_replaces_something(
    make: Any, state: State, refused: Refused
) -> None:
    merged = make.record("merged", base=2)
    refused(
        state, Draft(replace=(Replacement((make.name("a"),), (merged.name,)),)), InvalidInputError, Rule.SHAPE
    )
    refused(
        state, Draft(add=(merged,), replace=(Replacement((), (merged.name,)),)), InvalidInputError, Rule.SHAPE
    )


def test_a_ref_steps_from_its_present_value(make: Any, refused: Refused) -> None:
    state = make.fold(make.ref("model", b"1"))

    check_draft(state, make.ref("model", b"2", old=b"1"))
    check_draft(state, make.ref("model", None, old=b"1"))
    for change in (
        make.ref("model", b"2"),
        make.ref("model", b"2", old=b"0"),
        make.ref("other", b"2", old=b"1"),
    ):
        refused(state, change, RefConflictError, Rule.REF)


def test_a_stated_ref_must_still_be_so(make: Any, refused: Refused) -> None:
    state = make.fold(make.ref("model", b"1"))

    check_draft(state, make.ref("model", b"1", old=b"1"))
    refused(state, make.ref("model", b"0", old=b"0"), RefConflictError, Rule.REF)
    refused(state, make.ref("gone", b"0", old=b"0"), RefConflictError, Rule.REF)


def test_a_ref_conflict_says_what_was_expected_and_found(make: Any) -> None:
    state = make.fold(make.ref("model", b"\x01"))

    with pytest.raises(RefConflictError) as caught:
        check_draft(state, make.ref("model", b"\x03", old=b"\x02"))

    assert (caught.value.name, caught.value.expected, caught.value.found) == ("model", "02", "01")


def test_a_horizon_never_goes_back_nor_vanishes(make: Any, refused: Refused) -> None:
    name = HORIZON_PREFIX + "cache"
    state = make.fold(make.ref(name, horizon_value(300)))
    assert read_horizon(state.refs, "cache") == 300
    assert read_horizon(state.refs, "other") == 0

    check_draft(state, make.ref(name, horizon_value(301), old=horizon_value(300)))
    check_draft(state, make.ref(name, horizon_value(300), old=horizon_value(300)))
    refused(state, make.ref(name, horizon_value(299), old=horizon_value(300)), StaleDraftError, Rule.HORIZON)
    refused(state, make.ref(name, None, old=horizon_value(300)), InvalidInputError, Rule.SHAPE)
    refused(state, make.ref(name, b"\xff", old=horizon_value(300)), InvalidInputError, Rule.SHAPE)


def test_a_journal_is_sealed_once(make: Any, refused: Refused) -> None:
    state = make.fold(Draft(seals=(b"j" * 16,)))

    check_draft(state, Draft(seals=(b"k" * 16,)))
    refused(state, Draft(seals=(b"j" * 16,)), StaleDraftError, Rule.SEAL)


@pytest.mark.parametrize("what", ["add", "drop", "refs", "seals", "replace", "add and drop", "need and drop"])
def test_nothing_is_said_twice(make: Any, state: State, refused: Refused, what: str) -> None:
    new, a = make.record("new", base=2), make.name("a")
    draft = {
        "add": Draft(add=(new, new)),
        "drop": Draft(drop=(a, a)),
        "refs": Draft(refs=(RefChange("r", None, b"1"), RefChange("r", None, b"2"))),
        "seals": Draft(seals=(b"j" * 16, b"j" * 16)),
        "replace": Draft(drop=(a,), replace=(Replacement((a,), ()),)),
        "add and drop": Draft(add=(make.record("a"),), drop=(a,)),
        "need and drop": Draft(needs=(a,), drop=(a,)),
    }[what]

    refused(state, draft, InvalidInputError, Rule.SHAPE)


def test_a_pack_is_not_begun_in_the_future(make: Any, state: State, refused: Refused) -> None:
    check_draft(state, Draft(add=(make.record("new", base=2),)))
    refused(state, Draft(add=(make.record("new", base=3),)), InvalidInputError, Rule.SHAPE)


def test_a_footer_fits_its_pack(make: Any, state: State, refused: Refused) -> None:
    record = msgspec.structs.replace(make.record("new", base=2), size=10, footer_size=11)

    refused(state, Draft(add=(record,)), InvalidInputError, Rule.SHAPE)


def test_the_writer_refuses_fields_above_their_limits(make: Any, state: State) -> None:
    content = "x" * (INLINE_BYTES_MAX + 1)
    for draft in (
        make.inline(content, base=2),
        make.ref("", b""),
        make.ref("ü" * 513, b""),
        make.ref("r", bytes(4097)),
        Draft(seals=(b"short",)),
    ):
        with pytest.raises(InvalidInputError):
            check_draft(state, draft)


def test_the_writer_refuses_inline_bytes_of_another_pack(make: Any, state: State) -> None:
    record = PackRecord(make.name("promised", 2), 3, 0, 0, (), 0, 1)

    with pytest.raises(InvalidInputError, match="inline bytes"):
        check_draft(state, Draft(inline=record, inline_bytes=b"abc"))


def test_a_commit_of_another_number_breaks_the_chain(make: Any, state: State) -> None:
    commit = make.next_commit(state, Draft())
    for number in (state.number, state.number + 2):
        with pytest.raises(MalformedError, match="chain"):
            state.advance([msgspec.structs.replace(commit, number=number)])


def test_a_commit_of_another_parent_breaks_the_chain(make: Any, state: State) -> None:
    commit = make.next_commit(state, Draft())
    first = make.next_commit(State(), Draft())

    with pytest.raises(MalformedError, match="chain"):
        state.advance([msgspec.structs.replace(commit, parent=bytes(32))])
    with pytest.raises(MalformedError, match="chain"):
        State().advance([msgspec.structs.replace(first, parent=b"x" * 32)])


def features(read: tuple[str, ...] = (), write: tuple[str, ...] = ()) -> bytes:
    return msgspec.msgpack.encode({"read": read, "write": write})


def test_an_unknown_read_feature_is_refused_at_the_fold(make: Any) -> None:
    draft = make.ref(FEATURES_REF, features(read=("groups",)))

    with pytest.raises(UnsupportedFormatError) as caught:
        make.fold(draft)

    assert caught.value.found == "groups"
    with pytest.raises(InvalidInputError):
        check_draft(State(), draft)


def test_an_unknown_write_feature_opens_for_reading_until_it_is_gone(make: Any) -> None:
    value = features(write=("leases",))
    locked = make.fold(make.ref(FEATURES_REF, value))

    assert locked.read_only
    assert not locked.advance([make.next_commit(locked, make.ref(FEATURES_REF, None, old=value))]).read_only
    with pytest.raises(InvalidInputError):
        check_draft(State(), make.ref(FEATURES_REF, value))


def test_no_features_and_known_ones_change_nothing(make: Any) -> None:
    assert not make.fold(make.ref(FEATURES_REF, features())).read_only
    check_draft(State(), make.ref(FEATURES_REF, features()))


def test_features_that_are_no_map_are_malformed(make: Any) -> None:
    draft = make.ref(FEATURES_REF, b"\xc1")

    with pytest.raises(MalformedError):
        make.fold(draft)
    with pytest.raises(InvalidInputError):
        check_draft(State(), draft)
