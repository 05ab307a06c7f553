"""The reference of the command line as Markdown, made from the parsers.

Layer: cli. `python -m keepstone.cli.reference` prints docs/cli.md; a test compares the two.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Final

from keepstone.cli.commands import GROUPS, Command
from keepstone.cli.exit_codes import MEANINGS
from keepstone.cli.parser import parser_for

_HEAD: Final = """\
# The command line

`keepstone COMMAND ...` works on one store: the folder or URL behind `--store`, else in `KEEPSTONE_STORE`, else
the nearest `.keepstone` in this folder or above it, else `./.keepstone`. Commands that read never make a store;
`init`, `save` and `run` make a local one where there is none. A bucket or a web server that does not answer is asked
again for up to two minutes, and standard error says so; with `--offline` nothing is asked, and what was read before is
read from this machine's cache.

Of a store in a bucket this machine keeps what waits to be published, in a folder below `KEEPSTONE_SPOOL`, and what it
has read, below `KEEPSTONE_CACHE`: of each store at most `KEEPSTONE_CACHE_BYTES` (`500MB`, `20GB`; 10 GiB if unset).

Results go to standard output; remarks, progress and errors go to standard error. `--json` prints one JSON
document instead of text: sizes in bytes, times as RFC 3339 in UTC. An error is one line of what went wrong and,
mostly, one of what to do; `--debug` adds the traceback. A name that begins with `-` is written behind `--`:
`keepstone load -- -odd-name`.

A **selector** is `name` (its newest version), `name@v3`, `name@alias`, `name@b3:9f2c` (the beginning of a
digest) or `name@2026-11-20` (the newest of that day, UTC; `name@2026-11-20T18:00:00Z` for finer).

`keepstone completion bash`, `zsh` or `fish` prints a script that completes commands, options and names.

## Exit codes

| code | meaning |
|---|---|
"""

_EVERYWHERE: Final = ("--store", "--offline", "--debug", "--help")


def render() -> str:
    """Return docs/cli.md."""
    parts = [_HEAD + "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items()) + "\n"]
    for title, commands in GROUPS:
        parts.append(f"## {title}\n")
        parts.extend(_section(command) for command in commands)
    return "\n".join(parts)


def _section(command: Command) -> str:
    module = command.load()
    actions = [action for action in parser_for(command).actions() if not _is_everywhere(action)]
    positionals = [action for action in actions if not action.option_strings]
    options = [action for action in actions if action.option_strings]
    words = [f"keepstone {command.name}", *(["[options]"] if options else []), *map(_shape, positionals)]
    program = " -- PROGRAM ..." if command.takes_program else ""
    lines = [f"### {command.name}", "", "```", " ".join(words) + program, "```", "", module.HELP.strip(), ""]
    if actions:
        lines += ["| argument | |", "|---|---|", *map(_row, [*positionals, *options]), ""]
    examples = textwrap.dedent(module.EXAMPLES).strip("\n")
    return "\n".join([*lines, "```console", *map(_prompted, examples.splitlines()), "```", ""])


def _prompted(line: str) -> str:
    """Return a line of examples with its prompt; one that continues another is indented and has none."""
    return f"$ {line}" if line.startswith("keepstone") or "| keepstone" in line else f"  {line}"


def _is_everywhere(action: argparse.Action) -> bool:
    return bool(set(action.option_strings) & set(_EVERYWHERE))


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _shape(action: argparse.Action) -> str:
    value = _value(action)
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)


def _row(action: argparse.Action) -> str:
    if action.option_strings:
        value = "" if action.nargs == 0 else " " + _value(action)
        words = ", ".join(f"`{word}{value}`" for word in action.option_strings)
    else:
        words = f"`{_value(action)}`"
    help_text = (action.help or "").replace("%%", "%")
    cells = (text.replace("|", "\\|") for text in (words, help_text))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(render())
