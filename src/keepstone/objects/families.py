"""Which values belong to numpy or torch, asked without importing either; and importing one when it is needed.

Layer: objects. A framework is imported only to build values of it again, and only one of a fixed list: no name
that a store holds is ever imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

from keepstone.foundation.errors import SerializerError

MAPPINGS: Final = frozenset({dict, OrderedDict, defaultdict, Counter})
SEQUENCES: Final = frozenset({list, tuple})
_kind_of: Callable[[Any], type[Any]] = type
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


class Family(Enum):
    """What a class is to these serializers."""

    ARRAY = "array"
    """numpy's arrays, with subclasses."""
    SCALAR = "scalar"
    """numpy's numbers, texts and dates: `np.float32(3)`."""
    TENSOR = "tensor"
    """torch's tensors, with subclasses."""


_FAMILIES: Final = {
    ("numpy", "ndarray"): Family.ARRAY,
    ("numpy", "generic"): Family.SCALAR,
    ("torch", "Tensor"): Family.TENSOR,
}
_LARGE: Final = frozenset({Family.ARRAY, Family.TENSOR})


@functools.lru_cache(maxsize=512)
def family_of(kind: type) -> Family | None:
    """Return the family of a class; None for all others."""
    for base in kind.__mro__:
        found = _FAMILIES.get((base.__module__, base.__qualname__))
        if found is not None:
            return found
    return None


def holds_tensors(value: object) -> bool:
    """Whether an array or a tensor is `value`, or lies in the dicts, lists and tuples that it is made of.

    Numpy's scalars do not count: a number in a dict that is JSON otherwise is meant to be one. Each container is looked
    at once, so cycles end.
    """
    if "numpy" not in sys.modules and "torch" not in sys.modules:
        return False
    seen: set[int] = set()
    pending: list[Any] = [value]
    while pending:
        found = pending.pop()
        kind = _kind_of(found)
        if kind in MAPPINGS or kind in SEQUENCES:
            if id(found) not in seen:
                seen.add(id(found))
                items: Iterable[Any] = found.values() if kind in MAPPINGS else found
                pending.extend(item for item in items if type(item) not in _PLAIN)
        elif family_of(kind) in _LARGE:
            return True
    return False


def import_numpy() -> Any:
    """Return numpy.

    Raises:
        SerializerError: it is not installed.
    """
    return _import("numpy", "arrays and tensors", hint="pip install numpy")


def import_torch() -> Any:
    """Return torch.

    Raises:
        SerializerError: it is not installed.
    """
    hint = "pip install torch, or load it with type=dict (type=numpy.ndarray for one tensor) as numpy arrays"
    return _import("torch", "torch tensors", hint=hint)


def import_ml_dtypes(dtype: str) -> Any:
    """Return ml_dtypes, which gives numpy the types of numbers that only machine learning uses.

    Raises:
        SerializerError: it is not installed.
    """
    return _import("ml_dtypes", f"numpy arrays of {dtype}", hint="pip install ml_dtypes")


def _import(name: str, what: str, *, hint: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SerializerError(f"{what} need {name}, which cannot be imported: {error}", hint=hint) from error


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return distribution → version of frameworks that are imported already."""
    return {name: str(sys.modules[name].__version__) for name in sorted(names)}
