"""The command line: parse, call the library once, print."""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from embedfield.errors import EmbedfieldError, EmbedfieldWarning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from embedfield.card import Card
    from embedfield.progress import Progress

app = typer.Typer(
    name="embedfield",
    help="Location encoders as rasters, and as columns of tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
news = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


# What several commands ask.
Stored = Annotated[
    str,
    typer.Argument(metavar="FIELD", help="A raster, the folder of a field or its STAC item; here or at an address."),
]
Name = Annotated[str | None, typer.Option(help="Name of a model; 'embedfield models' lists them.")]
CardFile = Annotated[Path | None, typer.Option("--card", help="A model of your own, by its card: a TOML file.")]
OwnWeights = Annotated[Path | None, typer.Option(help="A checkpoint of your own.", show_default="the released one")]
OwnDatabase = Annotated[Path | None, typer.Option(help="A database of your own, for range and range-plus.")]
Dims = Annotated[int | None, typer.Option(help="Length of the prefix wanted of a Matryoshka model, such as mind.")]
Month = Annotated[float | None, typer.Option(help="Month, 1 to 12, for a model that takes one.")]
Year = Annotated[float | None, typer.Option(help="Year, for weights that take one.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="Any other input of a model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str | None, typer.Option(help="float64, float32, tf32 or bf16.", show_default="the official one")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]


@app.command()
def build(
    *,
    model: Name = None,
    card: CardFile = None,
    res: Annotated[float, typer.Option(help="Side of a pixel, degrees; metres with a --crs.")],
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            metavar="W S E N",
            help="Area, in units of the --crs; in degrees W greater than E crosses the antimeridian.",
            show_default="the globe",
        ),
    ] = None,
    crs: Annotated[str, typer.Option(help="Reference system of the pixels, such as EPSG:3035.")] = "EPSG:4326",
    region: Annotated[Path | None, typer.Option(help="A vector file; pixels that do not touch it stay empty.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the region's file, if it has several.")] = None,
    no_mask: Annotated[bool, typer.Option("--no-mask", help="Of the region take only the bounds.")] = False,
    supersample: Annotated[
        int, typer.Option(help="A pixel is the mean of K x K places in it, K from 1 to 16.", metavar="K")
    ] = 1,
    format: Annotated[str, typer.Option(help="cog or zarr.")] = "cog",  # noqa: A002
    dtype: Annotated[
        str, typer.Option(help="uint8 or int16 (packed, one scale and offset a band), float16 or float32.")
    ] = "uint8",
    zarr_layout: Annotated[str, typer.Option(help="sharded, or flat for readers without shards.")] = "sharded",
    pca: Annotated[int | None, typer.Option(help="Keep the K strongest principal components.", metavar="K")] = None,
    dims: Dims = None,
    month: Month = None,
    year: Year = None,
    input: Inputs = None,  # noqa: A002
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="float64, float32, tf32 or bf16.",
            show_default="the fastest whose error is below a tenth of the packing's",
        ),
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the catalogue.")] = Path("catalog"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another field that stands there.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not hold the raster against the model.")] = False,
    offline: Offline = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would make and cost, by a small sample; write nothing.")
    ] = False,
) -> None:
    """Evaluate a model on a grid: a raster, its preview, its certificate and its STAC item.

    A build that was stopped goes on when the same command is given again.
    """
    chosen = _model(model, card)
    asked: dict[str, Any] = {
        "bounds": bounds, "crs": crs, "region": region, "layer": layer, "mask": not no_mask, "supersample": supersample,
        "format": format, "dtype": dtype, "layout": zarr_layout, "pca": pca, "dims": dims, "weights": weights,
        "database": database, "device": device, "precision": precision, "out": out_folder, "overwrite": overwrite,
        "verify": not no_verify, "offline": offline, "report": news.print, **_inputs(chosen, month, year, input),
    }  # fmt: skip
    name = model or chosen.name
    if dry_run:
        with _progress(f"estimating {name}") as progress:
            from embedfield.estimate import estimate_build

            estimate = estimate_build(chosen, res, step=progress.step, **asked)
        for line in estimate.lines:
            out.print(line)
        return
    with _progress(f"building {name}") as progress:
        from embedfield.build import build_field  # within, for torch takes a second or two to import

        field = build_field(chosen, res, progress=progress.count, step=progress.step, **asked)
    out.print(field.path)


