"""Commits say what they stand on, so that whoever judges them later can see it."""

from __future__ import annotations

from tests.repository.conftest import newest_commit

from keepstone.api import Store


def test_a_save_states_the_packs_in_which_it_found_its_content(store: Store) -> None:
    store.save("first", b"the same bytes")
    first = newest_commit(store)

    store.save("second", b"the same bytes", metadata={"other": True})

    assert first.inline is not None
    assert newest_commit(store).needs == (first.inline.name,)


def test_an_alias_states_the_name_whose_version_it_means(store: Store) -> None:
    store.save("model", 1)
    value = store.repository.session.log.state.refs["model"]

    store.alias("model@v1", "prod")

    assert [(ref.old, ref.new) for ref in newest_commit(store).refs if ref.name == "model"] == [
        (value, value)
    ]
