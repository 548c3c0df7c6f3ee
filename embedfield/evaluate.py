"""Evaluator and EncodedField: an encoder on a device, at a precision, in batches."""

from __future__ import annotations

import copy
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np
import torch

from embedfield import models
from embedfield.encoders.linear import choosable, multiply
from embedfield.encoders.workers import Workers
from embedfield.errors import DeviceError, GridError, PlacesError
from embedfield.field import Field, Method
from embedfield.grid import Grid
from embedfield.places import checked, turned
from embedfield.processors import given
from embedfield.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.encoders import Encoder
    from embedfield.encoders.lattice import Lattice
    from embedfield.region import Region

Precision = Literal["float64", "float32", "tf32", "bf16"]
ROUNDED: Final = ("tf32", "bf16")
# Precisions of a kind of device, the fastest first.
SPEED: dict[str, tuple[Precision, ...]] = {
    "cpu": ("bf16", "float32", "float64"),
    "cuda": ("bf16", "tf32", "float32", "float64"),
    "mps": ("bf16", "float32"),
}
# Places in one batch. On a CPU the activations of a batch should stay in cache.
BATCH = {"cpu": 1024, "cuda": 131_072, "mps": 16_384}
# Fewer places than a batch are divided into about so many, of so many places at least.
SHARES, LEAST = 16, 128
# Rows of a lattice for which what is common to pixels of a row is held at a time.
TABLES = 64
# Single pixels whose vectors are held at a time.
PART = 16_384
# The most centres along a side of a pixel.
MOST_CENTRES = 16


