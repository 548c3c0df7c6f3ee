"""Intrinsic dimension: in how many directions vectors truly vary, as scikit-dimension estimates it."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

# Neighbours that estimators look at: scikit-dimension's defaults, with which published tables are made.
NEIGHBOURS = {"MLE": 20, "MOM": 100, "TLE": 20}
MOST = max(NEIGHBOURS.values())
# Numbers whose differences are held at a time.
HELD = 2**23
# Vectors whose products are held at a time, of one with another: they stay in a processor's cache.
ROWS, COLS = 512, 4096


@dataclass(frozen=True)
class IntrinsicDimension:
    """Four estimates of the dimension of the surface that vectors lie on.

    Those that look at neighbours fall as there are more vectors of the same
    kind: only estimates of equally many compare.
    """

    distinct: int
    """Number of distinct vectors that they were made of."""
    repeated: int
    """Number of vectors left out, since another was the same: at no distance there is no dimension."""
    mle: float
    """Maximum likelihood (Levina and Bickel 2005, Haro and others 2008), 20 neighbours."""
    mom: float
    """Method of moments (Amsaleg and others 2018), 100 neighbours."""
    tle: float
    """Tight local estimator (Amsaleg and others 2019), 20 neighbours."""
    fisher_s: float
    """Fisher separability (Albergante and others 2019); NaN where no vector is like another."""

    @property
    def estimates(self) -> dict[str, float]:
        """The four, by the names that scikit-dimension has for them."""
        return {"MLE": self.mle, "MOM": self.mom, "TLE": self.tle, "FisherS": self.fisher_s}


def intrinsic_dimension(
    vectors: npt.NDArray[np.floating], step: Callable[[str], None] | None = None
) -> IntrinsicDimension | None:
    """Estimate the intrinsic dimension of vectors.

    The numbers are scikit-dimension's own, with its default neighbours. These
    are searched once for all: exactly, and their distances are computed from
    differences, so that vectors that nearly agree are kept apart.

    Args:
        vectors: (N, dim), finite.
        step: Told what is done, before it is.

    Returns:
        The estimates; None if dim is 1, or there are no more distinct vectors
        than the hundred neighbours that are asked for.
    """
    distinct = _distinct(vectors)
    if len(distinct) <= MOST or distinct.shape[1] < 2:
        return None
    tell = step or (lambda _: None)
    tell("finding the nearest of each vector")
    distances, numbers = neighbours(distinct, MOST)
    tell("estimating the intrinsic dimension")
    near = {name: (distances[:, :count], numbers[:, :count]) for name, count in NEIGHBOURS.items()}
    mle, mom, tle = (_local(name, distinct, near[name]) for name in NEIGHBOURS)
    return IntrinsicDimension(len(distinct), len(vectors) - len(distinct), mle, mom, tle, _fisher_s(distinct))


def neighbours(vectors: npt.NDArray[np.float64], count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the nearest other vectors of each.

    Args:
        vectors: (N, dim), distinct.
        count: How many, fewer than N.

    Returns:
        Euclidean distances, rising, and which vectors they are, each (N, count).
    """
    from sklearn.neighbors import NearestNeighbors

    found: npt.NDArray[np.int64] = NearestNeighbors(n_neighbors=count).fit(vectors).kneighbors(return_distance=False)
    distances = np.empty(found.shape)
    # Distances from products of matrices have lost the digits of what is small beside the vectors' length.
    rows = max(1, HELD // (count * vectors.shape[1]))
    for part in (slice(start, start + rows) for start in range(0, len(vectors), rows)):
        apart = vectors[found[part]]
        apart -= vectors[part, None]
        distances[part] = np.sqrt(np.einsum("nkd,nkd->nk", apart, apart))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(found, order, axis=1)


def _distinct(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return vectors (n, dim) without those that came before, float64."""
    # Of the two zeros one; then rows are the same where their bytes are.
    whole = np.ascontiguousarray(vectors) + vectors.dtype.type(0)
    rows = whole.view(np.dtype((np.void, whole.shape[1] * whole.itemsize)))[:, 0]
    _, first = np.unique(rows, return_index=True)
    distinct: npt.NDArray[np.float64] = whole[np.sort(first)].astype(np.float64)
    return distinct


def _local(name: str, vectors: npt.NDArray[np.float64], near: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> float:
    """Return what an estimator of scikit-dimension makes of neighbours."""
    estimator = getattr(_skdim().id, name)()
    # TLE divides by what is zero for neighbours equally far, and mends it afterwards.
    with np.errstate(divide="ignore", invalid="ignore"):
        estimator.fit(vectors, precomputed_knn_arrays=near, n_neighbors=near[0].shape[1])
    return float(estimator.dimension_)


def _fisher_s(vectors: npt.NDArray[np.float64]) -> float:
    """Return the dimension by Fisher separability."""

    class Quick(_skdim().id.FisherS):  # type: ignore[misc]  # its package has no types
        """FisherS that counts pairs once, on all processors: thirty times as fast, and the same counts.

        Should scikit-dimension rename what is replaced here, its own is used again.
        """

        def _checkSeparabilityMultipleAlpha(  # noqa: N802  the name that FisherS calls
            self, data: npt.NDArray[np.float64]
        ) -> tuple[None, npt.NDArray[np.float64]]:
            return None, _inseparable(data, self._alphas[0])[:, None]

    estimator = Quick()
    # It prints which of several margins it took, and warns where no two vectors are alike.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        estimator.fit(vectors)
    return float(estimator.dimension_)


def _inseparable(units: npt.NDArray[np.float64], margins: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return which part of all pairs of unit vectors (N, d) has a cosine of at least each margin, (m,), rising."""
    from threadpoolctl import threadpool_limits

    count = len(units)

    def counted(top: int) -> npt.NDArray[np.int64]:
        """Return how many pairs of some vectors with those after them lie between margins, (m + 1,)."""
        rows = units[top : top + ROWS]
        found = np.zeros(len(margins) + 1, dtype=np.int64)
        for left in range(top, count, COLS):
            cosines = rows @ units[left : left + COLS].T
            if left == top:
                cosines[np.tril_indices(len(rows), 0, cosines.shape[1])] = -1.0  # itself, and pairs of rows before
            near = cosines[cosines >= margins[0]]
            found += np.bincount(np.searchsorted(margins, near, side="right"), minlength=len(found))
        return found

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        between = sum(pool.map(counted, range(0, count, ROWS)), np.zeros(len(margins) + 1, dtype=np.int64))
    at_least = np.cumsum(between[::-1])[::-1][1:]
    shares: npt.NDArray[np.float64] = at_least * 2 / count / (count - 1)
    return shares


def _skdim() -> Any:
    """Return scikit-dimension."""
    # As it is imported it silences all warnings of the process.
    with warnings.catch_warnings():
        import skdim
    return skdim
