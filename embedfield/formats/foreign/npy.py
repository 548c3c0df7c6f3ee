"""Npy: an array in a file of NumPy's, on this disk or on a network, read row by row; nothing in it is run."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from posixpath import dirname
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from embedfield.errors import FormatError
from embedfield.formats.stored import refused

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.formats.address import Address

# Bytes that hold any header.
HEAD = 4096
MEND = "Fetch the file again"


@dataclass(frozen=True)
class Npy:
    """An array in a file of NumPy's."""

    place: Path | Address
    """Where the file is."""
    dtype: np.dtype[Any]
    """Type of its numbers."""
    shape: tuple[int, ...]
    """Its rows first."""
    start: int
    """Byte at which the numbers begin."""

    @classmethod
    def open(cls, place: Path | Address) -> Npy:
        """Read what a file says of its array.

        Raises:
            FormatError: If it is no such file, or holds Python's objects.
        """
        with refused(str(place), "cannot be opened: it is no .npy file, or not a whole one", MEND):
            head = io.BytesIO(_bytes(place, 0, HEAD))
            version = npy.read_magic(head)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, by_columns, dtype = read(head)
        if dtype.hasobject:
            raise FormatError(f"{place} holds objects of Python, which would have to be run. It is not opened.")
        if by_columns or dtype.kind not in "iuf":
            raise FormatError(f"{place} holds {dtype}, {'column by column' if by_columns else 'which are no numbers'}.")
        return cls(place, dtype, shape, head.tell())

    def rows(self, rows: slice) -> npt.NDArray[Any]:
        """Return some rows.

        Raises:
            FormatError: If the file is cut short.
        """
        width = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with refused(str(self.place), "cannot be read: it is cut short", MEND):
            if isinstance(self.place, Path):
                whole = np.memmap(self.place, self.dtype, "r", self.start, self.shape)
                return np.asarray(whole[rows])
            data = _bytes(self.place, self.start + rows.start * width, (rows.stop - rows.start) * width)
            return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


def _bytes(place: Path | Address, start: int, length: int) -> bytes:
    """Return bytes of a file; fewer where it ends before."""
    if isinstance(place, Path):
        with place.open("rb") as file:
            file.seek(start)
            return file.read(length)
    import obstore

    with place.answering():
        folder = replace(place, path=dirname(place.path)).folder()
        return bytes(obstore.get_range(folder, PurePosixPath(place.key).name, start=start, length=length))
