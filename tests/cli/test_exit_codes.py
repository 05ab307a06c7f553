"""One table from errors to exit codes, complete and as documented."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keepstone.cli import exit_codes
from keepstone.foundation import errors
from keepstone.foundation.errors import KeepstoneError


def subclasses(kind: type[KeepstoneError]) -> Iterator[type[KeepstoneError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


OWN = sorted(set(subclasses(KeepstoneError)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_every_error_class_has_a_code_that_is_not_a_bug(kind: type[KeepstoneError]) -> None:
    assert exit_codes.exit_code(kind) in set(exit_codes.MEANINGS) - {exit_codes.OK, exit_codes.BUG}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidInputError, 2),
        (errors.SerializerError, 2),
        (errors.StoreNotFoundError, 3),
        (errors.ArtifactNotFoundError, 3),
        (errors.KeyNotFoundError, 3),
        (errors.BlobNotFoundError, 5),
        (errors.ConfigChangedError, 4),
        (errors.RefConflictError, 4),
        (errors.KindError, 4),
        (errors.DigestMismatchError, 5),
        (errors.MalformedError, 5),
        (errors.StorageFullError, 6),
        (errors.StoragePermissionError, 6),
        (errors.UnsupportedFormatError, 7),
        (KeyboardInterrupt, 130),
        (PermissionError, 6),
        (FileNotFoundError, 3),
        (ZeroDivisionError, 1),
    ],
)
def test_code_of(kind: type[BaseException], code: int) -> None:
    assert exit_codes.exit_code(kind) == code


def test_every_code_has_a_meaning() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}

    assert codes == set(exit_codes.MEANINGS)
