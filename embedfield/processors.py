"""Processors: how many of this machine's a process may keep busy."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of a process that shares its machine with others of its kind: what it was given.
_given: int | None = None


def processors() -> int:
    """Return how many processors this process may keep busy: all of the machine's, unless it was given fewer."""
    return _given or os.cpu_count() or 1


def given() -> int | None:
    """Return how many this process was given; None where it has the machine to itself."""
    return _given


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Keep this whole process to so many processors for a while."""
    global _given  # noqa: PLW0603  a process has one
    before, _given = _given, count
    try:
        yield
    finally:
        _given = before


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Have products of matrices done by one thread for a while: sums that are divided among several end otherwise.

    Last bits then do not depend on how many processors a machine has.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
