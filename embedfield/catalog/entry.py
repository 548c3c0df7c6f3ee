"""Entry: what the item of a field says, checked; and the faults of those that say nothing of use."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pystac
import shapely

from embedfield.catalog.documents import is_relative, one_line, read_document, target_of
from embedfield.errors import FormatError
from embedfield.formats.item import ASSET, LAYOUT, check_version
from embedfield.integrity import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from embedfield.grid import Bounds

# What breaks on the contents of a document that are of another type than they should be.
BROKEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, shapely.errors.ShapelyError)


class Fault(NamedTuple):
    """Something that is wrong in a catalogue."""

    where: str
    """The file, from the catalogue's folder on."""
    what: str
    """What is wrong with it, and how to mend it."""

    def __str__(self) -> str:
        """Return both, as one line."""
        return f"{self.where}: {self.what}"


@contextmanager
def noting(root: Path, path: Path, faults: list[Fault]) -> Iterator[None]:
    """Take note of an error that one file of a catalogue makes, and go on."""
    try:
        yield
    except FormatError as error:
        name = path.relative_to(absolute(root)).as_posix() if absolute(root) in path.parents else str(path)
        what = str(error).removeprefix(f"{path} ").removesuffix(".")
        faults.append(Fault(name, what))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A field of a catalogue, by what its item says."""

    id: str
    """Of the item, which is the name of its folder."""
    model: str
    """Its collection."""
    path: Path | str
    """The item's file; a text where it is the address of one on a network."""
    href: str
    """Where the raster is: a path, or an address."""
    bounds: Bounds
    """West, south, east, north in degrees; west is greater than east across the antimeridian."""
    res: float
    """Side of a pixel, in units of the crs."""
    crs: str
    """Reference system of the pixels."""
    bands: int
    """How many there are."""
    dtype: str
    """Type of the stored numbers."""
    bytes: int | None
    """Size of all files that the item has the size of; None where it has none."""
    created: datetime
    """When it was made, or registered."""
    grade: str | None
    """Of the certificate, for bilinear reading: ``good``, ``fair`` or ``poor``; None without one."""
    foreign: bool
    """Whether it was made by others, and is only registered here."""

    @property
    def pixel(self) -> str:
        """Side of a pixel with its unit, such as 0.5° or 1000 m."""
        from embedfield.projection import DEGREES, unit_of

        unit = "degrees" if self.crs == DEGREES else unit_of(self.crs)
        return f"{self.res:.10g}{'°' if unit == 'degrees' else ' m' if unit == 'metres' else f' {unit}'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain data for JSON."""
        plain = {"path": str(self.path), "bounds": list(self.bounds), "created": self.created.isoformat()}
        return asdict(self) | plain

    def meets(self, bounds: Bounds) -> bool:
        """Return whether the field's box and another have more than an edge in common; west may exceed east in both."""
        (_, south, _, north), (_, low, _, high) = self.bounds, bounds
        if south >= high or low >= north:
            return False
        return any(
            max(west, left) < min(east, right)
            for west, east in _spans(self.bounds)
            for left, right in _spans(bounds)
        )  # fmt: skip


def _spans(bounds: Bounds) -> list[tuple[float, float]]:
    """Return the longitudes of a box as intervals from -180 to 180."""
    west, _, east, _ = bounds
    if west <= east <= 180:
        return [(west, east)]
    return [(west, 180.0), (-180.0, east - 360 if east > 180 else east)]


def read_item(path: Path) -> tuple[dict[str, Any], Entry]:
    """Return an item of a field, and what it says.

    Raises:
        FormatError: If it is not there, no item of a field, or written by a newer embedfield.
    """
    item = read_document(path)
    check_version(item)
    try:
        return item, _entry(path, item)
    except BROKEN as error:
        raise FormatError(f"{path} is no STAC item of a field: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else one_line(error)


def _entry(path: Path, item: dict[str, Any]) -> Entry:
    """Return what an item says; whatever it is breaks in one of the ways of `BROKEN`."""
    if item["type"] != "Feature":
        raise ValueError(f"its type is {item['type']!r}")
    properties, assets = item["properties"], item["assets"]
    for key, asset in assets.items():
        if not isinstance(asset["href"], str):
            raise TypeError(f"its asset {key!r} has no href")
    raster, transform = assets[ASSET], [float(number) for number in properties["proj:transform"]]
    quantization = properties.get("emb:quantization", {})
    sizes = [int(asset["file:size"]) for asset in assets.values() if "file:size" in asset]
    with np.errstate(invalid="raise"):  # a coordinate that is no number
        if not isinstance(item["geometry"], dict) or shapely.geometry.shape(item["geometry"]).is_empty:
            raise ValueError("it has no geometry")
    return Entry(
        id=_text(item, "id"),
        model=_text(item, "collection"),
        path=path,
        href=str(target_of(path, raster["href"])) if is_relative(raster["href"]) else raster["href"],
        bounds=_bounds(item["bbox"]),
        res=abs(transform[0]),
        crs=_text(properties, "proj:code"),
        bands=len(raster["bands"]),
        dtype=str(quantization.get("quantized_dtype") or raster["bands"][0]["data_type"]),
        bytes=sum(sizes) if sizes else None,
        created=_time(properties.get("created") or properties["datetime"]),
        grade=_grade(properties.get("embedfield:certificate")),
        foreign=LAYOUT in properties,
    )


def _text(content: dict[str, Any], key: str) -> str:
    if not isinstance(content[key], str):
        raise TypeError(f"its {key} is {content[key]!r}")
    return str(content[key])


def _time(text: str) -> datetime:
    found = pystac.utils.str_to_datetime(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _bounds(bbox: list[float]) -> Bounds:
    west, south, east, north = map(float, bbox)
    if not all(map(math.isfinite, (west, south, east, north))) or south > north:
        raise ValueError(f"its bbox is {bbox}")
    return west, south, east, north


def _grade(certificate: dict[str, Any] | None) -> str | None:
    """Return the grade of what a certificate's summary says of bilinear reading."""
    if certificate is None:
        return None
    from embedfield.certificate import grade

    return grade(float(certificate["bilinear"]["cosine"]), float(certificate["bilinear"]["relative_rmse"]))
