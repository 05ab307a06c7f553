"""The fold: what commits add up to, however they are cut into steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.foundation.format import log_key
from keepstone.history.checkpoint import decode_checkpoint, encode_checkpoint
from keepstone.history.commit import Commit, Draft, RefChange, Replacement
from keepstone.history.state import TIME_RUNS_MAX, DroppedPack, LivePack, State, TimeRun
from keepstone.history.validate import HORIZON_PREFIX, horizon_value


def test_the_empty_state_awaits_commit_0() -> None:
    state = State()

    assert (state.number, state.length, state.hash, state.packs, state.refs) == (-1, 0, bytes(32), {}, {})


def test_packs_are_found_in_their_object_or_in_their_slot(make: Any) -> None:
    state = make.fold(Draft(add=(make.record("a"),)), make.inline("b"))

    a, b = state.packs[make.name("a")], state.packs[make.name("b")]
    assert (a.key, a.offset) == (make.name("a").key, 0)
    assert b.key == log_key(1)
    assert b.offset > 0


def test_adding_a_live_pack_again_leaves_it_where_it_was(make: Any) -> None:
    once = make.fold(make.inline("a"))
    twice = make.fold(make.inline("a"), Draft(add=(make.record("a"),)))

    assert twice.packs == once.packs


def test_a_dropped_pack_is_remembered_until_the_floor_passes_its_drop(make: Any) -> None:
    drafts = [make.inline("a"), Draft(drop=(make.name("a"),)), Draft(floor=1), Draft(floor=2)]

    states = [make.fold(*drafts[:count]) for count in range(1, 5)]

    remembered = {make.name("a"): DroppedPack(1, make.now_ns, slot=0)}
    assert [state.dropped for state in states] == [{}, remembered, remembered, {}]
    assert states[1].packs == {}


def test_a_replacement_drops_its_olds_and_adds_its_news(make: Any) -> None:
    merged = make.record("merged", base=1)
    state = make.fold(
        Draft(add=(make.record("a"), make.record("b"))),
        Draft(add=(merged,), replace=(Replacement((make.name("a"), make.name("b")), (merged.name,)),)),
    )

    assert state.packs == {merged.name: LivePack(merged)}
    assert set(state.dropped) == {make.name("a"), make.name("b")}


def test_refs_are_set_moved_and_removed(make: Any) -> None:
    state = make.fold(make.ref("a", b"1"), make.ref("b", b"1"), make.ref("a", b"2", old=b"1"))
    assert state.refs == {"a": b"2", "b": b"1"}

    removed = state.advance([make.next_commit(state, make.ref("b", None, old=b"1"))])
    assert removed.refs == {"a": b"2"}


def test_a_sealed_journal_is_remembered_while_its_commit_is_not_below_the_floor(make: Any) -> None:
    drafts = [Draft(), Draft(seals=(b"j" * 16,)), Draft(floor=1), Draft(floor=2)]

    states = [make.fold(*drafts[:count]) for count in range(2, 5)]

    assert [state.sealed for state in states] == [{b"j" * 16: 1}, {b"j" * 16: 1}, {}]


def test_a_state_is_never_changed_by_what_follows(make: Any) -> None:
    before = make.fold(Draft(add=(make.record("a"),), refs=(RefChange("r", None, b"1"),)))
    kept = encode_checkpoint(before)

    before.advance(
        [make.next_commit(before, Draft(drop=(make.name("a"),), refs=(RefChange("r", b"1", None),)))]
    )

    assert encode_checkpoint(before) == kept
    with pytest.raises(TypeError):
        before.refs["r"] = b"2"  # type: ignore[index]


def test_untouched_mappings_are_shared_between_states(make: Any) -> None:
    before = make.fold(Draft(add=(make.record("a"),)))

    after = before.advance([make.next_commit(before, make.ref("r", b"1"))])

    assert after.packs is before.packs


def test_times_that_fall_begin_a_new_run(make: Any) -> None:
    state = State()
    for time_ns in (5, 5, 9, 3, 4):
        state = state.advance([make.next_commit(state, Draft(), time_ns=time_ns)])

    assert state.runs == (TimeRun(0, 5), TimeRun(3, 3))


def test_remembered_runs_are_bounded(make: Any) -> None:
    state = State()
    for time_ns in range(2 * TIME_RUNS_MAX, 0, -1):
        state = state.advance([make.next_commit(state, Draft(), time_ns=time_ns)])

    assert len(state.runs) == TIME_RUNS_MAX
    assert state.runs[-1] == TimeRun(state.number, 1)


# ---- any history ---------------------------------------------------------------------------------------


def a_draft(make: Any, state: State, data: st.DataObject) -> Draft:
    """Some draft that is valid after `state`."""
    live = sorted(state.packs)
    tag = data.draw(st.integers(0, 4))
    base = data.draw(st.integers(state.floor, state.length))
    kind = data.draw(
        st.sampled_from(["add", "inline", "drop", "replace", "refs", "floor", "seal", "horizon"])
    )
    free = make.name(f"p{tag}", base) not in state.dropped
    if kind == "add" and free:
        return Draft(add=(make.record(f"p{tag}", base),), needs=tuple(live[:1]))
    if kind == "inline" and free:
        return make.inline(f"p{tag}", base)
    if kind in ("drop", "replace") and live:
        name = data.draw(st.sampled_from(live))
        if kind == "drop":
            return Draft(drop=(name,))
        merged = make.record(f"merged {state.number}", state.length)
        return Draft(add=(merged,), replace=(Replacement((name,), (merged.name,)),))
    if kind == "floor":
        return Draft(floor=data.draw(st.integers(state.floor, state.length + 1)))
    if kind == "seal":
        return Draft(seals=(state.length.to_bytes(16, "big"),))
    if kind == "horizon":
        name = HORIZON_PREFIX + "cache"
        return make.ref(name, horizon_value(state.length * 10), old=state.refs.get(name))
    name = f"ref{tag}"
    old = state.refs.get(name)
    return make.ref(name, data.draw(st.sampled_from([b"1", b"2", old])), old=old)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fold_equals_checkpoint_equals_state_for_every_prefix(make: Any, data: st.DataObject) -> None:
    commits: list[Commit] = []
    states = [State()]
    for _ in range(data.draw(st.integers(1, 15))):
        draft = a_draft(make, states[-1], data)
        time_ns = data.draw(st.integers(0, 5))
        commits.append(make.next_commit(states[-1], draft, time_ns=time_ns))
        states.append(states[-1].advance(commits[-1:]))

    for length, state in enumerate(states):
        assert State().advance(commits[:length]) == state
        assert not set(state.packs) & set(state.dropped)
        if length:
            stored = encode_checkpoint(state)
            again = decode_checkpoint(stored, where="here")
            assert again == state
            assert encode_checkpoint(again) == stored
            assert again.advance(commits[length:]) == states[-1]


def test_equal_states_reached_in_another_order_give_equal_bytes(make: Any) -> None:
    one = make.fold(Draft(add=(make.record("a"), make.record("b")), refs=(RefChange("r", None, b"1"),)))
    reordered = State(
        **{name: getattr(one, name) for name in State.__struct_fields__}
        | {"packs": dict(reversed(one.packs.items())), "refs": dict(reversed(one.refs.items()))}
    )

    assert encode_checkpoint(reordered) == encode_checkpoint(one)
