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


def _each(kind: str, *faults: Fault, forever: bool = False) -> tuple[Way, ...]:
    return tuple(Way(fault, kind, forever) for fault in faults)


_ANY: Final = (
    *_each("", Fault.CUT, Fault.HALF_ANSWERED, Fault.SLOW_DOWN, Fault.FORBIDDEN, Fault.HANG),
    *_each("", Fault.CUT, Fault.SLOW_DOWN, Fault.FORBIDDEN, Fault.HANG, forever=True),
)
_PUTS: Final = (
    *_each("put", Fault.LOST, Fault.FAILED_CONDITION_AFTER, Fault.CONFLICT, Fault.HALF_SENT, Fault.LATE),
    *_each("put", Fault.SERVER_ERROR_AFTER, Fault.HANG_AFTER, Fault.FAILED_CONDITION),
    *_each("put", Fault.LOST, Fault.CONFLICT, forever=True),
)
"""What took effect, or may, differs for requests that write."""
_OTHER_WRITES: Final = (
    *_each("delete", Fault.LOST, Fault.LATE),
    *_each("multipart", Fault.LOST, Fault.LATE, Fault.HALF_SENT, Fault.SERVER_ERROR_AFTER),
    *_each("multipart-complete", Fault.CONFLICT, Fault.ERROR_IN_200, Fault.FAILED_CONDITION_AFTER),
    *_each("multipart", Fault.LOST, forever=True),
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
