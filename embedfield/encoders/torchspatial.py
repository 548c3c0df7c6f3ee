"""TorchSpatial: ten positional encodings under one small network (Wu et al. 2024, arXiv 2406.15658)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from embedfield.encoders import Composed
from embedfield.encoders.checkpoint import (
    check_tensors,
    check_variant,
    given,
    mapping,
    option,
    parameter,
    read_checkpoint,
    require,
    shown,
    tensors_below,
)
from embedfield.encoders.positional import (
    RADIANS,
    GridCells,
    Nerf,
    PositionalEncoding,
    Sphere2Vec,
    TheoryCells,
    UnitVector,
    Wrap,
)
from embedfield.encoders.space2vec import MOST_FREQUENCIES, feed_forward, frequencies
from embedfield.errors import CardError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "TorchSpatial"
# NeRF has 16 frequencies whatever the parameters say: the official code sets them so.
NERF_FREQUENCIES = 16


class TorchSpatial(Composed):
    """A geo-prior of TorchSpatial's benchmark, up to its classes; the embedding is not normalised."""

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official checkpoint, with the checkpoint's own parameters.

        Raises:
            WeightsError: If there is no file, or it is no TorchSpatial
                checkpoint, or one of another variant than the card's.
        """
        path = given(card, weights)
        checkpoint = read_checkpoint(path)
        parameters = mapping(checkpoint, "params")
        state = tensors_below(mapping(checkpoint, "state_dict"), "spa_enc.", path, FAMILY)
        told = {name: option(card, name, str) for name in ("spa_enc_type", "dataset")}
        check_variant(card, parameters, told, path)
        posenc = _posenc(told["spa_enc_type"], parameters, state, path)
        network = feed_forward(tensors_below(state, "ffn.", path, FAMILY), parameters, posenc.dim, path, FAMILY)
        return cls(replace(card, dim=network.dim), posenc, network).eval()


def _posenc(kind: str, parameters: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> PositionalEncoding:
    """Return the positional encoding of a type of the official code."""
    match kind:
        case "xyz":
            return UnitVector()
        case "wrap_ffn":
            return Wrap((360.0, 180.0), sines_first=True)
        case "NeRF":
            return Nerf(NERF_FREQUENCIES)
        case "rff":
            return RandomFourier.of(parameters, state, path)
        case "Sphere2Vec-sphereM+":
            return Sphere2Vec("sphereM+", _powers(parameters, path), unit=RADIANS, repeats=1)
        case _:
            return _scaled(kind, frequencies(parameters, path, FAMILY))


def _scaled(kind: str, scales: Tensor) -> PositionalEncoding:
    """Return a positional encoding of geometric frequencies.

    Raises:
        CardError: If there is none such.
    """
    if kind == "Space2Vec-grid":
        return GridCells(scales)
    if kind == "Space2Vec-theory":
        return TheoryCells(scales, halves=False)
    functions = kind.removeprefix("Sphere2Vec-")
    if functions not in Sphere2Vec.COUNTS:
        raise CardError(f"{FAMILY} has no positional encoding {kind!r}. Correct spa_enc_type in the card's options.")
    return Sphere2Vec(functions, scales, unit=RADIANS, repeats=1)


def _powers(parameters: Mapping[str, Any], path: Path) -> Tensor:
    """Return sphereM+'s frequencies, (F,), float64: powers of the greatest radius from 0 to -1, whatever the least."""
    number = parameter(parameters, "frequency_num", int, path, FAMILY)
    greatest = parameter(parameters, "max_radius", float, path, FAMILY)
    if 2 <= number <= MOST_FREQUENCIES and 0 < greatest < math.inf:
        scales = greatest ** (-torch.arange(number, dtype=torch.float64) / (number - 1))
        if scales.isfinite().all():
            return scales
    raise WeightsError(
        f"{path} is not a {FAMILY} checkpoint: {shown(number)} frequencies up to the radius {greatest:g} make no "
        f"scale. Give the file that {FAMILY} released."
    )


