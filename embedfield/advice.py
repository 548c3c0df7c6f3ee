"""Advice: what a ladder of grids gives of a model, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfield.certificate import cosine_text, loss_text, number_text
from embedfield.fidelity import plain
from embedfield.places import GLOBE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedfield.card import Card
    from embedfield.fidelity import Fidelity
    from embedfield.field import Method
    from embedfield.formats.packing import Dtype
    from embedfield.grid import Bounds, Grid

# The ways to read a raster, the better first.
READINGS: tuple[Method, ...] = ("bilinear", "nearest")


@dataclass(frozen=True, eq=False)
class Option:
    """One way to store a grid."""

    dtype: Dtype
    """Type of the stored numbers."""
    readings: Mapping[Method, Fidelity]
    """What is read from it, by reading, held against the encoder."""
    packing: Fidelity
    """What packing costs by itself, read as nearest."""
    size_bytes: float
    """Size of the raster as COG with its overviews, estimated from a few blocks."""
    seconds: float
    """How long a build takes on this machine, estimated."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One grid of the ladder."""

    grid: Grid
    """Where the pixels are."""
    exact: Mapping[Method, Fidelity]
    """What is read from it without packing, by reading, held against the encoder."""
    options: Mapping[Dtype, Option]
    """The ways to store it; without those that cannot hold the model's values."""

    def best(self, reading: Method, tolerance: float) -> Option | None:
        """Return the smallest way to store it that has a mean cosine of at least the tolerance; None if none has."""
        fit = [option for option in self.options.values() if option.readings[reading].cosine >= tolerance]
        return min(fit, key=lambda option: option.size_bytes, default=None)


