"""The ways in which a request to a bucket goes wrong, and which of them an operation meets."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.servers.faults import Fault


class Way(NamedTuple):
    """How the k-th of some requests goes wrong: once, or from then on."""

    fault: Fault
    kind: str = ""
    """As `faults.Rule.kind`."""
    forever: bool = False

    def __str__(self) -> str:
        parts = (self.fault.value, self.kind, "for-ever" if self.forever else "once")
        return "-".join(part for part in parts if part)


_ANY: Final = (
    Way(Fault.CUT),
    Way(Fault.HALF_ANSWERED),
    Way(Fault.SLOW_DOWN),
    Way(Fault.FORBIDDEN),
    Way(Fault.HANG),
    Way(Fault.CUT, forever=True),
    Way(Fault.SLOW_DOWN, forever=True),
    Way(Fault.FORBIDDEN, forever=True),
    Way(Fault.HANG, forever=True),
)
_PUTS: Final = (
    Way(Fault.LOST, "put"),
    Way(Fault.FAILED_CONDITION_AFTER, "put"),
    Way(Fault.CONFLICT, "put"),
    Way(Fault.HALF_SENT, "put"),
    Way(Fault.LATE, "put"),
    Way(Fault.SERVER_ERROR_AFTER, "put"),
    Way(Fault.HANG_AFTER, "put"),
    Way(Fault.FAILED_CONDITION, "put"),
    Way(Fault.LOST, "put", forever=True),
    Way(Fault.CONFLICT, "put", forever=True),
)
"""What took effect, or may, differs for requests that write."""
_OTHER_WRITES: Final = (
    Way(Fault.LOST, "delete"),
    Way(Fault.LATE, "delete"),
    Way(Fault.LOST, "multipart"),
    Way(Fault.LATE, "multipart"),
    Way(Fault.HALF_SENT, "multipart"),
    Way(Fault.SERVER_ERROR_AFTER, "multipart"),
    Way(Fault.CONFLICT, "multipart-complete"),
    Way(Fault.ERROR_IN_200, "multipart-complete"),
    Way(Fault.FAILED_CONDITION_AFTER, "multipart-complete"),
    Way(Fault.LOST, "multipart", forever=True),
)
ALL: Final = (*_ANY, *_PUTS, *_OTHER_WRITES)
READING: Final = (_ANY[0], _ANY[1], _ANY[3], _ANY[4], _ANY[5], _ANY[7])
"""Those of operations that change nothing."""
EVERYDAY: Final = (
    _PUTS[0],
    _ANY[5],
    _PUTS[1],
    _ANY[1],
    _PUTS[8],
    _PUTS[2],
    _ANY[0],
    _PUTS[4],
    _ANY[2],
    _PUTS[3],
)
"""In the everyday run each operation meets two of them."""
