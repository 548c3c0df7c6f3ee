"""Estimate: what a build would make and cost, before anything is written."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.amounts import bytes_text, rate_text, time_text
from embedfield.covered import Covered
from embedfield.evaluate import EncodedField
from embedfield.formats import packing
from embedfield.formats.packing import strip_rows
from embedfield.order import Order
from embedfield.outlook import Measured, Outlook, check_workers, like_a_worker
from embedfield.trial import PLACES, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from embedfield.card import Card
    from embedfield.formats import Format
    from embedfield.formats.packing import Dtype
    from embedfield.formats.pieces import Units
    from embedfield.grid import Grid

# Places at which a certificate asks the encoder, and pixels around each that it asks for too.
VERIFIED, AROUND = 5120, 4
# Seconds of what is about the same for every build: picture, certificate, catalogue.
CLOSING = 1.0


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a build would make and cost on this machine."""

    card: Card
    """The model, with what was asked of it."""
    grid: Grid
    """Where the pixels are."""
    dim: int
    """How many bands."""
    format: Format
    """Of the raster."""
    dtype: Dtype
    """Type of the stored numbers."""
    units: Units
    """The pieces in which it is written."""
    device: str
    """What computes, such as ``cpu``."""
    precision: str
    """How it computes, such as ``float32``."""
    folder: Path | str
    """Where the field goes: a path, or an address."""
    there: bool
    """Whether it is there already: a build would open it."""
    done: int | None
    """How many pixels a build that was stopped has done; None if there is none to go on with."""
    raw_bytes: int
    """Size of the stored numbers before compression, without coarser levels."""
    stored_bytes: float
    """Size of the raster on the disk, coarser levels among it."""
    free_bytes: int | None
    """What the disk has free; None of a bucket."""
    peak_memory: int
    """Bytes of memory that the process takes at most."""
    speed: float
    """Pixels that are computed in a second."""
    sampled: int
    """How many pixels were computed to tell."""
    seconds: Mapping[str, float]
    """What the whole takes, by ``computing``, ``packing``, ``writing`` and ``checking`` (ranges before, certificate
    after)."""
    overlapped: bool
    """Whether another device computes while this machine packs and writes."""
    outlook: Outlook | None = None
    """What it would take the workers of a cluster; then all else here is of a process that has what one of them
    has."""

    @property
    def total(self) -> float:
        """Seconds that the whole takes."""
        return self._making + self._rest

    @property
    def left(self) -> float:
        """Seconds that a build takes now: of one that was stopped the rest."""
        share = 1 - (self.done or 0) / (self.grid.width * self.grid.height)
        return 0.0 if self.there else share * self._making + self._rest

    @property
    def _making(self) -> float:
        """Seconds of the pixels."""
        if self.outlook:
            return self.outlook.shared
        computing, packing, writing, _ = self.seconds.values()
        # On a CPU all of them use the same cores.
        return max(computing, packing + writing) if self.overlapped else computing + packing + writing

    @property
    def _rest(self) -> float:
        """Seconds of what is before and after them."""
        return self.outlook.rest if self.outlook else self.seconds["checking"]

    @property
    def lines(self) -> list[str]:
        """The estimate as text."""
        return [f"{name:<8} {line}" for name, line in self.describe().items()]

    def describe(self) -> dict[str, str]:
        """Return what a person would want to know before the build, in lines of text."""
        grid, (west, south, east, north) = self.grid, self.grid.bounds
        size = f"{bytes_text(self.raw_bytes)} of numbers, about {bytes_text(self.stored_bytes)} on the disk"
        return {
            "model": f"{self.card.name} in {self.precision} on {self.device}",
            "grid": f"{grid.width:,} x {grid.height:,} pixels of {grid.side}, {grid.crs}",
            "bounds": f"west {west:g}, south {south:g}, east {east:g}, north {north:g}",
            "raster": f"{self.format}, {self.dim:,} bands of {self.dtype}, {self._units()}",
            "size": f"{size} with coarser levels{self._room()}",
            **(self.outlook.describe() if self.outlook else self._by_one()),
            "speed": f"{rate_text(self.speed)} pixels a second, by a sample of {self.sampled:,}",
            "folder": f"{self.folder}{self._state()}",
        }

    def _by_one(self) -> dict[str, str]:
        """Return what a build by one process takes."""
        parts = ", ".join(f"{name} {time_text(spent)}" for name, spent in self.seconds.items())
        return {
            "memory": f"at most about {bytes_text(self.peak_memory)}",
            "time": f"about {time_text(self.total)}: {parts}",
        }

    def _room(self) -> str:
        """Return in words what is free where the field goes; nothing where that cannot be known."""
        if self.free_bytes is None:
            return ""
        free = f"{bytes_text(self.free_bytes)} are free"
        tight = self.free_bytes < self.stored_bytes
        return f"; only {free}: make room, or write elsewhere with --out" if tight else f"; {free}"

    def _units(self) -> str:
        count, height, width = self.units
        if count == 1:
            return "one tile" if self.format == "cog" else "one shard"
        return f"{count:,} {'tiles' if self.format == 'cog' else 'shards'} of {width:,} x {height:,} pixels"

    def _state(self) -> str:
        """Return what stands in the folder, in words."""
        if self.there:
            return " is there already, and the same: nothing is left to do"
        if self.done is None:
            return ""
        share = 100 * self.done // (self.grid.width * self.grid.height)
        return f": an unfinished build has {share} % of it, about {time_text(self.left)} are left"


