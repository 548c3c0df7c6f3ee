"""The public face: sorted, true, and quick to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import embedfield


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert embedfield.__all__ == sorted(embedfield.__all__)
    assert set(embedfield.__all__) == set(embedfield._HOMES)
    for name in embedfield.__all__:
        assert getattr(embedfield, name).__name__ == name


def test_names_that_others_rely_on_stay() -> None:
    assert {"cards", "load", "build_field", "open_field", "extract_points"} <= set(embedfield.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'embedfield' has no attribute 'nothing'"):
        _ = embedfield.nothing


@pytest.mark.parametrize(
    "code", ["import embedfield.cli", "import embedfield as ef; ef.open_field; ef.extract_points; ef.cards()"]
)
def test_torch_is_not_imported_before_it_is_needed(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
