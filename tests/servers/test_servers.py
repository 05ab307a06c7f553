"""What each server does with conditions. The store builds on some of it, and is built around the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.servers import rgw
from tests.servers.bucket import Bucket, single_tries
from tests.servers.fixtures import on_servers

if TYPE_CHECKING:
    from s3fs import S3FileSystem

EVERY: Final = ("moto", "ministack", "rgw", "s3rver")
HEEDING: Final = ("moto", "ministack", "rgw")
WRITERS: Final = 8
ROUNDS: Final = 5
STEPS: Final = 10


def status_of(call: Callable[[], object]) -> int:
    """Return the HTTP status that a call of s3fs ended with, wherever along the causes it stands; 0 for none."""
    try:
        call()
    except Exception as raised:
        error: BaseException | None = raised
        while error is not None:
            if response := getattr(error, "response", None):
                return response["ResponseMetadata"]["HTTPStatusCode"]
            error = error.__cause__
        return 0
    return 200


class Actions:
    """One conditional request each, in a folder whose `there` holds b"old"; returns the status."""

    def __init__(self, system: S3FileSystem, bucket: Bucket, folder: str) -> None:
        self._system = system
        self._bucket = bucket.name
        self.there, self.free = f"{folder}/there", f"{folder}/free"
        self.etag = self._call("put_object", self.there, Body=b"old")["ETag"]

    def _call(self, verb: str, key: str, **arguments: Any) -> Any:
        return self._system.call_s3(verb, Bucket=self._bucket, Key=key, **arguments)

    def _put(self, key: str, **condition: str) -> int:
        return status_of(lambda: self._call("put_object", key, Body=b"new", **condition))

    def create_on_existing(self) -> int:
        return self._put(self.there, IfNoneMatch="*")

    def create_on_free(self) -> int:
        return self._put(self.free, IfNoneMatch="*")

    def replace_the_right_one(self) -> int:
        return self._put(self.there, IfMatch=self.etag.strip('"'))

    def replace_the_right_one_in_quotes(self) -> int:
        return self._put(self.there, IfMatch=self.etag)

    def replace_a_stale_one(self) -> int:
        return self._put(self.there, IfMatch="0" * 32)

    def replace_none(self) -> int:
        return self._put(self.free, IfMatch="0" * 32)

    def complete_multipart_on_existing(self) -> int:
        upload = self._call("create_multipart_upload", self.there)["UploadId"]
        part = self._call("upload_part", self.there, UploadId=upload, PartNumber=1, Body=b"new")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        how = {"UploadId": upload, "MultipartUpload": parts, "IfNoneMatch": "*"}
        return status_of(lambda: self._call("complete_multipart_upload", self.there, **how))

    def delete_a_stale_one(self) -> int:
        return status_of(lambda: self._call("delete_object", self.there, IfMatch="0" * 32))

    def copy_on_existing(self) -> int:
        self._call("put_object", self.free, Body=b"new")
        how = {"CopySource": {"Bucket": self._bucket, "Key": self.free}, "IfNoneMatch": "*"}
        return status_of(lambda: self._call("copy_object", self.there, **how))


OLD, NEW, GONE = b"old", b"new", None
TABLE: Final[Mapping[str, Mapping[str, tuple[int, bytes | None]]]] = {
    "create_on_free": dict.fromkeys(EVERY, (200, OLD)),
    "create_on_existing": dict.fromkeys(HEEDING, (412, OLD)) | {"s3rver": (200, NEW)},
    "replace_the_right_one": dict.fromkeys(EVERY, (200, NEW)),
    "replace_the_right_one_in_quotes": dict.fromkeys(EVERY, (200, NEW)) | {"rgw": (412, OLD)},
    "replace_a_stale_one": dict.fromkeys(HEEDING, (412, OLD)) | {"s3rver": (200, NEW)},
    "replace_none": {"moto": (404, OLD), "ministack": (404, OLD), "rgw": (412, OLD), "s3rver": (200, OLD)},
    "complete_multipart_on_existing": {
        **dict.fromkeys(("moto", "ministack"), (412, OLD)),
        **dict.fromkeys(("rgw", "s3rver"), (200, NEW)),
    },
    "delete_a_stale_one": {
        **dict.fromkeys(("moto", "ministack"), (412, OLD)),
        **dict.fromkeys(("rgw", "s3rver"), (200, GONE)),
    },
    "copy_on_existing": dict.fromkeys(EVERY, (200, NEW)),
}
"""Of each action and server: the status, and what `there` holds afterwards. Of Ceph it is release 16."""
PROMISED: Final = ("create_on_free", "create_on_existing")
"""What the store builds on: it must be so in every release."""


@on_servers(*EVERY)
def test_conditions_are_treated_as_the_table_says(bucket: Bucket) -> None:
    system = single_tries()
    known = bucket.server != "rgw" or rgw.version().startswith("16.")
    actions = list(TABLE) if known else PROMISED

    done: dict[str, tuple[int, bytes | None]] = {}
    for action in actions:
        folder = Actions(system, bucket, action)
        status = getattr(folder, action)()
        done[action] = (status, bucket.read(folder.there) if folder.there in bucket.sizes(action) else GONE)

    assert done == {action: TABLE[action][bucket.server] for action in actions}


@on_servers(*EVERY)
def test_of_eight_that_create_one_wins_where_conditions_are_heeded(bucket: Bucket) -> None:
    system = single_tries()

    def create(key: int, writer: int) -> int:
        return status_of(lambda: system.pipe_file(f"{bucket.name}/{key}", b"%d" % writer, mode="create"))

    with ThreadPoolExecutor(WRITERS) as pool:
        winners = [
            list(pool.map(create, [key] * WRITERS, range(WRITERS))).count(200) for key in range(ROUNDS)
        ]

    if bucket.server in HEEDING:
        assert winners == [1] * ROUNDS
    else:
        assert max(winners) > 1


@on_servers(*HEEDING)
def test_of_two_that_count_up_no_step_is_lost(bucket: Bucket) -> None:
    system = single_tries()
    bucket.put("counter", b"0")

    def count_up(_: int) -> None:
        done = 0
        while done < STEPS:
            found: Any = system.call_s3("get_object", Bucket=bucket.name, Key="counter")
            # The body belongs to the event loop of s3fs; a second read of the same object is simpler than that.
            tag = found["ETag"].strip('"')
            found["Body"].close()
            value = int(system.cat_file(f"{bucket.name}/counter"))
            body = b"%d" % (value + 1)
            done += status_of(lambda: system.pipe_file(f"{bucket.name}/counter", body, IfMatch=tag)) == 200  # noqa: B023

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count_up, range(2)))

    assert bucket.read("counter") == b"%d" % (2 * STEPS)


@pytest.mark.parametrize(
    ("bucket", "error"),
    [("moto", FileExistsError), ("ministack", OSError), ("rgw", OSError)],
    indirect=["bucket"],
)
def test_the_type_of_the_error_does_not_say_that_a_key_is_taken(bucket: Bucket, error: type[OSError]) -> None:
    """s3fs looks for an element of the error's body that only some servers send; the status is the same."""
    bucket.put("there", b"old")

    with pytest.raises(OSError) as raised:
        single_tries().pipe_file(f"{bucket.name}/there", b"new", mode="create")

    assert type(raised.value) is error


@on_servers("moto", "ministack", "rgw")
def test_an_empty_object_is_created_exclusively_by_pipe_file_alone(bucket: Bucket) -> None:
    system = single_tries()
    bucket.put("there", b"old")

    assert status_of(lambda: system.pipe_file(f"{bucket.name}/there", b"", mode="create")) == 412
    assert bucket.read("there") == b"old"

    with system.open(f"{bucket.name}/there", "xb"):
        pass
    assert bucket.read("there") == b""


@on_servers(*EVERY)
def test_what_was_written_is_read_and_listed_at_once(bucket: Bucket) -> None:
    system = single_tries()
    for number in range(5):
        system.pipe_file(f"{bucket.name}/log/{number:020}", b"%d" % number, mode="create")

        assert system.cat_file(f"{bucket.name}/log/{number:020}") == b"%d" % number
        assert len(system.find(f"{bucket.name}/log")) == number + 1
