"""Bands: what a STAC item says of the numbers of a field, and how they are shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import CRS

from embedfield.formats.icechunk_store import IcechunkField
from embedfield.formats.item import ASSET
from embedfield.formats.packing import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from embedfield.formats.stored import StoredField
    from embedfield.grid import Grid

# Values of a field, or of its coarsest level, that are read to say what they are.
COUNTED = 4 * 2**20
# Digits of means and deviations.
DIGITS = 8
# Least width of a range that is shown.
TINY = 1e-6
# How an array is opened whose address an asset has: `xarray.open_dataset(href, **kwargs)`.
OPEN_KWARGS = {"engine": "zarr", "consolidated": True, "decode_coords": "all", "chunks": {}}


def raster_of(field: StoredField, statistics: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return what the asset of a field's raster says of its numbers.

    Args:
        field: As it lies in storage.
        statistics: As `statistics_of` returns them.
    """
    sampling = "point" if field.layout is None and field.provenance.get("supersample", 1) == 1 else "area"
    opened: dict[str, Any] = {"xarray:open_kwargs": OPEN_KWARGS} if is_own_zarr(field) else {}
    if isinstance(field, IcechunkField):
        opened = {"icechunk:snapshot_id": field.snapshot}
    return {"raster:sampling": sampling, "bands": _bands(field, statistics), **opened}


def is_own_zarr(field: StoredField) -> bool:
    """Return whether a field is a Zarr whose arrays are laid out as embedfield does it."""
    return field.layout is None and field.format == "zarr"


