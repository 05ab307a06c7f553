"""Which values belong to numpy or torch, asked without importing either; and importing one when it is needed.

Layer: objects.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from keepstone.objects.libraries import import_library

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
                # A copy: another thread may add to it meanwhile.
                items: list[Any] = list(found.values() if kind in MAPPINGS else found)
                pending.extend(item for item in items if type(item) not in _PLAIN)
        elif family_of(kind) in _LARGE:
            return True
    return False


def import_numpy() -> Any:
    """Return numpy; errors as of `import_library`."""
    return import_library("numpy", "arrays and tensors are built with it")


def import_torch() -> Any:
    """Return torch; errors as of `import_library`."""
    instead = "or load it with type=dict (type=numpy.ndarray for one tensor) as numpy arrays"
    return import_library("torch", "torch tensors are built with it", instead=instead)


def import_ml_dtypes(dtype: str) -> Any:
    """Return ml_dtypes, which gives numpy the types of numbers that only machine learning uses.

    Errors as of `import_library`.
    """
    return import_library("ml_dtypes", f"numpy arrays of {dtype} are built with it")
