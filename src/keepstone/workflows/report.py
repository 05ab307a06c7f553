"""The report of a run: what was there, what was done, what failed, and why it ended.

Layer: workflows. Counts are items.
"""

from __future__ import annotations

import msgspec

from keepstone.foundation.names import plural

FAILURES_SHOWN_MAX = 5


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a run went."""

    name: str
    """The result set."""
    present: int = 0
    """Were there already."""
    done: int = 0
    """Answered and kept by this run."""
    failed: int = 0
    """Failed in this run; kept apart."""
    failed_before: int = 0
    """Failed in an earlier run and were not tried again."""
    duplicates: int = 0
    """Repeated an earlier item, word for word."""
    withdrawn: int = 0
    """Answers taken back and asked again, because a program printed more objects than it was given."""
    left: int | None = None
    """Still to do; None where the number of items is not known."""
    seconds: float = 0.0
    interrupted: bool = False
    stopped: str = ""
    """Why the run ended early; empty if it did not."""
    config: str = ""
    removed: tuple[str, ...] = ()
    """Where credentials were removed from the configuration."""
    first_failures: tuple[tuple[str, str], ...] = ()
    """Key and error of the first few failures."""
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every item has an answer."""
        return not (self.failed or self.failed_before or self.left or self.interrupted or self.stopped)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the report as lines to read."""
        took = f" in {self.seconds:.1f} s" if self.seconds >= 0.1 else ""
        lines = [
            f"{self.name}: {self.done:,} done{took}, {self.failed:,} failed, {self.present:,} were there before"
        ]
        lines += [f"  {key[:60]!r}: {error.splitlines()[0][:200]}" for key, error in self.first_failures]
        if self.failed > len(self.first_failures):
            lines.append(f"  … and {self.failed - len(self.first_failures):,} more")
        if self.duplicates:
            lines.append(
                f"{self.duplicates:,} repeated an earlier item word for word and were not asked again"
            )
        if self.withdrawn:
            lines.append(f"{plural(self.withdrawn, 'answer')} taken back and asked again")
        if self.failed_before:
            lines.append(f"{self.failed_before:,} failed earlier and were not tried again")
        if self.interrupted:
            lines.append("interrupted; everything that was answered is kept")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        if self.left:
            lines.append(f"{self.left:,} still to do")
        if self.removed:
            lines.append(f"credentials removed from the configuration: {', '.join(self.removed)}")
        lines.extend(self.notes)
        return lines
