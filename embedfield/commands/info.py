"""``embedfield info``."""

from __future__ import annotations

from embedfield.commands.console import out
from embedfield.commands.options import Stored


def info(path: Stored) -> None:
    """Say what a stored field is."""
    from embedfield.formats import open_field

    with open_field(path) as field:
        for name, value in field.describe().items():
            out.print(f"{name:<12} {value}")
