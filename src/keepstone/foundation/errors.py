"""Every exception that Keepstone raises on purpose, grouped by what the caller can do about it.

Layer: foundation. Each error carries its facts as typed fields, says in `hint` what to do, and survives pickle,
so that it crosses process pools whole. Exit codes stand in one table in `cli`.
"""

from __future__ import annotations


class KeepstoneError(Exception):
    """Base of all errors; `hint` says what to do, in one sentence (may be empty)."""

    hint: str

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, OSError an errno that we do not have.
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(kind: type[KeepstoneError], message: str, facts: dict[str, object]) -> KeepstoneError:
    # Of two bases LookupError stands first, and its __new__ refuses to make an OSError.
    make = OSError.__new__ if issubclass(kind, OSError) else Exception.__new__
    error = make(kind, message)
    error.args = (message,)
    error.__dict__.update(facts)
    return error


# ---- the call is wrong: fix it -------------------------------------------------------------------------------------


class InvalidInputError(KeepstoneError, ValueError):
    """An argument cannot be accepted; the message shows it quoted."""


# ---- it is not there: ask for what exists --------------------------------------------------------------------------


class NotFoundError(KeepstoneError, LookupError):
    """What was asked for does not exist."""


class StoreNotFoundError(NotFoundError, FileNotFoundError):
    """No store at this place; reading commands never create one."""

    def __init__(self, message: str, *, location: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.location = location


class ArtifactNotFoundError(NotFoundError):
    """No such name, version or alias; `near` lists existing names that are spelled alike."""

    def __init__(self, message: str, *, selector: str, near: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.selector = selector
        self.near = near


class KeyNotFoundError(NotFoundError, KeyError):
    """A collection has no such key."""

    def __init__(self, message: str, *, collection: str, key: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.collection = collection
        self.key = key


class BlobNotFoundError(NotFoundError):
    """No live pack or journal holds this digest."""

    def __init__(self, message: str, *, digest: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.digest = digest


class HistoryGoneError(NotFoundError):
    """A moment was asked for of which not everything is kept any more; `since` is the earliest that is (RFC 3339)."""

    def __init__(self, message: str, *, name: str, since: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.since = since


class ObjectNotFoundError(NotFoundError):
    """A storage medium has no object under this key."""

    def __init__(self, message: str, *, key: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


# ---- someone was first, or the work changed ------------------------------------------------------------------------


class ConflictError(KeepstoneError):
    """Somebody else's change, or one's own earlier one, stands in the way."""


class ObjectExistsError(ConflictError):
    """`write_new` found the key taken; nothing was changed."""

    def __init__(self, message: str, *, key: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class RefConflictError(ConflictError):
    """A ref is not at the value that the caller expected."""

    def __init__(self, message: str, *, name: str, expected: str, found: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.expected = expected
        self.found = found


class DivergedError(ConflictError):
    """Two histories of one store have parted: the log is not a continuation of what was seen before."""


class ConfigChangedError(ConflictError):
    """A result set was made under another configuration; continuing would mix answers."""

    def __init__(self, message: str, *, name: str, changes: tuple[str, ...], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.changes = changes


class KindError(ConflictError):
    """A name is an artifact or a collection, fixed at its first write."""

    def __init__(self, message: str, *, name: str, kind: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.kind = kind


# ---- bytes are not what they must be: fsck, repair -----------------------------------------------------------------


class CorruptionError(KeepstoneError):
    """Stored bytes are damaged; nothing wrong was returned."""


class DigestMismatchError(CorruptionError):
    """Bytes read as another blob than the one asked for."""

    def __init__(self, message: str, *, expected: str, actual: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.expected = expected
        self.actual = actual


class MalformedError(CorruptionError):
    """Bytes do not follow the format; `where` names the object, `offset` is in bytes."""

    def __init__(self, message: str, *, where: str = "", offset: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.where = where
        self.offset = offset


# ---- written by a newer release: upgrade ---------------------------------------------------------------------------


class UnsupportedFormatError(KeepstoneError):
    """The store, or an object in it, needs a newer release."""

    def __init__(self, message: str, *, found: str, supported: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.found = found
        self.supported = supported


# ---- values: register or install a serializer ----------------------------------------------------------------------


class SerializerError(KeepstoneError, TypeError):
    """A value cannot be written, or not be built again, by any serializer at hand."""


class SecretsWarning(UserWarning):
    """What was saved looks like it holds credentials; the message says where and of what kind, never which."""


# ---- the medium ----------------------------------------------------------------------------------------------------


class StorageError(KeepstoneError, OSError):
    """The medium failed. `landed` is true when the change has happened all the same: do not repeat it."""

    def __init__(self, message: str, *, path: str = "", landed: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.landed = landed


class StorageBusyError(StorageError):
    """Another process holds what this one needs, or a server did not answer; it may work a little later."""


class StoragePermissionError(StorageError, PermissionError):
    """The medium refuses this user."""


class StorageFullError(StorageError):
    """No space is left; `needed` is in bytes."""

    def __init__(
        self, message: str, *, path: str = "", needed: int = 0, landed: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, path=path, landed=landed, hint=hint)
        self.needed = needed


class UnsafeStorageError(StorageError):
    """The medium cannot create-if-absent atomically, so several writers would lose data on it."""


# ---- paths of the filesystem: what programs expect to be told by one -----------------------------------------------


class PathNotFoundError(ArtifactNotFoundError, FileNotFoundError):
    """No such name, version or file; `selector` is the path."""


class PathExistsError(ConflictError, FileExistsError):
    """A file was to be made anew, and is there."""


class PathIsFolderError(InvalidInputError, IsADirectoryError):
    """A file was meant, and this is a folder."""


class PathReadOnlyError(InvalidInputError, PermissionError):
    """What was asked for would change a version, or what a name means, in a way that a filesystem does not offer."""
