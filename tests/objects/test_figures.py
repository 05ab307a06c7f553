"""Figures and images: equal pictures are equal bytes, and load as something that can be shown."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.saving import damaged, load, save

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.figures import Picture
from keepstone.objects.standard import standard_registry


@pytest.fixture(scope="module")
def images() -> Any:
    pytest.importorskip("PIL")
    import PIL.Image

    return PIL.Image


# ---- matplotlib --------------------------------------------------------------------------------


def drawing(points: list[float]) -> Any:
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure(figsize=(2, 1))
    figure.subplots().plot(points, label="ü")
    return figure


def test_equal_figures_are_one_artifact_of_two_pictures() -> None:
    registry = standard_registry()
    first = save(registry, drawing([1, 2]))

    assert first[0].serializer == "figure"
    assert [part.path for part in first[0].parts] == ["figure.png", "figure.svg"]
    assert save(registry, drawing([1, 2])) == first
    assert save(registry, drawing([1, 3]))[0] != first[0]


def test_a_figure_loads_as_a_picture_that_notebooks_show() -> None:
    registry = standard_registry()
    saved = save(registry, drawing([1, 2]))
    loaded = load(registry, saved)

    assert type(loaded) is Picture
    assert loaded._repr_png_().startswith(b"\x89PNG")
    assert "<svg" in (loaded._repr_svg_() or "")
    assert load(registry, saved, bytes) == loaded.png
    assert load(registry, saved, str) == loaded.svg
    assert load(registry, saved, Picture) == loaded
    assert "characters" in repr(loaded)
    with pytest.raises(SerializerError, match="is a picture, no dict"):
        load(registry, saved, dict)


def test_a_figure_that_cannot_be_drawn_is_refused() -> None:
    figure = drawing([1])
    figure.axes[0].set_title("$\\nosuch{$")

    with pytest.raises(SerializerError, match="matplotlib cannot draw this figure"):
        save(standard_registry(), figure)


# ---- Pillow ------------------------------------------------------------------------------------

BYTES_A_PIXEL = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "I;16": 2}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_images_load_pixel_for_pixel(images: Any, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(sorted(BYTES_A_PIXEL)))
    size = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    needed = -(-size[0] // 8) * size[1] if mode == "1" else size[0] * size[1] * BYTES_A_PIXEL[mode]
    image = images.frombytes(mode, size, data.draw(st.binary(min_size=needed, max_size=needed)))
    if mode == "P":
        image.putpalette(data.draw(st.binary(min_size=768, max_size=768)))
    registry = standard_registry()
    saved = save(registry, image)
    loaded = load(registry, saved)

    assert (loaded.mode, loaded.size, loaded.tobytes()) == (image.mode, image.size, image.tobytes())
    assert loaded.getpalette("RGBA") == image.getpalette("RGBA")
    assert save(registry, loaded)[0].parts == saved[0].parts


def test_an_image_loads_as_png_or_picture_too(images: Any) -> None:
    registry = standard_registry()
    saved = save(registry, images.new("RGB", (2, 2), "red"))

    data = load(registry, saved, bytes)
    assert images.open(io.BytesIO(data)).getpixel((0, 0)) == (255, 0, 0)
    assert load(registry, saved, Picture) == Picture(data)
    assert load(registry, saved, images.Image).size == (2, 2)
    assert load(registry, saved, Picture)._repr_svg_() is None


@pytest.mark.parametrize("mode", ["CMYK", "F", "YCbCr", "HSV", "LAB"])
def test_images_that_png_cannot_hold_are_refused(images: Any, mode: str) -> None:
    with pytest.raises(SerializerError, match=f"PNG has no images of mode '{mode}'") as caught:
        save(standard_registry(), images.new(mode, (1, 1)))
    assert "convert" in caught.value.hint


def test_an_image_of_many_frames_is_refused(images: Any) -> None:
    file = io.BytesIO()
    images.new("L", (2, 2)).save(file, "GIF", save_all=True, append_images=[images.new("L", (2, 2), 9)])
    file.seek(0)

    with pytest.raises(SerializerError, match="it has 2 frames, and PNG keeps one"):
        save(standard_registry(), images.open(file))


@pytest.mark.parametrize("keep", [0, 20, 500])
def test_a_damaged_image_is_malformed(images: Any, keep: int) -> None:
    registry = standard_registry()
    saved = save(registry, images.effect_noise((40, 40), 90))

    with pytest.raises(MalformedError, match="a stored image cannot be read"):
        load(registry, damaged(saved, lambda data: data[:keep]))


def test_a_machine_without_pillow_says_so(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = standard_registry()
    saved = save(registry, images.new("L", (1, 1)))
    monkeypatch.setitem(sys.modules, "PIL", None)  # pyright: ignore[reportArgumentType]

    with pytest.raises(SerializerError, match="pillow is not installed") as caught:
        load(registry, saved)
    assert "pip install pillow" in caught.value.hint
    assert load(registry, saved, bytes).startswith(b"\x89PNG")


# ---- plotly ------------------------------------------------------------------------------------


@pytest.mark.skipif(not importlib.util.find_spec("plotly"), reason="plotly is not installed")
def test_a_plotly_figure_loads_as_one_or_as_its_json() -> None:
    import plotly.graph_objects as graphs

    registry = standard_registry()
    figure = graphs.Figure(graphs.Scatter(x=[1, 2], y=[3, 4]))
    saved = save(registry, figure)

    assert save(registry, graphs.Figure(figure)) == saved
    assert load(registry, saved) == figure
    assert load(registry, saved, graphs.Figure) == figure
    assert load(registry, saved, dict)["data"][0]["x"] == [1, 2]
    assert load(registry, saved, bytes).startswith(b"{")
    with pytest.raises(SerializerError, match="is a figure of plotly, no list"):
        load(registry, saved, list)
    with pytest.raises(MalformedError):
        load(registry, damaged(saved, lambda data: data[:-1]))


@pytest.mark.skipif(not importlib.util.find_spec("plotly"), reason="plotly is not installed")
@pytest.mark.parametrize("content", [b'{"data":[{"type":"no such"}]}', b'{"data":5}', b"5"])
def test_a_plotly_figure_that_the_installed_plotly_cannot_build_loads_as_a_dict(content: bytes) -> None:
    import plotly.graph_objects as graphs

    registry = standard_registry()
    saved = damaged(save(registry, graphs.Figure()), lambda _: content)

    with pytest.raises(SerializerError, match="cannot be built by the installed plotly") as caught:
        load(registry, saved)
    assert "type=dict" in caught.value.hint
    assert load(registry, saved, dict) == json.loads(content)
