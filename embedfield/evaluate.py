"""Evaluator and EncodedField: an encoder on a device, at a precision, in batches."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from embedfield import models
from embedfield.errors import DeviceError, PlacesError
from embedfield.field import Field, Method
from embedfield.places import checked, turned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card
    from embedfield.encoders import Encoder
    from embedfield.grid import Grid, Window

Precision = Literal["float32", "float64"]
# Places in one batch. On a CPU the activations of a batch should stay in cache.
BATCH = {"cpu": 2048, "cuda": 131_072}


class Evaluator:
    """An encoder made ready: numpy in, numpy out.

    Safe to call from one thread at a time.
    """

    def __init__(self, encoder: Encoder, device: str = "auto", precision: Precision | None = None) -> None:
        """Put an encoder on a device.

        Args:
            encoder: What to evaluate; it is moved and cast.
            device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or
                ``cuda:N``.
            precision: ``float32`` or ``float64``; None for that of the
                encoder's official code.

        Raises:
            DeviceError: If this machine has no such device, or there is no
                such precision.
        """
        self.device = _device(device)
        self.precision: Precision = precision or encoder.card.dtype
        if self.precision not in get_args(Precision):
            raise DeviceError(f"precision={precision!r}. Choose from: {', '.join(get_args(Precision))}.")
        self._dtype: torch.dtype = getattr(torch, self.precision)
        self._encoder = encoder.ready(self.device, self._dtype)
        self._batch = BATCH[self.device.type]

    @property
    def card(self) -> Card:
        """The model."""
        return self._encoder.card

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.card.dim

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
        result = np.empty((len(places), self.dim), dtype=self.precision)
        with torch.inference_mode():
            for batch in self._batches(places):
                result[batch] = self._numpy(self._encoder.encode(self._tensor(places[batch])))
        return result

    def _batches(self, places: npt.NDArray[np.float64]) -> Iterator[slice | npt.NDArray[np.int64]]:
        """Yield which places are encoded together."""
        groups = self._encoder.groups(torch.tensor(places))
        order = None if groups is None else groups.argsort(stable=True).numpy()
        for start in range(0, len(places), self._batch):
            batch = slice(start, start + self._batch)
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
        result = np.full((len(lats), len(lons), self.dim), np.nan, dtype=self.precision)
        result[defined] = self._lattice(lons, lats[defined])
        return result

    def _lattice(self, lons: npt.NDArray[np.float64], lats: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        """Return embeddings (height, width, dim) of a lattice on which the encoder is defined."""
        result = np.empty((len(lats), len(lons), self.dim), dtype=self.precision)
        width = min(len(lons), self._batch) or 1
        height = max(1, self._batch // width)
        with torch.inference_mode():
            for row in range(0, len(lats), height):
                for col in range(0, len(lons), width):
                    rows, cols = slice(row, row + height), slice(col, col + width)
                    block = self._encoder.encode_lattice(self._tensor(lons[cols]), self._tensor(lats[rows]))
                    result[rows, cols] = self._numpy(block)
        return result

    def _tensor(self, values: npt.NDArray[np.float64]) -> torch.Tensor:
        # A copy, for torch warns of arrays that may not be written to.
        return torch.tensor(values, device=self.device)

    def _numpy(self, values: torch.Tensor) -> npt.NDArray[np.floating]:
        found: npt.NDArray[np.floating] = values.to(self._dtype).cpu().numpy()
        return found


class EncodedField(Field):
    """A field that is computed as it is read: exact everywhere."""

    methods: tuple[Method, ...] = ("exact", "nearest", "bilinear")

    def __init__(self, evaluator: Evaluator, grid: Grid) -> None:
        """Spread an encoder over a grid; nothing is computed yet."""
        self.evaluator = evaluator
        self.card = evaluator.card
        self.grid = grid
        self.provenance = {
            "embedfield": version("embedfield"),
            "torch": torch.__version__,
            **evaluator.sha256,
            "precision": evaluator.precision,
        }

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the encoder at the pixel centres of a window, (dim, height, width), float32."""
        values = self.evaluator.encode_lattice(turned(self.grid.lons(window)), self.grid.lats(window))
        return values.transpose(2, 0, 1).astype(np.float32, copy=False)

    def _at(self, lonlat: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float32]:
        if method == "exact":
            return self.evaluator.encode(lonlat).astype(np.float32, copy=False)
        return super()._at(lonlat, method)


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
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``float32`` or ``float64``; None for the official one.
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


def _device(name: str) -> torch.device:
    """Return the device of a name, once it is known to be there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device={name!r} is no device. Choose from: auto, cpu, cuda, cuda:N.") from error
    if device.type not in BATCH:
        raise DeviceError(f"device={name!r} does not compute in float64, as positions must be. Use auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"device={name!r} is not here: torch sees {count} CUDA devices. Use --device auto or cpu.")
    return device


def _checked_axes(lons: npt.ArrayLike, lats: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the two axes of a lattice, held to the rules for places."""
    lon, lat = np.asarray(lons, dtype=np.float64), np.asarray(lats, dtype=np.float64)
    if lon.ndim != 1 or lat.ndim != 1:
        raise PlacesError(f"A lattice of shapes {lon.shape} and {lat.shape}. Give 1-D longitudes and 1-D latitudes.")
    return (
        checked(np.column_stack((lon, np.zeros(len(lon)))))[:, 0],
        checked(np.column_stack((np.zeros(len(lat)), lat)))[:, 1],
    )
