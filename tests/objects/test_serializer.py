"""Sources, the registry, and the built-in serializers."""

from __future__ import annotations

import fractions
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.objects.saving import load, save

from keepstone.foundation.errors import (
    InvalidInputError,
    SerializerError,
    StorageError,
    UnsupportedFormatError,
)
from keepstone.objects.manifest import Manifest, Part, PartMode
from keepstone.objects.serializer import Dumped, PartSource, Source
from keepstone.objects.standard import standard_registry


class FractionSerializer:
    id = "fraction"
    version = 2

    def matches(self, value: object) -> bool:
        return isinstance(value, fractions.Fraction)

    def dump(self, value: object) -> Dumped:
        return Dumped(
            (PartSource("", Source.of_bytes(str(value).encode())),), "Fraction", {"fractions": "1"}, {}
        )

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        return fractions.Fraction(read(manifest.parts[0]).decode())


# ---- sources -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 20])
def test_sources_give_pieces_of_the_size_asked_for_and_can_be_read_again(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)

    for source in (Source.of_bytes(content), Source.of_file(tmp_path / "f")):
        pieces = list(source.chunks(7))
        assert b"".join(pieces) == content == b"".join(source.chunks(3))
        assert all(len(piece) == 7 for piece in pieces[:-1])
        assert source.size == size
        assert all(pieces)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    path.write_bytes(b"y" * 20)
    os.utime(path, ns=(1, 1))


def shrink(path: Path) -> None:
    os.truncate(path, 3)


def replace(path: Path) -> None:
    facts = path.stat()
    (path.parent / "other").write_bytes(b"z" * 20)
    os.utime(path.parent / "other", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.replace(path.parent / "other", path)


def into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [grow, rewrite, shrink, replace, into_pipe])
def test_a_file_that_changed_since_it_was_looked_at_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 20)
    source = Source.of_file(path)
    change(path)

    with pytest.raises(SerializerError, match=r"file '.*/f' changed while it was being saved"):
        list(source.chunks(7))


@pytest.mark.parametrize("change", [grow, rewrite, shrink])
def test_a_file_that_changes_between_two_pieces_is_never_handed_out_whole(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 20)
    pieces = Source.of_file(path).chunks(7)
    received = next(pieces)
    change(path)

    rest: list[bytes] = []
    with pytest.raises(SerializerError, match="changed while"):
        rest.extend(pieces)
    assert len(received + b"".join(rest)) < 20


def test_an_empty_file_that_grows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    source = Source.of_file(path)
    grow(path)

    with pytest.raises(SerializerError, match="changed while"):
        list(source.chunks(7))


def test_a_file_that_is_gone_or_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    source = Source.of_file(path)
    assert source.path == path
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"no file or folder at '.*/f'"):
        list(source.chunks(7))

    path.symlink_to("elsewhere")
    with pytest.raises(StorageError) as caught:
        list(source.chunks(7))
    assert caught.value.path == str(path)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_maker_is_asked_anew_each_time_and_its_pieces_are_cut_to_size(size: int) -> None:
    calls: list[int] = []

    def make() -> list[bytes]:
        calls.append(1)
        return [b"0123456789", b"", b"ab"]

    source = Source.of_maker(make, 12)

    assert source.size == 12
    assert source.path is None
    assert not calls
    for count in (1, 2):
        pieces = list(source.chunks(size))
        assert b"".join(pieces) == b"0123456789ab"
        assert all(0 < len(piece) <= size for piece in pieces)
        assert len(calls) == count


# ---- registry ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "id", "loaded"),
    [
        (b"\x00", "bytes", b"\x00"),
        (bytearray(b"a"), "bytes", b"a"),
        ("text", "text", "text"),
        ({"a": (1, 2)}, "json", {"a": [1, 2]}),
        (None, "json", None),
        (1.5, "json", 1.5),
    ],
)
def test_plain_values_find_their_serializer_and_come_back(value: object, id: str, loaded: object) -> None:  # noqa: A002
    registry = standard_registry()
    saved = save(registry, value)

    assert saved[0].serializer == id
    assert load(registry, saved) == loaded


def test_equal_content_is_one_artifact_whatever_container_it_came_in() -> None:
    registry = standard_registry()

    assert save(registry, (1, 2))[0] == save(registry, [1, 2])[0]
    assert save(registry, bytearray(b"a"))[0] == save(registry, b"a")[0]


def test_a_file_loads_as_its_bytes_and_keeps_its_name(tmp_path: Path) -> None:
    registry = standard_registry()
    (tmp_path / "run.sh").write_bytes(b"echo\n")
    (tmp_path / "run.sh").chmod(0o700)
    saved = save(registry, tmp_path / "run.sh")

    assert [(p.path, p.mode) for p in saved[0].parts] == [("run.sh", PartMode.EXECUTABLE)]
    assert load(registry, saved) == b"echo\n"
    assert load(registry, saved, str) == "echo\n"
    with pytest.raises(SerializerError, match="is bytes, no dict"):
        load(registry, saved, dict)


