"""Kept: arrays of windows that were costly to make, held for whoever asks for them again."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from embedfield.window import Window

    type Made = npt.NDArray[np.generic]


class Kept[Array: Made]:
    """Arrays by window, those that were asked for last, up to a number of bytes. Several threads may ask."""

    def __init__(self, most: int) -> None:
        """Keep nothing yet; later up to so many bytes, or one array that is larger."""
        self._most, self._lock = most, RLock()
        self._arrays = OrderedDict["Window", "Array"]()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._arrays)

    def get(self, window: Window, size: int, make: Callable[[Window], Array]) -> Array:
        """Return the array of a window: the one that is kept, or a new one.

        Args:
            window: Which.
            size: Bytes that a new one has: room is made before it is there.
            make: Makes it; one at a time.
        """
        with self._lock:
            if window not in self._arrays:
                while self._arrays and size + sum(array.nbytes for array in self._arrays.values()) > self._most:
                    self._arrays.popitem(last=False)
                self._arrays[window] = make(window)
            self._arrays.move_to_end(window)
            return self._arrays[window]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._arrays.clear()
