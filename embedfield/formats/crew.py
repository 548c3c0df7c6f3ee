"""Crew: the threads that pack, compress and write while the caller's thread computes."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from embedfield.processors import processors
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from embedfield.formats.journal import Work


class Part[U](NamedTuple):
    """Pixels that are computed with others beside them, and belong to one unit."""

    unit: U
    """What they are a part of."""
    window: Window
    """Which pixels of the grid."""
    codes: npt.NDArray[Any]
    """Where their codes go, (dim, height, width)."""


class Crew:
    """Threads for one write, used in a ``with``: after it none is left running.

    Encoders are not for several threads: the caller's alone computes. What
    fails in another is raised in the caller's, at its next call.
    """

    def __init__(self, work: Work) -> None:
        """Gather as many threads as there are processors."""
        self.work = work
        self._pool = ThreadPoolExecutor(processors(), "embedfield")
        self._changed = Condition()
        self._units = self._tasks = 0
        # One processor cannot compute and pack at a time: a second one would be somebody else's.
        self._in_turn = processors() == 1 and not work.field.accelerated
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Return the crew."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the tasks under way, and drop all others."""
        self._pool.shutdown(cancel_futures=True)

    def do[**P](self, task: Callable[P, object], *words: P.args, **named: P.kwargs) -> None:
        """Hand over a task, which may hand over others."""
        with self._changed:
            self._tasks += 1
        self._pool.submit(task, *words, **named).add_done_callback(self._look)

    def _look(self, task: Future[Any]) -> None:
        """Keep the first failure, and wake the caller's thread."""
        failure = None if task.cancelled() else task.exception()
        with self._changed:
            self._tasks -= 1
            self._failure = self._failure or failure
            self._changed.notify_all()

    def begin(self, count: int = 1, most: int = 1) -> None:
        """Begin units, once the memory for them is free.

        Args:
            count: How many.
            most: How many are ever begun at a time: so many that were begun
                before may still be unfinished.

        Raises:
            OSError: If a disk is full, or whatever else failed in a thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._units <= most)
            self._check()
            self._units += count

    def end(self) -> None:
        """Say that a unit is done with."""
        with self._changed:
            self._units -= 1
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until all tasks are done.

        Raises:
            OSError: If a disk is full, or whatever else failed in a thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not self._tasks)
            self._check()

    def _check(self) -> None:
        """Raise what a task raised.

        Raises:
            BaseException: The first that one did.
        """
        if self._failure:
            raise self._failure

    def packed[U](self, strips: Iterable[list[Part[U]]]) -> Iterator[tuple[Part[U], int]]:
        """Compute and pack strips of the field, and yield their parts once they are packed.

        While a strip is packed the next one is computed. Where one processor
        does both, that waits until all that was handed over is done.

        Args:
            strips: Each as its parts, side by side; taken one by one.

        Yields:
            A part whose codes are set, and how many of its values saturated.
        """
        waiting = deque[tuple[Part[U], Future[int]]]()
        for parts in strips:
            if self._in_turn:
                yield from _results(waiting)
                self.finish()
            self._check()
            values = self._computed(parts)
            yield from _results(waiting)
            left = parts[0].window.col_off
            for part in parts:
                start = part.window.col_off - left
                own = values[:, :, start : start + part.window.width]
                waiting.append((part, self._pool.submit(self._pack, own, part.codes)))
            del values, own
        yield from _results(waiting)

    def _computed(self, parts: list[Part[Any]]) -> npt.NDArray[Any]:
        first = parts[0].window
        width = sum(part.window.width for part in parts)
        with self.work.clock.part("computing"):
            return self.work.field.read(Window(first.col_off, first.row_off, width, first.height))

    def _pack(self, values: npt.NDArray[Any], codes: npt.NDArray[Any]) -> int:
        with self.work.clock.part("packing"):
            return self.work.packing.pack(values, codes)[1]


def _results[U](waiting: deque[tuple[Part[U], Future[int]]]) -> Iterator[tuple[Part[U], int]]:
    """Yield what is being packed, each part once it is."""
    while waiting:
        part, task = waiting.popleft()
        yield part, task.result()
