"""VirtualField: the field that a build would store, computed where it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from embedfield import models
from embedfield.errors import WeightsError
from embedfield.evaluate import EncodedField, check_centres, load
from embedfield.formats import cog, geozarr
from embedfield.formats.packing import strip_rows
from embedfield.formats.shards import shards_across
from embedfield.kept import Kept
from embedfield.order import check_choices, check_latitudes, ground_of
from embedfield.precision import choose
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.evaluate import Evaluator, Precision
    from embedfield.formats import Format
    from embedfield.formats.packing import Dtype
    from embedfield.grid import Bounds, Grid
    from embedfield.region import Region

# Of the build whose values these are: the one dtype that changes no bit of them.
DTYPE: Dtype = "float32"
# Bytes of computed pixels that are held: whoever reads row by row asks for the same strips again and again.
KEPT = 64 * 2**20


class VirtualField(EncodedField):
    """A field whose pixels are, bit for bit, what a build stores as float32. Safe to read from several threads.

    A matrix product adds up in an order that depends on its size, so the last
    digits of a pixel depend on the window in which it is computed. A build
    computes strips, of at most 32,768 pixels; so does this, whatever part of
    one is read. Pixels that are asked for one by one (`pixels`, `at`) are
    computed one by one, for a strip would cost thousands of times as much: in
    float32 they may differ, on a CPU by 2e-6 of the greatest value at most.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        grid: Grid,
        *,
        supersample: int = 1,
        region: Region | None = None,
        precision_error: float | None = None,
        format: Format = "cog",  # noqa: A002  the field's word, as in build_field
    ) -> None:
        """Spread an encoder over a grid; nothing is computed yet.

        Args:
            evaluator: The model.
            grid: Where the pixels are.
            supersample: As of `EncodedField`, like the next two.
            region: The area outside of which pixels have no value.
            precision_error: What the evaluator's precision costs.
            format: Of the build whose values these are: each has strips of its own.

        Raises:
            GridError: If supersample is no such number.
        """
        super().__init__(evaluator, grid, supersample=supersample, region=region, precision_error=precision_error)
        self._unit = _unit(grid, self.dim, format)
        self._lock = RLock()
        self._kept = Kept["npt.NDArray[np.float32]"](KEPT)
        self._recipe: _Recipe | None = None

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights of rows and widths of columns of the pieces that cost least to read: the strips of most units."""
        high, wide = self._unit
        rows = strip_rows(self, min(wide, self.grid.width))
        units = _parts(self.grid.height, high)
        return tuple(part for unit in units for part in _parts(unit, rows)), tuple(_parts(self.grid.width, wide))

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the encoder over the pixels of a window, (dim, height, width), float32; NaN where it has no value.

        Whole strips are computed, and the last of them held for the next call.

        Raises:
            GridError: If the window passes the edge of the grid.
        """
        window = self.grid.checked(window)
        result = np.empty((self.dim, window.height, window.width), dtype=np.float32)
        for strip in self._strips(window):
            here, there = window.common(strip)
            size = self.dim * strip.width * strip.height * result.itemsize
            result[:, *here] = self._kept.get(strip, size, super().read)[:, *there]
        return result

    def close(self) -> None:
        """Let go of the pixels that are held."""
        self._kept.clear()

    def _strips(self, window: Window) -> Iterator[Window]:
        """Yield the strips of a build that a window has a part of."""
        high, wide = self._unit
        for unit in window.aligned(high, wide, self.grid.shape).tiles(high, wide):
            rows = strip_rows(self, unit.width)
            first = unit.row_off + max(0, window.row_off - unit.row_off) // rows * rows
            for row in range(first, min(unit.rows.stop, window.rows.stop), rows):
                yield Window(unit.col_off, row, unit.width, min(rows, unit.rows.stop - row))

    def _lattice(self, window: Window) -> npt.NDArray[np.float32]:
        with self._lock:  # an evaluator is for one thread at a time
            return super()._lattice(window)

    def _encoded(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        with self._lock:  # the same
            return super()._encoded(lonlat)

    def __reduce__(self) -> tuple[Callable[[_Recipe], VirtualField], tuple[_Recipe]]:
        """Pickle as what was asked for, without the weights: whoever unpickles loads the model for himself.

        Raises:
            TypeError: If it was not made by `virtual_field`, and so has no recipe.
        """
        if self._recipe is None:
            raise TypeError("This field cannot be pickled: it was not made by virtual_field. Make it there.")
        return _again, (self._recipe,)


def virtual_field(
    model: str | Card,
    res: float,
    *,
    bounds: Bounds | None = None,
    crs: str = "EPSG:4326",
    region: str | Path | Region | None = None,
    layer: str | None = None,
    mask: bool = True,
    supersample: int = 1,
    dims: int | None = None,
    weights: str | Path | None = None,
    database: str | Path | None = None,
    device: str = "auto",
    precision: Precision | None = None,
    format: Format = "cog",  # noqa: A002  the field's word, as in build_field
    offline: bool = False,
    **inputs: Any,
) -> VirtualField:
    """Return the field that `build_field` stores as float32, computed as it is read.

    The arguments are those of `build_field`, and so are the errors; `format`
    says of which build its pixels have the last digits.
    """
    check_choices(format, DTYPE, "sharded", precision)
    grid, region = ground_of(res, bounds, crs, region, layer)
    check_centres(supersample)
    check_latitudes(grid, models.asked(model, inputs, dims))
    files: dict[str, Any] = {"weights": _absolute(weights), "database": _absolute(database)}
    official = load(model, device=device, dims=dims, offline=offline, **files, **inputs)
    spread: dict[str, Any] = {"supersample": supersample, "region": region if mask else None}
    chosen = choose(EncodedField(official, grid, **spread), official, DTYPE, precision)
    made = VirtualField(chosen.evaluator, grid, precision_error=chosen.error, format=format, **spread)
    # In another process it is to have the same digits.
    same = {"device": str(made.evaluator.device), "precision": made.evaluator.precision}
    asked = {
        "model": model, "res": res, "bounds": bounds, "crs": crs, "region": region, "mask": mask,
        "supersample": supersample, "dims": dims, "format": format, "offline": offline, **files, **same, **inputs,
    }  # fmt: skip
    made._recipe = _Recipe(uuid4().hex, asked, made.evaluator.sha256)  # noqa: SLF001  of this very file's class
    return made


@dataclass(frozen=True)
class _Recipe:
    """What was asked for, and the files that it was made from."""

    token: str
    """Tells it from any other."""
    asked: Mapping[str, Any] = field(compare=False)
    """The arguments of `virtual_field`."""
    sha256: Mapping[str, str | None] = field(compare=False)
    """Digests of the files that the encoder came from."""


@lru_cache(maxsize=1)
def _again(recipe: _Recipe) -> VirtualField:
    """Return a field made again in another process, which has many parts of the same one to compute.

    Raises:
        WeightsError: If the model's files are others there.
    """
    made = virtual_field(**recipe.asked)
    if made.evaluator.sha256 != recipe.sha256:
        raise WeightsError(
            f"The files of {made.card.name} are not those that the field was opened with: {made.evaluator.sha256} "
            f"instead of {recipe.sha256}. Have the same files on every machine."
        )
    return made


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser().absolute()


def _unit(grid: Grid, dim: int, format: Format) -> tuple[int, int]:  # noqa: A002
    """Return height and width of the pieces that a build computes in strips: a tile; shards side by side."""
    if format == "cog":
        return cog.tile_shape(grid, dim, DTYPE)
    shard = dim * geozarr.SHARD**2 * np.dtype(DTYPE).itemsize
    return geozarr.SHARD, geozarr.SHARD * shards_across(shard)


def _parts(size: int, most: int) -> list[int]:
    """Return the sizes of parts of a whole, `most` each but the last."""
    return [min(most, size - start) for start in range(0, size, most)]
