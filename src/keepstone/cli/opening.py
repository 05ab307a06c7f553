"""Opens the store that a command means; the library is imported here and not before.

Layer: cli. Reading commands open for reading and never create; only commands that keep something make one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.past import Past


def open_to_read(arguments: argparse.Namespace, console: Console) -> Store:
    """Return the store, open for reading."""
    import keepstone

    return keepstone.open(console.store_path(arguments), mode="r", offline=arguments.offline)


@contextmanager
def open_to_look(arguments: argparse.Namespace, console: Console) -> Generator[Store | Past]:
    """Yield the store, open for reading, or with `--at` what it was then."""
    with open_to_read(arguments, console) as store:
        when: str | None = arguments.at
        if when is None:
            yield store
        else:
            yield store.at(int(when) if when.isascii() and when.isdigit() else when)


def open_to_change(arguments: argparse.Namespace, console: Console) -> Store:
    """Return the store, open for writing; there must be one."""
    import keepstone

    return keepstone.open(console.store_path(arguments), create=False, offline=arguments.offline)


def open_to_keep(arguments: argparse.Namespace, console: Console) -> Store:
    """Return the store, open for writing; a local folder is created."""
    import keepstone

    return keepstone.open(console.store_path(arguments, create=True), offline=arguments.offline)