def _bands(field: StoredField, statistics: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    common = {"data_type": _stored(field), **_nodata(field)}
    bands: list[dict[str, Any]] = [
        {"name": name, "description": description, **common}
        for name, description in zip(field.band_names, _descriptions(field), strict=True)
    ]
    packing = field.packing
    if packing.scale is not None and packing.offset is not None:
        for band, scale, offset in zip(bands, packing.scale.tolist(), packing.offset.tolist(), strict=True):
            band.update({"raster:scale": scale, "raster:offset": offset})
    for band, found in zip(bands, statistics or [], strict=False):
        band["statistics"] = found
    return bands


def _stored(field: StoredField) -> str:
    """Return the type of the stored numbers: GeoTIFF has float16's digits in float32."""
    dtype = str(field.packing.dtype)
    return "float32" if field.layout is None and field.format == "cog" and dtype == "float16" else dtype


def _nodata(field: StoredField) -> dict[str, Any]:
    nodata = field.packing.nodata
    if nodata is None:
        return {}
    return {"nodata": "nan" if math.isnan(nodata) else nodata}


def _descriptions(field: StoredField) -> list[str]:
    model = field.card.name
    if field.reduction is None:
        return [f"dimension {band} of {model}" for band in range(field.dim)]
    return [
        f"principal component {band} of {model}, {share:.2%} of the variance"
        for band, share in enumerate(field.reduction.explained)
    ]


def quantization_of(field: StoredField) -> dict[str, Any]:
    """Return how numbers become codes, as the embeddings extension has it."""
    if field.layout is not None:
        return dict(field.quantization)  # type: ignore[attr-defined]  # a field with a layout is a ForeignField
    packing = field.packing
    return {
        "method": {"float16": "rounding", "float32": "none"}.get(packing.dtype, "linear"),
        "original_dtype": "float32",
        "quantized_dtype": packing.dtype,
        "scale": packing.scale.tolist(),
        "offset": packing.offset.tolist(),
    }


def statistics_of(field: StoredField) -> list[dict[str, Any]] | None:
    """Return STAC's statistics of the stored numbers of each band.

    They are of stored numbers, as ``data_type`` and ``nodata`` are, not of
    the values that these stand for.

    Returns:
        None of a field of many numbers, or one whose rule is not affine.
    """
    height, width = field.grid.shape
    if field.dim * height * width > COUNTED or not _is_affine(field):
        return None
    return [_statistics(band) for band in _codes(field, field.read())]


def _is_affine(field: StoredField) -> bool:
    """Return whether numbers can be had back of values; a rule of others may be of any kind."""
    packing = field.packing
    return packing.scale is not None and packing.offset is not None and bool(packing.scale.all())


def _codes(field: StoredField, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the stored numbers (dim, N) of values (dim, height, width), NaN where there is none."""
    scale, offset = field.packing.scale[:, None], field.packing.offset[:, None]
    codes: npt.NDArray[np.float64] = (values.reshape(field.dim, -1) - offset) / scale
    return np.rint(codes) if np.dtype(field.packing.dtype).kind in "iu" else codes


def _statistics(codes: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the statistics of a band's numbers (N,)."""
    there = codes[np.isfinite(codes)]
    counted: dict[str, Any] = {"count": len(there), "valid_percent": _short(100 * len(there) / len(codes))}
    if not len(there):
        return counted
    edges = {"minimum": float(there.min()), "maximum": float(there.max())}
    return {**edges, "mean": _short(there.mean()), "stddev": _short(there.std()), **counted}


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def renders_of(
    field: StoredField, statistics: list[dict[str, Any]] | None, assets: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``renders``, by name; nothing where it is not known what range a field's numbers have.

    Args:
        field: As it lies in storage.
        statistics: As `statistics_of` returns them.
        assets: Of its item, by key.
    """
    renders: dict[str, Any] = {}
    if "rgb" in assets:
        renders["rgb"] = {
            "title": "Principal components as colours",
            "assets": ["rgb"],
            "bidx": [1, 2, 3],
            "rescale": [[0, 255]] * 3,
        }
    shown = 3 if field.dim >= 3 else 1
    ranges = _ranges(field, statistics, shown)
    if ranges:
        renders[ASSET] = {
            "title": f"{', '.join(field.band_names[:shown])} as {'red, green and blue' if shown == 3 else 'grey'}",
            "assets": [ASSET],
            "bidx": list(range(1, shown + 1)),
            "rescale": ranges,
            **_nodata(field),
        }
    return {"renders": renders} if renders else {}


def _ranges(field: StoredField, statistics: list[dict[str, Any]] | None, shown: int) -> list[list[float]]:
    """Return least and greatest stored number of the first bands; nothing where they are not known."""
    known = [band for band in (statistics or _coarse_statistics(field) or [])[:shown] if "minimum" in band]
    if len(known) == shown:
        # A range of no width cannot be stretched.
        return [[band["minimum"], max(band["maximum"], band["minimum"] + TINY)] for band in known]
    levels = LEVELS.get(field.packing.dtype) if field.layout is None else None
    return [[levels.first, levels.last]] * shown if levels else []


def _coarse_statistics(field: StoredField) -> list[dict[str, Any]] | None:
    """Return the statistics of a field's coarsest level, of many numbers or of a rule that is not affine none."""
    if not _is_affine(field) or not field.overviews:
        return None
    factor, (height, width) = list(field.overviews.items())[-1]
    if field.dim * height * width > COUNTED:
        return None
    return [_statistics(band) for band in _codes(field, field.read_overview(factor))]


def cube_of(field: StoredField) -> dict[str, Any]:
    """Return the dimensions and arrays of a field in a Zarr, as the datacube extension has them.

    Extents are of the coordinates in the store: centres of pixels, and numbers of bands.
    """
    grid, vector = field.grid, ["band"]
    packed = {"type": "data", "dimensions": ["band", "y", "x"], "description": "value = embedding * scale + offset"}
    return {
        "cube:dimensions": {
            "x": {"type": "spatial", "axis": "x", **_axis(grid.xs()), **_system(grid)},
            "y": {"type": "spatial", "axis": "y", **_axis(grid.ys()), **_system(grid)},
            "band": {"type": "bands", "extent": [0, field.dim - 1], "step": 1, "description": "number of the band"},
        },
        "cube:variables": {
            "embedding": packed,
            "scale": {"type": "auxiliary", "dimensions": vector},
            "offset": {"type": "auxiliary", "dimensions": vector},
            "spatial_ref": {"type": "auxiliary", "dimensions": [], "description": "reference system (CF)"},
        },
    }


def _axis(centres: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return least and greatest of the coordinates, and how far neighbours are apart."""
    step = {"step": float(abs(centres[1] - centres[0]))} if len(centres) > 1 else {}
    return {"extent": [float(centres.min()), float(centres.max())], **step}


def _system(grid: Grid) -> dict[str, Any]:
    """Return the reference system: its number where EPSG gave it one."""
    authority, _, code = grid.crs.partition(":")
    return {"reference_system": int(code) if authority == "EPSG" else CRS.from_user_input(grid.crs).to_wkt()}
