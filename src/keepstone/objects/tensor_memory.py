"""How tensors lie in memory: where each begins and ends, which share it, and how their bytes are read.

Layer: objects. Memory is known by its addresses, so arrays and tensors share it where these overlap, whatever
object made them. Offsets and strides are bytes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from keepstone.objects.arrays import check_array
from keepstone.objects.dtypes import TORCH_DTYPES, dtype_text, is_extension
from keepstone.objects.families import Family, family_of
from keepstone.objects.memory import array_pieces
from keepstone.objects.models import shown_type, type_name
from keepstone.objects.roundtrip import Problem
from keepstone.objects.serializer import Make

_kind_of: Callable[[Any], type[Any]] = type
_TENSORS: Final = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})


class Held(NamedTuple):
    """One array or tensor in memory."""

    value: Any
    """A numpy array, or a torch tensor without its gradient."""
    kind: str
    """`array`, `scalar`, `tensor` or `parameter`."""
    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    place: str
    """The device; addresses of different ones have nothing to do with each other."""
    address: int
    """Of the first element."""
    low: int
    high: int
    """All elements lie in [low, high)."""
    size: int
    """Bytes of the elements."""
    requires_grad: bool
    packages: frozenset[str]

    @property
    def is_torch(self) -> bool:
        return self.kind in ("tensor", "parameter")


def hold(value: Any, path: str) -> Held:
    """Return how an array, scalar or tensor lies in memory; `path` is how a message names it.

    Raises:
        SerializerError: it would not load as it is.
    """
    family = family_of(_kind_of(value))
    return (
        _hold_tensor(value, path) if family is Family.TENSOR else _hold_array(value, family is Family.SCALAR)
    )


def _hold_array(value: Any, is_scalar: bool) -> Held:
    check_array(value)
    numpy: Any = sys.modules["numpy"]
    array = numpy.asarray(value)
    address = int(array.__array_interface__["data"][0])
    packages = {"numpy", "ml_dtypes"} if is_extension(array.dtype) else {"numpy"}
    low, high = _bounds(address, array.shape, array.strides, array.dtype.itemsize)
    return Held(
        value=array,
        kind="scalar" if is_scalar else "array",
        dtype=dtype_text(numpy, array.dtype),
        itemsize=array.dtype.itemsize,
        shape=array.shape,
        strides=array.strides,
        place="numpy",
        address=address,
        low=low,
        high=high,
        size=array.nbytes,
        requires_grad=False,
        packages=frozenset(packages),
    )


def _hold_tensor(value: Any, path: str) -> Held:
    torch: Any = sys.modules["torch"]
    kind = type_name(_kind_of(value))
    problem = _tensor_problem(torch, value, kind)
    if problem:
        raise Problem(path, *problem).error()
    tensor = value.detach().resolve_conj().resolve_neg()
    itemsize = tensor.element_size()
    shape = tuple(map(int, tensor.shape))
    strides = tuple(int(step) * itemsize for step in tensor.stride())
    address = tensor.data_ptr()
    low, high = _bounds(address, shape, strides, itemsize)
    return Held(
        value=tensor,
        kind="tensor" if kind == "torch.Tensor" else "parameter",
        dtype=str(tensor.dtype).removeprefix("torch."),
        itemsize=itemsize,
        shape=shape,
        strides=strides,
        place=f"torch {tensor.device}",
        address=address,
        low=low,
        high=high,
        size=tensor.numel() * itemsize,
        requires_grad=bool(value.requires_grad),
        packages=frozenset({"torch"}),
    )


def _tensor_problem(torch: Any, value: Any, kind: str) -> tuple[str, str] | None:
    if kind not in _TENSORS:
        hint = "save a plain tensor: value.full_tensor(), or value.as_subclass(torch.Tensor)"
        return f"a {shown_type(_kind_of(value))}, which is more than its elements,", hint
    if value.is_quantized:
        return "a quantized tensor", "save value.int_repr(), and its scale and zero point beside it"
    if value.is_nested:
        return "a nested tensor", "save list(value.unbind())"
    if value.layout != torch.strided:
        return f"a sparse tensor ({value.layout})", "save its indices and values, or value.to_dense()"
    if value.is_meta:
        return "a tensor on the meta device, which has no content,", "save the one that has been filled"
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in TORCH_DTYPES:
        return f"a tensor of dtype {dtype}", "convert it with value.to(...)"
    return None


def _bounds(address: int, shape: Iterable[int], strides: Iterable[int], itemsize: int) -> tuple[int, int]:
    low, high = address, address + itemsize
    for count, step in zip(shape, strides, strict=True):
        if not count:
            return address, address
        low += min(0, (count - 1) * step)
        high += max(0, (count - 1) * step)
    return low, high


# ---- sharing -------------------------------------------------------------------------------------


class Block(NamedTuple):
    """What one part holds: one tensor's elements in C order, or the memory that several share, as it is."""

    members: list[int]
    """Numbers of the tensors."""
    low: int
    """Address of the first byte; for one tensor without meaning."""
    size: int
    """Bytes."""
    make: Make

    @property
    def is_shared(self) -> bool:
        return len(self.members) > 1


