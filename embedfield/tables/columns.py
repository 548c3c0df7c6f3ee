"""Columns of a file of places: which of them hold coordinates, and which of those written as text are numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from embedfield.errors import PlacesError
from embedfield.places import turned
from embedfield.projection import DEGREES

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


@dataclass(frozen=True)
class Axis:
    """A coordinate, and the names that its column usually has, in lower case."""

    name: str
    option: str
    usual: tuple[str, ...]


LON = Axis("longitude", "--lon", ("lon", "longitude", "lng", "long", "x", "decimallongitude"))
LAT = Axis("latitude", "--lat", ("lat", "latitude", "y", "decimallatitude"))
# Of a map: what is called a longitude there is none of its metres.
EASTING = Axis("easting", "--lon", ("easting", "eastings", "x"))
NORTHING = Axis("northing", "--lat", ("northing", "northings", "y"))
# What programs write for a number that is not there.
GAPS = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None")
NUMBER = r"^\s*[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))\s*$"
WHOLE = r"^\s*[+-]?\d+\s*$"
CODE = r"^\s*[+-]?0\d"
# Whole numbers up to here are what they were when they come back from float64.
EXACT = 2**53


def refuse_duplicates(names: Iterable[str], source: str) -> None:
    """Refuse columns of the same name.

    Raises:
        PlacesError: Naming them.
    """
    several = [repr(name) for name, count in Counter(names).items() if count > 1]
    if several:
        raise PlacesError(f"{source} has several columns named {', '.join(several)}. Rename all but one of each.")


def coordinate_column(names: Iterable[Any], source: str, axis: Axis, name: str | None = None) -> str:
    """Return the column that holds a coordinate: the one named, or the one with a usual name.

    Raises:
        PlacesError: If there is none, or several.
    """
    names = list(map(str, names))
    found: list[str] = [
        column for column in names if (column == name if name else column.strip().lower() in axis.usual)
    ]
    if len(found) == 1:
        return found[0]
    held = ", ".join(names) or "none"
    some = f"several columns of {axis.name}s ({', '.join(found)})"
    none = f"no column {name!r}" if name else f"no column of {axis.name}s ({', '.join(axis.usual)})"
    raise PlacesError(
        f"{source} has {some if found else none}; its columns are: {held}. Name it with {axis.option} COLUMN."
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether cells of a type are text, dictionaries of it included."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def numbers_of(cells: pa.ChunkedArray, name: str, start: int = 0) -> npt.NDArray[np.float64]:
    """Return the cells of a column of coordinates as numbers.

    Args:
        cells: Numbers, or text that says them.
        name: What the column is called, for messages.
        start: How many places stand before its first, for messages.

    Returns:
        (N,), float64; NaN where a cell is empty.

    Raises:
        PlacesError: If a cell is no number.
    """
    kind = cells.type
    if is_text(kind):
        cells = _gapless(cells.cast(kind.value_type if pa.types.is_dictionary(kind) else kind).cast(pa.string()))
        wrong = pc.invert(pc.match_substring_regex(cells, NUMBER))
        if pc.any(wrong).as_py():
            row = pc.index(wrong, pa.scalar(value=True)).as_py()
            raise PlacesError(
                f"Column {name!r} holds what is no number: {cells[row].as_py()!r} at place {start + row}. "
                "Write decimal degrees, or coordinates of the reference system given."
            )
        cells = _trimmed(cells)
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.null()
    ):
        raise PlacesError(f"Column {name!r} holds what is no number: it is of type {kind}. Write decimal degrees.")
    found: npt.NDArray[np.float64] = cells.cast(pa.float64(), safe=False).to_numpy()
    return found


class Numbering:
    """What a column of text is, decided cell by cell: numbers only if all its cells are.

    Codes such as 007 stay text, and NA is a gap among numbers only: elsewhere
    it may be Namibia. Whole numbers that would lose digits stay text as well.
    """

    def __init__(self) -> None:
        """Begin before the first cell."""
        self._numbers = self._whole = self._narrow = self._exact = True
        self._known = self._gaps = False

    def see(self, cells: pa.Array) -> None:
        """Take more of its cells into account: text, empty ones null."""
        if not self._numbers:
            return
        known = _gapless(cells).drop_null()
        self._gaps |= len(known) < len(cells)
        self._known |= len(known) > 0
        self._numbers = _all(pc.match_substring_regex(known, NUMBER)) and not _some(
            pc.match_substring_regex(known, CODE)
        )
        self._whole = self._whole and _all(pc.match_substring_regex(known, WHOLE))
        if self._numbers and self._whole:
            self._measure(known)

    def _measure(self, known: pa.Array) -> None:
        """Find out which types hold whole numbers without losing a digit."""
        try:
            numbers = _trimmed(known).cast(pa.int64())
        except pa.ArrowInvalid:
            self._narrow = self._exact = False
            return
        least, most = pc.min_max(numbers).values()
        if most.is_valid:
            self._exact = self._exact and -EXACT <= least.as_py() <= most.as_py() <= EXACT

    @property
    def type(self) -> pa.DataType:
        """int64 if all its cells are whole numbers, float64 if all are numbers or gaps, else string."""
        if not (self._numbers and self._known):
            return pa.string()
        if self._whole and self._narrow and not self._gaps:
            return pa.int64()
        return pa.float64() if self._exact or not self._whole else pa.string()


def as_type(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return cells of text as what a `Numbering` says they are; gaps among numbers null."""
    return cells if kind == pa.string() else _trimmed(_gapless(cells)).cast(kind)


