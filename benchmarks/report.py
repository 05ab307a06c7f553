"""Reports of a run: JSON with every sample, markdown tables, and the tables in docs/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Verdict, judge
from benchmarks.timing import KEEPSTONE, Case

_BEGIN: Final = "<!-- benchmarks: {section}; `python -m benchmarks` writes this -->"
_QUICK: Final = (
    "A quick run: a tenth of the stated sizes, few turns. For orientation; goals are judged by full runs.\n\n"
)
_PICTURE: Final = "![Keepstone compared with its peers](images/benchmarks.svg)"
_END: Final = "<!-- end of benchmarks -->"
_IN_FULL: Final = ("large", "versions")
"""Subjects of which docs/performance.md shows all that was measured, not goals alone."""
_MACHINE_LABELS: Final = {
    "cpu": "CPU",
    "cores": "cores",
    "memory": "memory",
    "kernel": "kernel",
    "filesystem": "file system",
    "python": "Python",
    "sqlite": "SQLite",
    "packages": "packages",
}


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    machine: dict[str, str]
    command: str
    date: str
    cases: tuple[Case, ...]

    def encoded(self) -> str:
        """Return the run as JSON, which `decoded` reads."""
        data: dict[str, Any] = {"machine": self.machine, "command": self.command, "date": self.date}
        data["cases"] = [case.encoded() for case in self.cases]
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def decoded(cls, text: str) -> Run:
        """Return the run that `encoded` wrote."""
        data = json.loads(text)
        cases = tuple(Case.decoded(case) for case in data["cases"])
        return cls(data["machine"], data["command"], data["date"], cases)

    def updated(self, newer: Run) -> Run:
        """Return this run with the newer run's cases in place of its own of the same subjects.

        Figures of two machines are never mixed: from another machine only the newer run remains.
        """
        if newer.machine != self.machine:
            return newer
        subjects = {_subject(case) for case in newer.cases}
        kept = [case for case in self.cases if _subject(case) not in subjects]
        return Run(newer.machine, newer.command, newer.date, (*kept, *newer.cases))


def _subject(case: Case) -> str:
    return case.id.partition(".")[0]


def shown(value: float, unit: str = "") -> str:
    """Return a value with three digits that matter, and its unit."""
    size = abs(value)
    digits = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 0.1 else 4
    return f"{value:,.{digits}f}{'' if unit in ('×', '/s') else ' ' if unit else ''}{unit}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        f"| {' | '.join(line)} |\n".replace("| --- ", "|---").replace("---| ", "---|") for line in lines
    )


def goals_table(verdicts: Iterable[Verdict], cases: Sequence[Case]) -> str:
    """Return the goals with what was measured, and whether they were met."""
    known = {case.id: case for case in cases}
    rows: list[list[str]] = []
    for verdict in verdicts:
        goal, case = verdict.goal, known.get(verdict.goal.case)
        unit = "" if goal.peer or not case else case.unit
        bound = f"{goal.bound}{'' if unit == '×' else ' ' if unit else ''}{unit}"
        if verdict.value is None or case is None:
            rows.append([goal.work, bound, "–", "–", verdict.word])
            continue
        peers = f"{goal.peer} {shown(case.median(goal.peer), case.unit)}" if goal.peer else _peers(case)
        value = f"**{shown(verdict.value, verdict.unit)}**"
        if goal.peer:
            value += f" ({shown(case.median(), case.unit)})"
        rows.append([goal.work, bound, value, peers or "–", verdict.word])
    return table(("work", "goal", KEEPSTONE, "peers", "goal met"), rows)


def _peers(case: Case) -> str:
    return ", ".join(
        f"{name} {shown(case.median(name), case.unit)}" for name in case.samples if name != KEEPSTONE
    )


def cases_table(cases: Iterable[Case]) -> str:
    """Return all that was measured: medians, quartiles, and how each peer compares."""
    rows: list[list[str]] = []
    for case in cases:
        for name in case.samples:
            low, high = case.spread(name)
            compares = name != KEEPSTONE and KEEPSTONE in case.samples
            rows.append(
                [
                    case.title if name == next(iter(case.samples)) else "",
                    name,
                    shown(case.median(name), case.unit),
                    f"{shown(low)}–{shown(high)}",
                    shown(_better(case, name), "×") if compares and _comparable(case, name) else "",
                ]
            )
    return table(("what", "who", "median", "quartiles", "Keepstone better by"), rows)


def _comparable(case: Case, name: str) -> bool:
    return case.median(name) > 0 and case.median() > 0


def _better(case: Case, peer: str) -> float:
    if min(*case.samples[peer], *case.samples[KEEPSTONE]) <= 0:
        # A difference from bare Python may be below zero in one turn; then only the medians compare.
        return case.median(peer) / case.median()
    return case.speedup(peer)


def machine_text(run: Run) -> str:
    """Return one sentence about where the figures come from."""
    facts = "; ".join(
        f"{label} {run.machine[key]}" for key, label in _MACHINE_LABELS.items() if key in run.machine
    )
    return f"`{run.command}`, {run.date}: {facts}."


def markdown(run: Run) -> str:
    """Return the whole report of a run."""
    verdicts = judge(run.cases)
    met = sum(verdict.is_met is True for verdict in verdicts)
    missed = sum(verdict.is_met is False for verdict in verdicts)
    notes = "".join(f"- {case.title}: {'; '.join(case.notes)}.\n" for case in run.cases if case.notes)
    return (
        f"# Benchmarks\n\n{_QUICK if '--quick' in run.command else ''}"
        f"{machine_text(run)}\n\n"
        f"## Goals\n\n{met} met, {missed} missed, {len(verdicts) - met - missed} not measured.\n\n"
        f"{goals_table(verdicts, run.cases)}\n"
        f"## Everything that was measured\n\n{cases_table(run.cases)}\n"
        f"## What the figures are\n\n{notes}"
    )


def update_page(page: str, run: Run) -> str:
    """Return docs/performance.md with the tables between its markers written anew.

    Raises:
        ValueError: the page lacks the markers of a section that has goals.
    """
    verdicts = judge(run.cases)
    parts = {"machine": f"{machine_text(run)}\n\n{_PICTURE}\n"}
    for section in dict.fromkeys(verdict.goal.section for verdict in verdicts):
        chosen = [verdict for verdict in verdicts if verdict.goal.section == section]
        parts[section] = goals_table(chosen, run.cases)
    parts["tools"] = cases_table(case for case in run.cases if _subject(case) in _IN_FULL)
    for section, text in parts.items():
        begin = _BEGIN.format(section=section)
        pattern = re.escape(begin) + r"\n.*?" + re.escape(_END)
        page, count = re.subn(pattern, lambda _, b=begin, t=text: f"{b}\n{t}{_END}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"docs/performance.md has {count} places marked {begin!r}")
    return page


def write(run: Run, folder: Path, name: str) -> None:
    """Write `name`.json and `name`.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(run.encoded(), encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown(run), encoding="utf-8")
