"""What differs between operating systems and file systems, all of it.

Layer: storage. Linux and macOS are complete; on Windows everything can be imported and read, and nothing is
written. `flock` locks are taken here and never given back but by closing: a LOCK_UN in a forked child would
free its parent's.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import weakref
from typing import Final, Protocol

from keepstone.foundation.errors import StorageError

IS_WINDOWS: Final = os.name == "nt"
IS_MACOS: Final = sys.platform == "darwin"

O_TMPFILE: Final[int] = getattr(os, "O_TMPFILE", 0)
"""0 where unnamed files do not exist."""
O_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
OPEN_READ: Final[int] = os.O_RDONLY | O_NOFOLLOW | getattr(os, "O_BINARY", 0)
OPEN_FOLDER: Final[int] = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)

_MOUNTINFO: Final = "/proc/self/mountinfo"
# fmt: off
_NETWORK_TYPES: Final = frozenset(
    (
        "9p", "acfs", "afs", "afpfs", "autofs", "beegfs", "ceph", "cifs", "coda", "cvfs", "drvfs", "gfs",
        "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs",
        "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav", "wekafs",
    )
)
_FLEETING_TYPES: Final = frozenset(("overlay", "aufs", "tmpfs", "ramfs", "rootfs", "devtmpfs", "zram"))
"""What is written there is gone with the power, or with the container."""
_LOCAL_FUSE_TYPES: Final = frozenset(
    (
        "fuseblk", "fuse.bindfs", "fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs",
        "fuse.ntfs-3g", "fuse.securefs",
    )
)
# fmt: on
_SYNC_UNSUPPORTED: Final = frozenset((errno.ENOTSUP, errno.EINVAL, errno.ENOTTY))
_LOCK_TAKEN: Final = frozenset((errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES))


def host_name() -> str:
    """Return this machine's name, as it may stand in a file name."""
    name = os.uname().nodename if hasattr(os, "uname") else "host"
    return re.sub(r"[^A-Za-z0-9-]", "-", name)[:40] or "host"


# ---- bringing bytes to the medium ----------------------------------------------------------------


def full_fsync(fd: int) -> None:
    """Fsync through the drive's own cache; macOS needs a call of its own for that."""
    if IS_MACOS:
        _full_fsync_macos(fd)
    else:
        os.fsync(fd)


def data_sync(fd: int) -> None:
    """Bring content and size to the medium, without the times where that is cheaper."""
    if IS_MACOS or not hasattr(os, "fdatasync"):
        full_fsync(fd)
    else:
        os.fdatasync(fd)


def _full_fsync_macos(fd: int) -> None:
    import fcntl

    # 51 is F_FULLFSYNC in macOS's <sys/fcntl.h>; Python has the name on macOS only.
    try:
        fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC", 51))
    except OSError as error:
        if error.errno not in _SYNC_UNSUPPORTED:
            raise
        os.fsync(fd)


# ---- locks ---------------------------------------------------------------------------------------


def try_lock(fd: int) -> bool:
    """Whether the open file `fd` now holds the exclusive lock of its file; never waits.

    Raises:
        StorageError: the file system has no locks.
    """
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCK_TAKEN:
            return False
        raise StorageError(
            f"this file system cannot lock files: {error.strerror}", hint="keep the store on a local disk"
        ) from error
    return True


class HasLock(Protocol):
    """An object with a lock that a fork may have caught while it was held."""

    _lock: threading.Lock


_holders: weakref.WeakSet[HasLock] = weakref.WeakSet()


def renew_lock_after_fork(holder: HasLock) -> None:
    """Give `holder` a new `_lock` in every forked child; only for locks around short, complete changes."""
    _holders.add(holder)


def _renew_locks() -> None:
    for holder in _holders:
        holder._lock = threading.Lock()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


# ---- files ---------------------------------------------------------------------------------------


def has_unnamed_files() -> bool:
    """Whether the system knows files without a name, and a way to name them later."""
    return bool(O_TMPFILE) and os.path.isdir("/proc/self/fd")


def can_write(path: str) -> bool:
    """Whether this user may write into the folder `path`, or make it where it does not exist yet."""
    if IS_WINDOWS:
        return False
    return os.access(
        nearest_existing(path), os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    )


def nearest_existing(path: str) -> str:
    """Return `path`, or the nearest folder above it that exists."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


if hasattr(os, "pread"):
    pread = os.pread
else:
    _position_lock = threading.Lock()

    def pread(fd: int, length: int, offset: int, /) -> bytes:
        """Return up to `length` bytes from `offset`."""
        with _position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)


# ---- file systems --------------------------------------------------------------------------------


def is_network_filesystem(path: str) -> bool:
    """Whether other machines may share the file system of `path`, so that `flock` says nothing about them.

    True also where nobody can tell: trusting a lock that does not lock would lose data.
    """
    place = os.path.realpath(nearest_existing(path))
    try:
        if IS_MACOS:
            return network_in_mount_listing(_mount_listing_macos(), place)
        return network_in_mountinfo(_mountinfo(), place)
    except OSError:
        return True


def is_fleeting_filesystem(path: str) -> bool:
    """Whether `path` lies in memory or in a container's own layer, so that syncing says little. Linux only."""
    if IS_MACOS:
        return False
    try:
        return _type_in_mountinfo(_mountinfo(), os.path.realpath(nearest_existing(path))) in _FLEETING_TYPES
    except OSError:
        return True


def _mountinfo() -> str:
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def network_in_mountinfo(mountinfo: str, path: str) -> bool:
    """Whether `path` lies on a network file system according to the text of Linux's /proc/self/mountinfo."""
    kind = _type_in_mountinfo(mountinfo, path)
    return not kind or _is_network_type(kind)


def _type_in_mountinfo(mountinfo: str, path: str) -> str:
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        mount = _unescaped(fields[4])
        # Of several mounts on one folder the last one is visible.
        if _lies_in(path, mount) and len(mount) >= best:
            best, kind = len(mount), after.split(" ", 1)[0]
    return kind


def network_in_mount_listing(listing: str, path: str) -> bool:
    """Whether `path` lies on a network file system, by macOS's `mount`: `x on /y (apfs, local, …)`."""
    best, options = -1, ""
    for line in listing.splitlines():
        before, bracket, inside = line.rpartition(" (")
        _, on, mount = before.partition(" on ")
        if bracket and on and _lies_in(path, mount) and len(mount) >= best:
            best, options = len(mount), inside.rstrip(")")
    return "local" not in options.split(", ")


def _mount_listing_macos() -> str:
    import subprocess

    return subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=10, check=False).stdout


def _is_network_type(kind: str) -> bool:
    # A FUSE file system can be anything; only those known to sit on a local disk are trusted.
    if kind.startswith("fuse"):
        return kind not in _LOCAL_FUSE_TYPES
    return kind in _NETWORK_TYPES


def _lies_in(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(folder + "/")


def _unescaped(text: str) -> str:
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, character)
    return text
