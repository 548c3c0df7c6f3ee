"""``embedfield similar``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from embedfield.commands.console import news, out, progress_of
from embedfield.commands.options import Device, Offline, OwnDatabase, OwnWeights, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedfield.evaluate import Evaluator
    from embedfield.formats.stored import StoredField


class SimilarCommand(TyperCommand):
    """A command whose ``--at`` takes two numbers as often as it is given, for which Typer has no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Make one word of each ``--at LON LAT``."""
        words = iter(args)
        joined = [word if word != "--at" else f"--at={_two(words)}" for word in words]
        return super().parse_args(ctx, joined)


def _two(words: Iterator[str]) -> str:
    """Return the next word if it is ``LON,LAT``, else the next two."""
    first = next(words, "")
    joined = first if "," in first else f"{first} {next(words, '')}"
    _pair(joined)  # now: a word too many taken makes what follows hard to understand
    return joined


def _pair(words: str) -> tuple[float, float]:
    """Return the two numbers of an ``--at``."""
    try:
        lon, lat = map(float, words.replace(",", " ").split())
    except ValueError as error:
        raise typer.BadParameter(
            f"{words.strip()!r} are not two numbers. Give longitude and latitude: --at 8.5 47.4"
        ) from error
    return lon, lat


def similar(
    path: Stored,
    *,
    at: Annotated[list[str] | None, typer.Option(metavar="LON LAT", help="A place, degrees; may be repeated.")] = None,
    places: Annotated[
        Path | None, typer.Option(help="A file of places, as 'embedfield sample' takes; of polygons the mean counts.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Map to write: .tif.")] = Path("similarity.tif"),
    picture: Annotated[
        Path | None, typer.Option(help="The same as a picture: .png.", show_default="one beside the map")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of the most similar places: .csv, .parquet, .gpkg, .tsv or .feather.",
            show_default="a CSV beside the map",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="How many places.")] = 100,
    min_km: Annotated[
        float | None,
        typer.Option(
            help="How near none of them may be to another, or to what was asked.",
            show_default="a hundredth of the field's width",
        ),
    ] = None,
    match: Annotated[str, typer.Option(help="Of several places: mean, or any for the nearest.")] = "mean",
    centre: Annotated[bool, typer.Option(help="Take the field's mean off first.")] = True,
    exact: Annotated[bool, typer.Option("--exact", help="Ask the model at the places, not the pixels.")] = False,
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    offline: Offline = False,
) -> None:
    """Say where a field looks like some places: a map, its picture, and a table of the places most like them."""
    if (at is None) == (places is None):
        raise typer.BadParameter("Give --at LON LAT, or --places FILE.")
    asked = [_pair(words) for words in at] if at else places
    from embedfield.formats import open_field
    from embedfield.similar import check_map, find_similar, spacing

    check_map(output, overwrite=overwrite)
    with progress_of("comparing") as progress, open_field(path) as field:
        least = spacing(field.grid) if min_km is None else min_km
        evaluator = _encoder(field, weights=weights, database=database, device=device, offline=offline, exact=exact)
        found = find_similar(
            field, asked, output, picture=picture, table=table, count=count, min_km=least, match=match,  # type: ignore[arg-type]
            centre=centre, evaluator=evaluator, overwrite=overwrite, progress=progress.count, step=progress.step,
        )  # fmt: skip
    count_found = len(found.places)
    news.print(f"{count_found:,} place{'s' * (count_found != 1)}, {least:g} km apart at least")
    for path_written in (found.path, found.picture, found.table):
        out.print(path_written)


def _encoder(field: StoredField, *, exact: bool, **asked: Any) -> Evaluator | None:
    """Return the encoder of a field if it is to be asked."""
    if not exact:
        if asked["weights"] or asked["database"]:
            raise typer.BadParameter("--weights and --database are the model's, which is asked with --exact.")
        return None
    from embedfield.evaluate import load

    return load(field.card, report=news.print, **asked)
