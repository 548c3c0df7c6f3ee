"""Local: workers on this machine."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import dask
import psutil
from distributed import Nanny, Scheduler, SpecCluster

from embedfield.cluster.worker import PROCESSORS

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes of memory for each worker, with a margin: torch, an encoder, a unit.
WORKER_BYTES = 3 * 2**30
# By what a process is told which GPUs it sees, in order.
GPUS = "CUDA_VISIBLE_DEVICES"
CONFIG = {
    # A unit whose worker is lost comes back to us, who count.
    "distributed.scheduler.allowed-failures": 0,
    # A worker has the unit that it works at and no other: who is lost costs one.
    "distributed.scheduler.worker-saturation": 1.0,
    # Memory goes back to the system when that has time: at once, as Dask has it, costs a third of all time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


def room() -> int:
    """Return how many workers this machine has processors and memory for."""
    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().total // WORKER_BYTES))


@contextmanager
def started(workers: int, gpus: int) -> Iterator[SpecCluster]:
    """Start a scheduler and workers of one thread each; on a machine with GPUs each sees its own first.

    Args:
        workers: How many.
        gpus: How many GPUs there are.
    """
    specs = {number: {"cls": Nanny, "options": _options(number, gpus)} for number in range(workers)}
    # Where its pages would be: at any free port, for several clusters may be on a machine.
    pages = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, **pages}}
    with ExitStack() as held:
        held.enter_context(dask.config.set(CONFIG))
        with _undisturbed():
            cluster = SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL)
            held.enter_context(cluster)
        yield cluster


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C wait until a cluster is whole; its threads, and the processes that these start, never hear of it."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let it through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _options(number: int, gpus: int) -> dict[str, Any]:
    """Return how one of the workers is started."""
    return {
        # As Dask sees it, for it is given one unit at a time.
        "nthreads": 1,
        # No limit: what a unit needs is bounded, and a worker that is stopped at a limit does not say why.
        "memory_limit": 0,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "preload": ["embedfield.cluster.quiet"],
        "env": _own_gpu(number, gpus) if gpus else {},
    }


def _own_gpu(number: int, gpus: int) -> dict[str, str]:
    """Return the environment of a worker with a GPU: which it sees first, and its share of the processors."""
    # Of a process that was given some of a machine's GPUs only those.
    given = os.environ.get(GPUS)
    names = given.split(",") if given else [str(gpu) for gpu in range(gpus)]
    order = [names[(number + other) % gpus] for other in range(gpus)]
    share = max(1, (os.cpu_count() or 1) // gpus)
    return {GPUS: ",".join(order), PROCESSORS: os.environ.get(PROCESSORS, str(share))}
