"""Plain: a raster or a Zarr of vectors whose numbers are values, or state themselves how they become such."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from embedfield.errors import FormatError
from embedfield.formats.address import place_of
from embedfield.formats.foreign.choice import candidates, entered, is_flat, kept, layout_in, only, size_of
from embedfield.formats.foreign.raster import RasterFacts
from embedfield.formats.foreign.stated import check_numbers, packed
from embedfield.formats.foreign.store import Store

if TYPE_CHECKING:
    from embedfield.formats.foreign.asked import Asked
    from embedfield.formats.foreign.tile import TileFiles

WORDS = "numbers that are values, or state their scale and offset"
WHAT = "arrays of bands with rows and columns"


def fits(found: RasterFacts | Store | TileFiles, asked: Asked) -> bool:
    """Return whether files are surely of this kind."""
    if isinstance(found, RasterFacts):
        return found.packed or _is_float(found.dtype)
    if not isinstance(found, Store):
        return False
    names = _arrays(found, asked)
    return all(_is_float(found.array(name).dtype.name) or packed(found.array(name)) for name in names)


def layout_of(found: RasterFacts | Store | TileFiles, asked: Asked) -> dict[str, Any]:
    """Return the layout of files that are said to be of this kind.

    Raises:
        FormatError: If they cannot be.
    """
    if isinstance(found, RasterFacts):
        asked.check("a plain raster", ("crs", "dims"))
        dim = len(found.names)
        layout: dict[str, Any] = {"store": "raster", "rule": "affine"}
        layout |= {"crs": asked.crs} if asked.crs is not None else {}
    elif isinstance(found, Store):
        asked.check("a plain Zarr", ("crs", "dims", "array", "time"))
        name = only(found, asked, _arrays(found, asked), WHAT)
        check_numbers(found.path, name, found.array(name))
        dim, layout = size_of(found, name, "b"), layout_in(found, name, asked, "affine")
    else:
        raise FormatError(f"{found.path} is neither a raster nor a Zarr. Give --as tessera.")
    return entered("plain", asked.card(kept(dim, asked), name=_called(found.path)), layout)


def _arrays(store: Store, asked: Asked) -> list[str]:
    """Return the arrays that may be fields: those with bands, or if there are none those without."""
    flat = candidates(store, asked, lambda name: is_flat(store, name), ("embeddings", "embedding"))
    return [name for name in flat if "b" in store.axes(name)] or flat


def _called(path: Path | str) -> str:
    """Return the name of a file without suffix."""
    place = place_of(path)
    return PurePath((place.absolute() if isinstance(place, Path) else place).name).stem


def _is_float(dtype: str) -> bool:
    return np.dtype(dtype).kind == "f"
