"""Run as a program: write a raster, or what is missing of it, and be killed on the way.

    python interrupted.py KIND FOLDER MOMENT

KIND is one of `KINDS`. MOMENT is when the process kills itself: ``3.5s`` after
the writing began, or at the 40th time that Python touches a file, ``40``; or
``never``. One that gets to the end prints how often and for how long it wrote.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fields import ArrayField, bumpy

from embedfield.formats import cog, geozarr, journal, packing, shards, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedfield.formats.geozarr import Layout

# Name of the raster, layout.
KINDS: dict[str, tuple[str, Layout]] = {
    "one file": ("field.tif", "sharded"),
    "tiles": ("field.tif", "sharded"),
    "zarr": ("field.zarr", "sharded"),
    "flat": ("field.zarr", "flat"),
}
DIM, HEIGHT, WIDTH = 4, 400, 330
TOUCHES = {"open", "os.rename", "os.mkdir", "os.truncate", "os.remove", "os.scandir", "os.rmdir"}


def kill() -> None:
    """End this process at once, as when power fails."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> Iterator[int]:
    """Let this process be killed at a moment; return the counter of touches."""
    touches = count(1)
    if moment.endswith("s"):
        timer = threading.Timer(float(moment[:-1]), kill)
        timer.daemon = True
        timer.start()

    def watch(event: str, _: tuple[object, ...]) -> None:
        if event in TOUCHES and str(next(touches)) == moment:
            kill()

    sys.addaudithook(watch)
    return touches


def write(kind: str, folder: Path) -> None:
    """Write a raster in small units, keeping rows as often as can be."""
    name, layout = KINDS[kind]
    journal.INTERVAL = 0
    packing.STRIP = 4 * DIM * WIDTH * 30
    geozarr.SHARD = 64
    shards.ROW = 2 * DIM * 64 * 64
    if kind == "tiles":
        cog.BUDGET = DIM * 128 * 128
    field = ArrayField(bumpy(DIM, HEIGHT, WIDTH), Grid(west=-10.0, north=50.0, res=0.05, width=WIDTH, height=HEIGHT))
    ranges = np.nanmin(field.values, axis=(1, 2)), np.nanmax(field.values, axis=(1, 2)) * np.float32(0.9)
    work = Work(field, Packing.fit(*ranges, "uint8"), Journal(folder / "journal"), lambda _: None)
    (folder / "field").mkdir(exist_ok=True)
    write_raster(work, folder / "field" / name, layout)


if __name__ == "__main__":
    kind, folder, moment = sys.argv[1:]
    begun, touches = time.monotonic(), arm(moment)
    write(kind, Path(folder))
    print(next(touches), time.monotonic() - begun)  # noqa: T201
