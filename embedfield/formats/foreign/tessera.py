"""TESSERA: yearly embeddings of 10 m pixels, 128 numbers with a scale a pixel, as tiles of NumPy's or a Zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.foreign.choice import candidates, entered, is_flat, kept, layout_in, only
from embedfield.formats.foreign.store import Store, beside, dimensions
from embedfield.formats.foreign.tile import TileFiles

if TYPE_CHECKING:
    from embedfield.formats.foreign.asked import Asked
    from embedfield.formats.foreign.raster import RasterFacts

WORDS = "int8 with a scale a pixel, as TESSERA has them"
CARD: dict[str, Any] = {
    "name": "tessera",
    "title": "TESSERA, satellite embeddings of a year",
    "homepage": "https://github.com/ucam-eo/geotessera",
    "paper": "Feng et al. (2025), TESSERA: Temporal Embeddings of Surface Spectra for Earth Representation and "
    "Analysis",
    "doi": "10.48550/arXiv.2506.20380",
    "note": "Computed from a year of satellite images, not from coordinates.",
}
# The array of scales beside the codes.
SCALES = "scales"


def fits(found: RasterFacts | Store | TileFiles, asked: Asked) -> bool:
    """Return whether files are surely of this kind."""
    return isinstance(found, TileFiles) or (isinstance(found, Store) and bool(_arrays(found, asked)))


def layout_of(found: RasterFacts | Store | TileFiles, asked: Asked) -> dict[str, Any]:
    """Return the layout of files that are said to be of this kind.

    Raises:
        FormatError: If they cannot be.
    """
    if isinstance(found, TileFiles):
        asked.check("a TESSERA tile", ("landmask", "dims"))
        dim = found.dim
        layout = found.layout(asked.landmask)
    elif isinstance(found, Store):
        asked.check("a TESSERA Zarr", ("crs", "dims", "array", "time"))
        name = only(found, asked, _arrays(found, asked), "arrays of int8 with scales beside them")
        axes = _axes(found, name)
        dim = found.array(name).shape[axes.index("b")] if "b" in axes else 1
        layout = layout_in(found, name, asked, "pixel-scale", scales=SCALES) | {"axes": axes}
    else:
        raise FormatError(f"{found.path} is a raster, and TESSERA's are .npy tiles or a Zarr. Give --as plain.")
    return entered("tessera", asked.card(kept(dim, asked), **CARD), layout)


def _arrays(store: Store, asked: Asked) -> list[str]:
    """Return the arrays of int8 that have scales beside them."""

    def scaled(name: str) -> bool:
        codes, scales = store.maybe(name), store.maybe(f"{beside(name)}{SCALES}")
        return codes is not None and scales is not None and codes.dtype.name == "int8" and is_flat(store, name)

    return candidates(store, asked, scaled, ("embeddings",))


def _axes(store: Store, name: str) -> str:
    """Return what the dimensions of codes are: older stores have the bands last, and may not name them."""
    codes, scales = store.array(name), store.array(f"{beside(name)}{SCALES}")
    if codes.ndim == 3 and dimensions(codes) is None and scales.shape == codes.shape[:2]:
        return "yxb"
    return store.axes(name)
