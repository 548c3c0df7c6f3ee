"""Assets: the files of a field, as its STAC item names them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pystac

from embedfield.formats.item import ASSET
from embedfield.integrity import MULTIHASH_SHA256, SUMS, listed, multihash, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedfield.formats.stored import StoredField

TIFF = "image/tiff; application=geotiff"
COG = f"{TIFF}; profile=cloud-optimized"
ZARR = "application/vnd.zarr"
# Of files that embedfield wrote.
MEDIA_TYPES = {
    ".tif": COG,
    ".vrt": "application/x-gdal-vrt+xml",
    ".zarr": f"{ZARR}; version=3",
    ".icechunk": f"{ZARR}+icechunk",  # as xpystac knows it
    ".png": "image/png",
    ".json": "application/json",
    ".safetensors": "application/octet-stream",
    # As QGIS itself registers it with the desktop.
    ".qml": "application/x-qgis-layer-settings",
    "": "text/plain",
}
# Of files that others wrote: whether a TIFF is cloud-optimized, and which version a Zarr has, is for them to say.
FOREIGN_TYPES = {".tif": TIFF, ".tiff": TIFF, ".zarr": ZARR}
UNKNOWN_TYPE = "application/octet-stream"


# A tile, by the pixel of the field in its corner: row and column.
TILE = re.compile(r"r(\d+)c(\d+)\.tif")
# Of what stands beside a Zarr.
GDAL_TITLE = "The raster as GDAL before 3.13 reads it"


class Companion(NamedTuple):
    """What may stand beside the raster."""

    pattern: str
    """Of its file's name; at most one file in a folder has it."""
    key: str
    """Of its asset."""
    roles: list[str]
    title: str


COMPANIONS = (
    Companion("preview.png", "preview", ["thumbnail"], "Preview"),
    Companion("rgb.tif", "rgb", ["visual"], "Principal components as colours"),
    Companion("colours.json", "colours", ["metadata"], "How vectors become colours"),
    Companion("*.qml", "style", ["metadata"], "Style for QGIS"),
    Companion("certificate.json", "certificate", ["metadata"], "What the raster loses of its encoder"),
    Companion("certificate.png", "certificate-picture", ["overview"], "The certificate, drawn"),
    Companion("reduction.safetensors", "reduction", ["metadata"], "The way from components to vectors"),
    Companion(SUMS, "checksums", ["metadata"], "Digests of all files"),
)


class Place(NamedTuple):
    """Where the item of a field stands, and how it names the raster."""

    folder: Path
    """The item's own; it has the item's name."""
    href: str
    """Of the raster: relative to the folder, or an absolute path or address."""

    @classmethod
    def of(cls, field: StoredField, folder: Path | None, href: str | None) -> Place:
        """Return the place of a field's item.

        Args:
            field: As it lies in storage.
            folder: Where the item will stand; None for the raster's own folder.
            href: Of the raster; None for a relative one where it lies in that folder, else an absolute one.

        Raises:
            FormatError: If no folder is given, and the field is on a network.
        """
        if folder is None:
            folder = field.disk_path.parent
        if href is None:
            href = _relative(field.path, folder) or _absolute(field.path)
        return cls(folder, href)

    @property
    def raster(self) -> Path:
        """Where the raster lies that lies in the folder, or what stands in for it."""
        return self.folder / self.href.removeprefix("./")

    @property
    def inside(self) -> bool:
        """Whether the raster lies in the item's folder."""
        return self.href.startswith("./")


def _relative(path: Path | str, folder: Path) -> str | None:
    if isinstance(path, str) or not path.absolute().is_relative_to(folder.absolute()):
        return None
    return f"./{path.absolute().relative_to(folder.absolute()).as_posix()}"


def _absolute(path: Path | str) -> str:
    return path if isinstance(path, str) else path.absolute().as_posix()


def assets_of(
    field: StoredField, place: Place, known: Mapping[str, Mapping[str, Any]], raster: Mapping[str, Any]
) -> Iterator[tuple[str, pystac.Asset]]:
    """Yield the assets of a field's item, by key; the raster first.

    Args:
        field: As it lies in storage.
        place: Of its item.
        known: Sizes and digests (``file:size``, ``file:checksum``) that are not taken from the files, by href.
        raster: What more is said of the raster.
    """
    facts = _Facts(place.folder, known)
    told = facts.of(place.raster, place.href) if place.inside else known.get(place.href, {})
    yield (
        ASSET,
        pystac.Asset(
            place.href,
            title=f"Vectors of {field.card.name}, {field.dim:,} bands",
            media_type=_media_type(field),
            roles=["data"],
            extra_fields={**raster, **told},
        ),
    )
    if place.inside:
        yield from _parts(field, place, facts)
    for pattern, key, roles, title in COMPANIONS:
        for path in sorted(place.folder.glob(pattern))[:1]:
            yield key, facts.asset(path, roles, title, **(_picture(path) if key == "rgb" else {}))


