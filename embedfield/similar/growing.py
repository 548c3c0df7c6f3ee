"""Growing: points on the sphere to which others are added, and how far it is to the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from scipy.spatial import KDTree

# Points that are looked at one by one; so many become a tree.
LEAF = 256


class Growing:
    """Points on the sphere of radius 1, one more at a time, and how far it is to the nearest."""

    def __init__(self) -> None:
        """Begin with none."""
        self._trees: list[KDTree] = []
        self._last: list[npt.NDArray[np.float64]] = []

    def add(self, point: npt.NDArray[np.float64]) -> None:
        """Add a point, (3,)."""
        from scipy.spatial import KDTree

        self._last.append(point)
        if len(self._last) < LEAF:
            return
        points, self._last = np.array(self._last), []
        # Trees double in size, so that each point is put into few of them, and few are asked.
        while self._trees and self._trees[-1].n <= len(points):
            points = np.concatenate((points, self._trees.pop().data))
        self._trees.append(KDTree(points))

    def chords(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the lengths (n,) of the chords from points (n, 3) to the nearest; 2 where there is none."""
        nearest = np.full(len(points), 2.0)
        for tree in self._trees:
            nearest = np.minimum(nearest, tree.query(points)[0])
        if self._last:
            apart_by = points[:, None] - np.array(self._last)
            nearest = np.minimum(nearest, np.sqrt(np.einsum("nmd,nmd->nm", apart_by, apart_by)).min(axis=1))
        return nearest
