"""Defects of the storage layer: what is not synced, and names that are given twice."""

from __future__ import annotations

from typing import Final

from tests.faults.defect import Defect

STORAGE_DEFECTS: Final = (
    Defect(
        "file not synced",
        "An object gets its name before its bytes are on the disk.",
        "keepstone.storage.local",
        (("            uninterrupted(self.calls.fsync, draft.fd)\n", ""),),
        "tests/storage/test_local_faults.py::test_the_order_is_write_fsync_link_fsync_of_the_folder",
    ),
    Defect(
        "folder not synced",
        "A new object's name is not brought to the disk.",
        "keepstone.storage.local",
        (
            (
                "without it.\n                self.folders.sync(folder)\n",
                "without it.\n",
            ),
        ),
        "tests/storage/test_local_faults.py::test_the_order_is_write_fsync_link_fsync_of_the_folder",
    ),
    Defect(
        "sync tried again",
        "After a failed fsync the same file is synced again, which then succeeds without having written.",
        "keepstone.storage.local",
        (
            (
                "            uninterrupted(self.calls.fsync, draft.fd)\n",
                "            try:\n"
                "                self.calls.fsync(draft.fd)\n"
                "            except OSError:\n"
                "                self.calls.fsync(draft.fd)\n",
            ),
        ),
        "tests/storage/test_local_faults.py::test_a_failed_fsync_is_never_tried_again_on_the_same_file",
    ),
    Defect(
        "EEXIST taken as success",
        "Writing to a key that is taken seems to succeed.",
        "keepstone.storage.local",
        (
            (
                "        if not landed:\n            raise ObjectExistsError(",
                "        if False:\n            raise ObjectExistsError(",
            ),
        ),
        "tests/storage/test_local.py::TestLocalStorage::test_a_taken_key_keeps_its_bytes",
    ),
    Defect(
        "name given by rename",
        "A temporary file gets its name even where that is taken: slots are overwritten.",
        "keepstone.storage.draft",
        (
            (
                "uninterrupted(self._calls.link, self._temporary, name, folder=self._folder)",
                "uninterrupted(self._calls.rename, self._temporary, name, folder=self._folder)",
            ),
        ),
        "tests/storage/test_local.py::TestLocalStorage::test_of_racing_writers_exactly_one_wins",
    ),
    Defect(
        "lockf for flock",
        "Locks belong to the process: a second opening of a store takes the journals of the first.",
        "keepstone.storage.platform",
        (("fcntl.flock(fd, ", "fcntl.lockf(fd, "),),
        "tests/storage/test_platform.py::test_the_lock_is_held_by_one_open_file_until_that_is_closed",
    ),
)
