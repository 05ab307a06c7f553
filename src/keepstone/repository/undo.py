"""Undoing: one new commit that takes back what an earlier one decided about names.

Layer: repository. What the commit made goes, what it removed is back under its old number, aliases mean what they
meant; numbers are never given again. It is refused where a name or alias means something else by now: nothing that
came later is overruled unseen. What was changed and changed back is no obstacle.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from keepstone.blobs.blobstore import PackPlace
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    BlobNotFoundError,
    CorruptionError,
    InvalidInputError,
    NotFoundError,
    RefConflictError,
)
from keepstone.foundation.format import Form, log_key
from keepstone.history.commit import Commit, RefChange
from keepstone.repository.arguments import check_message
from keepstone.repository.changes import change_line
from keepstone.repository.frozen import snapshot_items
from keepstone.repository.name_view import Found
from keepstone.repository.refs import VERSIONS, NameRef, read_alias_ref, read_name_ref, version_key
from keepstone.repository.repository import RESTAGES_MAX, Repository, too_fast
from keepstone.repository.session import Session
from keepstone.repository.sketch import Sketch
from keepstone.repository.staging import Restage, Staging

_MESSAGE_MAX: Final = 200


class _NameChange(NamedTuple):
    """What the commit decided about one name."""

    change: RefChange
    old: NameRef
    new: NameRef
    made: tuple[int, ...]
    """Numbers of versions that it made, or brought back."""
    removed: tuple[Found, ...]
    """Versions that it removed, as they were."""

    @property
    def name(self) -> str:
        return self.change.name


def undo(repository: Repository, number: int, message: str = "") -> Commit:
    """Take back what commit `number` decided about names; return the new commit. See `Store.undo`."""
    session = repository.session
    session.require_writable()
    check_message(message)
    session.refresh()
    commit = _commit(session, number)
    moved = [ref for ref in commit.refs if ref.old != ref.new and not ref.name.startswith(":")]
    if not moved:
        raise InvalidInputError(
            f"commit {number} changed no name: there is nothing to undo",
            hint="`keepstone history` shows which commits changed names",
        )
    aliases = [ref for ref in moved if "@" in ref.name]
    names = [_name_change(session, commit, ref) for ref in moved if "@" not in ref.name]
    message = message or _message(commit, moved)
    made: list[Commit] = []

    def then(_: object, sketch: Sketch) -> None:
        if sketch.commit is not None:
            made.append(sketch.commit)

    def steps(sketch: Sketch) -> None:
        for ref in moved:
            if _meaning(ref.name, sketch.refs.get(ref.name)) != _meaning(ref.name, ref.new):
                raise _conflict(session, commit, ref)
        gone = {change.name: _take_back(sketch, commit, change) for change in names}
        for ref in aliases:
            _turn_back(sketch, commit, ref)
        for name, numbers in gone.items():
            sketch.require_unaliased(name, numbers)

    for _ in range(RESTAGES_MAX):
        staging = Staging(session)
        begun = session.entries.number
        try:
            for change in names:
                for found in change.removed:
                    _rely_on(repository, staging, commit, found)
        except ArtifactNotFoundError:
            # Packed anew between two looks, perhaps: look again, as long as there is news.
            session.refresh()
            if session.entries.number == begun:
                raise
            continue
        try:
            repository.decide(steps, staging, message, then)
        except Restage:
            continue
        if not made:
            # A version that was removed and is back does not show in its name's ref: only the steps came to nothing.
            raise InvalidInputError(
                f"undoing commit {commit.number} changes nothing: what it decided was taken back already",
                hint="`keepstone history` shows what was decided since",
            )
        return made[-1]
    raise too_fast()


def _commit(session: Session, number: int) -> Commit:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"not the number of a commit: {number!r}", hint="`keepstone history` shows the numbers"
        )
    if number > session.log.state.number:
        raise NotFoundError(f"there is no commit {number}", hint="`keepstone history` shows the numbers")
    return session.log.commit_at(number)


def _message(commit: Commit, moved: list[RefChange]) -> str:
    what = commit.message or "; ".join(change_line(ref) for ref in moved)
    text = f"undo of commit {commit.number}: {what}"
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 1] + "…"


# ---- what the commit decided ---------------------------------------------------------------------------------------


def _name_change(session: Session, commit: Commit, ref: RefChange) -> _NameChange:
    assert ref.new is not None
    new = read_name_ref(ref.new, ref.name)
    old = read_name_ref(ref.old, ref.name) if ref.old is not None else NameRef(new.kind)
    if new.kind == "collection" and new.number != old.number:
        verb = "made" if new.number else "removed"
        raise InvalidInputError(
            f"commit {commit.number} {verb} the collection {ref.name!r}, whose items are part of no commit",
            hint="remove it with `keepstone remove`, or set its items again",
        )
    # A save is all in the ref; of anything else only the entries tell which versions it was about.
    only_saved = new.given > old.given and new.removals == old.removals
    decided = {} if only_saved else _entries(session, commit, ref.name)
    made = [n for n, digest in decided.items() if digest is not None and n <= old.given]
    gone = [n for n, digest in decided.items() if digest is None and n <= old.given]
    removed = tuple(Found(ref.name, n, _digest_before(session, old, ref.name, n), 0) for n in gone)
    return _NameChange(ref, old, new, (*made, *range(old.given + 1, new.given + 1)), removed)


def _entries(session: Session, commit: Commit, name: str) -> dict[int, Digest | None]:
    """Return what the commit's own packs say of the versions of a name: the digest of the manifest, None: removed."""
    decided: dict[int, Digest | None] = {}
    for record in commit.added:
        inline = record is commit.inline
        key = log_key(commit.number) if inline else record.name.key
        place = PackPlace(key, commit.header_size if inline else 0, record.size, record.footer_size)
        try:
            entries = session.blobs.index(place).entries(VERSIONS)
        except (BlobNotFoundError, CorruptionError) as error:
            raise ArtifactNotFoundError(
                f"what commit {commit.number} removed is not kept any more", selector=name
            ) from error
        for entry, _ in entries:
            owner, _, number = entry.key.rpartition("@v")
            if owner == name:
                decided[int(number)] = entry.digest
    return decided


