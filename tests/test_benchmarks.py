"""The benchmarks' own arithmetic: statistics, turns, goals, tables, the plot. No times are asserted."""

from __future__ import annotations

import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks import machine
from benchmarks.bench_bucket_files import FILE_BYTES, change_files, check_same, make_files
from benchmarks.goals import GOALS, Goal, judge
from benchmarks.payloads import make_result, pool, raw_bytes, results
from benchmarks.peers import JSONL, SQLITE, Contender, JsonFiles, JsonLines, Keepstone, Sqlite, disk_bytes
from benchmarks.plot import bars, svg
from benchmarks.report import Run, cases_table, goals_table, markdown, shown, update_page
from benchmarks.run import PAGE, SUBJECTS
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate, paired_ratio, quartiles
from benchmarks.workers import Crew, CrewAtWork
from hypothesis import given
from hypothesis import strategies as st

PUT = Case(
    "put.process.1x1", "put", "µs", {KEEPSTONE: [10, 20, 30], JSONL: [20, 20, 60], SQLITE: [40, 60, 90]}
)
SPEED = Case("large.ingest", "save", "MB/s", {KEEPSTONE: [100], "cp + fsync": [200]}, less_is_better=False)
RUN = Run({"cpu": "a CPU", "cores": "2"}, "python -m benchmarks", "2026-11-21", (PUT, SPEED))


def test_medians_quartiles_and_ratios_are_those_of_the_turns() -> None:
    assert PUT.median() == 20
    assert quartiles([1, 2, 3, 4, 5]) == (2, 4)
    assert quartiles([7]) == (7, 7)
    assert PUT.ratio(JSONL) == pytest.approx(0.5)
    assert PUT.speedup(SQLITE) == pytest.approx(3)
    assert SPEED.speedup("cp + fsync") == pytest.approx(0.5)