class RandomFourier:
    """Cosines along random directions of a plane map, whose corners are (-1, -1) and (1, 1).

    Source: Rahimi and Recht 2007, "Random Features for Large-Scale Kernel
    Machines"; directions, shifts and corners are those of the checkpoint. One
    released model has North America's corners although its data are global.
    """

    periodic = one_pole = False

    def __init__(self, directions: Tensor, shift: Tensor, corners: tuple[float, float, float, float]) -> None:
        """Take the map and the directions.

        Args:
            directions: (2, n), float64.
            shift: (n,), float64.
            corners: Least and greatest longitude, least and greatest latitude, degrees.
        """
        self.directions = directions
        self.shift = shift
        self.dim = len(shift)
        self.least = torch.tensor(corners[::2], dtype=torch.float64)
        self.span = torch.tensor(corners[1::2], dtype=torch.float64) - self.least
        # Of an angle of two parts: cos(a + b) = cos a cos b - sin a sin b.
        self.features = torch.arange(self.dim).repeat(2)
        self.columns = 1 + torch.arange(2 * self.dim)

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return the features (N, n), float64."""
        device = lonlat.device
        plane = (lonlat - self.least.to(device)) / self.span.to(device) * 2 - 1
        return torch.cos(plane @ self.directions.to(device) + self.shift.to(device)) * math.sqrt(2 / self.dim)

    def along_lon(self, lons: Tensor) -> Tensor:
        """Return 1, then cosines and sines of the angles of longitude, (n_lons, 1 + 2 n), float64."""
        angle = self._along(lons, 0)
        return torch.cat((torch.ones_like(lons)[:, None], angle.cos(), angle.sin()), dim=-1)

    def along_lat(self, lats: Tensor) -> Tensor:
        """Return cosines and minus the sines of the shifted angles of latitude, (n_lats, 2 n), float64."""
        angle = self._along(lats, 1) + self.shift.to(lats.device)
        return torch.cat((angle.cos(), -angle.sin()), dim=-1) * math.sqrt(2 / self.dim)

    def _along(self, degrees: Tensor, axis: int) -> Tensor:
        """Return each direction's angle of one coordinate, (len(degrees), n)."""
        plane = (degrees - self.least[axis]) / self.span[axis] * 2 - 1
        return plane[:, None] * self.directions[axis].to(degrees.device)

    @classmethod
    def of(cls, parameters: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> Self:
        """Return the features that a checkpoint describes.

        Raises:
            WeightsError: If it does not.
        """
        names = [f"position_encoder.{name}" for name in ("dirvec", "shift")]
        require(state, names, path, FAMILY)
        check_tensors({name: state[name] for name in names}, path, FAMILY)
        directions, shift = (state[name].double() for name in names)
        if shift.ndim != 1 or not len(shift) or directions.shape != (2, *shift.shape):
            raise WeightsError(
                f"{path} does not fit {FAMILY}: its directions are {tuple(directions.shape)} and its shifts "
                f"{tuple(shift.shape)}, and should be (2, n) and (n,). Give the file that {FAMILY} released."
            )
        return cls(directions, shift, _corners(parameters.get("map_range"), path))


def _corners(found: Any, path: Path) -> tuple[float, float, float, float]:
    """Return the sides of a map: west, east, south, north, degrees.

    Raises:
        WeightsError: If they are no four numbers, or the map has no width or height.
    """
    if isinstance(found, list | tuple) and len(found) == 4:
        west, east, south, north = (
            parameter({"map_range": corner}, "map_range", float, path, FAMILY) for corner in found
        )
        if -math.inf < west < east < math.inf and -math.inf < south < north < math.inf:
            return west, east, south, north
    raise WeightsError(
        f"{path} is not a {FAMILY} checkpoint: its map is {shown(found)}, and should be least and greatest longitude, "
        f"least and greatest latitude. Give the file that {FAMILY} released."
    )
