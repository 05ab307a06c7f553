"""Buckets that speak S3, through s3fs.

Layer: storage. The only file that touches s3fs and botocore, which have no types. s3fs finds credentials, endpoint and
region and signs; each request is one that is decided here: a GET without its HEAD, no listing where nothing is found,
no retries by s3fs (five by default), by botocore (four) or by aiohttp (one, of PUT as well), since a conditional PUT
that is sent again can fail because of itself.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import os
import random
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from keepstone.foundation.errors import UnsafeStorageError
from keepstone.storage.base import ObjectInfo
from keepstone.storage.bucket import (
    CONNECT_SECONDS_MAX,
    CONNECTIONS_MAX,
    PARTS_AT_ONCE,
    READ_SECONDS_MAX,
    Page,
    cut,
)
from keepstone.storage.event_loop import RequestLoop
from keepstone.storage.trouble import Kind, Trouble, chain, of_answer, of_silence

PROTOCOLS: Final = ("s3", "s3a")
_PART_TRIES_MAX: Final = 3
PART_WAIT_SECONDS: Final = 0.8
"""Before a part is sent again, at most; four times as long before the last try."""


class S3Bucket:
    """One bucket of S3, or of a server that speaks it."""

    def __init__(self, name: str, loop: RequestLoop) -> None:
        import s3fs  # pyright: ignore[reportMissingTypeStubs]

        self._name = name
        self._files: Any = cast(Any, s3fs).S3FileSystem(**_settings(loop))
        # An attribute of the class, not an argument; 1 is a single try.
        self._files.retries = 1
        self._client: Any = None
        self._room = asyncio.Semaphore(PARTS_AT_ONCE)
        """Held while a part is sent: the transport keeps a copy of it."""

    @property
    def server(self) -> str:
        """Where requests go, without credentials; empty while unknown."""
        if self._client is None:
            return ""
        parts = urlsplit(str(self._client.meta.endpoint_url))
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    async def read(self, key: str) -> bytes:
        """Return a whole object."""
        return (await self._get(key))[1]

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end)."""
        status, data = await self._get(key, Range=f"bytes={start}-{end - 1}")
        return cut(data, start, end, status)

    async def _get(self, key: str, **how: str) -> tuple[int, bytes]:
        answer = await self._ask("get_object", Key=key, **how)
        body = answer["Body"]
        try:
            data: bytes = await body.read()
        finally:
            body.close()
        if len(data) != answer.get("ContentLength", len(data)):
            raise ConnectionError
        return int(answer["ResponseMetadata"]["HTTPStatusCode"]), data

    async def create(self, key: str, data: bytes) -> None:
        """Create an object if there is none."""
        await self._connect()
        self._require_conditions()
        await self._ask("put_object", Key=key, Body=data, IfNoneMatch="*")

    async def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite an object."""
        await self._ask("put_object", Key=key, Body=data)

    async def delete(self, key: str) -> None:
        """Remove an object; there may be none."""
        await self._ask("delete_object", Key=key)

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        return int((await self._ask("head_object", Key=key))["ContentLength"])

    async def page(self, prefix: str, after: str) -> Page:
        """Return up to 1,000 objects whose name begins with `prefix`."""
        how = {"ContinuationToken": after} if after else {}
        answer = await self._ask("list_objects_v2", Prefix=prefix, **how)
        found = [ObjectInfo(one["Key"], int(one["Size"])) for one in answer.get("Contents", ())]
        return Page(found, answer["NextContinuationToken"] if answer.get("IsTruncated") else "")

    async def close(self) -> None:
        """Close its connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def trouble(self, error: Exception) -> Trouble:
        """Tell what an exception means: by the answer, and where there was none, by whose exception it is."""
        for one in chain(error):
            answer: Any = getattr(one, "response", None)
            if isinstance(answer, dict) and "ResponseMetadata" in answer:
                meta = cast(dict[str, Any], answer)
                status = int(meta["ResponseMetadata"].get("HTTPStatusCode", 0))
                found = of_answer(status, str(meta.get("Error", {}).get("Code", "")))
                return _wrong_region(found, meta) or found
        if _is_without_credentials(error):
            return Trouble(
                Kind.NO_CREDENTIALS,
                "no credentials were found",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws configure`",
            )
        if _is_silence(error):
            return of_silence(error, self.server)
        # Its text may quote a header, and so a key or a token.
        return Trouble(
            Kind.OTHER,
            f"the request could not be made ({type(error).__name__})",
            _hint_for_settings(error),
        )

    # ---- within ----------------------------------------------------------------------------------

    async def _connect(self) -> None:
        if self._client is None:
            if self._files.session is None:
                self._files.session = _session(self._files.kwargs)
            self._client = await self._files.set_session()
            _send_once(self._client)

    async def _ask(self, operation: str, **parameters: object) -> Any:
        await self._connect()
        return await self._files._call_s3(operation, Bucket=self._name, **parameters)

    def _require_conditions(self) -> None:
        members = self._client.meta.service_model.operation_model("PutObject").input_shape.members
        # s3fs drops what botocore does not know, without a word: a create would overwrite.
        if "IfNoneMatch" not in members:
            raise UnsafeStorageError(
                "the installed botocore cannot create an object only if it is absent",
                hint="upgrade it: pip install -U s3fs",
            )

    async def begin_parts(self, key: str) -> str:
        """Begin an upload in parts; return its name."""
        await self._connect()
        self._require_conditions()
        return str((await self._ask("create_multipart_upload", Key=key))["UploadId"])

    async def end_parts(self, key: str, upload: str, sent: list[str]) -> None:
        """Create the object of its parts, if there is none."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(sent, 1)]
        # Some servers ignore the condition here; what is written in parts is named by its content.
        await self._ask(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            IfNoneMatch="*",
        )

    async def drop_parts(self, key: str, upload: str) -> None:
        """Give an upload up."""
        await self._ask("abort_multipart_upload", Key=key, UploadId=upload)

    async def send_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Send one part, up to three times; return its tag."""
        for tries in range(1, _PART_TRIES_MAX + 1):
            try:
                async with self._room:
                    answer = await self._ask(
                        "upload_part", Key=key, UploadId=upload, PartNumber=number, Body=data
                    )
                return str(answer["ETag"])
            except Exception as error:
                # The same part again replaces what there may be of it; giving up costs the whole upload.
                if tries == _PART_TRIES_MAX or self.trouble(error).kind is not Kind.BUSY:
                    raise
                await asyncio.sleep(random.random() * PART_WAIT_SECONDS * 4 ** (tries - 1))
        raise AssertionError("unreachable")


def _settings(loop: RequestLoop) -> dict[str, Any]:
    """Return the arguments of the file system: what fsspec's own configuration says, then what we need."""
    from fsspec.config import conf  # pyright: ignore[reportMissingTypeStubs]

    user: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        user.update(conf.get(protocol, {}))
    config = {
        "connect_timeout": CONNECT_SECONDS_MAX,
        "read_timeout": READ_SECONDS_MAX,
        "max_pool_connections": CONNECTIONS_MAX,
        **user.get("config_kwargs", {}),
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    return {
        **user,
        "config_kwargs": config,
        "asynchronous": True,
        "loop": loop,
        "cache_regions": False,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }


def _session(settings: dict[str, Any]) -> Any:
    """Return a session as s3fs would make it; only what botocore ships, the models of services, is read but once.

    They are megabytes of JSON, and most of what a client costs. Credentials and connections stay each session's own.
    """
    from aiobotocore.session import AioSession  # pyright: ignore[reportMissingTypeStubs]

    session = cast(Any, AioSession)(**settings)
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    return session


@functools.cache
def _models(folders: str | None) -> Any:
    from botocore import loaders  # pyright: ignore[reportMissingTypeStubs]

    models = cast(Any, loaders).create_loader(folders)
    models.file_loader = ModelFiles(models.file_loader)
    return models


class ModelFiles:
    """What botocore reads models with (`theirs`), but that msgspec decodes them: in a fifth of the time."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def exists(self, path: str) -> bool:
        """Whether there is a model at `path` and one of the suffixes that botocore knows."""
        return self._theirs.exists(path)

    def load_file(self, path: str) -> Any:
        """Return the model at `path` and a suffix; None where there is none."""
        for suffix, opened in ((".json", open), (".json.gz", gzip.open)):
            if os.path.isfile(path + suffix):
                with opened(path + suffix, "rb") as file:
                    data = file.read()
                try:
                    return msgspec.json.decode(data)
                except msgspec.DecodeError:
                    break
        # Of what is no JSON at all, botocore says so itself.
        return self._theirs.load_file(path)


def _send_once(client: Any) -> None:
    """Keep aiohttp from sending a request again when a kept connection turns out to be closed."""
    http: Any = getattr(getattr(client, "_endpoint", None), "http_session", None)
    make: Any = getattr(http, "_get_session", None)
    if make is None:
        return

    async def make_session(proxy: str | None) -> Any:
        session = await make(proxy)
        session._retry_connection = False
        return session

    http._get_session = make_session


def _is_silence(error: Exception) -> bool:
    """Whether there was no answer, or none that could be read to its end."""
    import aiohttp
    from botocore import exceptions  # pyright: ignore[reportMissingTypeStubs]

    known = cast(Any, exceptions)
    silent = (
        aiohttp.ClientError,
        ConnectionError,
        TimeoutError,
        known.IncompleteReadError,
        known.FlexibleChecksumError,
        _parser_error(),
    )
    for one in chain(error):
        # Itself, not one of its kinds, it only says that something else was raised: a header that cannot be sent.
        if isinstance(one, known.HTTPClientError) and type(one) is not known.HTTPClientError:
            return True
        if isinstance(one, silent):
            return True
    return False


def _parser_error() -> type[Exception]:
    from botocore import parsers  # pyright: ignore[reportMissingTypeStubs]

    return cast(Any, parsers).ResponseParserError


def _is_without_credentials(error: Exception) -> bool:
    from botocore import exceptions  # pyright: ignore[reportMissingTypeStubs]

    known = cast(Any, exceptions)
    missing = (
        known.NoCredentialsError,
        known.PartialCredentialsError,
        known.CredentialRetrievalError,
        known.TokenRetrievalError,
        known.SSOError,
    )
    return any(isinstance(one, missing) for one in chain(error))


def _hint_for_settings(error: Exception) -> str:
    """Return what to look at; the text of the error only chooses, and is not shown."""
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return "AWS_ENDPOINT_URL, or endpoint_url in ~/.aws/config, begins with http:// or https://"
    return _SETTINGS.get(
        type(error).__name__, "check the settings of AWS: endpoint, region, keys without line ends"
    )


_SETTINGS: Final = {
    "ProfileNotFound": "there is no such profile in ~/.aws: check AWS_PROFILE",
    "InvalidRegionError": "that is no name of a region: check AWS_REGION, AWS_DEFAULT_REGION, region in ~/.aws/config",
}


def _wrong_region(found: Trouble, answer: dict[str, Any]) -> Trouble | None:
    if found.kind is Kind.OTHER and answer.get("Error", {}).get("Code") in (
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "301",
    ):
        return found._replace(hint="set AWS_DEFAULT_REGION to the bucket's region")
    return None
