"""MIND: its authors' own raster of their encoder, a Zarr of levels with a scale and offset a dimension, and a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.formats.foreign.choice import candidates, entered, is_flat, kept, layout_in, only, size_of
from embedfield.formats.foreign.store import Store, beside
from embedfield.models import card

if TYPE_CHECKING:
    from embedfield.card import Card
    from embedfield.formats.foreign.asked import Asked
    from embedfield.formats.foreign.raster import RasterFacts
    from embedfield.formats.foreign.tile import TileFiles

WORDS = "codes with a scale and an offset a dimension and a mask, as MIND has them"
SCALE, OFFSET, MASK = "emb_scale", "emb_offset", "mask"
# Its full length; the card's is that of the prefix which its authors' code gives.
DIM = 3072


def fits(found: RasterFacts | Store | TileFiles, asked: Asked) -> bool:
    """Return whether files are surely of this kind."""
    return isinstance(found, Store) and bool(_arrays(found, asked))


def layout_of(found: RasterFacts | Store | TileFiles, asked: Asked) -> dict[str, Any]:
    """Return the layout of files that are said to be of this kind.

    Raises:
        FormatError: If they cannot be.
    """
    if not isinstance(found, Store):
        raise FormatError(f"{found.path} is no Zarr, and MIND's raster is one. Give --as plain.")
    asked.check("MIND's Zarr", ("crs", "dims", "array"))
    levels = _by_size(found, _arrays(found, asked))
    # Those that differ in size only are levels of one field.
    name = only(found, asked, [levels[0]] if _are_levels(levels) else levels, f"arrays with {SCALE} and {OFFSET}")
    more: dict[str, Any] = {"scale": SCALE, "offset": OFFSET}
    more |= {"mask": MASK} if found.maybe(f"{beside(name)}{MASK}") is not None else {}
    more |= {"levels": coarser} if (coarser := _coarser(found, name, levels)) else {}
    dim = size_of(found, name, "b")
    return entered("mind", _card(dim, kept(dim, asked), asked), layout_in(found, name, asked, "affine", **more))


def _card(dim: int, wanted: int, asked: Asked) -> Card:
    """Return the card of the model: the encoder's, if the vectors have its length."""
    if dim != DIM or asked.name is not None:
        return asked.card(wanted, name="mind", title="MIND")
    known = card("mind")
    weights = known.weights and replace(known.weights, licence=asked.licence or known.weights.licence)
    return replace(
        known,
        dim=wanted,
        options={**known.options, "dims": wanted},
        weights=weights,
        title=asked.title or known.title,
        homepage=asked.homepage or known.homepage,
    )


def _arrays(store: Store, asked: Asked) -> list[str]:
    """Return the arrays of a store that its scales and offsets are of."""
    scale, offset = store.maybe(SCALE), store.maybe(OFFSET)
    if scale is None or offset is None:
        return []

    def covered(name: str) -> bool:
        return is_flat(store, name) and "b" in store.axes(name) and size_of(store, name, "b") == scale.shape[0]

    return candidates(store, asked, covered, ("0/embedding", "embedding"))


def _by_size(store: Store, names: list[str]) -> list[str]:
    """Return arrays, those of most pixels first."""
    return sorted(names, key=lambda name: -size_of(store, name, "y") * size_of(store, name, "x"))


def _are_levels(names: list[str]) -> bool:
    """Return whether arrays are one and the same in groups of numbered levels."""
    inner = {name.rpartition("/")[2] for name in names}
    return len(inner) == 1 and all(name.rpartition("/")[0].isdecimal() for name in names)


def _coarser(store: Store, name: str, names: list[str]) -> dict[str, str]:
    """Return the paths of coarser levels by factor, halved again and again; odd ends may be left out."""
    found: dict[str, str] = {}
    whole = size_of(store, name, "y"), size_of(store, name, "x")
    factor, sizes = 2, {(size_of(store, other, "y"), size_of(store, other, "x")): other for other in names}
    shapes = [whole, whole]
    while max(shapes[0]) > 1:
        # What one level leaves out, or rounds up to, the next begins with.
        shapes = [_halved(shapes[0], up=False), _halved(shapes[1], up=True)]
        level = next((sizes[shape] for shape in shapes if shape in sizes), None)
        if level is None:
            break
        found[str(factor)] = level
        factor *= 2
    return found


def _halved(shape: tuple[int, int], *, up: bool) -> tuple[int, int]:
    height, width = ((size + up) // 2 for size in shape)
    return max(1, height), max(1, width)
