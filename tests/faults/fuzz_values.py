"""Names and values to fuzz: manifests, recipes, refs, the store's identity, what was saved."""

from __future__ import annotations

from tests.faults.fuzz_target import Target, restructured_input

from keepstone.blobs.recipe import Piece, decode_recipe, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import Form
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.plain import decode_value
from keepstone.repository.identity import create_identity, read_identity
from keepstone.repository.refs import AliasRef, NameRef, read_alias_ref, read_name_ref, text_of
from keepstone.storage.memory import MemoryStorage


def _manifest() -> bytes:
    parts = (Part("a.txt", bytes(32), 5, 0), Part("sub/b", bytes(range(32)), 7, 1))
    return encode_manifest(
        Manifest(
            serializer="folder",
            serializer_version=1,
            type_name="folder",
            parts=parts,
            metadata={"accuracy": 0.5, "list": [1, {"x": None}]},
            parents=(str(Digest(bytes(32))),),
            packages={"numpy": "2.0"},
            detail={"kind": "x"},
        )
    )


def _read_identity(data: bytes) -> object:
    storage = MemoryStorage()
    storage.write_new("store.json", data)
    return read_identity(storage).id_bytes


def _identity() -> bytes:
    storage = MemoryStorage()
    create_identity(storage, locks="local")
    return storage.read("store.json")


def _read_ref(data: bytes) -> object:
    try:
        text_of(read_name_ref(data, "model").digest)
    except KeepstoneError:
        return read_alias_ref(data, "model@prod")
    return None


def _read_values(data: bytes) -> object:
    found = 0
    for form in (Form.BYTES, Form.TEXT, Form.JSON, Form.MANIFEST):
        for kind in (None, list[int]):
            try:
                decode_value(form, data, kind)
                found += 1
            except KeepstoneError:
                continue
    return found


def targets() -> list[Target]:
    """Return the decoders of names and values."""
    refs = [NameRef("artifact", 2, 2, bytes(32)).encoded(), AliasRef(1, bytes(32)).encoded()]
    recipe = encode_recipe([Piece(Digest(bytes(32)), 1_000), Piece(Digest(bytes(range(32))), 7)])
    json_text = b'{"a": [1, 2.5, "text", null, {"b": true}], "n": 123456789012345678901234567890}'
    return [
        Target("manifest", [_manifest()], decode_manifest),
        Target("manifest, restructured", [_manifest()], decode_manifest, restructured_input),
        Target("recipe", [recipe], lambda data: decode_recipe(data, where="recipe")),
        Target("identity", [_identity()], _read_identity),
        Target("refs", refs, _read_ref),
        Target("refs, restructured", refs, _read_ref, restructured_input),
        Target("values", [json_text, b"text", b"[[[[1]]]]" * 40], _read_values),
    ]
