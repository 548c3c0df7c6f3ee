"""``embedfield preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedfield.commands.console import out, progress_of
from embedfield.commands.options import Stored


def preview(
    path: Stored,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=".png; .tif, the same as a GeoTIFF with coordinates; or .qml, a style for QGIS.",
            show_default="<field>.png in this folder",
        ),
    ] = None,
    coastlines: Annotated[bool, typer.Option("--coastlines", help="Draw coastlines: Natural Earth, 1:50 m.")] = False,
    graticule: Annotated[bool, typer.Option("--graticule", help="Draw meridians and parallels.")] = False,
    projection: Annotated[
        str | None,
        typer.Option(
            help="Of a map: equal-earth, plate-carree, or grid, the field's own.",
            show_default="equal-earth of half the world or more, else grid",
        ),
    ] = None,
    band: Annotated[
        str | None,
        typer.Option(
            help="Draw one band with a colour bar, by its name or its number, from 0.", show_default="colours"
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of a map, in pixels.", show_default="1600")] = None,
    colours: Annotated[
        Path | None,
        typer.Option(
            help="Colours, a JSON file: every field has one, and all of a model the same.",
            show_default="the field's, or another's of its model",
        ),
    ] = None,
    own_colours: Annotated[
        bool, typer.Option("--own-colours", help="Colours that show this field best; no other has them.")
    ] = False,
    save_colours: Annotated[
        Path | None, typer.Option(help="Write the colours too, for --colours of another field.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All pixels, in a .tif; else 1,024 to 2,047 a side.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture if it exists.")] = False,
) -> None:
    """Draw a field: three components of its vectors as red, green and blue.

    The colours are fitted once a model, so that fields of other regions, and
    neighbours, agree. With --coastlines, --graticule, --projection or --band
    it is a map with title and licence.
    """
    from embedfield.formats import open_field
    from embedfield.pictures.colours import Colours
    from embedfield.pictures.draw import draw_field

    chosen = None if colours is None else Colours.read(colours)
    with open_field(path) as field, progress_of("drawing") as progress:
        progress.step("reading the field")
        drawn = draw_field(
            field, output or Path(f"{field.name}.png"), colours=chosen, own_colours=own_colours, band=band,
            coastlines=coastlines, graticule=graticule,
            projection=projection,  # type: ignore[arg-type]  # it refuses what it does not know
            width=width, full=full, save_colours=save_colours, folder=_folder(path), overwrite=overwrite,
            progress=progress.count,
        )  # fmt: skip
    out.print(drawn)


def _folder(name: str) -> Path | None:
    """Return the folder that a field's item is in, if it was named by that item or folder and is on this disk."""
    from embedfield.formats import ITEM
    from embedfield.formats.address import Address, place_of

    place = place_of(name)
    if isinstance(place, Address):
        return None
    if place.suffix == ITEM:
        return place.absolute().parent
    return place.absolute() if place.is_dir() and place.suffix not in {".zarr", ".icechunk"} else None
