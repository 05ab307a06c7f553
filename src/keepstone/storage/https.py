"""Stores published on the web, to be read by anybody: any server of files will do.

Layer: storage. Through fsspec's HTTP file system, whose configuration says which headers and proxies are used. There is
no writing and no listing, and nothing that reads a store lists.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn, cast

from keepstone.foundation.errors import StorageError
from keepstone.storage.bucket import CONNECT_SECONDS_MAX, READ_SECONDS_MAX, Page, cut
from keepstone.storage.event_loop import RequestLoop
from keepstone.storage.trouble import AnswerError, Kind, Trouble, of_answer, of_silence

_PLAIN: Final = {"Accept-Encoding": "identity"}
"""What is compressed on the way has other ranges and another length."""
_ERROR_BYTES_MAX: Final = 64 << 10


class WebFolder:
    """What a web server shows; keys are paths. `root` is its URL with a slash at its end."""

    def __init__(self, root: str, loop: RequestLoop) -> None:
        import aiohttp
        from fsspec.implementations import http  # pyright: ignore[reportMissingTypeStubs]

        self._root = root
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS_MAX, sock_read=READ_SECONDS_MAX)
        self._files: Any = cast(Any, http).HTTPFileSystem(**_settings(loop, timeout))

    @property
    def server(self) -> str:
        """Where requests go."""
        return self._root.rstrip("/")

    async def read(self, key: str) -> bytes:
        """Return a whole object."""
        return (await self._ask("GET", key))[1]

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end)."""
        status, data, _ = await self._ask("GET", key, Range=f"bytes={start}-{end - 1}")
        return cut(data, start, end, status)

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        _, _, length = await self._ask("HEAD", key)
        if length is None:
            raise StorageError(
                f"{self.server} does not say how large {key} is",
                path=f"{self._root}{key}",
                hint="read it whole",
            )
        return length

    async def _ask(self, method: str, key: str, **headers: str) -> tuple[int, bytes, int | None]:
        session = await self._files.set_session()
        own: dict[str, Any] = dict(self._files.kwargs)
        own["headers"] = {**own.get("headers", {}), **_PLAIN, **headers}
        async with session.request(
            method, self._files.encode_url(self._root + key), allow_redirects=True, **own
        ) as answer:
            if answer.status not in (200, 206):
                if (answer.content_length or 0) < _ERROR_BYTES_MAX:
                    # Read to its end, or the connection cannot be used again.
                    await answer.read()
                raise AnswerError(answer.status)
            length: str | None = answer.headers.get("Content-Length")
            return answer.status, await answer.read(), int(length) if length else None

    async def create(self, key: str, data: bytes) -> None:
        """Refuse: stores on the web are read-only."""
        self._refuse("write")

    async def replace(self, key: str, data: bytes) -> None:
        """Refuse: stores on the web are read-only."""
        self._refuse("write")

    async def delete(self, key: str) -> None:
        """Refuse: stores on the web are read-only."""
        self._refuse("delete")

    async def page(self, prefix: str, after: str) -> Page:
        """Refuse: web servers do not list."""
        self._refuse("list")

    def _refuse(self, action: str) -> NoReturn:
        raise StorageError(
            f"cannot {action} the objects of {self.server}: on the web they can only be read",
            path=self.server,
            hint="use the folder or bucket that is published there",
        )

    async def close(self) -> None:
        """Close its connections."""
        session, self._files._session = self._files._session, None
        if session is not None:
            await session.close()

    def trouble(self, error: Exception) -> Trouble:
        """Tell what an exception means."""
        import aiohttp

        if isinstance(error, AnswerError):
            found = of_answer(error.status)
            if found.kind is Kind.DENIED:
                return found._replace(
                    hint="if it is public, let the server answer 404 for what is not there; "
                    "a bucket does where visitors may list it"
                )
            return found
        if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
            return of_silence(error, self.server)
        return Trouble(Kind.OTHER, f"the request could not be made ({type(error).__name__})")


def _settings(loop: RequestLoop, timeout: object) -> dict[str, Any]:
    from fsspec.config import conf  # pyright: ignore[reportMissingTypeStubs]

    user: dict[str, Any] = {}
    for protocol in ("http", "https"):
        user.update(conf.get(protocol, {}))
    return {
        **user,
        "client_kwargs": {"timeout": timeout, **user.get("client_kwargs", {})},
        "asynchronous": True,
        "loop": loop,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }
