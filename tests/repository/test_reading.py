"""Reading while others seal, merge and delete, and what large values are worth without their sum."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.faults.processes import dead

import keepstone
from keepstone.api import Store
from keepstone.blobs.recipe import Piece, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import DigestMismatchError
from keepstone.foundation.format import Kind
from keepstone.repository.merging import merge
from keepstone.repository.staging import Staging


def put(folder: Path, key: str, value: object) -> None:
    """Set a key in a process that is killed afterwards."""
    dead(lambda: keepstone.open(folder).collection("c", durability="process").update({key: value}))


def test_an_item_that_is_published_between_two_looks_is_found(folder: Path) -> None:
    with keepstone.open(folder) as store:
        store.collection("c")["mine"] = 0
        calls = store.repository.session.calls
        real = calls.open
        put(folder, "k", 1)
        published: list[str] = []

        def publish_behind_the_tip(
            path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None
        ) -> int:
            try:
                return real(path, flags, mode, dir_fd=dir_fd)
            except FileNotFoundError:
                if "/log/" in path and not published:
                    # The log was looked at and says nothing: now the neighbour's journal becomes a commit and goes.
                    published.append(path)
                    dead(lambda: keepstone.open(folder).recover())
                raise

        calls.open = publish_behind_the_tip

        assert store.collection("c")["k"] == 1
        assert published


def test_a_pack_that_was_merged_away_meanwhile_is_looked_up_again(store: Store, folder: Path) -> None:
    contents = [random.Random(n).randbytes(300_000) for n in range(3)]
    for number, content in enumerate(contents):
        store.save(f"large {number}", content)
    session = store.repository.session
    digest = Digest.of(contents[0])
    place = session.find_blob(digest)
    dead(lambda: merge(keepstone.open(folder).repository.session, packs_min=2))
    # As garbage collection will do.
    (folder / place.pack.key).unlink()
    session.storage.close()

    assert session.read_blob(digest) == contents[0]


def test_pieces_that_do_not_make_the_whole_are_an_error(store: Store) -> None:
    session = store.repository.session
    staging = Staging(session)
    pieces = [Piece(staging.add(raw), len(raw)) for raw in (b"one", b"two")]
    wrong = Digest.of(b"onetwothree")
    staging.add(encode_recipe(pieces), wrong, Kind.RECIPE)
    session.log.append(staging.draft)
    session.refresh()

    with pytest.raises(DigestMismatchError):
        session.read_blob(wrong)
