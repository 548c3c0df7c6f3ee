"""Makers of small files in the layouts of others, written with rasterio, zarr and numpy alone."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
import zarr
from affine import Affine
from rasterio.enums import Resampling

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Numbers = npt.NDArray[Any]

# North-western corner, in metres of UTM zone 32 N: near 7.5 degrees east, 46.6 north.
EASTING, NORTHING = 385_000.0, 5_165_000.0
UTM = "EPSG:32632"


def signed_codes(dim: int, height: int, width: int) -> Numbers:
    """Return int8 codes (dim, height, width), smooth and different in each band, with a hole of -128."""
    row, col = np.mgrid[:height, :width] / 7
    waves = np.stack([np.sin(row + band) + np.cos(col * (1 + band % 3)) for band in range(dim)])
    codes = np.rint(waves * 60).clip(-127, 127).astype(np.int8)
    codes[:, 2:5, 3:9] = -128
    return codes


def alphaearth_tiff(path: Path, codes: Numbers, *, bottom_up: bool = True, named: bool = True, **more: Any) -> Path:
    """Write codes (64, height, width), their first row in the north, as AlphaEarth's COGs have them.

    Args:
        path: ``….tiff``.
        codes: int8.
        bottom_up: Whether the file's first row lies in the south.
        named: Whether its bands are called A00 to A63.
        **more: For rasterio.
    """
    count, height, width = codes.shape
    down = Affine(10, 0, EASTING, 0, -10, NORTHING)
    up = Affine(10, 0, EASTING, 0, 10, NORTHING - 10 * height)
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width, "height": height, "count": count, "dtype": "int8", "crs": UTM,
        "transform": up if bottom_up else down, "nodata": -128, "tiled": True, "blockxsize": 64, "blockysize": 64,
        "interleave": "band", "compress": "zstd",
    }  # fmt: skip
    with rasterio.open(path, "w", **(profile | more)) as dataset:
        dataset.write(codes[:, ::-1] if bottom_up else codes)
        for band in range(count if named else 0):
            dataset.set_band_description(band + 1, f"A{band:02d}")
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([factor for factor in (2, 4) if factor < height], Resampling.nearest)
    return path


def tessera_tile(folder: Path, codes: Numbers, scales: Numbers, *, landmask: str | None = None) -> Path:
    """Write a tile as its program keeps it, and return the file of its codes.

    Args:
        folder: Which holds codes and landmasks.
        codes: (height, width, dim), int8.
        scales: (height, width), float32.
        landmask: Path in the folder of the raster of land; None for the usual one.
    """
    height, width, _ = codes.shape
    name = "grid_7.55_46.65"
    inside = folder / "global_0.1_degree_representation" / "2024" / name
    inside.mkdir(parents=True)
    np.save(inside / f"{name}.npy", codes)
    np.save(inside / f"{name}_scales.npy", scales)
    land = folder / (landmask or f"global_0.1_degree_tiff_all/{name}.tiff")
    land.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        land, "w", driver="GTiff", width=width, height=height, count=1, dtype="uint8", crs=UTM,
        transform=Affine(10, 0, EASTING, 0, -10, NORTHING),
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((1, height, width), np.uint8))
    return inside / f"{name}.npy"


def tessera_zarr(path: Path, codes: Numbers, scales: Numbers, times: list[int], zones: tuple[int, ...] = (32,)) -> Path:
    """Write a store of zones, codes (time, dim, height, width) and scales (time, height, width) the same in each."""
    root = zarr.create_group(path, zarr_format=3)
    root.attrs.put({
        "geoemb:model": "https://geotessera.org/model/1.0",
        "geoemb:dimensions": codes.shape[1],
        "geoemb:quantization": {"method": "per_pixel_scale", "original_dtype": "float32", "quantized_dtype": "int8"},
    })  # fmt: skip
    height, width = codes.shape[2:]
    for zone in zones:
        group = root.create_group(f"utm{zone:02d}")
        group.attrs.put({
            "proj:code": f"EPSG:326{zone:02d}",
            "spatial:transform": [10.0, 0.0, EASTING, 0.0, -10.0, NORTHING],
            "spatial:shape": [height, width],
        })  # fmt: skip
        axes = ("time", "band", "northing", "easting")
        put(group, "embeddings", codes, axes, chunks=(1, codes.shape[1], 8, 8), fill_value=0)
        put(group, "scales", scales, (axes[0], *axes[2:]), chunks=(1, 8, 8), fill_value=np.inf)
        put(group, "time", np.array(times, dtype=np.int32), axes[:1])
        put(group, "northing", NORTHING - 10 * (np.arange(height) + 0.5), axes[2:3])
        put(group, "easting", EASTING + 10 * (np.arange(width) + 0.5), axes[3:])
    return path


def mind_zarr(
    path: Path, levels: list[Numbers], masks: list[Numbers], scale: Numbers, offset: Numbers, *, res: float
) -> Path:
    """Write a store of levels, codes (dim, height, width) and masks (height, width), from the north-west of the globe.

    Blocks of a level without land are not written.
    """
    root = zarr.create_group(path, zarr_format=3)
    put(root, "emb_scale", scale, ("dim",))
    put(root, "emb_offset", offset, ("dim",))
    for number, (codes, mask) in enumerate(zip(levels, masks, strict=True)):
        group, step = root.create_group(str(number)), res * 2**number
        dim, height, width = codes.shape
        array = group.create_array(
            "embedding", shape=codes.shape, dtype=codes.dtype, chunks=(min(4, dim), 8, 8), shards=(min(4, dim), 16, 16),
            fill_value=0, dimension_names=("dim", "y", "x"),
        )  # fmt: skip
        for row in range(0, height, 16):
            for col in range(0, width, 16):
                if mask[row : row + 16, col : col + 16].any():
                    array[:, row : row + 16, col : col + 16] = codes[:, row : row + 16, col : col + 16]
        put(group, "mask", mask, ("y", "x"))
        put(group, "lat", 90 - step * (np.arange(height) + 0.5), ("y",))
        put(group, "lon", -180 + step * (np.arange(width) + 0.5), ("x",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(path)
    return path


def put(
    group: zarr.Group,
    name: str,
    values: Numbers,
    axes: tuple[str, ...] | None,
    attributes: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Write an array into a group of either version."""
    known: dict[str, Any] = {"attributes": attributes or {}}
    if axes and group.metadata.zarr_format == 3:
        known["dimension_names"] = axes
    elif axes:
        known["attributes"] = {"_ARRAY_DIMENSIONS": list(axes), **known["attributes"]}
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, **(known | more))
    array[...] = values


def plain_zarr(
    path: Path, values: Numbers, version: Literal[2, 3] = 3, attributes: dict[str, Any] | None = None, **more: Any
) -> Path:
    """Write numbers (band, y, x) over Europe, a quarter of a degree wide, with coordinates by CF."""
    root = zarr.create_group(path, zarr_format=version)
    height, width = values.shape[1:]
    put(root, "vectors", values, ("feature", "lat", "lon"), attributes, **more)
    put(root, "lat", 60 - 0.25 * (np.arange(height) + 0.5), ("lat",), {"units": "degrees_north"})
    put(root, "lon", 5 + 0.25 * (np.arange(width) + 0.5), ("lon",), {"units": "degrees_east"})
    return path


def enter(item: Path, href: str, layout: dict[str, Any], **properties: Any) -> Path:
    """Write what of a STAC item is needed to open a field."""
    document = {
        "type": "Feature",
        "properties": {"embedfield:layout": layout, **properties},
        "assets": {"embeddings": {"href": href}},
    }
    item.parent.mkdir(parents=True, exist_ok=True)
    item.write_text(json.dumps(document))
    return item
