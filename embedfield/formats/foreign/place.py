"""Place: where the pixels of a file made by others are, as a grid with its first row in the north."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield import axes
from embedfield.errors import FormatError, GridError
from embedfield.grid import TOLERANCE, Grid
from embedfield.projection import DEGREES, checked_crs

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pyproj
    from affine import Affine


def grid_of(path: Path | str, transform: Affine, shape: tuple[int, int], crs: str) -> tuple[Grid, bool]:
    """Return the grid of a raster by its transform, and whether its rows run from south to north.

    Args:
        path: The file, for messages.
        transform: From (col, row), corners at whole numbers, to its reference system.
        shape: (height, width).
        crs: Authority and code.

    Raises:
        FormatError: If its pixels are not squares along the axes, or lie beyond the world.
    """
    if transform.b or transform.d:
        raise FormatError(f"{path} is rotated, and a field is not. Warp it north up, as with gdalwarp.")
    # Over so many pixels what decimals leave out adds up to less than a thousandth of one.
    if transform.a <= 0 or abs(transform.a - abs(transform.e)) * max(shape) > 1e-3 * transform.a:
        raise FormatError(
            f"{path} has pixels of {transform.a:g} by {transform.e:g}, and those of a field are squares, from west to "
            "east. Warp it, as with gdalwarp -tr."
        )
    flipped = transform.e > 0
    north = transform.f + shape[0] * transform.e if flipped else transform.f
    return _grid(path, (transform.c, north), transform.a, shape, crs), flipped


def grid_along(
    path: Path | str, ys: npt.NDArray[Any], xs: npt.NDArray[Any], transform: Affine | None, crs: str
) -> tuple[Grid, bool]:
    """Return the grid of a raster by the centres of its rows and columns, and whether its rows run from the south.

    Args:
        path: The file, for messages.
        ys: Centres of rows, (height,).
        xs: Centres of columns, (width,).
        transform: What it says beside them: where the two agree, these numbers have less dust.
        crs: Authority and code.

    Raises:
        FormatError: If its pixels are not squares, evenly spaced, or lie beyond the world.
    """
    import xarray

    pixels = np.broadcast_to(np.uint8(0), (1, len(ys), len(xs)))
    array = xarray.DataArray(pixels, dims=("band", "y", "x"), coords={"y": ys, "x": xs})
    try:
        return axes.grid_of(array, axes.Place(crs, None if transform is None else transform.to_gdal()))
    except GridError as error:
        raise FormatError(f"{path} is no field: {error}") from error


def _grid(path: Path | str, corner: tuple[float, float], res: float, shape: tuple[int, int], crs: str) -> Grid:
    """Return a grid, its edges freed of binary dust at the edges of the world.

    Raises:
        FormatError: If it is no part of the world.
    """
    west, north = corner
    if crs == DEGREES:
        west, north = (_snapped(edge, limit, res) for edge, limit in ((west, -180.0), (north, 90.0)))
        west -= 360.0 * float(np.floor((west + 180) / 360))
    try:
        return Grid(west=west, north=north, res=res, width=shape[1], height=shape[0], crs=crs)
    except GridError as error:
        raise FormatError(f"{path} is no field: {error}") from error


def _snapped(edge: float, limit: float, res: float) -> float:
    return limit if abs(edge - limit) < TOLERANCE * res else edge


def code_of(path: Path | str, found: pyproj.CRS | None, given: str | None) -> str:
    """Return the code of the reference system of a file.

    Args:
        path: The file, for messages.
        found: What it says of it; None if nothing.
        given: What its user says of it; None if nothing.

    Raises:
        FormatError: If neither tells it, or the two differ.
        GridError: If no grid can be in it.
    """
    said = None if found is None else _code(found)
    if given is None and said is None:
        what = "no reference system" if found is None else f"{found.name}, a reference system without a known code"
        raise FormatError(f"{path} has {what}. Give its code, as with --crs EPSG:4326.")
    if given is None or said is None:
        return checked_crs(str(given or said))
    if checked_crs(given) != said:
        raise FormatError(f"{path} is in {said}, and crs={given!r} was given. Leave it out.")
    return said


def _code(crs: pyproj.CRS) -> str | None:
    """Return authority and code of a reference system; None where it has none."""
    import pyproj

    if crs.equals(pyproj.CRS.from_user_input(DEGREES), ignore_axis_order=True):
        return DEGREES
    authority = crs.to_authority()
    return ":".join(authority) if authority else None
