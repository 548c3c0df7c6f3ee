"""Fields in memory: to measure writing without computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedfield.field import Field

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from embedfield.window import Window


class Held(Field):
    """A field in memory."""

    def __init__(self, field: Field) -> None:
        """Read all of a field."""
        self.card, self.grid = field.card, field.grid
        self.values = field.read()

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return a view of a window, (dim, height, width), float32."""
        window = window or self.grid.window
        return self.values[:, window.rows, window.cols]
