"""Formats: a suffix decides which pair of functions opens and writes a field."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from embedfield.errors import FormatError, OutputExistsError
from embedfield.formats.address import Address, place_of
from embedfield.formats.cog import CogField, write_cog
from embedfield.formats.foreign import open_foreign
from embedfield.formats.geozarr import Layout, ZarrField, write_zarr
from embedfield.formats.icechunk_store import IcechunkField
from embedfield.formats.item import Described, described
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Dtype, Packing
from embedfield.formats.repository import check_installed
from embedfield.formats.stored import REDUCTION
from embedfield.integrity import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.field import Field
    from embedfield.formats.repository import Commit
    from embedfield.formats.stored import StoredField

Format = Literal["cog", "zarr"]
# Where a Zarr is kept: as files, or in a repository of Icechunk's, with its history.
ZarrStore = Literal["files", "icechunk"]
# In a folder with several the first is the field: a VRT stands over tiles, and beside a Zarr for GDAL.
OPENERS: dict[str, type[CogField | ZarrField]] = {
    ".icechunk": IcechunkField,
    ".zarr": ZarrField,
    ".vrt": CogField,
    ".tif": CogField,
    ".tiff": CogField,
}
WRITERS = {".tif": write_cog, ".tiff": write_cog, ".zarr": write_zarr}
SUFFIXES = {"cog": ".tif", "zarr": ".zarr"}
# Of a STAC item.
ITEM = ".json"
# Beside a field: its colours, which are no field.
PICTURE = "rgb.tif"


def open_field(path: str | Path) -> StoredField:
    """Open a stored field, on this disk or on a network.

    A field at an address (``https://``, ``http://``, ``s3://``, ``gs://`` or ``az://``) is read in place: a point
    costs a request or two. What may not be read by everybody is read with the credentials that the environment has.
    Of an Icechunk repository the last commit is opened; the field's `earlier` opens another of its `history`.

    Args:
        path: A raster (``.tif``, ``.vrt``, ``.zarr``, ``.icechunk``), the STAC item (``.json``) of a field, or the
            folder of a field. At an address a folder's item has the folder's name, as `embedfield build` gives it. A
            field made by others is opened by its item, as `embedfield catalog add` writes it.

    Raises:
        FormatError: If there is nothing, it cannot be reached or read, or it is no field of embedfield.
    """
    place = place_of(path)
    raster, layout = _found_at(place) if isinstance(place, Address) else _found_on_disk(place)
    if layout is not None:
        return open_foreign(raster, layout)
    return OPENERS[raster.suffix](raster if isinstance(raster, Path) else str(raster))


def history(path: str | Path) -> list[Commit]:
    """Return the builds that the Icechunk repository of a field keeps, the last first.

    Args:
        path: As for `open_field`.

    Raises:
        FormatError: If the field cannot be opened, or is in no such repository.
    """
    with open_field(path) as field:
        if isinstance(field, IcechunkField):
            return field.history()
    raise FormatError(
        f"{path} keeps no history: it is no Icechunk repository. Build one with --format zarr --zarr-store icechunk."
    )


def _found_on_disk(path: Path) -> Described:
    """Return where a field is, by a path.

    Raises:
        FormatError: If there is none.
    """
    _check_there(path)
    if path.is_dir() and path.suffix not in OPENERS:
        item = path / f"{path.name}{ITEM}"
        # A field made by others stays where it is.
        return described(item) if item.is_file() and not _rasters(path) else Described(raster_in(path), None)
    if path.suffix != ITEM:
        return Described(_known(path), None)
    found = _known_one(described(path))
    if isinstance(found.raster, Path):
        _check_there(found.raster)
    return found


def _check_there(path: Path) -> None:
    """Refuse a path where there is nothing.

    Raises:
        FormatError: If it is so.
    """
    if not path.exists():
        raise FormatError(f"{path} does not exist. Give a .tif, .vrt or .zarr, or the folder of a field.")


def _found_at(address: Address) -> Described:
    """Return where a field is, by an address; whether it is there shows when it is opened.

    Raises:
        FormatError: If that cannot be found out.
    """
    if address.suffix in OPENERS:
        return Described(address, None)
    return _known_one(described(address if address.suffix == ITEM else address.inside(f"{address.name}{ITEM}")))


def _known_one(found: Described) -> Described:
    """Return what an item says, once its raster is of a format that is known here, or it tells how to read it.

    Raises:
        FormatError: If it is of another.
    """
    return found if found.layout is not None else Described(_known(found.raster), None)


def _known(raster: Path | Address) -> Path | Address:
    """Return a raster of a format that is known here.

    Raises:
        FormatError: If it is of another.
    """
    if raster.suffix in OPENERS:
        return raster
    raise FormatError(
        f"{raster} is of no format known here. Give one of: {', '.join(OPENERS)}, or the folder of a field."
    )


def raster_in(folder: Path) -> Path:
    """Return the raster of a field's folder.

    Raises:
        FormatError: If there is none.
    """
    found = _rasters(folder)
    if found:
        return found[0]
    raise FormatError(f"{folder} holds no field. A field's folder has a .tif, .vrt, .zarr or .icechunk in it.")


def _rasters(folder: Path) -> list[Path]:
    """Return the rasters in a folder, the field's own first."""
    return [found for suffix in OPENERS for found in sorted(folder.glob(f"*{suffix}")) if found.name != PICTURE]


def write_field(
    field: Field,
    path: str | Path,
    *,
    dtype: Dtype = "uint8",
    layout: Layout = "sharded",
    progress: Callable[[int], None] | None = None,
) -> StoredField:
    """Write a field to disk and open what was written.

    Memory is bounded by a tile or a shard. Nothing stands under `path` until
    it is whole, and nothing remains of a write that fails.

    Args:
        field: What to write; computed or stored.
        path: ``….tif`` for a COG, ``….zarr`` for Zarr. A COG beyond the memory
            budget becomes a set of tiles, opened by the ``….vrt`` beside it.
        dtype: ``uint8`` or ``int16``, one scale and offset a band; ``float16``
            or ``float32``.
        layout: Of Zarr: ``sharded``, or ``flat`` for readers that do not know
            shards, GDAL before 3.13 among them.
        progress: Told the number of pixels done, piece by piece.

    Raises:
        FormatError: If the suffix is of no format that can be written, or
            there is no such layout.
        OutputExistsError: If something stands there, or the way back of another
            reduced field beside it.
        PackingError: If the dtype cannot hold the field.
    """
    path = Path(path)
    check_layout(path.suffix, layout)
    _check_free(path, field)
    packing = Packing.measure(field, dtype)
    with _workplace(path) as folder:
        work = Work(field, packing, Journal(folder / "journal"), progress or (lambda _: None))
        written = write_raster(work, folder / path.name, layout)
        keep_reduction(field, folder)
        things = [thing for thing in folder.iterdir() if thing != work.journal.folder]
        # Pixels before the VRT that names them.
        for thing in sorted(things, key=lambda thing: (thing.suffix == ".vrt", thing.name)):
            thing.rename(path.parent / thing.name)
    return open_field(path.parent / written.name)


def _check_free(path: Path, field: Field) -> None:
    """Refuse to write where something stands.

    Raises:
        OutputExistsError: If it does.
    """
    tiled = (path.with_suffix(".vrt"), path.with_suffix(".tiles")) if WRITERS[path.suffix] is write_cog else ()
    for name in (path, *tiled, path.with_name(f"{path.name}.vrt")):
        if name.exists():
            raise OutputExistsError(f"{name} exists. Remove it, or write elsewhere.")
    way_back = path.with_name(REDUCTION)
    if field.reduction and way_back.exists():
        raise OutputExistsError(
            f"{way_back} exists: the components of another field there mean nothing without it. Write into another "
            "folder."
        )


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """Yield a folder beside a path to work in, without what a process that was killed left there."""
    folder = path.with_name(f".{path.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_raster(work: Work, path: Path, layout: Layout = "sharded") -> Path:
    """Write a raster, or what is missing of it, into a folder where nobody looks for fields.

    Args:
        work: What to write, and how; what its journal has is kept.
        path: As for `write_field`.
        layout: As for `write_field`.

    Returns:
        The path to open.
    """
    return write_zarr(work, path, layout) if WRITERS[path.suffix] is write_zarr else write_cog(work, path)


def check_layout(suffix: str, layout: str) -> None:
    """Refuse a format that cannot be written, or a layout that it does not have.

    Raises:
        FormatError: If it is so.
    """
    if suffix not in WRITERS:
        raise FormatError(f"'{suffix}' is the suffix of no format that can be written. Give {' or '.join(WRITERS)}.")
    if layout not in get_args(Layout):
        raise FormatError(f"layout={layout!r} is not known. Choose from: {', '.join(get_args(Layout))}.")
    if layout != "sharded" and WRITERS[suffix] is not write_zarr:
        raise FormatError(f"layout={layout!r} is one of Zarr, and {suffix} is not. Leave it out.")


def check_store(store: str, format: str, layout: str) -> None:  # noqa: A002
    """Refuse a store that there is not, or not for a format or layout, or that is not installed.

    Raises:
        FormatError: If it is so.
    """
    if store not in get_args(ZarrStore):
        raise FormatError(f"zarr_store={store!r} is not known. Choose from: {', '.join(get_args(ZarrStore))}.")
    if store == "icechunk":
        if (format, layout) != ("zarr", "sharded"):
            raise FormatError("zarr_store='icechunk' is one of Zarr with shards. Give --format zarr, and no layout.")
        check_installed()


def keep_reduction(field: Field, folder: Path) -> None:
    """Put the way back from components to vectors beside a field that holds components."""
    if field.reduction:
        data = field.reduction.to_bytes()
        placed(folder / REDUCTION, lambda part: part.write_bytes(data))
