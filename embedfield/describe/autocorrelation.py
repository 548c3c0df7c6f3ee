"""Autocorrelation: how alike vectors are at how far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.fidelity import Spread, plain
from embedfield.places import on_sphere
from embedfield.projection import EARTH

if TYPE_CHECKING:
    import numpy.typing as npt

# Ranges of distance in one order of magnitude.
STEPS = 10
# The shortest distance that is told from none, and the longest on the globe: km.
SHORTEST, LONGEST = 1e-3, math.pi * EARTH / 1000
# Pairs that tell a mean, at least.
FEWEST = 50
# Places whose pairs are looked at, at most, and places of one of them at a time.
PLACES, ROWS = 8192, 512
# What correlation falls to at its length.
FALLEN = math.exp(-1)


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """Correlation of vectors by the great-circle distance of their places.

    It is the mean product of the two vectors of a pair, less the mean of all
    vectors, over the mean squared length of the vectors of those pairs: a
    correlogram of all bands together, each weighing as its variance. So it is
    in [-1, 1] also where near pairs are of one part of the area, as those of a
    coarse raster are of the poles. 1 at no distance, 0 where one tells nothing
    of the other. It is about the mean of the area that was sampled: in a
    smaller area it falls sooner.
    """

    distances_km: npt.NDArray[np.float64]
    """(n,), distance of the pairs of each range, by the root mean square of their chords; rising."""
    correlations: npt.NDArray[np.float64]
    """(n,), in [-1, 1]."""
    pairs: npt.NDArray[np.int64]
    """(n,), how many there are in each range; fifty at least."""

    @classmethod
    def of(cls, vectors: npt.NDArray[np.floating], lonlat: npt.NDArray[np.float64]) -> Self:
        """Return the autocorrelation of vectors at places.

        All pairs of the first 8,192 places are taken, in ten ranges of
        distance for each order of magnitude from one metre on.

        Args:
            vectors: (N, dim), finite.
            lonlat: Where, degrees (lon, lat), (N, 2); spread evenly by area, in any order.
        """
        vectors, lonlat = vectors[:PLACES], lonlat[:PLACES]
        # Of vectors that are all the same, rounding is all that their mean leaves of them.
        varied = bool(Spread.of(vectors).variance)
        sums = _sums(_centred(vectors), on_sphere(lonlat)) if varied else np.zeros((4, 0))
        pairs, chords, products, squares = sums[:, (sums[0] >= FEWEST) & (sums[3] > 0)]
        distances = 2 * np.arcsin(np.minimum(np.sqrt(chords / pairs) / 2, 1.0)) * (EARTH / 1000)
        return cls(distances, np.clip(products / squares, -1, 1), pairs.astype(np.int64))

    @property
    def length_km(self) -> float | None:
        """Distance at which correlation first falls to 1/e, between two ranges by the logarithm of distance.

        None where it is shorter than the first range or longer than the last.
        """
        fallen = np.flatnonzero(self.correlations <= FALLEN)
        if not len(fallen) or fallen[0] == 0:
            return None
        after = int(fallen[0])
        near, far = np.log(self.distances_km[after - 1 : after + 1])
        high, low = self.correlations[after - 1 : after + 1]
        return float(np.exp(near + (far - near) * (high - FALLEN) / (high - low)))

    @property
    def shorter_than_km(self) -> float | None:
        """The shortest distance there is, if correlation has fallen to 1/e there already; else None."""
        return float(self.distances_km[0]) if len(self.pairs) and self.correlations[0] <= FALLEN else None

    @property
    def longer_than_km(self) -> float | None:
        """The longest distance there is, if correlation has not fallen to 1/e anywhere; else None."""
        return float(self.distances_km[-1]) if len(self.pairs) and (self.correlations > FALLEN).all() else None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data for JSON."""
        lengths = {"length_km": self.length_km, "shorter_than_km": self.shorter_than_km}
        lengths |= {"longer_than_km": self.longer_than_km}
        return {
            **{name: None if value is None else plain(value) for name, value in lengths.items()},
            "distances_km": [plain(value) for value in self.distances_km],
            "correlations": [plain(value) for value in self.correlations],
            "pairs": self.pairs.tolist(),
        }


def _centred(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return vectors less their mean, (N, dim), in a unit of their own, so that no square is beyond float32."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    return np.asarray(centred / np.abs(centred).max(), dtype=np.float32)


def _sums(centred: npt.NDArray[np.float32], xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sums over the pairs in each range of distance, (4, n).

    They are of ones, of squared chords, of products, and of the mean squared length of the two vectors.
    """
    edges = np.geomspace(SHORTEST, LONGEST, math.ceil(STEPS * math.log10(LONGEST / SHORTEST)) + 1)
    squared = np.square(2 * np.sin(edges[:-1] * (1000 / EARTH / 2)))
    found, squares = np.zeros((4, len(edges))), np.einsum("nd,nd->n", centred, centred) / 2
    for top in range(0, len(xyz), ROWS):
        rows = slice(top, top + ROWS)
        # Squared chords, so precise that the same place and one a metre away are told apart.
        chords = 2 - 2 * (xyz[rows] @ xyz[top:].T)
        chords[np.tril_indices(len(chords), 0, chords.shape[1])] = 0.0  # itself, and pairs of rows before
        products = centred[rows] @ centred[top:].T
        bins = np.searchsorted(squared, chords.ravel(), side="right")
        found[0] += np.bincount(bins, minlength=len(edges))
        found[1] += np.bincount(bins, chords.ravel(), minlength=len(edges))
        found[2] += np.bincount(bins, products.ravel(), minlength=len(edges))
        found[3] += np.bincount(bins, np.add.outer(squares[rows], squares[top:]).ravel(), minlength=len(edges))
    # What is nearer than the first edge is the same place, and tells nothing.
    return found[:, 1:]
