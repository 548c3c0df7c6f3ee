"""Tasks: units of work on their way to the workers, and back."""

from __future__ import annotations

import queue
import statistics
import time
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker
from distributed.protocol.pickle import dumps

from embedfield.amounts import first_line, time_text
from embedfield.cluster import lost
from embedfield.cluster.worker import WHERE, done
from embedfield.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Future

    from embedfield.cluster import Cluster
    from embedfield.cluster.worker import Answer

# How often a unit may fail.
TRIES = 3
# Seconds after which it is looked who is slow, and that one takes at least who is.
LOOK = 5.0
SLOW = 10.0
# How many times as long as others a slow unit takes.
TIMES = 3
# Units that are submitted at a time at least: a cluster that grows with its work must see some.
LEAST = 8
# Tasks after which the scheduler is tidied.
TIDY = 2000


@dataclass
class _Try[U]:
    """A unit under way."""

    unit: U
    failures: int = 0
    """How often it failed before."""
    failed: set[str] = field(default_factory=set)
    """At which workers: it is tried elsewhere."""
    seen: dict[str, float] = field(default_factory=dict)
    """Since when it is at a worker, by the worker's address."""


class Tasks[S]:
    """Workers that keep one thing: see `Shared`."""

    def __init__(self, cluster: Cluster, key: str) -> None:
        """Use the workers of a cluster, which were given what they need under a name."""
        self.cluster, self.client, self.key = cluster, cluster.client, key
        self._numbers = count()
        self._running = dict[Any, _Try[Any]]()
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Of the last units, what they took.
        self._seconds = list[float]()
        self._threads, self._idle = cluster.threads(), False
        self._looked = time.monotonic()

    def ask[*A, R](self, task: Callable[[S, *A], R], *words: *A) -> R:
        """Have one worker do a task."""
        asked: _Try[str] = _Try(task.__name__.strip("_").replace("_", " "))
        while True:
            future = self._submit(asked, task, *words)
            self._wait_for(future)
            del self._running[future]
            try:
                answer: R = future.result().value
            except KilledWorker as error:
                self._count(asked, error)
            else:
                return answer

    def each[U, R](
        self, task: Callable[[S, U], R], units: Iterable[U], note: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[U, R]]:
        """Have a task done for each of many units."""
        source = iter(units)
        while True:
            self._submit_all(list(islice(source, max(0, self._most() - len(self._running)))), task)
            if not self._running:
                return
            future = self._next()
            if time.monotonic() - self._looked > LOOK:
                self._look(note)
            if future is None:
                continue
            tried = self._running.pop(future)
            if future.status == "finished":
                answer: Answer = future.result()
                self._seconds = [*self._seconds[-99:], answer.seconds]
                yield tried.unit, answer.value
            else:
                self._count(tried, future.exception())
                self._submit(tried, task, tried.unit)

    def cancel(self) -> None:
        """Give up what is under way."""
        if self._running and self.client.status == "running":
            self.client.cancel(list(self._running), force=True)
        self._running.clear()

    def _most(self) -> int:
        """Return how many units are submitted at a time: enough for all workers, however many there are in all."""
        return max(LEAST, 2 * sum(self._threads.values()) + 2)

    def _submit_all(self, units: list[Any], task: Callable[..., Any]) -> None:
        """Submit units that were not tried before.

        Together, or Dask would give the first of them to workers at once, several to each, and would not keep them back
        until a worker is free.
        """
        keys = [self._key() for _ in units]
        packed = [dumps((task, (unit,))) for unit in units]
        futures = (
            self.client.map(done, [self.key] * len(units), packed, key=keys, pure=False, retries=0) if units else []
        )
        for future, unit in zip(futures, units, strict=True):
            self._await(future, _Try(unit))

    def _key(self) -> tuple[str, int]:
        """Return the name of a new task."""
        number = next(self._numbers)
        if number and not number % TIDY:
            self._tidy()
        return self.key, number

    def _await(self, future: Future, tried: _Try[Any]) -> None:
        tried.seen.clear()
        self._running[future] = tried
        future.add_done_callback(self._ended.put)

    def _submit(self, tried: _Try[Any], task: Callable[..., Any], *words: Any) -> Future:
        others = [worker for worker in self._threads if worker not in tried.failed] if tried.failed else []
        elsewhere: dict[str, Any] = {"workers": others, "allow_other_workers": True} if others else {}
        # A scheduler reads what passes through it, and would import all that a task does.
        packed = dumps((task, words))
        # Tried again by us, who tell of it.
        future: Future = self.client.submit(done, self.key, packed, key=self._key(), pure=False, retries=0, **elsewhere)
        self._await(future, tried)
        return future

    def _look(self, note: Callable[[str], None]) -> None:
        """See who is there, and tell who is slow."""
        self._looked, self._threads = time.monotonic(), self.cluster.threads()
        note(self._slow())

    def _tidy(self) -> None:
        """Have the scheduler forget the names of tasks that are done, which it keeps, and of what kind each was."""

        def tidy(dask_scheduler: Any = None) -> None:
            """Forget; within, for it is sent as it is written here."""
            from dask.utils import key_split

            key_split.cache_clear()
            # It has no public name, and may have none at all in another version.
            for span in getattr(dask_scheduler.extensions.get("spans"), "spans", {}).values():
                told = getattr(span, "_metadata", None)
                if told:
                    told["collections"].clear()

        with self.cluster.asking():
            self.client.run_on_scheduler(tidy)

    def _wait_for(self, future: Future) -> None:
        """Wait until a task ended; of others that do so meanwhile the turn comes later.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        others = list[Any]()
        while (ended := self._next()) is not future:
            others += [ended] if ended else []
        for other in others:
            self._ended.put(other)

    def _next(self) -> Future | None:
        """Return a task that ended; None if none did for a while.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        try:
            future: Future = self._ended.get(timeout=LOOK)
        except queue.Empty:
            self._check_work()
            return None
        if future.status == "lost" and self.client.status == "running":
            future.add_done_callback(self._ended.put)  # its answer went with its worker: Dask has it made again
            return None
        if future.status in {"cancelled", "lost"}:
            raise lost()
        return future if future in self._running else None

    def _check_work(self) -> None:
        """Say so, once, if nobody is at work.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        idle = not self.cluster.at_work()
        if idle and not self._idle:
            self.cluster.report(
                "No worker is at work: they are gone, or Dask paused them for want of memory. Start others, or give "
                "them more (--memory-limit)."
            )
        self._idle = idle

    def _count(self, tried: _Try[Any], error: BaseException) -> None:
        """Count a failure, and tell it.

        Raises:
            ClusterError: If there were too many.
        """
        # Dask tells of lost workers once it has counted to its own number.
        tried.failures += 1 + (getattr(error, "allowed_failures", None) or 0)
        where = _where(error)
        if not isinstance(error, KilledWorker):  # that one is gone, and a choice of workers is a queue for each
            tried.failed.add(where.removeprefix(WHERE))
        said = f"{tried.unit} failed {where}: {_reason(error)}"
        if tried.failures >= TRIES:
            raise ClusterError(
                f"{said}. It failed {tried.failures} times. Mend that, and give the same command again; what a build "
                "has finished is kept."
            ) from error
        self.cluster.report(f"{said}. It is tried again ({tried.failures + 1} of {TRIES}).")

    def _slow(self) -> str:
        """Return in words which units take much longer than others, and where; nothing if none does."""
        now, limit = time.monotonic(), max(SLOW, TIMES * statistics.median(self._seconds or [0.0]))
        with self.cluster.asking():
            there = {key: worker for worker, keys in self.client.processing().items() for key in keys}
        slow = list[str]()
        for future, tried in self._running.items():
            worker = there.get(future.key)
            if worker is None:
                continue
            since = tried.seen.setdefault(worker, now)
            if now - since > limit and self._seconds:
                slow.append(f"{tried.unit} on {worker} for {time_text(now - since)}")
        more = f" and {len(slow) - 3} more" if len(slow) > 3 else ""
        return f"slow: {', '.join(slow[:3])}{more}" if slow else ""


def _where(error: BaseException) -> str:
    """Return on which worker an error happened."""
    noted = [note for note in getattr(error, "__notes__", []) if note.startswith(WHERE)]
    lost = getattr(error, "last_worker", None)
    return noted[0] if noted else f"{WHERE}{lost.address}" if lost else "on the cluster"


def _reason(error: BaseException) -> str:
    if hasattr(error, "last_worker"):
        return "the worker was lost"
    return f"{type(error).__name__}: {first_line(error)}"
