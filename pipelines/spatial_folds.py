"""Folds: which stations are held out, at random or by blocks of the sphere, and how far from the others they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import BallTree

from embedfield.errors import PlacesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FOLDS, REPEATS = 5, 3
# Kilometres.
EARTH = 6371.0


class Folds(NamedTuple):
    """A way to hold out stations."""

    name: str
    splits: Sequence[Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]]
    """Of each repeat, the stations that are fitted to and those held out, fold by fold."""
    distance: float
    """Kilometres from a station that is held out to the nearest that is fitted to: the median."""


def blocks(lonlat: Floats, side: float) -> npt.NDArray[np.int64]:
    """Return the number of the block of the sphere that each place lies in, (N,): about squares, of one area.

    Args:
        lonlat: Degrees, (N, 2).
        side: Degrees along a meridian.
    """
    row = np.floor((lonlat[:, 1] + 90) / side)
    # Towards the poles fewer go around the world.
    around = np.maximum(1, np.rint(360 * np.cos(np.deg2rad((row + 0.5) * side - 90)) / side))
    column = np.floor((lonlat[:, 0] + 180) / 360 * around) % around
    numbers: npt.NDArray[np.int64] = (row * 1000 + column).astype(np.int64)
    return numbers


def folds_of(lonlat: Floats, side: float) -> tuple[Folds, Folds]:
    """Return random folds, and folds of whole blocks.

    Args:
        lonlat: Of the stations, degrees, (N, 2).
        side: Of a block, degrees.

    Raises:
        PlacesError: If there are too few stations, or blocks with any.
    """
    groups = blocks(lonlat, side)
    count = len(np.unique(groups))
    if count < FOLDS:
        raise PlacesError(
            f"The {len(lonlat)} stations lie in {count} blocks of {side:g} degrees, and {FOLDS} are needed at least. "
            "Give a smaller --block, or more stations."
        )
    by_block = [
        list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(lonlat, groups=groups)) for seed in range(REPEATS)
    ]
    at_random = [list(KFold(FOLDS, shuffle=True, random_state=seed).split(lonlat)) for seed in range(REPEATS)]
    random, spatial = (
        Folds(name, splits, float(np.median([apart(lonlat, *split) for split in splits[0]])))
        for name, splits in (("random folds", at_random), (f"{side:g}° blocks", by_block))
    )
    return random, spatial


def apart(lonlat: Floats, fitted: npt.NDArray[np.int64], held: npt.NDArray[np.int64]) -> float:
    """Return the median distance, in km, of stations that are held out from the nearest that is fitted to."""
    return float(np.median(nearest_km(lonlat[fitted], lonlat[held])))


def nearest_km(stations: Floats, lonlat: Floats) -> Floats:
    """Return the distance, in km, from each place (N, 2) to the nearest station: (N,)."""
    found: Floats = BallTree(latlon(stations), metric="haversine").query(latlon(lonlat))[0][:, 0]
    return EARTH * found


def latlon(lonlat: Floats) -> Floats:
    """Return places as (lat, lon) in radians, as great-circle distances are computed of them."""
    return np.deg2rad(lonlat[:, ::-1])
