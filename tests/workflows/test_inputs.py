"""Input files are checked whole, and read in little memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from keepstone.foundation.errors import InvalidInputError
from keepstone.workflows.inputs import InputFile

Write = Callable[..., str]


def test_lines_in_order_without_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\n  \n{"id": "b", "x": "\xc3\xbc"}')

    with InputFile(str(path), key="id") as file:
        tasks = [file.task(i) for i in range(len(file))]
        assert list(file.keys()) == ["1", "b"]
    assert tasks[1].input == {"id": "b", "x": "ü"}
    assert tasks[1].line == '{"id": "b", "x": "ü"}'.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1}\n\n{oops\n', "line 3 is not JSON"),
        ('{"id": 1}\n[1]\n', "line 2 is not a JSON object"),
        ('{"id": 1}\n{"no": 1}\n', "line 2 has no field 'id'"),
        ('{"id": null}\n', "line 1: the key is null"),
        ('{"id": ""}\n', "line 1: the key is empty"),
        (
            '{"id": 7, "a": 1}\n{"id": 8}\n{"id": 7, "a": 2}\n',
            "lines 1 and 3 are different and have the same key '7'",
        ),
        ('{"id": 7}\n{"id": "7"}\n', "lines 1 and 2 are different and have the same key '7'"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(content)

    with pytest.raises(InvalidInputError, match=message):
        InputFile(str(path), key="id")


def test_equal_lines_count_once(write_lines: Write) -> None:
    with InputFile(write_lines({"id": 1, "a": 2}, {"id": 3}, {"a": 2, "id": 1}), key="id") as file:
        assert list(file.keys()) == ["1", "3"]
        assert file.duplicates == 1


def test_without_a_key_the_digest_of_the_line_is_it(write_lines: Write) -> None:
    with InputFile(write_lines({"a": 1, "b": 2}), key=None) as one:
        [key] = one.keys()
    with InputFile(write_lines({"b": 2, "a": 1}), key=None) as other:
        assert list(other.keys()) == [key]
    assert key.startswith("b3:")


def test_a_long_text_is_keyed_by_its_digest(write_lines: Write) -> None:
    with InputFile(write_lines({"id": "x" * 5000}), key="id") as file:
        [key] = file.keys()
    assert key.startswith("b3:")


@pytest.mark.parametrize("path", ["-", "/no/such/file"])
def test_what_cannot_be_read_again_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError):
        InputFile(path)


def test_lines_appended_later_belong_to_the_next_run(write_lines: Write) -> None:
    path = write_lines({"id": 1})
    with InputFile(path, key="id") as file:
        with open(path, "a") as more:
            more.write('{"id": 2}\n')
        assert list(file.keys()) == ["1"]


def test_memory_does_not_grow_with_the_length_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with open(path, "w") as lines:
        for number in range(20_000):
            lines.write(json.dumps({"id": number, "text": "x" * 1000}) + "\n")

    tracemalloc.start()
    with InputFile(str(path), key="id") as file:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(file) == 20_000
    assert peak < 4 * 1024 * 1024
