"""Draw: a field into a file of a picture; the suffix decides which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError, OutputExistsError, StorageError
from embedfield.formats.stored import StoredField
from embedfield.integrity import check_free
from embedfield.pictures.preview import colours_of, write_preview, write_rgb
from embedfield.pictures.style import write_style

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedfield.field import Field
    from embedfield.pictures.chart import Kind
    from embedfield.pictures.colours import Colours

STYLE, TIFF = ".qml", (".tif", ".tiff")
SUFFIXES = (".png", *TIFF, STYLE)


def draw_field(
    field: Field,
    path: str | Path,
    *,
    colours: Colours | None = None,
    own_colours: bool = False,
    band: int | str | None = None,
    coastlines: bool = False,
    graticule: bool = False,
    projection: Kind | None = None,
    width: int | None = None,
    full: bool = False,
    save_colours: str | Path | None = None,
    folder: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a field into a file.

    ``.png`` is the field's pixels in its model's colours, as its
    ``preview.png``; or a map with title and words, where something of a map
    is asked for. ``.tif`` is a Cloud-Optimized GeoTIFF of red, green, blue
    and alpha, and ``.qml`` a style of QGIS for the field's raster.

    Args:
        field: What to draw.
        path: Where to.
        colours: Of its model; None for those that are stored beside it or
            beside another field of its model, else for those that show it best.
        own_colours: Those that show it best, whatever is stored.
        band: Draw one band as a map with a colour bar, by its name or its
            number, counted from 0 as in names.
        coastlines: Draw coastlines on a map.
        graticule: Draw meridians and parallels on a map.
        projection: Of a map, as for `write_picture`.
        width: Pixels of a map's width.
        full: All pixels, in a ``.tif``.
        save_colours: A file, ``….json``, into which the colours are written too.
        folder: Where stored colours are looked for, as for `stored_colours`.
        overwrite: Replace what stands there.
        progress: Told (pixels done, pixels in all) of a ``.tif``.

    Returns:
        `path`.

    Raises:
        FormatError: If the suffix is of no picture, what is asked does not
            belong together, or the colours do not fit.
        GridError: If there is no such projection.
        OutputExistsError: If something stands there.
        StorageError: If the disk is full or may not be written.
    """
    path = Path(path)
    wishes = {"band": band, "projection": projection, "width": width}
    on_map: dict[str, Any] = {name: value for name, value in wishes.items() if value is not None}
    on_map |= {name: True for name, wanted in (("coastlines", coastlines), ("graticule", graticule)) if wanted}
    in_colours = band is None and path.suffix.lower() != STYLE
    _check_asked(path, on_map, full=full)
    _check_colours(path, in_colours=in_colours, own=own_colours, given=colours is not None, saved=bool(save_colours))
    if save_colours and Path(save_colours).suffix.lower() != ".json":
        raise FormatError(f"{save_colours} is no name of colours. Give one that ends in .json.")
    for output in (path, Path(save_colours or path)):
        check_file(output, field, overwrite=overwrite)
    if in_colours and not colours:
        colours = colours_of(field, own=own_colours, folder=None if folder is None else Path(folder))
    try:
        _write(field, path, colours, on_map, full=full, progress=progress)
        if colours and save_colours:
            colours.write(Path(save_colours))
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Make room there and make it writable, or write elsewhere."
        ) from error
    return path


def _write(
    field: Field,
    path: Path,
    colours: Colours | None,
    on_map: Mapping[str, Any],
    *,
    full: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the picture that a suffix stands for."""
    if on_map:
        # It loads what draws words and lines, which the other pictures do without.
        from embedfield.pictures.picture import write_picture

        write_picture(field, path, colours, **on_map)
    elif path.suffix.lower() == STYLE:
        write_style(field, path)
    elif path.suffix.lower() == ".png":
        write_preview(field, path, colours)
    else:
        write_rgb(field, path, colours, full=full, progress=progress)


def _check_asked(path: Path, on_map: Mapping[str, Any], *, full: bool) -> None:
    """Refuse what a kind of picture does not have.

    Raises:
        FormatError: If something is asked that it has not.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FormatError(f"{path} is no picture that can be drawn. Give one of: .png, .tif, .qml.")
    if on_map and suffix != ".png":
        raise FormatError(f"{path} is no map, and has no {next(iter(on_map))}. Leave that out, or write a .png.")
    if full and suffix not in TIFF:
        raise FormatError(f"{path} cannot have all pixels of a field: full is for a .tif. Leave it out.")


def _check_colours(path: Path, *, in_colours: bool, own: bool, given: bool, saved: bool) -> None:
    """Refuse colours that contradict each other, or where none are used.

    Raises:
        FormatError: If it is so.
    """
    if not in_colours and (own or given or saved):
        raise FormatError(
            f"{path} has colours of its own: one band is drawn from dark to bright, and a style names bands. Leave out "
            "those of the model."
        )
    if own and given:
        raise FormatError("Colours are given, and the field's own asked for. Leave out one of them.")


def check_file(path: Path, field: Field | None = None, *, overwrite: bool = False) -> None:
    """Refuse a place where no file can or may be written.

    Args:
        path: The file.
        field: What is read meanwhile: its own raster is not replaced.
        overwrite: Whether to replace what stands there.

    Raises:
        FormatError: If the folder is missing.
        OutputExistsError: If something stands there that may not be replaced.
    """
    check_free(path, FormatError, overwrite=overwrite)
    if isinstance(field, StoredField) and not isinstance(field.path, str) and _same(path, field.disk_path):
        raise OutputExistsError(f"{path} is the raster that is read, and would be lost. Write elsewhere.")


def _same(path: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file."""
    return path.exists() and other.exists() and path.samefile(other)
