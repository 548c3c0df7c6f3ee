"""``embedfield models`` and ``embedfield fetch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedfield.commands.console import news, out
from embedfield.commands.options import Offline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedfield.card import Card


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
