"""Fixtures: `bucket` is a new bucket on a server, `proxy` a proxy before it. Both set the environment for s3fs.
`machine` makes this process go on as another machine.

    def test_something(bucket: Bucket) -> None: ...              # moto, in this process

    @on_servers("moto", "ministack", "rgw")
    def test_something(bucket: Bucket, proxy: Proxy) -> None: ...

Servers start when they are first needed and end with the run. moto is always there; ministack and s3rver are asked with
`--servers` and skipped where they are not installed; Ceph RGW is asked with `--rgw`, and then it must be there.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from tests.servers import moto
from tests.servers.bucket import Bucket, new_bucket, remove
from tests.servers.keeper import PROGRAMS, shared
from tests.servers.program import Access
from tests.servers.proxy import Proxy

IN_PROCESS: Final = "moto"
APART: Final = "moto-apart"
"""moto in a process of its own, where this one's interpreter must not serve it."""
ALWAYS_THERE: Final = (IN_PROCESS, APART)

Machine = Callable[[str], None]


def on_servers(*names: str) -> pytest.MarkDecorator:
    """Run a test once on each of these servers: moto, moto-apart, ministack, s3rver, rgw."""
    return pytest.mark.parametrize("bucket", names, indirect=True)


everywhere: Final = on_servers("moto", "ministack", "rgw")
"""All servers that know conditions."""


class Servers:
    """The servers of this process: those that were needed so far."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._running: dict[str, Access] = {}
        self._stack = ExitStack()

    def get(self, name: str) -> Access:
        """Return how to reach a server; skip the test where it cannot run here."""
        if name not in self._running:
            self._running[name] = self._stack.enter_context(
                moto.in_process() if name == IN_PROCESS else shared(self._program(name), self._folder / name)
            )
        return self._running[name]

    def _program(self, name: str) -> str:
        program = PROGRAMS[moto.PROGRAM.name if name == APART else name]
        asked = program.name == "rgw" and self._config.getoption("--rgw")
        if program.name == "rgw" and not asked:
            pytest.skip("runs against Ceph RGW: pytest --rgw")
        others = any(self._config.getoption(option) for option in ("--servers", "--rgw", "--long"))
        if program.name not in (*ALWAYS_THERE, "rgw") and not others:
            pytest.skip(f"runs against {program.name}: pytest --servers")
        if why := program.missing():
            pytest.fail(why) if asked else pytest.skip(why)
        return program.name

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of this run; the workers of one run share those that are processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    servers = Servers(request.config, folder / "servers")
    yield servers
    servers.close()


@pytest.fixture
def bucket(
    request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """A new bucket; on moto where the test names no other server. s3fs and child processes find it by themselves."""
    name = getattr(request, "param", IN_PROCESS)
    access = servers.get(name)
    set_environment(access, monkeypatch)
    bucket = new_bucket(name, access)
    yield bucket
    remove(bucket)


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the bucket's server; s3fs and child processes go through it."""
    with Proxy(bucket.access) as proxy:
        set_environment(proxy.access, monkeypatch)
        yield proxy
    assert not proxy.errors


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go on as the machine of that name: what it keeps of buckets is in folders of its own."""

    def go_on(name: str) -> None:
        monkeypatch.setenv("KEEPSTONE_SPOOL", str(tmp_path / name / "state"))
        monkeypatch.setenv("KEEPSTONE_CACHE", str(tmp_path / name / "cache"))

    # Tests may run in a container, whose own disk does not last.
    monkeypatch.setattr("keepstone.storage.places.is_lasting", lambda folder: True)
    # The whole probe, of 160 races, has tests of its own.
    from keepstone.storage.probe import probe

    monkeypatch.setattr("keepstone.storage.probe.probe", functools.partial(probe, threads=2, rounds=1))
    go_on("here")
    return go_on


def set_environment(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the clients of this process and of its children to a server, and nowhere else."""
    for name in Access.unwanted():
        monkeypatch.delenv(name, raising=False)
    for name, value in access.environment().items():
        monkeypatch.setenv(name, value)
    if "s3fs" in sys.modules:
        # Instances are kept by their arguments, and the endpoint is not among them.
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
