"""A large value to and from a bucket: memory is bounded, whatever its size, all libraries included."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers.bucket import Bucket
from tests.servers.fixtures import on_servers

import keepstone

MIB = 1024 * 1024
_BYTES = 320 * MIB
"""Five packs of a push, five of a save: twice as much would take no more."""
_PEAK_MAX = 256 * MIB

_WORK = """
import sys
from pathlib import Path
import keepstone
from tests.peak import peak_bytes
verb, folder, url = sys.argv[1:]
folder = Path(folder)
if verb == "save":
    with keepstone.open(url + "/saved", create=True) as store:
        store.save("model", folder / "model")
else:
    with keepstone.open(folder / ("near" if verb == "push" else verb)) as store:
        if verb == "push":
            store.push(url + "/pushed", create=True)
        elif verb == "pull":
            store.pull(url + "/pushed")
        else:
            store.restore(folder / "lock", source=url + "/pushed")
print(peak_bytes())
"""


@pytest.mark.long
@pytest.mark.timeout(600)
@on_servers("moto-apart")
def test_push_pull_restore_and_save_of_a_large_value_take_less_than_256_mib(
    bucket: Bucket, tmp_path: Path
) -> None:
    block = random.Random(5).randbytes(MIB)
    with (tmp_path / "model").open("wb") as file:
        for number in range(_BYTES // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    with keepstone.open(tmp_path / "near") as store:
        store.save("model", tmp_path / "model")
        store.pin(["model"], tmp_path / "lock")

    peaks = {verb: peak(verb, tmp_path, bucket.url) for verb in ("push", "pull", "restore", "save")}

    assert max(peaks.values()) < _PEAK_MAX, peaks
    for place in (tmp_path / "pull", tmp_path / "restore", bucket.url + "/saved"):
        with keepstone.open(place, mode="r") as store:
            chunks = store.resolve("model").chunks()
            assert sum(len(chunk) for chunk in chunks) == _BYTES


def peak(verb: str, folder: Path, url: str) -> int:
    program = [sys.executable, "-c", _WORK, verb, str(folder), url]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
