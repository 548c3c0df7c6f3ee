"""Sampler: fields that are asked for the same places, and the columns that their answers become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from embedfield.errors import PlacesError
from embedfield.projection import EARTH
from embedfield.zonal import SINGLE, Stat, checked_stats, zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from embedfield.field import Field, Method
    from embedfield.located import Located

Columns = Literal["wide", "list"]
STATUS = "status"
# The part of a pixel by which an edge may stray from its course on the way to another reference system.
ASTRAY = 0.01


class Column(NamedTuple):
    """A column, or several side by side, of a sampled table."""

    name: str
    """Of the column; where it is a list, of the whole."""
    bands: slice
    """Which of the sampler's values it holds."""
    about: dict[str, Any]
    """What it is, as plain data: which field, which band, by which method or statistic."""

    @property
    def single(self) -> bool:
        """Whether it holds a number a row, and no list."""
        return "band" in self.about or self.about.get("stat") in SINGLE


class Samples(NamedTuple):
    """What was found at places."""

    numbers: npt.NDArray[np.float32]
    """(N, width), in the order of the sampler's columns; NaN where there is no value."""
    status: npt.NDArray[np.str_]
    """(N,): ``valid``, ``nodata``, ``outside``, ``missing``, ``invalid``; of several fields the first but ``valid``."""


