"""The containers around tensors as JSON, and the names of the tensors' parts.

Layer: objects. Format: docs/format.md §15. Text, numbers, booleans and None stand for themselves; everything else is
an array that begins with what it is. So keys keep their types, and tuples, nan and bytes load as they were.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast

from blake3 import blake3

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.foundation.format import PART_PATH_BYTES_MAX, VALUE_DEPTH_MAX
from keepstone.objects.families import MAPPINGS, SEQUENCES, family_of
from keepstone.objects.models import shown_type
from keepstone.objects.roundtrip import (
    Problem,
    ascii_repr,
    nesting_problem,
    path_step,
    steady_items,
    too_deep,
    unsupported,
)

Keys = tuple[object, ...]
"""Where something lies: the keys of dicts and the places in lists that lead to it."""

_kind_of: Callable[[Any], type[Any]] = type
_ITSELF: Final = frozenset({str, int, bool, type(None)})
_KEY_KINDS: Final = frozenset({str, int, bool, type(None), float, bytes, tuple})
_FOLDER: Final = "tensors/"
STRUCTURE_PATH: Final = "structure.json"
_QUOTED: Final = re.compile(r"[%/\\\x00-\x1f\x7f]")
_NUMBER: Final = re.compile(r"-?[0-9]+")
_SEGMENT_BYTES_MAX: Final = 200
"""Leaves room in the 255 bytes that file systems allow, for checking out."""


# ---- to JSON -------------------------------------------------------------------------------------


def encode_tree(value: object, take: Callable[[object, Keys, str], int]) -> Any:
    """Return `value` with its containers as JSON; `take` is given each tensor, its keys and how a message names them.

    Raises:
        SerializerError: something in it would not load as it is; names the place.
    """
    try:
        return _Encoder(take).node(value, (), "$")
    except RecursionError as error:
        raise too_deep() from error


class _Encoder:
    def __init__(self, take: Callable[[object, Keys, str], int]) -> None:
        self._take = take
        self._above: list[object] = []

    def node(self, value: Any, keys: Keys, path: str) -> Any:
        kind = _kind_of(value)
        if kind in _ITSELF:
            if kind is str:
                _check_text(value, path)
            return value
        if kind is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        if family_of(kind) is not None:
            return ["tensor", self._take(value, keys, path)]
        if kind is bytes:
            return ["bytes", base64.b64encode(value).decode()]
        if kind is complex:
            return ["complex", repr(value.real), repr(value.imag)]
        if kind not in MAPPINGS and kind not in SEQUENCES:
            raise unsupported(value, path).error()
        problem = nesting_problem(value, path, self._above)
        if problem:
            raise problem.error()
        self._above.append(value)
        node = self._mapping(value, keys, path) if kind in MAPPINGS else self._sequence(value, keys, path)
        self._above.pop()
        return node

    def _mapping(self, value: Any, keys: Keys, path: str) -> list[Any]:
        node: list[Any] = ["dict"]
        if _kind_of(value) is OrderedDict:
            held = cast("dict[str, Any]", vars(value)).copy()
            metadata = held.pop("_metadata", None)
            if held:
                problem = f"an OrderedDict with an attribute {sorted(held)[0]!a} of its own"
                raise Problem(path, problem, "save it as an item").error()
            node = ["ordered", self.node(metadata, (*keys, ("_metadata",)), f"{path}._metadata")]
        for key, item in steady_items(value):
            _check_key(key, path)
            node.append(self.node(key, (), f"{path}{path_step(key)}"))
            node.append(self.node(item, (*keys, key), f"{path}{path_step(key)}"))
        return node

    def _sequence(self, value: Any, keys: Keys, path: str) -> list[Any]:
        node: list[Any] = ["list" if _kind_of(value) is list else "tuple"]
        node.extend(self.node(item, (*keys, index), f"{path}[{index}]") for index, item in enumerate(value))
        return node


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Problem(
            path, f"text with a lone surrogate, {text[:40]!a},", "decode the text properly"
        ).error() from None


def _check_key(key: Any, path: str) -> None:
    kind = _kind_of(key)
    if kind not in _KEY_KINDS or key != key:
        raise Problem(
            path,
            f"key {ascii_repr(key)[:80]} of type {shown_type(kind)}",
            "use text, numbers, or tuples of them as keys",
        ).error()
    for item in cast("tuple[Any, ...]", key) if kind is tuple else ():
        _check_key(item, path)


# ---- from JSON -----------------------------------------------------------------------------------


def build_tree(node: Any, give: Callable[[int], Any], depth: int = 0) -> Any:
    """Return the value that `encode_tree` made `node` of; `give` returns a tensor by its number.

    Raises:
        MalformedError: it is none.
    """
    if type(node) in _ITSELF or type(node) is float:
        return node
    if _kind_of(node) is not list or not node or depth > VALUE_DEPTH_MAX + 1:
        raise _senseless(node)
    tag, rest = node[0], node[1:]
    try:
        if tag in ("list", "tuple"):
            items = [build_tree(item, give, depth + 1) for item in rest]
            return items if tag == "list" else tuple(items)
        if tag == "dict":
            return dict(_pairs(rest, give, depth))
        if tag == "ordered":
            ordered = OrderedDict(_pairs(rest[1:], give, depth))
            metadata = build_tree(rest[0], give, depth + 1)
            if metadata is not None:
                cast(Any, ordered)._metadata = metadata
            return ordered
        if tag == "tensor":
            return give(rest[0])
        if tag == "float":
            return float(rest[0])
        if tag == "bytes":
            return base64.b64decode(rest[0], validate=True)
        if tag == "complex":
            return complex(float(rest[0]), float(rest[1]))
    except (IndexError, TypeError, ValueError, binascii.Error) as error:
        if isinstance(error, SerializerError):
            raise
        raise _senseless(node) from error
    raise _senseless(node)


def tree_items(node: Any) -> dict[Any, Any] | None:
    """Return the keys of a dict, and of each the node; None where `node` is that of something else.

    Raises:
        MalformedError: it is none at all.
    """
    if _kind_of(node) is not list or not node or node[0] not in ("dict", "ordered"):
        return None
    rest = iter(node[1:] if node[0] == "dict" else node[2:])

    def none(_: int) -> Any:
        raise _senseless(node)

    try:
        return {build_tree(key, none): item for key, item in zip(rest, rest, strict=True)}
    except (TypeError, ValueError) as error:
        raise _senseless(node) from error


def _pairs(rest: list[Any], give: Callable[[int], Any], depth: int) -> list[tuple[Any, Any]]:
    nodes = iter(rest)
    return [
        (build_tree(key, give, depth + 1), build_tree(item, give, depth + 1))
        for key, item in zip(nodes, nodes, strict=True)
    ]


def _senseless(node: object) -> MalformedError:
    return MalformedError(f"{ascii_repr(node)[:80]} is no part of a structure", where=STRUCTURE_PATH)


# ---- names of parts ------------------------------------------------------------------------------


def part_path(keys: Keys) -> str:
    """Return where the tensor at `keys` is stored: the keys as folders, different for different keys.

    Numbers stand as they are, and text that looks like one has its first character quoted (`%31`).
    """
    if not keys:
        return "tensor"
    path = _FOLDER + "/".join(map(_segment, keys))
    return (
        path
        if len(path.encode()) <= PART_PATH_BYTES_MAX
        else _FOLDER + "%~" + blake3(path.encode()).hexdigest()
    )


def _segment(key: object) -> str:
    text = str(key) if type(key) is int else key if isinstance(key, str) else "=" + ascii_repr(key)
    text = _QUOTED.sub(lambda found: f"%{ord(found[0]):02X}", text)
    if not text:
        return "%"
    if isinstance(key, str) and (text[0] == "=" or text in (".", "..") or _NUMBER.fullmatch(text)):
        text = f"%{ord(text[0]):02X}{text[1:]}"
    if len(text.encode()) > _SEGMENT_BYTES_MAX:
        text = f"{text[:40]}%~{blake3(text.encode()).hexdigest()[:32]}"
    return text
