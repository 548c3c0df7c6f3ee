"""The command line: parse, call the library once, print."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from embedfield.errors import EmbedfieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.card import Card

app = typer.Typer(
    name="embedfield",
    help="Location encoders as rasters, and as columns of tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
news = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


@app.command()
def build(
    *,
    model: Annotated[str, typer.Option(help="Name of a model; 'embedfield models' lists them.")],
    res: Annotated[float, typer.Option(help="Side of a pixel, degrees.")],
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            metavar="W S E N",
            help="Area, degrees; W greater than E crosses the antimeridian.",
            show_default="the globe",
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="cog or zarr.")] = "cog",  # noqa: A002
    dtype: Annotated[str, typer.Option(help="uint8 (packed, one scale and offset a band) or float32.")] = "uint8",
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint of your own.", show_default="the released one")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="float32 or float64.", show_default="the official one")] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the catalogue.")] = Path("catalog"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another field that stands there.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Evaluate a model on a grid: a raster, its preview and its STAC item."""
    from embedfield.build import build_field
    from embedfield.places import GLOBE

    with _progress(f"building {model}") as progress:
        field = build_field(
            model, res, bounds=bounds or GLOBE, format=format, dtype=dtype, weights=weights,  # type: ignore[arg-type]
            device=device, precision=precision,  # type: ignore[arg-type]
            out=out_folder, overwrite=overwrite, offline=offline, progress=progress, report=news.print,
        )  # fmt: skip
    out.print(field.path)


@app.command()
def sample(
    field: Annotated[str, typer.Argument(metavar="[FIELD]", help="A stored field. Left out with --model.")],
    places: Annotated[
        str | None, typer.Argument(metavar="PLACES", help="CSV, Parquet or vector file of points.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .parquet, .csv or .gpkg.")] = Path(
        "embeddings.parquet"
    ),
    method: Annotated[
        str | None, typer.Option(help="nearest or bilinear of a FIELD; a model is exact.", show_default="nearest")
    ] = None,
    lon: Annotated[str | None, typer.Option(help="Column of longitudes.", show_default="found by its name")] = None,
    lat: Annotated[str | None, typer.Option(help="Column of latitudes.", show_default="found by its name")] = None,
    model: Annotated[str | None, typer.Option(help="Exact values of a model, without a raster.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A checkpoint of your own, with --model.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Sample a field at points: a table with a column for each band."""
    from embedfield.sample import extract_points
    from embedfield.tables import check_output, read_places, write_table

    source, path = (None, field) if model and places is None else (field, places)
    if path is None or (model is None) == (source is None):
        raise typer.BadParameter("Give FIELD and PLACES, or --model NAME and PLACES.")
    if model is not None and method not in (None, "exact"):
        raise typer.BadParameter(f"--method {method} reads the pixels of a FIELD. With --model every place is exact.")
    check_output(output, overwrite=overwrite)
    table = read_places(path, lon, lat)
    opened = _source(source, model, weights, offline=offline)
    result = extract_points(opened, table, method)  # type: ignore[arg-type]
    written = write_table(result, output, overwrite=overwrite)
    counts = result["status"].value_counts()
    news.print(
        f"{len(result):,} places: {', '.join(f'{count:,} {status}' for status, count in counts.items()) or 'none'}"
    )
    out.print(written)


def _source(path: str | None, model: str | None, weights: Path | None, *, offline: bool) -> Any:
    """Return the stored field of a path, or the computed one of a model."""
    if path is not None:
        from embedfield.formats import open_field

        return open_field(path)
    from embedfield.evaluate import EncodedField, load
    from embedfield.grid import Grid

    return EncodedField(load(str(model), weights, offline=offline, report=news.print), Grid.from_bounds(1.0))


@app.command()
def models() -> None:
    """List the models."""
    from rich.table import Table

    from embedfield.models import cards

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "dim", "weights", "licence", "detail", "what it is"):
        table.add_column(heading, justify="right" if heading == "dim" else "left", no_wrap=heading == "name")
    for card in cards():
        table.add_row(*_row(card))
    out.print(table)


def _row(card: Card) -> tuple[str, ...]:
    """Return what the list of models says of one."""
    name = f"{card.name} ({', '.join(card.aliases)})" if card.aliases else card.name
    source = card.weights.source if card.weights else "none"
    return name, str(card.dim), source, card.licence, f"{card.detail:g}°" if card.detail else "", card.title


@app.command()
def info(path: Annotated[Path, typer.Argument(metavar="FIELD", help="A raster, or the folder of a field.")]) -> None:
    """Say what a stored field is."""
    from embedfield.formats import open_field

    with open_field(path) as field:
        for name, value in field.describe().items():
            out.print(f"{name:<12} {value}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; elsewhere say nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pixels"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=news, transient=True, disable=not news.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main() -> None:
    """Run a command; an error of embedfield's is one line and exit code 1."""
    # As batch systems end a job: what Ctrl-C sweeps up is then swept up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except EmbedfieldError as error:
        news.print(f"embedfield: {error}", markup=False, style="red" if news.is_terminal else None)
        sys.exit(1)
