"""Selecting what a sync is about: names, prefixes that end in `/`, single versions; with their lineage on request.

Layer: operations. What is selected is decided in the store that it comes from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import check_name, parse_selector
from keepstone.history.state import State
from keepstone.operations.sync_reading import open_footers
from keepstone.repository.name_view import Published
from keepstone.repository.naming import not_found
from keepstone.repository.refs import VERSIONS, read_name_ref
from keepstone.repository.repository import Repository


class Selection(NamedTuple):
    """What goes over."""

    names: frozenset[str]
    """Names with all that is under them: versions, aliases, items."""
    versions: dict[str, frozenset[int]]
    """Single versions of other names."""
    aliases: frozenset[str]
    """Refs of aliases that go with single versions."""
    is_whole: bool = False
    """Whether it is everything, pins among it."""


def names_of(refs: Iterable[str]) -> Iterator[str]:
    """Yield the names among refs: no aliases, nothing that belongs to Keepstone itself."""
    return (ref for ref in refs if "@" not in ref and not ref.startswith(":"))


def check_select(select: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return what a caller selects, each form checked; None for everything.

    Raises:
        InvalidInputError: it is one text instead of a list, empty, or neither name, prefix nor selector.
    """
    if select is None:
        return None
    if isinstance(select, str):
        raise InvalidInputError(f"select is the text {select!r}, not a list", hint=f"write [{select!r}]")
    wanted = tuple(select)
    if not wanted:
        raise InvalidInputError(
            "there is nothing to sync", hint="select at least one name, or leave it out for all"
        )
    for item in wanted:
        if isinstance(item, str) and item.endswith("/"):  # pyright: ignore[reportUnnecessaryIsInstance]
            check_name(item[:-1], what="prefix")
        else:
            parse_selector(item)
    return wanted


def selection_of(source: Repository, select: tuple[str, ...] | None, *, lineage: bool = False) -> Selection:
    """Return what `select` means in the source now; everything for None.

    Raises:
        ArtifactNotFoundError: one of them is nothing there.
    """
    state = source.session.log.state
    if select is None:
        return Selection(frozenset(names_of(state.refs)), {}, frozenset(), is_whole=True)
    names: set[str] = set()
    versions: defaultdict[str, set[int]] = defaultdict(set)
    aliases: set[str] = set()
    view = Published(source.session, state)
    if any("@" in item for item in select) or lineage:
        open_footers(source.session, source.session.entries.packs_of(VERSIONS))
    for item in select:
        if "@" in item:
            found = source.naming.find_in(view, item)
            versions[found.name].add(found.number)
            if parse_selector(item).kind == "alias":
                aliases.add(item)
        else:
            names |= _named(state, item)
    if lineage:
        for name, numbers in _ancestors(source, view, names, versions).items():
            versions[name] |= numbers
    single = {name: frozenset(numbers) for name, numbers in versions.items() if name not in names}
    return Selection(frozenset(names), single, frozenset(a for a in aliases if a.partition("@")[0] in single))


def _named(state: State, item: str) -> set[str]:
    present = {name for name in names_of(state.refs) if _exists(state, name)}
    if item.endswith("/"):
        found = {name for name in present if name.startswith(item)}
        if not found:
            raise not_found(state.refs, item, f"no name begins with {item!r}")
        return found
    if item not in present:
        raise not_found(state.refs, item, f"there is no {item!r} to sync")
    # A result set is three names.
    return {item, *({f"{item}:failed", f"{item}:config"} & present)}


def _exists(state: State, name: str) -> bool:
    return read_name_ref(state.refs[name], name).is_there


def _ancestors(
    source: Repository, view: Published, names: Iterable[str], versions: dict[str, set[int]]
) -> dict[str, set[int]]:
    """Return the versions that the selected ones were made from, and those that these were, as far as they are here."""
    known: dict[Digest, tuple[str, int]] = {}
    todo: list[Digest] = []
    for name in names_of(view.refs):
        for found in source.naming.found_in(view, name):
            known.setdefault(found.digest, (name, found.number))
            if name in names or found.number in versions.get(name, ()):
                todo.append(found.digest)
    ancestors: defaultdict[str, set[int]] = defaultdict(set)
    seen: set[Digest] = set()
    while todo:
        digest = todo.pop()
        if digest in seen:
            continue
        seen.add(digest)
        for parent in source.session.read_manifest(digest).parents:
            found = known.get(Digest.parse(parent))
            if found is not None:
                ancestors[found[0]].add(found[1])
                todo.append(Digest.parse(parent))
    return ancestors
