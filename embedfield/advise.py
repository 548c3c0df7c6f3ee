"""Advise: how fine a grid a model needs and what it costs, measured before anything is built."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield import models
from embedfield.advice import Advice, Option, Rung
from embedfield.errors import GridError, PackingError, PlacesError
from embedfield.evaluate import EncodedField, load
from embedfield.fidelity import Fidelity
from embedfield.formats.cog import bits_per_value
from embedfield.formats.packing import DTYPES
from embedfield.formats.vrt import BLOCKSIZE
from embedfield.grid import TOLERANCE, Grid
from embedfield.places import GLOBE, random_places
from embedfield.trial import pixel_rate, spanning, window_about
from embedfield.verify import READINGS, SEED, Gathered, clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.evaluate import Evaluator, Precision
    from embedfield.field import Method
    from embedfield.formats.packing import Dtype, Packing
    from embedfield.grid import Bounds
    from embedfield.window import Window

# Sides of pixels that are tried, degrees.
LADDER = (10.0, 5.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
# Places at which the encoder is asked: at most, and at least, however slow it is.
PLACES, FEWEST = 1024, 256
# A place's own vector, and those of the pixels around it.
CORNERS = 4
# Seconds that all places and all blocks may take, about.
ASKING, MAKING = 25.0, 15.0
# Rows of a block that are made and compressed, at least.
FEWEST_ROWS = 8
# Numbers that are compressed, of each grid and dtype.
VALUES = 2**24
# Pixels across the windows by which it is told how fast it is.
WIDTH = 1024


def advise_grid(
    model: str | Card,
    *,
    bounds: Bounds = GLOBE,
    tolerance: float = 0.99,
    resolutions: Sequence[float] | None = None,
    dtypes: Sequence[Dtype] | None = None,
    dims: int | None = None,
    weights: str | Path | None = None,
    database: str | Path | None = None,
    device: str = "auto",
    precision: Precision | None = None,
    offline: bool = False,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **inputs: Any,
) -> Advice:
    """Measure what grids of a model would give and cost, without building any.

    The encoder is asked at random places and at the pixels around them, packed
    and read as nearest and as bilinear, as `verify_field` does with a stored
    field. A few blocks are made and compressed to estimate sizes, and a strip
    to estimate times. It takes about a minute with a slow model.

    Args:
        model: Name or alias of a model, or a card of your own.
        bounds: west, south, east, north in degrees, widened to whole pixels.
        tolerance: Mean cosine that is wanted at least, above 0 and below 1. A grid
            is recommended if its own is, less two standard errors.
        resolutions: Sides of pixels to try, degrees; None for 10 to 0.01, as
            far as they fit into the bounds.
        dtypes: Types of stored numbers to try; None for all.
        dims: Length of the prefix that is wanted of a Matryoshka model.
        weights: A checkpoint of your own; None for the released one.
        database: A database of your own, for a model that looks things up.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        precision: ``float64``, ``float32``, ``tf32`` or ``bf16``; None for the
            official one.
        offline: Never touch the network.
        report: Told what is fetched, before it is.
        progress: Told (grids done, grids in all) as it goes on.
        inputs: What is asked beside the place, such as ``month=7``.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no input of a name, or not that number.
        GridError: If bounds and resolutions make no grid, or one where the
            model has no value.
        PackingError: If a dtype is not known, or none can hold the model's values.
        PlacesError: If the tolerance is no cosine.
        WeightsError: If the weights cannot be had or are not the model's.
        DeviceError: If this machine has no such device or precision.
    """
    if not 0 < tolerance < 1:
        raise PlacesError(f"tolerance={tolerance!r} is no cosine to hold a grid to. Give one such as 0.99.")
    dtypes = tuple(dict.fromkeys(dtypes or DTYPES))
    if unknown := [dtype for dtype in dtypes if dtype not in DTYPES]:
        raise PackingError(f"dtype={unknown[0]!r} cannot be stored. Choose from: {', '.join(DTYPES)}.")
    grids = _grids(bounds, resolutions)
    evaluator = load(
        model, weights, device, precision, dims=dims, database=database, offline=offline, report=report, **inputs
    )
    survey = _Survey(evaluator, grids, dtypes)
    rungs = []
    for number, grid in enumerate(grids, 1):
        rungs.append(survey.rung(grid))
        if progress:
            progress(number, len(grids))
    told = {"dims": dims, **inputs, "weights": weights, "database": database, "precision": precision}
    return Advice(
        evaluator.card, _asked(evaluator.card, told), bounds, dtypes, tolerance, len(survey.places), survey.rate,
        str(evaluator.device), rungs,
    )  # fmt: skip


def _grids(bounds: Bounds, resolutions: Sequence[float] | None) -> list[Grid]:
    """Return the grids to try, from coarse to fine."""
    if resolutions is not None:
        if not len(resolutions):
            raise GridError("resolutions=[] are none. Give some, such as 1 0.1, or leave them out.")
        return [_grid(res, bounds) for res in sorted(set(resolutions), reverse=True)]
    west, south, east, north = _grid(LADDER[-1], bounds).bounds
    fit = [res for res in LADDER if res <= min(east - west, north - south) * (1 + TOLERANCE)]
    return [_grid(res, bounds) for res in fit or LADDER[-1:]]


def _grid(res: float, bounds: Bounds) -> Grid:
    """Return the grid that tiles bounds; the next larger one where none does."""
    try:
        return Grid.from_bounds(res, bounds)
    except GridError:
        west, south, east, north = bounds
        if west == east or south == north:  # nothing to widen: a build has nothing to make there either
            raise
        return Grid.covering(res, bounds)


class _Survey:
    """An encoder, and random places where it has been asked."""

    def __init__(self, evaluator: Evaluator, grids: Sequence[Grid], dtypes: Sequence[Dtype]) -> None:
        """Ask the encoder at as many places as time allows.

        Raises:
            GridError: If it has no value at any.
        """
        self.evaluator, self.dtypes, self.count = evaluator, dtypes, len(grids)
        card, finest = evaluator.card, grids[-1]
        boxes = clipped([finest.bounds], card.latitudes)
        places = random_places(np.random.default_rng(SEED), PLACES, boxes) if boxes else np.empty((0, 2))
        truth, self.rate = self._answers(places)
        known = np.isfinite(truth).all(axis=1)
        if not known.any():
            south, north = card.latitudes
            raise GridError(
                f"{card.name} has no value at any of {len(truth)} random places in bounds={finest.bounds}; it is "
                f"defined from {south:g} to {north:g} degrees of latitude. Choose other bounds."
            )
        self.places, self.truth = places[: len(truth)][known], truth[known]
        self.rate = pixel_rate(EncodedField(evaluator, finest), self.places[0], WIDTH)

    def _answers(self, places: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.floating], float]:
        """Return the encoder at the first of places (n, 2), as many as time allows, and how many it does in a second.

        Each part is as long as all before it: the last ones tell how fast it is when it is warm.
        """
        parts, done, rate, affordable = [self.evaluator.encode(places[:0])], 0, np.inf, FEWEST
        while done < min(affordable, len(places)):
            part = places[done : min(max(2 * done, FEWEST), affordable)]
            start = time.perf_counter()
            parts.append(self.evaluator.encode(part))
            rate = len(part) / (time.perf_counter() - start)
            done += len(part)
            # Of each place the pixels around it are asked too, on every grid.
            affordable = int(np.clip(rate * ASKING / (1 + CORNERS * self.count), FEWEST, PLACES))
        return np.concatenate(parts), rate

    def rung(self, grid: Grid) -> Rung:
        """Measure what a grid would give and cost."""
        field = EncodedField(self.evaluator, grid)
        pixels = Gathered.of(field, self.places)
        packings = self._packings(pixels)
        blocks = [field.read(window) for window in self._windows(grid)]
        return Rung(
            grid,
            self._readings(pixels),
            {dtype: self._option(pixels, packing, blocks) for dtype, packing in packings.items()},
        )

    def _windows(self, grid: Grid) -> list[Window]:
        """Return a few windows about places, as large and as many as time allows, and none twice.

        They are as wide as a block of the file even where few rows can be
        afforded: what pads a block costs little below its rows, and much beside them.
        """
        affordable = min(self.rate * MAKING / self.count, VALUES / self.evaluator.dim)
        rows = int(np.clip(affordable / BLOCKSIZE, FEWEST_ROWS, BLOCKSIZE))
        count = int(np.clip(affordable / BLOCKSIZE**2, 1, CORNERS))
        return list(dict.fromkeys(window_about(grid, place, rows, BLOCKSIZE) for place in self.places[:count]))

    def _packings(self, pixels: Gathered) -> dict[Dtype, Packing]:
        """Return the packings that hold the values, their ranges measured as a build does it."""
        found: dict[Dtype, Packing] = {}
        refused = None
        for dtype in self.dtypes:
            try:
                found[dtype] = spanning(dtype, self.truth.T, pixels.values.T)
            except PackingError as error:
                refused = error
        if not found and refused:
            raise refused
        return found

    def _option(self, pixels: Gathered, packing: Packing, blocks: Sequence[npt.NDArray[np.float32]]) -> Option:
        """Measure one way to store a grid."""
        grid = pixels.grid
        codes, _ = packing.pack(np.ascontiguousarray(pixels.values.T[:, :, None]))
        stored = pixels.holding(packing.unpack(codes)[:, :, 0].T)
        exact, read = (source.at(self.places, "nearest") for source in (pixels, stored))
        there = ~np.isnan(exact).any(axis=1)
        start = time.perf_counter()
        bits = [bits_per_value(packing.pack(block)[0], packing) for block in blocks]
        spent = time.perf_counter() - start
        made = sum(block.size for block in blocks)
        values = _stored_pixels(grid) * self.evaluator.dim
        size = float(np.average(bits, weights=[block.size for block in blocks])) / 8 * values
        seconds = grid.width * grid.height / self.rate + spent / made * values
        return Option(packing.dtype, self._readings(stored), Fidelity.compare(exact[there], read[there]), size, seconds)

    def _readings(self, pixels: Gathered) -> dict[Method, Fidelity]:
        """Return what pixels give at the places, held against the encoder, by reading."""
        found: dict[Method, Fidelity] = {}
        for reading in READINGS:
            read = pixels.at(self.places, reading)
            there = ~np.isnan(read).any(axis=1)
            found[reading] = Fidelity.compare(self.truth[there], read[there])
        return found


def _stored_pixels(grid: Grid) -> int:
    """Return how many pixels a file has, those of its overviews among them."""
    height, width = grid.shape
    count = height * width
    while max(height, width) > BLOCKSIZE:
        height, width = -(-height // 2), -(-width // 2)
        count += height * width
    return count


def _asked(card: Card, told: Mapping[str, Any]) -> str:
    """Return what is asked of a model, in words of the command line."""
    known = any(card.name == other.name for other in models.cards())
    words = ["--model", card.name] if known else ["--card", "FILE"]
    for name, value in told.items():
        if value is not None:
            own = name in OPTIONS
            words += [f"--{name}", str(value)] if own else ["--input", f"{name}={value}"]
    return shlex.join(words)


# What the command line has an option of its own for.
OPTIONS = {"dims", "month", "year", "weights", "database", "precision"}
