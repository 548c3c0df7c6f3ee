"""Worker: what stands in the processes of a cluster."""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from distributed import WorkerPlugin, get_worker
from distributed.protocol.pickle import loads
from threadpoolctl import threadpool_limits

from embedfield.processors import limited

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from distributed import Worker

# How many processors a worker may keep busy that has fewer threads, for it is given one unit at a time.
PROCESSORS = "EMBEDFIELD_PROCESSORS"
# How an error tells where it happened.
WHERE = "on worker "
# Seconds after which it is let go of what nobody used, once there is more.
UNUSED = 600.0
# What this process was given, by all that lead.
_GIVEN: WeakSet[Given] = WeakSet()
# One unit at a time in a process, however many threads Dask gives it: memory is that of one unit.
_TURN = Lock()


class Answer(NamedTuple):
    """What a worker returns."""

    value: Any
    """What the task did."""
    seconds: float
    """How long that took."""


class Given(WorkerPlugin):  # type: ignore[misc]  # Dask is half typed
    """What every worker is given once; Dask gives it to those that come later too."""

    def __init__(self, name: str, begin: bytes) -> None:
        """Give something to make, pickled: workers import what it needs when they make it, and not before."""
        self.name, self._begin = name, begin
        self._state, self._used = list[Any](), 0.0

    def setup(self, worker: Worker) -> None:
        """Take note of the processors that the worker may keep busy: its threads, unless it was told a number."""
        self._threads = int(os.environ.get(PROCESSORS, worker.state.nthreads))

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002  as Dask calls it
        """Let go of what was made."""
        self._state.clear()

    def do(self, task: Callable[..., Any], words: tuple[Any, ...]) -> Any:
        """Do a task, once no other is done in this process."""
        with _TURN, limited(self._threads), threadpool_limits(self._threads):
            self._have_room()
            if not self._state:
                self._state.append(loads(self._begin)())
            return task(self._state[0], *words)

    def _have_room(self) -> None:
        """Have others let go of what they have not used for long: whoever gave it may have been killed."""
        self._used = time.monotonic()
        _GIVEN.add(self)
        for other in list(_GIVEN):
            other.rest(self._used)

    def rest(self, now: float) -> None:
        """Let go of what was made, if that is long unused; it can be made again."""
        if now - self._used > UNUSED:
            self._state.clear()


class _Noted:
    """Has every error that passes tell where it happened."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note it."""
        if error is not None:
            error.add_note(self._where)


def done(key: str, packed: bytes) -> Answer:
    """Do a task in a worker, by what it was given under a name.

    Args:
        key: That name.
        packed: The task and its words, pickled.
    """
    worker = get_worker()
    begun = time.monotonic()
    with _Noted(f"{WHERE}{worker.address}"):
        task, words = loads(packed)
        value = worker.plugins[key].do(task, words)
    return Answer(value, time.monotonic() - begun)
