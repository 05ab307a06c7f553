"""Cutting: where each kind of content is cut, and that headers that lie cost nothing but good cuts."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.blobs.cut_inputs import INPUTS, KIB, MIB, TENSORS, noise, npy, safetensors, zip_of

from keepstone.blobs import fastcdc
from keepstone.blobs.cutting import cut
from keepstone.blobs.fastcdc import FixedChopper, new_chopper
from keepstone.blobs.incoming import Incoming
from keepstone.blobs.tensor_cuts import HEADER_BYTES_MAX
from keepstone.foundation.format import CHUNK_BYTES

FROZEN = {
    "noise": (
        131366,
        76814,
        131561,
        82064,
        161293,
        208962,
        189852,
        218100,
        109190,
        166544,
        193429,
        180710,
        119114,
        115645,
        155224,
        80772,
        53825,
        150696,
        142944,
        142142,
        152164,
        183317,
    ),
    "zeros": (524288, 524288, 524288, 524288),
    "rows": (
        173731,
        165060,
        524288,
        170896,
        265338,
        182372,
        186743,
        180761,
        226147,
        146769,
        181905,
        169605,
        10275,
    ),
    "safetensors": (328, 1048576, 1048576, 512000, 3072, 1048576, 102400),
    "npy": (128, 1048576, 1048576),
    "npz": (191, 1048576, 1048576, 512000, 3445, 1048576, 186, 102400, 64),
    "torch": (128, 1048576, 1048576, 512000, 3200, 1048576, 64, 102400, 80),
}
LARGE = {name: data for name, data in TENSORS.items() if len(data) >= 64 * KIB}
BEGINS = {
    "safetensors": INPUTS["safetensors"][:400],
    "npy": INPUTS["npy"][:200],
    "npz": INPUTS["npz"][:300],
    "torch": INPUTS["torch"][:400],
}


def pieces_of(content: bytes, step: int = 4 * MIB) -> list[bytes]:
    return list(cut(Incoming(content[at : at + step] for at in range(0, len(content), step))))


def as_unknown(content: bytes) -> list[bytes]:
    chopper = new_chopper()
    return [*chopper.feed(content), *chopper.finish()]


def tensor_pieces(data: bytes) -> list[bytes]:
    return [data[at : at + MIB] for at in range(0, len(data), MIB)]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("step", [4 * MIB, 65_537])
def test_cuts_are_frozen(name: str, step: int) -> None:
    pieces = pieces_of(INPUTS[name], step)

    assert tuple(map(len, pieces)) == FROZEN[name]
    assert b"".join(pieces) == INPUTS[name]


@pytest.mark.parametrize("kind", ["safetensors", "npz", "torch"])
def test_tensors_are_pieces_of_their_own_whatever_file_they_stand_in(kind: str) -> None:
    pieces = set(pieces_of(INPUTS[kind]))

    for data in LARGE.values():
        assert pieces.issuperset(tensor_pieces(data))


@pytest.mark.parametrize("size_follows", [True, False])
@pytest.mark.parametrize("long", [True, False])
def test_a_tensor_that_grew_or_was_renamed_moves_no_other(size_follows: bool, long: bool) -> None:
    members = {f"m/data/{name}": data for name, data in TENSORS.items()}
    changed = {"m/data/new": noise("new", 77_777), **members}
    changed["m/data/renamed"] = changed.pop("m/data/layer")
    before = set(pieces_of(zip_of(members, size_follows=size_follows, long=long)))
    after = pieces_of(zip_of(changed, size_follows=size_follows, long=long))

    fresh = [piece for piece in after if piece not in before]
    assert sum(map(len, fresh)) < 77_777 + 10 * KIB


def test_small_tensors_are_cut_together() -> None:
    tensors = {f"small{n}": noise(f"small{n}", 10 * KIB) for n in range(300)}
    content = safetensors(tensors, {"format": "pt"})
    pieces = pieces_of(content)

    assert b"".join(pieces) == content
    assert len(pieces) < 50


def test_an_array_of_objects_is_cut_by_its_bytes() -> None:
    content = npy(noise("pickled", MIB), descr="|O")

    assert pieces_of(content) == as_unknown(content)


def test_other_zip_files_are_cut_by_their_bytes() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("word/document.xml", noise("document", MIB))

    assert pieces_of(file.getvalue()) == as_unknown(file.getvalue())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("seekable", [True, False])
def test_zip_files_of_the_standard_library_are_understood(compression: int, seekable: bool) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    def packed(*names: str) -> bytes:
        file = io.BytesIO() if seekable else Pipe()
        with zipfile.ZipFile(file, "w", compression) as made:  # type: ignore[arg-type]
            for name in names:
                made.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(noise(name, 300 * KIB)), compression)
        return file.getvalue() if isinstance(file, io.BytesIO) else bytes(file.data)

    before = set(pieces_of(packed("a", "b", "c")))
    after = pieces_of(packed("d", "b", "c"))

    assert b"".join(after) == packed("d", "b", "c")
    assert sum(len(piece) for piece in after if piece not in before) < 302 * KIB


def lying_safetensors() -> dict[str, bytes]:
    def made(text: str, tail: bytes = b"x" * 100_000) -> bytes:
        return struct.pack("<Q", len(text.encode())) + text.encode() + tail

    offsets = '{"a": {"data_offsets": [%s]}}'
    return {
        "no JSON": made("{" * 500),
        "deep": made('{"a":' * 100_000),
        "no offsets": made('{"a": {"dtype": "F32"}}'),
        "text for offsets": made('{"a": {"data_offsets": "0"}}'),
        "below zero": made(offsets % "-5, 70000"),
        "backwards": made(offsets % "70000, 5"),
        "beyond the end": made(offsets % f"0, {2**63}"),
        "huge numbers": made(offsets % f"{10**50}, {10**60}"),
        "overlapping": made('{"a": {"data_offsets": [0, 70000]}, "b": {"data_offsets": [1, 70001]}}'),
        "too long a header": struct.pack("<Q", HEADER_BYTES_MAX) + b"{" + bytes(200_000),
        "endless header": struct.pack("<Q", 2**64 - 1) + b"{" + bytes(200_000),
        "cut header": struct.pack("<Q", 5000) + b'{"a"',
        "no UTF-8": struct.pack("<Q", 12) + b'{"\xff\xff": {}}  ' + bytes(1000),
    }


@pytest.mark.parametrize("lie", lying_safetensors())
def test_a_safetensors_header_that_lies_loses_nothing(lie: str) -> None:
    content = lying_safetensors()[lie]

    assert b"".join(pieces_of(content)) == content


@pytest.mark.parametrize("kind", ["safetensors", "npy", "npz", "torch"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 11, 29, 40, 70, 150, 500, 70_000, 2 * MIB])
def test_a_file_that_is_cut_off_loses_nothing(kind: str, size: int) -> None:
    content = INPUTS[kind][:size]
    pieces = pieces_of(content)

    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)


@given(data=st.data(), kind=st.sampled_from(sorted(BEGINS)))
def test_any_damage_to_a_header_loses_nothing(data: st.DataObject, kind: str) -> None:
    content = bytearray(BEGINS[kind] + INPUTS[kind][len(BEGINS[kind]) : 200_000])
    for at in data.draw(st.lists(st.integers(0, len(BEGINS[kind]) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    step = data.draw(st.integers(1_000, 300_000))
    pieces = pieces_of(bytes(content), step)

    assert b"".join(pieces) == content
    assert pieces == pieces_of(bytes(content))
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)


@pytest.mark.parametrize("kind", INPUTS)
def test_without_pyfastcdc_what_is_not_known_is_cut_in_fixed_pieces(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    fastcdc._compiled.cache_clear()
    monkeypatch.setattr(fastcdc, "CHUNK_BYTES", 100_000)
    try:
        assert isinstance(new_chopper(), FixedChopper)
        pieces = pieces_of(INPUTS[kind])
    finally:
        fastcdc._compiled.cache_clear()

    assert b"".join(pieces) == INPUTS[kind]
    if kind == "noise":
        assert {len(piece) for piece in pieces[:-1]} == {100_000}


def test_what_comes_next_is_seen_and_stays() -> None:
    incoming = Incoming([b"", b"ab", b"c", b"", b"defg"])

    assert incoming.peek(4) == b"abcd"
    assert incoming.take(2) == b"ab"
    assert incoming.find(b"e", 0, 3) == 2
    assert incoming.find(b"e", 0, 2) == -1
    assert incoming.take_some(2) == b"cd"
    assert incoming.look(1, 2) == b"fg"
    assert incoming.take_some(100) == b"efg"
    assert incoming.fill(1) == 0
    assert incoming.take_some(1) == incoming.peek(1) == b""


def changed_files(kind: str, tmp_path: Path) -> list[bytes]:
    """Return two files that the libraries themselves wrote; all but one tensor are equal."""
    numpy = pytest.importorskip("numpy")
    files: list[bytes] = []
    for step in (1, 2):
        names = {"frozen": 400_000, "head": 60_000 + step * 5, "other": 300_000}
        seeds = {"head": f"head {step}"}
        arrays = {
            name: numpy.frombuffer(noise(seeds.get(name, name), 4 * count), dtype=numpy.float32)
            for name, count in names.items()
        }
        path = tmp_path / f"{kind}-{step}"
        with path.open("wb") as file:
            if kind == "npz":
                numpy.savez(file, **arrays)
            elif kind == "safetensors":
                file.write(pytest.importorskip("safetensors.numpy").save(arrays, {"step": str(step)}))
            else:
                torch = pytest.importorskip("torch")
                torch.save({name: torch.tensor(array) for name, array in arrays.items()}, file)
        files.append(path.read_bytes())
    return files


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch"])
def test_equal_tensors_are_equal_pieces_in_files_that_the_libraries_wrote(kind: str, tmp_path: Path) -> None:
    before, after = changed_files(kind, tmp_path)
    known = set(pieces_of(before))

    assert b"".join(pieces_of(after)) == after
    assert known.issuperset(tensor_pieces(noise("frozen", 1_600_000)))
    assert sum(len(piece) for piece in pieces_of(after) if piece not in known) < 4 * 60_010 + 8 * KIB
