"""Console: what commands print on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from embedfield.progress import Progress


out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
news = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def progress_of(what: str, unit: str = "pixels") -> AbstractContextManager[Progress]:
    """Show how far a command is: a bar on a terminal, elsewhere a line now and then."""
    from embedfield.progress import Progress, shown

    return shown(Progress(what, unit), news)
