"""The other store of a sync: where it is, how it is opened, and what to do where there is none.

Layer: operations.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from keepstone.foundation.errors import InvalidInputError, StoreNotFoundError
from keepstone.foundation.format import STORE_KEY
from keepstone.operations.sync_cost import creating_requests
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.storage.base import Storage
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import is_url, locate
from keepstone.storage.wrapper import medium, requests_made

Place = str | os.PathLike[str] | Repository

_PROJECT_FOLDER: Final = ".keepstone"
"""Where the command line keeps the store of a project."""


def how_to_name(location: str, *, creates: bool) -> str:
    """Return a hint for who named a place without a store; `creates`: one could be made there."""
    inside = os.path.join(location, _PROJECT_FOLDER)
    if not is_url(location) and os.path.exists(os.path.join(inside, STORE_KEY)):
        return f"there is one at {inside}"
    said = "a store in a bucket is named s3://bucket/prefix"
    if creates:
        made = "if it is to be made, say so: `--create`, `create=True`"
        return made if is_url(location) else f"{made}; {said}"
    return "name a store that exists" if is_url(location) else f"name the folder of a store; {said}"


class OtherStore:
    """The store at `place` that `here` is synced with: open already, or opened for one sync."""

    def __init__(self, here: Repository, place: Place, *, pushes: bool, creates: bool) -> None:
        self._here = here
        self._place = place
        self._pushes = pushes
        self._creates = creates
        self._opened = place if isinstance(place, Repository) else None
        self._told = 0
        if isinstance(place, Repository):
            self.storage: Storage = place.session.storage
        else:
            # What programs that are gone left in a folder is published before it is pulled.
            may_write = pushes or not is_url(os.fspath(place))
            self.storage = locate(place, writable=None if may_write else False)
        self.location = self.storage.location
        if self.location == here.session.storage.location:
            raise InvalidInputError(
                f"{self.location} is this store itself", hint="name another store to sync with"
            )
        self.requests_since()

    @property
    def has_journals(self) -> bool:
        """Whether items may lie in journals there, as in any folder."""
        if isinstance(self._place, Repository):
            return not self._place.session.local.is_published
        return isinstance(self.storage, LocalStorage)

    def requests_since(self) -> int:
        """Return how many requests both stores made since this was asked before."""
        storages = [self._here.session.storage, self.storage]
        if self._opened is not None:
            storages.append(self._opened.session.storage)
        made = sum({id(found): requests_made(found) for found in map(medium, storages)}.values())
        before, self._told = self._told, made
        return made - before

    def reckon_creating(self) -> None:
        """Count what making the store will ask, as if it had been asked."""
        self._told -= creating_requests(self.storage)

    @contextmanager
    def opened(self, *, reads_only: bool = False) -> Generator[Repository]:
        """Open the store until the block is left; one that was open already is as new as can be.

        Raises:
            StoreNotFoundError: there is none, and none is to be made.
        """
        if isinstance(self._place, Repository):
            self._place.session.refresh()
            yield self._place
            return
        storage = locate(self._place, writable=False) if reads_only else self.storage
        creates = self._pushes and not reads_only and self._creates
        try:
            other = open_repository(storage, create=creates, writable=self._pushes or storage.writable)
        except StoreNotFoundError as error:
            if not self._creates:
                error.hint = how_to_name(error.location, creates=self._pushes)
            raise
        self._opened = other
        try:
            yield other
        finally:
            close_repository(other)
