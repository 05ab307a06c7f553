"""What a repository does with a value: parts to blobs, a manifest, and back."""

from __future__ import annotations

from typing import Any

from keepstone.foundation.digest import Digest
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.serializer import Registry

Saved = tuple[Manifest, dict[bytes, bytes]]


def save(registry: Registry, value: object, id: str | None = None) -> Saved:  # noqa: A002
    """Take `value` apart, and store the parts in a dict."""
    serializer = registry.find(value, id)
    dumped = serializer.dump(value)
    blobs: dict[bytes, bytes] = {}
    parts: list[Part] = []
    for path, source, mode in dumped.parts:
        content = b"".join(source.chunks(1000))
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
    return decode_manifest(encode_manifest(manifest)), blobs


def load(registry: Registry, saved: Saved, type: Any = None, **how: Any) -> Any:  # noqa: A002
    """Build the value again."""
    manifest, blobs = saved
    return registry.load(manifest, lambda part: blobs[part.digest], type, **how)


def damaged(saved: Saved, change: Any) -> Saved:
    """Return what was saved with the bytes of every part changed by `change`."""
    manifest, blobs = saved
    return manifest, {digest: change(content) for digest, content in blobs.items()}
