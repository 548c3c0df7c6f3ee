"""Choice: which array of a Zarr is meant, and the layout that it leads to."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.address import Address
from embedfield.formats.foreign.stated import time_of, times_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedfield.card import Card
    from embedfield.formats.foreign.asked import Asked
    from embedfield.formats.foreign.store import Store


def candidates(store: Store, asked: Asked, fits: Callable[[str], bool], usual: Sequence[str]) -> list[str]:
    """Return the paths of the arrays of a store that may be meant.

    Args:
        store: Where they are.
        asked: Its ``array`` is one of them, or a group that one lies in.
        fits: Whether an array is of the kind that is looked for.
        usual: Paths of such arrays, from the root or the group: they are
            looked for where a store cannot be listed, as on the web.
    """
    if asked.array is not None:
        inside = asked.array.strip("/")
        named = [inside, *(f"{inside}/{name.rpartition('/')[2]}" for name in usual)]
        return [name for name in dict.fromkeys(named) if store.maybe(name) is not None and fits(name)]
    found: Sequence[str] = ()
    with suppress(FormatError):
        found = list(store.arrays())
    if not found and isinstance(store.place, Address):
        found = [name for name in usual if store.maybe(name) is not None]
    return [name for name in found if fits(name)]


def only(store: Store, asked: Asked, found: Sequence[str], what: str) -> str:
    """Return the one array that is meant.

    Args:
        store: Where it is.
        asked: What its user said.
        found: Paths of those that may be meant.
        what: What they are, in words.

    Raises:
        FormatError: If there is none, or there are several.
    """
    if len(found) == 1:
        return found[0]
    if found:
        raise FormatError(
            f"{store.path} has {len(found)} {what}: {', '.join(found)}. Choose one, as with --array {found[0]}."
        )
    said = f" at {asked.array!r}" if asked.array is not None else ""
    has = ", ".join(store.arrays()) or "none at all"
    raise FormatError(f"{store.path} has no {what}{said}. Its arrays are: {has}. Choose with --array.")


def is_flat(store: Store, name: str) -> bool:
    """Return whether an array has rows and columns."""
    try:
        return store.axes(name) != ""
    except FormatError:
        return False


def size_of(store: Store, name: str, axis: str) -> int:
    """Return the length of a dimension of an array; 1 where it has none."""
    axes = store.axes(name)
    return store.array(name).shape[axes.index(axis)] if axis in axes else 1


def layout_in(store: Store, name: str, asked: Asked, rule: str, **more: Any) -> dict[str, Any]:
    """Return the layout of an array of a store, but for what it is of.

    Raises:
        FormatError: If it has several times, and it is not said which.
    """
    axes = store.axes(name)
    told: dict[str, Any] = {"store": "zarr", "rule": rule, "array": name, "axes": axes}
    if "t" in axes:
        told["time"] = times_of(store, name)[time_of(store, name, asked.time)]
    elif asked.time is not None:
        raise FormatError(f"time={asked.time!r} means nothing for {store.path}: {name!r} has no times. Leave it out.")
    return told | ({"crs": asked.crs} if asked.crs is not None else {}) | more


def kept(dim: int, asked: Asked) -> int:
    """Return how many numbers of a vector are wanted.

    Raises:
        FormatError: If there are not so many.
    """
    if asked.dims is None:
        return dim
    if not 1 <= asked.dims <= dim:
        raise FormatError(f"dims={asked.dims} cannot be: there are {dim} bands. Give 1 to {dim}.")
    return asked.dims


def entered(kind: str, card: Card, layout: dict[str, Any]) -> dict[str, Any]:
    """Return a whole layout."""
    return {"kind": kind, "card": card.to_dict(), **layout}
