"""Successions of versions of a folder, as people have them: a large file that is edited, checkpoints of a training,
many small files, and releases of packages. All are seeded but the packages, which are what they are.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.servers.program import ServerFailedError, cache_folder

from benchmarks.bench_bucket_files import change_files, make_files
from benchmarks.settings import Settings
from benchmarks.workers import fresh

EDITED_BYTES: Final = 2**30
EDITS: Final = 200
FILES: Final = 10_000
CHECKPOINTS: Final = 10
WHEELS: Final = (
    {"numpy": "2.3.4", "scipy": "1.16.2", "pandas": "2.3.2"},
    {"numpy": "2.3.5", "scipy": "1.16.3", "pandas": "2.3.3"},
)
"""Successive releases; for every machine that pip has wheels for."""
_BLOCK: Final = 4 * 2**20


class Succession(NamedTuple):
    """One kind of work."""

    id: str
    title: str
    make: Callable[[Settings, Path], list[Path]]
    """Makes the versions below a folder; returns the folder of each."""
    has_many_files: bool = False
    """For minutes, ext4 makes new files slowly where many have just been removed: these stay until the end."""
    is_in_turns: bool = True
    """Whether it is measured more than once: not what takes minutes."""


def edited_file(settings: Settings, folder: Path) -> list[Path]:
    """Make a file of random bytes, and the same with 200 short edits: inserted, removed and replaced in turns."""
    size, edits = settings.scaled(EDITED_BYTES), settings.scaled(EDITS)
    draw = random.Random(5)
    first, second = folder / "1" / "file.bin", folder / "2" / "file.bin"
    for path in (first, second):
        path.parent.mkdir(parents=True)
    places = sorted(draw.sample(range(size), edits))
    with first.open("wb") as before, second.open("wb") as after:
        at = 0
        for block in _random_blocks(size):
            before.write(block)
            after.write(
                _edited(block, [place - at for place in places if at <= place < at + len(block)], draw)
            )
            at += len(block)
    return [first.parent, second.parent]


def _random_blocks(size: int) -> Iterator[bytes]:
    draw = random.Random(6)
    for start in range(0, size, _BLOCK):
        yield draw.randbytes(min(_BLOCK, size - start))


def _edited(block: bytes, places: list[int], draw: random.Random) -> bytes:
    parts: list[bytes] = []
    at = 0
    for number, place in enumerate(places):
        length = draw.randrange(1, 100)
        removed, inserted = ((0, length), (length, 0), (length, length))[number % 3]
        parts += [block[at:place], draw.randbytes(inserted)]
        at = max(place, min(place + removed, len(block)))
    return b"".join([*parts, block[at:]])


def small_files(settings: Settings, folder: Path) -> list[Path]:
    """Make 10,000 files of 1 KB, and the same with some of them changed."""
    count = settings.scaled(FILES)
    versions = [folder / "1", folder / "2"]
    for version in versions:
        make_files(version, count)
    change_files(versions[1], count)
    return versions


def checkpoints(settings: Settings, folder: Path) -> list[Path]:
    """Fine-tune a small transformer, and keep model and optimizer after each epoch, as `torch.save` writes them.

    Raises:
        ServerFailedError: there is no torch.
    """
    if importlib.util.find_spec("torch") is None:
        raise ServerFailedError("it needs torch")
    count = settings.scaled(CHECKPOINTS, 3)
    fresh(_fine_tune, folder, count)
    return [folder / str(number) for number in range(count)]


def _fine_tune(folder: Path, count: int) -> None:
    import torch
    from torch import nn

    torch.manual_seed(1)
    torch.set_num_threads(2)
    tokens, width, layers, tuned = 16_000, 384, 6, 2
    layer = nn.TransformerEncoderLayer(width, 6, 4 * width, batch_first=True)
    model: Any = nn.Sequential(
        nn.Embedding(tokens, width),
        nn.TransformerEncoder(layer, layers, enable_nested_tensor=False),
        nn.Linear(width, tokens),
    )
    # As fine-tuning does: what is near the input stays as it was trained.
    for part in (model[0], *model[1].layers[: layers - tuned]):
        part.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    for number in range(count):
        for _ in range(3):
            batch = torch.randint(0, tokens, (4, 32))
            loss = nn.functional.cross_entropy(model(batch).transpose(1, 2), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        target = folder / str(number)
        target.mkdir(parents=True)
        state = {"epoch": number, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, target / "checkpoint.pt")


def unpacked_wheels(settings: Settings, folder: Path) -> list[Path]:
    """Unpack two successive releases of three packages with large compiled parts.

    Raises:
        ServerFailedError: pip could not get them.
    """
    versions: list[Path] = []
    for number, packages in enumerate(WHEELS):
        target = folder / str(number)
        for name, version in packages.items():
            with zipfile.ZipFile(_wheel(name, version)) as wheel:
                wheel.extractall(target)
        versions.append(target)
    return versions


def _wheel(name: str, version: str) -> Path:
    kept = cache_folder() / "wheels" / f"{name}-{version}"
    found = sorted(kept.glob("*.whl"))
    if not found:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        words = [*pip, "--only-binary", ":all:", "-d", str(kept), f"{name}=={version}"]
        done = subprocess.run(words, capture_output=True, text=True)
        found = sorted(kept.glob("*.whl"))
        if done.returncode or not found:
            raise ServerFailedError(f"pip could not get {name} {version}: {done.stderr[-500:]}")
    return found[0]


SUCCESSIONS: Final = (
    Succession("edits", f"1 GiB of random bytes, then with {EDITS} scattered edits", edited_file),
    Succession(
        "checkpoints",
        f"{CHECKPOINTS} checkpoints of a fine-tuning, with the optimizer",
        checkpoints,
        is_in_turns=False,
    ),
    Succession("files", f"{FILES:,} files of 1 KB, then with some changed", small_files, has_many_files=True),
    Succession(
        "wheels",
        "numpy, scipy and pandas unpacked, then their next releases",
        unpacked_wheels,
        has_many_files=True,
    ),
)
