"""`keepstone save`: keeps a file, a folder or standard input.

Layer: cli.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepstone.cli import exit_codes
from keepstone.cli.describe import version_facts
from keepstone.cli.formatting import size
from keepstone.cli.opening import open_to_keep
from keepstone.cli.parser import add_json
from keepstone.foundation.errors import InvalidInputError, NotFoundError, SecretsWarning

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.version import Version

HELP = """\
Keep a file, a folder or standard input (-) as the next version of NAME.
Saving what equals the newest version makes no new one. A store is made if there is none; stores
in a folder are not saved with it."""
EXAMPLES = """\
keepstone save models/email model.bin --metadata accuracy=0.87 --alias prod
keepstone save data/train folder --message "cleaned"
echo "Answer with a number." | keepstone save prompts/reader - --as text
keepstone save configs/run config.json --as json --parent prompts/reader
keepstone save data/notes folder --secrets refuse      # nothing is saved where a key or a password is found
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a name such as models/email")
    parser.add_argument("path", metavar="PATH", help="a file, a folder, or - for standard input")
    parser.add_argument(
        "--as",
        dest="form",
        choices=["file", "text", "json", "bytes"],
        help="what Python gets back: file (default for a path), bytes (default for -), text or json",
    )
    parser.add_argument("--message", "-m", default="", metavar="TEXT", help="why, for the history")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a fact to keep beside it; VALUE is JSON or text; or a whole JSON object; can be repeated",
    )
    parser.add_argument(
        "--parent",
        action="append",
        default=[],
        metavar="SELECTOR",
        help="what it was made from; can be repeated",
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="ALIAS",
        help="a word for this version; can be repeated",
    )
    parser.add_argument(
        "--secrets",
        choices=["warn", "refuse", "off"],
        default="warn",
        help="what to do where text looks like it holds credentials (default: warn, and save it as it is)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Save it and say which version it is."""
    metadata = parse_metadata(arguments.metadata)
    value = read_value(arguments.path, arguments.form)
    with open_to_keep(arguments, console) as store:
        version = _save(store, value, metadata, arguments, console)
        if arguments.json:
            console.json({**version_facts(version), "created_new": version.created_new})
        elif version.created_new:
            console.out(f"{version.selector}  {size(version.size_bytes)}  {version.digest}")
        else:
            console.out(f"{version.selector} is the same already; no new version")
    return exit_codes.OK


def _save(
    store: Store, value: object, metadata: dict[str, Any], arguments: argparse.Namespace, console: Console
) -> Version:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SecretsWarning)
        version = store.save(
            arguments.name,
            value,
            metadata=metadata,
            parents=arguments.parent,
            aliases=arguments.alias,
            message=arguments.message,
            secrets=arguments.secrets,
        )
    for warning in dict.fromkeys(str(warning.message) for warning in caught):
        console.error(f"keepstone: {warning}")
    return version


def read_value(path: str, form: str | None) -> object:
    """Return what `path` (a file, a folder, `-`) holds, in the form that is asked for.

    Raises:
        NotFoundError: there is no such path.
        InvalidInputError: it does not hold such a form.
    """
    if path == "-":
        if form == "file":
            raise InvalidInputError("standard input is no file", hint="use --as bytes, text or json")
        return _decode(sys.stdin.buffer.read(), form or "bytes", "standard input")
    source = Path(path)
    if not source.exists():
        raise NotFoundError(
            f"no file or folder at {path!r}", hint="give an existing path, or - for standard input"
        )
    if form in (None, "file"):
        return source
    if source.is_dir():
        raise InvalidInputError(f"{path!r} is a folder, not {form}", hint="leave --as out to keep the folder")
    return _decode(source.read_bytes(), form or "bytes", repr(path))


def _decode(data: bytes, form: str, where: str) -> object:
    if form == "bytes":
        return data
    if form == "text":
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{where} is not UTF-8 text (byte {error.start:,})", hint="use --as bytes"
            ) from error
    import msgspec

    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidInputError(
            f"{where} is not JSON: {error}", hint="use --as text or --as bytes"
        ) from error


def parse_metadata(given: list[str]) -> dict[str, Any]:
    """Return what `--metadata` says: each a JSON object or KEY=VALUE, VALUE being JSON or else text."""
    import msgspec

    facts: dict[str, Any] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                facts.update(msgspec.json.decode(text.encode(), type=dict[str, Any]))
            except msgspec.DecodeError as error:
                raise InvalidInputError(
                    f"--metadata {text!r} is not JSON: {error}", hint="or write KEY=VALUE"
                ) from error
            continue
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidInputError(
                f"--metadata {text!r} is not KEY=VALUE", hint="such as accuracy=0.87 or '{\"a\": 1}'"
            )
        try:
            facts[key] = msgspec.json.decode(value.encode())
        except msgspec.DecodeError:
            facts[key] = value
    return facts
