"""The benchmark of next versions: what it makes, and that each tool keeps it. No times are asserted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from benchmarks import bench_versions, keepers, versions
from benchmarks.file_tools import program
from benchmarks.keepers import BORG, CP, DVC, KEEPERS, RESTIC, available, saved
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE
from benchmarks.versions import Succession

import keepstone

EDITS = 9


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a quick run whose successions are tiny, too."""
    monkeypatch.setattr(versions, "EDITED_BYTES", 3_000_000)
    monkeypatch.setattr(versions, "EDITS", 10 * EDITS)
    monkeypatch.setattr(versions, "_BLOCK", 70_000)
    monkeypatch.setattr(versions, "FILES", 2_000)
    return Settings(tmp_path / "measured", is_quick=True)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def pieces(content: bytes, size: int = 100) -> Iterable[bytes]:
    return (content[start : start + size] for start in range(0, len(content) - size, size))


def test_an_edited_file_is_the_same_but_for_short_edits_and_the_same_each_time(
    settings: Settings, tmp_path: Path
) -> None:
    made = [versions.edited_file(settings, tmp_path / name) for name in ("one", "other")]
    (first, second), (first_again, second_again) = [[files(folder) for folder in pair] for pair in made]
    before, after = first["file.bin"], second["file.bin"]

    assert (first, second) == (first_again, second_again)
    assert len(before) == 300_000
    assert len(before) != len(after)
    assert abs(len(before) - len(after)) < 100 * EDITS
    lost = sum(piece not in after for piece in pieces(before))
    # An edit of up to a hundred bytes touches two pieces of that length, or one.
    assert EDITS // 3 <= lost <= 2 * EDITS


def test_of_small_files_one_in_a_hundred_is_new(settings: Settings, tmp_path: Path) -> None:
    first, second = (files(folder) for folder in versions.small_files(settings, tmp_path))

    assert len(first) == 200
    assert first.keys() == second.keys()
    assert sum(first[name] != second[name] for name in first) == 2


def is_here(name: str) -> bool:
    """Whether a tool can be run without installing anything."""
    if name == DVC:
        return program(DVC).exists() and shutil.which("git") is not None
    return name in (KEEPSTONE, CP) or shutil.which(name) is not None


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in (KEEPSTONE, CP) else [pytest.mark.thorough]) for name in KEEPERS],
)
def test_each_tool_keeps_the_versions_and_leaves_them_as_they_were(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    if not is_here(name):
        pytest.skip(f"{name} is not installed")
    made = versions.small_files(settings, tmp_path / "made")
    contents = [files(folder) for folder in made]
    keeper = KEEPERS[name](tmp_path / "work")
    keeper.prepare()
    empty = keeper.kept_bytes()

    costs = [saved(keeper, version) for version in made]

    assert [files(folder) for folder in made] == contents
    assert all(cost.seconds > 0 for cost in costs)
    # Half of it is random bytes.
    assert keeper.kept_bytes() - empty > 100_000
    if name == KEEPSTONE:
        with keepstone.open(keeper.place, mode="r") as store:
            for number, content in enumerate(contents, 1):
                store.resolve(f"{keepers.NAME}@v{number}").checkout(tmp_path / f"out-{number}")
                assert files(tmp_path / f"out-{number}") == content
    if name == CP:
        assert [files(keeper.place / str(number)) for number in (1, 2)] == contents


def test_memory_is_that_of_the_tool_or_unknown(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    keeper = KEEPERS[CP](tmp_path / "work")

    # A copying process takes less than this one, whose memory would be counted as its own.
    assert saved(keeper, tmp_path / "made").peak is None


def test_a_tool_that_fails_says_why(tmp_path: Path) -> None:
    keeper = KEEPERS[KEEPSTONE](tmp_path / "work")

    with pytest.raises(RuntimeError, match="save data data ended with"):
        keeper.save()


def test_tools_that_are_not_here_are_told_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert available() == [KEEPSTONE, CP]
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"without {name}" for name in (RESTIC, BORG, DVC)
    ]


def test_what_is_measured_are_the_first_version_and_the_sum_of_what_follows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Succession("files", "some files", versions.small_files, is_in_turns=False)
    monkeypatch.setattr(bench_versions, "SUCCESSIONS", (tiny,))
    monkeypatch.setattr(bench_versions, "available", lambda: [KEEPSTONE, CP])

    cases = {case.id: case for case in bench_versions.run(settings)}

    assert list(cases) == [f"versions.files{what}" for what in (".first", "", ".added", ".memory")]
    for case in list(cases.values())[:3]:
        assert {name: len(samples) for name, samples in case.samples.items()} == {KEEPSTONE: 1, CP: 1}
    added = cases["versions.files.added"]
    # The copy is whole again; of two files of a kilobyte the store keeps what is new.
    assert added.median(CP) * 2**20 >= 200 * 1_024
    assert 0 < added.median() < added.median(CP) / 2
    assert CP not in cases["versions.files.memory"].samples
