"""A kept dict of arrays or tensors as a mapping: each tensor is read when it is asked for.

Layer: objects. Dicts inside are mappings of the same kind; lists and tuples are read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from keepstone.foundation.errors import KeyNotFoundError, SerializerError
from keepstone.foundation.names import plural
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.serializer import Reader, ReadParts
from keepstone.objects.tensor_records import TensorBuilder, read_structure
from keepstone.objects.tensor_tree import build_tree, tree_items

_STEP_BYTES: Final = 1024 * 1024
_NewBuilder = Callable[[], TensorBuilder]


class TensorItems(Mapping[Any, Any]):
    """One dict of them. What was read is kept by nobody: two lookups of a key read, and build, it twice."""

    def __init__(self, title: str, nodes: dict[Any, Any], new_builder: _NewBuilder) -> None:
        self._title = title
        self._nodes = nodes
        self._new_builder = new_builder

    def __repr__(self) -> str:
        return f"<{self._title}: {plural(len(self), 'item')}>"

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._nodes)

    def __contains__(self, key: object) -> bool:
        return key in self._nodes

    def __getitem__(self, key: Any) -> Any:
        try:
            node = self._nodes[key]
        except KeyError:
            raise KeyNotFoundError(
                f"{self._title} has no item {key!r}",
                collection=self._title,
                key=str(key),
                hint=f"it has {plural(len(self), 'item')}: list(items) names them",
            ) from None
        nodes = tree_items(node)
        if nodes is None:
            return build_tree(node, self._new_builder().give)
        return TensorItems(f"{self._title}[{key!r}]", nodes, self._new_builder)


def open_items(manifest: Manifest, read: ReadParts) -> TensorItems:
    """Return the items of the dict that `manifest` describes; its structure is read now.

    Raises:
        SerializerError: it is a single tensor, or a list or tuple.
    """
    parts = {part.path: part for part in manifest.parts}
    structure = read_structure(parts, read)
    nodes = tree_items(structure.tree)
    if nodes is None:
        raise SerializerError(
            f"{read.title} is a {manifest.type_name}, and has no items that have names",
            hint="load it whole",
        )

    def chunks(part: Part) -> Iterator[bytes]:
        with read.open(part) as file:
            while data := file.read(_STEP_BYTES):
                yield data

    return TensorItems(
        read.title, nodes, lambda: TensorBuilder(structure, parts, Reader(chunks), as_arrays=False)
    )
