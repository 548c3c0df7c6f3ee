"""``embedfield advise``."""

from __future__ import annotations

from typing import Annotated

import typer

from embedfield.commands.console import news, out, progress_of
from embedfield.commands.options import (
    CardFile,
    Device,
    Dims,
    Inputs,
    Month,
    Name,
    Offline,
    OwnDatabase,
    OwnWeights,
    Precision,
    Year,
    asked_inputs,
    chosen_card,
)


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

    chosen = chosen_card(model, card)
    with progress_of(f"measuring {model or chosen.name}", "grids") as progress:
        progress.step("asking the encoder at random places")
        advice = advise_grid(
            chosen, bounds=bounds or GLOBE, tolerance=tolerance, resolutions=res, dtypes=dtype,  # type: ignore[arg-type]
            dims=dims, weights=weights, database=database, device=device,
            precision=precision, offline=offline, report=news.print, progress=progress.count,  # type: ignore[arg-type]
            **asked_inputs(chosen, month, year, input),
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(advice.to_dict(), indent=2))
    else:
        for line in advice.lines:
            out.print(line)