class Sampler:
    """Fields, and how they are asked."""

    def __init__(
        self,
        fields: Field | Sequence[Field],
        method: Method | None = None,
        stats: str | Sequence[str] | None = None,
        columns: Columns = "wide",
        buffer: float | None = None,
    ) -> None:
        """Prepare to ask.

        Args:
            fields: One, or several whose columns then stand side by side.
            method: Of points: ``nearest``, ``bilinear`` or ``exact``; None for each field's first.
            stats: Of shapes; None asks for points.
            columns: ``wide`` for a column a band, ``list`` for one column of lists.
            buffer: Metres around each place that are a part of it; None for none.

        Raises:
            PlacesError: If a field cannot answer by that method, there is no
                such statistic, or nothing to ask.
        """
        self.fields = tuple(fields) if isinstance(fields, (list, tuple)) else (fields,)
        if not self.fields:
            raise PlacesError("There is no field to sample. Give one at least.")
        if columns not in get_args(Columns):
            raise PlacesError(f"columns={columns!r} is not known. Choose from: {', '.join(get_args(Columns))}.")
        self.stats = None if stats is None else checked_stats(stats)
        self.method, self.columns, self.buffer = method, columns, buffer
        for field in self.fields:
            field.check_method(method)
        if self.stats is not None and method not in (None, "nearest"):
            raise PlacesError(
                f"method={method!r} is one for points. Shapes take the pixels that they cover: leave it out."
            )
        for field in self.fields if self.stats is not None else ():
            if "nearest" not in field.methods:
                raise PlacesError(
                    f"{field.card.name} by itself has no pixels of which shapes could take statistics. Give "
                    "their size: --res 0.1, or in Python an EncodedField over a grid; or a stored field."
                )
        if self.stats is None and buffer is not None:
            raise PlacesError(f"buffer={buffer:g} makes shapes of points. Ask for statistics of them: zonal_stats.")

    @property
    def width(self) -> int:
        """How many numbers a place gets."""
        return sum(field.dim if stat not in SINGLE else 1 for field in self.fields for stat in self.stats or ("mean",))

    @property
    def exact(self) -> bool:
        """Whether it asks encoders alone, and no pixels."""
        return all(map(self.exactly, self.fields))

    def exactly(self, field: Field) -> bool:
        """Return whether it asks a field's encoder, and none of its pixels."""
        return self.stats is None and (self.method or field.methods[0]) == "exact"

    def layout(self) -> list[Column]:
        """Return the columns of values, in order, as `Samples` holds them."""
        found: list[Column] = []
        start = 0
        for number, (field, stem) in enumerate(zip(self.fields, stems(self.fields), strict=True)):
            for stat in self.stats or (None,):
                about = {"field": number, "model": field.card.name, **self._how(field, stat)}
                for name, bands, band in self._columns(field, stem, stat, start):
                    found.append(Column(name, bands, about | band))
                    start = bands.stop
        return found

    def _how(self, field: Field, stat: Stat | None) -> dict[str, str]:
        return {"stat": stat} if stat else {"method": self.method or field.methods[0]}

    def _columns(
        self, field: Field, stem: str, stat: Stat | None, start: int
    ) -> Iterable[tuple[str, slice, dict[str, Any]]]:
        """Yield names of columns, where their values are, and which band of the field they hold."""
        ending = f"_{stat}" if stat not in (None, "mean") else ""
        if stat in SINGLE:
            name = stat if len(self.fields) == 1 else f"{stem}{ending}"
            yield str(name), slice(start, start + 1), {}
        elif self.columns == "list":
            yield f"{stem}{ending}", slice(start, start + field.dim), {}
        else:
            for band, name in enumerate(field.band_names):
                own = f"{stem}{name.removeprefix(field.card.name)}{ending}"
                yield own, slice(start + band, start + band + 1), {"band": band}

    def describe(self) -> str:
        """Return where the columns come from, as JSON: for each field its model, file, grid, packing and provenance."""
        return json.dumps({"fields": [field.about() for field in self.fields]}, ensure_ascii=False)

    def check_free(self, names: Iterable[str]) -> None:
        """Refuse places that have a column already that they are to get.

        Raises:
            PlacesError: If they do.
        """
        held = set(names)
        taken = [name for name in (*(column.name for column in self.layout()), STATUS) if name in held]
        if taken:
            raise PlacesError(f"The places have a column {taken[0]!r} already. Rename or remove it.")

    def sample(self, located: Located, progress: Callable[[float], None] | None = None) -> Samples:
        """Return what there is at places.

        Args:
            located: The places.
            progress: Told what part of the work is done, up to 1.

        Raises:
            PlacesError: If one is no point and no statistics are asked for.
        """
        return self._at(located) if self.stats is None else self._under(located, progress)

    def _at(self, located: Located) -> Samples:
        if not located.points:
            raise PlacesError(
                "Not all places are points. Ask for statistics of what lies under them: zonal_stats, "
                "or 'embedfield sample' with --stat mean."
            )
        lonlat, status = located.lonlat()
        well = np.flatnonzero(status == "")
        values = np.full((len(lonlat), self.width), np.nan, dtype=np.float32)
        start = 0
        for field in self.fields:
            found, own = field.ask(lonlat[well], self.method)
            values[well, start : start + field.dim] = found
            status[well] = _first(status[well], own)
            start += field.dim
        return Samples(values, _named(status))

    def _under(self, located: Located, progress: Callable[[float], None] | None) -> Samples:
        values = np.full((len(located), self.width), np.nan, dtype=np.float32)
        status = np.zeros(len(located), dtype="<U7")
        start = 0
        for number, field in enumerate(self.fields):

            def told(share: float, before: int = number) -> None:
                if progress:
                    progress((before + share) / len(self.fields))

            metres = np.deg2rad(field.grid.res_degrees) * EARTH * ASTRAY
            shapes = located.shapes(field.grid.crs, self.buffer, metres)
            found = zones(field, shapes.geometries, self.stats or (), told)
            for stat in self.stats or ():
                numbers = np.atleast_2d(found.stats[stat].T).T
                values[:, start : start + numbers.shape[1]] = numbers
                start += numbers.shape[1]
            status = _first(status, np.where(shapes.status == "", found.status, shapes.status))
        return Samples(values, _named(status))


def stems(fields: Sequence[Field]) -> list[str]:
    """Return with what each field's columns begin: its model, or if others have columns of that name, its own name."""
    names = [field.band_names[0] for field in fields]
    own = [field.card.name if names.count(name) == 1 else field.name for field, name in zip(fields, names, strict=True)]
    return [stem if own.count(stem) == 1 else f"{stem}-{number + 1}" for number, stem in enumerate(own)]


def _first(before: npt.NDArray[np.str_], own: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """Return the first that is wrong of two statuses."""
    return np.where(np.isin(before, ("", "valid")), own, before)


def _named(status: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    return np.where(status == "", "valid", status)
