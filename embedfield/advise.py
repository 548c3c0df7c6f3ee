"""Advise: how fine a grid a model needs and what it costs, measured before anything is built."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield import models
from embedfield.certificate import cosine_text, loss_text, number_text
from embedfield.errors import GridError, PackingError, PlacesError
from embedfield.evaluate import EncodedField, load
from embedfield.fidelity import Fidelity, plain
from embedfield.formats.cog import bits_per_value
from embedfield.formats.packing import DTYPES, MARGIN, Packing
from embedfield.formats.vrt import BLOCKSIZE
from embedfield.grid import TOLERANCE, Grid, Window
from embedfield.places import GLOBE
from embedfield.verify import READINGS, SEED, Gathered, clipped, random_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.evaluate import Evaluator, Precision
    from embedfield.field import Method
    from embedfield.formats.packing import Dtype
    from embedfield.grid import Bounds

# Sides of pixels that are tried, degrees.
LADDER = (10.0, 5.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
# Places at which the encoder is asked: at most, and at least, however slow it is.
PLACES, FEWEST = 1024, 64
# A place's own vector, and those of the pixels around it.
CORNERS = 4
# Seconds that all places, all blocks and the strip may take, about.
ASKING, MAKING, TIMING = 25.0, 15.0, 3.0
# Rows of a block that are made and compressed, at least.
FEWEST_ROWS = 8
# Numbers that are compressed, of each grid and dtype.
VALUES = 2**24
# Of the strip: bytes of its float32, and pixels of its longer side.
STRIP, WIDTH = 64 * 2**20, 1024


@dataclass(frozen=True, eq=False)
class Option:
    """One way to store a grid."""

    dtype: Dtype
    """Type of the stored numbers."""
    readings: Mapping[Method, Fidelity]
    """What is read from it, by reading, held against the encoder."""
    packing: Fidelity
    """What packing costs by itself, read as nearest."""
    size_bytes: float
    """Size of the raster as COG with its overviews, estimated from a few blocks."""
    seconds: float
    """How long a build takes on this machine, estimated."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One grid of the ladder."""

    grid: Grid
    """Where the pixels are."""
    exact: Mapping[Method, Fidelity]
    """What is read from it without packing, by reading, held against the encoder."""
    options: Mapping[Dtype, Option]
    """The ways to store it; without those that cannot hold the model's values."""

    def best(self, reading: Method, tolerance: float) -> Option | None:
        """Return the smallest way to store it that has a mean cosine of at least the tolerance; None if none has."""
        fit = [option for option in self.options.values() if option.readings[reading].cosine >= tolerance]
        return min(fit, key=lambda option: option.size_bytes, default=None)


