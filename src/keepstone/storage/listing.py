"""A listing that comes in pages, and goes on after an error where it was.

Layer: storage. A generator that has raised is over, and asked again it looks like the end of the list; so whoever
tries again must know what it has before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from keepstone.storage.base import ObjectInfo


class Listing(Iterator[ObjectInfo]):
    """Objects, page by page; `fetch` takes where to go on (empty: the beginning) and returns a page and the next place.

    After an error of `fetch`, `next` asks for the same page again.
    """

    def __init__(self, fetch: Callable[[str], tuple[list[ObjectInfo], str]]) -> None:
        self._fetch = fetch
        self._page: Iterator[ObjectInfo] = iter(())
        self._after = ""
        self._has_more = True

    def __next__(self) -> ObjectInfo:
        while True:
            for info in self._page:
                return info
            if not self._has_more:
                raise StopIteration
            found, after = self._fetch(self._after)
            self._page, self._after, self._has_more = iter(found), after, bool(after)