def _media_type(field: StoredField) -> str | None:
    suffix = Path(field.path).suffix.lower()
    if suffix == ".vrt":
        # None is registered. Without one odc-stac and its like go by the role; with another they pass it over.
        return None
    return MEDIA_TYPES[suffix] if field.layout is None else FOREIGN_TYPES.get(suffix, UNKNOWN_TYPE)


def _parts(field: StoredField, place: Place, facts: _Facts) -> Iterator[tuple[str, pystac.Asset]]:
    """Yield the tiles of a field, and what tells GDAL of a Zarr what it cannot read there."""
    for tile, grid in _tiles(field, sorted(facts.folder.glob("*.tiles/*.tif"))):
        yield tile.stem, facts.asset(tile, ["data"], "A tile of the raster", **grid)
    beside = place.raster.with_name(f"{place.raster.name}.vrt")
    if beside.exists():
        yield "gdal", facts.asset(beside, ["data"], GDAL_TITLE)


def _tiles(field: StoredField, paths: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the tiles of a field with their grids: of embedfield's own by their names, so that none must be opened."""
    named = [TILE.fullmatch(path.name) for path in paths]
    corners = [(int(found[1]), int(found[2])) for found in named if found]
    if field.layout is not None or len(corners) != len(paths):
        yield from ((path, _grid(path)) for path in paths)
        return
    # They are squares, in rows and columns; those at the edge are cut off there.
    side = min((edge for corner in corners for edge in corner if edge), default=0)
    for path, (row, col) in zip(paths, corners, strict=True):
        height, width = min(side, field.grid.height - row), min(side, field.grid.width - col)
        west, north = field.grid.transform @ (col, row)
        transform = [field.grid.res, 0.0, west, 0.0, -field.grid.res, north]
        yield path, {"proj:shape": [height, width], "proj:transform": transform}


def _grid(path: Path) -> dict[str, Any]:
    """Return where the pixels of a raster are: another grid than the item's."""
    import rasterio

    with rasterio.open(path) as raster:
        return {"proj:shape": list(raster.shape), "proj:transform": list(raster.transform)[:6]}


def _picture(path: Path) -> dict[str, Any]:
    """Return where the pixels of a picture are, and what its bands mean."""
    import rasterio

    with rasterio.open(path) as raster:
        bands = zip(raster.colorinterp, raster.dtypes, raster.nodatavals, strict=True)
        return {
            "bands": [
                {"name": colour.name, "data_type": dtype, **({} if nodata is None else {"nodata": _plain(nodata)})}
                for colour, dtype, nodata in bands
            ],
            **_grid(path),
        }


def _plain(nodata: float) -> float | str:
    """Return a number that means no value as STAC writes it."""
    return "nan" if math.isnan(nodata) else nodata


class _Facts:
    """Sizes and digests of a field's files, by href."""

    def __init__(self, folder: Path, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Take those that are known, and the digests that stand beside the field: no file is hashed twice."""
        self.folder, self.known = folder, known
        self.digests = listed(folder) if (folder / SUMS).is_file() else {}

    def of(self, path: Path, href: str) -> Mapping[str, Any]:
        """Return what is said of a file; of a folder the digest is that of the list of its files' digests."""
        if href in self.known:
            return self.known[href]
        told: dict[str, Any] = {"file:size": size(path)}
        digest = self.digests.get(href.removeprefix("./"))
        if digest:
            return told | {"file:checksum": MULTIHASH_SHA256 + digest}
        list_or_file = self.folder / SUMS if path.is_dir() else path
        return told | ({"file:checksum": multihash(list_or_file)} if list_or_file.exists() else {})

    def asset(self, path: Path, roles: list[str], title: str, **fields: Any) -> pystac.Asset:
        """Return the asset of a file in the folder."""
        href = f"./{path.relative_to(self.folder).as_posix()}"
        extra = {**fields, **self.of(path, href)}
        return pystac.Asset(href, title, media_type=MEDIA_TYPES[path.suffix], roles=roles, extra_fields=extra)