@dataclass(frozen=True, eq=False)
class Advice:
    """What a ladder of grids gives of a model, and what it costs."""

    card: Card
    """The model, with what was asked of it."""
    asked: str
    """The same in words of the command line, such as ``--model climplicit --month 7``."""
    bounds: Bounds
    """west, south, east, north, degrees."""
    dtypes: Sequence[Dtype]
    """The ways to store numbers that were tried."""
    tolerance: float
    """Mean cosine that is wanted at least."""
    places: int
    """At how many random places the encoder was asked."""
    rate: float
    """Pixels that this machine encodes in a second."""
    device: str
    """On what."""
    rungs: Sequence[Rung]
    """The grids, from coarse to fine."""

    def choice(self, reading: Method) -> tuple[Rung, Option] | None:
        """Return the coarsest grid that is within tolerance, as all finer ones are, and how to store it."""
        found = None
        for rung in reversed(self.rungs):
            option = rung.best(reading, self.tolerance)
            if option is None:
                break
            found = rung, option
        return found

    def command(self, rung: Rung, option: Option) -> str:
        """Return the command that builds a rung."""
        edges = " ".join(f"{edge:.12g}" for edge in rung.grid.bounds)
        bounds = "" if rung.grid.bounds == GLOBE else f" --bounds {edges}"
        dtype = "" if option.dtype == DTYPES[0] else f" --dtype {option.dtype}"
        return f"embedfield build {self.asked} --res {rung.grid.res:.12g}{bounds}{dtype}"

    @property
    def lines(self) -> list[str]:
        """The advice as text: a table, what packing costs, and what to do."""
        area = "the globe" if self.bounds == GLOBE else "bounds " + " ".join(f"{edge:g}" for edge in self.bounds)
        head = (
            f"{self.card.name} over {area}: cosine with the encoder at {self.places:,} random places, "
            f"{self.rate:,.0f} pixels a second on {self.device}"
        )
        return [head, "", *_aligned(self._table()), "", *self._packing(), "", *self._closing()]

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as plain data for JSON."""
        choices = {reading: self.choice(reading) for reading in READINGS}
        options = self.card.options
        return {
            "model": self.card.name,
            "asked": {name: options[name] for name in (*self.card.inputs, "dims") if name in options},
            "bounds": list(self.bounds),
            "tolerance": self.tolerance,
            "places": self.places,
            "pixels_per_second": plain(self.rate, 3),
            "device": self.device,
            "grids": [_rung_to_dict(rung) for rung in self.rungs],
            "choice": {
                reading: {
                    "res": found[0].grid.res, "dtype": found[1].dtype, "command": self.command(*found),
                } if found else None
                for reading, found in choices.items()
            },
        }  # fmt: skip

    def _table(self) -> list[tuple[str, ...]]:
        """Return the rows of the table, headings first."""
        sizes = ("size", *[""] * (len(self.dtypes) - 1))
        rows: list[tuple[str, ...]] = [
            ("", "", "bilinear", "", "nearest", "", *sizes, "build"),
            ("res", "pixels", "mean", "worst 1 %", "mean", "worst 1 %", *self.dtypes, "time"),
        ]
        for rung in self.rungs:
            cosines = [
                cosine_text(loss)
                for reading in reversed(READINGS)
                for loss in (rung.exact[reading].mean_loss, 1 - rung.exact[reading].cosine_p01)
            ]
            stored = [rung.options.get(dtype) for dtype in self.dtypes]
            size = [bytes_text(option.size_bytes) if option else "-" for option in stored]
            seconds = next(option.seconds for option in stored if option)
            pixels = f"{rung.grid.width:,} x {rung.grid.height:,}"
            rows.append((f"{rung.grid.res:g}°", pixels, *cosines, *size, time_text(seconds)))
        return rows

    def _packing(self) -> Iterator[str]:
        """Yield a line for each dtype: what it costs."""
        rung = self.rungs[-1]
        for dtype in self.dtypes:
            if dtype not in rung.options:
                yield f"{dtype} cannot hold the values of {self.card.name}."
                continue
            cost = rung.options[dtype].packing
            relative = number_text(cost.relative_rmse)
            yield f"{dtype}: packing costs {loss_text(cost.mean_loss)} of cosine, a relative RMSE of {relative}."

    def _closing(self) -> Iterator[str]:
        """Yield what to do."""
        for reading in reversed(READINGS):
            found = self.choice(reading)
            if not found:
                finest = self.rungs[-1].grid.res
                yield f"{reading}: no grid down to {finest:g}° has a mean cosine of {self.tolerance:g}."
                continue
            rung, option = found
            said = (
                cosine_text(option.readings[reading].mean_loss),
                bytes_text(option.size_bytes),
                time_text(option.seconds),
            )
            yield (
                f"{reading}: {rung.grid.res:g}° as {option.dtype} is the coarsest with a mean cosine of at least "
                f"{self.tolerance:g} ({', '.join(said)}):"
            )
            yield f"    {self.command(rung, option)}"
        if not self.choice("bilinear"):
            yield f"Ask the encoder itself: embedfield sample {self.asked} PLACES"


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
        tolerance: Mean cosine that is wanted at least, above 0 and below 1.
        resolutions: Sides of pixels to try, degrees; None for 10 to 0.01, as
            far as they fit into the bounds.
        dtypes: Types of stored numbers to try; None for all.
        dims: Length of the prefix that is wanted of a Matryoshka model.
        weights: A checkpoint of your own; None for the released one.
        database: A database of your own, for a model that looks things up.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``float32`` or ``float64``; None for the official one.
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
        self.rate = self._timed(finest)

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

    def _timed(self, grid: Grid) -> float:
        """Return how many pixels of a grid are encoded in a second, as a writer asks for them: in strips."""
        most = int(min(self.rate * TIMING, STRIP / 4 / self.evaluator.dim))
        width = min(WIDTH, grid.width, max(1, most))
        window = self._window(grid, self.places[0], max(1, most // width), width)
        start = time.perf_counter()
        EncodedField(self.evaluator, grid).read(window)
        return window.width * window.height / (time.perf_counter() - start)

    def _window(self, grid: Grid, place: npt.NDArray[np.float64], height: int, width: int) -> Window:
        """Return a window of a grid about a place, at most so large."""
        row, col = (int(part[0]) for part in grid.positions(place[None]))
        height, width = min(height, grid.height), min(width, grid.width)
        top = min(max(row - height // 2, 0), grid.height - height)
        left = min(max(col - width // 2, 0), grid.width - width)
        return Window(left, top, width, height)

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
        return list(dict.fromkeys(self._window(grid, place, rows, BLOCKSIZE) for place in self.places[:count]))

    def _packings(self, pixels: Gathered) -> dict[Dtype, Packing]:
        """Return the packings that hold the values, their ranges measured as a build does it."""
        values = np.concatenate((self.truth, pixels.values))
        low, high = np.nanmin(values, axis=0).astype(np.float64), np.nanmax(values, axis=0).astype(np.float64)
        span = MARGIN * (high - low)
        found, refused = {}, None
        for dtype in self.dtypes:
            try:
                found[dtype] = Packing.fit(low - span, high + span, dtype)
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


def _rung_to_dict(rung: Rung) -> dict[str, Any]:
    return {
        **rung.grid.to_dict(),
        **{reading: fidelity.brief for reading, fidelity in rung.exact.items()},
        "stored": {
            dtype: {
                "size_bytes": plain(option.size_bytes, 3),
                "seconds": plain(option.seconds, 3),
                "packing_loss": plain(option.packing.mean_loss, 3),
                **{reading: fidelity.brief for reading, fidelity in option.readings.items()},
            }
            for dtype, option in rung.options.items()
        },
    }


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of a table with its columns flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def bytes_text(size: float) -> str:
    """Return a number of bytes with two significant digits or more, such as 1.5 MB."""
    return _scaled(size, (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)))


def time_text(seconds: float) -> str:
    """Return a time with two significant digits or more, such as 3.2 h."""
    if seconds < 1:
        return "under 1 s"
    return _scaled(seconds, (("s", 1), ("min", 60), ("h", 3600), ("d", 86400)))


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    unit, size = next(((unit, size) for unit, size in reversed(units) if value >= 0.995 * size), units[0])
    return f"{value / size:,.{1 if value / size < 9.95 else 0}f} {unit}"
