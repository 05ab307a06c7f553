"""The table of commands: names, one line of help each, and where each one's module is.

Layer: cli. Listing them imports nothing, so that `keepstone --help` and completion stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    import argparse

    from keepstone.cli.console import Console


class CommandModule(Protocol):
    """What every module `keepstone.cli.<command>` has."""

    HELP: str
    """What the command does, in one or a few sentences."""
    EXAMPLES: str
    """Lines that begin with `keepstone`; a line with `#` explains. The tests run them."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments; `--store`, `--debug` and `--help` are there already."""
        ...

    def run(self, arguments: argparse.Namespace, console: Console) -> int:
        """Do it and return the exit code (see `exit_codes`)."""
        ...


class Command(NamedTuple):
    """One line of the table."""

    name: str
    summary: str
    module: str
    """Module under `keepstone.cli`."""
    takes_program: bool = False
    """Whether what stands behind `--` is a program to start, kept untouched as `arguments.program`."""

    def load(self) -> CommandModule:
        """Import and return the module."""
        return cast("CommandModule", importlib.import_module(f"keepstone.cli.{self.module}"))


GROUPS: Final = (
    (
        "Keep and get back",
        (
            Command("init", "make a store here", "init"),
            Command("save", "keep a file, a folder or standard input as the next version of a name", "save"),
            Command(
                "load", "write a version, or one item of a collection, to a path or standard output", "load"
            ),
            Command("checkout", "write a version as a folder, or make a folder into it", "checkout"),
            Command("list", "names in the store", "list"),
            Command("show", "what is known about one version", "show"),
            Command("versions", "all versions of a name", "versions"),
            Command("diff", "what differs between two versions", "diff"),
            Command("lineage", "what a version was made from, or what was made from it", "lineage"),
            Command("history", "who changed what, newest first", "history"),
            Command("snapshot", "keep what a collection holds now as a version", "snapshot"),
            Command("alias", "let a word such as prod stand for a version", "alias"),
            Command("remove", "take a name, a version or an alias away", "remove"),
            Command("undo", "take back what one commit decided about names", "undo"),
        ),
    ),
    (
        "Do the work once",
        (
            Command("run", "run a program over the lines of a file and keep every answer", "run", True),
            Command("results", "look at result sets: what is there, failed, missing; export", "results"),
        ),
    ),
    (
        "Hand on",
        (
            Command("push", "bring to another store what this one has and it lacks", "push"),
            Command("pull", "bring here what another store has and this one lacks", "pull"),
            Command("sync", "pull from another store, then push to it", "sync"),
            Command("clone", "make a new store that holds all that another one holds", "clone"),
            Command("pin", "write a lock file, and protect what it names", "pin"),
            Command("unpin", "take the protection of a lock away", "unpin"),
            Command("restore", "bring what a lock names into a store, byte for byte", "restore"),
            Command("verify", "check that all that a lock names is here and right", "verify"),
            Command("bundle", "write a lock and all that it names as one file", "bundle"),
        ),
    ),
    (
        "Look after the store",
        (
            Command("stats", "how much is in the store, and what it takes", "stats"),
            Command("fsck", "check that everything is there and undamaged", "fsck"),
            Command("recover", "publish what killed programs left behind", "recover"),
            Command("doctor", "can a store be kept there, and what stands in the way?", "doctor"),
        ),
    ),
    (
        "Begin",
        (
            Command("demo", "see it work: killed in the middle, resumed, compared", "demo"),
            Command("completion", "print a script that completes commands in your shell", "completion"),
        ),
    ),
)

COMMANDS: Final = {command.name: command for _, group in GROUPS for command in group}
