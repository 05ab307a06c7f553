"""Objects with dump_state and load_state: their state is kept, never the object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.saving import load, save
from tests.objects.test_plain import JSON, TEXT, exact
from tests.values.plain import Module, Needy, module

from keepstone.foundation.errors import SerializerError
from keepstone.objects.standard import standard_registry


@given(st.dictionaries(TEXT, JSON, max_size=3))
@settings(max_examples=25)
def test_a_state_loads_as_a_dict_into_a_class_or_into_an_instance(state: dict[str, Any]) -> None:
    registry = standard_registry()
    saved = save(registry, module(state))
    target = Needy(3)

    assert saved[0].serializer == "state"
    assert exact(load(registry, saved)) == exact(state)
    assert exact(load(registry, saved, dict)) == exact(state)
    made = load(registry, saved, Module)
    assert type(made) is Module
    assert exact(made.state) == exact(state)
    assert load(registry, saved, target) is target
    assert exact(target.state) == exact(state)


def test_equal_states_are_one_artifact() -> None:
    registry = standard_registry()

    assert save(registry, module({"a": 1})) == save(registry, module({"a": 1}))


def test_a_class_that_needs_arguments_is_to_be_made_by_the_caller() -> None:
    registry = standard_registry()

    with pytest.raises(SerializerError, match="Needy cannot be made without arguments") as caught:
        load(registry, save(registry, module({})), Needy)
    assert "type=your_object" in caught.value.hint


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {1}}, r"\{1\} of type set at \$.a, in the state of Module"),
        ({"w": float("nan")}, r"nan at \$.w, in the state of Module"),
        ({"w": memoryview(b"1")}, "of type memoryview"),
        (b"raw", r"Module.dump_state\(\) gives a bytes"),
        ({1}, r"\{1\} of type set at \$, in the state of Module"),
    ],
)
def test_a_state_that_json_cannot_keep_is_refused(state: Any, message: str) -> None:
    with pytest.raises(SerializerError, match=message) as caught:
        save(standard_registry(), module(state))
    assert caught.value.hint


def test_a_class_is_no_object_with_a_state() -> None:
    with pytest.raises(SerializerError, match="nothing here saves a type"):
        save(standard_registry(), Module)
    with pytest.raises(SerializerError, match=r"dict has no dump_state\(\)"):
        save(standard_registry(), {}, "state")


def test_a_state_with_arrays_in_it_is_kept_as_they_are() -> None:
    state = {"rate": 0.5, "weights": np.arange(6, dtype="<f4").reshape(2, 3), (1, 2): None}
    registry = standard_registry()
    saved = save(registry, module(state))

    assert (saved.manifest.serializer, saved.manifest.type_name) == ("state", "tests.values.plain.Module")
    assert [part.path for part in saved.manifest.parts] == ["structure.json", "tensors/weights"]
    for loaded in (
        load(registry, saved),
        load(registry, saved, Module).state,
        load(registry, saved, Needy(1)).state,
    ):
        assert loaded.keys() == state.keys()
        assert loaded["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
