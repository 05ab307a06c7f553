"""Lineage: what a version was made from, and what was made from it.

Layer: operations. Parents stand in manifests, which never change; what was made from a version is found by reading the
manifests of all versions, so the answer is never out of date. A version that several others lead to is followed once.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, get_args

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError, NotFoundError
from keepstone.operations.sync_selection import names_of
from keepstone.repository.repository import Repository
from keepstone.repository.version import Version

Direction = Literal["up", "down"]

_Follow = Callable[[Digest], Sequence[Digest]]

_INDENT_MAX: Final = 40
_NOT_HERE: Final = "not in this store"


class LineageNode(msgspec.Struct, frozen=True):
    """One version in a lineage."""

    digest: str
    selectors: tuple[str, ...]
    """`name@v3` of each version of this store that it is; none where it is not here, or was removed."""
    depth: int
    """How many steps from the version that was asked about."""
    is_repeated: bool = False
    """Whether what follows from it stands at another place."""
    is_cut: bool = False
    """Whether more follows that `depth` left out."""

    @property
    def is_here(self) -> bool:
        """Whether it is a version in this store."""
        return bool(self.selectors)

    def __str__(self) -> str:
        named = ", ".join(self.selectors) or f"{self.digest} ({_NOT_HERE})"
        return named + (" (followed elsewhere)" if self.is_repeated else " …" if self.is_cut else "")


class Lineage(msgspec.Struct, frozen=True):
    """A version and what leads to it, or follows from it; printed, it is a tree."""

    direction: Direction
    nodes: tuple[LineageNode, ...]
    """The version itself, then each of the others below what it is a parent or a child of."""

    def __str__(self) -> str:
        mark = "← " if self.direction == "up" else "→ "
        return "\n".join(
            f"{'  ' * min(node.depth - 1, _INDENT_MAX)}{mark}{node}" if node.depth else str(node)
            for node in self.nodes
        )

    @property
    def selectors(self) -> tuple[str, ...]:
        """The versions of this store in it, each once, without the one that was asked about."""
        return tuple(dict.fromkeys(selector for node in self.nodes[1:] for selector in node.selectors))


def lineage(
    repository: Repository, of: str | Version, direction: Direction = "up", depth: int | None = None
) -> Lineage:
    """Return the lineage of a version. See `Store.lineage`."""
    if direction not in get_args(Direction):
        raise InvalidInputError(
            f"unknown direction {direction!r}",
            hint="use 'up' for what it was made from, 'down' for what was made from it",
        )
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"depth is {depth!r}", hint="use a number of steps, or None for all")
    root = _digest_of(repository, of)
    selectors = _selectors(repository)
    follow = _parents_in(repository) if direction == "up" else _children_in(repository, list(selectors))
    return Lineage(direction, tuple(_walk(root, follow, selectors, depth)))


def _digest_of(repository: Repository, of: str | Version) -> Digest:
    if isinstance(of, Version):
        return of.digest_bytes
    if isinstance(of, str) and of.startswith("b3:"):  # pyright: ignore[reportUnnecessaryIsInstance]
        return Digest.parse(of)
    return repository.resolve(of).digest_bytes


def _selectors(repository: Repository) -> dict[Digest, list[str]]:
    """Return which versions each digest is in this store."""
    view = repository.naming.present()
    found: dict[Digest, list[str]] = {}
    for name in sorted(names_of(view.refs)):
        for version in reversed(list(repository.naming.found_in(view, name))):
            found.setdefault(version.digest, []).append(version.selector)
    return found


def _parents_of(repository: Repository, digest: Digest) -> tuple[Digest, ...]:
    parents = repository.session.read_manifest(digest).parents
    return tuple(dict.fromkeys(Digest.parse(parent) for parent in parents))


def _parents_in(repository: Repository) -> _Follow:
    def parents(digest: Digest) -> Sequence[Digest]:
        try:
            # One that was removed leads on as long as its manifest is there.
            return _parents_of(repository, digest)
        except NotFoundError:
            return ()

    return parents


def _children_in(repository: Repository, digests: list[Digest]) -> _Follow:
    children: defaultdict[Digest, list[Digest]] = defaultdict(list)
    with repository.session.reading_ahead(digests):
        for digest in digests:
            for parent in _parents_of(repository, digest):
                children[parent].append(digest)

    def children_of(digest: Digest) -> Sequence[Digest]:
        return children.get(digest, ())

    return children_of


def _walk(
    root: Digest,
    follow: _Follow,
    selectors: dict[Digest, list[str]],
    depth_max: int | None,
) -> Iterator[LineageNode]:
    """Yield the nodes of the tree: each digest is followed where it is nearest to the root."""
    below: dict[Digest, list[tuple[Digest, bool]]] = {}
    cut: set[Digest] = set()
    seen = {root}
    todo = deque([(root, 0)])
    while todo:
        digest, depth = todo.popleft()
        found = follow(digest)
        if depth == depth_max:
            if found:
                cut.add(digest)
            continue
        below[digest] = [(other, other in seen) for other in found]
        seen.update(found)
        todo.extend((other, depth + 1) for other, was_seen in below[digest] if not was_seen)
    # By a stack: a chain of versions may be longer than Python's calls can be deep.
    stack = [(root, 0, False)]
    while stack:
        digest, depth, is_repeated = stack.pop()
        yield LineageNode(
            str(digest),
            tuple(selectors.get(digest, ())),
            depth,
            is_repeated=is_repeated and (bool(below.get(digest)) or digest in cut),
            is_cut=digest in cut and not is_repeated,
        )
        if not is_repeated:
            nodes = [(other, depth + 1, repeated) for other, repeated in below.get(digest, ())]
            stack.extend(reversed(nodes))
