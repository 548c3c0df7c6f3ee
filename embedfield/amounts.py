"""Amounts: bytes and seconds in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def bytes_text(size: float) -> str:
    """Return a number of bytes with two significant digits or more, such as 1.5 MB."""
    return _scaled(size, (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)))


def time_text(seconds: float) -> str:
    """Return a time with two significant digits or more, such as 3.2 h."""
    if seconds < 1:
        return "under 1 s"
    return _scaled(seconds, (("s", 1), ("min", 60), ("h", 3600), ("d", 86400)))


def rate_text(rate: float) -> str:
    """Return how many are done in a second with two or three significant digits, such as 9,840."""
    return f"{float(f'{rate:.3g}'):,.{1 if rate < 9.95 else 0}f}"


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    unit, size = next(((unit, size) for unit, size in reversed(units) if value >= 0.995 * size), units[0])
    return f"{value / size:,.{1 if value / size < 9.95 else 0}f} {unit}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without its full stop."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return first.rstrip(".")