def _digest_before(session: Session, old: NameRef, name: str, number: int) -> Digest:
    if number == old.newest:
        return Digest(old.digest)
    for row in session.entries.history(VERSIONS, version_key(name, number)):
        if row.digest is not None:
            return row.digest
    raise ArtifactNotFoundError(
        f"version {number} of {name!r} is not kept any more", selector=version_key(name, number)
    )


def _rely_on(repository: Repository, staging: Staging, commit: Commit, found: Found) -> None:
    """State all packs that a version needs; they must still be there.

    Raises:
        ArtifactNotFoundError: something of it was collected as garbage.
    """
    session = repository.session

    def require(digest: Digest) -> None:
        if not staging.has_whole(digest):
            raise ArtifactNotFoundError(
                f"commit {commit.number} cannot be undone: content of {found.selector} is gone",
                selector=found.selector,
                hint="another copy of the store may have it",
            )

    require(found.digest)
    version = repository.naming.version(found)
    for part in version.parts:
        require(Digest(part.digest))
    if not version.is_snapshot:
        return
    packs = {(pack.key, pack.offset): pack.name for pack in session.log.state.packs.values()}
    for row in snapshot_items(repository, version).rows():
        places = (r.place for r in session.entries.history(found.name, row.key) if r.digest == row.digest)
        name = next((packs.get((p.pack.key, p.pack.offset)) for p in places if p is not None), None)
        if name is not None:
            staging.rely_on([name])
            continue
        require(row.digest)
        if row.form == Form.MANIFEST:
            for part in session.read_manifest(row.digest).parts:
                require(Digest(part.digest))


# ---- taking it back ------------------------------------------------------------------------------------------------


def _meaning(name: str, value: bytes | None) -> tuple[int, bytes]:
    if value is None:
        return 0, b""
    if "@" in name:
        alias = read_alias_ref(value, name)
        return alias.number, alias.digest
    ref = read_name_ref(value, name)
    return ref.newest, ref.digest


def _take_back(sketch: Sketch, commit: Commit, change: _NameChange) -> set[int]:
    """Let the versions of a name be as they were before; return the numbers that go."""
    name, old = change.name, change.old
    present = sketch.name_ref(name) or change.new
    gone = {number for number in change.made if sketch.find_version(name, number) is not None}
    back = [found for found in change.removed if sketch.find_version(name, found.number) is None]
    for number in gone:
        sketch.take_away(name, number)
    for found in back:
        sketch.put(found)
    if old.newest and sketch.find_version(name, old.newest) is None:
        raise _missing(commit, name, f"v{old.newest} of {name!r}, which was the newest before,")
    # A removal that is undone does not count any more: a name whose removal was undone is as it was.
    taken = max(1, change.new.removals - old.removals) if back else 0
    removals = max(0, present.removals - taken) + (1 if gone else 0)
    ref = msgspec.structs.replace(present.at_version(old.newest, old.digest), removals=removals)
    if ref == present and (gone or back):
        ref = msgspec.structs.replace(ref, removals=removals + 1)
    sketch.set_name(name, ref)
    return gone


def _turn_back(sketch: Sketch, commit: Commit, ref: RefChange) -> None:
    """Let an alias mean what it meant before."""
    if ref.old is None:
        sketch.set_ref(ref.name, None)
        return
    name, _, alias = ref.name.partition("@")
    meant = read_alias_ref(ref.old, ref.name)
    found = sketch.find_version(name, meant.number)
    if found is None or found.digest != meant.digest:
        raise _missing(commit, ref.name, f"v{meant.number} of {name!r}, which alias {alias!r} meant,")
    sketch.set_ref(ref.name, ref.old)
    sketch.state_name(name)


def _missing(commit: Commit, ref: str, what: str) -> RefConflictError:
    name = ref.partition("@")[0]
    return RefConflictError(
        f"commit {commit.number} cannot be undone: {what} was removed since",
        name=ref,
        expected=f"as before commit {commit.number}",
        found="removed",
        hint=f"undo that removal first; `keepstone history {name}` shows it",
    )


def _conflict(session: Session, commit: Commit, ref: RefChange) -> RefConflictError:
    later, line = commit.number, change_line(ref)
    for other in session.log.commits_backwards(first=commit.number + 1):
        moves = [r for r in other.refs if r.name == ref.name and r.old != r.new]
        if moves:
            later, line = other.number, change_line(moves[0])
            break
    return RefConflictError(
        f"{ref.name!r} has moved since commit {commit.number}: by commit {later}, {line}",
        name=ref.name,
        expected=f"as after commit {commit.number}",
        found=f"as after commit {later}",
        hint=f"undo commit {later} first, or change {ref.name!r} by hand",
    )
