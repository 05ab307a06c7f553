"""What one name does under many callers: the one object that a recorded history of it must look like."""

from __future__ import annotations

from typing import Any, NamedTuple

NOT_FOUND = "ArtifactNotFoundError"
CONFLICT = "RefConflictError"
ALIASED = "ConflictError"


class Name(NamedTuple):
    """A name at one moment."""

    last: int = 0
    versions: tuple[tuple[int, str], ...] = ()
    """Number and value of each, oldest first."""
    aliases: tuple[tuple[str, int], ...] = ()


def step(state: Name, operation: tuple[Any, ...]) -> tuple[Name, Any]:
    """Return the name after `operation`, and the answer; an error is the name of its class."""
    return _STEPS[operation[0]](state, *operation[1:])


def _save(state: Name, value: str) -> tuple[Name, Any]:
    if state.versions and state.versions[-1][1] == value:
        return state, (state.versions[-1][0], False)
    number = state.last + 1
    return state._replace(last=number, versions=(*state.versions, (number, value))), (number, True)


def _save_if(state: Name, value: str, expected: str | None) -> tuple[Name, Any]:
    present = state.versions[-1][1] if state.versions else None
    return _save(state, value) if present == expected else (state, CONFLICT)


def _load(state: Name) -> tuple[Name, Any]:
    return state, state.versions[-1] if state.versions else NOT_FOUND


def _load_number(state: Name, number: int) -> tuple[Name, Any]:
    return state, next((v for v in state.versions if v[0] == number), NOT_FOUND)


def _load_alias(state: Name, alias: str) -> tuple[Name, Any]:
    number = dict(state.aliases).get(alias)
    return _load_number(state, number) if number is not None else (state, NOT_FOUND)


def _versions(state: Name) -> tuple[Name, Any]:
    return state, tuple(n for n, _ in reversed(state.versions)) if state.last else NOT_FOUND


def _aliases(state: Name) -> tuple[Name, Any]:
    return state, state.aliases


def _alias_newest(state: Name, alias: str) -> tuple[Name, Any]:
    if not state.versions:
        return state, NOT_FOUND
    number = state.versions[-1][0]
    return state._replace(aliases=_moved(state, alias, number)), number


def _alias_if(state: Name, alias: str, number: int, expected: int | None) -> tuple[Name, Any]:
    values = dict(state.versions)
    if number not in values:
        return state, NOT_FOUND
    if expected is not None and expected not in values:
        return state, NOT_FOUND
    present = dict(state.aliases).get(alias)
    # Versions of equal content are the same to an expectation.
    if (None if present is None else values[present]) != (None if expected is None else values[expected]):
        return state, CONFLICT
    return state._replace(aliases=_moved(state, alias, number)), number


def _moved(state: Name, alias: str, number: int) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((dict(state.aliases) | {alias: number}).items()))


def _unalias(state: Name, alias: str) -> tuple[Name, Any]:
    rest = tuple(pair for pair in state.aliases if pair[0] != alias)
    return (state, NOT_FOUND) if rest == state.aliases else (state._replace(aliases=rest), None)


def _remove_newest(state: Name) -> tuple[Name, Any]:
    if not state.versions:
        return state, NOT_FOUND
    return _remove_number(state, state.versions[-1][0])


def _remove_number(state: Name, number: int) -> tuple[Name, Any]:
    if number not in dict(state.versions):
        return state, NOT_FOUND
    if number in dict(state.aliases).values():
        return state, ALIASED
    return state._replace(versions=tuple(v for v in state.versions if v[0] != number)), (number,)


def _remove(state: Name) -> tuple[Name, Any]:
    if not state.versions:
        return state, NOT_FOUND
    return Name(state.last), tuple(n for n, _ in reversed(state.versions))


_STEPS = {
    "save": _save,
    "save_if": _save_if,
    "load": _load,
    "load_number": _load_number,
    "load_alias": _load_alias,
    "versions": _versions,
    "aliases": _aliases,
    "alias_newest": _alias_newest,
    "alias_if": _alias_if,
    "unalias": _unalias,
    "remove_newest": _remove_newest,
    "remove_number": _remove_number,
    "remove": _remove,
}
