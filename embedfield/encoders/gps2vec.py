"""GPS2Vec: a network for each UTM zone (Yin et al. 2019, SIGSPATIAL; Yin et al. 2021, ACM Multimedia)."""

from __future__ import annotations

import io
import re
import zipfile
from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from embedfield.encoders import Encoder, utm
from embedfield.encoders.checkpoint import DAMAGED, brief, fill, given, option, sizes
from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from embedfield.card import Card

FAMILY = "GPS2Vec"
# Cells of a zone, along each side, and how fast nearness to their centres falls, metres.
CELLS, SIGMA = 20, 20_000.0
HIDDEN = ("layer1", "layer2", "layer3")
# Networks that are kept: all that one band around the globe can have. One is 28 MB.
KEPT = 60
# A file that unpacks to more is no network of a zone.
MOST_BYTES = 1 << 30
NETWORK = re.compile(rf"(?:^|/)model_(\d+ [{utm.BANDS}])\.h5\Z")
# Zones that the official code's table leaves out: it fails in the North Sea.
UNDEFINED = {"31 V"}


class GPS2Vec(Encoder):
    """Class probabilities of one network a UTM zone, over the nearness of a place to the zone's 20 x 20 cells.

    Networks are read from their archive when a place lies in their zone. A
    zone that has none, for nobody took photographs there, has no value (NaN).
    """

    concurrent = False  # they would read one network twice, and drop each other's
    local = True

    def __init__(self, card: Card, path: Path, members: Mapping[str, str]) -> None:
        """Take an archive of networks.

        Args:
            card: The model; ``heads`` among its options names the output layers.
            path: The archive.
            members: Names of the archive's files, by zone.
        """
        super().__init__(card)
        self._path = path
        self._members = members
        self._networks: OrderedDict[str, ZoneNet] = OrderedDict()
        self._device, self._dtype = torch.device("cpu"), torch.float32

    @classmethod
    def from_card(cls, card: Card, weights: Path | None) -> Self:
        """Return the encoder of an official archive.

        Raises:
            WeightsError: If there is no file, it is no archive of GPS2Vec's
                networks, or one of another variant than the card's.
        """
        path = given(card, weights)
        members = _members(path)
        # One network tells whether all are of the card's variant.
        first = _read_network(path, next(iter(members.values())), option(card, "heads", list))
        return cls(replace(card, dim=first.dim), path, members).eval()

    def ready(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the encoder with its networks to come on a device, at a precision."""
        self._device, self._dtype = device, dtype
        self._networks.clear()
        return self.eval()

    def groups(self, lonlat: Tensor) -> Tensor:
        """Return a number for the zone of each of places (N, 2), (N,): a zone's network is then read once."""
        numbers, bands = utm.zones(lonlat)
        return numbers * len(utm.BANDS) + bands

    def encode(self, lonlat: Tensor) -> Tensor:
        """Return embeddings (N, dim) of places (N, 2) from 80° S to 84° N; NaN in zones without a network."""
        codes = self.groups(lonlat)
        result = torch.full((len(lonlat), self.card.dim), torch.nan, dtype=self._dtype, device=lonlat.device)
        for code in torch.unique(codes).tolist():
            number, letter = code // len(utm.BANDS), utm.BANDS[code % len(utm.BANDS)]
            zone = f"{number} {letter}"
            if zone in self._members and zone not in UNDEFINED:
                here = codes == code
                result[here] = self._network(zone)(
                    nearness(lonlat[here], number, letter).to(self._dtype).to(self._device)
                ).to(lonlat.device)
        return result

    def _network(self, zone: str) -> ZoneNet:
        """Return the network of a zone, from those that are kept or from the archive."""
        if zone not in self._networks:
            network = _read_network(self._path, self._members[zone], self.card.options["heads"])
            if network.dim != self.card.dim:
                raise WeightsError(
                    f"{self._path} makes {network.dim} dimensions in zone {zone} and {self.card.dim} in another. "
                    f"Give the archive that {FAMILY} released."
                )
            self._networks[zone] = network.to(self._device, self._dtype)
            if len(self._networks) > KEPT:
                self._networks.popitem(last=False)
        self._networks.move_to_end(zone)
        return self._networks[zone]


class ZoneNet(nn.Module):
    """Three ReLU layers, then a softmax for each head, side by side."""

    def __init__(self, sizes: Sequence[int], heads: Mapping[str, int]) -> None:
        """Make an unfilled network.

        Args:
            sizes: Features, and widths of the hidden layers.
            heads: Number of classes of each output layer, by name.
        """
        super().__init__()
        for name, (inputs, outputs) in zip(HIDDEN, pairwise(sizes), strict=True):
            self.add_module(name, nn.Linear(inputs, outputs, device="meta"))
        for name, classes in heads.items():
            self.add_module(name, nn.Linear(sizes[-1], classes, device="meta"))
        self.heads = tuple(heads)
        self.dim = sum(heads.values())

    def forward(self, features: Tensor) -> Tensor:
        """Return class probabilities (N, dim) of features (N, 400)."""
        hidden = features
        for name in HIDDEN:
            hidden = self.get_submodule(name)(hidden).relu_()
        return torch.cat([self.get_submodule(name)(hidden).softmax(dim=1) for name in self.heads], dim=1)


def nearness(lonlat: Tensor, number: int, letter: str) -> Tensor:
    """Return exp(-distance / sigma) from places (N, 2) to each cell's centre, column by column: (N, 400), float64."""
    west, south, east, north = utm.extent(number, letter)
    cells = torch.arange(CELLS, dtype=torch.float64, device=lonlat.device) + 0.5
    easting, northing = utm.metres(lonlat, number, letter).unbind(-1)
    across = easting[:, None] - (west + (east - west) / CELLS * cells)
    along = northing[:, None] - (south + (north - south) / CELLS * cells)
    distance = torch.sqrt(across[:, :, None] ** 2 + along[:, None, :] ** 2)
    return torch.exp(-distance / SIGMA).flatten(1)


def _members(path: Path) -> dict[str, str]:
    """Return the names of an archive's networks by zone.

    Raises:
        WeightsError: If it is no archive, or has none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is not a whole zip archive: {brief(error)}. {FAMILY}'s weights are one archive of a file for each "
            "zone. Fetch it again."
        ) from error
    found = {match[1]: name for name in names if (match := NETWORK.search(name))}
    if not found:
        raise WeightsError(
            f"{path} is no {FAMILY} archive: it has no file named like 'model_48 N.h5'. "
            f"Give the archive that {FAMILY} released, unpacked by nobody."
        )
    return found


def _read_network(path: Path, member: str, heads: Sequence[str]) -> ZoneNet:
    """Return a network of an archive.

    Raises:
        WeightsError: If it is damaged, or another network.
    """
    where = f"{path}, {brief(member)},"
    try:
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(_unpacked(archive, member)), "r") as file:
            state = {name: tensor for layer in (*HIDDEN, *heads) for name, tensor in _dense(file, layer).items()}
    except KeyError as error:
        raise WeightsError(
            f"{where} is no network of {' and '.join(heads)}: {brief(error.args[0])}. "
            "Use the model's own name, gps2vec-tag or gps2vec-visual."
        ) from error
    except DAMAGED as error:
        raise WeightsError(f"{where} is not a whole network: {brief(error)}. Fetch the archive again.") from error
    widths = sizes(state, HIDDEN, path, FAMILY)
    if widths[0] != CELLS**2:
        raise WeightsError(f"{where} takes {widths[0]} numbers, and a zone has {CELLS**2} cells. Fetch it again.")
    network = ZoneNet(widths, {head: sizes(state, [head], path, FAMILY)[1] for head in heads})
    fill(network, state, path, FAMILY)
    return network.eval()


def _unpacked(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return a file of an archive.

    Raises:
        ValueError: If it is too large to be a network.
    """
    size = archive.getinfo(member).file_size
    if size > MOST_BYTES:
        raise ValueError(f"it would unpack to {size} bytes")
    return archive.read(member)


def _dense(file: h5py.File, layer: str) -> dict[str, Tensor]:
    """Return weight and bias of a Keras layer, under our names.

    Raises:
        KeyError: If there is no such layer, or it is no dense one.
        ValueError: If its arrays are not a matrix and a row of numbers.
    """
    # A saved model keeps its weights in a group; saved weights are the file itself.
    group = _inside(file, f"model_weights/{layer}" if "model_weights" in file else layer)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["weight_names"]]
    if len(names) != 2:
        raise KeyError(f"layer {layer!r} has {len(names)} arrays")
    kernel, bias = (_array(_inside(group, name), axes) for name, axes in zip(names, (2, 1), strict=True))
    return {f"{layer}.weight": kernel.T.contiguous(), f"{layer}.bias": bias}


def _inside(group: Any, name: str) -> Any:
    """Return what a name leads to within its own file.

    Raises:
        KeyError: If it leads nowhere, or out of the file.
    """
    for part in name.split("/"):
        # A link of another kind may name any file of this machine.
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"it holds no {name!r}")
        group = group[part]
    return group


def _array(found: Any, axes: int) -> Tensor:
    """Return the numbers of an array of so many axes, float32.

    Raises:
        ValueError: If it is no such array, or its numbers are not in the file.
    """
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f" or found.ndim != axes:
        raise ValueError(f"{found.name} is no array of floating-point numbers with {axes} axes")
    if found.is_virtual or found.external or found.nbytes > MOST_BYTES:
        raise ValueError(f"{found.name} has its numbers elsewhere")
    return torch.from_numpy(np.asarray(found, dtype=np.float32))
