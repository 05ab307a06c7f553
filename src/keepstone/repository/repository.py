"""The repository: names and values of one store, joined from blobs, history and objects.

Layer: repository. A save writes content first and decides last, in one commit; until then nothing refers to it, so a
crash leaves garbage, never a broken artifact. Numbers are given by the commit that wins, so saves never conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError, StorageError
from keepstone.foundation.format import Origin
from keepstone.foundation.names import check_alias, check_name, parse_selector
from keepstone.history.commit import Commit, Draft
from keepstone.history.state import State
from keepstone.history.validate import Rule, StaleDraftError
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.registry import Registry
from keepstone.objects.serializer import Reader
from keepstone.objects.standard import standard_registry
from keepstone.repository.arguments import check_message, check_save, listed
from keepstone.repository.name_view import VersionGoneError
from keepstone.repository.naming import Naming
from keepstone.repository.refs import read_name_ref
from keepstone.repository.removal import remove_collection
from keepstone.repository.sealer import Sealer
from keepstone.repository.secret_watch import Secrets, SecretWatch
from keepstone.repository.session import Session
from keepstone.repository.sketch import ANY, Sketch
from keepstone.repository.staging import Restage, Staging
from keepstone.repository.tracking import with_tracked
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.transaction import Transaction

RESTAGES_MAX: Final = 16

S = TypeVar("S")


class Repository:
    """Names ↔ values of one store."""

    def __init__(self, session: Session, sealer: Sealer) -> None:
        self.session = session
        self.sealer = sealer
        self.registry: Registry = standard_registry()
        self.naming = Naming(session)
        self.naming.repository = self
        self._counts: dict[str, tuple[object, int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        from keepstone.repository.opening import reopen_repository

        session = self.session
        return (reopen_repository, (session.storage.location, session.writable, session.offline))

    # ---- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: Iterable[str | Version] = (),
        aliases: Iterable[str] = (),
        message: str = "",
        expected: str | None = ANY,
        serializer: str | None = None,
        secrets: Secrets = "warn",
    ) -> Version:
        """Keep `value` as the next version of `name`, published when this returns.

        See `Store.save`.
        """
        self.session.require_writable()
        check_message(message)
        wanted = check_save(name, metadata, aliases)
        origins = self.parents_of(parents, self.resolve)
        for _ in range(RESTAGES_MAX):
            staging = Staging(self.session)
            version = self.stage_version(
                staging,
                name,
                value,
                metadata=metadata,
                parents=origins,
                serializer=serializer,
                secrets=secrets,
            )
            staging.settle()
            try:
                self.decide(
                    lambda sketch, digest=version.digest_bytes: sketch.save(name, digest, wanted, expected),
                    staging,
                    message,
                    lambda saved, sketch, version=version: sketch.settle(version, saved),
                )
            except Restage:
                continue
            return version
        raise too_fast()

    def parents_of(
        self, parents: Iterable[str | Version], resolve: Callable[[str], Version]
    ) -> tuple[str, ...]:
        """Return the digests of the versions that `parents` name, and of those that a track has seen."""

        def digest_of(parent: str | Version) -> str:
            if isinstance(parent, Version):
                return parent.digest
            if isinstance(parent, str) and parent.startswith("b3:"):  # pyright: ignore[reportUnnecessaryIsInstance]
                return str(Digest.parse(parent))
            return resolve(parent).digest

        return with_tracked(tuple(digest_of(parent) for parent in listed(parents, "parents")))

    def stage_version(
        self,
        staging: Staging,
        name: str,
        value: object,
        *,
        metadata: Mapping[str, Any] | None,
        parents: tuple[str, ...],
        serializer: str | None,
        secrets: Secrets,
    ) -> Version:
        """Stage a value; return the version that has no number yet."""
        digest = self.stage_artifact(
            staging,
            value,
            metadata=metadata,
            parents=parents,
            serializer=serializer,
            secrets=secrets,
            name=name,
        )
        return self.staged_version(staging, name, digest)

    def staged_version(self, staging: Staging, name: str, digest: Digest) -> Version:
        """Return the version, without a number yet, of a manifest that was staged."""
        manifest = decode_manifest(b"".join(staging.stream_blob(digest)))
        return Version(self, name, None, digest, 0, manifest, staging=staging)

    def decide(
        self,
        steps: Callable[[Sketch], S],
        staging: Staging,
        message: str,
        then: Callable[[S, Sketch], object] | None = None,
    ) -> S:
        """Commit what `steps` make of the names; return what they returned.

        They are taken again, on a new sketch, whenever others were first. Nothing is committed where they come to
        nothing. `then` gets the sketch that counts, also where the commit stands and an error is raised all the same.

        Raises:
            Restage: what was staged relies on a pack that is not live any more.
        """
        taken: list[tuple[S, Sketch]] = []

        def build(state: State) -> Draft | None:
            sketch = Sketch(self.session, self.naming, state)
            try:
                taken[:] = [(steps(sketch), sketch)]
            except VersionGoneError as error:
                # Another thread has seen what comes after this state: build on that.
                raise StaleDraftError(str(error), rule=Rule.REF, hint="try again") from error
            return sketch.draft(staging, message)

        try:
            commit = self.session.log.append(build)
        except Restage:
            self.session.refresh()
            raise
        except StorageError as error:
            if error.landed and then is not None:
                then(*taken[0])
            raise
        if then is not None:
            taken[0][1].commit = commit
            then(*taken[0])
        self.session.catch_up()
        if commit is not None and commit.added:
            self.sealer.merge_if_crowded()
        return taken[0][0]

    def stage_artifact(
        self,
        staging: Staging,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: tuple[str, ...] = (),
        serializer: str | None = None,
        secrets: Secrets = "off",
        name: str = "",
    ) -> Digest:
        """Stage a value's parts and manifest; return the manifest's digest, which is the artifact's."""
        chosen, dumped = self.registry.dump(value, serializer)
        watch = SecretWatch(name, chosen.id, secrets)
        watch.look_before(dumped, metadata)
        parts: list[Part] = []
        for source in dumped.parts:
            digest, size = staging.add_content(partial(watch.passing, source))
            watch.passed(source.path, known=staging.found_in_store(digest))
            parts.append(Part(source.path, digest, size, source.mode))
        watch.warn()
        manifest = Manifest(
            serializer=chosen.id,
            serializer_version=chosen.version,
            type_name=dumped.type_name,
            parts=tuple(parts),
            metadata=dict(metadata or {}),
            parents=parents,
            packages=dumped.packages,
            detail=dumped.detail,
        )
        return staging.add_bytes(encode_manifest(manifest))

    def commit_staged(
        self,
        stage: Callable[[Staging], S],
        build: Callable[[Staging, State, S], Draft | None],
        *,
        origin: Origin = Origin.SAVE,
    ) -> Commit | None:
        """Stage content, then commit what `build` makes of it; stage again if what it relied on was dropped."""
        for _ in range(RESTAGES_MAX):
            staging = Staging(self.session, origin)
            try:
                staged = stage(staging)
                staging.settle()
                commit = self.session.log.append(lambda state, s=staging, t=staged: build(s, state, t))
            except Restage:
                self.session.refresh()
                continue
            self.session.catch_up()
            self.sealer.merge_if_crowded()
            return commit
        raise too_fast()

    # ---- loading -----------------------------------------------------------------------------------------------------

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means now."""
        return self.naming.resolve(selector)

    def load(self, selector: str, type: Any = None, *, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value of the version that `selector` means."""
        return self.resolve(selector).load(type, allow_pickle=allow_pickle)

    def load_manifest(
        self,
        manifest: Manifest,
        type: Any,  # noqa: A002
        *,
        allow_pickle: bool = False,
        stream: Callable[[Digest], Iterator[bytes]] | None = None,
    ) -> Any:
        """Return the value that a manifest describes; `stream` gives blobs that are not committed yet."""
        source = stream or self.session.stream_blob
        read = Reader(lambda part: source(Digest(part.digest)))
        # The pieces of a single part are read ahead all the same.
        digests = [Digest(part.digest) for part in manifest.parts]
        with self.session.reading_ahead(digests if len(digests) > 1 else ()):
            return self.registry.load(manifest, read, type, allow_pickle=allow_pickle)

    def manifest(self, digest: Digest) -> Manifest:
        """Return the manifest of that digest."""
        return self.session.read_manifest(digest)

    # ---- aliases and removal -----------------------------------------------------------------------------------------

    def alias(self, selector: str, alias: str, *, expected: str | None = ANY, message: str = "") -> Version:
        """Let `alias` mean the version that `selector` means now. See `Store.alias`."""
        check_alias(alias)
        # Its manifest is read before anything is decided: an error of that must not come when the alias is set.
        return self._take(
            lambda sketch: self.naming.version(sketch.alias(selector, alias, expected)), message
        )

    def unalias(self, name: str, alias: str, *, message: str = "") -> None:
        """Remove an alias; the version stays."""
        check_name(name)
        check_alias(alias)
        self._take(lambda sketch: sketch.unalias(name, alias), message)

    def remove(self, selector: str, *, message: str = "") -> tuple[str, ...]:
        """Remove one version (`name@…`), or a name with all its versions or keys; return what was removed."""
        self.session.require_writable()
        check_message(message)
        self.session.refresh()
        name = parse_selector(selector).name
        value = self.session.log.state.refs.get(name)
        if selector == name and value is not None and read_name_ref(value, name).kind == "collection":
            return remove_collection(self, name, message)
        return self._take(lambda sketch: sketch.remove(selector), message)

    def transaction(self, message: str = "") -> Transaction:
        """Return a transaction. See `Store.transaction`."""
        from keepstone.repository.transaction import Transaction

        return Transaction(self, message)

    def _take(self, step: Callable[[Sketch], S], message: str) -> S:
        self.session.require_writable()
        check_message(message)
        # What others decided before this call counts, also where the step ends in an error.
        self.session.refresh()
        return self.decide(step, Staging(self.session), message)

    # ---- asking ------------------------------------------------------------------------------------------------------

    def count_of(self, collection: str) -> int:
        """Return how many keys a collection has; counted again only when something changed."""
        session = self.session
        session.refresh_if_stale()
        marks = (
            session.log.state.number,
            tuple((journal.name, journal.end) for journal in session.spool.journals()),
        )
        known = self._counts.get(collection)
        if known is not None and known[0] == marks:
            return known[1]
        from keepstone.repository.collection import Collection

        count = sum(1 for _ in Collection[Any](self, collection, None, "disk"))
        self._counts[collection] = (marks, count)
        return count

    def history(self, name: str | None = None, *, last: int | None = None) -> Iterator[Commit]:
        """Yield the commits that moved a ref of `name` (of any name), newest first, from commit `last` on."""
        if name is not None:
            check_name(name)
        if last is None:
            self.session.refresh()
        for commit in self.session.log.commits_backwards(last):
            moved = [ref.name for ref in commit.refs if ref.old != ref.new]
            if name is None or any(ref == name or ref.startswith(name + "@") for ref in moved):
                yield commit


def too_fast() -> InvalidInputError:
    """Return the error of who has staged again and again."""
    return InvalidInputError(
        "what this save relies on is dropped faster than it can be written",
        hint="give garbage collection a longer minimum age",
    )
