"""Trial: a small part of a field, computed, packed and written, to see what the whole would cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import numpy as np

from embedfield.clock import Clock
from embedfield.errors import PackingError
from embedfield.field import Field
from embedfield.formats import SUFFIXES, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import MARGIN, Packing, strip_pixels
from embedfield.formats.vrt import BLOCKSIZE
from embedfield.grid import Grid
from embedfield.integrity import size
from embedfield.reduce import ReducedField, Reduction
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.formats import Format
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.packing import Dtype

# Windows that are computed.
PIECES = 5
# Seconds that computing them may take, about, and how many numbers they may have.
SECONDS, VALUES = 2.0, 2**26
# Pixels of the first read by which speed is told, and for how long the last one lasts at least.
FIRST, LASTING = 64, 0.25
# Rows of a window that is compressed, at least: thinner ones are not like a file's.
LEAST_ROWS = 8
# Places where the encoder is asked for itself, and how often it is asked again to tell how fast it is, at most.
PLACES, MORE = 256, 16


@dataclass(frozen=True)
class Cost:
    """What writing takes: so much for a file, and so much more for each pixel."""

    fixed: float
    """For a file, whatever it holds."""
    each: float
    """For a pixel."""

    @classmethod
    def between(cls, small: float, large: float, pixels: tuple[int, int]) -> Self:
        """Return the cost by which two files, of fewer and of more pixels, cost what they did."""
        fewer, more = pixels
        each = (large - small) / (more - fewer) if more > fewer else 0.0
        # Where they are alike, or noise has the small one cost more.
        return cls(max(0.0, small - each * fewer), each) if each > 0 else cls(0.0, large / more)

    def of(self, pixels: float, files: int) -> float:
        """Return what so many files of so many pixels together cost."""
        return self.fixed * files + self.each * pixels


@dataclass(frozen=True)
class Trial:
    """What a small part of a field took."""

    pixels: int
    """How many were computed, packed and written."""
    rate: float
    """How many are computed in a second, in windows as a writer asks for, or as time allows."""
    place_rate: float
    """At how many single places the encoder is asked in a second."""
    packing: Cost
    """Seconds of packing."""
    writing: Cost
    """Seconds of compressing and writing."""
    stored: Cost
    """Bytes on the disk, coarser levels among them."""

    @classmethod
    def of(
        cls,
        field: Field,
        places: npt.NDArray[np.float64],
        dtype: Dtype,
        format: Format,  # noqa: A002
        layout: Layout,
        *,
        width: int,
        pca: int | None = None,
        step: Callable[[str], None],
    ) -> Self:
        """Compute, pack and write a few windows of a field.

        Args:
            field: What would be built, without a region that leaves out pixels.
            places: Degrees (lon, lat), (n, 2), where windows may lie, from south to north.
            dtype: Type of the stored numbers.
            format: Of the raster.
            layout: Of Zarr.
            width: Pixels across the windows in which a writer would read it.
            pca: How many components are to be kept of a field of whole vectors.
            step: Told what is done.

        Raises:
            PackingError: If the encoder has no value at any of the places, or
                the dtype cannot hold the sample.
        """
        step("asking the encoder at a few places")
        places, asked, place_rate = _asked(field, places)
        if pca is not None:
            field = ReducedField(field, Reduction.fit(asked, pca))
            asked = field.reduction.reduce(asked).astype(np.float32)
        step("computing a sample")
        rate = pixel_rate(field, places[len(places) // 2], width)
        values, rate = _computed(field, places, rate)
        packing = spanning(dtype, asked.T, values.reshape(len(values), -1))
        step("packing and writing the sample")
        pixels = values.shape[1] * values.shape[2]
        return cls(pixels, rate, place_rate, *_stored(_Pieces(field, values), packing, format, layout))


def _asked(
    field: Field, places: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], float]:
    """Return the places that have a value, their vectors (n, dim), and at how many the encoder is asked in a second.

    Raises:
        PackingError: If none has one.
    """
    field.at(places[:1])  # what is done once is done
    start = time.perf_counter()
    values = field.at(places)
    spent = time.perf_counter() - start
    # More of them are asked as fast as many are.
    more = np.tile(places, (int(np.clip(LASTING / spent, 1, MORE)), 1))
    start = time.perf_counter()
    field.at(more)
    rate = len(more) / (time.perf_counter() - start)
    there = ~np.isnan(values).any(axis=1)
    if not there.any():
        raise PackingError(
            f"{field.card.name} has no value at any of {len(places)} places in bounds={field.grid.bounds}. "
            "Choose other bounds, or check the weights for numbers that are not finite."
        )
    return places[there], values[there], rate


def pixel_rate(field: Field, place: npt.NDArray[np.float64], width: int) -> float:
    """Return how many pixels of a field are computed in a second.

    Windows about a place are read, each larger than the one before, until one
    takes long enough to tell, and the second time too: the first one of a size
    may do what is done once.

    Args:
        field: What is computed.
        place: Degrees (lon, lat), (2,).
        width: Pixels across a window, at most.
    """
    most = min(field.grid.width * field.grid.height, strip_pixels(field))
    width, pixels = min(width, field.grid.width), FIRST
    _spent(field, window_about(field.grid, place, LEAST_ROWS, LEAST_ROWS))
    begun = time.perf_counter()
    while True:
        across = min(pixels // LEAST_ROWS, width)
        window = window_about(field.grid, place, min(pixels, max(most, LEAST_ROWS * across)) // across, across)
        spent = _spent(field, window)
        last = pixels >= most or time.perf_counter() - begun > SECONDS
        if spent >= LASTING or last:  # another program may have had the processor
            spent = min(spent, _spent(field, window))
        if spent >= LASTING or last:
            return window.width * window.height / spent
        pixels = int(pixels * np.clip(1.5 * LASTING / spent, 2, 16))


def _spent(field: Field, window: Window) -> float:
    """Return the seconds that reading a window takes."""
    start = time.perf_counter()
    field.read(window)
    return time.perf_counter() - start


def _computed(field: Field, places: npt.NDArray[np.float64], rate: float) -> tuple[npt.NDArray[np.float32], float]:
    """Return the values of a few windows, one above the other, and how many pixels are computed in a second.

    Args:
        field: What is computed.
        places: Degrees (lon, lat), (n, 2), where windows may lie.
        rate: How many pixels are computed in a second, as far as is known.

    Returns:
        (dim, height, width), float32, and a rate that is no smaller.
    """
    start, parts = time.perf_counter(), []
    for window in _windows(field.grid, places, min(rate * SECONDS, VALUES / field.card.dim)):
        parts.append(field.read(window))
        spent = time.perf_counter() - start
        if spent > SECONDS:  # rows cost something too, whatever their width
            break
    values = np.concatenate(parts, axis=1)
    return values, max(rate, values.shape[1] * values.shape[2] / spent)


def _windows(grid: Grid, places: npt.NDArray[np.float64], affordable: float) -> list[Window]:
    """Return windows of one shape, none twice, that have about as many pixels as are affordable, at least a few rows.

    The whole grid, if it is that small.
    """
    if grid.width * grid.height <= affordable:
        return [grid.window]
    count = int(np.clip(affordable / (LEAST_ROWS * BLOCKSIZE), 1, PIECES))
    each = affordable / count
    # As wide as a block of the file where few rows can be afforded too: what pads a block costs little below its rows.
    across = BLOCKSIZE * int(np.clip(each / BLOCKSIZE**2, 1, 2))
    rows = int(np.clip(each / BLOCKSIZE, LEAST_ROWS, BLOCKSIZE))
    windows = list(dict.fromkeys(window_about(grid, place, rows, across) for place in _few(grid, places, count)))
    return windows[::2] + windows[1::2]  # from south to north, then those in between: there may be no time for all


def _few(grid: Grid, places: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return a few of places that are spread evenly by area and rise to the north, spread evenly over the pixels."""
    # Towards the poles pixels of degrees are smaller, so that there are more of them.
    weight = 1 / np.maximum(0.01, np.cos(np.deg2rad(places[:, 1]))) if grid.geographic else np.ones(len(places))
    share = np.cumsum(weight) / weight.sum()
    chosen = np.searchsorted(share, (np.arange(count) + 0.5) / count)
    few: npt.NDArray[np.float64] = places[chosen.clip(max=len(places) - 1)]
    return few


