"""A name that is an artifact in one store and a collection in the other: refused, until it is removed in one."""

from __future__ import annotations

import pytest
from tests.operations.handing import seen

from keepstone import KindError, Store


def test_a_kind_that_differs_changes_nothing(here: Store, there: Store) -> None:
    here.save("other", 1)
    here.save("x", 1)
    there.collection("x")["k"] = 1
    there.flush()
    before = seen(there)
    with pytest.raises(
        KindError, match="'x' is of kind artifact where it comes from, and of kind collection at"
    ):
        here.push(there)
    assert seen(there) == before


@pytest.mark.parametrize("removed", ["here", "there"])
def test_a_kind_that_differs_is_settled_by_removing_the_name_on_one_side(
    removed: str, here: Store, there: Store
) -> None:
    here.save("mine", 1)
    here.save("x", 1, aliases=["prod"])
    there.save("theirs", 2)
    there.collection("x")["k"] = 1
    there.flush()
    with pytest.raises(KindError) as caught:
        here.sync(there)
    assert "`keepstone remove x`" in caught.value.hint
    (here if removed == "here" else there).remove("x")

    report = here.sync(there)
    assert [way.withheld for way in report.changes] == ([("x",), ()] if removed == "here" else [(), ("x",)])
    assert "  x stays away: " in str(report)
    assert (there.load("mine"), here.load("theirs")) == (1, 2)
    if removed == "here":
        assert here.kind("x") is None
        assert dict(there.collection("x")) == {"k": 1}
    else:
        assert here.load("x@prod") == 1
        assert there.kind("x") is None
        assert here.push(there, select=["x", "mine"], afresh=True).changes[0].withheld == ("x",)
        assert here.push(there, select=["x@prod"]).changes[0].withheld == ("x",)
    assert here.fsck(read_data=True).findings == there.fsck(read_data=True).findings == ()
    again = here.sync(there)
    assert (again.conflicts, again.is_nothing) == ((), True)
    # Now both have something of it, each of its kind.
    here.save("x", 3)
    there.collection("x")["k"] = 2
    there.flush()
    with pytest.raises(KindError):
        here.sync(there)
