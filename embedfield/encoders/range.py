"""RANGE: SatCLIP, and what images of like places look like (Dhakal et al. 2025, arXiv 2502.19781)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from embedfield.encoders import Encoder
from embedfield.encoders.checkpoint import DAMAGED, brief, given, option
from embedfield.encoders.lattice import Lattice, pairs
from embedfield.encoders.positional import UnitVector
from embedfield.encoders.satclip import SatCLIP
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.card import Card

FAMILY = "RANGE"
# What the database holds: places (lon, lat), SatCLIP's image embeddings there, and embeddings of higher resolution.
ARRAYS = ("locs", "satclip_embeddings", "image_embeddings")
# Numbers of a table of similarities, places × entries, that are worked on at once.
TABLE = 1 << 24
# Share of likeness in RANGE+, where none is asked.
BETA = 0.5


class RANGE(Encoder):
    """Image embeddings averaged over a database by likeness, then SatCLIP's own embedding at length 1.

    A weight is a softmax over the entries of temperature × cosine: between
    SatCLIP's embedding of the place and those of the images (RANGE); RANGE+
    mixes in a second average, weighed by the cosine of the angle between the
    places, with the share 1 - beta.
    """

    wants_float64 = True
    roundable = False
    keys: Tensor
    """SatCLIP's embeddings of the images at length 1, (entries, n)."""
    values: Tensor
    """What is averaged, (entries, m)."""
    places: Tensor
    """Where the images are, as unit vectors, (entries, 3)."""

    def __init__(self, card: Card, tower: SatCLIP, database: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Put a tower and a database (`ARRAYS`) together."""
        super().__init__(replace(card, dim=database["image_embeddings"].shape[1] + tower.card.dim))
        self.tower = tower
        self.temperature = option(card, "temperature", float)
        places, keys, values = (torch.from_numpy(np.asarray(database[name], dtype=np.float64)) for name in ARRAYS)
        self.keys = keys / keys.norm(dim=1, keepdim=True)
        self.values = values
        self.places = UnitVector().encode(places)

    @classmethod
    def from_card(cls, card: Card, weights: Path | None, database: Path | None = None) -> Self:
        """Return the encoder of a SatCLIP checkpoint and a database.

        Raises:
            WeightsError: If a file is not given, or not what it should be, or
                the two are of different lengths.
        """
        tower = SatCLIP.from_card(card, given(card, weights))
        if database is None:
            raise WeightsError(f"{card.name} needs its database of images. Give one with --database FILE.")
        held = _read_database(database)
        if held["satclip_embeddings"].shape[1] != tower.card.dim:
            raise WeightsError(
                f"{database} has SatCLIP embeddings of {held['satclip_embeddings'].shape[1]} dimensions, and {weights} "
                f"makes {tower.card.dim}. Give a database and a checkpoint that belong together."
            )
        return cls(card, tower, held).eval()

    def ready(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the encoder on a device, the database at a precision; SatCLIP stays in float64, as officially."""
        self.tower.to(device=device, dtype=torch.float64)
        self.keys, self.values, self.places = (part.to(device, dtype) for part in (self.keys, self.values, self.places))
        return self.eval()

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2)."""
        return self._found(self.tower.encode(lonlat), lonlat)

    def lattice(self, lons: Tensor, lats: Tensor) -> Lattice:
        """Return embeddings of every pair of a longitude and a latitude, to be computed block by block."""
        return _OfTower(self.tower.lattice(lons, lats), self._found, lons, lats)

    def _found(self, own: Tensor, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of the tower's (N, n) and of places (N, 2)."""
        own = (own / own.norm(dim=1, keepdim=True)).to(self.keys.dtype)
        found = self._averages(own, self.keys, self.temperature)
        if "geo_temperature" in self.card.options:
            share = self.card.options.get("beta", BETA)
            near = UnitVector().encode(lonlat).to(self.keys.dtype)
            found *= share
            found += self._averages(near, self.places, self.card.options["geo_temperature"]) * (1 - share)
        return torch.cat((found, own), dim=1)

    def _averages(self, queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
        """Return averages of the values (N, m) by likeness of queries (N, n) and keys (entries, n)."""
        parts = torch.split(queries, max(1, TABLE // len(keys)))
        return torch.cat([torch.softmax(part @ keys.T * temperature, dim=1) @ self.values for part in parts])


class _OfTower(Lattice):
    """A lattice of what is found by a tower's embeddings."""

    def __init__(self, tower: Lattice, found: Callable[[Tensor, Tensor], Tensor], lons: Tensor, lats: Tensor) -> None:
        self.tower, self.found, self.lons, self.lats = tower, found, lons, lats

    def block(self, rows: slice, cols: slice) -> Tensor:
        own = self.tower.block(rows, cols)
        found = self.found(own.flatten(1).T, pairs(self.lons[cols], self.lats[rows]))
        return found.T.reshape(-1, *own.shape[1:])


def _read_database(path: Path) -> dict[str, npt.NDArray[np.floating]]:
    """Return the arrays of a database, read as numbers and never as pickled objects.

    Raises:
        WeightsError: If the file is damaged, no database, or holds objects.
    """
    try:
        held = _arrays(path)
    except KeyError as error:
        raise WeightsError(
            f"{path} is no {FAMILY} database: {brief(error.args[0])}. It should hold {', '.join(ARRAYS)}. "
            "Give the released one."
        ) from error
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is not a whole {FAMILY} database: {brief(error)}. "
            "It is an .npz of numbers; a pickle is not read, for it could run code. Fetch it again."
        ) from error
    count = len(held["locs"]) if held["locs"].ndim else 0
    for name, array in held.items():
        floats = array.dtype.kind == "f" and array.dtype.itemsize <= 8
        if not floats or array.ndim != 2 or len(array) != count or not array.size:
            raise WeightsError(
                f"{path} is no {FAMILY} database: its '{name}' is {brief(array.dtype)}{array.shape}, and should be "
                f"floating-point numbers for each of {count} entries. Fetch it again."
            )
        # One such entry would make every embedding NaN.
        if not np.isfinite(array).all():
            raise WeightsError(
                f"{path} is no {FAMILY} database: its '{name}' has entries that are not finite. Fetch it again."
            )
    if held["locs"].shape[1] != 2:
        raise WeightsError(
            f"{path} is no {FAMILY} database: its places have {held['locs'].shape[1]} coordinates, and should have "
            "longitude and latitude. Fetch it again."
        )
    if not np.linalg.norm(held["satclip_embeddings"].astype(np.float64), axis=1).all():
        raise WeightsError(
            f"{path} is no {FAMILY} database: its 'satclip_embeddings' has entries of length 0, which are like "
            "nothing. Fetch it again."
        )
    return held


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file, read as numbers."""
    with path.open("rb") as opened:
        file = np.load(opened, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is one array without a name")  # noqa: TRY004  of a file, not of an argument
        return {name: np.asarray(file[name]) for name in ARRAYS}
