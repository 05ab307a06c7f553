"""Arguments of a wrong type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.errors.store_to_harm import Place

import keepstone

WRONG_TYPES: Final[dict[str, Callable[[Place], object]]] = {
    "`load(3)`": lambda p: p.open().load(3),  # type: ignore[arg-type]
    "`resolve(3)`": lambda p: p.open().resolve(3),  # type: ignore[arg-type]
    "`exists(3)`": lambda p: p.open().exists(3),  # type: ignore[arg-type]
    "`remove(3)`": lambda p: p.open().remove(3),  # type: ignore[arg-type]
    "`versions(3)`": lambda p: p.open().versions(3),  # type: ignore[arg-type]
    "`aliases(3)`": lambda p: p.open().aliases(3),  # type: ignore[arg-type]
    "`kind(3)`": lambda p: p.open().kind(3),  # type: ignore[arg-type]
    '`alias("a", 3)`': lambda p: p.open().alias("a", 3),  # type: ignore[arg-type]
    '`unalias(3, "x")`': lambda p: p.open().unalias(3, "x"),  # type: ignore[arg-type]
    "`collection(3)`": lambda p: p.open().collection(3),  # type: ignore[arg-type]
    '`collection("c", durability="fast")`': lambda p: p.open().collection("c", durability="fast"),  # type: ignore[arg-type]
    "`version.open(3)`": lambda p: p.open().resolve("a").open(3),  # type: ignore[arg-type]
    "`version.checkout(3)`": lambda p: p.open().resolve("a").checkout(3),  # type: ignore[arg-type]
    "`missing([3])`": lambda p: list(p.collection.missing([3])),  # type: ignore[list-item]
    '`save(..., parents="a")`': lambda p: p.save(1, parents="a"),
    '`save(..., aliases="prod")`': lambda p: p.save(1, aliases="prod"),
    '`save(..., secrets="no")`': lambda p: p.save(1, secrets="no"),
    '`track("a@b")`': lambda p: p.open().track("a@b"),
    '`track("a", config=b"x")`': lambda p: p.open().track("a", config=b"x"),
    '`lineage("a", direction="left")`': lambda p: p.open().lineage("a", direction="left"),  # type: ignore[arg-type]
    '`lineage("a", depth=-1)`': lambda p: p.open().lineage("a", depth=-1),
    '`open(b"x")`': lambda p: keepstone.open(b"x"),  # type: ignore[arg-type]
    '`open("s", mode="w")`': lambda p: p.open("w"),
    "`Results(store, 3)`": lambda p: keepstone.Results(p.open(), 3),  # type: ignore[arg-type]
    "`results.run(..., workers=0)`": lambda p: keepstone.Results(p.open(), "r").run(len, [], workers=0),
    '`Digest.parse("x")`': lambda p: keepstone.Digest.parse("x"),
}
