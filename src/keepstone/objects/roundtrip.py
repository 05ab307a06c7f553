"""The round trip rule: what is loaded equals what was saved, or saving is refused.

Layer: objects. JSON silently turns nan into null, integer keys into text, sets into lists and enums into
numbers; this module finds such values before anything is stored. Accepted changes, all documented: a
tuple loads as a list; OrderedDict, defaultdict and Counter load as dicts; in typed fields a time zone
loads as its offset. Anything else that would change is an error.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, Final, NamedTuple, cast

import msgspec

from keepstone.foundation.errors import KeepstoneError, SerializerError
from keepstone.foundation.format import VALUE_DEPTH_MAX
from keepstone.objects.models import decode_json, encode_json, fields_of, shown_type

_SCALARS: Final = frozenset({str, int, bool, type(None)})
_TEXT: Final = frozenset({str})
_FLOAT: Final = frozenset({float})
_DICTS: Final = frozenset({dict, defaultdict, Counter, OrderedDict})
_WORD: Final = re.compile(r"[^\W\d]\w*")
_ABSENT: Final = object()
_kind_of: Callable[[Any], type[Any]] = type
"""`type` of one argument, with the one signature that a type checker can follow."""


class Problem(NamedTuple):
    """Why a value cannot be saved: what stands at `path`, and what the user can do."""

    path: str
    what: str
    hint: str

    def error(self) -> SerializerError:
        return SerializerError(f"cannot save value: {self.what} at {self.path}", hint=self.hint)


# ---- the fast question ---------------------------------------------------------------------------


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether JSON keeps `value`: text-keyed dicts, lists, tuples, text, ints, finite floats, bools, None.

    Subclasses of these do not count. Lone surrogates are not looked for; the encoder refuses them.
    """
    kind = _kind_of(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        items: Iterable[Any] = value.values()
    elif kind is list or kind is tuple:
        items = value
        if _FLOAT.issuperset(map(type, items)):
            return all(map(math.isfinite, items)) and depth < VALUE_DEPTH_MAX
    else:
        return kind in _SCALARS or (kind is float and math.isfinite(value))
    if depth >= VALUE_DEPTH_MAX:
        return False
    if _SCALARS.issuperset(map(type, items)):
        return True
    for item in items:
        kind = _kind_of(item)
        if kind in _SCALARS:
            continue
        if kind is float:
            if not math.isfinite(item):
                return False
        elif not is_plain(item, depth + 1):
            return False
    return True


# ---- the careful way -----------------------------------------------------------------------------


def encode_checked(value: object) -> bytes:
    """Return `value` as JSON after checking each part of it that is not plain.

    Instances of classes with fields are encoded, built again as their own class, and compared.

    Raises:
        SerializerError: it would load as something else; names the first such place.
    """
    if fields_of(type(value)) is not None:
        return _encode_model(value, "$")
    return encode_json(_simplified(value, "$", []))


def _simplified(value: Any, path: str, above: list[object]) -> Any:
    kind = _kind_of(value)
    if kind in _SCALARS or kind is float:
        _refuse(_leaf_problem(value, path))
        return value
    if fields_of(kind) is not None:
        return msgspec.Raw(_encode_model(value, path))
    if kind not in _DICTS and kind is not list and kind is not tuple:
        raise unsupported(value, path).error()
    _refuse(nesting_problem(value, path, above))
    above.append(value)
    if kind in _DICTS:
        simple: Any = {}
        for key, item in steady_items(value):
            _refuse(_key_problem(key, path))
            simple[key] = _simplified(item, path + path_step(key), above)
    else:
        simple = [_simplified(item, f"{path}[{index}]", above) for index, item in enumerate(value)]
    above.pop()
    return simple


def steady_items(value: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the items of a dict, which nobody may change meanwhile: another thread, or a method of what lies in it.

    Raises:
        SerializerError: something was added or taken away.
    """
    try:
        yield from value.items()
    except RecursionError:
        raise
    except RuntimeError as error:
        raise SerializerError(
            f"cannot save value: it changed while it was being saved ({error})",
            hint="let no other thread change it meanwhile, or save a copy",
        ) from error


def _refuse(problem: Problem | None) -> None:
    if problem is not None:
        raise problem.error()


def _encode_model(value: object, path: str) -> bytes:
    kind = _kind_of(value)
    try:
        data = encode_json(value)
        built = decode_json(data, kind)
        where = first_difference(value, built)
    except Exception as error:
        # Whatever went wrong, the value that caused it says more than the encoder does.
        _refuse(_model_problem(value, path, []))
        detail = error.message if isinstance(error, KeepstoneError) else str(error)
        raise SerializerError(
            f"cannot save value: {shown_type(kind)} at {path} could not be built again: {detail}",
            hint="change the field's type or its value, or save a dict of what should be kept",
        ) from error
    if where is not None:
        _refuse(_model_problem(value, path, []))
        raise SerializerError(
            f"cannot save value: {shown_type(kind)} would load with another value at {path}{where}",
            hint="annotate that field with the type of what it holds, or leave it out of what is saved",
        )
    return data


def first_difference(value: Any, built: Any, depth: int = 0) -> str | None:
    """Return the path (like `.scores[3]`) of the first difference between `value` and `built`; None if none.

    Paths are put together on the way back only, so that equal values cost no text.
    """
    if depth > VALUE_DEPTH_MAX:
        return ""
    kind = _kind_of(value)
    if kind in _SCALARS or kind is float:
        return None if _same_scalar(value, built) else ""
    names = fields_of(kind)
    if names is not None:
        return _field_difference(value, built, names, depth)
    if kind is list or kind is tuple:
        if type(built) not in (list, tuple) or len(built) != len(value):
            return ""
        for index, mine in enumerate(value):
            below = first_difference(mine, built[index], depth + 1)
            if below is not None:
                return f"[{index}]{below}"
        return None
    if kind in _DICTS:
        # Key order is part of what users see.
        if type(built) not in _DICTS or list(built) != list(value) or not _same_kinds(value, built):
            return ""
        for key, mine in value.items():
            below = first_difference(mine, built[key], depth + 1)
            if below is not None:
                return path_step(key) + below
        return None
    same = (
        type(built) is kind
        and value == built
        and (not isinstance(value, Set) or _same_members(cast("Set[Any]", value), built))
    )
    return None if same is True else ""


def _same_scalar(value: Any, built: Any) -> bool:
    if type(built) is not type(value):
        # A whole number in a field of floats.
        return type(value) is int and type(built) is float and built == value
    return value == built or (value != value and built != built)


def _same_kinds(value: Iterable[object], built: Iterable[object]) -> bool:
    return list(map(type, value)) == list(map(type, built))


def _same_members(value: Iterable[Any], built: Iterable[Any]) -> bool:
    kinds: dict[Any, type[Any]] = {member: type(member) for member in built}
    return all(kinds.get(member) is type(member) for member in value)


def _field_difference(value: Any, built: Any, names: tuple[str, ...], depth: int) -> str | None:
    kind = _kind_of(value)
    if type(built) is not kind:
        if type(built) not in (dict, list):
            return ""
        # In a field annotated Any an instance loads as a dict, as it does without type=.
        built = decode_json(encode_json(built), kind)
    for name in names:
        mine, other = getattr(value, name, _ABSENT), getattr(built, name, _ABSENT)
        if type(mine) in _SCALARS and type(mine) is type(other) and mine == other:
            continue
        if mine is _ABSENT and other is _ABSENT:
            continue
        below = first_difference(mine, other, depth + 1)
        if below is not None:
            return path_step(name) + below
    extra = getattr(value, "__pydantic_extra__", None)
    if extra:
        return first_difference(extra, getattr(built, "__pydantic_extra__", None), depth)
    return None


# ---- naming the culprit --------------------------------------------------------------------------


def _model_problem(value: Any, path: str, above: list[object]) -> Problem | None:
    """Return the first thing in `value` (an instance, or what its fields hold) that JSON cannot keep."""
    kind = _kind_of(value)
    names = fields_of(kind)
    children: Iterable[tuple[str, Any]]
    if names is not None:
        pairs = ((name, getattr(value, name, _ABSENT)) for name in names)
        children = ((path_step(name), item) for name, item in pairs if item is not _ABSENT)
    elif isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        children = ((path_step(key), item) for key, item in steady_items(entries))
    elif isinstance(value, (list, tuple)):
        children = ((f"[{index}]", item) for index, item in enumerate(cast("list[object]", value)))
    else:
        return _leaf_problem(value, path)
    container = cast(object, value)
    problem = nesting_problem(container, path, above)
    if problem:
        return problem
    above.append(container)
    for step, item in children:
        problem = _model_problem(item, path + step, above)
        if problem:
            return problem
    above.pop()
    return None


def _leaf_problem(value: Any, path: str) -> Problem | None:
    if isinstance(value, float) and not math.isfinite(value):
        return Problem(path, repr(value), "JSON has no such number; use None, or text such as 'nan'")
    try:
        encode_json(value)
    except UnicodeEncodeError:
        return Problem(path, f"text with a lone surrogate, {_cut(ascii(value))},", "decode the text properly")
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return unsupported(value, path)
    return None


def _key_problem(key: Any, path: str) -> Problem | None:
    if type(key) is str:
        try:
            key.encode()
        except UnicodeEncodeError:
            return Problem(
                path, f"key {_cut(ascii(key))}, with a lone surrogate,", "decode the text properly"
            )
        return None
    return Problem(
        path,
        f"key {_cut(ascii_repr(key))} of type {shown_type(_kind_of(key))}",
        "JSON keys are text: use str(key), or a list of pairs",
    )


def nesting_problem(value: object, path: str, above: list[object]) -> Problem | None:
    """Return the problem of a container that lies in itself, or too deep; `above` are those around it."""
    if any(value is other for other in above):
        return Problem(_cut(path), "a value that contains itself", "break the cycle before saving")
    if len(above) >= VALUE_DEPTH_MAX:
        return Problem(
            _cut(path), f"a value nested more than {VALUE_DEPTH_MAX} deep", "flatten it before saving"
        )
    return None


def too_deep() -> SerializerError:
    """Return the error for a value that is walked through where too few nested calls are left."""
    return SerializerError(
        "cannot save value: it is nested too deeply to be saved from here",
        hint="save it from a place with fewer nested calls, or raise sys.setrecursionlimit",
    )


def unsupported(value: object, path: str) -> Problem:
    """Return the problem of a value of a kind that is not kept."""
    return Problem(path, f"{_cut(ascii_repr(value))} of type {shown_type(_kind_of(value))}", hint_for(value))


_HINTS: Final = {
    "set": "save a sorted list of it",
    "frozenset": "save a sorted list of it",
    "bytes": "save bytes as an artifact of their own, or as base64 text",
    "bytearray": "save bytes as an artifact of their own, or as base64 text",
    "memoryview": "save bytes as an artifact of their own, or as base64 text",
    "datetime": "use .isoformat(), or a dataclass with a field of that type",
    "date": "use .isoformat(), or a dataclass with a field of that type",
    "time": "use .isoformat(), or a dataclass with a field of that type",
    "UUID": "use str(...), or a dataclass with a field of that type",
    "Decimal": "use str(...), or a dataclass with a field of that type",
    "complex": "save its real and imaginary parts",
    "generator": "save list(...) of it",
    "deque": "save list(...) of it",
}


def hint_for(value: object) -> str:
    """Return what to do with a `value` that JSON cannot keep."""
    kind = _kind_of(value)
    if kind.__name__ in _HINTS:
        return _HINTS[kind.__name__]
    if hasattr(kind, "__members__"):
        return "use .value, or a dataclass with a field of that type"
    if hasattr(kind, "__fspath__"):
        return "save the file as an artifact of its own, or use str(path)"
    if callable(getattr(kind, "state_dict", None)):
        return "save its .state_dict(), and load that into a new one"
    if hasattr(value, "tolist") and kind.__module__.partition(".")[0] in ("numpy", "torch", "jax"):
        return "use .item() of a single number or .tolist() of an array, or save the array as an artifact"
    if hasattr(value, "_asdict"):
        return "use ._asdict(), or a dataclass"
    for plain in (dict, list, tuple, str, int, float, bytes):
        if isinstance(value, plain):
            return f"use {plain.__name__}(value)"
    return "use a dataclass, register a serializer, or convert it to dicts, lists, text and numbers"


def ascii_repr(value: object) -> str:
    """Return a repr of `value` in ASCII; its type where its repr fails."""
    try:
        return ascii(value)
    except Exception:
        return f"<{shown_type(type(value))}>"


def path_step(key: object) -> str:
    """Return how a message names the item of a dict under `key`."""
    return f".{key}" if isinstance(key, str) and _WORD.fullmatch(key) else f"[{_cut(ascii_repr(key))}]"


def _cut(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[:length] + "…"
