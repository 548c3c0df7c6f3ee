"""Options: what several commands ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfield.commands.console import news

if TYPE_CHECKING:
    from embedfield.card import Card
    from embedfield.evaluate import EncodedField
    from embedfield.formats.stored import StoredField


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
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Workers to share the work: local, local:N, a Dask scheduler's address (tcp://HOST:PORT) or its file.",
        show_default="this process alone",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]


def chosen_card(name: str | None, card: Path | None) -> Card:
    """Return the card of a name, or of a file."""
    from embedfield.models import card as known
    from embedfield.models import read_card

    if (name is None) == (card is None):
        raise typer.BadParameter("Give --model NAME, or --card FILE for a model of your own.")
    return known(name) if name is not None else read_card(str(card))


def asked_inputs(
    model: Card | None, month: float | None, year: float | None, others: list[str] | None
) -> dict[str, float]:
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


def opened(path: str) -> StoredField:
    """Return the stored field of a path."""
    from embedfield.formats import open_field

    return open_field(path)


def computed(model: Card, res: float | None = None, **asked: Any) -> EncodedField:
    """Return a model as a field, with pixels if their size is given."""
    from embedfield.evaluate import EncodedField, load
    from embedfield.grid import Grid

    grid = None if res is None else Grid.from_bounds(res)
    evaluator = load(model, report=news.print, **asked)
    return EncodedField.everywhere(evaluator) if grid is None else EncodedField(evaluator, grid)
