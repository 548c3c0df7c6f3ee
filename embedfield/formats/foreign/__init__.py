"""Fields made by others: what they are, told by their files and their users, and how they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedfield.errors import FormatError
from embedfield.formats.address import Address, place_of
from embedfield.formats.foreign import alphaearth, mind, plain, tessera
from embedfield.formats.foreign.asked import Asked
from embedfield.formats.foreign.raster import ForeignRaster, RasterFacts, RasterLook
from embedfield.formats.foreign.store import Store
from embedfield.formats.foreign.tile import ForeignTile, TileFiles
from embedfield.formats.foreign.zarr_field import ForeignZarr
from embedfield.formats.stored import HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from embedfield.formats.foreign.field import ForeignField

Kind = Literal["alphaearth", "tessera", "mind", "plain"]
# The special before the plain: what is of one of those is not looked at as anything.
KINDS: dict[str, ModuleType] = {"alphaearth": alphaearth, "tessera": tessera, "mind": mind, "plain": plain}
STORES: dict[str, type[ForeignRaster | ForeignZarr | ForeignTile]] = {
    "raster": ForeignRaster,
    "zarr": ForeignZarr,
    "npy": ForeignTile,
}
# At an address, where it cannot be seen whether there is a folder: all else is a Zarr.
RASTERS = (".tif", ".tiff", ".vrt")
# Files by which a folder is known for a Zarr.
ZARR = ("zarr.json", ".zgroup", ".zarray")


class OwnFieldError(FormatError):
    """A field is none that others made: embedfield wrote it."""


def recognise(href: str | Path, kind: str | None = None, **options: Any) -> dict[str, Any]:
    """Return the layout of a field made by others: all that must be known to read it.

    Args:
        href: A raster that GDAL reads, a Zarr, or a TESSERA tile (``….npy``);
            a path or an address on a network.
        kind: ``alphaearth``, ``tessera``, ``mind`` or ``plain``; None where
            the files tell it.
        **options: What is said of the field beside, by the names of `Asked`:
            ``name``, ``title``, ``licence``, ``homepage``, ``crs``, ``array``,
            ``time``, ``dims``, ``landmask``.

    Returns:
        Plain data for JSON, as `open_foreign` takes it. What lies beside the
        field is named relative to it.

    Raises:
        FormatError: If there is nothing, it is no field, or the files and the
            options do not tell what it is: what was found, and what to say.
        CardError: If a model cannot have the name that was given.
        GridError: If no grid can be in the reference system.
    """
    if kind is not None and kind not in KINDS:
        raise FormatError(f"A field as {kind!r} is not known. Choose from: {', '.join(KINDS)}.")
    asked = Asked(**options)
    found = _look(place_of(href))
    if _is_ours(found):
        raise OwnFieldError(f"{href} is a field of embedfield itself, which tells how it is read. Leave out --as.")
    layout: dict[str, Any] = KINDS[kind or _kind_of(found, asked)].layout_of(found, asked)
    # What cannot be read is refused now, not when it is needed.
    open_foreign(href, layout).close()
    return layout


def open_foreign(href: str | Path | Address, layout: Mapping[str, Any]) -> ForeignField:
    """Open a field made by others.

    Args:
        href: Where it is: a path, or an address on a network.
        layout: What `recognise` returned.

    Raises:
        FormatError: If it cannot be reached or read, or is not as its layout says.
    """
    store = layout.get("store")
    if store not in STORES:
        raise FormatError(f"{href} has a layout with the store {store!r}; this embedfield reads {', '.join(STORES)}.")
    place = href if isinstance(href, Address) else place_of(href)
    if isinstance(place, Path) and not place.exists():
        raise FormatError(
            f"{place} does not exist. It was made by others and lay there when it was entered: put it back, or enter "
            "it where it is now, with 'embedfield catalog add'."
        )
    return STORES[store](str(href) if isinstance(href, Address) else href, layout)


def _look(place: Path | Address) -> RasterFacts | Store | TileFiles:
    """Return what files say of themselves.

    Raises:
        FormatError: If there are none, or they are of no known format.
    """
    if isinstance(place, Path) and not place.exists():
        raise FormatError(f"{place} does not exist. Give a raster, a Zarr or a .npy tile.")
    if place.suffix == ".npy":
        return TileFiles.of(place)
    if isinstance(place, Address):
        if place.suffix.lower() not in RASTERS:
            return Store.open(str(place), place)
    elif place.is_dir():
        if not any((place / name).exists() for name in ZARR):
            raise FormatError(f"{place} is a folder and no Zarr. Give a raster, a Zarr or a .npy tile.")
        return Store.open(place, place.absolute())
    with RasterLook(place if isinstance(place, Path) else str(place)) as look:
        return look.facts


def _is_ours(found: RasterFacts | Store | TileFiles) -> bool:
    """Return whether files are those of a field that embedfield wrote."""
    if isinstance(found, RasterFacts):
        return found.ours
    # As a text it is in what xarray wrote of such a field: an array of its values, laid out in xarray's way.
    return isinstance(found, Store) and not isinstance(found.root.attrs.get(HEADER, ""), str)


def _kind_of(found: RasterFacts | Store | TileFiles, asked: Asked) -> str:
    """Return the kind that files are surely of.

    Raises:
        FormatError: If they are of none.
    """
    for name, kind in KINDS.items():
        if kind.fits(found, asked):
            return name
    choices = "; ".join(f"--as {name} ({kind.WORDS})" for name, kind in KINDS.items())
    raise FormatError(f"{found.path} holds {_words(found, asked)}, and does not tell what they mean. Give {choices}.")


def _words(found: RasterFacts | Store | TileFiles, asked: Asked) -> str:
    """Return what files hold, in words."""
    if isinstance(found, RasterFacts):
        codes = sorted({code for code in found.nodata if code == code})  # noqa: PLR0124  NaN where none is stated
        nodata = f", nodata {', '.join(f'{code:g}' for code in codes)}" if codes else ""
        return f"{len(found.names)} bands of {found.dtype}{nodata}, without scale and offset"
    assert isinstance(found, Store)  # noqa: S101  for mypy: a tile is of its kind
    inside = {name: array for name, array in found.arrays().items() if asked.array in (None, name)}
    return ", ".join(f"{name or 'an array'} of {array.dtype} {array.shape}" for name, array in inside.items())
