"""Zonal statistics: what the pixels under a shape have in common, for all bands at once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
import shapely

from embedfield.errors import PlacesError
from embedfield.medians import Kept
from embedfield.overlay import Cover, Overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.window import Window

Stat = Literal["mean", "std", "min", "max", "median", "count", "coverage"]
# Those that a shape has once, whatever the number of bands.
SINGLE: Final = ("count", "coverage")
# Bytes of pixels' values, float32, that are looked at together.
HELD = 64 * 2**20
# Pixels under shapes that are looked at together; those of several shapes count several times.
CELLS = 2**20
# The same of values, each under one shape, that are sorted or compared together.
SPREAD = 32 * 2**20
# What a variance is by rounding alone, as a share of the mean square.
ROUNDING = 1e-13


class Zones(NamedTuple):
    """Statistics of shapes."""

    stats: dict[Stat, npt.NDArray[np.floating]]
    """(N, dim) float64 by name; ``count`` and ``coverage`` are (N,). NaN where a shape has no value."""
    status: npt.NDArray[np.str_]
    """(N,): ``valid``, ``nodata`` or ``outside``."""


def checked_stats(stats: str | Sequence[str]) -> tuple[Stat, ...]:
    """Return the names of statistics, once they are known.

    Raises:
        PlacesError: If one is not, there is none, or one is named twice.
    """
    names = (stats,) if isinstance(stats, str) else tuple(stats)
    known = get_args(Stat)
    wrong = [name for name in names if name not in known]
    if wrong or not names or len(set(names)) < len(names):
        said = ", ".join(names) or "none"
        raise PlacesError(f"stats={said}: give one or more, each once, of: {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def zones(
    field: Field,
    geometries: npt.NDArray[Any],
    stats: Sequence[Stat] = ("mean",),
    progress: Callable[[float], None] | None = None,
) -> Zones:
    """Return statistics of the pixels under shapes; which pixels these are is computed once for all bands.

    A polygon weighs pixels by the area that it covers of them, on the sphere
    where the grid is over longitude and latitude; a line by its length in
    them; several points count one each. What runs along the edge between two
    pixels lies in the one to the east or south, at the outer edges in the last.
    A shape too small to cover a share of any pixel has the value of the one
    that it lies in, at a count of 0. Pixels without a value are left out.

    Args:
        field: Whose pixels.
        geometries: In the grid's reference system, (N,), as `shapes_on` gives
            them; None has no status and no value.
        stats: Which: ``mean``, ``std`` (of the population), ``min``, ``max``, ``median``;
            ``count`` of pixels, parts of them added up; ``coverage``, the part of the
            shape that lies on pixels with a value.
        progress: Told what part of the work is done, up to 1.
    """
    overlay = Overlay(geometries, field.grid)
    with Kept(field.dim) if "median" in stats else nullcontext() as kept:
        tally = _Tally(len(geometries), field.dim, stats, kept)
        _add_all(tally, _parts(field, overlay, progress))
        _add_all(tally, _specks(field, overlay, tally))
        return tally.zones(overlay)


def _add_all(tally: _Tally, parts: Iterator[tuple[Cover, npt.NDArray[np.float32]]]) -> None:
    """Add pixels, in a thread of their own while the next are read or computed: encoders are for the caller's."""
    with ThreadPoolExecutor(1) as pool:
        adding: Future[None] | None = None
        for part in parts:
            if adding:
                adding.result()
            adding = pool.submit(tally.add, *part)
        if adding:
            adding.result()


