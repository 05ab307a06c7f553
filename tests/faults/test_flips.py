"""A small store damaged at every byte and in every file: each value is right or refused, and `fsck` says what it is.

Everyday a part of all cases; `--long` flips every byte, twice, and cuts every file at every length.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults import small_store
from tests.faults.small_store import ABSENT, LATE, REFUSED, RIGHT, SOUND, Outcome, read_all

import keepstone
from keepstone.blobs.journal import JournalFile
from keepstone.history.state import IN_PACK
from keepstone.operations.fsck import FsckReport, Severity, fsck_location

pytestmark = pytest.mark.timeout(6 * 3600)
"""Every byte of the store, one after the other, takes its time."""

KINDS = ("store.json", "log", "packs", "checkpoints", "journals")
PEAK_BYTES_MAX = 200 * 1024 * 1024
"""What damage may make a reader or a check hold more than it did."""


class Small:
    """The store, which bytes of it count, and what a damaged one gave."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.scratch = scratch
        self.cases = 0
        self.harmless = ""
        """The last case, if all was read all the same."""
        self.files = {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and "cache" not in path.parts and path.stat().st_size
        }
        with keepstone.open(root, mode="r") as store:
            session = store.repository.session
            (journal,) = session.spool.journals()
            assert isinstance(journal, JournalFile)
            self.journal, self.synced = f"journals/{journal.name}", journal._synced
            self.state = session.log.state
            headers = {commit.number: commit.header_size for commit in session.log.commits()}
        self.counting: dict[str, list[tuple[int, int]]] = {"store.json": [(0, len(self.files["store.json"]))]}
        """Ranges of bytes that cannot be damaged without a loss."""
        for number, size in headers.items():
            self.counting[f"log/{number:020}"] = [(0, size)]
        for pack in self.state.packs.values():
            self.counting.setdefault(pack.key, []).append((pack.offset, pack.offset + pack.record.size))
        self.unsynced = {f"late[{key}]" for key in list(LATE)[len(LATE) // 2 :]} | {"late[*]"}
        self.counting[self.journal] = [(0, self.synced)]
        assert any(pack.slot != IN_PACK for pack in self.state.packs.values())
        assert 0 < self.synced < len(self.files[self.journal])

    def of(self, kind: str) -> dict[str, bytes]:
        return {name: data for name, data in self.files.items() if name.split("/")[0] == kind}

    def counts(self, name: str, start: int, end: int) -> bool:
        """Whether a byte in [start, end) of a file is one that counts."""
        return any(start < last and first < end for first, last in self.counting.get(name, []))

    @contextmanager
    def damaged(self, changed: dict[str, bytes | None]) -> Generator[None]:
        """Hold the store damaged: files with other content, or missing."""
        try:
            for name, data in changed.items():
                path = self.root / name
                path.unlink() if data is None else path.write_bytes(data)
            yield
        finally:
            for name in changed:
                path = self.root / name
                if name in self.files:
                    path.write_bytes(self.files[name])
                else:
                    path.unlink()

    def look(self) -> list[tuple[str, int, int, int]]:
        """What changes when anything in the store is written."""
        found: list[tuple[str, int, int, int]] = []
        for folder, _, names in os.walk(self.root):
            for path in [folder, *(f"{folder}/{name}" for name in names)]:
                facts = os.stat(path)
                found.append((path, facts.st_size, facts.st_mtime_ns, facts.st_ino))
        return sorted(found)

    def judge(self, changed: dict[str, bytes | None], what: str) -> tuple[Outcome, FsckReport]:
        """Read all of the damaged store and check it; refuse what must never be."""
        self.cases += 1
        with self.damaged(changed):
            before = self.look()
            read = read_all(self.root, self.scratch)
            report = fsck_location(str(self.root), read_data=True)
            assert self.look() == before, f"{what}: was written to"
        outcome = dict.fromkeys(SOUND, REFUSED) if isinstance(read, str) else read
        for selector, found in outcome.items():
            allowed = {ABSENT, REFUSED} if SOUND[selector] == ABSENT else {RIGHT, ABSENT, REFUSED}
            assert found in allowed, f"{what}: {selector} {found}"
        lost = {selector for selector, found in outcome.items() if found != SOUND[selector]}
        self.harmless = "" if lost else what
        if not isinstance(read, str):
            unnamed = {s for s in lost if not _is_named(s, report)}
            journals = {s for s in unnamed if s.startswith("late[")}
            # What keys a damaged journal had cannot be known.
            assert not unnamed - journals, f"{what}: {sorted(unnamed)} are lost, {report.findings}"
        return outcome, report

    def require_damage(self, report: FsckReport, names: set[str], what: str) -> None:
        """The check must say that one of these files is damaged."""
        if names == {"store.json"} and report.ok:
            # Its space and its field names may change as long as what it says, of which it has a digest, does not.
            assert self.harmless == what
            return
        assert any(finding.where in names for finding in report.damage), f"{what}: {report.findings}"

    def require_no_loss(self, outcome: Outcome, report: FsckReport, what: str) -> None:
        """Nothing may be lost, nor called damaged."""
        assert outcome == SOUND, what
        assert report.ok, f"{what}: {report.damage}"


def _is_named(selector: str, report: FsckReport) -> bool:
    touched = {touch for finding in report.damage for touch in finding.touches}
    collection = selector.partition("[")[0]
    if selector == "text@prod":
        return not touched.isdisjoint({"text@prod", "text@v2"})
    if selector.endswith("[*]"):
        return any(touch.startswith(f"{collection}[") for touch in touched)
    return selector in touched or f"{collection}[*]" in touched


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("flips")
    with pytest.MonkeyPatch.context() as patch:
        small_store.make(folder / "store", patch)
    shutil.move(folder / "store" / "cache", folder / "cache")
    return Small(folder / "store", folder / "scratch")


@pytest.fixture
def small(made: Small, request: pytest.FixtureRequest) -> Iterator[Small]:
    made.cases = 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield made
    print(f"{request.node.name}: {made.cases:,} cases")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown * 1024 <= PEAK_BYTES_MAX


@pytest.fixture
def every(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


def test_the_store_is_sound_and_has_something_of_everything(small: Small) -> None:
    outcome, report = small.judge({}, "sound")

    assert outcome == SOUND
    assert [finding.severity for finding in report.findings] == [Severity.LITTER]
    assert all(small.of(kind) for kind in KINDS)
    assert 30_000 < sum(map(len, small.files.values())) < 80_000


# ---- flipped bytes ---------------------------------------------------------------------------------------------------


def _flips(small: Small, kind: str, stride: int) -> Iterator[tuple[str, int]]:
    """Yield (file, position): every `stride`-th byte of all files of a kind, as if they were one."""
    before = 0
    for name, data in small.of(kind).items():
        for position in range(-before % stride, len(data), stride):
            yield name, position
        before += len(data)


@pytest.mark.parametrize(
    ("kind", "stride"),
    [("store.json", 17), ("log", 127), ("packs", 181), ("checkpoints", 83), ("journals", 41)],
)
@pytest.mark.parametrize("pattern", ["one bit", "all bits"])
def test_every_flipped_byte_is_noticed_or_does_not_matter(
    small: Small, every: bool, is_thorough: bool, kind: str, stride: int, pattern: str
) -> None:
    # Odd, so that each bit has its turn.
    apart = stride if is_thorough else 2 * stride + 1
    for name, position in _flips(small, kind, 1 if every else apart if pattern == "one bit" else 4 * apart):
        data = bytearray(small.files[name])
        data[position] ^= 1 << position % 8 if pattern == "one bit" else 0xFF
        what = f"{name} flipped at {position}"
        outcome, report = small.judge({name: bytes(data)}, what)
        if small.counts(name, position, position + 1):
            small.require_damage(report, {name}, what)
        elif name == small.journal:
            # Of what lies above the last sync nothing was promised, and what is torn at its end may be under way.
            assert report.ok, what
            assert all(f == SOUND[s] for s, f in outcome.items() if s not in small.unsynced), what
        else:
            small.require_no_loss(outcome, report, what)


# ---- cut files, lost sectors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_any_length_is_noticed_or_does_not_matter(small: Small, every: bool, kind: str) -> None:
    for name, position in _flips(
        small, kind, 1 if every else 1 + sum(map(len, small.of(kind).values())) // 9
    ):
        data = small.files[name]
        what = f"{name} cut to {position} of {len(data)} bytes"
        outcome, report = small.judge({name: data[:position]}, what)
        if name == small.journal:
            # What it says of a sync stands behind what was synced: one that was cut looks as if less was written.
            assert all(f == SOUND[s] for s, f in outcome.items() if not s.startswith("late[")), what
        elif small.counts(name, position, len(data)):
            small.require_damage(report, {name}, what)
        else:
            small.require_no_loss(outcome, report, what)


@pytest.mark.parametrize("size", [512, 4096])
def test_a_zeroed_sector_is_noticed_or_does_not_matter(small: Small, every: bool, size: int) -> None:
    sectors = [(name, at) for name, data in small.files.items() for at in range(0, len(data), size)]
    for name, start in sectors[:: 1 if every else 4]:
        data = small.files[name]
        end = min(start + size, len(data))
        what = f"{name} zeroed in [{start}, {end})"
        outcome, report = small.judge({name: data[:start] + bytes(end - start) + data[end:]}, what)
        if small.counts(name, start, end) and name != small.journal:
            small.require_damage(report, {name}, what)
        elif name != small.journal and name.split("/")[0] in KINDS:
            small.require_no_loss(outcome, report, what)


# ---- whole files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["log", "packs", "checkpoints"])
def test_two_files_that_changed_places_are_noticed(small: Small, every: bool, kind: str) -> None:
    pairs = list(itertools.combinations(small.of(kind), 2))
    for one, two in pairs if every else pairs[::7]:
        what = f"{one} and {two} swapped"
        outcome, report = small.judge({one: small.files[two], two: small.files[one]}, what)
        counting = {one, two} & small.counting.keys()
        if counting:
            small.require_damage(report, counting, what)
        else:
            small.require_no_loss(outcome, report, what)


def test_a_missing_file_is_noticed_or_does_not_matter(small: Small, every: bool) -> None:
    last = max(small.of("log"))
    for name in small.files if every else list(small.files)[::2]:
        what = f"{name} missing"
        outcome, report = small.judge({name: None}, what)
        if name in (last, small.journal):
            # Nothing that is left says that there was more; what there is must be right.
            assert report.ok, what
            assert all(f == SOUND[s] for s, f in outcome.items() if not s.startswith("late[")), what
        elif name in small.counting:
            small.require_damage(report, {name}, what)
        else:
            small.require_no_loss(outcome, report, what)


@pytest.mark.parametrize(
    "name", ["notes.txt", "log/notes", f"log/{'9' * 19}x", "packs/notes", "checkpoints/0-0"]
)
def test_a_foreign_file_changes_nothing(small: Small, name: str) -> None:
    small.require_no_loss(*small.judge({name: b"not of this store"}, name), name)


def test_a_copy_of_a_slot_behind_the_log_is_noticed(small: Small) -> None:
    after = f"log/{len(small.of('log')):020}"
    _, report = small.judge({after: small.files[min(small.of("log"))]}, after)

    small.require_damage(report, {after}, after)
