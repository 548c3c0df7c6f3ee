"""UTM zones as GPS2Vec's code has them: numbers, bands, metres, and how far a zone reaches."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# Letters of the bands, 8 degrees each from 80° S; the last has 12.
BANDS = "CDEFGHJKLMNPQRSTUVWX"
# Zones wider or narrower than 6 degrees: western and eastern longitude.
ODD = {"32 V": (3.0, 12.0), "31 X": (0.0, 9.0), "33 X": (9.0, 21.0), "35 X": (21.0, 33.0), "37 X": (33.0, 42.0)}


def zones(lonlat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the UTM zones of places (N, 2), degrees, from 80° S to 84° N.

    Returns:
        Numbers from 1 to 60, and bands as indices into `BANDS`, each (N,), int64.
        Norway's and Svalbard's exceptions are in them; 180° E lies in zone 1.
    """
    lon, lat = lonlat.unbind(-1)
    lon = torch.remainder(lon + 180, 360) - 180
    numbers = torch.floor((lon + 180) / 6).long() + 1
    numbers = torch.where((lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12), 32, numbers)
    edges = torch.tensor([9.0, 21.0, 33.0, 42.0], dtype=lon.dtype, device=lon.device)
    svalbard = torch.tensor([31, 33, 35, 37, 0], device=lon.device)[torch.bucketize(lon, edges, right=True)]
    numbers = torch.where((lat >= 72) & (lon >= 0) & (svalbard > 0), svalbard, numbers)
    return numbers, torch.floor((lat + 80) / 8).long().clamp(max=len(BANDS) - 1)


def metres(lonlat: Tensor, number: int, letter: str) -> Tensor:
    """Return UTM coordinates (easting, northing) of places (N, 2) in a zone, metres, (N, 2), float64.

    Northings in bands south of the equator are counted from 10,000 km further south.

    Source: Snyder 1987, "Map Projections: A Working Manual", eqs. 3-21, 8-9 and
    8-10, on an ellipsoid of e² = 0.00669438.
    """
    e2, scale, radius = 0.00669438, 0.9996, 6_378_137.0
    prime = e2 / (1 - e2)
    lon, lat = torch.deg2rad(lonlat).unbind(-1)
    turn = lon - torch.deg2rad(torch.tensor(6.0 * number - 183.0, dtype=lon.dtype))
    turn = torch.remainder(turn + torch.pi, 2 * torch.pi) - torch.pi
    t, c, a = lat.tan() ** 2, prime * lat.cos() ** 2, lat.cos() * turn
    n = radius / torch.sqrt(1 - e2 * lat.sin() ** 2)
    m = radius * (
        (1 - e2 / 4 - 3 * e2**2 / 64 - 5 * e2**3 / 256) * lat
        - (3 * e2 / 8 + 3 * e2**2 / 32 + 45 * e2**3 / 1024) * torch.sin(2 * lat)
        + (15 * e2**2 / 256 + 45 * e2**3 / 1024) * torch.sin(4 * lat)
        - (35 * e2**3 / 3072) * torch.sin(6 * lat)
    )
    east = a + a**3 / 6 * (1 - t + c) + a**5 / 120 * (5 - 18 * t + t**2 + 72 * c - 58 * prime)
    north = a**4 / 24 * (5 - t + 9 * c + 4 * c**2) + a**6 / 720 * (61 - 58 * t + t**2 + 600 * c - 330 * prime)
    northing = scale * (m + n * lat.tan() * (a**2 / 2 + north))
    return torch.stack((scale * n * east + 500_000, northing + (10_000_000 if letter < "N" else 0)), dim=-1)


@cache
def extent(number: int, letter: str) -> tuple[float, float, float, float]:
    """Return how far a zone reaches, metres: west, south, east, north.

    Found as the official code does it: along the bottom and the top edge every
    0.1 degree; the east is the mirror image of the western corners.
    """
    least, greatest = ODD.get(f"{number} {letter}", (6.0 * number - 186, 6.0 * number - 180))
    south = -80.0 + 8 * BANDS.index(letter)
    north = (84.0 if letter == BANDS[-1] else south + 8) - 1e-8
    # Added up step by step, as there: the last step may fall short of the edge, or on it.
    steps = torch.tensor([least, *[0.1] * (round((greatest - least) / 0.1) + 1)], dtype=torch.float64).cumsum(0)
    lons = steps[steps < greatest]
    edges = (torch.stack((lons, torch.full_like(lons, lat)), dim=-1) for lat in (south, north))
    bottom, top = (metres(edge, number, letter) for edge in edges)
    west = min(float(bottom[0, 0]), float(top[0, 0]))
    return west, float(bottom[:, 1].min()), 1_000_000 - west, float(top[:, 1].max())
