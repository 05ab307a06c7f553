"""What serializers of earlier releases wrote loads as what it was."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.compat.artifacts import COLUMNS, FILE, PLAIN
from tests.objects.saving import Saved
from tests.objects.saving import load as build

from keepstone.foundation.digest import Digest
from keepstone.objects.figures import Picture
from keepstone.objects.manifest import decode_manifest
from keepstone.objects.standard import standard_registry

GOLDEN: dict[str, Any] = json.loads(FILE.read_text())


def load(name: str, kind: Any = None) -> Any:
    manifest = decode_manifest(base64.b64decode(GOLDEN[name]["manifest"]))
    contents = [base64.b64decode(part) for part in GOLDEN[name]["parts"]]
    assert [bytes(Digest.of(content)) for content in contents] == [part.digest for part in manifest.parts]
    blobs = {part.digest: content for part, content in zip(manifest.parts, contents, strict=True)}
    return build(standard_registry(), Saved(manifest, blobs), kind)


@pytest.mark.parametrize("name", ["yaml", "msgpack", "state"])
def test_notations_and_states_load(name: str) -> None:
    if name == "yaml":
        pytest.importorskip("yaml")
    assert load(name) == PLAIN


def test_an_arrow_table_loads() -> None:
    pa = pytest.importorskip("pyarrow")
    table = load("pyarrow")

    assert table.schema.types == [pa.int64(), pa.string_view()]
    assert table.to_pydict() == COLUMNS


def test_a_pandas_frame_loads() -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    frame = load("pandas")

    assert list(frame.index) == ["i", "j", "k"]
    assert frame.index.name == "key"
    assert str(frame.dtypes["n"]) == "Int64"
    assert load("pandas", dict)["n"] == COLUMNS["n"]


def test_a_polars_frame_loads() -> None:
    pl = pytest.importorskip("polars")
    frame = load("polars")

    assert frame.dtypes == [pl.Int64, pl.Categorical]
    assert frame.to_dict(as_series=False) == COLUMNS


def test_pictures_load() -> None:
    assert type(load("matplotlib")) is Picture
    assert load("PIL", bytes).startswith(b"\x89PNG")
    assert load("plotly", dict)["data"] == [{"type": "scatter", "y": [1]}]
