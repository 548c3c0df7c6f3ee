"""Formats: a suffix decides which pair of functions opens and writes a field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedfield.errors import FormatError, OutputExistsError
from embedfield.formats.cog import CogField, write_cog
from embedfield.formats.geozarr import ZarrField, write_zarr
from embedfield.formats.packing import Dtype, Packing

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.field import Field
    from embedfield.formats.stored import StoredField

OPENERS: dict[str, type[CogField | ZarrField]] = {
    ".vrt": CogField,
    ".tif": CogField,
    ".tiff": CogField,
    ".zarr": ZarrField,
}
WRITERS = {".tif": write_cog, ".tiff": write_cog, ".zarr": write_zarr}
SUFFIXES = {"cog": ".tif", "zarr": ".zarr"}


def open_field(path: str | Path) -> StoredField:
    """Open a stored field.

    Args:
        path: A raster (``.tif``, ``.vrt``, ``.zarr``), or the folder of a field.

    Raises:
        FormatError: If there is nothing, or it is no field of embedfield.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path} does not exist. Give a .tif, .vrt or .zarr, or the folder of a field.")
    if path.is_dir() and path.suffix not in OPENERS:
        return open_field(raster_in(path))
    if path.suffix not in OPENERS:
        raise FormatError(
            f"{path} is of no format known here. Give one of: {', '.join(OPENERS)}, or the folder of a field."
        )
    return OPENERS[path.suffix](path)


def raster_in(folder: Path) -> Path:
    """Return the raster of a field's folder.

    Raises:
        FormatError: If there is none.
    """
    for suffix in OPENERS:
        found = sorted(folder.glob(f"*{suffix}"))
        if found:
            return found[0]
    raise FormatError(f"{folder} holds no field. A field's folder has a .tif, .vrt or .zarr in it.")


def write_field(
    field: Field,
    path: str | Path,
    *,
    dtype: Dtype = "uint8",
    progress: Callable[[int], None] | None = None,
) -> StoredField:
    """Write a field to disk and open what was written.

    Memory is bounded by a tile or a shard. Nothing stands under `path` until
    it is whole, and nothing remains of a write that fails.

    Args:
        field: What to write; computed or stored.
        path: ``….tif`` for a COG, ``….zarr`` for Zarr. A COG beyond the memory
            budget becomes a set of tiles, opened by the ``….vrt`` beside it.
        dtype: ``uint8``, one scale and offset a band; or ``float32``.
        progress: Told the number of pixels done, piece by piece.

    Raises:
        FormatError: If the suffix is of no format that can be written.
        OutputExistsError: If something stands there.
        PackingError: If the dtype cannot hold the field.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise FormatError(f"{path} is of no format that can be written. Give one of: {', '.join(WRITERS)}.")
    tiled = (path.with_suffix(".vrt"), path.with_suffix(".tiles")) if WRITERS[path.suffix] is write_cog else ()
    for name in (path, *tiled):
        if name.exists():
            raise OutputExistsError(f"{name} exists. Remove it, or write elsewhere.")
    packing = Packing.measure(field, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    return open_field(WRITERS[path.suffix](field, path, packing, progress or (lambda _: None)))
