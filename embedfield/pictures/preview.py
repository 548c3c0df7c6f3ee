"""Preview: a field as a picture in its colours, PNG or GeoTIFF."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from embedfield.errors import FormatError
from embedfield.formats.address import Address
from embedfield.formats.stored import StoredField
from embedfield.integrity import placed
from embedfield.pictures.colours import COLOURS, Colours
from embedfield.pictures.look import Look

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field

# The picture's longer side has at least so many pixels, and less than twice as many, where the field has as many.
SIZE = 540
# The same of the coarser picture at which colours are fitted, and of a GeoTIFF.
FITTED = 128
RGB_SIZE = 1024
# Of the PNG: a stronger one takes several times as long, and bytes hardly shrink.
COMPRESSION = 4
# Side of the blocks of a GeoTIFF, as readers in browsers like them.
BLOCKSIZE = 256
# Bytes that GDAL may keep of blocks, which otherwise are a twentieth of all memory.
CACHE = 64 * 2**20


def write_preview(field: Field, path: Path, colours: Colours | None = None) -> None:
    """Write a PNG of a field in its model's colours.

    A place without a value is transparent. A large field is shown by a coarser level of it, or by pixels picked at
    even steps where it has none; a small one with its pixels enlarged.

    Args:
        field: What to show.
        path: ``….png``.
        colours: Of its model; None for those that are stored beside it or beside another field of its model, else for
            those that show this field best.

    Raises:
        FormatError: If the colours are those of other vectors, or stored ones are damaged.
    """
    shown = Look(field, SIZE)
    colours = colours or _stored(field)
    if colours:
        check_colours(colours, field)
        components = _components(shown, colours)
    else:
        colours, components = _fitted(field, shown)
    _save(colours.painted(components), path)


def write_both(field: Field, preview: Path, rgb: Path, colours: Colours) -> None:
    """Write the preview of a field and the same as a GeoTIFF, reading the field once.

    Args:
        field: What to show.
        preview: ``….png``, as `write_preview` writes it.
        rgb: ``….tif``, as `write_rgb` writes one of the preview's size.
        colours: Of its model.

    Raises:
        FormatError: If the colours are those of other vectors.
    """
    write_rgb(field, rgb, colours, size=SIZE)
    with rasterio.open(rgb) as written:
        _save(np.moveaxis(written.read(), 0, -1), preview)


def _save(picture: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a picture (height, width, 4) as PNG; a small one with its pixels enlarged."""
    enlarge = max(1, 2 * SIZE // max(picture.shape[:2]))
    image = Image.fromarray(picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1))
    placed(path, lambda part: image.save(part, format="PNG", compress_level=COMPRESSION))


