"""Similar: where a field looks like some places, as a map of one band and a table of the places most like them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from embedfield.errors import FormatError, OutputExistsError
from embedfield.formats import open_field, write_raster
from embedfield.formats.journal import Journal, Work
from embedfield.formats.packing import Packing
from embedfield.integrity import ASIDE
from embedfield.pictures.draw import check_file
from embedfield.pictures.picture import write_picture
from embedfield.projection import projection
from embedfield.similar.apart import KM, Anchors, apart, check_spacing
from embedfield.similar.query import Query
from embedfield.similar.similarity import SimilarityField
from embedfield.tables import check_output, write_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.evaluate import Evaluator
    from embedfield.field import Field
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Grid
    from embedfield.similar.query import Match, Places

    type Told = Callable[[int, int], None]

# How many times the least distance between places fits the side of a square as large as the field, by default.
ACROSS = 100
# The part of a pixel, and of that distance, between points that stand for an outline.
FINE_PIXEL, FINE_DISTANCE = 4, 16
HEADER = "embedfield"


class Found(NamedTuple):
    """What was written."""

    path: Path
    """The map, a field of one band."""
    picture: Path
    """The map as a PNG."""
    table: Path
    """The places most similar."""
    places: pd.DataFrame
    """The same as `similar_places` returns it."""


def find_similar(
    field: Field,
    places: Places,
    output: str | Path,
    *,
    picture: str | Path | None = None,
    table: str | Path | None = None,
    count: int = 100,
    min_km: float | None = None,
    match: Match = "mean",
    centre: bool = True,
    evaluator: Evaluator | None = None,
    overwrite: bool = False,
    progress: Told | None = None,
    step: Callable[[str], None] | None = None,
) -> Found:
    """Write how similar a field is to some places: a map, a picture of it, and a table of the places most similar.

    Args:
        field: As for `similar_places`, and so are places, count, min_km, match, centre and evaluator.
        places: What to be similar to.
        output: The map, ``….tif``: one band of float32, of the field's own grid.
        picture: The same with a colour bar, ``….png``; None for one beside the map.
        table: The table, its format by its suffix; None for a CSV beside the map.
        count: How many places are wanted.
        min_km: How near none of them may be.
        match: Which of several places counts.
        centre: Whether to take the field's mean off.
        evaluator: To ask in place of the pixels.
        overwrite: Whether to replace what stands there.
        progress: Told (pixels done, pixels in all) of each step.
        step: Told what is done next.

    Raises:
        PlacesError: As for `similar_places`.
        FormatError: If `output` is no ``.tif``, `picture` no ``.png``, or a folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
    """
    output = check_map(output, field, overwrite=overwrite)
    picture = _check_file(picture or output.with_suffix(".png"), ".png", field, overwrite=overwrite)
    table = check_output(table or output.with_suffix(".csv"), overwrite=overwrite)
    min_km = spacing(field.grid) if min_km is None else min_km
    check_spacing(count, min_km)
    told = step or (lambda _: None)
    told("looking up the places")
    query = Query.of(field, places, match=match, centre=centre, evaluator=evaluator)
    told("comparing")
    with write_similarity(field, query, output, overwrite=overwrite, progress=progress) as written:
        told("choosing places")
        chosen = most_similar(written, query, count=count, min_km=min_km, progress=progress)
        about = json.dumps({**written.about(), "count": count, "min_km": min_km}, ensure_ascii=False)
        write_table(chosen, table, overwrite=overwrite, metadata={HEADER: about})
        told("drawing")
        write_picture(written, picture, band=0, title=query.title, label="cosine", coastlines=True, graticule=True)
        return Found(written.disk_path, picture, table, chosen)


def similar_places(
    field: Field,
    places: Places,
    *,
    count: int = 100,
    min_km: float | None = None,
    match: Match = "mean",
    centre: bool = True,
    evaluator: Evaluator | None = None,
) -> pd.DataFrame:
    """Return the places of a field most similar to some places: those whose vectors point in the same direction.

    Many encoders' vectors have much in common wherever they are taken: GeoCLIP's have a mean cosine of 0.21. By that,
    farther than 1,000 km away Zurich is most like Norway and the Antarctic; once the mean is taken off, like England
    and Virginia. So that is the default.

    Args:
        field: Stored or computed; of components the model's vectors are restored.
        places: Degrees (lon, lat), (N, 2); or a table, GeoDataFrame or file of places, as `extract_points` takes them.
            Points are interpolated; if some are lines or polygons, the mean of the pixels under each is taken.
        count: How many are wanted. Fewer come back where there is no room for more.
        min_km: How near, in km along a great circle, none may be to another or to `places`, in which shapes count
            with all that lies in them. None for a hundredth of the side of a square as large as the field, two pixels
            at least; 0 for as near as pixels are.
        match: Of several places: ``mean`` for their mean direction, ``any`` for the nearest of them.
        centre: Take the field's mean, by area, off all vectors before their directions are compared.
        evaluator: The field's encoder, to ask it at `places` instead of the pixels; they may then lie off the field.

    Returns:
        A row a place, the centre of a pixel, the best first: ``lon`` and ``lat`` in degrees, ``similarity`` in
        [-1, 1], ``rank`` from 1, ``distance_km`` to the nearest of `places`, 0 in a shape.

    Raises:
        PlacesError: If the field has no value at one of the places, a vector has no direction, or count, min_km or
            match cannot be.
    """
    min_km = spacing(field.grid) if min_km is None else min_km
    check_spacing(count, min_km)
    query = Query.of(field, places, match=match, centre=centre, evaluator=evaluator)
    # Blocks near what is chosen are read again: of one band that costs little.
    with (
        tempfile.TemporaryDirectory() as folder,
        write_similarity(field, query, Path(folder) / "similarity.tif") as written,
    ):
        return most_similar(written, query, count=count, min_km=min_km)


def write_similarity(
    field: Field, query: Query, path: str | Path, *, overwrite: bool = False, progress: Told | None = None
) -> StoredField:
    """Write a field's similarity to a query as a COG of one band, and open it; whole, or not at all.

    Args:
        field: What is compared.
        query: With what.
        path: ``….tif``; beyond 512 MB a set of tiles, opened by the ``….vrt`` beside it.
        overwrite: Whether to replace what stands there.
        progress: Told (pixels done, pixels in all).

    Raises:
        FormatError: If the path is no ``.tif``, or its folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
        StorageError: If the disk is full or may not be written.
    """
    path = check_map(path, field, overwrite=overwrite)
    done, total = 0, field.grid.width * field.grid.height

    def told(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress:
            progress(done, total)

    # Cosines have a range of their own, for which nothing need be measured.
    packing = Packing.fit(np.array([-1.0]), np.array([1.0]), "float32")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        journal = Journal(Path(folder) / "journal")
        written = write_raster(Work(SimilarityField(field, query), packing, journal, told), Path(folder) / path.name)
        _put_in_place([thing for thing in Path(folder).iterdir() if thing != journal.folder], path)
    return open_field(path.parent / written.name)


def _put_in_place(things: list[Path], path: Path) -> None:
    """Move what a map consists of to where it belongs, and remove what is left there of an older one."""
    # Pixels before the VRT that names them. A file takes another's place at once: a map is never missing.
    for thing in sorted(things, key=lambda thing: thing.suffix == ".vrt"):
        place = path.parent / thing.name
        if place.is_dir():
            shutil.rmtree(place)
        thing.replace(place)
    names = {thing.name for thing in things}
    older = (path, path.with_suffix(".vrt"), path.with_suffix(".tiles"), path.with_name(f"{path.name}{ASIDE}"))
    for left in (old for old in older if old.exists() and old.name not in names):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def most_similar(
    similarity: Field, query: Query, *, count: int, min_km: float, progress: Told | None = None
) -> pd.DataFrame:
    """Return the places where a map is highest, as `similar_places` does.

    Args:
        similarity: The map, a field of one band.
        query: What it was made of.
        count: How many are wanted.
        min_km: How near none of them may be.
        progress: Told (pixels looked at, pixels in all).

    Raises:
        PlacesError: If count or min_km is no such number.
    """
    pixel_km = np.deg2rad(similarity.grid.res_degrees) * KM
    fine = max(pixel_km / FINE_PIXEL, min_km / FINE_DISTANCE)
    anchors = Anchors(query.located, fine)
    picks = apart(similarity, anchors, count, min_km, progress)
    found = pd.DataFrame(picks.lonlat, columns=["lon", "lat"])
    found["similarity"] = picks.heights
    found["rank"] = np.arange(1, len(found) + 1)
    found["distance_km"] = anchors.distance_km(picks.lonlat)
    return found


def spacing(grid: Grid) -> float:
    """Return how near, in km, places of a grid may be to one another by default, to two digits."""
    if grid.geographic:
        west, south, east, north = np.deg2rad(grid.bounds)
        side = KM * np.sqrt((east - west) * (np.sin(north) - np.sin(south)))
    else:
        side = np.sqrt(grid.width * grid.height) * grid.res * projection(grid.crs).metres / 1000
    pixel = np.deg2rad(grid.res_degrees) * KM
    return float(f"{max(side / ACROSS, 2 * pixel):.2g}")


def check_map(path: str | Path, field: Field | None = None, *, overwrite: bool = False) -> Path:
    """Return where a map may be written.

    Args:
        path: ``….tif``.
        field: What is compared: its own raster is not replaced.
        overwrite: Whether to replace what stands there.

    Raises:
        FormatError: If it is no ``.tif``, or the folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
    """
    path = _check_file(path, ".tif", field, overwrite=overwrite)
    check_file(path.with_suffix(".vrt"), field, overwrite=overwrite)
    tiles = path.with_suffix(".tiles")
    if tiles.exists() and not overwrite:
        raise OutputExistsError(f"{tiles} exists. Give --overwrite to replace it, or write elsewhere.")
    return path


def _check_file(path: str | Path, suffix: str, field: Field | None, *, overwrite: bool) -> Path:
    """Return where a file of a suffix may be written.

    Raises:
        FormatError: If it has another, or its folder is missing.
        OutputExistsError: If something stands there and may not be replaced.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise FormatError(f"{path} is no name of a {suffix} file. Give one that ends in {suffix}.")
    check_file(path, field, overwrite=overwrite)
    return path
