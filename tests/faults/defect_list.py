"""All defects: mistakes that somebody might make, or has made in another store. Each layer has its file."""

from __future__ import annotations

from typing import Final

from tests.faults.defects_of_blobs import BLOBS_DEFECTS
from tests.faults.defects_of_history import HISTORY_DEFECTS
from tests.faults.defects_of_operations import OPERATIONS_DEFECTS
from tests.faults.defects_of_repository import REPOSITORY_DEFECTS
from tests.faults.defects_of_storage import STORAGE_DEFECTS

DEFECTS: Final = {
    defect.name: defect
    for defect in (
        *STORAGE_DEFECTS,
        *BLOBS_DEFECTS,
        *HISTORY_DEFECTS,
        *REPOSITORY_DEFECTS,
        *OPERATIONS_DEFECTS,
    )
}
