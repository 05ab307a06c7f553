"""Buckets of Google Cloud Storage, through gcsfs.

Layer: storage. gcsfs finds credentials, project and endpoint. What it sends by itself is tried six times, turns answers
into exceptions without their status, and writes small objects between fixed marks that an object may contain; so its
session is used, and each request is one of ours.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from keepstone.storage.base import ObjectInfo
from keepstone.storage.bucket import CONNECT_SECONDS_MAX, READ_SECONDS_MAX, Page, cut
from keepstone.storage.event_loop import RequestLoop
from keepstone.storage.trouble import AnswerError, Kind, Trouble, chain, of_answer, of_silence

_PIECE_BYTES: Final = 1 << 20
"""What is copied at once while an object is sent."""


class GcsBucket:
    """One bucket of Google Cloud Storage."""

    def __init__(self, name: str, loop: RequestLoop) -> None:
        import aiohttp
        from gcsfs import core  # pyright: ignore[reportMissingTypeStubs, reportMissingImports, reportUnknownVariableType]

        self._files: Any = cast(Any, core).GCSFileSystem(**_settings(loop))
        self._timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS_MAX, sock_read=READ_SECONDS_MAX)
        self._objects = f"/storage/v1/b/{quote(name, safe='')}/o"

    @property
    def server(self) -> str:
        """Where requests go."""
        parts = urlsplit(str(self._files._location))
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    async def read(self, key: str) -> bytes:
        """Return a whole object."""
        return (await self._ask("GET", self._download(key), {"alt": "media"}))[1]

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end)."""
        asked = f"bytes={start}-{end - 1}"
        status, data = await self._ask("GET", self._download(key), {"alt": "media"}, Range=asked)
        return cut(data, start, end, status)

    async def create(self, key: str, data: bytes) -> None:
        """Create an object if there is none: generation 0 is that of what does not exist."""
        await self._upload(key, data, {"ifGenerationMatch": "0"})

    async def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite an object."""
        await self._upload(key, data, {})

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._ask("DELETE", f"{self._objects}/{quote(key, safe='')}", {})

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        _, answer = await self._ask("GET", f"{self._objects}/{quote(key, safe='')}", {"fields": "size"})
        return int(json.loads(answer)["size"])

    async def page(self, prefix: str, after: str) -> Page:
        """Return up to 1,000 objects whose name begins with `prefix`."""
        asked = {"prefix": prefix, "maxResults": "1000", "fields": "items(name,size),nextPageToken"}
        _, data = await self._ask("GET", self._objects, asked | ({"pageToken": after} if after else {}))
        answer = json.loads(data)
        found = [ObjectInfo(one["name"], int(one["size"])) for one in answer.get("items", ())]
        return Page(found, answer.get("nextPageToken", ""))

    async def close(self) -> None:
        """Close its connections."""
        session, self._files._session = self._files._session, None
        if session is not None:
            await session.close()

    def trouble(self, error: Exception) -> Trouble:
        """Tell what an exception means."""
        import aiohttp
        from google.auth import exceptions  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

        if isinstance(error, AnswerError):
            return of_answer(error.status, error.code)
        known = cast(Any, exceptions)
        if any(isinstance(one, known.TransportError) for one in chain(error)):
            return of_silence(error, "the server that gives credentials")
        if any(isinstance(one, known.GoogleAuthError) for one in chain(error)):
            return Trouble(
                Kind.NO_CREDENTIALS,
                f"no valid credentials were found ({type(error).__name__})",
                "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
            )
        if any(isinstance(one, aiohttp.ClientError | TimeoutError | ConnectionError) for one in chain(error)):
            return of_silence(error, self.server)
        return Trouble(Kind.OTHER, f"the request could not be made ({type(error).__name__})")

    def _download(self, key: str) -> str:
        return f"/download{self._objects}/{quote(key, safe='')}"

    async def _upload(self, key: str, data: bytes, condition: dict[str, str]) -> None:
        # gcsfs ends its parts with the same mark each time, which the bytes of a user may hold.
        mark = os.urandom(24).hex()
        head = (
            f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps({'name': key})}"
            f"\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{mark}--".encode()

        async def body() -> AsyncIterator[bytes]:
            yield head
            for start in range(0, len(data), _PIECE_BYTES):
                yield data[start : start + _PIECE_BYTES]
            yield tail

        headers = {
            "Content-Type": f'multipart/related; boundary="{mark}"',
            "Content-Length": str(len(head) + len(data) + len(tail)),
        }
        asked = {"uploadType": "multipart", "fields": "name", **condition}
        await self._ask("POST", f"/upload{self._objects}", asked, body(), **headers)

    async def _ask(
        self,
        method: str,
        path: str,
        asked: dict[str, str],
        body: AsyncIterator[bytes] | None = None,
        **headers: str,
    ) -> tuple[int, bytes]:
        from yarl import URL

        session = await self._files._set_session()
        # Renewing a token waits for an answer without giving way to others.
        signed: dict[str, str] = await asyncio.get_running_loop().run_in_executor(
            None, self._files._get_headers, {"Accept-Encoding": "identity", **headers}
        )
        async with session.request(
            method,
            URL(f"{self._files._location}{path}", encoded=True),
            params=self._files._get_params(asked),
            headers=signed,
            data=body,
            timeout=self._timeout,
        ) as answer:
            data: bytes = await answer.read()
            if answer.status not in (200, 204, 206):
                raise AnswerError(answer.status, _reason(data))
            return answer.status, data


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        return ""


def _settings(loop: RequestLoop) -> dict[str, Any]:
    from fsspec.config import conf  # pyright: ignore[reportMissingTypeStubs]

    user: dict[str, Any] = {}
    for protocol in ("gs", "gcs"):
        user.update(conf.get(protocol, {}))
    return {
        **user,
        "asynchronous": True,
        "loop": loop,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }
