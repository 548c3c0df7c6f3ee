"""Clock: seconds spent in the parts of a build, and which of them limited it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a write does, in the order that a pixel goes through it.
PARTS = ("computing", "packing", "writing")


class Clock:
    """The wall seconds during which each part of a build was at work in some thread. Safe to use from several."""

    seconds: dict[str, float]
    """By the name of a part, those of `PARTS` first; a part under way counts once it has ended."""

    def __init__(self) -> None:
        """Begin with no seconds."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._lock = threading.Lock()
        self._busy = dict[str, int]()
        self._since = dict[str, float]()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done within as a part; several threads at once count once."""
        with self._lock:
            busy = self._busy[name] = self._busy.get(name, 0) + 1
            if busy == 1:
                self._since[name] = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._busy[name] -= 1
                if not self._busy[name]:
                    spent = time.perf_counter() - self._since[name]
                    self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def line(self) -> str:
        """Return the seconds of each part in words, and which limited the whole: the longest, for they overlap."""
        told = ", ".join(f"{name} {spent:.1f} s" for name, spent in self.seconds.items())
        longest = max(self.seconds, key=lambda name: self.seconds[name])
        # Where all was there already nothing limited anything.
        return f"{told}; limited by {longest}" if self.seconds[longest] >= 0.05 else told
