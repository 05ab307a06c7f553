"""Configurations: what they see, and that two of them never mix."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import keepstone
from keepstone.foundation.errors import ConfigChangedError, InvalidInputError, SerializerError
from keepstone.workflows.config import claim, command_config, diff, read_claim, value_config


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "answer.sh"
    path.write_text("#!/bin/sh\ncat\n")
    path.chmod(0o755)
    return path


def test_the_command_and_the_bytes_of_every_file_it_names_count(tmp_path: Path, script: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("one")
    extra = tmp_path / "helper.py"
    extra.write_text("one")

    def digest(*more: str) -> str:
        return command_config([str(script), f"--prompt={prompt}", *more], files=[str(extra)]).digest

    seen = {digest(), digest("--fast")}
    for path in (script, prompt, extra):
        path.write_text(path.read_text() + "changed")
        seen.add(digest())
    assert len(seen) == 5
    assert digest() in seen


def test_a_missing_config_file_is_refused(script: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.txt"):
        command_config([str(script)], files=["nowhere.txt"])


def test_the_differences_name_the_file(script: Path) -> None:
    before = command_config([str(script), "a"])
    script.write_text("#!/bin/sh\necho\n")
    after = command_config([str(script), "b"])

    lines = diff(before.value, after.value)
    assert any(line.startswith(f"{script}: b3:") and " → b3:" in line for line in lines)
    assert "command[1]: 'a' → 'b'" in lines


def test_long_texts_that_begin_alike_differ_in_the_lines() -> None:
    lines = diff({"prompt": "x" * 90 + "a"}, {"prompt": "x" * 90 + "b"})

    assert len(lines) == 1
    before, after = lines[0].removeprefix("prompt: ").split(" → ")
    assert before != after


def test_another_key_does_not_change_a_configuration() -> None:
    one, other = (value_config({"model": "m", "api_key": key}) for key in ("abc", "def"))

    assert one == other
    assert one.removed == ("api_key",)


def test_order_of_fields_does_not_count_and_kinds_of_numbers_do() -> None:
    assert value_config({"a": 1, "b": 2}).digest == value_config({"b": 2, "a": 1}).digest
    assert value_config({"a": 1}).digest != value_config({"a": 1.0}).digest
    with pytest.raises(SerializerError):
        value_config({"a": object()})


def test_another_configuration_is_refused_with_its_differences(store: keepstone.Store) -> None:
    claim(store, "set", value_config({"model": "a"}))

    with pytest.raises(ConfigChangedError, match="model: 'a' → 'b'") as caught:
        claim(store, "set", value_config({"model": "b"}))
    assert caught.value.changes == ("model: 'a' → 'b'",)
    assert all(way in caught.value.hint for way in ("--set", "--accept-change", "--redo"))


def test_accepted_configurations_are_versions_and_count_on(store: keepstone.Store) -> None:
    one, two = value_config({"model": "a"}), value_config({"model": "b"})
    claim(store, "set", one)
    claim(store, "set", two, accept_change=True)

    stored, _ = read_claim(store, "set")
    assert stored is not None
    assert (stored.digest, stored.accepted, stored.redone) == (two.digest, (one.digest, two.digest), False)
    assert len(store.versions("set:config")) == 2


def test_redo_gives_earlier_configurations_up(store: keepstone.Store) -> None:
    claim(store, "set", value_config("a"))
    again = claim(store, "set", value_config("b"), redo=True)

    assert again.accepted == (value_config("b").digest,)
    assert again.redone
    assert claim(store, "set", value_config("b"), accept_change=True).redone


def test_of_two_that_claim_at_once_with_different_configurations_one_is_refused(
    store: keepstone.Store,
) -> None:
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def attempt(model: str) -> None:
        barrier.wait()
        try:
            outcomes.append(claim(store, "set", value_config(model)).config)
        except ConfigChangedError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt, args=(model,)) for model in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) in (["a", "refused"], ["b", "refused"])
