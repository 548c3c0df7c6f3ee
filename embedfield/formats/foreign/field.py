"""ForeignField: a stored field that others made, in their own layout."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from embedfield.card import Card
from embedfield.formats.stored import StoredField, refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from embedfield.formats.foreign.decoding import Decoding, Stored
    from embedfield.window import Window

# Values that a block has at most: 256 MB of float32.
HELD = 2**26
# Side of a block where a file has no blocks, or such as are no squares.
USUAL = 128
# What to do about a layout that is not true.
ANEW = "Enter the field anew, with 'embedfield catalog add'"
# Names of arrays that tell nothing.
USUAL_NAMES = ("embedding", "embeddings")


class ForeignField(StoredField):
    """A field made by others: where its numbers are and what they mean is told by its layout."""

    layout: dict[str, Any]
    """What must be known to read it, as plain data for JSON: ``kind``, ``store``, ``rule``, ``card`` and more."""
    packing: Decoding  # type: ignore[assignment]  # it tells what a packing tells, and does not pack
    saturated = 0
    mend = "Get a whole copy of it."
    _reduced = None
    _flipped: bool
    _names: Sequence[str]

    def _take_layout(self, layout: Mapping[str, Any]) -> None:
        """Set what a layout says of the model.

        Raises:
            FormatError: If it cannot be read.
        """
        self.layout = dict(layout)
        with refused(self.path, "has a layout that cannot be read", ANEW):
            self.card = Card.from_dict(layout["card"])
            time = layout.get("time")
            self.provenance = {"made by": f"others, as {layout['kind']}"} | ({} if time is None else {"time": time})

    def _take_names(self, names: Sequence[str]) -> None:
        """Set the names of the bands: the file's own, after the model's, if they tell the bands apart."""
        whole = all(names) and len(set(names)) == self.dim
        stem = f"{self.card.name}_"
        own = [name if name.startswith(stem) else f"{stem}{name}" for name in names]
        self._names = own if whole else super().band_names

    @abstractmethod
    def _stored(self, rows: slice, cols: slice, overview: int | None) -> Stored:
        """Return the numbers of a part of the pixels, or of a coarser level, in the file's own order of rows."""

    @abstractmethod
    def _shapes(self) -> dict[int, tuple[int, int]]:
        """Return (height, width) of the coarser levels of the file, by how many pixels a side one stands for."""

    @cached_property
    def overviews(self) -> dict[int, tuple[int, int]]:
        """(height, width) of the coarser levels, by how many pixels a side a pixel of theirs stands for; rising."""
        # Turned upside down, a level begins where the field begins only if its pixels fit.
        fit = {
            factor: shape
            for factor, shape in self._shapes().items()
            if factor > 1 and not (self._flipped and self.grid.height % factor)
        }
        return dict(sorted(fit.items()))

    def _factors(self) -> list[int]:
        return list(self.overviews)

    def _codes(self, window: Window, overview: int | None = None) -> Any:
        if not self._flipped:
            return self._stored(window.rows, window.cols, overview)
        height, _ = self.overviews[overview] if overview else self.grid.shape
        rows = slice(height - window.rows.stop, height - window.rows.start)
        return self._stored(rows, window.cols, overview).upside_down()

    def _values(self, stored: Stored, pixels: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
        return self.packing.unpack(*(stored if pixels is None else stored.pick(pixels)))

    def _side(self, height: int, width: int) -> int:
        """Return the side of squares that are cheap to read, by the blocks of the file."""
        side = min(height, width) if min(height, width) >= USUAL // 2 else USUAL
        while side > 1 and self.dim * side**2 > HELD:
            side //= 2
        return side

    @property
    def name(self) -> str:
        """What it is called: its file; of a Zarr with several fields also its zone, its array and its time."""
        stem = PurePath(self._file.name).stem  # an address is written otherwise, and may have a signature behind it
        parts = str(self.layout.get("array", "")).split("/")
        inside = [part for part in parts if part and part not in USUAL_NAMES and not part.isdecimal()]
        time = self.layout.get("time")
        return "-".join([stem, *inside, *([] if time is None else [str(time)])])

    @property
    def band_names(self) -> list[str]:
        """Names of the bands: the model's, then the file's own or ``000`` and on."""
        return list(self._names)

    @property
    def quantization(self) -> dict[str, Any]:
        """How its numbers become values, as ``emb:quantization`` of STAC has it."""
        return self.packing.quantization()

    def describe(self) -> dict[str, str]:
        """Return what a person would want to know of the field, in lines of text."""
        return super().describe() | {"packing": self.packing.describe()}

    def __reduce__(self) -> tuple[type[ForeignField], tuple[Path | str, dict[str, Any]]]:  # type: ignore[override]  # it takes a layout too
        """Pickle as an address and a layout: whoever unpickles opens the files for himself."""
        _, (place,) = super().__reduce__()
        return type(self), (place, self.layout)
