"""ForeignTile: a tile of TESSERA, in files of NumPy's."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.errors import FormatError
from embedfield.formats.address import Address, place_of
from embedfield.formats.foreign.decoding import PixelScale, Stored
from embedfield.formats.foreign.field import ANEW, USUAL, ForeignField
from embedfield.formats.foreign.npy import Npy
from embedfield.formats.foreign.place import code_of, grid_of
from embedfield.formats.foreign.raster import RasterLook
from embedfield.formats.item import beside
from embedfield.formats.stored import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

# End of the name of a tile's scales.
SCALES = "_scales.npy"
# Where its rasters of land lie beside those of its codes, as they are published and as its own program keeps them.
FOLDERS = ("global_0.1_degree_tiff_all", "landmasks/*")
# How far above a tile the two lie in one folder.
ABOVE = 5


@dataclass(frozen=True)
class TileFiles:
    """The files of a tile."""

    path: Path | str
    """That of the codes, as it was named."""
    place: Path | Address
    """The same from the root of the disk."""
    dim: int
    """How many numbers a vector has."""

    @classmethod
    def of(cls, place: Path | Address) -> Self:
        """Look at a tile.

        Raises:
            FormatError: If it is no file of codes.
        """
        absolute = place.absolute() if isinstance(place, Path) else place
        if absolute.name.endswith(SCALES):
            raise FormatError(f"{place} has the scales of a tile. Give the file of its codes beside it.")
        shape = Npy.open(absolute).shape
        if len(shape) != 3:
            raise FormatError(f"{place} has the shape {shape}, and codes of a tile have (height, width, bands).")
        return cls(place if isinstance(place, Path) else str(place), absolute, shape[2])

    def layout(self, landmask: str | None) -> dict[str, Any]:
        """Return the layout of the tile, but for what it is of.

        Args:
            landmask: The raster that tells where its pixels are; None to look for it.

        Raises:
            FormatError: If there is none, or none that an item could lead to.
        """
        found = place_of(landmask) if landmask is not None else self._landmask()
        if isinstance(self.place, Address) and isinstance(found, Path):
            raise FormatError(
                f"{self.path} is on a network, and its landmask {found} on this disk: no item leads from one to the "
                "other. Give the landmask's address, or fetch the tile."
            )
        stem = self.place.name.removesuffix(".npy")
        return {
            "store": "npy",
            "rule": "pixel-scale",
            "scales": f"{stem}{SCALES}",
            "landmask": href_from(self.place, found),
        }

    def _landmask(self) -> Path:
        """Return the raster of land of the tile, from where its program keeps it.

        Raises:
            FormatError: If it is not there.
        """
        if isinstance(self.place, Path):
            stem = self.place.stem
            names = [f"{stem}{suffix}" for suffix in (".tiff", ".tif", "_landmask.tiff", "_landmask.tif")]
            for folder in list(self.place.parents)[:ABOVE]:
                inside = [folder] if folder == self.place.parent else []
                inside += [found for pattern in FOLDERS for found in sorted(folder.glob(pattern))]
                for path in (beside / name for beside in inside for name in names):
                    if path.is_file():
                        return path
        raise FormatError(
            f"{self.path} does not tell where its pixels are: that does the tile's landmask, a .tiff of the same name. "
            "Give it with --landmask."
        )


class ForeignTile(ForeignField):
    """A tile of TESSERA: codes and scales in files of NumPy's, and a raster that tells where its pixels are."""

    format = "npy"

    def __init__(self, path: str | Path, layout: Mapping[str, Any]) -> None:
        """Open a field.

        Args:
            path: The file of codes (height, width, dim): a path, or an address on a network.
            layout: With ``card``, and ``scales`` and ``landmask``: where these files are, from that of the codes.

        Raises:
            FormatError: If a file is not there or is no such file, or they differ in shape.
        """
        self._take_place(path)
        self._take_layout(layout)
        with refused(self.path, "has a layout that cannot be read", ANEW):
            scales, landmask = (beside(self._file, str(layout[key])) for key in ("scales", "landmask"))
        self._numbers, self._scales = Npy.open(self._file), Npy.open(scales)
        with RasterLook(landmask if isinstance(landmask, Path) else str(landmask)) as look:
            facts = look.facts
        self.packing = PixelScale()
        if len(self._numbers.shape) != 3 or self._numbers.dtype != np.int8 or self._numbers.shape[2] < self.dim:
            raise FormatError(
                f"{self.path} holds {self._numbers.dtype} of shape {self._numbers.shape}; codes of TESSERA are int8, "
                f"(height, width, {self.dim})."
            )
        for name, shape in ((scales, self._scales.shape[:2]), (landmask, facts.shape)):
            if shape != self._numbers.shape[:2]:
                raise FormatError(
                    f"{name} is {shape}, and its codes are {self._numbers.shape[:2]}: it is of another tile."
                )
        self.grid, self._flipped = grid_of(
            self.path, facts.transform, facts.shape, code_of(str(landmask), facts.crs, None)
        )
        # Rows are read whole: a block of some of them is cheap, whatever its columns.
        self.blocksize = self._side(USUAL, USUAL)
        self._take_names([""] * self.dim)

    def _shapes(self) -> dict[int, tuple[int, int]]:
        return {}

    def _stored(self, rows: slice, cols: slice, overview: int | None) -> Stored:
        del overview  # it has none
        codes = self._numbers.rows(rows)[:, cols, : self.dim]
        scales = self._scales.rows(rows)[:, cols]
        aside = scales[None] if scales.ndim == 2 else scales[..., : self.dim].transpose(2, 0, 1)
        return Stored(np.ascontiguousarray(codes.transpose(2, 0, 1)), aside)


def href_from(place: Path | Address, other: Path | Address) -> str:
    """Return how a file is named from a place: relative to it where both are on this disk or in one folder."""
    if isinstance(place, Path) and isinstance(other, Path):
        return Path(relpath(other.absolute(), place.absolute().parent)).as_posix()
    return str(other)