def test_a_folder_is_no_single_value_but_can_be_had_as_a_dict(tmp_path: Path) -> None:
    registry = standard_registry()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"1")
    (tmp_path / "d/l").symlink_to("f")
    (tmp_path / "d/e").mkdir()
    saved = save(registry, tmp_path / "d")

    assert load(registry, saved, dict) == {"f": b"1"}
    with pytest.raises(SerializerError, match="no single value") as caught:
        load(registry, saved)
    assert "checkout" in caught.value.hint


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no file or folder at"):
        save(standard_registry(), tmp_path / "absent")


def test_a_value_that_nothing_saves_is_refused_with_a_way_on() -> None:
    with pytest.raises(SerializerError, match="nothing here saves a set") as caught:
        standard_registry().find({1})
    assert "sorted list" in caught.value.hint
    assert 'serializer="pickle"' in caught.value.hint


def test_asking_for_the_wrong_serializer_is_refused() -> None:
    with pytest.raises(SerializerError, match="serializer 'text' does not save a dict"):
        save(standard_registry(), {}, "text")


def test_registered_serializers_come_first_and_are_needed_again_at_load() -> None:
    registry = standard_registry()
    registry.register(FractionSerializer())
    saved = save(registry, fractions.Fraction(1, 3))

    assert load(registry, saved) == fractions.Fraction(1, 3)
    with pytest.raises(
        SerializerError, match="no serializer 'fraction' is registered or installed"
    ) as caught:
        load(standard_registry(), saved)
    assert "register()" in caught.value.hint
    assert "fractions==1" in caught.value.hint


def test_what_a_newer_serializer_wrote_is_unsupported() -> None:
    with pytest.raises(UnsupportedFormatError, match="version 2 of serializer 'json'"):
        standard_registry().by_id("json", version=2)


def test_the_name_pickle_cannot_be_taken() -> None:
    class Impostor(FractionSerializer):
        id = "pickle"

    with pytest.raises(InvalidInputError):
        standard_registry().register(Impostor())


def install(folder: Path, entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[keepstone.serializers]\n" + entries)
    module = Path(__file__).read_text().partition("# ---- sources")[0]
    (folder / "keepstone_test_plugin.py").write_text(module)
    monkeypatch.syspath_prepend(str(folder))


def test_installed_serializers_are_found_only_when_nothing_else_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    install(
        tmp_path,
        "fraction = keepstone_test_plugin:FractionSerializer\nbroken = keepstone_no_such_module:X\n"
        "other = keepstone_test_plugin:FractionSerializer\n",
        monkeypatch,
    )
    registry = standard_registry()
    save(registry, {"a": 1})
    assert "keepstone_test_plugin" not in sys.modules

    assert load(registry, save(registry, fractions.Fraction(1, 3))) == fractions.Fraction(1, 3)
    with pytest.raises(SerializerError, match="entry point 'broken' failed") as caught:
        registry.find({1})
    assert "entry point 'other' gives serializer 'fraction'" in str(caught.value)


# ---- pickle ------------------------------------------------------------------------------------


class Bomb:
    armed = True

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "armed", False))


def test_pickle_is_written_only_when_asked_for_and_read_only_when_allowed() -> None:
    registry = standard_registry()
    saved = save(registry, {1, 2}, "pickle")

    assert load(registry, saved, allow_pickle=True) == {1, 2}
    assert load(registry, saved, set, allow_pickle=True) == {1, 2}
    for kind in (list, list[int], 5):
        with pytest.raises(SerializerError, match="is a set, no "):
            load(registry, saved, kind, allow_pickle=True)


def test_a_refused_pickle_runs_nothing() -> None:
    registry = standard_registry()
    saved = save(registry, Bomb(), "pickle")

    with pytest.raises(SerializerError, match="can run any code") as caught:
        load(registry, saved)
    assert "allow_pickle=True" in caught.value.hint
    assert Bomb.armed


def test_what_pickle_cannot_take_or_give_back_is_a_clear_error() -> None:
    registry = standard_registry()
    with pytest.raises(SerializerError, match="pickle refuses function"):
        save(registry, lambda: 1, "pickle")

    manifest, _ = save(registry, {1}, "pickle")
    with pytest.raises(SerializerError, match="a pickle of set cannot be loaded"):
        registry.load(manifest, lambda part: b"\x80\x05cno_such_module\nX\n.", allow_pickle=True)
