"""Makes the golden artifacts: manifest and parts of values of every serializer that has a notation of its own.

    python -m tests.compat.artifacts        # writes tests/compat/artifacts.json; needs the libraries

An artifact of a release that was published is never made again: what is there is kept, what is new is added.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tests.objects.saving import save
from tests.values.plain import module

from keepstone.objects.manifest import encode_manifest
from keepstone.objects.standard import standard_registry

FILE = Path(__file__).with_name("artifacts.json")
PLAIN: dict[str, Any] = {"b": [1, None, "ü"], "a": {"on": "yes", "x": 0.1}}
COLUMNS: dict[str, list[Any]] = {"n": [1, None, 3], "s": ["ü", None, "x"]}


def values() -> dict[str, tuple[Any, str | None]]:
    """Return name → value, and the serializer where it must be named."""
    import pandas as pd
    import PIL.Image
    import plotly.graph_objects as graphs
    import polars as pl
    import pyarrow as pa
    from matplotlib.figure import Figure

    index = pd.Index(["i", "j", "k"], name="key")
    figure = Figure(figsize=(0.4, 0.3), dpi=30)
    frame = pd.DataFrame({"n": pd.array(COLUMNS["n"], dtype="Int64"), "s": COLUMNS["s"]}, index=index)
    return {
        "yaml": (PLAIN, "yaml"),
        "msgpack": (PLAIN, "msgpack"),
        "state": (module(PLAIN), None),
        "pyarrow": (pa.table({"n": COLUMNS["n"], "s": pa.array(COLUMNS["s"], pa.string_view())}), None),
        "pandas": (frame, None),
        "polars": (pl.DataFrame(COLUMNS, schema_overrides={"s": pl.Categorical}), None),
        "matplotlib": (figure, None),
        "plotly": (graphs.Figure(graphs.Scatter(y=[1]), layout={"template": "none"}), None),
        "PIL": (PIL.Image.new("RGB", (2, 1), "red"), None),
    }


def main() -> None:
    """Add what is not there yet."""
    known: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name, (value, serializer) in values().items():
        if name not in known:
            manifest, blobs = save(standard_registry(), value, serializer)
            known[name] = {
                "manifest": base64.b64encode(encode_manifest(manifest)).decode(),
                "parts": [base64.b64encode(blobs[part.digest]).decode() for part in manifest.parts],
            }
    FILE.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