def write_rgb(
    field: Field,
    path: Path,
    colours: Colours | None = None,
    *,
    size: int = RGB_SIZE,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a Cloud-Optimized GeoTIFF of a field in its model's colours, which any program shows as a picture.

    Its bands are red, green, blue and alpha, uint8, on the field's grid or a
    coarser one; it has overviews. Memory is bounded, and the same field and
    colours give the same bytes.

    Args:
        field: What to show.
        path: ``….tif``; nothing stands there before it is whole.
        colours: As for `write_preview`.
        size: Its longer side has at least so many pixels, and less than twice
            as many, where the field has as many.
        full: All pixels of the field, whatever the size.
        progress: Told (pixels done, pixels in all).

    Raises:
        FormatError: As for `write_preview`.
    """
    colours = colours or colours_of(field)
    check_colours(colours, field)
    shown = Look(field, None if full else size)
    plain = path.with_name(f".{path.name}.plain.part")
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_PAM_ENABLED=False):
            _paint(shown, colours, plain, progress or (lambda *_: None))
            placed(path, lambda part: _copy(plain, part))
    finally:
        plain.unlink(missing_ok=True)


def colours_of(field: Field, *, own: bool = False, folder: Path | None = None) -> Colours:
    """Return the colours that a field is shown in: stored ones of its model, else those that show the field best.

    Args:
        field: What to show.
        own: Fit them to this field, whatever is stored.
        folder: As for `stored_colours`.

    Raises:
        FormatError: If those stored beside it are damaged.
    """
    stored = None if own else _stored(field, folder)
    return stored or _fitted(field, Look(field, SIZE))[0]


def stored_colours(field: StoredField, folder: Path | None = None) -> Colours | None:
    """Return the colours of a field's model that are stored beside it, or beside another field of the same model.

    Those of another field count where it stands in a folder beside the
    field's, as in a catalogue, and model, length of vectors and weights are the same.

    Args:
        field: A stored field.
        folder: Where to look, in place of the folder that its raster is in: that of its item, where the raster was
            made by others and stands elsewhere.

    Raises:
        FormatError: If those beside the field itself are damaged.
    """
    if isinstance(field.path, str) and folder is None:
        return _at_address(field)
    folder = folder or field.disk_path.absolute().parent
    own = folder / COLOURS
    if own.exists():
        return _fit_for(Colours.read(own), field)
    for path in sorted(folder.parent.glob(f"*/{COLOURS}")):
        # Damage there is another field's.
        with suppress(FormatError):
            found = _fit_for(Colours.read(path), field)
            if found:
                return found
    return None


def check_colours(colours: Colours, field: Field) -> None:
    """Refuse colours of vectors of another length.

    Raises:
        FormatError: If it is so.
    """
    if colours.dim != field.card.dim:
        raise FormatError(
            f"Colours of {colours.model} are for vectors of {colours.dim} numbers, and those of {field.card.name} have "
            f"{field.card.dim}. Give colours of its own model, or none."
        )


def _stored(field: Field, folder: Path | None = None) -> Colours | None:
    """Return stored colours of a field's model; None where the field itself is not stored."""
    return stored_colours(field, folder) if isinstance(field, StoredField) else None


def _at_address(field: StoredField) -> Colours | None:
    """Return the colours beside a field on a network; None where there are none."""
    place = Address.of(str(field.path)).beside(COLOURS)
    try:
        data = place.read_bytes()
    except FormatError:
        # A field need not have them, and many a server says of what is not there that it may not be read.
        return None
    return _fit_for(Colours.from_json(data, str(place)), field)


def _fit_for(colours: Colours, field: Field) -> Colours | None:
    """Return colours if they are those of a field's model, with its weights; else None."""
    own = (field.card.name, field.card.dim, field.provenance.get("weights_sha256"))
    return colours if (colours.model, colours.dim, colours.weights_sha256) == own else None


def _fitted(field: Field, shown: Look) -> tuple[Colours, npt.NDArray[np.float32]]:
    """Return the colours that show a field best, and the components (k, height, width) of what is shown."""
    colours = Colours.fit(
        field.restored(Look(field, FITTED).sample(shown)),
        model=field.card.name,
        weights_sha256=field.provenance.get("weights_sha256"),
        fitted_on=f"the field {field.name} alone",
    )
    # Coarser pixels differ less: those that are shown say how far the colours stretch.
    components = _components(shown, colours)
    return colours.stretched(shown.by_area(components)), components


def _components(shown: Look, colours: Colours) -> npt.NDArray[np.float32]:
    """Return the components (k, height, width) of what is shown."""
    reduction = shown.field.reduction
    components = np.empty((len(colours.axes), *shown.shape), dtype=np.float32)
    for window, values in shown.tiles():
        components[:, window.rows, window.cols] = colours.components(values, reduction)
    return components


def _paint(shown: Look, colours: Colours, path: Path, progress: Callable[[int, int], None]) -> None:
    """Write a plain GeoTIFF of what is shown, part by part."""
    height, width = shown.shape
    grid, reduction, done = shown.field.grid, shown.field.reduction, 0
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width, "height": height, "count": 4, "dtype": "uint8", "crs": grid.crs,
        "transform": grid.transform @ Affine.scale(shown.factor), "photometric": "RGB", "alpha": "YES",
        "tiled": True, "blockxsize": BLOCKSIZE, "blockysize": BLOCKSIZE, "compress": "ZSTD", "zstd_level": 1,
        "bigtiff": "IF_SAFER",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        target.update_tags(**_tags(shown.field, colours))
        for band, name in enumerate(("red", "green", "blue", "alpha"), 1):
            target.set_band_description(band, name)
        for window, values in shown.tiles(BLOCKSIZE):
            ranges = (window.rows.start, window.rows.stop), (window.cols.start, window.cols.stop)
            target.write(np.moveaxis(colours.of(values, reduction), -1, 0), window=ranges)
            done += window.width * window.height
            progress(done, width * height)


def _tags(field: Field, colours: Colours) -> dict[str, str]:
    """Return what a GeoTIFF says of itself."""
    said = (
        f"{field.card.title} ({field.card.name}), three components as red, green, blue; fitted on {colours.fitted_on}"
    )
    return {"TIFFTAG_IMAGEDESCRIPTION": said, "TIFFTAG_COPYRIGHT": f"licence: {field.card.licence_in_words}"}


def _copy(plain: Path, path: Path) -> None:
    """Write a GeoTIFF as a Cloud-Optimized one with overviews, means that leave out what is transparent."""
    rasterio.shutil.copy(
        plain, path, driver="COG", compress="DEFLATE", predictor="YES", blocksize=BLOCKSIZE, bigtiff="IF_SAFER",
        resampling="AVERAGE", overviews="IGNORE_EXISTING",
    )  # fmt: skip
