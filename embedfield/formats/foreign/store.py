"""Store: a Zarr made by others, and what it says of its arrays."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import zarr
from affine import Affine
from pyproj.exceptions import CRSError
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning

from embedfield.errors import FormatError
from embedfield.formats.address import answering
from embedfield.formats.geozarr import store_of
from embedfield.formats.stored import refused
from embedfield.projection import DEGREES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.formats.address import Address

    Array = zarr.Array[Any]

# How deep arrays are looked for: groups of zones or of levels stand in the root.
DEPTH = 1
# What dimensions are called, by what they are; what is called otherwise is the bands.
CALLED = {
    "y": {"y", "lat", "latitude", "northing", "row"},
    "x": {"x", "lon", "longitude", "easting", "column", "col"},
    "t": {"time", "t", "year", "month", "date"},
}
# What to do about files of others that are damaged.
MEND = "Ask who made it, or fetch it again"
# Seconds that what is still being read is waited for, after a part of it could not be; and what waits is called.
PATIENCE, SETTLING = 5, "settling"
# What coordinates are called that are degrees.
LONLAT = ({"lat", "lon"}, {"latitude", "longitude"})
# What they are where they have no names, by how many there are.
UNNAMED = {2: "yx", 3: "byx", 4: "tbyx"}


@dataclass(frozen=True)
class Store:
    """A Zarr group, or an array of its own."""

    path: Path | str
    """What was opened."""
    place: Path | Address
    """The same from the root of the disk."""
    root: zarr.Group | Array
    """What stands there."""
    _known: dict[str, zarr.Group | Array | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str, place: Path | Address) -> Store:
        """Open what stands at a place.

        Raises:
            FormatError: If it is no Zarr.
        """
        with _reading(path, place, "cannot be opened: it is no Zarr, or not a whole one"):
            return cls(path, place, zarr.open(store_of(place), mode="r"))

    def array(self, name: str) -> Array:
        """Return an array by its path; the empty path is the root itself.

        Raises:
            FormatError: If there is none.
        """
        found = self._node(name)
        if not isinstance(found, zarr.Array):
            raise FormatError(f"{self.path} has no array {name!r}. Enter it anew with 'embedfield catalog add'.")
        return found

    def maybe(self, name: str) -> Array | None:
        """Return an array by its path; None if there is none."""
        found = self._node(name)
        return found if isinstance(found, zarr.Array) else None

    def _node(self, name: str) -> zarr.Group | Array | None:
        """Return what stands at a path, the root at the empty one; asked of a network once."""
        if not name or not isinstance(self.root, zarr.Group):
            return self.root if not name else None
        if name not in self._known:
            with self.reading():
                self._known[name] = self.root.get(name)
        return self._known[name]

    def values(self, name: str) -> npt.NDArray[Any]:
        """Return all numbers of a small array."""
        array = self.array(name)
        with self.reading():
            return np.asarray(array[...])

    def reading(self) -> Any:
        """Turn what goes wrong as it is read into an error of ours."""
        return _reading(self.path, self.place, "cannot be read: it is damaged or cut short")

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by their paths.

        Raises:
            FormatError: If they cannot be listed, as at an address without consolidated metadata.
        """
        if isinstance(self.root, zarr.Array):
            return {"": self.root}
        if self._members is None:
            raise FormatError(
                f"{self.path} does not tell what arrays it has. Name one, or its group, as with --array utm30."
            )
        return {name: found for name, found in sorted(self._members.items()) if isinstance(found, zarr.Array)}

    @cached_property
    def _members(self) -> dict[str, Any] | None:
        """Arrays and groups by their paths; None where they cannot be listed."""
        # On the web nothing can be listed. It was opened a moment ago: the network is not what is wrong.
        with suppress(FormatError), self.reading():
            return dict(self.root.members(max_depth=DEPTH)) if isinstance(self.root, zarr.Group) else {}
        return None

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of an array and of the groups that it lies in, the inner before the outer."""
        told: dict[str, Any] = {}
        for above in _ancestors(name):
            node = self._node(above)
            told |= {} if node is None else dict(node.attrs)
        return told | dict(self.array(name).attrs)

    def axes(self, name: str) -> str:
        """Return what the dimensions of an array are, a letter each: t, b, y, x.

        Raises:
            FormatError: If they cannot be those of a field.
        """
        array = self.array(name)
        names = dimensions(array)
        letters = (
            UNNAMED.get(array.ndim, "")
            if names is None
            else "".join(next((axis for axis, known in CALLED.items() if each.lower() in known), "b") for each in names)
        )
        if not {*"yx"} <= set(letters) or len(set(letters)) < len(letters):
            said = f"dimensions {', '.join(names)}" if names else f"{array.ndim} dimensions without names"
            raise FormatError(
                f"{self.path} has an array {name!r} with the {said}; those of a field are y and x, and bands and time "
                "if it has them. Choose another array."
            )
        return letters

    def coordinate(self, name: str, axis: str) -> str | None:
        """Return the path of the coordinates of a dimension of an array; None if there is none."""
        array = self.array(name)
        position = self.axes(name).index(axis)
        names = dimensions(array)
        # Some name the coordinates otherwise than the dimension.
        known = dict.fromkeys([*(names[position : position + 1] if names else ()), *sorted(CALLED[axis])])
        for path in (f"{beside(name)}{each}" for each in known):
            found = self.maybe(path)
            if found is not None and found.shape == (array.shape[position],):
                return path
        return None

    def crs(self, name: str) -> pyproj.CRS | None:
        """Return the reference system that an array, or what stands around it, states; None if nothing does."""
        told = self.attributes(name)
        mapping = next(
            (
                dict(found.attrs)
                for each in (told.get("grid_mapping"), "spatial_ref", "crs")
                if each and (found := self.maybe(f"{beside(name)}{each}")) is not None
            ),
            {},
        )
        with refused(self.path, "has a reference system that cannot be read", MEND):
            try:
                return _crs(told, mapping) or self._degrees(name)
            except CRSError as error:
                raise ValueError(str(error)) from error

    def _degrees(self, name: str) -> pyproj.CRS | None:
        """Return longitude and latitude if the coordinates are called so, as CF has it."""
        called = {str(self.coordinate(name, axis)).rpartition("/")[2].lower() for axis in "yx"}
        return pyproj.CRS.from_user_input(DEGREES) if called in LONLAT else None

    def transform(self, name: str) -> Affine | None:
        """Return the transform, of corners of pixels, that is stated for an array; None if there is none."""
        told = self.attributes(name)
        with refused(self.path, "has a transform that cannot be read", MEND):
            if "spatial:transform" in told and told.get("spatial:registration", "pixel") == "pixel":
                return Affine(*(float(number) for number in told["spatial:transform"][:6]))
            for each in (told.get("grid_mapping"), "spatial_ref", "crs"):
                found = self.maybe(f"{beside(name)}{each}") if each else None
                if found is not None and "GeoTransform" in found.attrs:
                    return Affine.from_gdal(*map(float, str(found.attrs["GeoTransform"]).split()))
        return None


def _crs(told: Mapping[str, Any], mapping: Mapping[str, Any]) -> pyproj.CRS | None:
    """Return the reference system that attributes state: by the conventions of Zarr, GDAL and CF."""
    for key in ("proj:code", "proj:wkt2", "proj:projjson"):
        if told.get(key):
            return pyproj.CRS.from_user_input(told[key])
    gdal = told.get("_CRS")
    if isinstance(gdal, dict):
        return pyproj.CRS.from_user_input(gdal.get("wkt") or gdal.get("projjson") or gdal.get("url"))
    wkt = mapping.get("crs_wkt") or mapping.get("spatial_ref")
    if wkt:
        return pyproj.CRS.from_user_input(wkt)
    return pyproj.CRS.from_cf(dict(mapping)) if "grid_mapping_name" in mapping else None


@contextmanager
def _reading(path: Path | str, place: Path | Address, fault: str) -> Iterator[None]:
    with warnings.catch_warnings(), refused(path, fault, MEND), answering(place), ExitStack() as failing:
        # Others' files have what Zarr's specification does not have yet, such as consolidated metadata.
        warnings.simplefilter("ignore", ZarrUserWarning)
        failing.callback(_settle)
        yield
        failing.pop_all()


def _settle() -> None:
    """Wait, not for long, until zarr has read what it is reading.

    When one of many chunks cannot be read, it leaves the others under way:
    should the process end meanwhile, it would say so at length.
    """

    async def wait() -> None:
        asyncio.current_task().set_name(SETTLING)  # type: ignore[union-attr]  # it runs
        reading = {task for task in asyncio.all_tasks() if task.get_name() != SETTLING}
        done, _ = await asyncio.wait(reading, timeout=PATIENCE) if reading else (set(), None)
        for task in done:
            if not task.cancelled():
                task.exception()  # what is not asked for is printed

    sync(wait())


def dimensions(array: Array) -> tuple[str, ...] | None:
    """Return the names of an array's dimensions; None where they have none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if (
        not isinstance(names, list | tuple)
        or len(names) != array.ndim
        or not all(isinstance(name, str) for name in names)
    ):
        return None
    return tuple(str(name) for name in names)


def beside(name: str) -> str:
    """Return the path of the group that an array lies in, with a slash behind it; empty in the root."""
    group, slash, _ = name.rpartition("/")
    return group + slash


def _ancestors(name: str) -> list[str]:
    """Return the paths of the groups around an array, the outermost, which is the root, first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(len(parts) + 1)]
