"""Ceph RGW, the S3 of a real object store: a monitor, one storage daemon in memory, and the gateway.

`python -m tests.servers.rgw --install` installs Debian's packages, `python -m tests.servers.rgw` runs it by hand.

The settings are those that make a cluster of one: without cephx the gateway never comes up; the pools have one copy
and one placement group; the short intervals of Paxos take most of the seconds out of creating the pools. Without
tcp_nodelay every answer with a body comes 40 ms late: its last part waits until the client acknowledges the first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.servers.installer import run_installer
from tests.servers.program import (
    Access,
    Program,
    ServerFailedError,
    child,
    command_line,
    free_port,
    tail_of,
    wait_until_it_listens,
)

PACKAGES: Final = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
TOOLS: Final = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
KEY: Final = "keepstone-test-key"
SECRET: Final = "keepstone-test-secret"
GUEST: Final = "keepstone-test-guest"
"""Name, key and secret of a user who may do nothing but what a bucket's policy says."""
COMMAND_SECONDS_MAX: Final = 60
STORE_BYTES: Final = 8 * 2**30
"""How much the storage daemon takes before it is full; memory is used as objects come."""

SETTINGS: Final = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = {folder}
admin_socket =
pid_file =
crash_dir = {folder}/crash
log_file = {folder}/$name.log
log_to_stderr = false
debug_default = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[mon]
mon_data = {folder}/mon
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {store_bytes}
[client.rgw]
rgw_data = {folder}/rgw
keyring = {folder}/rgw/keyring
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
"""


def missing() -> str:
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not absent:
        return ""
    return f"Ceph RGW is not installed (no {absent[0]}): python -m tests.servers.rgw --install"


def install() -> None:
    """Install the packages, by apt-get, as root or by sudo.

    Raises:
        ServerFailedError: there is no apt-get, or it failed.
    """
    if not missing():
        return
    apt = ["apt-get"] if os.geteuid() == 0 else ["sudo", "-n", "apt-get"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *PACKAGES]):
        run_installer("Ceph RGW", *apt, *arguments, environment=quiet)


class _Cluster:
    """The tools of one cluster, bound to its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "ceph.conf"
        self.admin = folder / "admin.keyring"

    def run(self, tool: str, *arguments: str) -> str:
        """Run a tool and return what it prints.

        Raises:
            ServerFailedError: it failed.
        """
        done = subprocess.run(
            [tool, *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, cwd=self.folder
        )
        if done.returncode:
            raise ServerFailedError(f"{tool} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *arguments: str) -> str:
        return self.run("ceph", "-c", str(self.settings), "-k", str(self.admin), *arguments)

    def daemon(self, stack: ExitStack, tool: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [tool, "-f", "-c", str(self.settings), *arguments]
        return stack.enter_context(child(command, log=self.folder / f"{tool}.out"))

    def keyring(self, path: Path, name: str, *powers: str) -> None:
        """Make an identity and put its key where its daemon looks."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.ask("auth", "get-or-create", name, *powers))


@contextmanager
def running(folder: Path) -> Iterator[Access]:
    """Run a cluster with nothing in it.

    Raises:
        ServerFailedError: a daemon did not start.
    """
    port, mon_port = free_port(), free_port()
    fsid = str(uuid.uuid4())
    cluster = _Cluster(folder)
    for name in ("crash", "mon", "osd"):
        (folder / name).mkdir(parents=True)
    cluster.settings.write_text(
        SETTINGS.format(fsid=fsid, folder=folder, port=port, mon_port=mon_port, store_bytes=STORE_BYTES)
    )
    with ExitStack() as stack:
        _start_monitor(cluster, stack, fsid, mon_port)
        _start_storage(cluster, stack)
        cluster.keyring(folder / "rgw" / "keyring", "client.rgw", "mon", "allow rw", "osd", "allow rwx")
        gateway = cluster.daemon(stack, "radosgw", "-n", "client.rgw")
        endpoint = f"http://127.0.0.1:{port}"
        try:
            wait_until_it_listens(endpoint, gateway, log=folder / "radosgw.out", seconds=120)
        except ServerFailedError as error:
            raise ServerFailedError(f"{error}\n{tail_of(folder / 'client.rgw.log')}") from error
        for name, key, secret in (("tests", KEY, SECRET), (GUEST, GUEST, GUEST)):
            cluster.run(
                "radosgw-admin",
                *("-c", str(cluster.settings), "-n", "client.rgw"),
                *("user", "create", f"--uid={name}", f"--display-name={name}"),
                *(f"--access-key={key}", f"--secret-key={secret}"),
            )
        yield Access(endpoint, KEY, SECRET)


def _start_monitor(cluster: _Cluster, stack: ExitStack, fsid: str, port: int) -> None:
    monitor, table = cluster.folder / "mon.keyring", cluster.folder / "monmap"
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    cluster.run(
        "ceph-authtool",
        str(monitor),
        "--create-keyring",
        "--gen-key",
        "-n",
        "mon.",
        "--cap",
        "mon",
        "allow *",
    )
    cluster.run(
        "ceph-authtool",
        str(cluster.admin),
        "--create-keyring",
        "--gen-key",
        "-n",
        "client.admin",
        *everything,
    )
    cluster.run("ceph-authtool", str(monitor), "--import-keyring", str(cluster.admin))
    address = f"[v2:127.0.0.1:{port}]"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(table))
    where = ("-c", str(cluster.settings), "-i", "a")
    cluster.run("ceph-mon", "--mkfs", *where, "--monmap", str(table), "--keyring", str(monitor))
    cluster.daemon(stack, "ceph-mon", "-i", "a")


def _start_storage(cluster: _Cluster, stack: ExitStack) -> None:
    own = str(uuid.uuid4())
    cluster.ask("osd", "new", own, "0")
    powers = ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *")
    cluster.keyring(cluster.folder / "osd" / "keyring", "osd.0", *powers)
    where = ("-c", str(cluster.settings), "-i", "0")
    cluster.run("ceph-osd", "--mkfs", *where, "--osd-uuid", own)
    cluster.daemon(stack, "ceph-osd", "-i", "0")


def collect_garbage(folder: Path) -> None:
    """Give back the space of removed objects now; by itself the gateway waits for two hours."""
    cluster = _Cluster(folder)
    settings = ("-c", str(cluster.settings), "-n", "client.rgw")
    cluster.run("radosgw-admin", *settings, "gc", "process", "--include-all")


def version() -> str:
    """Return the release, as "16.2.15"."""
    return subprocess.run(["radosgw", "--version"], capture_output=True, text=True).stdout.split()[2]


PROGRAM: Final = Program("rgw", missing, install, running)

if __name__ == "__main__":
    sys.exit(command_line(PROGRAM))
