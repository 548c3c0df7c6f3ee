"""The command line: which commands there are, and how they end."""

from __future__ import annotations

import signal
import sys
import warnings
from typing import TextIO

import typer

from embedfield.commands.advise import advise
from embedfield.commands.build import build
from embedfield.commands.catalog import catalog
from embedfield.commands.console import news
from embedfield.commands.describe import describe
from embedfield.commands.info import info
from embedfield.commands.models import fetch, models
from embedfield.commands.preview import preview
from embedfield.commands.sample import sample
from embedfield.commands.similar import SimilarCommand, similar
from embedfield.commands.verify import verify
from embedfield.errors import EmbedfieldError, EmbedfieldWarning

app = typer.Typer(
    name="embedfield",
    help="Location encoders as rasters, and as columns of tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (build, sample, models, fetch, info, preview, describe, verify, advise):
    app.command()(command)
app.command(cls=SimilarCommand)(similar)
app.add_typer(catalog)


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
