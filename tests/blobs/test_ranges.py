"""Ranges of blobs: what is touched is read, what is read is right, and a file of it is as good as one in memory."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from keepstone.blobs.blob_file import BUFFER_BYTES, BlobFile
from keepstone.blobs.ranges import HELD_BYTES_MAX, RangeReader
from keepstone.blobs.recipe import Piece
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, DigestMismatchError, MalformedError

KIB = 1024


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes of which no two stretches are alike."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Shelf:
    """Blobs in memory, cut as a test wants; counts what is read."""

    def __init__(self, *pieces: bytes) -> None:
        self.content = b"".join(pieces)
        self.digest = Digest.of(self.content)
        self.blobs: dict[Digest, bytes] = {Digest.of(piece): piece for piece in pieces}
        self.pieces = [Piece(Digest.of(piece), len(piece)) for piece in pieces]
        self.asked: Counter[Digest] = Counter()

    def read(self, digest: Digest) -> bytes | list[Piece]:
        self.asked[digest] += 1
        if digest == self.digest and digest not in self.blobs:
            return self.pieces
        try:
            raw = self.blobs[digest]
        except KeyError:
            raise BlobNotFoundError("it is gone", digest=str(digest)) from None
        if Digest.of(raw) != digest:
            raise DigestMismatchError("it is damaged", expected=str(digest), actual=str(Digest.of(raw)))
        return raw

    def reader(self, *, is_far: bool = False) -> RangeReader:
        return RangeReader(self.digest, len(self.content), self.read, is_far=is_far)

    def file(self, *, is_far: bool = False) -> BlobFile:
        return BlobFile(self.reader(is_far=is_far), "blob")

    def touched(self) -> list[int]:
        """Return the numbers of the pieces that were read, and forget them."""
        found = [number for number, piece in enumerate(self.pieces) if self.asked[piece.digest]]
        self.asked.clear()
        return found


def cut(sizes: list[int]) -> list[bytes]:
    return [some_bytes(size, seed) for seed, size in enumerate(sizes)]


def test_a_range_touches_the_pieces_it_lies_in_and_no_others() -> None:
    shelf = Shelf(*cut([100, 50, 200, 1, 300]))
    for start, end, pieces in [
        (0, 100, [0]),
        (100, 150, [1]),
        (99, 101, [0, 1]),
        (349, 352, [2, 3, 4]),
        (351, 352, [4]),
        (650, 10_000, [4]),
        (651, 10_000, []),
        (70, 70, []),
        (80, 20, []),
    ]:
        assert shelf.reader().read(start, end) == shelf.content[start:end]
        assert shelf.touched() == pieces


def test_a_small_blob_is_its_own_piece_and_read_once() -> None:
    shelf = Shelf(b"one piece")
    reader = shelf.reader()

    assert (reader.read(4, 9), reader.read(0, 3)) == (b"piece", b"one")
    assert shelf.asked == {shelf.digest: 1}


def test_an_empty_blob_is_nothing_to_read() -> None:
    shelf = Shelf()
    assert shelf.reader().read(0, 10) == b""
    assert not shelf.asked


def test_what_was_read_lately_is_not_read_again() -> None:
    shelf = Shelf(*cut([KIB] * 20))
    reader = shelf.reader()
    for _ in range(50):
        reader.read(3 * KIB + 5, 5 * KIB - 5)
    assert max(shelf.asked.values()) == 1


def test_memory_is_bounded_whatever_was_read() -> None:
    shelf = Shelf(*cut([512 * KIB] * 20))
    reader = shelf.reader()
    assert sum(map(len, reader.chunks(0, len(shelf.content)))) == len(shelf.content)
    assert sum(map(len, reader._held.values())) <= HELD_BYTES_MAX


def test_damage_is_an_error_of_who_touches_it() -> None:
    shelf = Shelf(*cut([1000] * 5))
    shelf.blobs[shelf.pieces[2].digest] = b"\0" * 1000
    for is_far in (False, True):
        file = shelf.file(is_far=is_far)
        assert file.read(2000) == shelf.content[:2000]
        for _ in range(2):
            file.seek(2500)
            with pytest.raises(DigestMismatchError):
                file.read(1)
        file.seek(3000)
        assert file.read() == shelf.content[3000:]
        file.seek(-1, io.SEEK_END)
        assert file.read() == shelf.content[-1:]


def test_pieces_that_do_not_make_the_whole_are_noticed_by_who_reads_all_of_them() -> None:
    shelf = Shelf(*cut([1000, 1000, 1000]))
    shelf.pieces[0], shelf.pieces[1] = shelf.pieces[1], shelf.pieces[0]
    file = shelf.file()
    assert len(file.read(2000)) == 2000
    for _ in range(2):
        file.seek(2999)
        with pytest.raises(DigestMismatchError):
            file.read()

    with pytest.raises(DigestMismatchError):
        shelf.file().read()


def test_empty_pieces_do_not_hide_the_whole() -> None:
    shelf = Shelf(*cut([1000, 1000]))
    empty = Piece(Digest.of(b""), 0)
    shelf.blobs[empty.digest] = b""
    shelf.pieces = [empty, shelf.pieces[1], empty, shelf.pieces[0]]
    with pytest.raises(DigestMismatchError):
        shelf.file().read()


def test_a_recipe_of_another_size_than_the_manifest_says_is_refused() -> None:
    shelf = Shelf(*cut([1000, 1000]))
    shelf.pieces.pop()
    with pytest.raises(MalformedError, match=r"has 1,000 bytes, not 2,000"):
        shelf.reader().read(0, 10)


def test_a_piece_of_another_size_than_the_recipe_says_is_refused() -> None:
    shelf = Shelf(*cut([1000, 1000]))
    shelf.pieces = [shelf.pieces[0]._replace(size=900), shelf.pieces[1]._replace(size=1100)]
    with pytest.raises(MalformedError, match="as its recipe says"):
        shelf.reader().read(0, 10)


def test_far_away_what_comes_next_is_fetched_in_growing_steps_and_near_by_it_is_not() -> None:
    piece = 16 * KIB
    shelf = Shelf(*cut([piece] * 1024))
    planned: list[int] = []

    def reader(is_far: bool) -> RangeReader:
        from contextlib import contextmanager

        @contextmanager
        def each(pieces: list[Piece]) -> Any:
            planned.append(len(pieces))
            yield pieces

        return RangeReader(shelf.digest, len(shelf.content), shelf.read, each, is_far=is_far)

    far = BlobFile(reader(True), "far")
    while far.read(10_000):
        pass
    assert planned[0] <= BUFFER_BYTES // piece + 1
    assert planned == sorted(planned)
    assert len(planned) < 12
    assert sum(planned) == 1024

    planned.clear()
    near = BlobFile(reader(False), "near")
    while near.read(10_000):
        pass
    assert max(planned) <= BUFFER_BYTES // piece + 1

    planned.clear()
    jumping = BlobFile(reader(True), "far")
    for position in random.Random(1).sample(range(1024), 40):
        jumping.seek(position * piece)
        jumping.read(100)
    assert max(planned) <= BUFFER_BYTES // piece + 1


def test_a_file_closes_refuses_to_write_and_does_not_pickle() -> None:
    shelf = Shelf(*cut([1000] * 3))
    with shelf.file() as file:
        assert file.size == 3000
        assert (file.name, file.mode) == ("blob", "rb")
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(TypeError, match="pickle its version"):
            pickle.dumps(file)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_zip_file_is_read_by_its_members(tmp_path: Any) -> None:
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.bin", some_bytes(100_000, number))
    content = packed.getvalue()
    shelf = Shelf(*(content[i : i + 20_000] for i in range(0, len(content), 20_000)))

    with zipfile.ZipFile(shelf.file()) as archive:
        assert archive.read("7.bin") == some_bytes(100_000, 7)
    assert len(shelf.touched()) <= 12


class FileMachine(RuleBasedStateMachine):
    """A file of a blob beside one in memory."""

    @initialize(
        sizes=st.lists(st.sampled_from([0, 1, 7, 1000, BUFFER_BYTES, 100_003]), max_size=8),
        is_far=st.booleans(),
    )
    def open(self, sizes: list[int], is_far: bool) -> None:
        lines = [bytes(10 if byte < 8 else byte for byte in piece) for piece in cut(sizes)]
        self.shelf = Shelf(*lines)
        self.file = self.shelf.file(is_far=is_far)
        self.twin = io.BytesIO(self.shelf.content)

    @rule(size=st.one_of(st.integers(-1, 300), st.integers(0, 400_000)))
    def read(self, size: int) -> None:
        assert self.file.read(size) == self.twin.read(size)

    @rule(size=st.integers(1, 200_000))
    def read1(self, size: int) -> None:
        found = self.file.read1(size)
        assert found == self.twin.read(len(found))
        assert found or not self.twin.read(1)

    @rule(size=st.integers(0, 200_000))
    def readinto(self, size: int) -> None:
        mine, theirs = bytearray(size), bytearray(size)
        assert self.file.readinto(mine) == self.twin.readinto(theirs)
        assert mine == theirs

    @rule(size=st.integers(-1, 500))
    def readline(self, size: int) -> None:
        assert self.file.readline(size) == self.twin.readline(size)

    @rule(offset=st.integers(0, 500_000))
    def seek(self, offset: int) -> None:
        assert self.file.seek(offset) == self.twin.seek(offset)

    @rule(offset=st.integers(-300_000, 300_000))
    def seek_on(self, offset: int) -> None:
        offset = max(offset, -self.twin.tell())
        assert self.file.seek(offset, io.SEEK_CUR) == self.twin.seek(offset, io.SEEK_CUR)

    @rule(offset=st.integers(-300_000, 10))
    def seek_from_the_end(self, offset: int) -> None:
        offset = max(offset, -len(self.shelf.content))
        assert self.file.seek(offset, io.SEEK_END) == self.twin.seek(offset, io.SEEK_END)

    @invariant()
    def stands_where_the_other_does(self) -> None:
        if hasattr(self, "file"):
            assert self.file.tell() == self.twin.tell()


FileMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFile = FileMachine.TestCase
