"""What a repository does with a value, without a repository: parts to blobs, a manifest, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.registry import Registry
from keepstone.objects.serializer import Reader


class Saved(NamedTuple):
    """A manifest and its blobs."""

    manifest: Manifest
    blobs: dict[bytes, bytes]

    def content(self, path: str) -> bytes:
        """Return the content of one part."""
        return next(self.blobs[part.digest] for part in self.manifest.parts if part.path == path)

    def replaced(self, path: str, content: bytes, **changes: Any) -> Saved:
        """Return the same with another content of one part."""
        digest = Digest.of(content)
        parts = tuple(
            Part(part.path, digest, len(content)) if part.path == path else part
            for part in self.manifest.parts
        )
        return Saved(
            msgspec.structs.replace(self.manifest, parts=parts, **changes), {**self.blobs, digest: content}
        )


def save(
    registry: Registry,
    value: object,
    id: str | None = None,  # noqa: A002
    *,
    size: int = 1000,
    is_size_known: bool = False,
) -> Saved:
    """Take `value` apart, in pieces of at most `size` bytes, and store the parts in a dict."""
    serializer, dumped = registry.dump(value, id)
    blobs: dict[bytes, bytes] = {}
    parts: list[Part] = []
    for path, source, mode in dumped.parts:
        pieces = list(source.chunks(size))
        assert all(0 < len(piece) <= size for piece in pieces)
        content = b"".join(pieces)
        assert source.size == len(content) or not is_size_known
        blobs[Digest.of(content)] = content
        parts.append(Part(path, Digest.of(content), len(content), mode))
    manifest = Manifest(
        serializer=serializer.id,
        serializer_version=serializer.version,
        type_name=dumped.type_name,
        parts=tuple(parts),
        packages=dumped.packages,
        detail=dumped.detail,
    )
    return Saved(decode_manifest(encode_manifest(manifest)), blobs)


def load(registry: Registry, saved: Saved, type: Any = None, *, piece: int = 700, **how: Any) -> Any:  # noqa: A002
    """Build the value again, from pieces of at most `piece` bytes."""

    def stream(part: Part) -> Iterator[bytes]:
        content = saved.blobs[part.digest]
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    return registry.load(saved.manifest, Reader(stream), type, **how)


def damaged(saved: Saved, change: Any) -> Saved:
    """Return what was saved with the bytes of every part changed by `change`."""
    return Saved(saved.manifest, {digest: change(content) for digest, content in saved.blobs.items()})
