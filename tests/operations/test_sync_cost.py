"""What plans say of requests, beside what the same sync then makes of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.operations.bucket import Requests

import keepstone
from keepstone import Store
from keepstone.cli.main import main

MIB = 1024 * 1024


@pytest.fixture
def place(tmp_path: Path, net: Requests) -> str:
    place = f"bucket://{tmp_path.name}"
    with keepstone.open(place, create=True) as store:
        store.save("theirs", 1)
        store.save("theirs", 2)
    return place


def answers(count: int) -> dict[str, object]:
    return {f"q{i}": {"answer": i, "why": f"because of {i} " * 20} for i in range(count)}


def compare(verb: str, here: Store, place: str, net: Requests) -> tuple[int, int]:
    """Return how many requests the plan says, and how many are made; the report must say the latter."""
    plan = getattr(here, f"plan_{verb}")(place)
    said = sum(way.requests for way in plan.report.changes)
    net.take()
    report = getattr(here, verb)(place)
    made = len(net.take())
    assert sum(way.requests for way in report.changes) == made
    return said, made


@pytest.mark.parametrize("count", [1, 10_000])
def test_a_push_is_reckoned_within_two_requests(count: int, here: Store, place: str, net: Requests) -> None:
    here.collection("answers").update(answers(count))
    here.save("m", "text", aliases=["prod"])
    here.flush()
    said, made = compare("push", here, place, net)
    assert made <= said <= made + 2, (said, made)


@pytest.mark.parametrize("verb", ["push", "pull", "sync"])
def test_nothing_new_is_reckoned_to_the_request(verb: str, here: Store, place: str, net: Requests) -> None:
    here.sync(place)
    said, made = compare(verb, here, place, net)
    assert said == made == (1 if verb == "push" else 2)
    assert str(getattr(here, f"plan_{verb}")(place).report.changes[0]).endswith(
        "nothing new (1 request)" if verb == "push" else "nothing new (2 requests)"
    )


def test_a_pull_is_reckoned_by_what_is_read_together(here: Store, place: str, net: Requests) -> None:
    with keepstone.open(place) as store:
        store.collection("answers").update(answers(3_000))
        store.save("folder", {str(i): "x" * 200 for i in range(100)})
        store.save("large", random.Random(1).randbytes(20 * MIB))
    said, made = compare("pull", here, place, net)
    assert made <= said + 2, (said, made)
    assert said <= made + 4, (said, made)


def test_what_is_large_goes_in_parts(here: Store, place: str, net: Requests) -> None:
    here.save("large", random.Random(1).randbytes(40 * MIB))
    here.flush()
    said, made = compare("push", here, place, net)
    # The bucket of these tests takes an object of any size in one request.
    assert made < said <= made + 10, (said, made)


def test_between_folders_nothing_is_requested(here: Store, there: Store) -> None:
    here.save("m", 1)
    plan = here.plan_push(there)
    assert plan.report.changes[0].requests == 0
    assert "request" not in str(plan)


def test_the_command_line_prints_it(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with keepstone.open(".keepstone") as store:
        store.save("m", 1)
    assert main(["push", place, "--dry-run"]) == 0
    assert ", about " in (said := capsys.readouterr().out)
    assert main(["push", place, "--dry-run", "--json"]) == 0
    (way,) = json.loads(capsys.readouterr().out)["ways"]
    assert f"about {way['requests']} requests)" in said
    assert main(["push", place]) == 0
    said = capsys.readouterr().out
    assert "requests)" in said
    assert "about" not in said
