"""Commands on a store that is elsewhere: without a connection, and while they wait for it."""

from __future__ import annotations

import functools
import json
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.cli.conftest import Shown
from tests.servers.bucket import Bucket
from tests.servers.proxy import Proxy

import keepstone
from keepstone.cli.console import Console
from keepstone.cli.main import main
from keepstone.cli.waiting import tell_of_waiting
from keepstone.foundation.errors import StorageBusyError
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.probe import probe
from keepstone.storage.retrying import Retrying


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ThreadingHTTPServer:
    """A web server that shows the present folder; a store lies below `team`."""
    monkeypatch.setenv("KEEPSTONE_CACHE", str(folder / "cache"))
    monkeypatch.setattr("keepstone.storage.retrying.FIRST_WAIT_SECONDS", 0.0)
    with keepstone.open(folder / "team") as store:
        store.save("prompts/reader", "think")
        store.collection("answers").update({"q1": 1})
        store.flush()
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_store_for_a_single_writer_is_made_only_where_that_is_said(
    folder: Path, bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    for variable in ("KEEPSTONE_SPOOL", "KEEPSTONE_CACHE"):
        monkeypatch.setenv(variable, str(folder / variable))
    monkeypatch.setattr("keepstone.storage.probe.probe", functools.partial(probe, threads=2, rounds=1))
    proxy.drops_condition = True
    url = f"{bucket.url}/mine"
    assert main(["init", url]) == 6
    assert "--single-writer" in capsys.readouterr().err
    assert main(["init", url, "--single-writer", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"store": url, "created": True}
    assert main(["init", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"store": url, "created": False}


def close(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def test_a_store_on_the_web_is_read_cloned_and_then_had_offline(
    folder: Path, published: ThreadingHTTPServer, capsys: Shown
) -> None:
    url = f"http://127.0.0.1:{published.server_address[1]}/team"
    assert main(["--store", url, "load", "prompts/reader"]) == 0
    assert capsys.readouterr().out.strip() == "think"
    assert main(["clone", url, "copy"]) == 0
    assert main(["--store", f"{url}/nothing", "list"]) == 3
    assert "there is no store at" in capsys.readouterr().err
    assert main(["--store", url, "remove", "prompts/reader"]) == 6
    assert "write to the folder or bucket that is published there" in capsys.readouterr().err
    close(published)

    assert main(["--store", url, "load", "prompts/reader"]) == 6
    assert "`--offline`" in capsys.readouterr().err
    assert main(["--offline", "--store", url, "load", "prompts/reader"]) == 0
    assert capsys.readouterr().out.strip() == "think"
    assert main(["--store", url, "list", "--offline"]) == 0
    assert "answers" in capsys.readouterr().out
    assert main(["--store", url, "remove", "prompts/reader", "--offline"]) == 6
    assert "was opened offline" in capsys.readouterr().err
    with keepstone.open("copy", mode="r") as store:
        assert dict(store.collection("answers")) == {"q1": 1}


def test_why_a_command_waits_is_said_once_it_takes_a_second(capsys: Shown) -> None:
    class Silent(MemoryStorage):
        def read(self, key: str) -> bytes:
            raise StorageBusyError(f"no answer about {key}", path=key, hint="wait")

    tell_of_waiting(Console())
    with pytest.raises(StorageBusyError):
        Retrying(Silent(), sleep=lambda _: None, draw=lambda: 0.5, now=time.monotonic).read("log/1")
    # The first two waits, of 0.1 and 0.3 s, are too short, and of several within a second one is said.
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "keepstone: no answer about log/1; trying again in 0.9 s"
    assert len(said) <= 3