def test_noise_that_slows_a_whole_turn_leaves_the_ratio_alone() -> None:
    assert paired_ratio([1, 100, 1], [2, 200, 2]) == pytest.approx(0.5)


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9), st.floats(0.01, 100))
def test_ratio_of_equal_multiples_is_the_multiple(samples: list[float], factor: float) -> None:
    assert paired_ratio([s * factor for s in samples], samples) == pytest.approx(factor)
    assert paired_ratio([s * factor for s in samples], [*samples, sorted(samples)[len(samples) // 2]]) > 0


def test_contenders_take_turns_and_warm_up_is_not_counted() -> None:
    order: list[str] = []

    def contender(name: str, turn: int) -> float:
        order.append(f"{name}{turn}")
        return float(turn)

    taken = alternate({"a": lambda t: contender("a", t), "b": lambda t: contender("b", t)}, 2, warm_up=1)

    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert taken == {"a": [1, 2], "b": [1, 2]}


def test_goals_are_met_missed_or_not_measured() -> None:
    goals = (
        Goal("§2", "faster", PUT.id, "times as fast", 2.5, SQLITE, at_least=True),
        Goal("§2", "fast", PUT.id, "times the time", 0.4, JSONL),
        Goal("§2", "bound", PUT.id, "value", 20),
        Goal("§2", "other peer", PUT.id, "times as fast", 2, "nobody", at_least=True),
        Goal("§2", "other case", "none.such", "value", 1),
    )

    assert [verdict.word for verdict in judge([PUT], goals)] == [
        "met",
        "missed",
        "met",
        "not measured",
        "not measured",
    ]


def test_every_goal_has_a_place_in_the_documentation_and_a_subject_that_measures_it() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert {goal.case.partition(".")[0] for goal in GOALS} <= set(SUBJECTS)
    assert all(f"## {goal.section} " in page for goal in GOALS)
    assert all(callable(importlib.import_module(f"benchmarks.bench_{name}").run) for name in SUBJECTS)


def test_page_is_rewritten_between_its_markers_only_and_again_to_the_same() -> None:
    page = PAGE.read_text(encoding="utf-8")

    once = update_page(page, RUN)

    assert "0.50×" in once
    assert once.count("<!-- benchmarks: ") == page.count("<!-- benchmarks: ") == 11
    assert update_page(once, RUN) == once
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        line for line in once.splitlines() if line.startswith("#")
    ]
    with pytest.raises(ValueError, match="marked"):
        update_page("# Performance\n", RUN)


def test_tables_show_values_units_and_verdicts() -> None:
    table = goals_table(judge(RUN.cases), RUN.cases)

    assert "| ≤ 1× JSONL | **0.50×** (20.0 µs) | JSONL 20.0 µs | met |" in table
    assert "| ≥ 0.8× cp + fsync | **0.50×** (100 MB/s) | cp + fsync 200 MB/s | missed |" in table
    assert "|  | SQLite | 60.0 µs | 50.0–75.0 | 3.00× |" in cases_table([PUT])
    assert len({line.count("|") for line in table.splitlines()}) == 1
    assert [shown(v, "ms") for v in (1234.5, 12.34, 1.234, 0.01234)] == [
        "1,234 ms",
        "12.3 ms",
        "1.23 ms",
        "0.0123 ms",
    ]


def test_run_survives_json_and_takes_newer_cases_of_the_same_machine_only() -> None:
    decoded = Run.decoded(RUN.encoded())
    newer = Run(RUN.machine, "again", "2026-11-22", (Case("put.new", "put", "µs", {KEEPSTONE: [1]}),))

    assert decoded == RUN
    assert json.loads(RUN.encoded())["cases"][0]["medians"][KEEPSTONE] == 20
    assert [case.id for case in RUN.updated(newer).cases] == ["large.ingest", "put.new"]
    elsewhere = Run({"cpu": "another"}, "again", "2026-11-22", newer.cases)
    assert RUN.updated(elsewhere) == elsewhere
    assert "2 met" not in markdown(elsewhere)


def test_plot_is_well_formed_and_shows_each_comparison_once() -> None:
    drawn = svg(RUN.cases, "a machine <with> marks & signs")

    root = ET.fromstring(drawn)
    shapes = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(shapes) == 1 + len(bars(RUN.cases)) == 4
    assert all(float(shape.get("width", "-1")) > 0 for shape in shapes)


def test_payloads_are_seeded_distinct_and_of_the_stated_size() -> None:
    drawn = pool(50, 5)

    assert pool.__wrapped__(50, 5) == drawn
    assert 1300 < raw_bytes(drawn) / 50 < 1700
    made = list(results(0, 120, drawn))
    assert len({key for key, _ in made}) == len({json.dumps(value) for _, value in made}) == 120
    assert make_result.__doc__


@pytest.mark.parametrize("kind", [Keepstone, JsonLines, JsonFiles, Sqlite])
@pytest.mark.parametrize("level", ["process", "disk"])
def test_contenders_keep_what_they_are_given(kind: type[Keepstone], level: str, tmp_path: Path) -> None:
    made = dict(results(0, 6, pool(5, 5)))
    opened: Contender = kind(tmp_path / "data", level)  # pyright: ignore[reportArgumentType]
    opened.put("q00000000", made["q00000000"])
    opened.add_many(list(made.items())[1:])
    opened.close()

    opened = kind(tmp_path / "data", level)  # pyright: ignore[reportArgumentType]
    found = {key: opened.get(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    opened.close()

    assert found == made
    assert disk_bytes(tmp_path) >= disk_bytes(tmp_path, without=("data",)) == 0


def test_crew_of_threads_keeps_what_each_of_its_workers_puts(tmp_path: Path) -> None:
    crew = Crew(SQLITE, tmp_path / "data", threads=2, pool_size=5)
    with CrewAtWork(crew) as at_work:
        spans = at_work.run("put", 0, 3)

    opened = Sqlite(tmp_path / "data", "process")
    keys = sorted(opened.keys())
    opened.close()
    assert len(spans) == 2
    assert all(span.end > span.start for span in spans)
    assert keys == [f"q{worker * 100_000 + number:08d}" for worker in (0, 1) for number in range(3)]


def test_quick_run_takes_a_tenth(tmp_path: Path) -> None:
    quick, full = Settings(tmp_path, is_quick=True), Settings(tmp_path)

    assert (full.many, quick.many) == (1_000_000, 100_000)
    assert (full.turns(9), quick.turns(9), quick.scaled(20, 5)) == (9, 3, 5)


def test_machine_is_described_without_names_or_places(tmp_path: Path) -> None:
    import platform

    text = " ".join(machine.describe(tmp_path).values())

    assert platform.python_version() in text
    assert str(tmp_path) not in text
    assert platform.node() not in text.split()


def test_files_are_seeded_and_of_the_stated_size_and_one_in_a_hundred_changes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make_files(one, 200)
    make_files(other, 200)
    check_same(one, other)

    change_files(other, 200)

    files = sorted(path.relative_to(one) for path in one.rglob("item-*"))
    assert len(files) == 200
    assert all((one / name).stat().st_size == (other / name).stat().st_size == FILE_BYTES for name in files)
    assert sum((one / name).read_bytes() != (other / name).read_bytes() for name in files) == 2
    with pytest.raises(AssertionError, match="198 of 200"):
        check_same(one, other)
