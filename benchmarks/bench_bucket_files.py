"""Many small files by way of a bucket: saved, pushed, pushed again, pulled by a colleague; then their next version.

Beside DVC and `aws s3 sync`, with the same server in the same run, in turns. After each pull all bytes are compared.
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.servers import moto, rgw
from tests.servers.bucket import Bucket, new_bucket, remove
from tests.servers.program import Access
from tests.servers.proxy import Proxy

from benchmarks.file_tools import AWS, DVC, PACKAGES, TOOLS, Tool, available
from benchmarks.payloads import pool
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case
from benchmarks.workers import fresh

FILES: Final = 10_000
FILE_BYTES: Final = 1_024
_FILES_A_FOLDER: Final = 100
_CHANGED_SHARE: Final = 0.01
_TURNS: Final = 3
IN_PYTHON: Final = "Keepstone in Python"
"""The same calls in a process that has begun."""

Figures = dict[str, float]
"""A figure for each step."""


class Step(NamedTuple):
    """One thing that is timed."""

    id: str
    title: str
    """Of `files` files, of which `changed` are new the second time."""
    run: Callable[[Tool], float]


STEPS: Final = (
    Step("save", "save {files} files of 1 KB", lambda tool: tool.save()),
    Step("push", "push them to a bucket", lambda tool: tool.push()),
    Step("push_again", "push again with nothing new", lambda tool: tool.push()),
    Step("pull", "pull them on another machine", lambda tool: tool.pull()),
    Step("next_save", "save again after {changed} have changed", lambda tool: tool.save()),
    Step("next_push", "push what has changed", lambda tool: tool.push()),
    Step("next_pull", "pull what has changed", lambda tool: tool.pull_again()),
)


def run(settings: Settings) -> list[Case]:
    """Return times and requests of each step."""
    files = settings.scaled(FILES)
    folder = settings.new_folder("bucket_files")
    tools = available()
    times: dict[str, list[Figures]] = defaultdict(list)
    requests: dict[str, Figures] = {}
    with _server(folder / "server") as (title, access):
        for turn in range(settings.turns(_TURNS)):
            start = turn % len(tools)
            for name in tools[start:] + tools[:start]:
                with _project(name, folder, access) as (tool, _):
                    times[name].append(journey(tool, files))
            with _project(KEEPSTONE, folder, access) as (tool, _):
                times[IN_PYTHON].append(fresh(_in_python, tool.folder, tool.url, access, files))
        for name in tools:
            with Proxy(access) as proxy, _project(name, folder, access, proxy) as (tool, prepared):
                proxy.clear()
                requests[name] = journey(tool, files, lambda proxy=proxy: float(len(proxy.seen)))
                requests[name]["prepare"] = prepared
    shutil.rmtree(folder, ignore_errors=True)
    return _cases(files, title, times, requests)


def journey(tool: Tool, files: int, counted: Callable[[], float] | None = None) -> Figures:
    """Go all steps; return what each took: seconds, or how much further `counted` went.

    Raises:
        AssertionError: a folder did not arrive as it was.
    """
    taken: Figures = {}
    make_files(tool.source, files)
    _settle()
    for step in STEPS:
        if step.id == "next_save":
            change_files(tool.source, files)
            _settle()
        before = counted() if counted else 0.0
        seconds = step.run(tool)
        taken[step.id] = counted() - before if counted else seconds
        if "pull" in step.id:
            check_same(tool.source, tool.arrived)
    return taken


def make_files(folder: Path, files: int) -> None:
    """Fill a folder: half text that resembles itself as real text does, half random bytes; always the same."""
    for number, path in enumerate(_paths(folder, files)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(number, version=1))


def change_files(folder: Path, files: int) -> None:
    """Give one file in a hundred other content of the same size."""
    paths = list(_paths(folder, files))
    for number in random.Random(2).sample(range(files), int(files * _CHANGED_SHARE)):
        # As editors do: what tools have linked to stays what it was.
        paths[number].unlink()
        paths[number].write_bytes(_content(number, version=2))


def _settle() -> None:
    # A change within the second of the last look is one that `aws s3 sync` cannot see; and what is still to be
    # written to disk is not what the next step is to wait for.
    os.sync()
    time.sleep(1.1)


def _paths(folder: Path, files: int) -> Iterator[Path]:
    for number in range(files):
        suffix = "bin" if number % 2 else "txt"
        yield folder / f"part-{number // _FILES_A_FOLDER:03d}" / f"item-{number:05d}.{suffix}"


def _content(number: int, version: int) -> bytes:
    draw = random.Random(number * 10 + version)
    if number % 2:
        return draw.randbytes(FILE_BYTES)
    text = "\n".join(draw.choice(pool(300))["output"]["reasoning"] for _ in range(4))
    return f"{number} {version}\n{text}".encode()[:FILE_BYTES]


def check_same(source: Path, arrived: Path) -> None:
    """Return if both folders have the same files with the same bytes.

    Raises:
        AssertionError: they have not.
    """
    names = [{path.relative_to(root) for path in root.rglob("*")} for root in (source, arrived)]
    files = [str(name) for name in names[0] if (source / name).is_file()]
    filecmp.clear_cache()
    same, _, _ = filecmp.cmpfiles(source, arrived, files, shallow=False)
    if names[0] != names[1] or len(same) != len(files):
        raise AssertionError(
            f"{arrived} is not what {source} is: {len(same)} of {len(files)} files are the same"
        )


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, Access]]:
    """Run the server that all tools use, with its name."""
    used, title = (moto.PROGRAM, "moto") if rgw.missing() else (rgw.PROGRAM, "Ceph RGW, objects in memory")
    with used.running(folder) as access:
        yield title, access


@contextmanager
def _project(
    name: str, folder: Path, access: Access, proxy: Proxy | None = None
) -> Iterator[tuple[Tool, float]]:
    """Yield a tool in a new folder with a new bucket, prepared, and how many requests that took."""
    bucket: Bucket = new_bucket("", access)
    # Nothing is removed before the end: for minutes, ext4 makes new files slowly where many have just been removed.
    place = folder / f"project-{sum(1 for _ in folder.iterdir())}"
    try:
        tool = TOOLS[name](place, proxy.access if proxy else access, f"{bucket.url}/files")
        tool.prepare()
        yield tool, float(len(proxy.seen)) if proxy else 0.0
    finally:
        remove(bucket)


def _in_python(folder: Path, url: str, access: Access, files: int) -> Figures:
    """Do the same in this process, once everything is imported and connected."""
    os.environ.update(access.environment())
    os.environ.update(KEEPSTONE_SPOOL=str(folder / "spool"), KEEPSTONE_CACHE=str(folder / "cache"))
    import keepstone

    source, arrived, own = folder / "one" / "data", folder / "two" / "data", folder / "two" / "store"
    make_files(source, files)
    _settle()
    taken: Figures = {}

    def timed(step: str, *calls: Callable[[], object]) -> None:
        start = time.perf_counter()
        for call in calls:
            call()
        taken[step] = time.perf_counter() - start

    def write() -> None:
        with keepstone.open(own) as store:
            store.resolve("data").checkout(arrived)

    with keepstone.open(folder / "one" / "store") as store, keepstone.open(url) as shared:
        store.push(shared)
        timed("save", lambda: store.save("data", source))
        timed("push", lambda: store.push(shared))
        timed("push_again", lambda: store.push(shared))
        timed("pull", lambda: keepstone.clone(url, own), write)
        check_same(source, arrived)
        change_files(source, files)
        _settle()
        timed("next_save", lambda: store.save("data", source))
        timed("next_push", lambda: store.push(shared))
        arrived.rename(arrived.with_name("before"))
        with keepstone.open(own) as other:
            timed("next_pull", lambda: other.pull(url), write)
        check_same(source, arrived)
    return taken


def _cases(
    files: int, title: str, times: dict[str, list[Figures]], requests: dict[str, Figures]
) -> list[Case]:
    versions = ", ".join(f"{name} {PACKAGES[name][1]}" for name in (DVC, AWS) if name in times)
    notes = (f"{title}, on this machine; {versions or 'no peers'}; whole commands",)
    words = {"files": f"{files:,}", "changed": f"{int(files * _CHANGED_SHARE):,}"}
    cases: list[Case] = []
    for step in STEPS:
        text = step.title.format(**words)
        samples = {
            name: [turn[step.id] for turn in turns]
            for name, turns in times.items()
            if not (name == AWS and "save" in step.id)
        }
        cases.append(Case(f"bucket_files.{step.id}", text, "s", samples, notes=notes))
    counted = [("prepare", "make the store in the bucket"), *((s.id, s.title.format(**words)) for s in STEPS)]
    for step_id, text in counted:
        if "save" not in step_id:
            samples = {name: [figures[step_id]] for name, figures in requests.items()}
            cases.append(
                Case(
                    f"bucket_files.requests.{step_id}", f"{text}: requests", "requests", samples, notes=notes
                )
            )
    return cases
