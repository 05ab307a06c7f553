"""What a repository does with a serializer, without a repository: parts by digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.serializer import Reader, Registry
from keepstone.objects.standard import standard_registry


class Saved(NamedTuple):
    """A manifest and its blobs."""

    manifest: Manifest
    blobs: dict[bytes, bytes]

    def content(self, path: str) -> bytes:
        return next(self.blobs[part.digest] for part in self.manifest.parts if part.path == path)

    def replaced(self, path: str, content: bytes, **changes: Any) -> Saved:
        """The same with another content of one part."""
        digest = Digest.of(content)
        parts = tuple(
            Part(part.path, digest, len(content)) if part.path == path else part
            for part in self.manifest.parts
        )
        return Saved(
            msgspec.structs.replace(self.manifest, parts=parts, **changes), {**self.blobs, digest: content}
        )


def save(
    value: object, serializer_id: str | None = None, *, registry: Registry | None = None, size: int = 1000
) -> Saved:
    serializer, dumped = (registry or standard_registry()).dump(value, serializer_id)
    blobs: dict[bytes, bytes] = {}
    parts: list[Part] = []
    for path, source, mode in dumped.parts:
        pieces = list(source.chunks(size))
        assert all(0 < len(piece) <= size for piece in pieces)
        content = b"".join(pieces)
        assert source.size == len(content)
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


def load(saved: Saved, type: Any = None, *, piece: int = 700) -> Any:  # noqa: A002
    def stream(part: Part) -> Iterator[bytes]:
        content = saved.blobs[part.digest]
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    reader: Callable[[Part], bytes] = Reader(stream)
    return standard_registry().load(saved.manifest, reader, type)
