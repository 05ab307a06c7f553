from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepstone.storage import platform

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/local\\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/share rw master:3 propagate_from:1 - cifs //nas/share rw
33 22 0:43 / /mnt/over rw - ext4 /dev/sdc rw
34 33 0:44 / /mnt/over rw - lustre mds:/x rw
35 22 0:45 / /mnt/under rw - nfs nas:/x rw
36 35 0:46 / /mnt/under rw - tmpfs tmpfs rw
37 22 0:47 / /mnt/ssh rw - fuse.sshfs me@host: rw
38 22 0:48 / /mnt/ntfs rw - fuseblk /dev/sdd rw
39 22 0:49 / /mnt/unknown rw - fuse.somebodys rw rw
40 22 0:50 / /mnt/host rw - virtiofs host rw
41 22 0:51 / /mnt/wsl rw - 9p C: rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/var/data", False),
        ("/homework", False),
        ("/home", True),
        ("/home/me", True),
        ("/home/me/local disk/runs", False),
        ("/home/me/local", True),
        ("/mnt/share/x", True),
        ("/mnt/over/x", True),
        ("/mnt/under/x", False),
        ("/mnt/ssh/x", True),
        ("/mnt/ntfs/x", False),
        ("/mnt/unknown/x", True),
        ("/mnt/host", True),
        ("/mnt/wsl/Users", True),
    ],
)
def test_the_longest_and_last_mount_tells_whether_it_is_a_network_file_system(
    path: str, expected: bool
) -> None:
    assert platform.network_in_mountinfo(MOUNTINFO, path) is expected


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "9p", "fuse.sshfs", "virtiofs", "ceph"]
)
def test_network_file_systems_are_known(kind: str) -> None:
    assert platform.network_in_mountinfo(f"1 0 0:1 / / rw - {kind} x rw\n", "/x")


def test_where_nothing_is_known_other_machines_are_assumed() -> None:
    assert platform.network_in_mountinfo("", "/x")
    assert platform.network_in_mount_listing("", "/x")


@pytest.mark.parametrize(
    ("path", "expected"), [("/Users/me", False), ("/Volumes/team/x", True), ("/Volumes/a b/x", False)]
)
def test_a_mac_tells_by_its_mount_listing(path: str, expected: bool) -> None:
    listing = (
        "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        "//me@nas/team on /Volumes/team (smbfs, nodev, nosuid, mounted by me)\n"
        "/dev/disk5s1 on /Volumes/a b (apfs, local, nodev)\n"
    )
    assert platform.network_in_mount_listing(listing, path) is expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_place_that_does_not_exist_yet_is_judged_by_the_folder_above_it(tmp_path: Path) -> None:
    expected = platform.is_network_filesystem(str(tmp_path))

    assert platform.is_network_filesystem(str(tmp_path / "not" / "yet")) is expected
    assert platform.nearest_existing(str(tmp_path / "not" / "yet")) == str(tmp_path)
    assert not platform.is_network_filesystem("/proc/self")


def test_the_lock_is_held_by_one_open_file_until_that_is_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert platform.try_lock(first)
        assert platform.try_lock(first)
        assert not platform.try_lock(second)
        os.close(first)
        first = -1
        assert platform.try_lock(second)
    finally:
        for fd in (first, second):
            if fd >= 0:
                os.close(fd)


def test_syncing_works_on_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for path in (tmp_path / "x", tmp_path):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert platform.full_fsync(fd) is None
            assert platform.data_sync(fd) is None
        finally:
            os.close(fd)


def test_on_windows_a_store_is_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1").write_bytes(b"commit")
    code = f"""
import os, sys
import keepstone.foundation.errors, keepstone.storage.base, multiprocessing.util
sys.modules["fcntl"] = None
for name in ("O_TMPFILE", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "pread", "fdatasync", "register_at_fork"):
    if hasattr(os, name):
        delattr(os, name)
os.name = "nt"
import keepstone.storage.platform
os.name = "posix"
from keepstone.foundation.errors import StoragePermissionError
from keepstone.storage.locate import locate
storage = locate({str(tmp_path)!r})
assert not storage.writable
assert not locate({str(tmp_path)!r}, writable=True).writable
assert storage.read("log/1") == b"commit"
assert storage.read_range("log/1", 2, 4) == b"mm"
assert [info.key for info in storage.list("")] == ["log/1"]
try:
    storage.write_new("log/2", b"x")
except StoragePermissionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert "local stores are read-only on Windows in this release" in done.stdout
    assert done.stdout.count("\n") == 1
