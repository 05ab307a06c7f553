"""`keepstone demo --full`: the other commands, one after the other, on the demo's own store.

Layer: cli. Each is really run, in this process, as `main` would run it.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keepstone.cli import exit_codes

if TYPE_CHECKING:
    from keepstone.cli.console import Console

STEPS: Final = (
    (
        "Keep any file or folder under a name:",
        "save models/email answer.py --metadata accuracy=0.87 --alias prod",
    ),
    (
        "The next version; equal content is stored once:",
        "save models/email prompt.txt --message 'only the prompt'",
    ),
    ("", "versions models/email"),
    ("Aliases move, if you like only from where you think they are:", ""),
    ("", "alias models/email@v2 prod --expected models/email@v1"),
    ("Every version comes back as it was:", "load models/email@v1 answer_v1.py"),
    ("", "show models/email@prod"),
    ("One item of a result set:", "load {results} --key {key}"),
    ("What is here, and who did what:", "list"),
    ("", "history --limit 5"),
    ("Hand on the exact thing: a lock for git, and all that it names as one file:", ""),
    ("", "pin models/email@prod --lock email.lock"),
    ("", "bundle email.lock email.bundle"),
    ("", "verify email.bundle"),
    ("Removing says first what it would do:", "remove models/email@v1 --dry-run"),
    ("Is everything there and undamaged?", "fsck --read-data"),
    ("How much is it?", "stats"),
)


def tour(folder: Path, store: Path, results: str, console: Console) -> int:
    """Run the steps in `folder` and return the first exit code that is not 0."""
    from keepstone.cli.demo_files import asked
    from keepstone.cli.main import main

    key = shlex.quote(asked(folder)[0])
    with contextlib.chdir(folder):
        for title, line in STEPS:
            if title:
                console.out(f"\n{title}")
            if not line:
                continue
            command = line.format(results=results, key=key)
            console.out(f"$ keepstone {command}")
            code = main(["--store", str(store), *shlex.split(command)])
            if code != exit_codes.OK:
                return code
    return exit_codes.OK
