"""Drawn: the vectors of a field at random places, spread evenly by area over what it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from embedfield.errors import PlacesError
from embedfield.places import random_places

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.grid import Bounds
    from embedfield.region import Region

# Of the random numbers that places are drawn by.
SEED = 20_240_229
# So many places are drawn at most for one that is wanted, where few of them lie in a region; so many are read at most.
MOST_DRAWN, MOST_READ = 64, 16
# Places that are drawn together, at least.
FEWEST = 1024
# Numbers that are read together.
HELD = 2**20


@dataclass(frozen=True, eq=False)
class Drawn:
    """Vectors at random places, in the order that they were drawn: the first of them are a sample too."""

    lonlat: npt.NDArray[np.float64]
    """Where, degrees (lon, lat), (n, 2): the place itself of an encoder, the centre of its pixel of a raster."""
    values: npt.NDArray[np.float32]
    """What the field's bands hold there, (n, dim); finite."""
    pixels: int | None
    """How many different pixels they come from: a coarse raster has fewer than places; None of an encoder."""
    empty: int
    """How many more places were read that have no value."""

    @classmethod
    def of(
        cls,
        field: Field,
        count: int,
        region: Region | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Read a field at random places, spread evenly by area; the same ones at every call.

        Args:
            field: An encoder is asked at the places themselves; of a raster
                the pixels that they lie in are read.
            count: How many places are wanted that have a value. Fewer come
                from a field that has one at few places.
            region: Polygons that places are to lie in; None for all of the field.
            progress: Told (places read, places wanted) as it goes on.

        Raises:
            PlacesError: If no place is wanted, or none was found that has a value.
        """
        if count < 1:
            raise PlacesError(f"sample={count} describes nothing. Ask for one place at least; 5,000 tell most things.")
        rng, box = np.random.default_rng(SEED), _box(field, region)
        rounds: list[_Read] = []
        read = have = 0

        def told(done: int) -> None:
            if progress:
                progress(min(read + done, count), count)

        while box and have < count and read < MOST_READ * count:
            wanted = math.ceil(1.05 * (count - have) * read / have) if have else count
            # No more at a time than are wanted: their values are held.
            places = _places(rng, field, min(wanted, count, MOST_READ * count - read), region, box)
            if not len(places):
                break
            rounds.append(_Read.of(field, places, told))
            read, have = read + len(places), have + len(rounds[-1].values)
        if not have:
            raise _nothing(field, region, read)
        return cls._joined(rounds, count, read - have)

    @classmethod
    def _joined(cls, rounds: list[_Read], count: int, empty: int) -> Self:
        lonlat = np.concatenate([part.lonlat for part in rounds])[:count]
        values = np.concatenate([part.values for part in rounds])[:count]
        numbers = [part.numbers for part in rounds if part.numbers is not None]
        pixels = len(np.unique(np.concatenate(numbers)[:count])) if numbers else None
        return cls(lonlat, values, pixels, empty)


@dataclass(frozen=True, eq=False)
class _Read:
    """What a field has at places, those without a value left out."""

    lonlat: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, field: Field, places: npt.NDArray[np.float64], progress: Callable[[int], None]) -> Self:
        """Read a field at places (n, 2), those in the same blocks together."""
        rows, cols = (np.floor(part).astype(np.int64) for part in field.grid.positions(places))
        rows, cols = rows.clip(0, field.grid.height - 1), cols.clip(0, field.grid.width - 1)
        exact = field.methods[0] == "exact"
        order = np.lexsort((cols // field.blocksize, rows // field.blocksize))
        values = np.empty((len(places), field.dim), dtype=np.float32)
        size = max(1, HELD // field.dim)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            values[part] = field.at(places[part]) if exact else field.pixels(rows[part], cols[part])
            progress(start + len(part))
        there = np.isfinite(values).all(axis=1)
        if exact:
            return cls(places[there], values[there], None)
        centres = field.grid.centres(rows, cols)
        # At the edge of a round map a pixel may be on the globe although its centre is not.
        lonlat = np.where(np.isnan(centres), places, centres)
        return cls(lonlat[there], values[there], (rows * field.grid.width + cols)[there])


def _box(field: Field, region: Region | None) -> Bounds | None:
    """Return the smaller one of the boxes around a field and a region, as far as the encoder is defined; None if none.

    Where it is defined nowhere in one of the two there is none.
    """
    south, north = field.card.latitudes
    boxes = [field.grid.lonlat_bounds, *([region.bounds()] if region else [])]
    found = [(west, max(low, south), east, min(high, north)) for west, low, east, high in boxes]

    def area(box: Bounds) -> float:
        west, low, east, high = box
        return (east - west) * (math.sin(math.radians(high)) - math.sin(math.radians(low)))

    return None if any(low >= high for _, low, _, high in found) else min(found, key=area)


def _places(
    rng: np.random.Generator, field: Field, count: int, region: Region | None, box: Bounds
) -> npt.NDArray[np.float64]:
    """Return random places, at most so many, in a box that lie on a field's grid and in a region: (n, 2)."""
    found = np.empty((0, 2))
    for _ in range(MOST_DRAWN):
        places = random_places(rng, max(FEWEST, count), [box])
        places = places[field.grid.contains(places)]
        if region and len(places):
            places = places[region.holds(places)]
        found = np.concatenate((found, places))[:count]
        if len(found) == count:
            break
    return found


def _nothing(field: Field, region: Region | None, read: int) -> PlacesError:
    """Return the refusal of a field without values."""
    where = f" in {region.name}" if region else ""
    if not read:
        return PlacesError(
            f"{field.name} has no place{where} that could be drawn. Does the region have polygons, on the field's grid "
            "and within the latitudes of its model?"
        )
    return PlacesError(
        f"{field.name} has no value at any of {read:,} random places{where}. There is nothing to describe."
    )