@app.command()
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
) -> None:
    """Sample fields at places: their table, with a column for each band.

    A point gets the value there, a polygon or a line the mean of the pixels
    under it, or other statistics. All rows stay, in their order.
    """
    *names, places = sources
    exact = model is not None or card is not None
    chosen = _model(model, card) if exact else None
    asked: dict[str, Any] = _inputs(chosen, month, year, input)
    asked |= {"dims": dims, "weights": weights, "database": database, "precision": precision}
    _check_asked(names, exact=exact, method=method, asked=(*asked.values(), res))
    from embedfield.stream import sample_file
    from embedfield.tables import check_output, open_places

    check_output(output, overwrite=overwrite)
    with _progress("sampling", "places") as progress:
        progress.step("reading the places")
        file = open_places(places, lon=lon, lat=lat, crs=crs, layer=layer, where=where)
        fields = [_opened(name) for name in names]
        fields += [_computed(chosen, res, device=device, offline=offline, **asked)] if chosen else []
        sampled = sample_file(
            fields, file, output, method=method, stats=stat or None, columns=columns,  # type: ignore[arg-type]
            buffer=buffer, overwrite=overwrite, progress=progress.count, step=progress.step,
        )  # fmt: skip
    found = ", ".join(f"{count:,} {status}" for status, count in sampled.statuses.items()) or "none"
    news.print(f"{sampled.rows:,} places: {found}")
    out.print(sampled.path)


def _check_asked(names: list[str], *, exact: bool, method: str | None, asked: tuple[Any, ...]) -> None:
    """Refuse a sampling of nothing, or one that asks a field what is asked of a model."""
    if not exact and not names:
        raise typer.BadParameter("Give FIELD and PLACES, or --model NAME (or --card FILE) and PLACES.")
    if not exact and any(value is not None for value in asked):
        raise typer.BadParameter("A stored FIELD has been asked already: leave out what is asked of a model.")
    if exact and not names and method not in (None, "exact"):
        raise typer.BadParameter(f"--method {method} reads the pixels of a FIELD. With --model every place is exact.")


def _model(name: str | None, card: Path | None) -> Card:
    """Return the card of a name, or of a file."""
    from embedfield.models import card as known
    from embedfield.models import read_card

    if (name is None) == (card is None):
        raise typer.BadParameter("Give --model NAME, or --card FILE for a model of your own.")
    return known(name) if name is not None else read_card(str(card))


def _inputs(model: Card | None, month: float | None, year: float | None, others: list[str] | None) -> dict[str, float]:
    """Return what is asked of a model beside the place, once it is known to be that; None is no model."""
    from embedfield.models import asked as checked

    asked = {name: value for name, value in (("month", month), ("year", year)) if value is not None}
    for other in others or ():
        name, _, value = other.partition("=")
        if name in asked:
            raise typer.BadParameter(f"{name} is given twice. Give it once.")
        try:
            asked[name] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"--input {other} is no NAME=VALUE with a number.") from error
    if model is not None:
        # Now: an input named as an option of ours, such as dims, would be taken for that option.
        checked(model, asked)
    return asked


def _opened(path: str) -> Any:
    """Return the stored field of a path."""
    from embedfield.formats import open_field

    return open_field(path)


def _computed(model: Card, res: float | None, **asked: Any) -> Any:
    """Return a model as a field, with pixels if their size is given."""
    from embedfield.evaluate import EncodedField, load
    from embedfield.grid import Grid

    grid = None if res is None else Grid.from_bounds(res)
    evaluator = load(model, report=news.print, **asked)
    return EncodedField.everywhere(evaluator) if grid is None else EncodedField(evaluator, grid)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model, to read its card.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The cards as JSON.")] = False,
) -> None:
    """List the models, or read the card of one."""
    import json

    from embedfield.models import card as known
    from embedfield.models import cards

    if as_json:
        found = known(name).to_dict() if name else [card.to_dict() for card in cards()]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif name:
        _print_card(known(name))
    else:
        _print_cards(cards())


def _print_cards(cards: Iterable[Card]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "dim", "weights", "licence", "detail", "what it is"):
        table.add_column(heading, justify="right" if heading == "dim" else "left", no_wrap=heading == "name")
    for card in cards:
        table.add_row(*_row(card))
    out.print(table)


def _row(card: Card) -> tuple[str, ...]:
    """Return what the list of models says of one."""
    name = f"{card.name} ({', '.join(card.aliases)})" if card.aliases else card.name
    source = card.weights.source if card.weights else "none"
    return name, str(card.dim), source, card.licence_in_words, f"{card.detail:g}°" if card.detail else "", card.title


def _print_card(card: Card) -> None:
    """Print a card, each line under the one before where it is longer than the terminal."""
    from rich.padding import Padding
    from rich.table import Column, Table

    out.print(f"{', '.join((card.name, *card.aliases))}\n{card.title}\n")
    table = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, line in card.describe().items():
        table.add_row(name, line)
    out.print(Padding(table, (0, 0, 0, 2)), soft_wrap=False)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model; 'embedfield models' lists them.")],
    *,
    offline: Offline = False,
) -> None:
    """Get the weights of a model into the cache, verified, and print where they are."""
    from embedfield.models import fetch as fetch_files

    found = fetch_files(name, offline=offline, report=news.print)
    if not found:
        news.print(f"{name} has no released weights to fetch.")
    for file in found.values():
        news.print(f"sha256 {file.sha256}")
        out.print(file.path)


