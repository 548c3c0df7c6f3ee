"""Air temperature from where a station is: embeddings against interpolation, in random and in spatial folds.

    python pipelines/air_temperature.py STATIONS.csv [--model geoclip ...] [--field FOLDER ...] [--out FOLDER]

Takes a table of stations with longitudes, latitudes and a column of mean
temperatures (--column meanT), such as the 3,076 stations of Hooker et al.
2018. Fits a ridge regression on the embeddings of a model or of a stored
field, and holds it against ridge on the bare coordinates and against the
stations nearby. Prints a table, and writes it and a map into a folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import geopandas
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from spatial_folds import FOLDS, REPEATS, Folds, folds_of, latlon, nearest_km

import embedfield as ef
from embedfield.embedder import LocationEmbedder
from embedfield.errors import EmbedfieldError, PlacesError
from embedfield.located import lonlat_of

mpl.use("agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    Floats = npt.NDArray[np.float64]

# Stations of which inverse-distance weighting takes the mean, and the power of the distance.
NEAREST, POWER = 8, 2
# No distance, in radians, counts as less: 6 mm.
LEAST = 1e-9
ON_LONLAT, ON_XYZ, INTERPOLATION = BASELINES = (
    "ridge on lon, lat",
    "ridge on x, y, z",
    f"inverse distance, {NEAREST} nearest",
)
PENALTIES = np.logspace(-2, 6, 9)
# Degrees between the places of the map.
STEP = 2.0
# Kilometres from the nearest station beyond which the map is pale, and how pale.
FAR, PALE = 1000.0, 0.3
COLOURS = "RdYlBu_r"
console = Console(soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Stations:
    """Where temperature was measured."""

    lonlat: Floats
    """Degrees, (N, 2)."""
    temperature: Floats
    """Mean, degrees Celsius, (N,)."""

    def __len__(self) -> int:
        """How many."""
        return len(self.temperature)

    @classmethod
    def read(cls, path: Path, column: str) -> Stations:
        """Read a table; rows without a temperature are left out.

        Raises:
            PlacesError: If it has no such column, or that holds no numbers.
        """
        table = ef.read_places(path)
        if column not in table:
            raise PlacesError(
                f"{path} has no column {column!r}; it has: {', '.join(map(str, table))}. Name one with --column."
            )
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise PlacesError(f"Column {column!r} of {path} is not of numbers. Name another with --column.")
        table = table[table[column].notna()]
        return cls(lonlat_of(table), table[column].to_numpy(dtype=np.float64))

    def where(self, chosen: npt.NDArray[np.bool_]) -> Stations:
        """Return some of the stations."""
        return Stations(self.lonlat[chosen], self.temperature[chosen])


class Source(NamedTuple):
    """Where embeddings come from."""

    name: str
    source: Any
    method: Any
    latitudes: tuple[float, float]

    def embedder(self) -> LocationEmbedder:
        """Return its transformer."""
        return LocationEmbedder(self.source, method=self.method)

    def has_value(self, lonlat: Floats) -> npt.NDArray[np.bool_]:
        """Return at which places it has a value, (N,)."""
        south, north = self.latitudes
        there = (lonlat[:, 1] >= south) & (lonlat[:, 1] <= north)
        there[there] = ~np.isnan(self.embedder().transform(lonlat[there])).any(axis=1)
        return there


class Score(NamedTuple):
    """How near predictions at stations that were held out are to what was measured there."""

    r2: float
    """Share of the variance that is explained; below zero worse than the mean of all."""
    rmse: float
    """Degrees Celsius."""


def main(words: Sequence[str] | None = None) -> None:
    """Compare, print, draw."""
    args = arguments(words)
    sources = list(sources_of(args.model, args.field))
    stations = Stations.read(args.stations, args.column)
    valued = np.logical_and.reduce([source.has_value(stations.lonlat) for source in sources])
    if not valued.all():
        console.print(f"{np.count_nonzero(~valued):,} stations are left out: there a model or a field has no value.")
    stations = stations.where(valued)
    both = folds_of(stations.lonlat, args.block)
    scores = compare(stations, methods(sources), both)
    console.print(table_of(scores, both, len(stations)))
    best = max(sources, key=lambda source: scores[ridge_name(source)][1].r2)
    console.print(findings(scores, both, args.block))
    args.out.mkdir(parents=True, exist_ok=True)
    write_scores(scores, both, args.out / "air_temperature.csv")
    draw(stations, best, args.coastline, args.out / "air_temperature.png")
    console.print(f"\nWrote {args.out / 'air_temperature.csv'} and {args.out / 'air_temperature.png'}.")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stations", type=Path, help="table of stations")
    parser.add_argument("--model", action="append", default=[], help="name of a model, again for more; geoclip if none")
    parser.add_argument("--field", action="append", default=[], help="a stored field, again for more")
    parser.add_argument("--column", default="meanT", help="column of temperatures, in degrees Celsius")
    parser.add_argument("--block", type=float, default=15.0, help="side, in degrees, of the blocks that are held out")
    parser.add_argument("--coastline", type=Path, help="vector file of coasts for the map, such as Natural Earth's")
    parser.add_argument("--out", type=Path, default=Path("air_temperature"), help="folder for the table and the map")
    args = parser.parse_args(words)
    args.model = args.model or ([] if args.field else ["geoclip"])
    return args


def sources_of(models: Sequence[str], fields: Sequence[str]) -> Iterator[Source]:
    """Yield models and fields."""
    for name in models:
        card = ef.load(name).card
        yield Source(card.name, card, None, card.latitudes)
    for path in fields:
        field = ef.open_field(path)
        yield Source(f"{field.card.name} in {Path(path).name}", field, "bilinear", (-90.0, 90.0))


# Methods. -----------------------------------------------------------------------------------------------------------


def methods(sources: Sequence[Source]) -> dict[str, Any]:
    """Return the regressions that are compared, from (lon, lat) to temperature, by name."""
    interpolation = KNeighborsRegressor(NEAREST, weights=weights, metric="haversine", algorithm="ball_tree")
    return {
        ON_LONLAT: make_pipeline(StandardScaler(), RidgeCV(PENALTIES)),
        ON_XYZ: ridge(LocationEmbedder("xyz")),
        INTERPOLATION: make_pipeline(FunctionTransformer(latlon), interpolation),
        **{ridge_name(source): ridge(source.embedder()) for source in sources},
    }


def ridge(embedder: LocationEmbedder) -> Any:
    """Return a ridge regression on embeddings; its penalty is chosen among the stations that it is fitted to."""
    return make_pipeline(embedder, StandardScaler(), RidgeCV(PENALTIES))


def ridge_name(source: Source) -> str:
    """Return what a ridge regression on a source is called."""
    return f"ridge on {source.name}"


def weights(distances: Floats) -> Floats:
    """Return the weights of stations by their distance."""
    weight: Floats = 1 / np.maximum(distances, LEAST) ** POWER
    return weight


# Scores. ------------------------------------------------------------------------------------------------------------


def compare(stations: Stations, regressions: Mapping[str, Any], both: Sequence[Folds]) -> dict[str, tuple[Score, ...]]:
    """Return the scores of each method, for each way to hold out stations."""
    return {name: tuple(score(stations, model, folds) for folds in both) for name, model in regressions.items()}


def score(stations: Stations, model: Any, folds: Folds) -> Score:
    """Return the mean score of repeats, each over all stations, held out once."""
    measured = stations.temperature
    predicted = [cross_val_predict(model, stations.lonlat, measured, cv=splits) for splits in folds.splits]
    r2, rmse = (
        float(np.mean([metric(measured, one) for one in predicted])) for metric in (r2_score, root_mean_squared_error)
    )
    return Score(r2, rmse)


# What was found. ----------------------------------------------------------------------------------------------------


def table_of(scores: Mapping[str, Sequence[Score]], both: Sequence[Folds], count: int) -> Table:
    """Return the scores as a table for a terminal; the best of each column stands out."""
    table = Table(title=f"Mean air temperature at {count:,} stations, {FOLDS} folds, mean of {REPEATS} repeats")
    table.add_column("")
    for folds in both:
        table.add_column(f"{folds.name}\nR²", justify="right")
        table.add_column("\nRMSE, °C", justify="right")
    leaders = [best_of(scores, number) for number in range(len(both))]
    for name, found in scores.items():
        cells = []
        for one, leader in zip(found, leaders, strict=True):
            style = "bold green" if name == leader else "default"
            cells += [f"[{style}]{one.r2:.3f}[/]", f"[{style}]{one.rmse:.2f}[/]"]
        table.add_row(name, *cells)
    return table


def best_of(scores: Mapping[str, Sequence[Score]], number: int) -> str:
    """Return the name of the method that is best in one of the ways to hold out stations."""
    return max(scores, key=lambda name: scores[name][number].r2)


def findings(scores: Mapping[str, Sequence[Score]], both: Sequence[Folds], side: float) -> str:
    """Return in words what the scores say, and what they cannot."""
    random, spatial = both
    return (
        f"\nRandom folds ask for a place among stations: the nearest that was fitted to is {random.distance:,.0f} km "
        "away (median). In the literature plain interpolation wins there, and no such score tells what a model knows "
        f"of places. Here {won(scores, 0)}.\n"
        f"Folds of blocks, {side:g}° a side, ask for a region without stations: the nearest is {spatial.distance:,.0f} "
        f"km away. That is where an embedding has to show what it knows. Here {won(scores, 1)}."
    )


def won(scores: Mapping[str, Sequence[Score]], number: int) -> str:
    """Return in words which method was best, and how far behind the best of the others' kind was."""
    best = best_of(scores, number)
    rivals = [name for name in scores if (name in BASELINES) != (best in BASELINES)]
    second = max(rivals, key=lambda name: scores[name][number].r2)
    kind = "best without an embedding" if second in BASELINES else "best embedding"
    return (
        f"'{best}' is best with R² {scores[best][number].r2:.3f}; the {kind}, '{second}', has "
        f"{scores[second][number].r2:.3f}"
    )


