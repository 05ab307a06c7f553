from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.storage.faulty_calls import FaultyCalls
from tests.storage.local_kinds import DATA, KINDS, each_kind, litter

from keepstone.storage.calls import Calls
from keepstone.storage.draft import BestDrafts, Draft, is_named


@each_kind
def test_a_draft_is_unseen_until_it_is_published_and_can_be_kept_open(tmp_path: Path, kind: str) -> None:
    calls = Calls()
    folder = os.open(tmp_path, os.O_RDONLY)
    draft: Draft = KINDS[kind](calls).begin(folder, os.O_APPEND)
    assert calls.try_lock(draft.fd)
    os.write(draft.fd, b"header")
    assert not (tmp_path / "journal").exists()
    assert not is_named(calls, draft.fd, str(tmp_path / "journal"))

    draft.publish("journal")
    fd = draft.detach()
    draft.close()
    os.close(folder)

    assert is_named(calls, fd, str(tmp_path / "journal"))
    os.write(fd, b"+frame")
    assert (tmp_path / "journal").read_bytes() == b"header+frame"
    other = os.open(tmp_path / "journal", os.O_RDWR)
    assert not calls.try_lock(other)
    os.close(fd)
    assert calls.try_lock(other)
    os.close(other)
    assert litter(tmp_path) == []


@each_kind
def test_a_draft_that_is_closed_unpublished_leaves_nothing(tmp_path: Path, kind: str) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    draft = KINDS[kind](Calls()).begin(folder)
    os.write(draft.fd, DATA)
    draft.close()
    draft.close()
    os.close(folder)

    assert list(tmp_path.iterdir()) == []


def test_the_best_drafts_leave_nothing_behind_from_trying(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for after in (False, True):
        calls = FaultyCalls(fail_at=1, error=errno.EIO, after=after, only=("link_open",))
        BestDrafts(calls).begin(folder).close()
        assert calls.open_fds == set()
    os.close(folder)

    assert list(tmp_path.iterdir()) == []
