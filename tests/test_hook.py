"""Arrays of xarray know embedfield, whichever of the two is imported first, and neither imports the other in vain."""

from __future__ import annotations

import subprocess
import sys

import pytest

USE = "assert xarray.Dataset.embedfield and xarray.DataArray.embedfield; print('known')"


@pytest.mark.parametrize(
    "first",
    [
        "import embedfield, xarray",
        "import xarray, embedfield",
        "import xarray.backends.api, embedfield, xarray",
        "import embedfield, rioxarray, xarray",
    ],
)
def test_the_accessor_is_there_in_any_order(first: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{first}; {USE}"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("known\n", "")


def test_neither_needs_the_other() -> None:
    code = "import sys, embedfield; assert 'xarray' not in sys.modules; print('light')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "light\n"


def test_a_package_that_was_waited_for_is_itself() -> None:
    code = (
        "import embedfield, xarray, importlib, importlib.resources as r, sys;"
        "loader = xarray.__spec__.loader;"
        "assert type(loader).__name__ == 'SourceFileLoader' and xarray.__loader__ is loader;"
        "assert r.files('xarray').is_dir() and not any(type(f).__module__ == 'embedfield.hook' for f in sys.meta_path);"
        "print('whole')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "whole\n"
