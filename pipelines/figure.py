"""Figures: numbers that were measured, beside those that were promised."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5
MEGABYTE = 1e6


@dataclass(frozen=True)
class Figure:
    """A number that was measured, and the one that was promised."""

    name: str
    """What was measured, in words."""
    measured: float
    """In `unit`."""
    target: float
    """In `unit`."""
    unit: str
    """``bits``, ``MB/s``, …; empty for a ratio."""
    at_most: bool = True
    """Whether the target is the largest number that is good; else it is the least."""
    note: str = ""
    """What else is worth knowing."""

    @property
    def ok(self) -> bool:
        """Whether the promise is kept."""
        return self.measured <= self.target if self.at_most else self.measured >= self.target


def apart[T](task: Callable[..., T], *words: Any) -> T:
    """Return what a function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *words).result()


def peak_memory() -> int:
    """Return the most bytes that this process ever had in memory."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `resource` tells there begins with the memory of the process that started this one.
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def seconds_of(task: Callable[[], object]) -> float:
    """Return how long a task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start