def window_about(grid: Grid, place: npt.NDArray[np.float64], height: int, width: int) -> Window:
    """Return a window of a grid about a place, degrees (lon, lat), (2,), at most so large."""
    row, col = (int(part[0]) for part in grid.positions(place[None]))
    height, width = min(height, grid.height), min(width, grid.width)
    top = min(max(row - height // 2, 0), grid.height - height)
    left = min(max(col - width // 2, 0), grid.width - width)
    return Window(left, top, width, height)


def spanning(dtype: Dtype, *samples: npt.NDArray[np.floating]) -> Packing:
    """Return the packing of a field by samples of it, its ranges a little wider, as a build's are.

    Args:
        dtype: Type of the stored numbers.
        samples: (dim, n) each; NaN where there is no value.

    Raises:
        PackingError: If the dtype cannot hold them.
    """
    low = np.fmin.reduce([np.fmin.reduce(sample, axis=1) for sample in samples]).astype(np.float64)
    high = np.fmax.reduce([np.fmax.reduce(sample, axis=1) for sample in samples]).astype(np.float64)
    # A band without any value is packed as if it were zero.
    low, high = (np.where(np.isnan(edge), 0.0, edge) for edge in (low, high))
    with np.errstate(invalid="ignore"):  # `fit` refuses what is not finite
        span = MARGIN * (high - low)
    return Packing.fit(low - span, high + span, dtype)


class _Pieces(Field):
    """Values in memory as a field somewhere on the globe."""

    def __init__(self, field: Field, values: npt.NDArray[np.float32]) -> None:
        self.card, self.components, self.values = field.card, field.components, values
        _, height, width = values.shape
        self.grid = Grid(west=-180.0, north=90.0, res=min(180 / height, 360 / width), width=width, height=height)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        window = window or self.grid.window
        return self.values[:, window.rows, window.cols]


def _stored(
    pieces: _Pieces,
    packing: Packing,
    format: Format,  # noqa: A002
    layout: Layout,
) -> tuple[Cost, Cost, Cost]:
    """Return seconds of packing, seconds of writing, and bytes: by a small file and by a large one."""
    small = _Pieces(pieces, pieces.values[:, :LEAST_ROWS, :BLOCKSIZE])
    # The first one does what is done once.
    _, fewer, more = (_written(part, packing, format, layout) for part in (small, small, pieces))
    pixels = (small.grid.width * small.grid.height, pieces.grid.width * pieces.grid.height)
    costs = [Cost.between(one, other, pixels) for one, other in zip(fewer, more, strict=True)]
    return costs[0], costs[1], costs[2]


def _written(
    field: Field,
    packing: Packing,
    format: Format,  # noqa: A002
    layout: Layout,
) -> tuple[float, float, float]:
    """Write a field where nothing remains of it; return the seconds of packing and of writing, and its bytes."""
    clock = Clock()
    with TemporaryDirectory(prefix="embedfield-") as name:
        folder = Path(name) / "field"
        folder.mkdir()
        work = Work(field, packing, Journal(Path(name) / "journal"), lambda _: None, clock)
        write_raster(work, folder / f"sample{SUFFIXES[format]}", layout)
        return clock.seconds["packing"], clock.seconds["writing"], size(folder)