@dataclass(frozen=True, eq=False)
class Advice:
    """What a ladder of grids gives of a model, and what it costs."""

    card: Card
    """The model, with what was asked of it."""
    asked: str
    """The same in words of the command line, such as ``--model climplicit --month 7``."""
    bounds: Bounds
    """west, south, east, north, degrees."""
    dtypes: Sequence[Dtype]
    """The ways to store numbers that were tried."""
    tolerance: float
    """Mean cosine that is wanted at least."""
    places: int
    """At how many random places the encoder was asked."""
    rate: float
    """Pixels that this machine encodes in a second."""
    device: str
    """On what."""
    rungs: Sequence[Rung]
    """The grids, from coarse to fine."""

    def choice(self, reading: Method) -> tuple[Rung, Option] | None:
        """Return the coarsest grid that is within tolerance, as all finer ones are, and how to store it."""
        found = None
        for rung in reversed(self.rungs):
            option = rung.best(reading, self.tolerance)
            if option is None:
                break
            found = rung, option
        return found

    def command(self, rung: Rung, option: Option) -> str:
        """Return the command that builds a rung."""
        edges = " ".join(f"{edge:.12g}" for edge in rung.grid.bounds)
        bounds = "" if rung.grid.bounds == GLOBE else f" --bounds {edges}"
        dtype = "" if option.dtype == "uint8" else f" --dtype {option.dtype}"
        return f"embedfield build {self.asked} --res {rung.grid.res:.12g}{bounds}{dtype}"

    @property
    def lines(self) -> list[str]:
        """The advice as text: a table, what packing costs, and what to do."""
        area = "the globe" if self.bounds == GLOBE else "bounds " + " ".join(f"{edge:g}" for edge in self.bounds)
        head = (
            f"{self.card.name} over {area}: cosine with the encoder at {self.places:,} random places, "
            f"{self.rate:,.0f} pixels a second on {self.device}"
        )
        return [head, "", *_aligned(self._table()), "", *self._packing(), "", *self._closing()]

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as plain data for JSON."""
        choices = {reading: self.choice(reading) for reading in READINGS}
        options = self.card.options
        return {
            "model": self.card.name,
            "asked": {name: options[name] for name in (*self.card.inputs, "dims") if name in options},
            "bounds": list(self.bounds),
            "tolerance": self.tolerance,
            "places": self.places,
            "pixels_per_second": plain(self.rate, 3),
            "device": self.device,
            "grids": [_rung_to_dict(rung) for rung in self.rungs],
            "choice": {
                reading: {
                    "res": found[0].grid.res, "dtype": found[1].dtype, "command": self.command(*found),
                } if found else None
                for reading, found in choices.items()
            },
        }  # fmt: skip

    def _table(self) -> list[tuple[str, ...]]:
        """Return the rows of the table, headings first."""
        sizes = ("size", *[""] * (len(self.dtypes) - 1))
        rows: list[tuple[str, ...]] = [
            ("", "", "bilinear", "", "nearest", "", *sizes, "build"),
            ("res", "pixels", "mean", "worst 1 %", "mean", "worst 1 %", *self.dtypes, "time"),
        ]
        for rung in self.rungs:
            cosines = [
                cosine_text(loss)
                for reading in READINGS
                for loss in (rung.exact[reading].mean_loss, 1 - rung.exact[reading].cosine_p01)
            ]
            stored = [rung.options.get(dtype) for dtype in self.dtypes]
            size = [bytes_text(option.size_bytes) if option else "-" for option in stored]
            seconds = next(option.seconds for option in stored if option)
            pixels = f"{rung.grid.width:,} x {rung.grid.height:,}"
            rows.append((f"{rung.grid.res:g}°", pixels, *cosines, *size, time_text(seconds)))
        return rows

    def _packing(self) -> Iterator[str]:
        """Yield a line for each dtype: what it costs."""
        rung = self.rungs[-1]
        for dtype in self.dtypes:
            if dtype not in rung.options:
                yield f"{dtype} cannot hold the values of {self.card.name}."
                continue
            cost = rung.options[dtype].packing
            relative = number_text(cost.relative_rmse)
            yield f"{dtype}: packing costs {loss_text(cost.mean_loss)} of cosine, a relative RMSE of {relative}."

    def _closing(self) -> Iterator[str]:
        """Yield what to do."""
        for reading in READINGS:
            found = self.choice(reading)
            if not found:
                finest = self.rungs[-1].grid.res
                yield f"{reading}: no grid down to {finest:g}° has a mean cosine of {self.tolerance:g}."
                continue
            rung, option = found
            said = (
                cosine_text(option.readings[reading].mean_loss),
                bytes_text(option.size_bytes),
                time_text(option.seconds),
            )
            yield (
                f"{reading}: {rung.grid.res:g}° as {option.dtype} is the coarsest with a mean cosine of at least "
                f"{self.tolerance:g} ({', '.join(said)}):"
            )
            yield f"    {self.command(rung, option)}"
        if not self.choice("bilinear"):
            yield f"Ask the encoder itself: embedfield sample {self.asked} PLACES"


def _rung_to_dict(rung: Rung) -> dict[str, Any]:
    return {
        **rung.grid.to_dict(),
        **{reading: fidelity.brief for reading, fidelity in rung.exact.items()},
        "stored": {
            dtype: {
                "size_bytes": plain(option.size_bytes, 3),
                "seconds": plain(option.seconds, 3),
                "packing_loss": plain(option.packing.mean_loss, 3),
                **{reading: fidelity.brief for reading, fidelity in option.readings.items()},
            }
            for dtype, option in rung.options.items()
        },
    }


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of a table with its columns flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def bytes_text(size: float) -> str:
    """Return a number of bytes with two significant digits or more, such as 1.5 MB."""
    return _scaled(size, (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)))


def time_text(seconds: float) -> str:
    """Return a time with two significant digits or more, such as 3.2 h."""
    if seconds < 1:
        return "under 1 s"
    return _scaled(seconds, (("s", 1), ("min", 60), ("h", 3600), ("d", 86400)))


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    unit, size = next(((unit, size) for unit, size in reversed(units) if value >= 0.995 * size), units[0])
    return f"{value / size:,.{1 if value / size < 9.95 else 0}f} {unit}"
