"""Picture: a field as a map with title, coastlines and graticule, in its colours or by one of its bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfield.errors import FormatError
from embedfield.integrity import placed
from embedfield.pictures.chart import Chart
from embedfield.pictures.look import Look
from embedfield.pictures.preview import check_colours, colours_of
from embedfield.pictures.shown import Shown

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from embedfield.field import Field
    from embedfield.pictures.chart import Kind
    from embedfield.pictures.colours import Colours

# Pixels of a picture's width, and of the parts around its map at that width.
WIDTH = 1600
ABOVE, BELOW, BESIDE, LABELS, SCALE = 96, 56, 28, 72, 84
# Words of a narrower picture shrink less than it.
SHRINK = 0.6
# A map is at most so many times as high as it is wide, and at least so many pixels high.
TALLEST, LEAST = 1.25, 40
# Points (of 72 an inch) are as many pixels as that width has, so that sizes of type are in pixels.
DPI = 72
INK, FAINT = "0.15", "0.45"
# Of the PNG: a stronger one takes several times as long, and bytes hardly shrink.
COMPRESSION = 4


def write_picture(
    field: Field,
    path: Path,
    colours: Colours | None = None,
    *,
    coastlines: bool = False,
    graticule: bool = False,
    projection: Kind | None = None,
    band: int | str | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    label: str | None = None,
    width: int = WIDTH,
) -> None:
    """Write a map of a field as PNG: in its model's colours, or one band with a colour bar.

    The same field gives the same bytes. What has no value is light grey.

    Args:
        field: What to show.
        path: ``….png``; nothing stands there before it is whole.
        colours: Of its model, as for `write_preview`.
        coastlines: Draw Natural Earth's coastlines, 1:50 million.
        graticule: Draw meridians and parallels at even degrees, and name them.
        projection: ``equal-earth``, ``plate-carree``, or ``grid``, the field's
            own reference system; None for Equal Earth where it reaches half
            around the world, else ``grid``.
        band: Show one band, by its name or its number, counted from 0 as in names.
        limits: Values at the ends of the band's colours; None for its percentiles 2 and 98 by area.
        title: None for that of the model.
        label: Of the colour bar; None for the band's name.
        width: Pixels of the picture's width, at least 400.

    Raises:
        FormatError: If there is no such band, or the colours are of other vectors.
        GridError: If there is no such projection.
    """
    chart = Chart(field.grid, projection)
    number = None if band is None else band_number(field, band)
    layout = _Layout.of(chart, width, graticule=graticule, scale=number is not None)
    look = Look(field, layout.width)
    if number is None:
        colours = colours or colours_of(field)
        check_colours(colours, field)
        shown = Shown.in_colours(look, colours)
    else:
        shown = Shown.by_band(look, number, limits)
    figure = _figure(layout)
    axes = _map_axes(figure, layout, chart)
    _draw_field(axes, shown, chart, layout)
    if graticule:
        _draw_graticule(axes, chart, layout)
    if coastlines:
        shores = chart.coastlines()
        _draw_lines(axes, shores, "white", 3.2 * layout.scale, 0.7)
        _draw_lines(axes, shores, "black", 1.3 * layout.scale)
    _draw_words(figure, layout, field, title or _title(field, number), coastlines=coastlines)
    if shown.limits:
        _draw_scale(figure, layout, shown.limits, label or field.band_names[number or 0])
    placed(path, lambda part: _save(figure, part))


def band_number(field: Field, band: int | str) -> int:
    """Return the number of a band, from 0, that is given by name or number.

    Raises:
        FormatError: If there is no such band.
    """
    names = field.band_names
    if isinstance(band, str) and band in names:
        return names.index(band)
    number = int(band) if isinstance(band, int) or band.isdecimal() else -1
    if 0 <= number < field.dim:
        return number
    raise FormatError(
        f"band={band!r} is no band of {field.name}. Give a number from 0 to {field.dim - 1}, or a name from "
        f"{names[0]} to {names[-1]}."
    )


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a picture are, in pixels; the map's from the lower left."""

    scale: float
    left: int
    bottom: int
    width: int
    height: int
    across: int
    up: int

    @classmethod
    def of(cls, chart: Chart, across: int, *, graticule: bool, scale: bool) -> _Layout:
        """Lay out a picture of a width around a map's shape.

        Raises:
            FormatError: If it would be too narrow for its words.
        """
        if across < 400:
            raise FormatError(f"width={across} is too narrow for a map. Give 400 pixels or more.")
        size = (across / WIDTH) ** SHRINK
        west, south, east, north = chart.box
        left = round((BESIDE + LABELS * graticule) * size)
        room = across - left - round((BESIDE + LABELS // 4 * graticule) * size)
        height = max(LEAST, round(room * (north - south) / (east - west)))
        width = room
        if height > TALLEST * room:
            height = round(TALLEST * room)
            width = max(LEAST, round(height * (east - west) / (north - south)))
        bottom = round((BELOW + LABELS // 2 * graticule + SCALE * scale) * size)
        return cls(
            size, left + (room - width) // 2, bottom, width, height, across, bottom + height + round(ABOVE * size)
        )

    def box(self, left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return a box in pixels as shares of the picture."""
        return left / self.across, bottom / self.up, width / self.across, height / self.up


def _figure(layout: _Layout) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(layout.across / DPI, layout.up / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _map_axes(figure: Figure, layout: _Layout, chart: Chart) -> Axes:
    axes = figure.add_axes(layout.box(layout.left, layout.bottom, layout.width, layout.height))
    west, south, east, north = chart.box
    axes.set(xlim=(west, east), ylim=(south, north))
    axes.set_axis_off()
    return axes


def _draw_field(axes: Axes, shown: Shown, chart: Chart, layout: _Layout) -> None:
    """Draw what the pixels of the map show, and the map's frame."""
    from matplotlib.patches import Polygon

    rgba = shown.on(chart, layout.height, layout.width)
    west, south, east, north = chart.box
    image = axes.imshow(rgba, extent=(west, east, south, north), interpolation="nearest", aspect="auto")
    image.set_clip_path(Polygon(chart.frame, transform=axes.transData))
    # Half of a frame's stroke is outside of the map.
    axes.add_patch(Polygon(chart.frame, fill=False, edgecolor=INK, lw=1.2 * layout.scale, clip_on=False, zorder=5))


def _draw_lines(axes: Axes, pieces: npt.NDArray[np.float64], colour: str, width: float, alpha: float = 1.0) -> None:
    """Draw pieces of lines, (n, 2, 2), where they are within the frame."""
    from matplotlib.collections import LineCollection

    lines = LineCollection(pieces, colors=colour, linewidths=width, alpha=alpha, capstyle="round")  # type: ignore[arg-type]
    axes.add_collection(lines, autolim=False)
    lines.set_clip_path(axes.images[0].get_clip_path())


def _draw_graticule(axes: Axes, chart: Chart, layout: _Layout) -> None:
    """Draw meridians and parallels, and name them at the left and below."""
    _draw_lines(axes, chart.graticule(), "white", 1.6 * layout.scale, 0.35)
    _draw_lines(axes, chart.graticule(), "black", 0.8 * layout.scale, 0.45)
    west, south, east, north = chart.box
    parallels, meridians = chart.labels()
    size, gap = 17 * layout.scale, 6 * layout.scale
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": size, "color": INK, "annotation_clip": False}
    for words, x, y in _apart(parallels, 2, 1.2 * size * (north - south) / layout.height):
        axes.annotate(words, (x, y), xytext=(-gap, 0), ha="right", va="center", **style)
    for words, x, y in _apart(meridians, 1, 4.5 * size * (east - west) / layout.width):
        axes.annotate(words, (x, y), xytext=(0, -gap), ha="center", va="top", **style)


def _apart(labels: list[tuple[str, float, float]], axis: int, least: float) -> list[tuple[str, float, float]]:
    """Return those of labels (words, x, y) that do not run into one another along an axis, 1 or 2."""
    kept: list[tuple[str, float, float]] = []
    for label in labels:
        if all(abs(float(label[axis]) - float(other[axis])) >= least for other in kept):
            kept.append(label)
    return kept


def _title(field: Field, band: int | None) -> str:
    name = f"{field.card.title} ({field.card.name})"
    return name if band is None else f"{name}: {field.band_names[band]}"


def _draw_words(figure: Figure, layout: _Layout, field: Field, title: str, *, coastlines: bool) -> None:
    """Write the title above, and below it what the pixels are; at the foot whose all that is."""
    height, width = field.grid.shape
    what = f"{width:,} × {height:,} pixels of {field.grid.side}, {field.grid.crs}"
    parts = f", {field.dim} component{'s' * (field.dim > 1)}" if field.components else ""
    whose = f"Licence of the embeddings: {field.card.licence_in_words}."
    whose += " Coastlines: Natural Earth." * coastlines
    left, size = BESIDE * layout.scale, layout.scale
    rows = (
        (title, layout.up - 44 * size, 30 * size, INK),
        (f"{what}{parts}", layout.up - 76 * size, 19 * size, FAINT),
        (whose, 18 * size, 17 * size, FAINT),
    )
    for words, bottom, points, colour in rows:
        # What does not fit into the width is written smaller.
        fitting = min(points, 1.75 * layout.across / max(1, len(words)))
        # A dollar sign is no formula.
        figure.text(left / layout.across, bottom / layout.up, words, fontsize=fitting, color=colour, parse_math=False)


def _draw_scale(figure: Figure, layout: _Layout, limits: tuple[float, float], name: str) -> None:
    """Draw the colour bar of a band."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    size = layout.scale
    place = layout.box(0.25 * layout.across, (BELOW + 30) * size, 0.5 * layout.across, 20 * size)
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), "viridis"), cax=figure.add_axes(place), orientation="horizontal",
        extend="both",
    )  # fmt: skip
    bar.ax.tick_params(labelsize=17 * size, length=4 * size, width=size, colors=INK)
    bar.outline.set_linewidth(size)
    bar.ax.text(
        -0.065, 0.5, name, transform=bar.ax.transAxes, ha="right", va="center", fontsize=17 * size, color=INK,
        parse_math=False,
    )  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})
