"""A version as facts, the same in every `--json`.

Layer: cli.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepstone.cli.formatting import moment, size
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.repository.version import Version


def version_facts(version: Version) -> dict[str, Any]:
    """Return what `--json` prints for `version`; the size is in bytes, the time RFC 3339 in UTC.

    A snapshot has `items` as well, how many they are; its size is that of their list.
    """
    items = {"items": version.manifest.detail.get("count", 0)} if version.is_snapshot else {}
    return {
        "name": version.name,
        "number": version.number,
        "selector": version.selector,
        "digest": version.digest,
        "created": moment(version.created),
        "size_bytes": version.size_bytes,
        "type": version.type_name,
        "metadata": dict(version.metadata),
        "parents": list(version.parents),
        **items,
    }


def amount(facts: dict[str, Any]) -> str:
    """Return how much a version is, for people: its size, of a snapshot the number of its items."""
    return plural(facts["items"], "item") if "items" in facts else size(facts["size_bytes"])


def aliases_of(aliases: dict[str, int], number: int) -> list[str]:
    """Return those of a name's aliases that stand for version `number`."""
    return [alias for alias, meant in aliases.items() if meant == number]


def short_digest(digest: str) -> str:
    """Return enough of a digest to select by, `b3:` and 12 hex digits."""
    return digest[: len("b3:") + 12]