def _gapless(cells: pa.Array | pa.ChunkedArray) -> Any:
    """Return cells of text, null where there is a gap among numbers."""
    return pc.if_else(pc.is_in(cells, pa.array(GAPS)), None, cells)


def _trimmed(cells: pa.Array | pa.ChunkedArray) -> Any:
    """Return numbers written as text in the form that pyarrow takes."""
    return pc.ascii_ltrim(pc.ascii_trim_whitespace(cells), characters="+")


def _all(found: pa.Array) -> bool:
    return pc.all(found, min_count=0).as_py() is True


def _some(found: pa.Array) -> bool:
    return pc.any(found, min_count=0).as_py() is True


def coordinates_of(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return what stands in a table's columns of coordinates.

    Args:
        table: Its ``attrs["lonlat"]`` names the columns; otherwise they have usual names.

    Returns:
        (x, y) as they stand there, (N, 2), float64; NaN where a cell is empty.

    Raises:
        PlacesError: If there are no such columns, or a cell is no number.
    """
    names = _said(table)
    if len(names) < 2:
        names = [coordinate_column(table.columns, "The table", axis) for axis in (LON, LAT)]
    return np.column_stack([_numbers(table, name) for name in names])


def points_of(xy: npt.NDArray[np.float64], crs: str) -> npt.NDArray[Any]:
    """Return coordinates as points, none where one is missing.

    Args:
        xy: (x, y), (N, 2); longitudes beyond 180 degrees mean the west.
        crs: Their reference system.
    """
    x, y = xy.T
    points: npt.NDArray[Any] = shapely.points(turned(x) if crs == DEGREES else x, y)
    points[~np.isfinite(xy).all(axis=1)] = None
    return points


def _said(table: pd.DataFrame) -> list[str]:
    """Return the columns of coordinates that a table names; one may have been renamed since the file was read."""
    return [name for name in table.attrs.get("lonlat", ()) if name in table.columns]


def _numbers(table: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """Return a column as numbers; an empty cell is NaN."""
    column = table[name]
    try:
        numbers: npt.NDArray[np.float64] = pd.to_numeric(column.where(~column.isin(GAPS))).to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise PlacesError(f"Column {name!r} holds what is no number: {error}. Write decimal degrees.") from error
    return numbers
