"""Pickles: written only when asked for by name, read only with `allow_pickle=True`.

Layer: objects. Never matches a value; the registry guards the reading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from keepstone.foundation.errors import SerializerError
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.models import is_instance, shown_type, type_name
from keepstone.objects.serializer import PICKLE_ID, Dumped, PartSource, Source

PROTOCOL: Final = 5
"""Fixed, so that a newer Python does not give equal values other digests."""


class PickleSerializer:
    """Anything that pickle takes; not canonical, so equal values may differ in digest."""

    id = PICKLE_ID
    version = 1

    def matches(self, value: object) -> bool:
        return False

    def dump(self, value: object) -> Dumped:
        import pickle

        try:
            data = pickle.dumps(value, protocol=PROTOCOL)
        except Exception as error:
            raise SerializerError(
                f"cannot save value: pickle refuses {shown_type(type(value))}: {error}",
                hint="leave out open files, locks, lambdas and local classes",
            ) from error
        kind = type(value)
        detail = {"protocol": PROTOCOL}
        return Dumped((PartSource("", Source.of_bytes(data)),), type_name(kind), _package_of(kind), detail)

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        import pickle

        data = read(manifest.parts[0])
        try:
            value = pickle.loads(data)
        except Exception as error:
            needs = " ".join(f"{name}=={version}" for name, version in sorted(manifest.packages.items()))
            raise SerializerError(
                f"a pickle of {manifest.type_name} cannot be loaded: {error}",
                hint=f"install {needs}" if needs else "make the module that defines its class importable",
            ) from error
        if type is not None and not is_instance(value, type):
            raise SerializerError(
                f"the stored value is a {manifest.type_name}, no {shown_type(type)}",
                hint="load it without type=",
            )
        return value


def _package_of(kind: type) -> dict[str, str]:
    root = kind.__module__.partition(".")[0]
    if root == "__main__" or root in sys.stdlib_module_names:
        return {}
    from importlib import metadata

    try:
        return {root: metadata.version(root)}
    except metadata.PackageNotFoundError:
        return {}
