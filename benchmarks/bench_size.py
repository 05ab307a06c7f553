"""Bytes on disk: real results of GSM8K where a file is given, synthetic ones of 1.5 KB, against the compact JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.payloads import pool, raw_bytes, read_jsonl
from benchmarks.peers import (
    DISKCACHE,
    JSON_FILES,
    JSONL,
    SQLITE,
    Keepstone,
    available,
    disk_bytes,
    open_contender,
)
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case
from benchmarks.workers import fresh

SAMPLE: Final = Path(__file__).resolve().parents[1] / "tests" / "data" / "gsm8k_100.jsonl"
_SYNTHETIC: Final = 100_000
_WITH_REPLACED: Final = "Keepstone, before gc"
_PARTS: Final = 4
"""Results are published in so many parts, so that there is something to merge."""


def run(settings: Settings) -> list[Case]:
    """Return the share of the raw bytes that each contender occupies."""
    count = settings.scaled(_SYNTHETIC)
    cases = [_case(settings, "size.synthetic", f"{count:,} synthetic results", "", count)]
    if settings.gsm8k:
        cases.append(_case(settings, "size.gsm8k", "GSM8K results", str(settings.gsm8k), 0))
    if not (settings.is_quick and settings.gsm8k):
        cases.append(_case(settings, "size.gsm8k_100", "100 GSM8K results", str(SAMPLE), 0))
    return cases


def _case(settings: Settings, name: str, title: str, path: str, count: int) -> Case:
    samples: dict[str, list[float]] = {}
    raw = items = 0
    for contender in available(KEEPSTONE, JSONL, SQLITE, DISKCACHE, JSON_FILES):
        folder = settings.new_folder(name) / contender
        items, raw, stored, replaced = fresh(_measure, contender, folder, path, count)
        samples[contender] = [(stored - replaced) / raw]
        if contender == KEEPSTONE:
            samples[_WITH_REPLACED] = [stored / raw]
    settings.new_folder(name).rmdir()
    return Case(
        name,
        f"bytes on disk of {title}, of the raw JSON",
        "×",
        samples,
        notes=(
            f"{items:,} results, {raw / 1e6:.2f} MB as compact JSON, {raw / items:,.0f} bytes each",
            "blocks of the disk; Keepstone: live packs, log and all else but cache/, after merging",
            f"{_WITH_REPLACED}: also the packs that merging replaced, until garbage is collected",
        ),
    )


def _measure(contender: str, folder: Path, path: str, count: int) -> tuple[int, int, int, int]:
    values: list[Any] = read_jsonl(Path(path)) if path else pool(count, 2)
    pairs = [(f"q{number:08d}", value) for number, value in enumerate(values)]
    opened = open_contender(contender, folder)
    part = -(-len(pairs) // _PARTS)
    for start in range(0, len(pairs), part):
        opened.add_many(pairs[start : start + part])
    replaced = 0
    if isinstance(opened, Keepstone):
        from keepstone.repository.merging import merge

        session = opened.store.repository.session
        merge(session, packs_min=2)
        live = {pack.key for pack in session.log.state.packs.values()}
        packs = [path for path in (folder / "packs").rglob("*") if path.is_file()]
        replaced = sum(disk_bytes(path) for path in packs if path.relative_to(folder).as_posix() not in live)
    opened.close()
    return len(values), raw_bytes(values), disk_bytes(folder, without=("cache",)), replaced
