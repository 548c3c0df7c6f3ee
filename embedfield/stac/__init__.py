"""STAC: a stored field as an item, so that others find and read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pystac
import shapely

from embedfield.formats.item import ITEM_VERSION, LAYOUT, VERSION
from embedfield.stac.assets import Place, assets_of
from embedfield.stac.bands import cube_of, is_own_zarr, quantization_of, raster_of, renders_of, statistics_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from embedfield.card import Card
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Grid

# Extensions, by how the names of their fields begin. An item names those whose fields it has.
PREFIXES = {
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json": "mlm:",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json": "proj:",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json": "raster:",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json": "file:",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json": "processing:",
    "https://stac-extensions.github.io/scientific/v1.0.0/schema.json": "sci:",
    "https://stac-extensions.github.io/version/v1.2.0/schema.json": "version",
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json": "emb:",
    "https://stac-extensions.github.io/render/v2.0.0/schema.json": "renders",
    "https://stac-extensions.github.io/datacube/v2.2.0/schema.json": "cube:",
    "https://stac-extensions.github.io/xarray-assets/v1.0.0/schema.json": "xarray:",
}


def item_of(
    field: StoredField,
    run: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    folder: Path | None = None,
    href: str | None = None,
) -> pystac.Item:
    """Return the item of a stored field; its id is the name of its folder.

    The item is the receipt of a run. Its ``version`` is that of the embedfield
    that computed the field: the same build with the same version gives the
    same numbers. Of a field that others made nothing is said of a run.

    Args:
        field: As it lies in storage.
        run: What is known of the build beside the field's own provenance
            (device, seconds, …); goes into ``emb:runtime_parameters``.
        created: When it was made; None for now.
        known: Sizes and digests (``file:size``, ``file:checksum``) that are not
            taken from the files, by href.
        folder: Where the item will stand, with its companions; None for the
            folder that the raster lies in.
        href: How the item names the raster; None for a relative one if it
            lies in that folder, else an absolute one.

    Raises:
        FormatError: If the field is on a network, and no folder is given.
    """
    place, statistics = Place.of(field, folder, href), statistics_of(field)
    assets = dict(assets_of(field, place, known or {}, raster_of(field, statistics)))
    geometry, bbox = _footprint(field.grid)
    now = created or datetime.now(UTC)
    properties = {
        **_common(field, now),
        **_projection(field.grid),
        **citation(field.card),
        **_processing(field, now),
        **_embedding(field, run or {}),
        **_certificate(place.folder),
        **renders_of(field, statistics, assets),
        **(cube_of(field) if is_own_zarr(field) else {}),
        **({} if field.layout is None else {LAYOUT: dict(field.layout)}),
    }
    item = pystac.Item(
        place.folder.name, geometry, bbox, now, properties, stac_extensions=extensions_of(properties, assets.values())
    )
    for key, asset in assets.items():
        item.add_asset(key, asset)
    return item


def extensions_of(properties: Iterable[str], assets: Iterable[pystac.Asset]) -> list[str]:
    """Return the extensions whose fields are used."""
    used = {*properties, *(name for asset in assets for name in asset.extra_fields)}
    return [url for url, prefix in PREFIXES.items() if any(name.startswith(prefix) for name in used)]


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


def _common(field: StoredField, now: datetime) -> dict[str, Any]:
    height, width = field.grid.shape
    return {
        "title": f"{field.card.title}: {width} x {height} pixels of {field.grid.side}",
        "license": licence(field.card),
        "created": pystac.utils.datetime_to_str(now),
        VERSION: ITEM_VERSION,
    }


def licence(card: Card) -> str:
    """Return the licence of a card's embeddings in STAC's words, which has one for what no SPDX expression says."""
    return "other" if card.licence == "none" else card.licence


def _projection(grid: Grid) -> dict[str, Any]:
    return {
        "proj:code": grid.crs,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
    }


def citation(card: Card) -> dict[str, Any]:
    """Return how an encoder is cited, as the scientific extension has it."""
    # The extension asks for one of its fields; an encoder without a paper is cited by its home.
    return {"sci:citation": card.paper or card.homepage} | ({"sci:doi": card.doi} if card.doi else {})


def _processing(field: StoredField, now: datetime) -> dict[str, Any]:
    """Return what computed a field, and when; of one that others made nothing is known."""
    if field.layout is not None:
        return {"processing:lineage": f"{field.card.title}: made by others, and read where it is"}
    made = str(field.provenance.get("embedfield", "unknown"))
    return {
        "processing:software": {
            name: str(field.provenance[name]) for name in ("embedfield", "torch") if name in field.provenance
        },
        "processing:version": made,
        "processing:datetime": pystac.utils.datetime_to_str(now),
        "processing:lineage": f"{field.card.name} asked at the pixels of a grid, and packed as {field.packing.dtype}",
        "version": made,
        "deprecated": False,
    }


def _embedding(field: StoredField, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return how vectors were computed, reduced and packed."""
    said = {"emb:quantization": quantization_of(field), "emb:runtime_parameters": _parameters(field, run)}
    if field.reduction is None:
        return said
    reduced = field.reduction.to_dict()
    return said | {
        "emb:postprocessing": {"format": "text", "expression": reduced["method"]},
        "embedfield:explained_variance": reduced["explained"],
    }


def _certificate(folder: Path) -> dict[str, Any]:
    """Return the summary of a field's certificate; nothing if it has none."""
    path = folder / "certificate.json"
    if not path.exists():
        return {}
    return {"embedfield:certificate": json.loads(path.read_text(encoding="utf-8"))["summary"]}


def _parameters(field: StoredField, run: Mapping[str, Any]) -> dict[str, Any]:
    own = {"coordinates": "lon,lat in degrees, at pixel centres", "saturated": field.saturated}
    if field.layout is not None:
        own = {}
    return {"model": field.card.name, "res": field.grid.res, **own, **field.provenance, **run}