def _parts(
    field: Field, overlay: Overlay, progress: Callable[[float], None] | None = None
) -> Iterator[tuple[Cover, npt.NDArray[np.float32]]]:
    """Yield what shapes cover, and the values of these pixels (n, dim), window by window."""
    most = min(HELD // (4 * field.dim), CELLS)
    side = field.blocksize * max(1, int(np.sqrt(most) / field.blocksize))
    windows = list(overlay.windows(side))
    for number, (window, members) in enumerate(windows):
        portions = overlay.portions(window, members, CELLS)
        # Where shapes lie upon one another, each pixel is wanted several times.
        values = field.read(window).reshape(field.dim, -1).T if len(portions) > 1 else None
        for portion in portions:
            cover = overlay.cover(window, portion)
            if len(cover.shape):
                yield _gathered(field, window, cover, values)
        if progress:
            progress((number + 1) / len(windows))


def _gathered(
    field: Field, window: Window, cover: Cover, values: npt.NDArray[np.float32] | None
) -> tuple[Cover, npt.NDArray[np.float32]]:
    """Return a cover with rows that count values, and the values (n, dim) of its pixels, each once.

    Args:
        field: Whose.
        window: Where they lie.
        cover: Of shapes.
        values: Of all pixels of the window, (pixels, dim), if they are known.
    """
    pixel = (cover.row - window.row_off) * window.width + cover.col - window.col_off
    each, where = np.unique(pixel, return_inverse=True)
    rows, cols = np.divmod(each, window.width)
    found = field.pixels(rows + window.row_off, cols + window.col_off) if values is None else values[each]
    return cover._replace(row=where, col=np.zeros_like(where)), found


def _specks(field: Field, overlay: Overlay, tally: _Tally) -> Iterator[tuple[Cover, npt.NDArray[np.float32]]]:
    """Yield the pixels of shapes so small that of no pixel they cover a share that could be told from none."""
    lost = overlay.near[tally.covered[overlay.near] == 0]
    if not len(lost):
        return
    points = np.full(len(overlay.geometries), None, dtype=object)
    # Numbers next to 0 make GEOS overflow on its way to the right place.
    with np.errstate(over="ignore"):
        points[lost] = shapely.point_on_surface(overlay.geometries[lost])
    for cover, values in _parts(field, Overlay(points, field.grid)):
        yield cover._replace(share=np.zeros(len(cover.share))), values


class _Tally:
    """What has been added up of shapes so far."""

    def __init__(self, count: int, dim: int, stats: Sequence[Stat], kept: Kept | None) -> None:
        self.stats, self.dim, self._kept = stats, dim, kept
        self.covered, self.weight, self.count = np.zeros(count), np.zeros(count), np.zeros(count)
        self._centre: npt.NDArray[np.float64] | None = None
        self._sums = {name: np.zeros((count, dim)) for name in self._summed}
        self._extremes: dict[Stat, npt.NDArray[np.float32]] = {
            name: np.full((count, dim), -np.inf if name == "max" else np.inf, dtype=np.float32)
            for name in stats
            if name in ("min", "max")
        }

    @property
    def _summed(self) -> tuple[Stat, ...]:
        """The powers that are added up: a deviation needs the mean."""
        return ("mean", "std") if "std" in self.stats else ("mean",) if "mean" in self.stats else ()

    def add(self, cover: Cover, values: npt.NDArray[np.float32]) -> None:
        """Add pixels.

        Args:
            cover: Whose rows count `values`.
            values: (n, dim), float32.
        """
        np.add.at(self.covered, cover.shape, cover.weight)
        there = ~np.isnan(values).any(axis=1)
        if not there.all():
            cover = cover.chosen(there[cover.row])
        np.add.at(self.weight, cover.shape, cover.weight)
        np.add.at(self.count, cover.shape, cover.share)
        if not len(cover.shape):
            return
        self._sum(cover, values)
        for name, statistic in self._extremes.items():
            _extend(statistic, np.minimum if name == "min" else np.maximum, cover, values)
        if self._kept:
            _keep(self._kept, cover, values)

    def _sum(self, cover: Cover, values: npt.NDArray[np.float32]) -> None:
        from scipy.sparse import csr_array

        if not self._summed:
            return
        if self._centre is None:
            # Squares are of distances from about the middle, so that hardly a digit cancels.
            self._centre = values[cover.row[0]].astype(np.float64)
        shapes, local = np.unique(cover.shape, return_inverse=True)
        step = max(1, SPREAD // (8 * self.dim))
        order = np.argsort(cover.row, kind="stable")
        starts = np.searchsorted(cover.row[order], np.arange(0, len(values), step)).tolist()
        for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(order)], strict=True)):
            some, first = order[start:stop], number * step
            weights = csr_array(
                (cover.weight[some], (local[some], cover.row[some] - first)),
                shape=(len(shapes), min(step, len(values) - first)),
            )
            distances = values[first : first + step] - self._centre
            for name, total in self._sums.items():
                if name == "std":
                    np.square(distances, out=distances)
                total[shapes] += weights @ distances

    def zones(self, overlay: Overlay) -> Zones:
        """Return the statistics."""
        found = self.weight > 0
        none = np.where(self.covered > 0, "nodata", "outside")
        with np.errstate(invalid="ignore", divide="ignore"):
            stats = {name: self._statistic(name, overlay) for name in self.stats}
        for name, values in stats.items():
            if name not in SINGLE:
                values[~found] = np.nan
        return Zones(stats, np.where(found, "valid", none))

    def _statistic(self, name: Stat, overlay: Overlay) -> npt.NDArray[np.floating]:
        if name == "count":
            return self.count
        if name == "coverage":
            whole = self.covered + overlay.beyond
            return np.divide(self.weight, whole, out=np.zeros(len(whole)), where=whole > 0)
        if name in self._extremes:
            return self._extremes[name]
        if self._kept and name == "median":
            return self._kept.medians(len(self.count))
        distance = self._sums["mean"] / self.weight[:, None]
        if name == "mean":
            return distance + (0.0 if self._centre is None else self._centre)
        square = self._sums["std"] / self.weight[:, None]
        variance = square - distance**2
        return np.sqrt(np.where(variance > ROUNDING * square, variance, 0.0))


def _extend(
    extremes: npt.NDArray[np.float32], extreme: np.ufunc, cover: Cover, values: npt.NDArray[np.float32]
) -> None:
    """Lower or raise the extremes (N, dim) of shapes to those of their pixels' values (n, dim)."""
    order = np.argsort(cover.shape, kind="stable")
    step = max(1, SPREAD // (4 * values.shape[1]))
    for start in range(0, len(order), step):
        some = order[start : start + step]
        shapes, firsts = np.unique(cover.shape[some], return_index=True)
        own = extreme.reduceat(values[cover.row[some]], firsts, axis=0)
        extremes[shapes] = extreme(extremes[shapes], own)


def _keep(kept: Kept, cover: Cover, values: npt.NDArray[np.float32]) -> None:
    """Keep the values (n, dim) of pixels for the medians of their shapes."""
    order = np.argsort(cover.shape, kind="stable")
    shapes, starts = np.unique(cover.shape[order], return_index=True)
    for shape, own in zip(shapes.tolist(), np.split(order, starts[1:]), strict=True):
        kept.add(shape, values[cover.row[own]], cover.weight[own])
