"""Tests of the threads that encode."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from embedfield.encoders.workers import Workers


@pytest.mark.parametrize("count", [1, 3])
def test_each_task_is_done_once(count: int) -> None:
    """Whoever takes it, without gradients."""
    done: list[tuple[int, bool]] = []
    Workers(count).each(lambda task: done.append((task, torch.is_inference_mode_enabled())), iter(range(500)))
    assert sorted(done) == [(task, True) for task in range(500)]


@pytest.mark.parametrize("count", [1, 3])
def test_after_an_error_nothing_is_begun(count: int) -> None:
    """It is raised once those that are under way have ended, and the threads go on with what comes next."""
    workers, begun, ended = Workers(count), list[int](), list[int]()
    barrier = threading.Barrier(count)

    def work(task: int) -> None:
        begun.append(task)
        if task < count:
            barrier.wait(timeout=10)  # every thread has one
        if task == 0:
            raise ValueError("the first fails")
        time.sleep(0.05)
        ended.append(task)

    with pytest.raises(ValueError, match="the first fails"):
        workers.each(work, range(100))
    assert begun[0] == 0
    assert sorted(ended) == sorted(begun)[1:]
    assert len(begun) <= 2 * count
    workers.each(ended.append, [1000])
    assert ended[-1] == 1000


def test_results_come_in_order_the_next_one_begun() -> None:
    """As tables of a lattice do, row by row."""
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        return -task

    found = []
    for result in Workers(2).ahead(work, range(6)):
        found.append(result)
        while len(begun) < min(6, len(found) + 1):
            time.sleep(0.001)
    assert found == [0, -1, -2, -3, -4, -5]
