"""Verify: a stored field against its encoder, at random places."""

from __future__ import annotations

from functools import reduce
from importlib.metadata import version
from operator import add
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.certificate import Certificate, Group
from embedfield.errors import PlacesError, WeightsError
from embedfield.evaluate import ROUNDED, EncodedField, load
from embedfield.fidelity import Fidelity, Spread
from embedfield.field import Field
from embedfield.places import random_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.evaluate import Evaluator
    from embedfield.field import Method
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds, Grid
    from embedfield.window import Window

    Vectors = npt.NDArray[np.floating]

SEED = 20_240_229
# One place near poles and seams for so many of the area's.
EDGE = 8
# How near that is: pixels, and for poles at least so many degrees.
NEAR, CAP = 2, 1.0
# So many places may be tried for one that is wanted, where much of a grid has no value.
TRIES = 16
# Numbers of vectors that are held at a time: a place needs its pixels' vectors and their comparisons.
HELD = 2**20
READINGS: tuple[Method, ...] = ("nearest", "bilinear")
# Metres in a degree of a great circle.
METRES = 111_195
# Degrees by which the edge of a grid may miss a pole: rounding.
DUST = 1e-6


def verify_field(
    field: StoredField,
    evaluator: Evaluator | None = None,
    *,
    places: int = 4096,
    seed: int = SEED,
    weights: str | Path | None = None,
    database: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Hold a stored field against its encoder at random places.

    Places are spread evenly by area over the field, and more lie near poles
    and antimeridian where the grid reaches them. At each the encoder's vector
    is compared with what the raster gives, read as nearest and as bilinear,
    and the difference is split into what grid, reduction and packing cost.
    The same field, weights and machine give the same certificate.

    Args:
        field: What to verify.
        evaluator: Its encoder; None to load it by the field's own card.
        places: How many over the area.
        seed: Of the random numbers that places are drawn by.
        weights: The checkpoint that the field was made with, where it was not
            the released one.
        database: The same for the database.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N``.
        offline: Never touch the network.
        report: Told what is fetched, before it is.
        progress: Told (places done, places in all) as it goes on.

    Raises:
        PlacesError: If no place is asked for.
        WeightsError: If the weights cannot be had, or are not those that the
            field was made with.
        DeviceError: If this machine has no such device.
    """
    if places < 1:
        raise PlacesError(f"places={places} compares nothing. Ask for at least 1; some thousands tell the worst 1 %.")
    if evaluator is None:
        _check_known_weights(field, weights, database)
    made = field.provenance.get("precision")
    evaluator = evaluator or load(
        # What rounding cost is to be seen: it is held against the official precision.
        field.card, weights, device, None if made in ROUNDED else made, database=database, offline=offline,
        report=report,
    )  # fmt: skip
    _check_weights(field, evaluator.sha256)
    edges = _edges(field.grid)
    counts = {"area": places} | dict.fromkeys(edges, -(-places // EDGE))
    comparison = _Comparison(field, evaluator, np.random.default_rng(seed), _Meter(sum(counts.values()), progress))
    groups = comparison.groups({"area": [field.grid.lonlat_bounds], **edges}, counts)
    area = groups.pop("area")
    return Certificate(
        _facts(field, evaluator, seed), field.grid, area, {e: g.against(area) for e, g in groups.items()}
    )


def _facts(field: StoredField, evaluator: Evaluator, seed: int) -> dict[str, Any]:
    """Return what is compared, as plain data. No dates and no times: the same comparison gives the same bytes."""
    card, provenance = field.card, field.provenance
    asked = {name: card.options[name] for name in (*card.inputs, "dims") if name in card.options}
    kept = {"components": field.dim} if field.reduction else {}
    return {
        "embedfield": version("embedfield"),
        "model": card.name,
        **({"asked": asked} if asked else {}),
        **evaluator.sha256,
        "precision": evaluator.precision,
        "field": {
            "grid": field.grid.to_dict(),
            "dtype": field.packing.dtype,
            "dim": evaluator.dim,
            **kept,
            **{name: provenance[name] for name in ("supersample", "region") if name in provenance},
            "saturated": field.saturated,
        },
        "seed": seed,
    }


def _check_known_weights(field: StoredField, weights: str | Path | None, database: str | Path | None) -> None:
    """Refuse released files that a card tells are others than the field's, before they are fetched."""
    known = {
        f"{name}_sha256": file.sha256
        for name, file, own in (("weights", field.card.weights, weights), ("database", field.card.database, database))
        if own is None and file and file.sha256
    }
    _check_weights(field, known)


def _check_weights(field: StoredField, found: Mapping[str, str | None]) -> None:
    """Refuse files that a field was not made with.

    Raises:
        WeightsError: If there is one.
    """
    for name, digest in found.items():
        made = field.provenance.get(name)
        if made != digest:
            kind = name.removesuffix("_sha256")
            raise WeightsError(
                f"{field.path} was made with {kind} of sha256 {made or 'none'}, and those at hand have {digest}. "
                f"It can be held against its own only: name the file that it was made with, --{kind} FILE."
            )


class _Meter:
    """Counts what is done, and tells it."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, count: int) -> None:
        self.done += count
        self.total = max(self.total, self.done)
        if self.progress:
            self.progress(self.done, self.total)


def _edges(grid: Grid) -> dict[str, list[Bounds]]:
    """Return the boxes near poles and antimeridian that a grid reaches, by what they are near."""
    west, south, east, north = grid.lonlat_bounds
    pixel = grid.res if grid.geographic else grid.res / METRES
    near, cap = NEAR * pixel, max(NEAR * pixel, CAP)
    poles = [(west, max(south, 90 - cap), east, north)] if north > 90 - DUST else []
    poles += [(west, south, east, min(north, cap - 90))] if south < DUST - 90 else []
    sides = [(max(west, 180 - near), south, 180.0, north)] if east >= 180 else []
    sides += [(-180.0, south, min(east, near - 180), north)] if west == -180 else []
    sides += [(180.0, south, min(east, 180 + near), north)] if east > 180 else []
    return {name: boxes for name, boxes in (("poles", poles), ("seam", sides)) if boxes}


class _Comparison:
    """A stored field and its encoder, compared at as many places as are asked for."""

    def __init__(self, field: StoredField, evaluator: Evaluator, rng: np.random.Generator, meter: _Meter) -> None:
        self.field, self.evaluator, self.rng, self.meter = field, evaluator, rng, meter
        self.reduction = field.reduction
        supersample = field.provenance.get("supersample", 1)
        # Where a region leaves out pixels, the stored ones say so.
        self.exact = EncodedField(evaluator, field.grid, supersample=supersample)

    def groups(self, boxes: Mapping[str, list[Bounds]], counts: Mapping[str, int]) -> dict[str, Group]:
        """Compare at about so many places, spread at random and evenly by area over boxes, by the groups' names.

        Where much of the grid has no value, more are tried, up to a limit.
        """
        found: dict[str, Group] = {}
        while len(found) < len(boxes):
            drawn, state = {}, {}
            for name in [name for name in boxes if name not in found]:
                drawn[name] = self._drawn(boxes[name], counts[name])
                state[name] = self.rng.bit_generator.state
            # All groups at once: where they lie in the same blocks, these are read once.
            for name, group in self._compared(drawn).items():
                found[name], count = group, counts[name]
                if len(group.places) < count:
                    more = min(TRIES * count, (count - len(group.places)) * count // max(1, len(group.places)))
                    # Chance goes on behind this group: those after it are drawn again.
                    self.rng.bit_generator.state = state[name]
                    found[name] += self._compared({name: self._drawn(boxes[name], more)})[name]
                    break
        return found

    def _drawn(self, boxes: list[Bounds], count: int) -> npt.NDArray[np.float64]:
        """Return random places (n, 2) in boxes, on the grid and where the encoder is defined."""
        inside = clipped(boxes, self.field.card.latitudes)
        found = np.empty((0, 2))
        for _ in range(TRIES if inside else 0):
            places = random_places(self.rng, count, inside)
            found = np.concatenate((found, places[self.field.grid.contains(places)]))[:count]
            if len(found) == count:
                break
        return found

    def _compared(self, groups: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Group]:
        """Compare at the places (n, 2) of groups, block by block and some at a time."""
        places = np.concatenate(list(groups.values()))
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])
        rows, cols = (np.floor(part / self.field.blocksize) for part in self.field.grid.positions(places))
        order = np.lexsort((cols, rows))
        size = max(1, HELD // self.evaluator.dim)
        parts = [order[start : start + size] for start in range(0, max(1, len(order)), size)]
        found = [self._part(places[part], owners[part], len(groups)) for part in parts]
        return {name: reduce(add, own) for name, own in zip(groups, zip(*found, strict=True), strict=True)}

    def _part(self, places: npt.NDArray[np.float64], owners: npt.NDArray[np.int64], count: int) -> list[Group]:
        """Compare at a few places, (n, 2), of so many groups; `owners` (n,) tells whose they are."""
        stored = Gathered.of(self.field, places)
        valued = ~np.isnan(stored.at(places, "nearest")).any(axis=1)
        truth = self.evaluator.encode(places[valued])
        known = valued.copy()
        known[valued] = np.isfinite(truth).all(axis=1)
        truth = truth[known[valued]]
        self.meter.add(len(truth))
        readings = self._readings(stored, places[known])
        groups = []
        for own in (owners == number for number in range(count)):
            there = own[known]
            costs = {
                reading: _costs(truth[there], {name: vectors[there] for name, vectors in read.items()})
                for reading, read in readings.items()
            }
            groups.append(
                Group(places[own & known], costs, int((own & ~valued).sum()), int((own & valued & ~known).sum()))
            )
        return groups

    def _readings(self, stored: Gathered, places: npt.NDArray[np.float64]) -> dict[str, dict[str, Vectors]]:
        """Return what places (n, 2) get by each reading: of exact pixels, of reduced ones, and of the stored."""
        exact = stored.holding(self._exact_pixels(stored))
        sources = {"exact": exact, "stored": stored}
        if self.reduction:
            back = self.reduction.restore
            reduced = back(self.reduction.reduce(exact.values))
            sources |= {"stored": stored.holding(back(stored.values)), "reduced": stored.holding(reduced)}
        return {reading: {name: source.at(places, reading) for name, source in sources.items()} for reading in READINGS}

    def _exact_pixels(self, stored: Gathered) -> npt.NDArray[np.float32]:
        """Return the encoder's vectors of pixels, (n, dim); NaN where the raster has no value: both are read alike."""
        there = ~np.isnan(stored.values).any(axis=1)
        values = np.full((len(there), self.evaluator.dim), np.nan, dtype=np.float32)
        values[there] = self.exact.pixels(*np.divmod(stored.numbers[there], self.field.grid.width))
        return values


def _costs(truth: Vectors, read: Mapping[str, Vectors]) -> dict[str, Fidelity]:
    """Return the fidelity of what a raster gives to the truth, and what each step towards it costs by itself."""
    # One measure for all: errors of the steps then add up to that of the whole.
    spread = Spread.of(truth)
    before_packing = read.get("reduced", read["exact"])
    pairs = {"total": (truth, read["stored"]), "grid": (truth, read["exact"])}
    if "reduced" in read:
        pairs["reduction"] = (read["exact"], read["reduced"])
    pairs["packing"] = (before_packing, read["stored"])
    return {cost: Fidelity.compare(exact, got, spread) for cost, (exact, got) in pairs.items()}


class Gathered(Field):
    """Some pixels of a field, in memory: read as the field itself is, and all the others have no value."""

    def __init__(self, field: Field, numbers: npt.NDArray[np.int64], values: Vectors) -> None:
        """Hold pixels.

        Args:
            field: Whose they are.
            numbers: Which they are, row · width + column, rising, (n,).
            values: Their vectors, (n, any length).
        """
        self.card, self.grid, self.provenance = field.card, field.grid, field.provenance
        self.numbers, self.values = numbers, values.astype(np.float32, copy=False)
        self.asked: list[npt.NDArray[np.int64]] = []

    @classmethod
    def of(cls, field: Field, places: npt.NDArray[np.float64]) -> Self:
        """Return the pixels that places (n, 2) are read from."""
        empty = cls(field, np.empty(0, dtype=np.int64), np.empty((0, 1)))
        for reading in READINGS:
            empty.at(places, reading)
        numbers = np.unique(np.concatenate(empty.asked)) if empty.asked else empty.numbers
        return cls(field, numbers, field.pixels(*np.divmod(numbers, field.grid.width)))

    def holding(self, values: Vectors) -> Self:
        """Return the same pixels with other vectors (n, any length)."""
        return type(self)(self, self.numbers, values)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return the vectors of a window, (dim, height, width), float32."""
        window = window or self.grid.window
        rows, cols = np.mgrid[window.rows, window.cols].reshape(2, -1)
        return self.pixels(rows, cols).T.reshape(self.dim, window.height, window.width)

    def _parts(
        self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        numbers = rows * self.grid.width + cols
        self.asked.append(numbers)
        if not len(self.numbers):
            yield np.arange(len(numbers)), np.full((len(numbers), self.dim), np.nan, dtype=np.float32)
            return
        found = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        values = self.values[found]
        values[self.numbers[found] != numbers] = np.nan
        yield np.arange(len(numbers)), values


def clipped(boxes: list[Bounds], latitudes: tuple[float, float]) -> list[Bounds]:
    """Return the parts of boxes, west, south, east, north, that lie in a range of latitudes."""
    clipped = [(west, max(south, latitudes[0]), east, min(north, latitudes[1])) for west, south, east, north in boxes]
    return [box for box in clipped if box[1] < box[3]]
