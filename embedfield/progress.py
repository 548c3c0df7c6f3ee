"""Progress: what a command is doing, and how far it is."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedfield.amounts import rate_text, time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

# Seconds between two lines, and before the first: what is short says nothing.
EVERY = 10.0


class Progress:
    """How far something is that is done step by step, and part by part within one of the steps."""

    def __init__(self, what: str, unit: str = "pixels", now: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            what: What is done, such as ``building geoclip``.
            unit: What is counted.
            now: The time in seconds, from any moment on.
        """
        self.what, self.unit = what, unit
        self.done, self.total = 0, 0
        self._now, self._doing, self._noted = now, "", ""
        self._first: tuple[float, int] | None = None
        self._last = now()

    def step(self, doing: str) -> None:
        """Take note of what is done from now on, such as ``drawing the preview``."""
        self._doing, self.total, self._first, self._noted = doing, 0, None, ""

    def note(self, noted: str) -> None:
        """Take note of what else is known of the step, such as ``31 units on 2 workers``."""
        self._noted = noted

    def count(self, done: int, total: int) -> None:
        """Take note of how many parts are done, of how many.

        Speed is measured from the first call on: what was done before it, as
        by a build that was stopped, does not count.
        """
        self._last = self._now()
        self._first = self._first or (self._last, done)
        self.done, self.total = done, total

    @property
    def speed(self) -> float | None:
        """How many are done in a second; None while too little is known."""
        if self._first is None:
            return None
        since, before = self._first
        return (self.done - before) / (self._last - since) if self.done > before and self._last > since else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None while too little is known."""
        if self.speed is None:
            return None
        return max(0.0, (self.total - self.done) / self.speed - (self._now() - self._last))

    @property
    def state(self) -> tuple[str, int, str]:
        """What is being done, and how much of it is done: as long as it is the same there is no news."""
        return self._doing, self.done if self.total else 0, self._noted

    def __str__(self) -> str:
        """Return how far it is: ``31 % of 648,000 pixels, 9,800 pixels/s, 46 s left``."""
        if not self.total:
            return self._doing
        words = [f"{100 * self.done // self.total} % of {self.total:,} {self.unit}"]
        if self.speed is not None and self.left is not None and self.done < self.total:
            words += [f"{rate_text(self.speed)} {self.unit}/s"] if self.speed >= 1 else []
            words += [f"{time_text(self.left)} left"]
        words += [self._noted] if self._noted else []
        return ", ".join(words)


@contextmanager
def shown(progress: Progress, console: Console) -> Iterator[Progress]:
    """Show how far something is while it is done: a bar on a terminal, elsewhere a line now and then."""
    with _bar(progress, console) if console.is_terminal else _lines(progress, console):
        yield progress


@contextmanager
def _bar(progress: Progress, console: Console) -> Iterator[None]:
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Words(ProgressColumn):
        """What is known, at the moment that it is drawn."""

        def render(self, task: Task) -> Text:
            bar.update(task.id, completed=progress.done, total=progress.total or None)
            return Text(str(progress))

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20), Words())
    with Bar(*columns, console=console, transient=True) as bar:
        bar.add_task(progress.what, total=None)
        yield


@contextmanager
def _lines(progress: Progress, console: Console) -> Iterator[None]:
    ended = threading.Event()
    printer = threading.Thread(target=_print_news, args=(progress, console, ended), daemon=True)
    printer.start()
    try:
        yield
    finally:
        ended.set()
        printer.join()


def _print_news(progress: Progress, console: Console, ended: threading.Event) -> None:
    """Print a line every some seconds, if there is news."""
    told = None
    while not ended.wait(EVERY):
        if str(progress) and progress.state != told:
            told = progress.state
            console.print(f"{progress.what}: {progress}", markup=False, soft_wrap=True)
