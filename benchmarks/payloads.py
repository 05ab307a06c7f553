"""Payloads: seeded results as an LLM run makes them, about 1.5 KB of JSON, no two alike.

Text is drawn from words and phrases with the frequencies of natural text (Zipf), and keeps coming back to its topic;
how often is set so that it compresses as the same records do with English text of GSM8K in them: zstd 3 makes 0.52 of
a record alone, and 0.34 with a dictionary. The fields around it repeat from result to result, as in real files.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

Result = dict[str, Any]

POOL = 20_000
"""Texts that are drawn once for the benchmarks of speed; each result adds its own number."""
_TOPIC_WORDS, _TOPIC_EVERY = 6, 3
_PHRASES = 800
_PHRASE_WEIGHT = 0.07
"""How often phrases are drawn, compared with words."""


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[list[str], list[float]]:
    draw = random.Random(7)
    onsets, vowels, ends = (
        [*"bcdfghlmnprstvw", "st", "tr", "ch", "sh"],
        "aeiou",
        ["", "n", "r", "s", "t"],
    )
    words: dict[str, None] = {}
    while len(words) < 3000:
        syllables = draw.choices((1, 2, 3), (5, 4, 2))[0]
        word = "".join(draw.choice(onsets) + draw.choice(vowels) for _ in range(syllables)) + draw.choice(
            ends
        )
        words[word] = None
    # Common words are short, in every language.
    ordered = sorted(words, key=lambda word: len(word) + draw.random() * 4)
    weights = [1 / (rank + 3) for rank in range(len(ordered))]
    phrases = [" ".join(draw.choices(ordered, weights, k=draw.randrange(3, 7))) for _ in range(_PHRASES)]
    weights += [_PHRASE_WEIGHT / (rank + 3) for rank in range(_PHRASES)]
    return ordered + phrases, list(itertools.accumulate(weights))


def _sentences(draw: random.Random, words: int) -> str:
    vocabulary, weights = _vocabulary()
    chosen = draw.choices(vocabulary, cum_weights=weights, k=words)
    # A text keeps coming back to what it is about.
    topic = draw.choices(vocabulary, k=_TOPIC_WORDS)
    for i in range(0, words, _TOPIC_EVERY):
        chosen[i] = topic[draw.randrange(_TOPIC_WORDS)]
    for i in range(7, words, 8):
        chosen[i] = f"{draw.randrange(1, 90)} + {draw.randrange(1, 90)} = {draw.randrange(2, 180)}.\n"
    return " ".join(chosen)


def make_result(number: int, draw: random.Random) -> Result:
    """Return one result."""
    answer = draw.randrange(1, 500)
    is_correct = draw.random() < 0.8
    return {
        "number": number,
        "input": {"question": _sentences(draw, 33)},
        "expected": answer,
        "output": {
            "reasoning": _sentences(draw, 135),
            "answer": answer if is_correct else draw.randrange(1, 500),
        },
        "correct": is_correct,
        "model": draw.choice(("solver-large-2026-05", "solver-small-2026-05")),
        "tokens": {"input": draw.randrange(200, 900), "output": draw.randrange(100, 600)},
        "cost": round(draw.random() / 100, 6),
        "seconds": round(draw.expovariate(0.5), 3),
        "error": None,
        "attempts": 1,
    }


@lru_cache(maxsize=2)
def pool(size: int = POOL, seed: int = 1) -> list[Result]:
    """Return `size` results that do not depend on anything but the seed."""
    draw = random.Random(seed)
    return [make_result(number, draw) for number in range(size)]


def results(start: int, stop: int, drawn: list[Result]) -> Iterator[tuple[str, Result]]:
    """Yield (key, result) number `start` to `stop`; cheap enough to be part of what is timed."""
    size = len(drawn)
    for number in range(start, stop):
        yield f"q{number:08d}", {**drawn[number % size], "number": number}


def raw_bytes(values: list[Any]) -> int:
    """Return the bytes of `values` as compact JSON, the smallest plain form: what sizes are compared with."""
    return sum(len(json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode()) for v in values)


def read_jsonl(path: Path) -> list[Any]:
    """Return the values of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]
