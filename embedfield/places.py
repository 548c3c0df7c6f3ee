"""Places: coordinates that have been checked, once, at the door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedfield.errors import PlacesError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

GLOBE = (-180.0, -90.0, 180.0, 90.0)
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
# How many times as many places as are wanted are drawn at most, where few of them are fit.
MOST = 64


def checked(
    lonlat: npt.ArrayLike, latitudes: tuple[float, float] = (-90.0, 90.0), who: str | None = None
) -> npt.NDArray[np.float64]:
    """Return places as an array of finite degrees with lon in [-180, 180].

    Longitudes in (180, 360) mean the same places west of Greenwich and are
    turned into them; 180 and -180 both stay, for an encoder may tell them apart.

    Args:
        lonlat: Degrees (lon, lat), (N, 2).
        latitudes: The range, closed, that latitudes must lie in.
        who: Whose range that is, where it is not the globe's.

    Returns:
        (N, 2), float64; a copy where a longitude had to be turned.

    Raises:
        PlacesError: If the shape is another, or a coordinate is not finite or
            out of range.
    """
    places = pairs(lonlat)
    _refuse(~np.isfinite(places).all(axis=1), places, "is not a pair of finite numbers", "Remove such rows")
    lon, lat = places.T
    _refuse(abs(lat) > 90, places, "has a latitude outside [-90, 90]", "Is longitude first, and are both degrees?")
    _refuse((lon < -180) | (lon >= 360), places, "has a longitude outside [-180, 360)", "Are both degrees?")
    south, north = latitudes
    beyond = (lat < south) | (lat > north)
    _refuse(
        beyond, places, f"has a latitude outside [{south:g}, {north:g}], where {who} has no value", "Remove such rows"
    )
    if (lon > 180).any():
        places = np.column_stack((turned(lon), lat))
    return places


def pairs(places: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return places as an array of pairs of numbers, whichever these are.

    Args:
        places: (x, y), (N, 2).

    Returns:
        (N, 2), float64.

    Raises:
        PlacesError: If they are no numbers, or the shape is another.
    """
    try:
        found = np.asarray(places, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PlacesError(f"Places are not numbers: {error}. Give (N, 2): degrees, longitude first.") from error
    if found.ndim != 2 or found.shape[1] != 2:
        raise PlacesError(f"Places of shape {found.shape}. Give (N, 2): degrees, longitude first.")
    return found


def turned(lon: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return longitudes above 180 as the same places west of Greenwich; others as they are."""
    return np.where(lon > 180, lon - 360, lon)


def on_sphere(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places, degrees (lon, lat), (N, 2), as vectors of length 1, (N, 3)."""
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def _refuse(wrong: npt.NDArray[np.bool_], places: npt.NDArray[np.float64], what: str, mend: str) -> None:
    """Raise for the first row that is wrong."""
    if wrong.any():
        row = int(wrong.argmax())
        lon, lat = places[row]
        others = f" (and {wrong.sum() - 1:,} more)" if wrong.sum() > 1 else ""
        message = f"Place {row}{others}, (lon, lat) = ({lon:.12g}, {lat:.12g}), {what}. {mend}."
        raise PlacesError(message.replace("?.", "?"))


def equal_area_places(count: int, bounds: tuple[float, float, float, float] = GLOBE) -> npt.NDArray[np.float64]:
    """Return places spread evenly over an area of the sphere; the same at every call.

    A Fibonacci lattice: equal steps in sin(lat), golden steps in longitude.

    Args:
        count: How many.
        bounds: west, south, east, north in degrees; east may pass 180.

    Returns:
        Degrees (lon, lat), (count, 2), float64; lon in [-180, 180].
    """
    west, south, east, north = bounds
    step = (np.arange(count) + 0.5) / count
    low, high = np.sin(np.deg2rad([south, north]))
    lat = np.rad2deg(np.arcsin(np.clip(low + (high - low) * step, -1, 1)))
    lon = west + (east - west) * ((np.arange(count) * GOLDEN) % 1.0)
    return np.column_stack((turned(lon), lat))


def random_places(
    rng: np.random.Generator, count: int, boxes: list[tuple[float, float, float, float]]
) -> npt.NDArray[np.float64]:
    """Return random places, evenly by area on the sphere.

    Args:
        rng: Where chance comes from.
        count: How many.
        boxes: west, south, east, north in degrees, one at least; east may pass 180.

    Returns:
        Degrees (lon, lat), (count, 2), float64; lon in [-180, 180].
    """
    west, south, east, north = np.array(boxes).T
    low, high = np.sin(np.deg2rad((south, north)))
    area = (east - west) * (high - low)
    box = rng.choice(len(boxes), count, p=area / area.sum())
    across, up = rng.random((2, count))
    lon = west[box] + (east - west)[box] * across
    lat = np.rad2deg(np.arcsin(low[box] + (high - low)[box] * up))
    return np.column_stack((turned(lon), np.clip(lat, south[box], north[box])))


def places_within(
    count: int,
    bounds: tuple[float, float, float, float],
    fit: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]],
) -> npt.NDArray[np.float64]:
    """Return about so many places spread evenly over a part of the sphere; the same at every call.

    Args:
        count: How many are wanted. Fewer come back from a part that is small in its bounds.
        bounds: west, south, east, north in degrees of a box around it; east may pass 180.
        fit: Tells which of places (N, 2) lie in it, (N,).

    Returns:
        Degrees (lon, lat), (n, 2), float64; lon in [-180, 180].
    """
    drawn = count if bounds[1] < bounds[3] else 0
    while True:
        places = equal_area_places(drawn, bounds)
        found = places[fit(places)]
        if len(found) >= 0.9 * count or drawn in (0, MOST * count):
            return found
        # Leaving out some of a larger sample would spoil its evenness: it is drawn anew, as large as it need be.
        drawn = min(MOST * count, int(np.ceil(1.02 * drawn * count / max(1, len(found)))))