def blocks_of(tensors: list[Held]) -> list[Block]:
    """Return the parts that hold all of `tensors`.

    Those whose memory overlaps share a part, unless that would be larger than all of them by themselves.
    """
    filled = [number for number, held in enumerate(tensors) if held.size]
    blocks = [_own_block(tensors, number) for number, held in enumerate(tensors) if not held.size]
    groups: list[list[int]] = []
    place, end = "", 0
    for number in sorted(filled, key=lambda number: (tensors[number].place, tensors[number].low)):
        held = tensors[number]
        if groups and held.place == place and held.low < end:
            groups[-1].append(number)
            end = max(end, held.high)
        else:
            groups.append([number])
            place, end = held.place, held.high
    for group in groups:
        shared = _shared_block(tensors, group) if len(group) > 1 else None
        blocks.extend([shared] if shared else (_own_block(tensors, number) for number in group))
    return sorted(blocks, key=lambda block: block.members[0])


def _own_block(tensors: list[Held], number: int) -> Block:
    held = tensors[number]

    def make() -> Iterator[bytes | memoryview]:
        numpy: Any = sys.modules["numpy"]
        if held.is_torch:
            tensor = held.value.contiguous()
            return array_pieces(numpy, _bytes_of_tensor(tensor, tensor.data_ptr(), held.size))
        return array_pieces(numpy, held.value)

    return Block([number], held.low, held.size, make)


def _shared_block(tensors: list[Held], group: list[int]) -> Block | None:
    members = [tensors[number] for number in group]
    low, high = min(held.low for held in members), max(held.high for held in members)
    # A tensor begins at a multiple of its element's size; of all of them, where the sizes differ.
    low -= low % max(held.itemsize for held in members) if members[0].is_torch else 0
    if high - low > sum(held.size for held in members):
        return None

    def make() -> Iterator[bytes | memoryview]:
        numpy: Any = sys.modules["numpy"]
        if members[0].is_torch:
            return array_pieces(numpy, _bytes_of_tensor(members[0].value, low, high - low))
        memory = (ctypes.c_ubyte * (high - low)).from_address(low)
        return array_pieces(numpy, numpy.frombuffer(memory, numpy.uint8))

    return Block(sorted(group), low, high - low, make)


def _bytes_of_tensor(tensor: Any, address: int, size: int) -> Any:
    """Return `size` bytes from `address` on, of the memory that `tensor` is in, as a numpy array."""
    torch: Any = sys.modules["torch"]
    storage = tensor.untyped_storage()
    raw = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    raw.set_(storage, address - storage.data_ptr() if size else 0, (size,), (1,))
    return raw.cpu().numpy()
