"""Certificate: what a raster lost of its encoder, as JSON, as a picture, in words."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedfield.fidelity import plain
from embedfield.integrity import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from embedfield.fidelity import Fidelity
    from embedfield.grid import Grid

FILE, PICTURE = "certificate.json", "certificate.png"
# Mean cosines from which a raster is good, and below which it is poor: 8 and 14 degrees between vectors. At the
# latter about a twelfth of the variance is lost, of GeoCLIP as of plain harmonics.
GOOD, POOR = 0.99, 0.97
# Relative RMSE up to which it is good, and above which it is poor: what those cosines are of vectors spread about zero,
# √(2 · loss). Vectors of a small area point nearly the same way: there a raster of one vector has a cosine near 1.
NEAR, FAR = 0.15, 0.25
# How wide a band of latitudes is, in degrees.
BAND = 30
# Digits of the many numbers, one a dimension.
DIGITS = 4
# A list or an object that holds nothing but numbers, in indented JSON.
NAMED = r'(?:"[\w ]+": )?[-+.\denul]+'
NUMBERS = re.compile(rf"([\[{{])\s+({NAMED}(?:,\s+{NAMED})*)\s+([\]}}])")
# Of the picture. The colours are Okabe and Ito's: told apart by all eyes.
COLOURS = {
    "bilinear": "#0072B2", "nearest": "#D55E00", "grid": "#56B4E9", "reduction": "#CC79A7", "packing": "#009E73",
}  # fmt: skip
LABELS = {"grid": "grid alone, bilinear", "reduction": "reduction alone", "packing": "packing alone"}
HEADING: dict[str, Any] = {"loc": "left", "fontsize": 11}
FAINT = "0.9"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Of the PNG: a stronger one takes several times as long, and bytes hardly shrink.
COMPRESSION = 4
# No loss is drawn as less.
LEAST = 1e-9
# What the words of a certificate mean, for those who open it.
TERMS = {
    "cosine": "between the encoder at a place and what the raster gives there; p01 is that of the worst 1 % of places",
    "loss": "1 - cosine",
    "relative_error": "|raster - encoder| / sqrt(mean of |encoder - its mean|^2), the means over the area's places",
    "relative_rmse": "root of the mean of the squared relative errors",
    "grid": "what is lost by reading exact vectors of pixels in place of the encoder",
    "reduction": "what is lost by keeping few components of those vectors",
    "packing": "what is lost by storing them in few bits",
    "dimensions": "relative_rmse of each dimension by itself; null in one that does not vary",
}


@dataclass(frozen=True, eq=False)
class Group:
    """Places where a raster was compared with its encoder, and what came of it."""

    places: npt.NDArray[np.float64]
    """Degrees (lon, lat), (N, 2)."""
    readings: Mapping[str, Mapping[str, Fidelity]]
    """By reading, ``nearest`` and ``bilinear``: the ``total`` fidelity, and that of ``grid``, ``reduction`` where
    there is one, and ``packing`` by themselves."""
    no_value: int
    """How many places were left out because the raster has no value there."""
    no_vector: int
    """How many were left out because the encoder has none."""

    def __add__(self, other: Self) -> Self:
        """Return what came of both."""
        readings = {
            reading: {cost: fidelity + other.readings[reading][cost] for cost, fidelity in costs.items()}
            for reading, costs in self.readings.items()
        }
        places = np.concatenate((self.places, other.places))
        return type(self)(places, readings, self.no_value + other.no_value, self.no_vector + other.no_vector)

    def against(self, area: Group) -> Self:
        """Return the same, its errors held against the spread of the vectors of an area."""
        spread = area.readings["bilinear"]["total"].spread
        readings = {
            reading: {cost: fidelity.against(spread) for cost, fidelity in costs.items()}
            for reading, costs in self.readings.items()
        }
        return type(self)(self.places, readings, self.no_value, self.no_vector)

    def to_dict(self) -> dict[str, Any]:
        """Return what came of it as plain data for JSON."""
        left_out = {"no value in the raster": self.no_value, "no vector of the encoder": self.no_vector}
        readings = {
            reading: {cost: fidelity.to_dict() for cost, fidelity in costs.items()}
            for reading, costs in self.readings.items()
        }
        return {"places": len(self.places), "left_out": left_out, **readings}


@dataclass(frozen=True, eq=False)
class Certificate:
    """A raster held against its encoder at random places."""

    facts: Mapping[str, Any]
    """What was compared, as plain data: ``model``, ``field`` with ``dtype`` and more, ``seed``, …"""
    grid: Grid
    """Of the raster."""
    area: Group
    """Places spread evenly by area."""
    edges: Mapping[str, Group]
    """Places near the ``poles`` and near the ``seam``, where the grid has such."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.facts["model"])

    @property
    def verdict(self) -> list[str]:
        """What to think of the raster, in sentences."""
        if not len(self.area.places):
            return ["No place was found where both the raster and the encoder have a value: nothing can be said."]
        said = [
            f"Read as {reading}, vectors have a mean cosine of {cosine_text(total.mean_loss)} with {self.model}'s own, "
            f"and {cosine_text(1 - total.cosine_p01)} at the worst 1 % of places: {_grade_in_words(total)}."
            for reading, total in self._totals()
        ]
        near = [
            f"Near the {edge}, bilinear reading has a mean cosine of "
            f"{cosine_text(group.readings['bilinear']['total'].mean_loss)}."
            for edge, group in self.edges.items()
            if len(group.places)
        ]
        return [*said, self._costs_in_words(), *near]

    @property
    def lines(self) -> list[str]:
        """The same for a terminal, in a few short lines."""
        edges = "".join(f", {len(group.places):,} more near the {edge}" for edge, group in self.edges.items())
        head = f"verified at {counted(len(self.area.places), 'place')}{edges}"
        if not len(self.area.places):
            return [head, *self.verdict]
        rows = [
            f"{reading:<9} cosine {cosine_text(total.mean_loss)}, worst 1 % {cosine_text(1 - total.cosine_p01)}, "
            f"relative RMSE {rmse_text(total.relative_rmse)}: {_grade_in_short(total)}"
            for reading, total in self._totals()
        ]
        return [head, *rows, self._costs_in_words()]

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers that matter most, as plain data for a STAC item."""
        readings = {
            reading: total.brief
            | {
                "loss": {
                    cost: plain(fidelity.mean_loss)
                    for cost, fidelity in self.area.readings[reading].items()
                    if cost != "total"
                }
            }
            for reading, total in self._totals()
        }
        return {"places": len(self.area.places), **readings, "verdict": self.verdict}

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data for JSON."""
        return {
            **self.facts,
            "summary": self.summary,
            "area": self.area.to_dict(),
            **{edge: group.to_dict() for edge, group in self.edges.items()},
            "latitudes": self._latitudes(),
            "dimensions": self._dimensions(),
            "terms": TERMS,
        }

    def bands(self) -> list[tuple[int, int, npt.NDArray[np.bool_]]]:
        """Return the bands of latitude that have places: south, north, and which of the area's places, (N,)."""
        lat = self.area.places[:, 1]
        number = np.clip((lat + 90) // BAND, 0, 180 // BAND - 1).astype(int)
        return [(n * BAND - 90, n * BAND + BAND - 90, number == n) for n in np.unique(number).tolist()]

    def _latitudes(self) -> list[dict[str, Any]]:
        return [
            {"from": south, "to": north, "places": int(which.sum())}
            | {reading: total.part(which).brief for reading, total in self._totals()}
            for south, north, which in self.bands()
        ]

    def _dimensions(self) -> dict[str, Any]:
        return {
            reading: {
                cost: [plain(value, DIGITS) for value in costs[cost].dimensions.tolist()]
                for cost in ("total", "packing")
            }
            for reading, costs in self.area.readings.items()
        }

    def _totals(self) -> list[tuple[str, Fidelity]]:
        """Return the readings, the better first."""
        return [(reading, self.area.readings[reading]["total"]) for reading in ("bilinear", "nearest")]

    def _costs_in_words(self) -> str:
        """Say what grid, reduction and packing cost, and what to do about the worst of them."""
        costs = dict(self.area.readings["bilinear"])
        total = costs.pop("total")
        dtype = self.facts["field"]["dtype"]
        names = {"grid": "the grid", "reduction": "the reduction", "packing": f"packing as {dtype}"}
        parts = [f"{names[cost]} costs {loss_text(fidelity.mean_loss)}" for cost, fidelity in costs.items()]
        said = f"In mean cosine, bilinear, {', '.join(parts[:-1])} and {parts[-1]}"
        if grade(total.cosine, total.relative_rmse) == "good":
            return f"{said}."
        advice = {
            "grid": f"this grid is too coarse for {self.model}. Choose a finer --res, or ask the encoder itself: "
            f"embedfield sample --model {self.model}",
            "reduction": "too few components are kept. Choose a greater --pca",
            "packing": f"{dtype} is too coarse for {self.model}. Choose another --dtype",
        }
        by_cosine = total.cosine < GOOD
        worst = max(costs, key=lambda cost: costs[cost].mean_loss if by_cosine else costs[cost].relative_rmse)
        return f"{said}: {advice[worst]}."


def grade(cosine: float, rmse: float) -> str:
    """Return what to think of a raster, in a word: good, fair or poor, whichever is the worse of its two numbers.

    Args:
        cosine: Mean cosine.
        rmse: Relative RMSE; NaN, of vectors that do not differ, is no reproach.
    """
    if cosine >= GOOD and not rmse > NEAR:
        return "good"
    return "fair" if cosine >= POOR and not rmse > FAR else "poor"


def _grade_in_words(total: Fidelity) -> str:
    """Return the grade, and what it is for."""
    cosine, rmse = total.cosine, total.relative_rmse
    found = grade(cosine, rmse)
    if found == "good":
        known = f", relative RMSE at most {NEAR:g}" if math.isfinite(rmse) else ""
        return f"good (cosine at least {GOOD:g}{known})"
    least, most = (GOOD, NEAR) if found == "fair" else (POOR, FAR)
    failed = [f"cosine below {least:g}"] if not cosine >= least else []
    failed += [f"relative RMSE of {rmse_text(rmse)} above {most:g}"] if rmse > most else []
    return f"{found} ({', '.join(failed)})"


def _grade_in_short(total: Fidelity) -> str:
    """Return the grade, and that it is for the RMSE where the cosine is not to blame."""
    found = grade(total.cosine, total.relative_rmse)
    if found == grade(total.cosine, 0):
        return found
    return f"{found} (RMSE above {NEAR if found == 'fair' else FAR:g})"


def counted(count: int, noun: str) -> str:
    """Return a number of things, such as 1 place or 4,096 places."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cosine_text(loss: float) -> str:
    """Return a cosine, given as its loss, with as many digits as tell it from 1, up to six; never rounded up."""
    if not math.isfinite(loss):
        return "unknown"
    # A ten-millionth is the rounding of float32, and no loss.
    digits = min(max(3, _decimals(loss)), 6) if loss > 1e-7 else 6
    # Steps of the last digit that are lost; a whole number of them but for dust is just that many.
    steps = math.ceil(round(loss * 10**digits, 6)) if loss > 1e-7 else 0
    return f"{1 - steps / 10**digits:.{digits}f}"


def loss_text(loss: float) -> str:
    """Return a loss with two significant digits, without an exponent; below a millionth only that it is."""
    if not math.isfinite(loss):
        return "unknown"
    return f"{loss:.{max(2, _decimals(loss))}f}" if loss >= 1e-6 else "less than 0.000001"


def number_text(value: float) -> str:
    """Return a number with two significant digits."""
    return f"{value:.2g}" if math.isfinite(value) else "unknown"


def rmse_text(value: float) -> str:
    """Return a relative RMSE with two significant digits, or three where two would hide that it is above a bound."""
    hidden = any(float(f"{value:.2g}") <= bound < value for bound in (NEAR, FAR))
    return f"{value:.3g}" if hidden else number_text(value)


def _decimals(value: float) -> int:
    """Return how many decimals show two significant digits of a number."""
    return 1 - math.floor(math.log10(abs(value)))


def write_certificate(certificate: Certificate, folder: Path) -> None:
    """Write ``certificate.json`` and ``certificate.png`` into a folder, each put there when it is whole.

    The same certificate gives the same bytes.
    """
    text = json.dumps(certificate.to_dict(), indent=2, ensure_ascii=False)
    # A line for each group of numbers, not for each number: dimensions may be thousands.
    text = NUMBERS.sub(lambda found: f"{found[1]}{' '.join(found[2].split())}{found[3]}", text)
    placed(folder / FILE, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))
    placed(folder / PICTURE, lambda part: draw(certificate, part))


def draw(certificate: Certificate, path: Path) -> None:
    """Write a certificate as a picture, PNG; the same certificate gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    title, words = _title(certificate)
    # What does not fit into the width is written smaller.
    figure.text(0.06, 0.945, title, fontsize=min(17, 17 * 80 / len(title)), fontweight="bold")
    figure.text(0.06, 0.905, words, fontsize=10.5, color="0.3")
    if len(certificate.area.places):
        _draw_map(certificate, figure.add_axes((0.06, 0.395, 0.5, 0.435)))
        _draw_latitudes(certificate, figure.add_axes((0.06, 0.08, 0.49, 0.2)))
        _draw_losses(certificate, figure.add_axes((0.68, 0.08, 0.3, 0.62)))
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})