def estimate_build(
    model: str | Card,
    res: float,
    *,
    workers: int | None = None,
    client: object = None,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    step: Callable[[str], None] | None = None,
    **asked: Any,
) -> Estimate:
    """Tell what a build would make and cost, by computing, packing and writing a small part of it.

    It takes some seconds, and leaves nothing behind but the model's weights in
    their cache.

    Args:
        model: As for `build_field`.
        res: As for `build_field`.
        workers: Tell what it would take so many workers of a cluster, each
            with one processor as fast as one of this machine, and a GPU if
            this one computes on a GPU; None for a build by one process here.
        client: As for `build_field`; nothing is asked of its workers.
        verify: As for `build_field`.
        progress: As for `build_field`; nothing is counted here.
        step: Told what is done, as it begins.
        asked: All other arguments of `build_field`.

    Raises:
        EmbedfieldError: As `build_field` does.
    """
    del progress, client
    check_workers(workers)
    step = step or (lambda _: None)
    step("loading the model")
    begun = time.monotonic()
    with like_a_worker() if workers else nullcontext():
        order = Order.of(model, res, **asked, sized=workers is None)
        loading = time.monotonic() - begun
        with order.site.errors():
            order.site.check_idle()
            there, plan = order.fulfilled(), order.begun()
        done, memory = plan.pixels_done(order.pieces.units) if plan else None, _memory()
        trial = _trial(order, step)
    found = _estimate(order, trial, there=there, done=done, memory=memory, verify=verify)
    if workers is None:
        return found
    told = Measured(found.seconds, found.stored_bytes, memory, loading, VERIFIED if verify else 0)
    return replace(found, outlook=Outlook.of(order, workers, told))


def _estimate(order: Order, trial: Trial, *, there: bool, done: int | None, memory: int, verify: bool) -> Estimate:
    """Return what an order costs, by what a small part of it took, and the memory that the process took before."""
    grid, evaluator = order.field.grid, order.evaluator
    pixels, covered = grid.width * grid.height, Covered.of(order.field, _strip(order))
    return Estimate(
        card=evaluator.card,
        grid=grid,
        dim=order.dim,
        format=order.format,
        dtype=order.dtype,
        units=order.pieces.units,
        device=str(evaluator.device),
        precision=evaluator.precision,
        folder=order.site.place,
        there=there,
        done=done,
        raw_bytes=pixels * order.dim * np.dtype(order.dtype).itemsize,
        stored_bytes=trial.stored.of(pixels * covered.valued, _files(order)),
        free_bytes=order.site.free(),
        peak_memory=memory + order.pieces.peak_memory,
        speed=trial.rate,
        sampled=trial.pixels,
        seconds=_seconds(order, trial, covered, verify=verify),
        overlapped=order.device != "cpu",
    )


def _trial(order: Order, step: Callable[[str], None]) -> Trial:
    """Compute, pack and write a small part of an order."""
    whole = order.field
    # A region leaves out pixels: speeds are of those that are computed.
    field = EncodedField(order.evaluator, whole.grid, supersample=whole.supersample)
    places = whole.places(max(PLACES, 4 * (order.pca or 0)))
    return Trial.of(
        field, places, order.dtype, order.format, order.layout, width=_strip(order)[1], pca=order.pca, step=step
    )


def _strip(order: Order) -> tuple[int, int]:
    """Return height and width of what a writer asks for at a time."""
    pieces = order.pieces
    width = pieces.division.width
    return min(pieces.units.height, strip_rows(order.field, width)), width


def _files(order: Order) -> int:
    """Return how many files have what every file has."""
    return order.pieces.units.count if order.format == "cog" else 1


def _seconds(order: Order, trial: Trial, covered: Covered, *, verify: bool) -> dict[str, float]:
    """Return what a whole build takes, by its parts."""
    grid = order.field.grid
    pixels = grid.width * grid.height
    places = min(pixels, packing.SAMPLE) * (1 if order.pca is None else 2)
    if verify:
        places += VERIFIED + min(pixels, VERIFIED * AROUND) * order.field.supersample**2
    return {
        "computing": pixels * covered.computed / trial.rate,
        "packing": trial.packing.of(pixels, _files(order)),
        "writing": trial.writing.of(pixels * covered.computed, _files(order)),
        "checking": places / trial.place_rate + CLOSING,
    }


def _memory() -> int:
    """Return the most bytes of memory that this process has had; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
