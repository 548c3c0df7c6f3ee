"""Tests of compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedfield.encoders.loops import _compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


def test_a_loop_is_compiled_where_it_cannot_be_kept() -> None:
    """What has no file has no folder to be kept in, as where nothing may be written."""
    namespace: dict[str, Callable[[npt.NDArray[np.float64]], None]] = {}
    exec("def double(numbers):\n    for i in range(len(numbers)):\n        numbers[i] *= 2.0\n", namespace)  # noqa: S102
    double = _compiled(namespace["double"])
    numbers = np.arange(3.0)
    double(numbers)
    assert numbers.tolist() == [0.0, 2.0, 4.0]