def _title(certificate: Certificate) -> tuple[str, str]:
    """Return a headline, and a line below it."""
    grid = certificate.grid
    size = f"{grid.res:g}°" if grid.geographic else f"{grid.res:,g} {grid.unit}"
    what = f"{certificate.model} at {size} as {', '.join(_made(certificate.facts['field']))}"
    if not len(certificate.area.places):
        return what, certificate.verdict[0]
    total = certificate.area.readings["bilinear"]["total"]
    rmse = f"relative RMSE {rmse_text(total.relative_rmse)}"
    said = f"Read as bilinear, vectors have a mean cosine of {cosine_text(total.mean_loss)} with the encoder's own"
    return (
        f"{what}: {grade(total.cosine, total.relative_rmse)}",
        f"{said}, and {cosine_text(1 - total.cosine_p01)} at the worst 1 % of places; {rmse}.",
    )


def _made(field: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a field was made, in words of a headline."""
    yield field["dtype"]
    if "components" in field:
        yield counted(field["components"], "component")
    if "supersample" in field:
        yield f"{field['supersample']} × {field['supersample']} samples a pixel"
    if "region" in field:
        # A dollar sign would be read as the start of a formula.
        yield field["region"]["name"].replace("$", r"\$")


def _draw_map(certificate: Certificate, axes: Axes) -> None:
    """Draw where raster and encoder agree."""
    west, south, east, north = certificate.grid.lonlat_bounds
    lon, lat = certificate.area.places.T
    loss = certificate.area.readings["bilinear"]["total"].loss
    order = np.argsort(loss, kind="stable")  # the worst on top
    dots = axes.scatter(
        np.where(lon < west, lon + 360, lon)[order], lat[order], c=1 - loss[order], s=min(40, 40_000 / len(lon)),
        cmap="viridis", vmin=min(1 - float(np.percentile(loss, 99)), GOOD), vmax=1, linewidths=0,
    )  # fmt: skip
    if east - west > 180:
        axes.set(xticks=np.arange(math.ceil(west / 60) * 60, east + 1, 60), yticks=range(-90, 91, BAND))
    axes.xaxis.set_major_formatter(lambda lon, _: f"{lon - 360 if lon > 180 else lon:g}°")
    axes.yaxis.set_major_formatter(lambda lat, _: f"{lat:g}°")
    axes.set(xlim=(west, east), ylim=(south, north))
    axes.set_aspect(1 / max(math.cos(math.radians((south + north) / 2)), 0.1), anchor="NW")
    axes.set_title(f"Where: cosine, read as bilinear, at {counted(len(lon), 'random place')}", **HEADING)
    axes.figure.colorbar(dots, cax=axes.inset_axes((1.02, 0, 0.03, 1)), extend="min")


def _draw_latitudes(certificate: Certificate, axes: Axes) -> None:
    """Draw the mean loss by latitude."""
    _, least, _, greatest = certificate.grid.lonlat_bounds
    bands = certificate.bands()
    edges = np.array([(max(south, least), min(north, greatest)) for south, north, _ in bands]).T
    for reading, costs in certificate.area.readings.items():
        means = [costs["total"].part(which).mean_loss for _, _, which in bands]
        axes.hlines(means, *edges, color=COLOURS[reading], lw=2.5)
        axes.plot(edges.mean(axis=0), means, "o-", color=COLOURS[reading], lw=0.5, label=reading)
    if greatest - least > 90:
        axes.set(xticks=range(-90, 91, BAND))
    axes.xaxis.set_major_formatter(lambda lat, _: f"{lat:g}°")
    axes.set(xlim=(least, greatest), xlabel="latitude", ylabel="mean 1 − cosine")
    axes.set_ylim(0, 1.2 * axes.dataLim.ymax or 1)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    axes.set_title(f"By latitude, in bands of {BAND}°", **HEADING)
    axes.grid(color=FAINT)


def _draw_losses(certificate: Certificate, axes: Axes) -> None:
    """Draw how many places lose how much, and to what."""
    from matplotlib.ticker import NullLocator

    readings = certificate.area.readings
    lines = {reading: readings[reading]["total"] for reading in ("bilinear", "nearest")}
    lines |= {cost: fidelity for cost, fidelity in readings["bilinear"].items() if cost != "total"}
    for name, fidelity in lines.items():
        shares = (np.arange(len(fidelity)) + 1) / len(fidelity)
        loss = np.sort(np.maximum(fidelity.loss, LEAST))
        style: dict[str, Any] = {"ls": "-", "lw": 2.5} if name in readings else {"ls": "--", "lw": 1.5}
        axes.step(loss, shares, color=COLOURS[name], label=LABELS.get(name, name), **style)
    axes.set(xscale="log", ylim=(0, 1.01), xlabel="1 − cosine", ylabel="share of places that lose less")
    # Matplotlib's own labels are formulas, which take longer to set than all the rest to draw.
    axes.xaxis.set_major_formatter(lambda loss, _: f"10{str(round(math.log10(loss))).translate(RAISED)}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1 - GOOD, color="0.5", lw=1)
    axes.text(1 - GOOD, 0.5, f"cosine {GOOD:g}", color="0.3", rotation=90, ha="right", va="center")
    axes.grid(color=FAINT)
    axes.set_title("How much, and to what", pad=10 + 18 * -(-len(lines) // 2), **HEADING)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, frameon=False, borderaxespad=0.2)
