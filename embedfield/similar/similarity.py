"""SimilarityField: how similar a field is to a query, as a field of one band."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedfield.field import Field
from embedfield.formats.stored import StoredField

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.similar.query import Query
    from embedfield.window import Window

# Bytes of vectors, float32, that a thread holds.
HELD = 32 * 2**20


class SimilarityField(Field):
    """A field's similarity to a query, as a field of one band: computed as it is read, block by block."""

    def __init__(self, field: Field, query: Query) -> None:
        """Compare a field with a query; nothing is computed yet.

        Args:
            field: Whose vectors.
            query: Made of this field, or of one of the same model with the same middle.
        """
        self.field, self.query = field, query
        self.card = _card(field.card, query)
        self.grid, self.region, self.blocksize = field.grid, field.region, field.blocksize
        self.provenance = {**field.provenance, "similarity": query.about}
        # Writers ask for rows; a row of blocks is kept, so that each block is read once.
        self._block = functools.lru_cache(-(-self.grid.width // self.blocksize) + 1)(self._computed)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the similarities of a window, (1, height, width), float32; NaN where there is none."""
        window = self.grid.checked(window)
        result = np.empty((1, window.height, window.width), dtype=np.float32)
        blocks = self._blocks(window)
        for block, values in zip(blocks, self._each(blocks), strict=True):
            here, there = window.common(block)
            result[0, *here] = values[there]
        return result

    def _each(self, blocks: list[Window]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the similarities of blocks, (height, width)."""
        if not isinstance(self.field, StoredField) or len(blocks) < 2:
            # Encoders are for the caller's thread.
            yield from map(self._block, blocks)
            return
        with ThreadPoolExecutor(self.field.readers) as pool:
            yield from pool.map(self._block, blocks)

    def _blocks(self, window: Window) -> list[Window]:
        """Return the blocks of the field that a window touches."""
        side = self.blocksize
        return list(window.aligned(side, side, self.grid.shape).tiles(side, side))

    def _computed(self, block: Window) -> npt.NDArray[np.float32]:
        """Return the similarities of a block, (height, width)."""
        rows = max(1, HELD // (4 * self.field.card.dim * block.width))
        parts = []
        for part in block.tiles(rows, block.width):
            values = self.field.read(part)
            found = self.query.similarity(self.field.restored(values.reshape(len(values), -1).T))
            parts.append(found.reshape(part.height, part.width))
        return np.concatenate(parts)


def _card(card: Card, query: Query) -> Card:
    """Return the card of a map: of one band, under the model's licence, and no encoder's."""
    return replace(
        card, name=f"{card.name}-similarity", title=query.title, dim=1, code=f"{__name__}:{SimilarityField.__name__}",
        options={}, inputs={}, prefixes=(), aliases=(), unit_norm=False,
    )  # fmt: skip
