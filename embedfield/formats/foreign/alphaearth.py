"""AlphaEarth: Google's yearly embeddings of 10 m pixels, 64 numbers of length 1, as COGs or a mosaic in a Zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.foreign.choice import candidates, entered, is_flat, kept, layout_in, only, size_of
from embedfield.formats.foreign.raster import RasterFacts
from embedfield.formats.foreign.store import Store

if TYPE_CHECKING:
    from embedfield.formats.foreign.asked import Asked
    from embedfield.formats.foreign.tile import TileFiles

WORDS = "int8 that are signed squares, as AlphaEarth has them"
DIM = 64
NAMES = [f"A{band:02d}" for band in range(DIM)]
# What writers of Zarr call the rule.
METHODS = {"signed_square", "signed_power"}
CARD: dict[str, Any] = {
    "name": "alphaearth",
    "title": "AlphaEarth Foundations, satellite embeddings of a year",
    "homepage": "https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL",
    "code_licence": "CC-BY-4.0",
    "unit_norm": True,
    "paper": "Brown et al. (2025), AlphaEarth Foundations: An embedding field model for accurate and efficient global "
    "mapping from sparse label data",
    "doi": "10.48550/arXiv.2507.22291",
    "note": "Computed from a year of satellite images, not from coordinates.",
}


def fits(found: RasterFacts | Store | TileFiles, asked: Asked) -> bool:
    """Return whether files are surely of this kind."""
    if isinstance(found, RasterFacts):
        return found.dtype == "int8" and found.names == NAMES and not found.packed
    return isinstance(found, Store) and bool(_arrays(found, asked))


def layout_of(found: RasterFacts | Store | TileFiles, asked: Asked) -> dict[str, Any]:
    """Return the layout of files that are said to be of this kind.

    Raises:
        FormatError: If they cannot be.
    """
    if isinstance(found, RasterFacts):
        asked.check("an AlphaEarth raster", ("crs", "dims"))
        dim, dtype = len(found.names), found.dtype
        layout: dict[str, Any] = {"store": "raster", "rule": "signed-square"}
        layout |= {"crs": asked.crs} if asked.crs is not None else {}
    elif isinstance(found, Store):
        asked.check("an AlphaEarth Zarr", ("crs", "dims", "array", "time"))
        fitting = _arrays(found, asked) or candidates(found, asked, lambda name: is_flat(found, name), ("embeddings",))
        name = only(found, asked, fitting, "arrays with rows and columns")
        dim, dtype = size_of(found, name, "b"), found.array(name).dtype.name
        layout = layout_in(found, name, asked, "signed-square")
    else:
        raise FormatError(f"{found.path} is no raster and no Zarr, as AlphaEarth's are. Give --as tessera.")
    if dtype != "int8":
        raise FormatError(f"{found.path} holds {dtype}, and AlphaEarth's are int8. Give --as plain.")
    if dim != DIM and asked.name is None:
        raise FormatError(
            f"{found.path} has {dim} bands, and AlphaEarth's have {DIM}. If another model's are packed so, name it "
            "with --name."
        )
    usual = CARD if dim == DIM else {"name": "field"}
    return entered("alphaearth", asked.card(kept(dim, asked), **usual), layout)


def _arrays(store: Store, asked: Asked) -> list[str]:
    """Return the arrays that a store says are packed so."""

    def says(name: str) -> bool:
        stated = store.attributes(name).get("geoemb:quantization")
        method = stated.get("method") if isinstance(stated, dict) else None
        return method in METHODS and store.array(name).dtype.name == "int8" and is_flat(store, name)

    return candidates(store, asked, says, ("embeddings",))
