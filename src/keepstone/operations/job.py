"""A job: a block of code whose inputs, outputs and surroundings are kept as one artifact.

Layer: operations. What it keeps is content, so a block that did the same again, from the same inputs, in the same
surroundings, makes no new version: no time stands in it. When it began and how long it took stands in the message of
its commit.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from keepstone.foundation.errors import InvalidInputError, KeepstoneError
from keepstone.foundation.format import Form
from keepstone.foundation.names import check_name
from keepstone.objects.plain import encode_value
from keepstone.objects.redact import redact
from keepstone.operations.surroundings import Surroundings, imported_packages, surroundings
from keepstone.repository.arguments import check_message
from keepstone.repository.refs import check_kind, read_name_ref
from keepstone.repository.tracking import Tracked, enter, innermost, note_saved, untracked

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository
    from keepstone.repository.version import Version

_NONE_YET: Final = Surroundings({}, ())


class Job:
    """What `store.track` gives: `with store.track("train", config=config) as job:`.

    Versions that are read inside become parents of what is saved inside. Belongs to the process that began it.
    """

    def __init__(
        self, repository: Callable[[], Repository], name: str, config: object = None, message: str = ""
    ) -> None:
        check_name(name)
        check_message(message)
        repository().session.require_writable()
        self.name = name
        self._repository = repository
        """Asked for each time: the store may have been closed."""
        self._message = message
        clean = redact(_plain(config), "config")
        self._config, self._removed = clean.value, clean.removed
        self._tracked: Tracked | None = None
        self._around = _NONE_YET
        self._began = 0.0
        self._version: Version | None = None
        self._process = os.getpid()

    def __enter__(self) -> Job:
        if self._tracked is not None:
            raise InvalidInputError(
                f"job {self.name!r} was begun before", hint="begin another one with store.track()"
            )
        session = self._repository().session
        session.refresh()
        value = session.log.state.refs.get(self.name)
        if value is not None:
            check_kind(read_name_ref(value, self.name), self.name, "artifact")
        # The code as it is now is what runs: an edit while it runs changes nothing.
        self._around = surroundings()
        self._began = time.time()
        self._tracked = Tracked(innermost())
        enter(self._tracked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tracked = self._tracked
        assert tracked is not None
        enter(tracked.outer)
        if os.getpid() != self._process:
            # A forked child that leaves the block: its parent keeps the job.
            return
        try:
            self._version = self._keep(tracked, kind)
        except KeepstoneError as problem:
            if error is None:
                raise
            error.add_note(f"keepstone: job {self.name!r} could not be kept: {problem}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Digests of the versions that were read so far, in order."""
        return tuple(self._tracked.inputs) if self._tracked else ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Digests of the versions that were saved so far, in order."""
        return tuple(self._tracked.outputs) if self._tracked else ()

    @property
    def removed(self) -> tuple[str, ...]:
        """Where credentials were left out of what is kept: `config.api_key`, `command[3]`, `git.diff`."""
        return (*self._removed, *self._around.removed)

    @property
    def version(self) -> Version:
        """The artifact that the job was kept as.

        Raises:
            InvalidInputError: the block has not ended.
        """
        if self._version is None:
            raise InvalidInputError(
                f"job {self.name!r} is not kept yet", hint="ask for it after the `with` block"
            )
        return self._version

    def _keep(self, tracked: Tracked, failure: type[BaseException] | None) -> Version:
        seconds = time.time() - self._began
        packages = imported_packages()
        # Copied: a thread that has the context may go on reading while the block ends.
        inputs, outputs = dict(tracked.inputs), dict(tracked.outputs)
        content = {
            "config": self._config,
            **self._around.facts,
            "packages": packages,
            "inputs": _listed(inputs),
            "outputs": _listed(outputs),
            # The type alone: a message may hold anything.
            "failed": failure.__name__ if failure else None,
            "removed": list(self.removed),
        }
        if tracked.left_out:
            content["left_out"] = tracked.left_out
        began = datetime.datetime.fromtimestamp(self._began, datetime.UTC).isoformat(timespec="seconds")
        timing = f"began {began}, took {seconds:.1f} s"
        with untracked():
            version = self._repository().save(
                self.name,
                content,
                parents=tuple(inputs | outputs),
                message=f"{self._message}\n\n{timing}" if self._message else timing,
            )
        note_saved(version)
        return version


def _listed(seen: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "digest": digest} for digest, name in seen.items()]


def _plain(config: object) -> Any:
    encoded = encode_value(config)
    if encoded is None or encoded[0] == Form.BYTES:
        raise InvalidInputError(
            f"config is of type {type(config).__name__}",
            hint="use a dict, a list, text, a number, or a class with fields",
        )
    return encoded[1].decode() if encoded[0] == Form.TEXT else msgspec.json.decode(encoded[1])
