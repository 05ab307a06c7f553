"""Dicts of arrays that open as mappings, of which each array is read when it is asked for."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.storage.slow import SlowStorage

import keepstone
from keepstone.foundation.errors import KeyNotFoundError, SerializerError

CHECKPOINT: dict[str, Any] = {
    "model": OrderedDict(
        (f"layer.{number}", np.full((256, 1024), number, dtype="<f4") + np.arange(1024, dtype="<f4"))
        for number in range(8)
    ),
    "state": {0: np.arange(3), (1, "b"): [np.arange(2), None]},
    "epoch": 7,
    "rate": float("inf"),
}
LAYER_BYTES = 1024 * 1024


def test_of_a_checkpoint_only_the_array_that_is_asked_for_is_read(slow: SlowStorage) -> None:
    draw = np.random.default_rng(1)
    noise = {name: np.frombuffer(draw.bytes(LAYER_BYTES), "<i8") for name in CHECKPOINT["model"]}
    with keepstone.open(slow.location, create=True) as store:
        store.save("checkpoint", {"model": noise, "epoch": 1})
    with keepstone.open(slow.location, mode="r") as store:
        items = store.resolve("checkpoint").items()
        slow.forget()
        model = items["model"]
        assert list(model) == list(noise)
        assert items["epoch"] == 1
        assert slow.bytes_read == 0

        assert np.array_equal(model["layer.3"], noise["layer.3"])
        assert LAYER_BYTES <= slow.bytes_read < LAYER_BYTES * 1.1


def test_its_items_are_those_of_what_load_returns(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        store.save("checkpoint", CHECKPOINT)
        items = store.resolve("checkpoint").items()

        assert list(items) == list(CHECKPOINT)
        assert list(items["state"]) == [0, (1, "b")]
        assert items["rate"] == float("inf")
        assert np.array_equal(items["state"][0], np.arange(3))
        one, nothing = items["state"][1, "b"]
        assert np.array_equal(one, np.arange(2))
        assert nothing is None
        assert all(np.array_equal(value, CHECKPOINT["model"][name]) for name, value in items["model"].items())
        assert "layer.9" not in items["model"]
        assert repr(items["model"]) == "<checkpoint@v1['model']: 8 items>"


def test_a_name_that_is_not_there_is_said_and_what_has_no_names_too(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        store.save("checkpoint", CHECKPOINT)
        store.save("list", [np.arange(2), np.arange(3)])

        with pytest.raises(
            KeyNotFoundError, match=r"checkpoint@v1\['model'\] has no item 'layer.9'"
        ) as raised:
            store.resolve("checkpoint").items()["model"]["layer.9"]
        assert "list(items)" in raised.value.hint
        with pytest.raises(SerializerError, match="list@v1 is a list, and has no items") as refused:
            store.resolve("list").items()
        assert "load" in refused.value.hint
