"""Commits say what they stand on, so that whoever judges them later can see it."""

from __future__ import annotations

from keepstone.api import Store
from keepstone.history.commit import Commit


def newest(store: Store) -> Commit:
    log = store.repository.session.log
    return log.commit_at(log.state.number)


def test_a_save_states_the_packs_in_which_it_found_its_content(store: Store) -> None:
    store.save("first", b"the same bytes")
    first = newest(store)

    store.save("second", b"the same bytes", metadata={"other": True})

    assert first.inline is not None
    assert newest(store).needs == (first.inline.name,)


def test_an_alias_states_the_name_whose_version_it_means(store: Store) -> None:
    store.save("model", 1)
    value = store.repository.session.log.state.refs["model"]

    store.alias("model@v1", "prod")

    assert [(ref.old, ref.new) for ref in newest(store).refs if ref.name == "model"] == [(value, value)]
