"""Containers of Azure Blob Storage, through adlfs.

Layer: storage. adlfs finds account and credentials and makes the client of Azure's own library; each of our calls is
one request of that client, without its retries.
"""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlsplit

from keepstone.storage.base import ObjectInfo
from keepstone.storage.bucket import CONNECT_SECONDS_MAX, PARTS_AT_ONCE, READ_SECONDS_MAX, Page
from keepstone.storage.event_loop import RequestLoop
from keepstone.storage.trouble import Kind, Trouble, chain, of_answer, of_silence

_ONCE: Final = {
    "retry_total": 0,
    "connection_timeout": CONNECT_SECONDS_MAX,
    "read_timeout": READ_SECONDS_MAX,
}
_WHOLE_BYTES_MAX: Final = 1 << 40
"""What is read with one request; the library would take 32 MiB, and 4 MiB from then on."""


class AzureBucket:
    """One container."""

    def __init__(self, name: str, loop: RequestLoop) -> None:
        import adlfs  # pyright: ignore[reportMissingTypeStubs, reportMissingImports, reportUnknownVariableType]

        self._files: Any = cast(Any, adlfs).AzureBlobFileSystem(**_settings(loop))
        self._service: Any = self._files.service_client
        self._service._config.max_single_get_size = _WHOLE_BYTES_MAX
        self._container: Any = self._service.get_container_client(name)

    @property
    def server(self) -> str:
        """Where requests go."""
        parts = urlsplit(str(self._service.url))
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    async def read(self, key: str) -> bytes:
        """Return a whole object."""
        return await (await self._blob(key).download_blob(**_ONCE)).readall()

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end). Where the server ignores that range, the library raises."""
        answer = await self._blob(key).download_blob(offset=start, length=end - start, **_ONCE)
        return await answer.readall()

    async def create(self, key: str, data: bytes) -> None:
        """Create an object if there is none."""
        await self._blob(key).upload_blob(
            data, length=len(data), overwrite=False, max_concurrency=PARTS_AT_ONCE, **_ONCE
        )

    async def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite an object."""
        await self._blob(key).upload_blob(data, length=len(data), overwrite=True, **_ONCE)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._blob(key).delete_blob(**_ONCE)

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        return int((await self._blob(key).get_blob_properties(**_ONCE)).size)

    async def page(self, prefix: str, after: str) -> Page:
        """Return up to 1,000 objects whose name begins with `prefix`."""
        pages = self._container.list_blobs(
            name_starts_with=prefix or None, results_per_page=1000, **_ONCE
        ).by_page(after or None)
        found = [ObjectInfo(one.name, int(one.size)) async for one in await anext(pages)]
        return Page(found, pages.continuation_token or "")

    async def close(self) -> None:
        """Close its connections."""
        await self._service.close()

    def trouble(self, error: Exception) -> Trouble:
        """Tell what an exception means."""
        from azure.core import (  # pyright: ignore[reportMissingImports]
            exceptions,  # pyright: ignore[reportUnknownVariableType]
        )

        known = cast(Any, exceptions)
        for one in chain(error):
            status: int | None = getattr(one, "status_code", None)
            if isinstance(one, known.HttpResponseError) and status is not None:
                return of_answer(status, str(getattr(one, "error_code", None) or ""))
        if isinstance(error, known.ClientAuthenticationError):
            return Trouble(
                Kind.NO_CREDENTIALS,
                "no valid credentials were found",
                "run `az login`, or set AZURE_STORAGE_CONNECTION_STRING",
            )
        silent = (known.ServiceRequestError, known.ServiceResponseError, known.IncompleteReadError)
        if any(isinstance(one, (*silent, TimeoutError, ConnectionError)) for one in chain(error)):
            return of_silence(error, self.server)
        return Trouble(
            Kind.OTHER,
            f"the request could not be made ({type(error).__name__})",
            "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_CONNECTION_STRING",
        )

    def _blob(self, key: str) -> Any:
        return self._container.get_blob_client(key)


def _settings(loop: RequestLoop) -> dict[str, Any]:
    from fsspec.config import conf  # pyright: ignore[reportMissingTypeStubs]

    user: dict[str, Any] = {}
    for protocol in ("az", "abfs", "abfss"):
        user.update(conf.get(protocol, {}))
    return {
        **user,
        # True would make it forget the loop, on which it closes its client when the process ends.
        "asynchronous": False,
        "loop": loop,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }
