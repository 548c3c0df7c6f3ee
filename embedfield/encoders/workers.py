"""Workers: the threads that encode."""

from __future__ import annotations

import functools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Workers:
    """Threads that work at blocks side by side, each on one processor: no one waits for another at every product."""

    def __init__(self, count: int) -> None:
        """Have so many threads; the caller's own where it is one."""
        self._count = count
        self._begin()

    def __reduce__(self) -> tuple[type[Workers], tuple[int]]:
        """Pickle as a number: whoever unpickles has threads of his own."""
        return Workers, (self._count,)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(self._count, "encoding", initializer=_alone) if self._count > 1 else None

    def _check(self) -> None:
        """Begin anew in a copy of the process that had the threads."""
        if self._process != os.getpid():
            self._begin()

    def ahead[T, R](self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yield the result of each task, the next one begun."""
        self._check()
        results: deque[Callable[[], R]] = deque()
        for task in tasks:
            one = functools.partial(_quietly, work, task)
            results.append(self._pool.submit(one).result if self._pool else one)
            if len(results) > 1:
                yield results.popleft()()
        while results:
            yield results.popleft()()

    def each[T](self, work: Callable[[T], None], tasks: Iterable[T]) -> None:
        """Do all tasks; an error of one is raised once those that are under way have ended."""
        self._check()
        waiting = iter(list(tasks))

        def take() -> None:
            try:
                for task in waiting:
                    work(task)
            finally:  # where one failed, nobody begins another
                deque(waiting, maxlen=0)

        if self._pool is None:
            _quietly(take)
            return
        # Threads take tasks by themselves: to be told of each would keep the caller, and so Python's lock, busy.
        taking = [self._pool.submit(_quietly, take) for _ in range(self._count)]
        try:
            for future in taking:
                future.result()
        finally:
            deque(waiting, maxlen=0)
            wait(taking)


def _quietly[**P, R](work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    with torch.inference_mode():  # which is a thread's own
        return work(*args, **kwargs)


def _alone() -> None:
    """Let torch work on one processor in this thread."""
    torch.get_num_threads()  # at the first call torch sets the number itself
    threadpool_limits(1, user_api="openmp")
