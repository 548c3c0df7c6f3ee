"""StoredField: a field read from storage, and the header that every format keeps for it."""

from __future__ import annotations

import json
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.card import Card
from embedfield.errors import FormatError, GridError
from embedfield.field import Field
from embedfield.formats.address import Address, place_of
from embedfield.formats.packing import DTYPES, Packing
from embedfield.grid import TOLERANCE, Grid
from embedfield.processors import processors
from embedfield.reduce import Reduction
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    import xarray
    from affine import Affine

# Raised when a reader of an older header could misunderstand a newer one.
HEADER_VERSION = 2
HEADER = "embedfield"
# Beside a reduced field: the way back to its model's vectors.
REDUCTION = "reduction.safetensors"
# What is raised, here or in the libraries beneath, by metadata that are damaged.
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OSError)
# Bytes of stored numbers that are read at a time, where single pixels of neighbouring blocks are wanted.
HELD = 16 * 2**20
# Pixels of a block that are unpacked together.
PIECE = 8192
# Threads that read them.
READERS = 8


class StoredField(Field):
    """A field on disk or on a network. Opened from its path or address; closed with `close` or ``with``."""

    path: Path | str
    """What was opened, as it was named; a text where it is the address of one on a network."""
    _file: Path | Address
    """The same from the root of the disk: the working directory may change while the field is open."""
    packing: Packing
    """How its numbers are stored."""
    layout: Mapping[str, Any] | None = None
    """Of a field made by others: what must be known to read it. None for our own, whose header tells."""
    saturated: int
    """How many values lay outside the range of their band when they were packed."""
    format: str
    """``cog`` or ``zarr``."""
    mend = "Build it again."
    """What to do when its bytes are damaged, in words."""
    _dtype: str | None
    _crs: str
    _reduced: Mapping[str, Any] | None = None

    @abstractmethod
    def _codes(self, window: Window, overview: int | None = None) -> Any:
        """Return the stored numbers (dim, height, width) of a window of the pixels, or of those of a coarser level."""

    def _values(self, stored: Any, pixels: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
        """Return the values (dim, height, width) of what `_codes` gave; (dim, n) of some pixels, counted row by row."""
        return self.packing.unpack(stored if pixels is None else stored.reshape(self.dim, -1).take(pixels, axis=1))

    @abstractmethod
    def _factors(self) -> list[int]:
        """Return the coarser levels that the file has, as the keys of `overviews`."""

    def _take_place(self, path: str | Path) -> None:
        """Set where the field is.

        Raises:
            FormatError: If it is an address that cannot be opened.
        """
        place = place_of(path)
        self.path = str(place) if isinstance(place, Address) else place
        self._file = place if isinstance(place, Address) else place.absolute()

    @property
    def disk_path(self) -> Path:
        """The path, for what is kept beside the field.

        Raises:
            FormatError: If it is on a network.
        """
        if isinstance(self.path, Path):
            return self.path
        raise FormatError(
            f"{self.path} is not on this disk, where things could be kept beside it. Copy its folder here."
        )

    @cached_property
    def overviews(self) -> dict[int, tuple[int, int]]:
        """(height, width) of the coarser levels, by how many pixels a side a pixel of theirs stands for; rising."""
        height, width = self.grid.shape
        return {factor: (-(-height // factor), -(-width // factor)) for factor in self._factors()}

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window, (dim, height, width), float32."""
        # The libraries beneath would shorten a window past the edge.
        return self._values(self._codes(self.grid.checked(window)))

    def read_overview(self, factor: int, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the embeddings of a window of a coarser level, (dim, height, width), float32."""
        if factor not in self.overviews:
            known = ", ".join(map(str, self.overviews)) or "none"
            raise GridError(f"factor={factor} is no coarser level of {self.path}. It has: {known}.")
        height, width = self.overviews[factor]
        window = window or Window(0, 0, width, height)
        if window.cols.stop > width or window.rows.stop > height:
            raise GridError(f"{window} passes the edge of a level of {width} x {height} pixels.")
        return self._values(self._codes(window, factor))

    @property
    def readers(self) -> int:
        """How many threads read it side by side: whoever waits for a network does not compute."""
        return READERS if isinstance(self.path, str) else min(READERS, processors())

    def _parts(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        block_bytes = self.dim * self.packing.itemsize * self.blocksize**2
        windows = self._windows(rows, cols, max(1, HELD // block_bytes))

        def pick(
            part: tuple[list[npt.NDArray[np.int64]], Window],
        ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
            """Return the values of the pixels of a window, block by block, some at a time."""
            blocks, window = part
            stored = self._codes(window)
            inside = [(rows[own] - window.row_off) * window.width + cols[own] - window.col_off for own in blocks]
            # Of a block as many pixels may be wanted as there are places in the world, or few.
            pieces = [
                (own[start : start + PIECE], pixels[start : start + PIECE])
                for own, pixels in zip(blocks, inside, strict=True)
                for start in range(0, len(own), PIECE)
            ]
            return [(own, self._values(stored, pixels).T) for own, pixels in pieces]

        with ThreadPoolExecutor(self.readers) as pool:
            for found in pool.map(pick, windows):
                yield from found

    @property
    def reduction(self) -> Reduction | None:
        """The map to the components that it holds, and back, from the file beside it; None without components.

        Raises:
            FormatError: If that file is not there, or another.
        """
        return self._way_back

    @cached_property
    def _way_back(self) -> Reduction | None:
        if self._reduced is None:
            return None
        file = self._file
        beside = file.beside(REDUCTION) if isinstance(file, Address) else file.parent / REDUCTION
        return Reduction.read(beside, self._reduced["sha256"])  # type: ignore[arg-type]  # it asks for bytes alone

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        """Return the field."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self.close()

    @property
    def name(self) -> str:
        """What it is called: its file, without suffix."""
        return PurePath(self.path).stem

    def about(self) -> dict[str, Any]:
        """Return what its numbers are and where they come from, as plain data for JSON."""
        return super().about() | {
            "href": str(self.path),
            "format": self.format,
            "packing": {"dtype": self.packing.dtype, "error": self.packing.describe()},
            "saturated": self.saturated,
        }

    def to_xarray(self) -> xarray.DataArray:
        """Return the field as a lazy DataArray (band, y, x), float32, with its CRS, and its header as JSON.

        Blocks are read when they are computed (dask); NaN where there is no value.
        """
        array = super().to_xarray()
        array.attrs[HEADER] = json.dumps(header_of(self, self.packing, self.saturated))
        return array

    def describe(self) -> dict[str, str]:
        """Return what a person would want to know of the field, in lines of text."""
        west, south, east, north = self.grid.bounds
        height, width = self.grid.shape
        return {
            "model": f"{self.card.name}: {self.card.title}",
            "file": f"{self.path} ({self.format})",
            "grid": f"{width} x {height} pixels of {self.grid.side}, {self.grid.crs}",
            "bounds": f"west {west:g}, south {south:g}, east {east:g}, north {north:g}",
            "bands": f"{self.dim}, {self.band_names[0]} to {self.band_names[-1]}, {self.packing.dtype}",
            "packing": f"{self.packing.describe()}; {self.saturated:,} values saturated",
            **self._describe_components(),
            "licence": self.card.licence_in_words,
        } | {name: str(value) for name, value in self.provenance.items() if value is not None}

    def _describe_components(self) -> dict[str, str]:
        if self._reduced is None:
            return {}
        share = sum(self._reduced["explained"])
        return {"components": f"{self.dim} of {self.card.dim} dimensions, {share:.1%} of the variance"}

    def __reduce__(self) -> tuple[type[StoredField], tuple[Path | str]]:
        """Pickle as a path or an address: whoever unpickles opens the file for himself."""
        return type(self), (self._file if isinstance(self._file, Path) else str(self._file),)

    def _take_header(self, header: Any) -> None:
        """Set what the header says.

        Raises:
            FormatError: If a newer embedfield wrote it, or it is damaged.
        """
        found = header.get("version") if isinstance(header, dict) else None
        if not isinstance(found, int) or isinstance(found, bool):
            raise FormatError(f"{self.path} has a header that cannot be read: no version. Build the field again.")
        if found > HEADER_VERSION:
            raise FormatError(
                f"{self.path} has header version {found}; this embedfield reads {HEADER_VERSION}. Update it."
            )
        with refused(self.path, "has a header that cannot be read"):
            told = {"dtype": None, "crs": "EPSG:4326", "reduction": None} | header
            self.card = Card.from_dict(_typed(told, "card", dict))
            self.provenance = _typed(told, "provenance", dict)
            self.saturated = _typed(told, "saturated", int)
            self._dtype = _typed(told, "dtype", str, type(None))
            self._crs = _typed(told, "crs", str)
            self._reduced = _typed(told, "reduction", dict, type(None))
            self.components = None if self._reduced is None else _components(self._reduced)


@contextmanager
def refused(path: Path | str, fault: str, mend: str = "Build the field again") -> Iterator[None]:
    """Refuse a file whose metadata break what reads them.

    Args:
        path: The file.
        fault: What is wrong with it then, in words.
        mend: What to do, in words.

    Raises:
        FormatError: If they do.
    """
    try:
        yield
    except FormatError:
        raise
    except DAMAGE as error:
        raise FormatError(f"{path} {fault}: {str(error).rstrip('.')}. {mend}.") from error


def _typed(told: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """Return an entry of a header, refusing one of another type; no bool is a number.

    Raises:
        ValueError: If there is none.
        TypeError: If it is of another type.
    """
    if name not in told:
        raise ValueError(f"it has no {name}")
    if type(told[name]) not in kinds:
        raise TypeError(f"its {name} is {told[name]!r}")
    return told[name]


def _components(reduced: Mapping[str, Any]) -> int:
    """Return how many components a header states, once all that it says of them can be used."""
    _typed(reduced, "sha256", str)
    for share in _typed(reduced, "explained", list):
        _typed({"explained share": share}, "explained share", float, int)
    components: int = _typed(reduced, "components", int)
    return components


def grid_of(path: Path | str, transform: Affine, shape: tuple[int, int], crs: str | None, written: str) -> Grid:
    """Return the grid that a file states.

    Args:
        path: The file.
        transform: From (col, row) to its reference system.
        shape: (height, width).
        crs: Its reference system.
        written: That of the field when it was written.

    Raises:
        FormatError: If its pixels are not squares, north up, in that reference
            system, as in a copy that another program has reprojected or stretched.
    """
    # The header travels with such a copy, and places would be looked up in it as if it were the field.
    square = transform.b == transform.d == 0 and abs(transform.a + transform.e) <= TOLERANCE * abs(transform.a)
    if crs != written or not square or transform.a <= 0:
        raise FormatError(
            f"{path} is no field any more: its pixels ({crs or 'no CRS'}, {transform.a:g} by {transform.e:g}) are not "
            f"squares in {written}, north up. Open the field that embedfield wrote."
        )
    height, width = shape
    try:
        return Grid(west=transform.c, north=transform.f, res=transform.a, width=width, height=height, crs=crs)
    except GridError as error:
        raise FormatError(f"{path} is no field any more: {error} Open the field that embedfield wrote.") from error


def check_bands(path: Path | str, count: int, dim: int) -> None:
    """Refuse a file that lacks some of its model's bands.

    Raises:
        FormatError: If it does.
    """
    if count != dim:
        raise FormatError(
            f"{path} is no field any more: it has {count} bands, and its model has {dim}. "
            "Open the field that embedfield wrote."
        )


def packing_of(path: Path | str, dtype: str, scale: npt.ArrayLike, offset: npt.ArrayLike) -> Packing:
    """Return the packing that a file states.

    Raises:
        FormatError: If its dtype is none that this embedfield unpacks, or its
            scales and offsets are not those of any packing.
    """
    known = [name for name in DTYPES if name == dtype]
    if not known:
        raise FormatError(f"{path} stores {dtype}; this embedfield reads {', '.join(DTYPES)}. Update it.")
    scales, offsets = np.asarray(scale, dtype=np.float64), np.asarray(offset, dtype=np.float64)
    # A chunk of them that is lost would be read as zeros, and every pixel of a band be the same.
    if scales.shape != offsets.shape or not (np.isfinite(scales) & np.isfinite(offsets) & (scales > 0)).all():
        raise FormatError(f"{path} has lost how its numbers are packed. Build it again.")
    return Packing(known[0], scales, offsets)


def header_of(field: Field, packing: Packing, saturated: int) -> dict[str, Any]:
    """Return what a format keeps beside the numbers: plain data for JSON."""
    return {
        "version": HEADER_VERSION,
        "card": field.card.to_dict(),
        "provenance": dict(field.provenance),
        "saturated": saturated,
        "dtype": packing.dtype,
        "crs": field.grid.crs,
        **({"reduction": field.reduction.to_dict()} if field.reduction else {}),
    }


def no_header(path: Path | str) -> FormatError:
    """Return the refusal of a raster that embedfield did not write."""
    return FormatError(
        f"{path} is no field of embedfield: it has no '{HEADER}' header. Make one with 'embedfield build', or enter "
        "one that others made with 'embedfield catalog add'."
    )


def parse_header(text: str | None, path: Path | str) -> Any:
    """Return the header that a file keeps as text.

    Raises:
        FormatError: If there is none.
    """
    if text is None:
        raise no_header(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"{path} has a header that cannot be read: {error}. Build the field again.") from error
