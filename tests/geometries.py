"""Geometries as the arrays that vectorised functions take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    import numpy.typing as npt


def objects(shapes: Any) -> npt.NDArray[Any]:
    """Return one shape or several, some of which may be None, as an array of objects."""
    shapes = [shapes] if isinstance(shapes, shapely.Geometry) else list(shapes)
    array = np.empty(len(shapes), dtype=object)
    array[:] = shapes
    return array
