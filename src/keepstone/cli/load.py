"""`keepstone load`: gives back what was kept.

Layer: cli.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.describe import amount, version_facts
from keepstone.cli.opening import open_to_look
from keepstone.cli.output import check_free, show_bytes, write_file, write_folder
from keepstone.cli.parser import add_at
from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.past import Past
    from keepstone.repository.version import Version

HELP = """\
Write what SELECTOR means to PATH, or to standard output; bytes, text and JSON as they are,
a snapshot of a collection as one JSON object a line: {"key": ..., "value": ...}.
A folder needs a PATH. What is at PATH already stays, unless --force is given."""
EXAMPLES = """\
keepstone load models/email@prod model.bin
keepstone load prompts/reader
keepstone load data/train@v1 folder --force
keepstone load answers/gsm8k --key q17
keepstone load models/email --at 2         # what its newest version was after commit 2
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="a name, name@v3, name@alias, name@2026-11-20 …")
    parser.add_argument("path", nargs="?", metavar="PATH", help="where to write it (else standard output)")
    parser.add_argument("--key", metavar="KEY", help="load this item of a collection")
    add_at(parser)
    parser.add_argument("--force", action="store_true", help="replace what is at PATH")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write it."""
    if arguments.path is not None:
        check_free(arguments.path, arguments.force or _is_empty_folder(arguments.path))
    with open_to_look(arguments, console) as store:
        if arguments.key is not None:
            data = item_bytes(store, arguments.selector, arguments.key)
            if arguments.path is None:
                show_bytes(data, console)
            else:
                write_file(arguments.path, [data], force=arguments.force)
            return exit_codes.OK
        version = store.resolve(arguments.selector)
        if arguments.path is None:
            show_version(version, console)
        else:
            write_version(version, arguments.path, arguments.force)
            console.error(f"{version.selector} is in {arguments.path} ({amount(version_facts(version))})")
    return exit_codes.OK


def _is_empty_folder(path: str) -> bool:
    import os

    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


def is_one_file(version: Version) -> bool:
    """Whether `version` is a run of bytes, and not a folder of files."""
    return len(version.parts) == 1 and not version.is_snapshot and version.serializer != "folder"


def show_version(version: Version, console: Console) -> None:
    """Write a version's bytes to standard output."""
    if version.is_snapshot:
        for line in item_lines(version):
            console.raw(line)
            if console.is_muted:
                break
        return
    if not is_one_file(version):
        raise InvalidInputError(
            f"{version.selector} is {plural(len(version.parts), 'file')}, not one",
            hint="give a PATH to write them to",
        )
    if console.is_terminal:
        show_bytes(b"".join(version.chunks()), console)
        return
    for chunk in version.chunks():
        console.raw(chunk)
        if console.is_muted:
            break


def write_version(version: Version, path: str, force: bool) -> None:
    """Write a version as the file or folder `path`, whole or not at all."""
    if version.is_snapshot:
        write_file(path, item_lines(version), force=force)
    elif is_one_file(version):
        write_file(path, version.chunks(), force=force, executable=version.parts[0].mode == 1)
    else:
        write_folder(path, version.checkout, force=force)


def item_lines(version: Version) -> Iterator[bytes]:
    """Yield the items of a snapshot, each as a line of JSON.

    Raises:
        InvalidInputError: one is neither text nor JSON.
    """
    import msgspec

    for key, value in version.items().items():
        try:
            if isinstance(value, bytes):
                raise TypeError("bytes")
            yield msgspec.json.encode({"key": key, "value": value}) + b"\n"
        except TypeError as error:
            raise InvalidInputError(
                f"item {key!r} of {version.selector} is {type(value).__name__}, which no JSON can hold",
                hint="load items one by one with --key, or all from Python",
            ) from error


def item_bytes(store: Store | Past, name: str, key: str) -> bytes:
    """Return one item of a collection: bytes as they are, text in UTF-8, anything else as JSON.

    Raises:
        KeyNotFoundError: there is no such key.
        InvalidInputError: the item is none of these.
    """
    import msgspec

    value = store.collection(name)[key]
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    except TypeError as error:
        raise InvalidInputError(
            f"this item is a {type(value).__name__}, which cannot be shown as text",
            hint=f"load it from Python: store.collection({name!r})[{key!r}]",
        ) from error
