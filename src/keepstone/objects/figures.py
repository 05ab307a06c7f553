"""Figures and images: matplotlib as SVG and PNG, plotly as its JSON, Pillow as PNG; equal pictures are equal bytes.

Layer: objects. A figure of matplotlib loads as a `Picture`, which notebooks show; nothing draws it again. A picture of
Pillow loads as one, without the notes of the file that it came from (EXIF, comments).
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.libraries import import_library, root_of, versions_of
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.models import decode_json, shown_type, type_name
from keepstone.objects.serializer import Dumped, PartSource, Source

_PNG: Final = "figure.png"
_SVG: Final = "figure.svg"
_PLOTLY: Final = "figure.plotly.json"
_IMAGE: Final = "image.png"
_SALT: Final = "keepstone"
"""matplotlib makes the ids in an SVG of it; by default of a random number."""


class Picture(msgspec.Struct, frozen=True):
    """What a figure looked like when it was saved."""

    png: bytes
    svg: str = ""

    def _repr_png_(self) -> bytes:
        return self.png

    def _repr_svg_(self) -> str | None:
        return self.svg or None

    def __repr__(self) -> str:
        return f"Picture(png={len(self.png):,} bytes, svg={len(self.svg):,} characters)"


class FigureSerializer:
    """Figures of matplotlib and plotly, images of Pillow."""

    id = "figure"
    version = 1

    def matches(self, value: object) -> bool:
        return _family(type(value)) != ""

    def dump(self, value: object) -> Dumped:
        kind = type(value)
        family = _family(kind)
        if family == "matplotlib":
            parts, packages = _draw(value), dict[str, str]()
        elif family == "plotly":
            parts, packages = {_PLOTLY: _json_of(value)}, versions_of("plotly")
        elif family == "PIL":
            parts, packages = {_IMAGE: _encode_image(value)}, versions_of("PIL")
        else:
            raise SerializerError(
                f"cannot save value: serializer {self.id!r} does not save a {shown_type(kind)}",
                hint="leave out serializer=",
            )
        sources = tuple(PartSource(path, Source.of_bytes(data)) for path, data in parts.items())
        return Dumped(sources, type_name(kind), packages, {"holds": family})

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        parts = {part.path: part for part in manifest.parts}
        if _PLOTLY in parts:
            return _load_plotly(read(parts[_PLOTLY]), type)
        name = _IMAGE if _IMAGE in parts else _PNG
        if name not in parts:
            raise MalformedError("a stored figure has no PNG", where="figure")
        if type is bytes:
            return read(parts[name])
        if type is str and _SVG in parts:
            return _text(read(parts[_SVG]))
        if type is Picture or (type is None and name == _PNG):
            return Picture(read(parts[name]), _text(read(parts[_SVG])) if _SVG in parts else "")
        if type is None or root_of(type) == "PIL":
            return _decode_image(read(parts[name]))
        raise SerializerError(
            f"the stored value is a picture, no {shown_type(type)}",
            hint="load it without type=, or with type=bytes as PNG",
        )


def _family(kind: type) -> str:
    """Return whose figure or image a value of this class is; empty where it is none."""
    for base in kind.__mro__:
        root = root_of(base)
        if (root, base.__name__) in (("matplotlib", "Figure"), ("plotly", "BaseFigure"), ("PIL", "Image")):
            return root
    return ""


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"a stored SVG cannot be read: {error}", where="figure") from error


# ---- matplotlib ----------------------------------------------------------------------------------


def _draw(figure: Any) -> dict[str, bytes]:
    matplotlib: Any = sys.modules["matplotlib"]
    drawn: dict[str, bytes] = {}
    # Neither the time nor the version of the library: equal figures are equal bytes.
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    try:
        with matplotlib.rc_context({"svg.hashsalt": _SALT}):
            for path, form in ((_PNG, "png"), (_SVG, "svg")):
                file = io.BytesIO()
                figure.savefig(file, format=form, metadata=metadata[form])
                drawn[path] = file.getvalue()
    except Exception as error:
        raise SerializerError(
            f"cannot save value: matplotlib cannot draw this figure: {error}",
            hint="figure.savefig(...) must work before it can be saved",
        ) from error
    return drawn


# ---- plotly --------------------------------------------------------------------------------------


def _json_of(figure: Any) -> bytes:
    try:
        # Equal figures differ in the order of keys, which means nothing in them.
        return msgspec.json.encode(msgspec.json.decode(figure.to_json()), order="sorted")
    except Exception as error:
        raise SerializerError(
            f"cannot save value: plotly cannot write this figure as JSON: {error}",
            hint="figure.to_json() must work before it can be saved",
        ) from error


def _load_plotly(data: bytes, kind: Any) -> Any:
    if kind is bytes:
        return data
    if kind is str:
        return _text(data)
    plain = decode_json(data)
    if kind is dict:
        return plain
    if kind is not None and root_of(kind) != "plotly":
        raise SerializerError(
            f"the stored value is a figure of plotly, no {shown_type(kind)}",
            hint="load it without type=, or with type=dict",
        )
    import_library("plotly", "this is a figure of plotly", instead="or load it with type=dict")
    try:
        return importlib.import_module("plotly.io").from_json(_text(data))
    except ValueError as error:
        # Followed by all properties that plotly knows.
        first = next(iter(str(error).strip().splitlines()), "")
        raise SerializerError(
            f"this figure cannot be built by the installed plotly: {first}",
            hint="pip install -U plotly, or load it with type=dict",
        ) from error


# ---- Pillow --------------------------------------------------------------------------------------


def _encode_image(image: Any) -> bytes:
    reader: Any = sys.modules["PIL.Image"]
    file = io.BytesIO()
    reason = f"PNG has no images of mode {image.mode!r}"
    try:
        if getattr(image, "n_frames", 1) > 1:
            reason = f"it has {image.n_frames:,} frames, and PNG keeps one"
            raise ValueError(reason)
        image.save(file, format="PNG")
        file.seek(0)
        with reader.open(file) as built:
            same = (built.mode, built.size) == (image.mode, image.size) and built.tobytes() == image.tobytes()
            if not same or built.getpalette("RGBA") != image.getpalette("RGBA"):
                raise ValueError(reason)
    except Exception as error:
        raise SerializerError(
            f"cannot save value: this image would not load as it is: {reason}",
            hint="convert it, as with image.convert('RGBA'); or save its file, or numpy.asarray(image)",
        ) from error
    return file.getvalue()


def _decode_image(data: bytes) -> Any:
    import_library("PIL", "this is an image", instead="or load it with type=bytes, as PNG")
    reader: Any = importlib.import_module("PIL.Image")
    try:
        image = reader.open(io.BytesIO(data), formats=["PNG"])
        image.load()
    except Exception as error:
        raise MalformedError(f"a stored image cannot be read: {error}", where="figure") from error
    return image
