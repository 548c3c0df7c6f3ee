"""``embedfield describe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfield.commands.console import out, progress_of
from embedfield.commands.options import (
    CardFile,
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
    from embedfield.field import Field


def describe(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[FIELD]", help="A raster, the folder of a field or its STAC item; here or at an address."
        ),
    ] = None,
    *,
    region: Annotated[
        Path | None, typer.Option(help="Only within the polygons of this vector file.", show_default="all of the field")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="How many random places, spread evenly by area; dimensions depend on it.")
    ] = 5_000,
    bands: Annotated[bool, typer.Option("--bands", help="The statistics of every band too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    model: Annotated[str | None, typer.Option(help="Exact values of a model, without a raster.")] = None,
    card: CardFile = None,
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
    """Say what a field's vectors are like: statistics, lengths, dimension, and how far they resemble one another."""
    asked: dict[str, Any] = {"dims": dims, "weights": weights, "database": database, "precision": precision}
    exact = model is not None or card is not None
    if exact == (path is not None):
        raise typer.BadParameter("Give FIELD, or --model NAME (or --card FILE).")
    if path is not None and any(value is not None for value in (*asked.values(), month, year, input)):
        raise typer.BadParameter("A stored FIELD has been asked already: leave out what is asked of a model.")
    import json

    from embedfield.describe import describe_field
    from embedfield.region import Region

    area = None if region is None else Region.read(region)
    with progress_of("describing", "places") as progress:
        if path is None:
            progress.step("loading the model")
            chosen = chosen_card(model, card)
            asked |= asked_inputs(chosen, month, year, input)
            field: Field = computed(chosen, device=device, offline=offline, **asked)
        else:
            field = opened(path)
        found = describe_field(field, sample=sample, region=area, progress=progress.count, step=progress.step)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    for line in [*found.lines, *(["", *found.band_lines] if bands else [])]:
        out.print(line)