@app.command()
def info(path: Stored) -> None:
    """Say what a stored field is."""
    from embedfield.formats import open_field

    with open_field(path) as field:
        for name, value in field.describe().items():
            out.print(f"{name:<12} {value}")


@app.command()
def verify(
    path: Stored,
    *,
    checksums: Annotated[bool, typer.Option("--checksums", help="Only whether every byte is as written.")] = False,
    places: Annotated[int, typer.Option(help="How many places are compared.")] = 4096,
    seed: Annotated[int | None, typer.Option(help="Of the places.", show_default="always the same")] = None,
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Hold a stored field against its model at random places, and keep the certificate."""
    if checksums:
        _print_faults(path)
        return
    from embedfield.certify import certify

    asked: dict[str, Any] = {} if seed is None else {"seed": seed}
    with _progress("verifying", "places") as progress:
        progress.step("loading the model")
        certificate, kept = certify(
            path, places=places, weights=weights, database=database, device=device, offline=offline, report=news.print,
            progress=progress.count, **asked,
        )  # fmt: skip
    for line in certificate.lines:
        news.print(line)
    if kept is None:
        news.print(f"Nothing was kept: {path} does not lie in a folder of its own, as 'embedfield build' makes one.")
    else:
        out.print(kept)


def _print_faults(name: str) -> None:
    """Say what is wrong with the files of a field."""
    from embedfield.errors import FormatError
    from embedfield.formats.address import Address, place_of
    from embedfield.integrity import absolute, check_sums

    path = place_of(name)
    if isinstance(path, Address):
        raise FormatError(f"{name} is not on this disk, where its checksums could be compared. Copy its folder here.")
    if not path.exists():
        raise FormatError(f"{path} does not exist. Give a .tif, .vrt or .zarr, or the folder of a field.")
    path = absolute(path)
    folder = path if path.is_dir() and path.suffix != ".zarr" else path.parent
    faults = check_sums(folder)
    for fault in faults:
        news.print(fault)
    if faults:
        places = "1 place" if len(faults) == 1 else f"{len(faults)} places"
        raise FormatError(f"{folder} is damaged in {places}. Build it again with --overwrite.")
    out.print(f"{folder}: every byte is as it was written.")


@app.command()
def advise(
    *,
    model: Name = None,
    card: CardFile = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="W S E N", help="Area, degrees.", show_default="the globe"),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Mean cosine that is wanted at least.")] = 0.99,
    res: Annotated[
        list[float] | None, typer.Option(help="Pixel to try, degrees; may be repeated.", show_default="10 to 0.01")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Type to try; may be repeated.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    dims: Dims = None,
    month: Month = None,
    year: Year = None,
    input: Inputs = None,  # noqa: A002
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    precision: Precision = None,
    offline: Offline = False,
) -> None:
    """Say which grid is fine enough for a model, and what it would cost."""
    import json

    from embedfield.advise import advise_grid
    from embedfield.places import GLOBE

    chosen = _model(model, card)
    with _progress(f"measuring {model or chosen.name}", "grids") as progress:
        progress.step("asking the encoder at random places")
        advice = advise_grid(
            chosen, bounds=bounds or GLOBE, tolerance=tolerance, resolutions=res, dtypes=dtype,  # type: ignore[arg-type]
            dims=dims, weights=weights, database=database, device=device,
            precision=precision, offline=offline, report=news.print, progress=progress.count,  # type: ignore[arg-type]
            **_inputs(chosen, month, year, input),
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(advice.to_dict(), indent=2))
    else:
        for line in advice.lines:
            out.print(line)


def _progress(what: str, unit: str = "pixels") -> AbstractContextManager[Progress]:
    """Show how far a command is: a bar on a terminal, elsewhere a line now and then."""
    from embedfield.progress import Progress, shown

    return shown(Progress(what, unit), news)


def _show_warning(  # noqa: PLR0917  as Python calls it
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as one line, as errors are; those of others keep their file and line."""
    if issubclass(category, EmbedfieldWarning):
        news.print(f"embedfield: warning: {message}", style="yellow" if news.is_terminal else None)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def main() -> None:
    """Run a command; an error of embedfield's is one line and exit code 1."""
    # As batch systems end a job: what Ctrl-C sweeps up is then swept up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except EmbedfieldError as error:
        news.print(f"embedfield: {error}", markup=False, style="red" if news.is_terminal else None)
        sys.exit(1)
