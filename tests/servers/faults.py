"""What can go wrong between a client and a bucket, and when it does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from tests.servers.s3_requests import Seen


class Fault(StrEnum):
    """One way of going wrong. "After" means that the request took effect."""

    CUT = "cut"
    """The connection is cut; the server never hears of the request."""
    HALF_SENT = "half-sent"
    """The connection is cut on both sides in the middle of the request's body; where it has none, as `CUT`."""
    LATE = "late"
    """The connection is cut, and the request reaches the server `seconds` later all the same."""
    LOST = "lost"
    """It took effect; the connection is cut instead of the answer."""
    HALF_ANSWERED = "half-answered"
    """It took effect; the connection is cut in the middle of the answer."""
    HANG = "hang"
    """The server never hears of it and nobody answers, until the client gives up."""
    HANG_AFTER = "hang-after"
    """It took effect and nobody answers, until the client gives up."""
    HOLD = "hold"
    """It waits, whole, before it reaches the server, until `Rule.released` is set; also where its client has gone."""
    HOLD_AFTER = "hold-after"
    """It took effect; the answer waits until `Rule.released` is set."""
    SERVER_ERROR = "500"
    SERVER_ERROR_AFTER = "500-after"
    ERROR_IN_200 = "200-error"
    """The completion of a multipart upload may be refused so."""
    SLOW_DOWN = "503"
    TOO_MANY = "429"
    CONFLICT = "409"
    """Two conditional writes met: the client is asked to try again. Nothing took effect."""
    FORBIDDEN = "403"
    NOT_IMPLEMENTED = "501"
    """What a server says that does not know the condition of a write."""
    FAILED_CONDITION = "412"
    """A refusal that is not so: nothing took effect, and the key may be free."""
    FAILED_CONDITION_AFTER = "412-after"
    """A refusal of one's own: it took effect, as where somebody between sent the request twice."""


class Answer(NamedTuple):
    """What the proxy says in the server's place."""

    status: str
    code: str
    details: str = ""

    def body(self) -> bytes:
        text = f"<Error><Code>{self.code}</Code><Message>made by the proxy</Message>{self.details}</Error>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


_REFUSED: Final = Answer(
    "412 Precondition Failed", "PreconditionFailed", "<Condition>If-None-Match</Condition>"
)
_FAILED: Final = Answer("500 Internal Server Error", "InternalError")
ANSWERS: Final = {
    Fault.SERVER_ERROR: _FAILED,
    Fault.SLOW_DOWN: Answer("503 Slow Down", "SlowDown"),
    Fault.TOO_MANY: Answer("429 Too Many Requests", "TooManyRequests"),
    Fault.CONFLICT: Answer("409 Conflict", "ConditionalRequestConflict"),
    Fault.FORBIDDEN: Answer("403 Forbidden", "AccessDenied"),
    Fault.NOT_IMPLEMENTED: Answer("501 Not Implemented", "NotImplemented"),
    Fault.FAILED_CONDITION: _REFUSED,
    Fault.ERROR_IN_200: Answer("200 OK", "InternalError"),
}
"""Answers to requests that the server never hears of."""
ANSWERS_AFTER: Final = {Fault.SERVER_ERROR_AFTER: _FAILED, Fault.FAILED_CONDITION_AFTER: _REFUSED}

AFTER: Final = {Fault.LOST, Fault.HALF_ANSWERED, Fault.HANG_AFTER, Fault.HOLD_AFTER, *ANSWERS_AFTER}
"""Those of requests that took effect, if the server did not refuse them."""


@dataclass
class Rule:
    """A fault, and the requests that it befalls: the `nth` that matches, and so many `times` in a row."""

    fault: Fault
    kind: str = ""
    """A kind of `s3_requests.Seen`, or how it begins ("multipart"); empty: every one."""
    key: str = ""
    """What the key must hold."""
    nth: int = 1
    times: int | None = 1
    """None: for ever."""
    seconds: float = 0.5
    """How late, for `Fault.LATE`."""
    matched: int = 0
    struck: int = 0
    """How many requests it befell: 0 after a run that had fewer than `nth`."""
    arrived: threading.Event = field(default_factory=threading.Event)
    """Set when it befell a request: when that is whole, where it is held; when it took effect, where it fails after."""
    released: threading.Event = field(default_factory=threading.Event)

    def strikes(self, request: Seen) -> bool:
        """Count a request that came; return whether it is befallen. Not safe among threads."""
        if not request.kind.startswith(self.kind) or self.key not in request.key:
            return False
        self.matched += 1
        if self.matched < self.nth or (self.times is not None and self.matched >= self.nth + self.times):
            return False
        self.struck += 1
        return True
