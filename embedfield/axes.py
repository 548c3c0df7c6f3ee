"""Axes: coordinates of rows and columns, and the reference system: of a grid, and a grid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedfield.errors import GridError
from embedfield.grid import TOLERANCE, Grid
from embedfield.projection import DEGREES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import xarray

# Part of a pixel that a coordinate may lie beside its place: what rounding leaves in files of others.
DUST = 1e-4
# The same of the last row, if pixels were as wide as they are high.
ASTRAY = 0.01


class Place(NamedTuple):
    """What an array says of where it is."""

    crs: str
    """Its reference system, by authority and code."""
    transform: tuple[float, ...] | None
    """GDAL's six numbers, of the raster that the array is a part of: its coordinates, with less dust."""


class _Axis(NamedTuple):
    """Evenly spaced centres of pixels, rising."""

    start: float
    """Outer edge of the first."""
    step: float | None
    """Distance of neighbours; None where there is but one."""
    size: int
    """How many there are."""


def coordinates_of(grid: Grid, factor: int = 1) -> dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]]:
    """Return what says where the pixels of a grid are, by the conventions of CF and GDAL.

    Args:
        grid: Of a field.
        factor: How many of its pixels a side one of the coarser level stands
            for that is meant; those at an odd edge reach beyond the grid.

    Returns:
        ``y`` and ``x``, centres of rows and of columns in units of the
        reference system, and ``spatial_ref``: dimensions, values, attributes.
    """
    import pyproj
    from affine import Affine

    crs, res = pyproj.CRS.from_user_input(grid.crs), factor * grid.res
    height, width = (-(-size // factor) for size in grid.shape)
    said = {axis["axis"].lower(): axis for axis in crs.cs_to_cf()}
    transform = (grid.transform @ Affine.scale(factor)).to_gdal()
    mapping = crs.to_cf() | {"GeoTransform": " ".join(map(repr, transform))}
    return {
        "y": (("y",), grid.north - (np.arange(height) + 0.5) * res, said["y"]),
        "x": (("x",), grid.west + (np.arange(width) + 0.5) * res, said["x"]),
        "spatial_ref": ((), np.array(0), mapping),
    }


def place_of(array: xarray.DataArray | xarray.Dataset) -> Place:
    """Return what an array says of where it is.

    Raises:
        GridError: If it has no reference system, or one without a code.
    """
    crs = array.rio.crs
    if crs is None:
        raise GridError(
            "The array has no reference system. Set it: import rioxarray; array.rio.write_crs('EPSG:4326'). "
            "Of a Zarr give the dataset, not its variable."
        )
    mapping = array.rio.grid_mapping
    attributes = array.coords[mapping].attrs if mapping in array.coords else {}
    if not attributes and mapping in getattr(array, "data_vars", {}):
        attributes = array[mapping].attrs
    text = attributes.get("GeoTransform")
    return Place(_code(crs.to_wkt()), tuple(map(float, str(text).split())) if text else None)


def _code(wkt: str) -> str:
    """Return the authority's code of a reference system.

    Raises:
        GridError: If it has none.
    """
    import pyproj

    crs = pyproj.CRS.from_wkt(wkt)
    if crs.equals(pyproj.CRS.from_user_input(DEGREES), ignore_axis_order=True):
        return DEGREES
    authority = crs.to_authority()
    if authority is None:
        raise GridError(
            f"The array's reference system, {crs.name}, has no code that is known. Reproject the array to one that "
            "has, such as EPSG:4326."
        )
    return ":".join(authority)


def grid_of(array: xarray.DataArray, place: Place) -> tuple[Grid, bool]:
    """Return the grid of an array, and whether its rows run from south to north.

    Args:
        array: (band, y, x), with coordinates.
        place: What it, or its dataset, says of where it is.

    Raises:
        GridError: If its pixels are not squares, evenly spaced.
    """
    ys, xs = (_centres(array, str(name)) for name in array.dims[1:])
    flipped = len(ys) > 1 and bool(ys[-1] > ys[0])
    geographic = place.crs == DEGREES
    down = -(ys[::-1] if flipped else ys)
    west, north, step = _upright(place.transform)
    across = _axis(xs, str(array.dims[2]), (west, step), around=360.0 if geographic else None)
    along = _axis(down, str(array.dims[1]), (-north, step))
    res = _res(across, along)
    # An axis of one pixel has its edge from the other's.
    west = across.start if across.step else across.start - res / 2
    north = -along.start if along.step else -along.start + res / 2
    if geographic and not -180 <= west < 180:
        west -= 360.0 * np.floor((west + 180) / 360)
    grid = Grid(west=float(west), north=float(north), res=res, width=len(xs), height=len(ys), crs=place.crs)
    return grid, flipped


def _upright(transform: Sequence[float] | None) -> tuple[float, float, float]:
    """Return west, north and the side of pixels of a transform; NaN where it is of other than squares, north up."""
    if transform is None:
        return np.nan, np.nan, np.nan
    west, width, turn, north, twist, height = transform
    square = turn == twist == 0 and abs(width + height) <= TOLERANCE * abs(width)
    return (west, north, width) if square else (np.nan, np.nan, np.nan)


def _centres(array: xarray.DataArray, name: str) -> npt.NDArray[Any]:
    """Return the centres of columns or rows.

    Raises:
        GridError: If there are none.
    """
    if name not in array.coords or not array.sizes[name]:
        raise GridError(
            f"The array has no coordinate {name!r}, by which its pixels could be placed. Keep it, or assign it."
        )
    values: npt.NDArray[Any] = array[name].to_numpy()
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _axis(centres: npt.NDArray[Any], name: str, known: tuple[float, float], around: float | None = None) -> _Axis:
    """Return the axis of centres.

    Args:
        centres: Rising, (N,).
        name: What it is called.
        known: Edge and step of the raster that they are part of; NaN where it is not known.
        around: How far it is around the world.

    Raises:
        GridError: If they are not evenly spaced, or fall.
    """
    size = len(centres)
    first, last = float(centres[0]), float(centres[-1])
    edge, whole = known
    step = (last - first) / (size - 1) if size > 1 else whole
    rounding = 4 * float(np.finfo(centres.dtype).eps) * max(abs(first), abs(last))
    dust = max(DUST * abs(step), rounding) if size > 1 else DUST
    even = abs(centres - (first + (step if size > 1 else 0.0) * np.arange(size))).max() <= dust
    if not even or step <= 0:
        raise GridError(
            f"The array's {name} is not evenly spaced, from west to east or row by row, and pixels of a field are. "
            "Sort or resample it."
        )
    skipped = (first - edge) / whole - 0.5
    # Products of decimal degrees end in binary dust, which the raster's own numbers have not.
    if abs(step - whole) * size <= dust and abs(skipped - np.rint(skipped)) <= DUST:
        return _Axis(edge + float(np.rint(skipped)) * whole, whole, size)
    if size == 1:
        return _Axis(first, None, 1)
    closed = around is not None and abs(size * step - around) <= 2 * dust
    step = around / size if closed and around else _shortest(step, dust / size)
    return _Axis(_shortest(first - step / 2, dust), step, size)


def _res(across: _Axis, along: _Axis) -> float:
    """Return the side of pixels.

    Raises:
        GridError: If they are not squares, or it cannot be told how large they are.
    """
    res = across.step or along.step
    if res is None:
        raise GridError("The array is one pixel, and does not tell how large it is. Keep a neighbour beside it.")
    other = along.step or res
    if abs(other - res) * max(across.size, along.size) > ASTRAY * res:
        raise GridError(
            f"The array's pixels are {res:g} by {other:g}, and those of a field are squares. Resample it, as with "
            "array.rio.reproject(array.rio.crs, resolution=…)."
        )
    return res


def _shortest(number: float, allowed: float) -> float:
    """Return the shortest decimal number within a distance of a number; the number itself if none of 12 digits is."""
    found = (round(number, digits) for digits in range(13))
    return next((short for short in found if abs(short - number) <= allowed), number)
