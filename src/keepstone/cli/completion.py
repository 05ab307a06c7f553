"""`keepstone completion`: a script for bash, zsh or fish, made from the parsers.

Layer: cli. Commands and options stand in the script; names are asked of the store when Tab is pressed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from keepstone.cli import exit_codes
from keepstone.cli.commands import COMMANDS, Command
from keepstone.cli.parser import parser_for

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Print a script that completes commands, options and names in bash, zsh or fish."""
EXAMPLES = """\
keepstone completion bash > keepstone.bash   # then: source keepstone.bash, or put it in ~/.bashrc
keepstone completion zsh > _keepstone        # then: move it to a folder of $fpath
keepstone completion fish > keepstone.fish   # then: move it to ~/.config/fish/completions
"""

_NAME_ARGUMENTS = ("selector", "name", "prefix")


class _Option(NamedTuple):
    words: tuple[str, ...]
    help: str
    takes_value: bool


class _Known(NamedTuple):
    """What a shell needs to know of one command."""

    command: Command
    options: tuple[_Option, ...]
    takes_names: bool
    choices: tuple[str, ...]
    """Words that a positional argument may be."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the script."""
    known = [_know(command) for command in COMMANDS.values()]
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](known)
    console.raw(script.encode())
    return exit_codes.OK


def _know(command: Command) -> _Known:
    actions = parser_for(command).actions()
    options = tuple(
        _Option(tuple(action.option_strings), action.help or "", action.nargs != 0)
        for action in actions
        if action.option_strings
    )
    positionals = [action for action in actions if not action.option_strings]
    choices = [str(word) for action in positionals for word in action.choices or ()]
    takes_names = any(action.dest in _NAME_ARGUMENTS for action in positionals)
    return _Known(command, options, takes_names, tuple(choices))


_BASH = """\
# Completion of keepstone for bash.
_keepstone() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command= options= choices= names= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --store) ((i++)) ;;
            -*) ;;
            *) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    case $command in
        "") options="--store --offline --debug --version --help" choices="{commands}" ;;
{cases}
    esac
    COMPREPLY=()
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        return
    fi
    [[ -n $choices ]] && mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
    if [[ -n $names ]]; then
        # Not compgen -W, which would run what stands in a name such as $(...).
        local name
        while IFS= read -r name; do
            COMPREPLY+=("$name")
        done < <(keepstone list --names -- "$word" 2>/dev/null)
        compopt -o filenames 2>/dev/null
    fi
}}
complete -o bashdefault -o default -F _keepstone keepstone
"""


def _bash(known: list[_Known]) -> str:
    cases: list[str] = []
    for item in known:
        words = " ".join(word for option in item.options for word in option.words)
        parts = [f'options="{words}"']
        if item.choices:
            parts.append(f'choices="{" ".join(item.choices)}"')
        if item.takes_names:
            parts.append("names=yes")
        cases.append(f"        {item.command.name}) {' '.join(parts)} ;;")
    return _BASH.format(commands=" ".join(COMMANDS), cases="\n".join(cases))


_ZSH = """\
#compdef keepstone
# Completion of keepstone for zsh.
_keepstone_names() {{
    local -a names
    names=(${{(f)"$(keepstone list --names -- "$PREFIX" 2>/dev/null)"}})
    compadd "$@" -a names
    _files
}}
_keepstone() {{
    local context state state_descr line
    typeset -A opt_args
    _arguments -C \\
        '--store[folder or URL of the store]:store:_files -/' \\
        '--offline[of a store at a URL use only what was read here before]' \\
        '--debug[show the traceback of an error]' \\
        '--version[print the version]' \\
        '--help[show help]' \\
        '1:command:->command' \\
        '*::argument:->argument'
    case $state in
        command)
            local -a commands
            commands=(
{commands}
            )
            _describe command commands
            ;;
        argument)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}
if [[ $funcstack[1] == _keepstone ]]; then
    _keepstone "$@"
else
    compdef _keepstone keepstone
fi
"""


def _zsh(known: list[_Known]) -> str:
    commands = "\n".join(f"                {_quoted(f'{k.command.name}:{k.command.summary}')}" for k in known)
    return _ZSH.format(commands=commands, cases="\n".join(map(_zsh_case, known)))


def _zsh_case(item: _Known) -> str:
    indent = " " * 16
    lines = [f"{indent}{item.command.name})", f"{indent}    _arguments \\"]
    for option in item.options:
        help_text = option.help.replace("[", "(").replace("]", ")").replace(":", " -").replace("%%", "%")
        value = ":value:_files" if option.takes_value else ""
        lines.extend(f"{indent}        {_quoted(f'{w}[{help_text}]{value}')} \\" for w in option.words)
    if item.choices:
        words = " ".join(item.choices)
        lines.append(f"{indent}        {_quoted(f'*:word:({words})')}")
    elif item.takes_names:
        lines.append(f"{indent}        '*:name:_keepstone_names'")
    else:
        lines.append(f"{indent}        '*:file:_files'")
    return "\n".join([*lines, f"{indent}    ;;"])


def _fish(known: list[_Known]) -> str:
    lines = [
        "# Completion of keepstone for fish.",
        "complete -c keepstone -n __fish_use_subcommand -l store -r -d 'folder or URL of the store'",
        "complete -c keepstone -n __fish_use_subcommand -l offline -d 'use only what was read here before'",
        "complete -c keepstone -n __fish_use_subcommand -l debug -d 'show the traceback of an error'",
        "complete -c keepstone -n __fish_use_subcommand -l version -d 'print the version'",
        "complete -c keepstone -n __fish_use_subcommand -l help -d 'show help'",
    ]
    for item in known:
        name, inside = item.command.name, f"-n '__fish_seen_subcommand_from {item.command.name}'"
        summary = _quoted(item.command.summary)
        lines.append(f"complete -c keepstone -n __fish_use_subcommand -f -a {name} -d {summary}")
        for option in item.options:
            words = " ".join(f"-l {w[2:]}" if w.startswith("--") else f"-s {w[1:]}" for w in option.words)
            value = " -r" if option.takes_value else ""
            help_text = _quoted(option.help.replace("%%", "%"))
            lines.append(f"complete -c keepstone {inside} {words}{value} -d {help_text}")
        if item.choices:
            lines.append(f"complete -c keepstone {inside} -f -a {_quoted(' '.join(item.choices))}")
        if item.takes_names:
            names = "(keepstone list --names -- (commandline -ct) 2>/dev/null)"
            lines.append(f"complete -c keepstone {inside} -a '{names}'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return `text` in single quotes, as all three shells read it."""
    return "'" + text.replace("'", "'\\''") + "'"