def write_scores(scores: Mapping[str, Sequence[Score]], both: Sequence[Folds], path: Path) -> None:
    """Write the scores as a table."""
    rows = [
        {"method": name, "folds": folds.name, "r2": one.r2, "rmse": one.rmse, "nearest_km": folds.distance}
        for name, found in scores.items()
        for folds, one in zip(both, found, strict=True)
    ]
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4f")


def draw(stations: Stations, source: Source, coastline: Path | None, path: Path) -> None:
    """Draw the stations over what a regression that is fitted to all of them predicts elsewhere."""
    grid = ef.Grid.from_bounds(STEP)
    west, south, east, north = grid.bounds
    lon, lat = stations.lonlat.T
    norm = Normalize(*np.percentile(stations.temperature, [1, 99]))
    pale = np.where(nearest_km(stations.lonlat, grid.lonlat()) < FAR, 1.0, PALE).reshape(grid.shape)
    figure, axes = plt.subplots(figsize=(12, 6.4), layout="constrained")
    elsewhere = predicted(stations, source, grid)
    axes.imshow(elsewhere, extent=(west, east, south, north), alpha=pale, cmap=COLOURS, norm=norm)
    if coastline is not None:
        draw_coasts(axes, coastline)
    shown = axes.scatter(
        lon, lat, 9, stations.temperature, edgecolors="black", linewidths=0.25, cmap=COLOURS, norm=norm
    )
    axes.set(xlim=(west, east), ylim=(south, north), xlabel="longitude", ylabel="latitude")
    axes.set_title(
        f"Mean air temperature: {len(stations):,} stations (dots), ridge on {source.name} between them; "
        f"pale beyond {FAR:,.0f} km from any"
    )
    figure.colorbar(shown, label="°C", shrink=0.8, extend="both")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def predicted(stations: Stations, source: Source, grid: ef.Grid) -> Floats:
    """Return what a regression that is fitted to all stations predicts, (height, width); NaN without an embedding."""
    lonlat = grid.lonlat()
    there = source.has_value(lonlat)
    values = np.full(len(lonlat), np.nan)
    values[there] = ridge(source.embedder()).fit(stations.lonlat, stations.temperature).predict(lonlat[there])
    return values.reshape(grid.shape)


def draw_coasts(axes: Axes, path: Path) -> None:
    """Draw the lines of a file, or the outlines of its polygons."""
    shapes = geopandas.read_file(path).to_crs("EPSG:4326").geometry
    lines = shapes.where(~shapes.geom_type.isin(["Polygon", "MultiPolygon"]), shapes.boundary)
    lines.plot(ax=axes, color="black", linewidth=0.5)


if __name__ == "__main__":
    try:
        main()
    except EmbedfieldError as refusal:
        raise SystemExit(str(refusal)) from refusal
