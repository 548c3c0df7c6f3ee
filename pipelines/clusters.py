"""What a cluster of Dask's workers gains and costs: speed, overhead, and the memory of its scheduler."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figure import MEGABYTE, Figure, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# GeoCLIP has 512 bands: a worker's task is one shard. So many of 256 x 256 pixels at 0.1 degrees, that what is not
# shared (ranges, pictures, catalogue) is as small a part of the whole as it would be of a field for a cluster. They
# are an even number, for with one over two workers lose what one of them waits at the end.
SHARDS_WIDE, SHARDS_HIGH, RES = 6, 4, 0.1
# As many shards as units are promised for, of the fastest encoder: the less computing, the more all else weighs.
WIDE, HIGH, FINE = 40, 25, 0.02
# Pixels along a side of a shard.
SHARD = 256
FEW, MANY = 1_000, 100_000
# Units after which the scheduler's memory is looked at.
LOOK = 250
# What Dask's own nanny sets for the libraries of a worker, which is started without one here.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
# Seconds that a process may take to start.
PATIENCE = 60


def speedup(folder: Path) -> list[Figure]:
    """Return how many times faster two workers of one thread build GeoCLIP than one of them, once they are there."""
    width, height = SHARDS_WIDE * SHARD * RES, SHARDS_HIGH * SHARD * RES
    spent = dict[int, float]()
    with _workers(1, folder / "one") as one, _workers(2, folder / "two") as two:
        places = {1: one, 2: two}
        for workers, where in places.items():  # which import torch meanwhile, and the model's file is in memory
            _build(10.0, (-180.0, -90.0, 180.0, 90.0), folder / f"warm{workers}", where)
        for workers, where in places.items():
            bounds = (0.0, -height / 2, width, height / 2)
            spent[workers] = seconds_of(functools.partial(_build, RES, bounds, folder / f"{workers}", where))
    one_takes, two_take = spent[1], spent[2]
    note = f"{one_takes:.1f} s and {two_take:.1f} s for {SHARDS_WIDE * SHARDS_HIGH} shards"
    return [Figure("geoclip: two workers of one thread over one", one_takes / two_take, 1.7, "times", False, note)]


def overhead(folder: Path) -> list[Figure]:
    """Return how much longer a build of many units takes with workers on this machine than in one process."""
    from random_weights import satclip

    satclip(folder)
    asked: dict[str, Any] = {"model": "satclip-l40", "weights": folder / "satclip.ckpt"}
    width, height = WIDE * SHARD * FINE, HIGH * SHARD * FINE
    bounds = (-width / 2, -height / 2, width / 2, height / 2)
    _build(10.0, (-180.0, -90.0, 180.0, 90.0), folder / "warm", None, **asked)
    taken = []
    for where in (None, "local"):
        taken.append(seconds_of(functools.partial(_build, FINE, bounds, folder / f"{where}", where, **asked)))
        shutil.rmtree(folder / f"{where}")
    plain, local = taken
    note = f"{WIDE * HIGH:,} shards: {local:.1f} s, {plain:.1f} s in one process"
    return [Figure("satclip-l40: time that --dask local adds", 100 * (local / plain - 1), 10, "%", True, note)]


def _build(
    res: float,
    bounds: tuple[float, float, float, float],
    out: Path,
    where: str | None,
    model: str = "geoclip",
    **own: Any,
) -> None:
    """Build a model as Zarr without its certificate, which is the same with and without workers."""
    from embedfield.build import build_field

    asked: dict[str, Any] = {"client": where, **own} if where else own
    build_field(model, res, bounds=bounds, format="zarr", out=out, device="cpu", verify=False, **asked)


def scheduler_memory(folder: Path) -> list[Figure]:
    """Return how much more memory a scheduler takes for a hundred times as many units that do nothing."""
    peaks = []
    for units in (FEW, MANY):
        start = time.perf_counter()
        peaks.append(_peak_of_scheduler(units, folder / str(units)))
        spent = time.perf_counter() - start
    small, large = (f"{peak / MEGABYTE:.0f} MB" for peak in peaks)
    note = f"{small} and {large}; {MANY / spent:,.0f} units a second"
    return [
        Figure(f"scheduler: memory for {MANY:,} units over {FEW:,}", peaks[1] / peaks[0], 1.15, "times", True, note)
    ]


def _peak_of_scheduler(units: int, folder: Path) -> int:
    """Return the most bytes that a scheduler has in memory while two workers are given so many units."""
    import psutil

    from embedfield.cluster import cluster_of

    with _workers(2, folder) as where, cluster_of(where) as cluster:
        process = psutil.Process(cluster.client.run_on_scheduler(os.getpid))
        peak = process.memory_info().rss
        with cluster.share(_nothing) as shared:
            for number, _ in enumerate(shared.each(_nothing_done, range(units))):
                if number % LOOK == 0:
                    peak = max(peak, process.memory_info().rss)
        return max(peak, process.memory_info().rss)


def _nothing() -> None:
    """Return what a worker keeps that has nothing to do."""


def _nothing_done(_: None, number: int) -> dict[str, Any]:
    """Return what a worker tells of a shard."""
    return {"unit": f"0-{number // SHARD}-{number % SHARD}", "saturated": 0, "bytes": number}


@contextmanager
def _workers(count: int, folder: Path) -> Iterator[str]:
    """Start a scheduler and workers of one thread, each a process of its own, and yield the scheduler's address."""
    folder.mkdir(parents=True)
    told = folder / "scheduler.json"
    here = str(Path(__file__).parent)
    paths = os.pathsep.join((here, os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": paths}
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = ["--scheduler-file", str(told), "--no-dashboard"]
    work = ["--nthreads", "1", "--memory-limit", "0", "--local-directory", str(folder)]
    own = ["--host", "127.0.0.1", "--port", "0"]
    dask = [sys.executable, "-m", "dask"]
    started = [subprocess.Popen([*dask, "scheduler", *words, *own], **quiet)]
    try:
        address = _address(told)
        started += [subprocess.Popen([*dask, "worker", *words, *work, "--no-nanny"], **quiet) for _ in range(count)]
        yield address
    finally:
        for process in started:  # they hold nothing, and would take leave of each other for long
            process.kill()
            process.wait()


def _address(told: Path) -> str:
    """Return the address of a scheduler once it has written it down."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if told.exists() and told.stat().st_size:
            return str(json.loads(told.read_text(encoding="utf-8"))["address"])
        time.sleep(0.1)
    sys.exit(f"No scheduler of Dask started within {PATIENCE} seconds. Run 'dask scheduler' to see why.")


BENCHES: dict[str, Callable[[Path], list[Figure]]] = {
    "cluster-speedup": speedup,
    "cluster-overhead": overhead,
    "scheduler-memory": scheduler_memory,
}
