"""``embedfield sample``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfield.commands.console import news, out, progress_of
from embedfield.commands.options import (
    CardFile,
    Dask,
    Device,
    Dims,
    Inputs,
    Month,
    Offline,
    OwnDatabase,
    OwnWeights,
    Precision,
    Year,
    asked_inputs,
    chosen_card,
    computed,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedfield.field import Field


def sample(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[FIELD]... PLACES",
            help="Stored fields, here or at an address; then a file of places: any vector file, or CSV, Parquet or "
            "Feather with columns of coordinates.",
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Table to write: .parquet, .csv, .tsv, .gpkg or .feather.")
    ] = Path("embeddings.parquet"),
    method: Annotated[
        str | None,
        typer.Option(help="Of points: nearest or bilinear of a FIELD; a model is exact.", show_default="nearest"),
    ] = None,
    stat: Annotated[
        list[str] | None,
        typer.Option(
            help="Of polygons and lines: mean, std, min, max, median, count or coverage; may be repeated.",
            show_default="mean",
        ),
    ] = None,
    buffer: Annotated[
        float | None, typer.Option(help="Take what lies within so many metres of each place.", metavar="METRES")
    ] = None,
    columns: Annotated[str, typer.Option(help="wide, a column a band; or list, one column of lists.")] = "wide",
    lon: Annotated[str | None, typer.Option(help="Column of longitudes.", show_default="found by its name")] = None,
    lat: Annotated[str | None, typer.Option(help="Column of latitudes.", show_default="found by its name")] = None,
    crs: Annotated[str | None, typer.Option(help="Reference system of places that do not say it.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a file that has several.")] = None,
    where: Annotated[
        str | None, typer.Option(help='Which features of a vector file, in SQL: "population > 100000".')
    ] = None,
    model: Annotated[str | None, typer.Option(help="Exact values of a model, without a raster.")] = None,
    card: CardFile = None,
    res: Annotated[
        float | None, typer.Option(help="With a model: pixels of so many degrees, computed under polygons and lines.")
    ] = None,
    dims: Dims = None,
    month: Month = None,
    year: Year = None,
    input: Inputs = None,  # noqa: A002
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    precision: Precision = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
    offline: Offline = False,
    dask: Dask = None,
) -> None:
    """Sample fields at places: their table, with a column for each band.

    A point gets the value there, a polygon or a line the mean of the pixels
    under it, or other statistics. All rows stay, in their order.
    """
    *names, places = sources
    exact = model is not None or card is not None
    chosen = chosen_card(model, card) if exact else None
    asked: dict[str, Any] = asked_inputs(chosen, month, year, input)
    asked |= {"dims": dims, "weights": weights, "database": database, "precision": precision}
    _check_asked(names, exact=exact, method=method, asked=(*asked.values(), res))
    from embedfield.cluster import check_place
    from embedfield.stream import sample_file
    from embedfield.tables import check_output, open_places

    check_output(output, overwrite=overwrite)
    if dask is not None:
        check_place(dask)
    with progress_of("sampling", "places") as progress:
        progress.step("reading the places")
        file = open_places(places, lon=lon, lat=lat, crs=crs, layer=layer, where=where)
        fields: list[Field] = [opened(name) for name in names]
        again = None
        if chosen:
            load = partial(computed, chosen, res, device=device, offline=offline, **_rooted(asked))
            again = partial(_again, tuple(fields), load)
            fields.append(load())
        sampled = sample_file(
            fields, file, output, method=method, stats=stat or None, columns=columns,  # type: ignore[arg-type]
            buffer=buffer, overwrite=overwrite, progress=progress.count, step=progress.step,
            client=dask, again=again, gpus=_gpus() if chosen and dask and device != "cpu" else 0, report=news.print,
        )  # fmt: skip
    found = ", ".join(f"{count:,} {status}" for status, count in sampled.statuses.items()) or "none"
    news.print(f"{sampled.rows:,} places: {found}")
    out.print(sampled.path)


def _gpus() -> int:
    from embedfield.evaluate import gpus

    return gpus()


def _check_asked(names: list[str], *, exact: bool, method: str | None, asked: tuple[Any, ...]) -> None:
    """Refuse a sampling of nothing, or one that asks a field what is asked of a model."""
    if not exact and not names:
        raise typer.BadParameter("Give FIELD and PLACES, or --model NAME (or --card FILE) and PLACES.")
    if not exact and any(value is not None for value in asked):
        raise typer.BadParameter("A stored FIELD has been asked already: leave out what is asked of a model.")
    if exact and not names and method not in (None, "exact"):
        raise typer.BadParameter(f"--method {method} reads the pixels of a FIELD. With --model every place is exact.")


def _rooted(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked of a model with paths from the root on: a worker may be in another folder."""
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in asked.items()}


def _again(stored: tuple[Field, ...], load: Callable[[], Field]) -> list[Field]:
    """Return the fields in a worker, which loads the model for itself."""
    return [*stored, load()]
