"""STAC: a stored field as an item, so that others find and read it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pystac
import shapely

from embedfield.integrity import MULTIHASH_SHA256, SUMS, listed, multihash, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedfield.card import Card
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Grid

EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
]
MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".vrt": "application/x-gdal-vrt+xml",
    ".zarr": "application/vnd.zarr; version=3",
    ".png": "image/png",
    ".json": "application/json",
    ".safetensors": "application/octet-stream",
    "": "text/plain",
}
# What may stand beside the raster, by file name: key of its asset, roles.
COMPANIONS = {
    "preview.png": ("preview", ["thumbnail"]),
    "certificate.json": ("certificate", ["metadata"]),
    "certificate.png": ("certificate-picture", ["overview"]),
    "reduction.safetensors": ("reduction", ["metadata"]),
    SUMS: ("checksums", ["metadata"]),
}


def item_of(
    field: StoredField,
    run: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> pystac.Item:
    """Return the item of a stored field; its id is the name of the field's folder.

    Args:
        field: As it lies on disk, in a folder of its own.
        run: What is known of the build beside the field's own provenance
            (device, seconds, …); goes into ``emb:runtime_parameters``.
        created: When it was made; None for now.
        known: Sizes and digests (``file:size``, ``file:checksum``) that are not
            taken from the files, by href.
    """
    now = created or datetime.now(UTC)
    geometry, bbox = _footprint(field.grid)
    folder = field.disk_path.parent
    item = pystac.Item(
        id=folder.name,
        geometry=geometry,
        bbox=bbox,
        datetime=now,
        properties={
            "created": pystac.utils.datetime_to_str(now),
            **_projection(field.grid),
            **_citation(field.card),
            "processing:software": _software(field),
            "emb:quantization": _quantization(field),
            "emb:runtime_parameters": _parameters(field, run or {}),
            **_reduction(field),
            **_certificate(folder),
        },
        stac_extensions=EXTENSIONS,
    )
    facts = _Facts(folder, known or {})
    item.add_asset("embeddings", _asset(field.disk_path, ["data"], facts, bands=_bands(field)))
    for tile in sorted(folder.glob("*.tiles/*.tif")):
        item.add_asset(tile.stem, _asset(tile, ["data"], facts))
    beside = field.disk_path.with_name(f"{field.disk_path.name}.vrt")
    if beside.exists():
        item.add_asset("gdal", _asset(beside, ["data"], facts))
    for name, (key, roles) in COMPANIONS.items():
        if (folder / name).exists():
            item.add_asset(key, _asset(folder / name, roles, facts))
    return item


def _footprint(grid: Grid) -> tuple[dict[str, Any], list[float]]:
    """Return the outline and bbox of a grid; one across the antimeridian is cut in two."""
    west, south, east, north = grid.lonlat_bounds
    if east - west >= 360:
        west, east = -180.0, 180.0
    if east <= 180:
        return shapely.geometry.mapping(shapely.box(west, south, east, north)), [west, south, east, north]
    parts = shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)])
    # RFC 7946: a bbox whose west is greater than its east crosses the antimeridian.
    return shapely.geometry.mapping(parts), [west, south, east - 360, north]


def _projection(grid: Grid) -> dict[str, Any]:
    return {
        "proj:code": grid.crs,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
    }


def _citation(card: Card) -> dict[str, Any]:
    # The extension asks for one of its fields; an encoder without a paper is cited by its home.
    return {"sci:citation": card.paper or card.homepage} | ({"sci:doi": card.doi} if card.doi else {})


def _software(field: StoredField) -> dict[str, str]:
    """Return what computed the field, by name and version."""
    return {name: str(field.provenance[name]) for name in ("embedfield", "torch") if name in field.provenance}


def _quantization(field: StoredField) -> dict[str, Any]:
    packing = field.packing
    return {
        "method": {"float16": "rounding", "float32": "none"}.get(packing.dtype, "linear"),
        "original_dtype": "float32",
        "quantized_dtype": packing.dtype,
        "scale": packing.scale.tolist(),
        "offset": packing.offset.tolist(),
    }


def _reduction(field: StoredField) -> dict[str, Any]:
    """Return what was done to the vectors after they were computed; nothing where they are whole."""
    if field.reduction is None:
        return {}
    said = field.reduction.to_dict()
    return {
        "emb:postprocessing": {"format": "text", "expression": said["method"]},
        "embedfield:explained_variance": said["explained"],
    }


def _certificate(folder: Path) -> dict[str, Any]:
    """Return the summary of a field's certificate; nothing if it has none."""
    path = folder / "certificate.json"
    if not path.exists():
        return {}
    return {"embedfield:certificate": json.loads(path.read_text(encoding="utf-8"))["summary"]}


def _parameters(field: StoredField, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": field.card.name,
        "coordinates": "lon,lat in degrees, at pixel centres",
        "res": field.grid.res,
        "saturated": field.saturated,
        **field.provenance,
        **run,
    }


def _bands(field: StoredField) -> list[dict[str, Any]]:
    packing = field.packing
    # GeoTIFF has float16's digits in float32.
    stored = "float32" if field.format == "cog" and packing.dtype == "float16" else packing.dtype
    nodata = "nan" if math.isnan(packing.nodata) else packing.nodata
    pairs = zip(field.band_names, packing.scale.tolist(), packing.offset.tolist(), strict=True)
    return [
        {"name": name, "data_type": stored, "nodata": nodata, "raster:scale": scale, "raster:offset": offset}
        for name, scale, offset in pairs
    ]


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


def _asset(path: Path, roles: list[str], facts: _Facts, **fields: Any) -> pystac.Asset:
    """Return the asset of a file."""
    href = f"./{path.relative_to(facts.folder).as_posix()}"
    extra = {**fields, **facts.of(path, href)}
    return pystac.Asset(href, media_type=MEDIA_TYPES[path.suffix], roles=roles, extra_fields=extra)
