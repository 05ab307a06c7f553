"""The frame: finding commands, telling mistakes, ends and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from keepstone.cli import commands
from keepstone.cli.commands import COMMANDS, GROUPS
from keepstone.cli.main import main, split
from keepstone.foundation.errors import InvalidInputError, KeyNotFoundError, MalformedError

PYTHON = [sys.executable, "-m", "keepstone"]


def give_command(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Make `keepstone list` do `run`."""
    module = types.SimpleNamespace(HELP="h", EXAMPLES="e", configure=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "keepstone.cli.list", module)
    monkeypatch.setattr("importlib.import_module", lambda name: sys.modules[name])


def failing(error: BaseException) -> object:
    def run(arguments: object, console: object) -> int:
        raise error

    return run


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    assert all(f"  {c.name} " in shown and c.summary in shown for _, group in GROUPS for c in group)


def test_no_command_shows_the_overview_as_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: keepstone" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("keepstone ")


@pytest.mark.parametrize(("typed", "meant"), [("lst", "list"), ("versoins", "versions"), ("sav", "save")])
def test_a_mistyped_command_is_answered_with_the_nearest(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed]) == 2
    assert f"did you mean `keepstone {meant}`?" in capsys.readouterr().err


def test_a_mistyped_option_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["save", "a", "b", "--mesage", "x"]) == 2

    shown = capsys.readouterr().err
    assert "unknown argument" in shown
    assert "did you mean --message?" in shown


def test_help_of_a_command_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--help"]) == 0
    first = capsys.readouterr().out
    assert main(["help", "completion"]) == 0

    assert capsys.readouterr().out == first
    assert "examples:\n  keepstone completion bash" in first


def test_options_stand_before_or_behind_the_command() -> None:
    line = split(["--store=x", "--debug", "list", "--json", "--store", "y"])

    assert (line.options, line.command, line.rest) == (
        {"store": "x", "debug": True},
        "list",
        ["--json", "--store", "y"],
    )
    with pytest.raises(InvalidInputError, match="before the command"):
        split(["--jsn", "list"])
    with pytest.raises(InvalidInputError, match="needs a folder"):
        split(["--store"])


def test_both_places_of_store_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def run(arguments: types.SimpleNamespace, console: object) -> int:
        seen.append((arguments.store, arguments.debug))
        return 0

    give_command(monkeypatch, run)
    for words in (
        ["list"],
        ["--store", "a", "list"],
        ["list", "--store=b", "--debug"],
        ["--store=a", "list", "--store=b"],
    ):
        assert main(words) == 0

    assert seen == [(None, False), ("a", False), ("b", True), ("b", False)]


def test_an_error_is_a_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(
        monkeypatch, failing(KeyNotFoundError("no key 'q'", collection="c", key="q", hint="ask for another"))
    )

    assert main(["list"]) == 3
    assert capsys.readouterr().err == "keepstone: no key 'q'\n  hint: ask for another\n"


def test_debug_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(monkeypatch, failing(MalformedError("bad bytes")))

    assert main(["list", "--debug"]) == 5
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_says_so_and_how_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(monkeypatch, failing(ZeroDivisionError("division by zero")))

    assert main(["list"]) == 1
    shown = capsys.readouterr().err
    assert "a bug in keepstone" in shown
    assert "ZeroDivisionError: division by zero" in shown
    assert "--debug" in shown
    assert "Traceback" not in shown


def test_an_error_of_the_system_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(monkeypatch, failing(PermissionError(13, "Permission denied", "/out")))

    assert main(["list"]) == 6
    assert capsys.readouterr().err == "keepstone: permission denied: /out\n"


def test_interruption_ends_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(monkeypatch, failing(KeyboardInterrupt()))

    assert main(["list"]) == 130
    assert capsys.readouterr().err == "keepstone: interrupted\n"


def test_error_text_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_command(monkeypatch, failing(InvalidInputError("bad \x1b[2J")))

    assert main(["list"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_program_behind_two_dashes_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(arguments: types.SimpleNamespace, console: object) -> int:
        seen.append(arguments.program)
        return 0

    give_command(monkeypatch, run)
    monkeypatch.setitem(commands.COMMANDS, "list", COMMANDS["list"]._replace(takes_program=True))
    assert main(["list", "--", "python", "--", "-c", "--debug"]) == 0
    assert main(["list"]) == 0

    assert seen == [["python", "--", "-c", "--debug"], []]


def test_help_imports_no_store() -> None:
    code = (
        "import sys; from keepstone.cli.main import main; main(['--help']); "
        "heavy = {'argparse', 'msgspec', 'blake3', 'sqlite3', 'zstandard', 'fsspec', 's3fs', 'asyncio'}; "
        "loaded = heavy & set(sys.modules) | {m for m in sys.modules if m.startswith('keepstone.') "
        "and m.split('.')[1] not in ('cli', 'foundation')}; "
        "print(sorted(loaded), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"


def test_a_reader_that_goes_away_is_silent_and_changes_no_exit_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PYTHON, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_what_cannot_be_printed_is_said_with_where() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PYTHON, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)

    assert done.returncode == 6
    assert done.stderr.startswith(
        "keepstone: cannot write to standard output: No space left on device\n  hint: "
    )


def test_closed_streams_lead_nowhere(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" init; echo $?; exec >&- 2>&- <&-; "$@" list && : > listed', "sh", *PYTHON],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.stdout.endswith("0\n")
    assert (tmp_path / "listed").exists()


def test_a_terminal_without_utf8_gets_escapes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*PYTHON, "🦊"], capture_output=True, env=environment, cwd=tmp_path)

    assert done.returncode == 2
    assert b"\\U0001f98a" in done.stderr


def test_control_c_in_a_real_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow")
    command = [*PYTHON, "save", "a", "slow", "--as", "bytes"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    # Opening waits until the command is up and reads.
    with open(tmp_path / "slow", "wb"):
        started.send_signal(signal.SIGINT)
        _, shown = started.communicate(timeout=20)

    assert (started.returncode, shown) == (130, "keepstone: interrupted\n")


def test_help_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["run", "--help"]) == 0
    told = capsys.readouterr().out.partition("examples:")[0]
    assert max(map(len, told.splitlines())) <= 60
    assert "what is missing.\n\nThe program is a filter" in told
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["run", "--help"]) == 0
    assert "Started again, it does only what is missing.\n\n" in capsys.readouterr().out
