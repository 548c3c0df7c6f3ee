"""Advice: what a ladder of grids gives of a model, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfield.amounts import bytes_text, time_text
from embedfield.certificate import NEAR, cosine_text, counted, loss_text, number_text, rmse_text
from embedfield.fidelity import plain
from embedfield.formats.packing import DTYPES
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
# Standard errors by which a mean may be off.
SURE = 2


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
        """Return the smallest way to store it whose mean cosine is surely at least the tolerance; None if none is."""
        fit = [option for option in self.options.values() if within(option.readings[reading], tolerance)]
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
            f"{self.card.name} over {area}: cosine with the encoder at {counted(self.places, 'random place')}, "
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
            ("", "without packing:", "bilinear", "", "", "nearest", "", *sizes, "build"),
            ("res", "pixels", "mean", "worst 1 %", "RMSE", "mean", "worst 1 %", *self.dtypes, "time"),
        ]
        for rung in self.rungs:
            read = [
                cosine_text(loss)
                for reading in READINGS
                for loss in (rung.exact[reading].mean_loss, 1 - rung.exact[reading].cosine_p01)
            ]
            read.insert(2, number_text(rung.exact["bilinear"].relative_rmse))
            stored = [rung.options.get(dtype) for dtype in self.dtypes]
            size = [bytes_text(option.size_bytes) if option else "-" for option in stored]
            seconds = next(option.seconds for option in stored if option)
            pixels = f"{rung.grid.width:,} x {rung.grid.height:,}"
            rows.append((f"{rung.grid.res:g}°", pixels, *read, *size, time_text(seconds)))
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
                yield self._refusal(reading)
                continue
            rung, option = found
            said = (
                uncertain_text(option.readings[reading]),
                bytes_text(option.size_bytes),
                time_text(option.seconds),
            )
            yield (
                f"{reading}: {rung.grid.res:g}° as {option.dtype} is the coarsest with a mean cosine of at least "
                f"{self.tolerance:.12g} ({', '.join(said)}):"
            )
            yield f"    {self.command(rung, option)}"
            yield from self._caveat(reading, option)
        if not self.choice("bilinear"):
            yield f"Ask the encoder itself: embedfield sample {self.asked} PLACES"

    def _refusal(self, reading: Method) -> str:
        """Say why no grid is recommended: for its own coarseness, for packing, or because places are few."""
        rung = self.rungs[-1]
        said = f"{reading}: no grid down to {rung.grid.res:g}°"
        best = max((option.readings[reading] for option in rung.options.values()), key=lambda read: read.cosine)
        if best.cosine >= self.tolerance:
            return f"{said} surely has a mean cosine of {self.tolerance:.12g}: the finest has {uncertain_text(best)}."
        said += f" has a mean cosine of {self.tolerance:.12g}"
        if not within(rung.exact[reading], self.tolerance):
            return f"{said}."
        least = min(option.packing.mean_loss for option in rung.options.values())
        others = " or ".join(dtype for dtype in DTYPES if dtype not in self.dtypes)
        mend = f" Try --dtype {others}." if others else ""
        return f"{said} as {' or '.join(rung.options)}: packing alone costs {loss_text(least)}.{mend}"

    def _caveat(self, reading: Method, option: Option) -> Iterator[str]:
        """Yield a warning where vectors differ so little over the bounds that a cosine flatters."""
        rmse = option.readings[reading].relative_rmse
        if not rmse > NEAR:
            return
        stored = [(rung.grid.res, rung.options.get(option.dtype)) for rung in self.rungs]
        near = [res for res, other in stored if other and other.readings[reading].relative_rmse <= NEAR]
        finer = f" The coarsest of at most {NEAR:g} is {max(near):g}°." if near else ""
        yield f"    but its relative RMSE is {rmse_text(rmse)}: poor for telling places of this area apart.{finer}"


def _rung_to_dict(rung: Rung) -> dict[str, Any]:
    return {
        **rung.grid.to_dict(),
        **{reading: _brief(fidelity) for reading, fidelity in rung.exact.items()},
        "stored": {
            dtype: {
                "size_bytes": plain(option.size_bytes, 3),
                "seconds": plain(option.seconds, 3),
                "packing_loss": plain(option.packing.mean_loss, 3),
                **{reading: _brief(fidelity) for reading, fidelity in option.readings.items()},
            }
            for dtype, option in rung.options.items()
        },
    }


def _brief(fidelity: Fidelity) -> dict[str, float | None]:
    return fidelity.brief | {"standard_error": plain(fidelity.standard_error, 3)}


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of a table with its columns flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def within(fidelity: Fidelity, tolerance: float) -> bool:
    """Return whether a mean cosine is at least a tolerance even if chance has flattered it; never of a single place."""
    return fidelity.cosine - SURE * fidelity.standard_error >= tolerance


def uncertain_text(fidelity: Fidelity) -> str:
    """Return a mean cosine and, where it shows in its digits, by how much it may be off: 0.9905 ± 0.0014."""
    said = cosine_text(fidelity.mean_loss)
    digits = len(said.partition(".")[2])
    error = round(SURE * fidelity.standard_error, digits)
    return f"{said} ± {error:.{digits}f}" if error > 0 else said
