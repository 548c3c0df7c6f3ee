"""Located: places as they came, geometries or coordinates, in one reference system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import shapely

from embedfield.places import turned
from embedfield.projection import DEGREES, projection
from embedfield.shapes import Shapes, shapes_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# How far, in degrees, a transformation between reference systems may overshoot a pole.
OVERSHOOT = 1e-9


class Located:
    """Places in one reference system."""

    def __init__(
        self, crs: str, geometries: npt.NDArray[Any] | None = None, xy: npt.NDArray[np.float64] | None = None
    ) -> None:
        """Take places: give either geometries or coordinates.

        Args:
            crs: Their reference system: an authority's code, or WKT, as `plane_of` gives it.
            geometries: Of shapely, (N,); None where there is none.
            xy: (x, y) of points, (N, 2), float64; NaN where there is none.
        """
        self.crs = crs
        self._xy = xy
        self.geometries = geometries

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return places, one at least, of one reference system and one kind, one after the other."""
        if parts[0].geometries is None:
            return cls(parts[0].crs, xy=np.concatenate([part.xy for part in parts]))
        return cls(parts[0].crs, np.concatenate([part.geometries for part in parts]))

    def __len__(self) -> int:
        """How many."""
        return len(self.xy if self.geometries is None else self.geometries)

    def __getitem__(self, which: slice | npt.NDArray[np.int64]) -> Located:
        """Return some of them."""
        xy = None if self._xy is None else self._xy[which]
        return Located(self.crs, None if self.geometries is None else self.geometries[which], xy)

    @property
    def points(self) -> bool:
        """Whether each of them is a point, or nothing."""
        if self.geometries is None:
            return True
        point = np.isin(shapely.get_type_id(self.geometries), (-1, shapely.GeometryType.POINT))
        return bool((point | shapely.is_empty(self.geometries)).all())

    @property
    def xy(self) -> npt.NDArray[np.float64]:
        """(x, y) of points, or the middle of what surrounds a shape, (N, 2); NaN where there is nothing."""
        if self._xy is None:
            self._xy = np.full((0 if self.geometries is None else len(self.geometries), 2), np.nan)
            if self.geometries is not None:
                box = shapely.bounds(self.geometries)
                # From end to end of the plane there is no middle.
                with np.errstate(invalid="ignore", over="ignore"):
                    self._xy = (box[:, :2] + box[:, 2:]) / 2
        return self._xy

    def lonlat(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
        """Return degrees of points, or about the middle of shapes, and what is wrong with them.

        Returns:
            Degrees (lon, lat), (N, 2), lon in [-180, 180], NaN where something is
            wrong; and (N,): ``missing``, ``invalid`` if off the globe, else "".
        """
        missing = np.isnan(self.xy).any(axis=1)
        lonlat = self.xy if self.crs == DEGREES else projection(self.crs).inverse(self.xy)
        lon, lat = lonlat.T
        lat = np.where(abs(abs(lat) - 90) < OVERSHOOT, lat.clip(-90, 90), lat)
        with np.errstate(invalid="ignore"):
            fit = (abs(lat) <= 90) & (lon >= -180) & (lon < 360)
        places = np.where(fit[:, None], np.column_stack((turned(lon), lat)), np.nan)
        return places, np.where(missing, "missing", np.where(fit, "", "invalid"))

    def swapped(self) -> int:
        """Return of how many x could be a latitude and y could not, as where the two are swapped."""
        if self.crs != DEGREES:
            return 0
        x, y = self.xy.T
        with np.errstate(invalid="ignore"):
            return int(((abs(y) > 90) & (abs(x) <= 90)).sum())

    def shapes(self, target: str, buffer: float | None, precision: float) -> Shapes:
        """Return them as shapes in another reference system, as `shapes_on` does."""
        geometries = self.geometries
        if geometries is None:
            geometries = shapely.points(self.xy)
            geometries[np.isnan(self.xy).any(axis=1)] = None
        return shapes_on(geometries, self.crs, target, buffer=buffer, precision=precision)
