"""Makes the golden store of arrays and tensors; needs numpy and torch to write, and numpy alone to read.

python -m tests.compat.arrays      # writes tests/compat/<version>-arrays, anew
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.compat.make import HERE, LEFT_OUT, files_below

import keepstone


def arrays() -> dict[str, Any]:
    """Return what numpy can say of all that was saved: what loads with `type=dict`, where it is a container."""
    import numpy

    base = numpy.arange(12, dtype="<f4")
    return {
        "plain": base.reshape(3, 4),
        "fortran": numpy.asfortranarray(base.reshape(3, 4)),
        "big-endian": base.astype(">f8"),
        "fields": numpy.array([(1, "ü", [2, 3])], [("größe", "<i4"), ("text", "<U1"), ("pair", "<i2", (2,))]),
        "dates": numpy.array(["2026-11-20", "NaT"], "<M8[D]"),
        "empty": numpy.zeros((0, 3), "|b1"),
        "scalar": numpy.float32(1.5),
        "large": numpy.arange(300_000, dtype="<i4") // 10_000,
        "tree": {
            "w": base,
            "view": base[2:8:2],
            0: [(numpy.int8(3), None)],
            "0": float("inf"),
            (1, b"x"): True,
        },
        "torch": {"w": base.reshape(3, 4), "t": base.reshape(3, 4).T, "lr": 0.1, "state": {0: base[:0]}},
    }


def as_torch(values: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of which `torch` above are the arrays."""
    import torch

    weight = torch.from_numpy(values["w"].copy())
    return {"w": torch.nn.Parameter(weight), "t": weight.t(), "lr": 0.1, "state": {0: torch.empty(0)}}


def make(target: Path) -> None:
    """Write the store, and what is expected of it, to `target`."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "arrays"
        with keepstone.open(place) as store:
            for name, value in arrays().items():
                store.save(name, as_torch(value) if name == "torch" else value)
            store.collection("items", durability="store")["array"] = arrays()["plain"]
            store.pin(["tree", "plain"], Path(scratch) / "arrays.lock")
            state = store.repository.session.log.state
            digests = {f"{name}@v1": store.resolve(name).digest for name in arrays()}
            expected: dict[str, Any] = {
                "id": store.id,
                "tip": [state.number, state.hash.hex()],
                "digests": digests,
                "files": {},
                "whole": {},
            }
            for name in arrays():
                folder = Path(scratch) / "out" / name
                store.resolve(name).checkout(folder)
                expected["files"][name] = files_below(folder)
        shutil.copytree(place, target / "arrays", ignore=shutil.ignore_patterns(*LEFT_OUT))
        shutil.copy(Path(scratch) / "arrays.lock", target)
    text = json.dumps({"arrays": expected}, indent=1, ensure_ascii=False, sort_keys=True)
    (target / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / f"{keepstone.__version__}-arrays")