class Evaluator:
    """An encoder made ready: numpy in, numpy out.

    Safe to call from one thread at a time.
    """

    def __init__(self, encoder: Encoder, device: str = "auto", precision: Precision | None = None) -> None:
        """Put an encoder on a device.

        Args:
            encoder: What to evaluate; it is moved and cast.
            device: ``auto`` (an NVIDIA GPU where there is one), ``cpu``,
                ``cuda``, ``cuda:N`` or ``mps``.
            precision: ``float64``, ``float32``, or float32 of which matrix
                products take 11 (``tf32``) or 8 (``bf16``) binary digits; None
                for that of the encoder's official code, on ``mps``, which has
                no float64, for float32.

        Raises:
            DeviceError: If this machine has no such device, or the device or
                the encoder no such precision.
        """
        self.device = _device(device)
        self.precision: Precision = precision or (encoder.card.dtype if self.device.type != "mps" else "float32")
        _check_precision(encoder, self.device, self.precision)
        self._dtype = torch.float64 if self.precision == "float64" else torch.float32
        self._numbers: npt.DTypeLike = "float64" if self.precision == "float64" else "float32"
        self._encoder = encoder.ready(self.device, self._dtype)
        multiply(self._encoder, self.precision if self.precision in ROUNDED else "full")
        # Positions are computed in float64, where the device has it.
        self._host = torch.device("cpu") if self.device.type == "mps" else self.device
        self._batch = BATCH[self.device.type]
        several = self.device.type == "cpu" and encoder.concurrent
        self._workers = Workers((given() or torch.get_num_threads()) if several else 1)

    @property
    def faster(self) -> tuple[Precision, ...]:
        """The precisions in which its device is faster than in its own, the fastest first."""
        order = SPEED[self.device.type]
        return tuple(
            name
            for name in order[: order.index(self.precision)]
            if _reason(self._encoder, self.device, name) is None and (name != "bf16" or _has_bf16(self.device))
        )

    def at(self, precision: Precision) -> Evaluator:
        """Return an evaluator of a copy of the encoder, on the same device, at another precision."""
        return Evaluator(copy.deepcopy(self._encoder), str(self.device), precision)

    @property
    def card(self) -> Card:
        """The model."""
        return self._encoder.card

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.card.dim

    @property
    def local(self) -> bool:
        """Whether each part of the world has a network of its own, so that asking everywhere takes long."""
        return self._encoder.local

    @property
    def sha256(self) -> dict[str, str | None]:
        """Digests of the files that the encoder came from; None for an encoder without weights."""
        digests = {"weights_sha256": self._encoder.weights_sha256}
        database = self._encoder.database_sha256
        return digests | ({"database_sha256": database} if database else {})

    def encode(self, lonlat: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Return embeddings of places.

        Args:
            lonlat: Degrees (lon, lat), (N, 2); lon in [-180, 360), lat in [-90, 90].

        Returns:
            (N, dim), in the evaluator's precision; NaN where the encoder has
            no value, as GPS2Vec in a zone without photographs.

        Raises:
            PlacesError: If a coordinate is not finite, or out of the range of
                the globe or of the encoder.
        """
        places = checked(lonlat, self.card.latitudes, self.card.name)
        result = np.empty((len(places), self.dim), dtype=self._numbers)
        room = torch.from_numpy(result)  # Torch turns what lies band by band in a fifth of numpy's time.

        def fill(batch: slice | npt.NDArray[np.int64]) -> None:
            room[batch] = self._encoder.encode(self._tensor(places[batch])).to("cpu", self._dtype)

        self._workers.each(fill, self._batches(places))
        return result

    def _batches(self, places: npt.NDArray[np.float64]) -> Iterator[slice | npt.NDArray[np.int64]]:
        """Yield which places are encoded together."""
        groups = self._encoder.groups(torch.tensor(places))
        order = None if groups is None else groups.argsort(stable=True).numpy()
        # Few places are shared out too; by their number alone, so that threads change no bit.
        size = min(self._batch, max(LEAST, -(-len(places) // SHARES))) if self.device.type == "cpu" else self._batch
        for start in range(0, len(places), size):
            batch = slice(start, start + size)
            yield batch if order is None else order[batch]

    def encode_lattice(self, lons: npt.ArrayLike, lats: npt.ArrayLike) -> npt.NDArray[np.floating]:
        """Return embeddings of every pair of a longitude and a latitude.

        Much faster than `encode` at the same places where the encoder's
        positional encoding separates; equal to it but for rounding.

        Args:
            lons: Degrees, (width,), in [-180, 360).
            lats: Degrees, (height,), in [-90, 90].

        Returns:
            (height, width, dim), in the evaluator's precision; NaN at latitudes
            where the encoder is not defined, and wherever else it has no value.

        Raises:
            PlacesError: If a coordinate is not finite, or out of the range of
                the globe.
        """
        lons, lats = _checked_axes(lons, lats)
        south, north = self.card.latitudes
        defined = (lats >= south) & (lats <= north)
        if defined.all():
            return self._lattice(lons, lats)
        result = np.full((self.dim, len(lats), len(lons)), np.nan, dtype=self._numbers).transpose(1, 2, 0)
        result[defined] = self._lattice(lons, lats[defined])
        return result

    def _lattice(self, lons: npt.NDArray[np.float64], lats: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        """Return embeddings of a lattice on which the encoder is defined, (height, width, dim), band by band."""
        result = self._room(len(lats), len(lons))
        tops = range(0, len(lats), TABLES)

        def ready(top: int) -> Lattice:
            return self._encoder.lattice(self._tensor(lons), self._tensor(lats[top : top + TABLES]))

        # What pixels of a row have in common is computed once, for so many rows at a time.
        for top, lattice in zip(tops, self._workers.ahead(ready, tops), strict=True):
            rows = result[:, top : top + TABLES]

            def fill(block: tuple[slice, slice], rows: torch.Tensor = rows, lattice: Lattice = lattice) -> None:
                # Turned first where they lie pixel by pixel: to turn them on the way into the raster takes longer.
                rows[:, *block].copy_(lattice.block(*block).contiguous())

            self._workers.each(fill, self._blocks(*rows.shape[1:]))
        return result.numpy().transpose(1, 2, 0)

    def _room(self, height: int, width: int) -> torch.Tensor:
        """Return room for a lattice, (dim, height, width), where its device writes fastest."""
        shape = (self.dim, height, width)
        if self.device.type == "cuda":
            return torch.empty(shape, dtype=self._dtype, pin_memory=True)
        # Numpy asks for large pages, of which the system makes fewer.
        return torch.from_numpy(np.empty(shape, dtype=self._numbers))

    def _blocks(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Yield the blocks of a lattice: as many pixels as a batch, whole rows if they fit."""
        pieces = max(1, -(-width // self._batch))
        wide = max(1, -(-width // pieces))
        high = max(1, self._batch // wide)
        for row in range(0, height, high):
            for col in range(0, width, wide):
                yield slice(row, row + high), slice(col, col + wide)

    def _tensor(self, values: npt.NDArray[np.float64]) -> torch.Tensor:
        # A copy, for torch warns of arrays that may not be written to.
        return torch.tensor(values, device=self._host)


def check_centres(supersample: int) -> None:
    """Refuse what is no number of centres along a side of a pixel.

    Raises:
        GridError: If it is so.
    """
    if not isinstance(supersample, int) or isinstance(supersample, bool) or not 1 <= supersample <= MOST_CENTRES:
        raise GridError(
            f"supersample={supersample!r} is no number of centres along a side of a pixel. "
            f"Give a whole number from 1 to {MOST_CENTRES}."
        )


class EncodedField(Field):
    """A field that is computed as it is read: exact everywhere."""

    methods: tuple[Method, ...] = ("exact", "nearest", "bilinear")

    def __init__(
        self,
        evaluator: Evaluator,
        grid: Grid,
        *,
        supersample: int = 1,
        region: Region | None = None,
        precision_error: float | None = None,
    ) -> None:
        """Spread an encoder over a grid; nothing is computed yet.

        Args:
            evaluator: The model.
            grid: Where the pixels are.
            supersample: A pixel is the mean over so many times so many
                centres, 1 to 16, of the parts that it is divided into, by
                their area. 1 for the value at its own centre.
            region: The area outside of which pixels have no value, and are
                not computed; None for the whole grid. `at` is not bound by it
                where it answers ``exact``.
            precision_error: What the evaluator's precision costs, where that
                is known: the root mean square difference from the official
                one, by each band's standard deviation.

        Raises:
            GridError: If supersample is no such number.
        """
        check_centres(supersample)
        self.evaluator = evaluator
        self.card = evaluator.card
        self.grid = grid
        self.supersample = supersample
        self.region = region
        self.accelerated = evaluator.device.type != "cpu"
        self.provenance = {
            "embedfield": version("embedfield"),
            "torch": torch.__version__,
            **evaluator.sha256,
            "precision": evaluator.precision,
            **({} if precision_error is None else {"precision_error": float(f"{precision_error:.2g}")}),
            **({"supersample": supersample} if supersample > 1 else {}),
            **({"region": {"name": region.name, "sha256": region.sha256}} if region else {}),
        }

    @classmethod
    def everywhere(cls, evaluator: Evaluator) -> Self:
        """Return an encoder as a field without pixels: it answers ``exact`` at any place, and nothing else."""
        field = cls(evaluator, Grid.from_bounds(90.0))
        field.methods = ("exact",)
        return field

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the encoder over the pixels of a window, (dim, height, width), float32.

        NaN outside of the region, off the globe, and beyond the latitudes of
        the encoder. What a pixel holds depends on the window only in its last
        bits: in which order a matrix product adds up depends on its size.
        """
        window = self.grid.checked(window)
        if self.region is None and self.grid.geographic:
            return self._lattice(window)
        wanted = np.ones((window.height, window.width), dtype=bool)
        if self.region:
            wanted = self.region.mask(self.grid, window)
        rows, cols = np.nonzero(wanted)
        result = np.full((self.dim, *wanted.shape), np.nan, dtype=np.float32)
        if self.grid.geographic and len(rows):
            inner = Window(int(cols.min()), int(rows.min()), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1)
            values = self._lattice(
                Window(window.col_off + inner.col_off, window.row_off + inner.row_off, inner.width, inner.height)
            )
            result[:, inner.rows, inner.cols] = np.where(wanted[inner.rows, inner.cols], values, np.nan)
        elif len(rows):
            for part in (slice(start, start + PART) for start in range(0, len(rows), PART)):
                values = self._single(rows[part] + window.row_off, cols[part] + window.col_off)
                result[:, rows[part], cols[part]] = values.T
        return result

    def _at(self, lonlat: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float32]:
        if method == "exact":
            return self._encoded(lonlat).astype(np.float32, copy=False)
        return super()._at(lonlat, method)

    def _parts(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        # A block would cost as much as its thousands of pixels, of which few may be wanted.
        pixels = rows * self.grid.width + cols
        order = np.argsort(pixels, kind="stable")
        for start in range(0, len(order), PART):
            members = order[start : start + PART]
            each, where = np.unique(pixels[members], return_inverse=True)
            rows, cols = np.divmod(each, self.grid.width)
            values = np.full((len(each), self.dim), np.nan, dtype=np.float32)
            wanted = self.region.contains(self.grid, rows, cols) if self.region else np.ones(len(each), dtype=bool)
            values[wanted] = self._single(rows[wanted], cols[wanted])
            yield members, values[where]

    def _lattice(self, window: Window) -> npt.NDArray[np.float32]:
        """Return the encoder over a window of longitudes and latitudes, (dim, height, width)."""
        lons, lats, res = self.grid.lons(window), self.grid.lats(window), self.grid.res

        def parts() -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]]:
            for down, right in self._centres():
                lat = lats - down * res
                values = self.evaluator.encode_lattice(turned(lons + right * res), lat)
                yield values, np.cos(np.deg2rad(lat))[:, None]

        return _mean(parts(), self.supersample**2).transpose(2, 0, 1).astype(np.float32, copy=False)

    def _single(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the encoder over single pixels, (N, dim)."""

        def parts() -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]]:
            for down, right in self._centres():
                lonlat = self.grid.places_at(rows + 0.5 + down, cols + 0.5 + right)
                weight = np.cos(np.deg2rad(lonlat[:, 1])) if self.grid.geographic else np.ones(len(lonlat))
                yield self._encoded(lonlat), weight

        return _mean(parts(), self.supersample**2).astype(np.float32, copy=False)

    def _encoded(self, lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        """Return the encoder at places (N, dim): NaN where it is not defined, and where a place is NaN."""
        south, north = self.card.latitudes
        defined = (lonlat[:, 1] >= south) & (lonlat[:, 1] <= north)
        if defined.all():
            return self.evaluator.encode(lonlat)
        values = self.evaluator.encode(lonlat[defined])
        result = np.full((len(lonlat), self.dim), np.nan, dtype=values.dtype)
        result[defined] = values
        return result

    def _centres(self) -> list[tuple[float, float]]:
        """Return where in a pixel the encoder is asked: (down, right) of its centre, in pixels."""
        steps = (np.arange(self.supersample) + 0.5) / self.supersample - 0.5
        return [(float(down), float(right)) for down in steps for right in steps]


def _mean(
    parts: Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]], count: int
) -> npt.NDArray[np.floating]:
    """Return means by weight of vectors, leaving out those without a value; a single one bit for bit.

    Args:
        parts: Vectors (…, dim), which are written over, and their weights,
            that broadcast to (…).
        count: How many parts there are.

    Returns:
        (…, dim), in the vectors' precision; NaN where none has a value.
    """
    if count == 1:
        return next(parts)[0]
    total, weights = None, np.zeros(())
    for values, weight in parts:
        there = ~np.isnan(values).any(axis=-1)
        share = np.where(there, weight, 0.0)
        values[~there] = 0.0
        np.multiply(values, share[..., None], out=values, casting="same_kind")
        total = values if total is None else np.add(total, values, out=total)
        weights = weights + share
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.floating] = total / weights[..., None].astype(values.dtype)
    return mean


def load(
    model: str | Card,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: Precision | None = None,
    *,
    dims: int | None = None,
    database: str | Path | None = None,
    offline: bool = False,
    report: Callable[[str], None] | None = None,
    **inputs: Any,
) -> Evaluator:
    """Return a model, ready to encode places.

    Args:
        model: A model's name or alias, of which `cards` has the list; or a card
            of your own, as `read_card` reads it.
        weights: A checkpoint of your own; None for the released one, fetched
            once and then kept in the cache.
        device: ``auto`` (an NVIDIA GPU where there is one), ``cpu``, ``cuda``,
            ``cuda:N``, ``mps``.
        precision: ``float64``, ``float32``, ``tf32`` or ``bf16``; None for the
            official one.
        dims: Length of the prefix that is wanted of a Matryoshka model, such as
            ``mind``; None for its card's.
        database: A database of your own, for a model that looks things up, such
            as ``range``; None for the released one.
        offline: Never touch the network.
        report: Told what is fetched, before it is.
        inputs: What is asked beside the place, such as ``month=7``, by the
            names in the model's card.

    Raises:
        UnknownModelError: If there is no such model.
        InputsError: If the model takes no input of a name, or not that number.
        WeightsError: If the weights cannot be had or are not the model's.
        DeviceError: If this machine has no such device or precision.
    """
    encoder = models.load(model, weights, inputs, dims=dims, database=database, offline=offline, report=report)
    return Evaluator(encoder, device, precision)


def gpus() -> int:
    """Return how many NVIDIA GPUs this machine has."""
    return torch.cuda.device_count()


def _device(name: str) -> torch.device:
    """Return the device of a name, once it is known to be there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device={name!r} is no device. Choose from: auto, cpu, cuda, cuda:N, mps.") from error
    if device.type not in SPEED:
        raise DeviceError(f"device={name!r} is of no kind that is known here. Use auto, cpu, cuda, cuda:N or mps.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device={name!r} is not here: it is a Mac's own. Use --device auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"device={name!r} is not here: torch sees {count} CUDA devices. Use --device auto or cpu.")
    return device


def _check_precision(encoder: Encoder, device: torch.device, precision: str) -> None:
    """Refuse a precision that there is not.

    Raises:
        DeviceError: If there is no such precision, or not on a device, or not of an encoder.
    """
    if precision not in get_args(Precision):
        raise DeviceError(f"precision={precision!r}. Choose from: {', '.join(get_args(Precision))}.")
    if reason := _reason(encoder, device, precision):
        raise DeviceError(f"precision={precision!r} cannot be had: {reason}. Choose another, or leave it out.")


def _reason(encoder: Encoder, device: torch.device, precision: str) -> str | None:
    """Return why an encoder cannot be evaluated on a device at a precision; None if it can."""
    if device.type == "mps" and (precision == "float64" or encoder.wants_float64):
        return f"{device} has no float64, in which {encoder.card.name} is computed"
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        return f"{device} has none; NVIDIA's GPUs have it since Ampere"
    if precision in ROUNDED and not (encoder.roundable and choosable(encoder)):
        return f"{encoder.card.name} has no products of matrices that may be rounded"
    return None


def _has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  no other name


def _checked_axes(lons: npt.ArrayLike, lats: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the two axes of a lattice, held to the rules for places."""
    lon, lat = np.asarray(lons, dtype=np.float64), np.asarray(lats, dtype=np.float64)
    if lon.ndim != 1 or lat.ndim != 1:
        raise PlacesError(f"A lattice of shapes {lon.shape} and {lat.shape}. Give 1-D longitudes and 1-D latitudes.")
    return (
        checked(np.column_stack((lon, np.zeros(len(lon)))))[:, 0],
        checked(np.column_stack((np.zeros(len(lat)), lat)))[:, 1],
    )
