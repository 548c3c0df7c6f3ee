"""A map shows every place where its projection has it, names it, and says whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import pytest
import typer
from fields import ArrayField, listing
from PIL import Image
from typer.testing import CliRunner

from embedfield.card import Card
from embedfield.commands.preview import preview
from embedfield.errors import FormatError, GridError, OutputExistsError, StorageError
from embedfield.formats import write_field
from embedfield.grid import Grid
from embedfield.pictures.chart import COASTLINES, Chart
from embedfield.pictures.colours import Colours
from embedfield.pictures.draw import draw_field
from embedfield.pictures.picture import band_number, write_picture
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.pictures.chart import Kind

GLOBE = Grid.from_bounds(1)
FIJI = Grid.from_bounds(0.5, (170, -25, -170, -10))
UTM = Grid.from_bounds(10_000, (300_000, 5_000_000, 900_000, 5_500_000), "EPSG:32632")
ARCTIC = Grid.from_bounds(100_000, (-3_000_000, -3_000_000, 3_000_000, 3_000_000), "EPSG:3413")
WIDTH = 600
# Vectors of three numbers are their own colours: (255, 0, 0) is red.
PLAIN = Colours("array", np.eye(3), np.zeros(3), np.ones(3))
RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (240, 240, 240)


def halves(grid: Grid, south: npt.ArrayLike = (0, 0, 1), border: float = 30) -> ArrayField:
    """A field that is red north of a parallel, and something else south of it."""
    lat = grid.lonlat()[:, 1].reshape(grid.shape)
    values = np.where(lat > border, np.array([1, 0, 0])[:, None, None], np.asarray(south)[:, None, None])
    return ArrayField(np.where(np.isnan(lat), np.nan, values), grid)


def seen(field: Field, path: Path, **how: Any) -> npt.NDArray[np.uint8]:
    """The map of a field, (height, width, 3)."""
    wishes: dict[str, Any] = {"colours": PLAIN, "width": WIDTH} | how
    write_picture(field, path, **wishes)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share(picture: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """How many pixels have a colour."""
    return int((picture == colour).all(axis=-1).sum())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the picture goes."""
    return tmp_path / "map.png"


@pytest.mark.parametrize(("projection", "cap"), [("equal-earth", 1 / 4), ("plate-carree", 1 / 3), (None, 1 / 4)])
def test_equal_earth_shows_areas_as_they_are(path: Path, projection: Kind | None, cap: float) -> None:
    picture = seen(halves(GLOBE), path, projection=projection)
    red, blue = share(picture, RED), share(picture, BLUE)
    assert red / (red + blue) == pytest.approx(cap, abs=0.008)
    assert picture.shape[1] == WIDTH
    assert red + blue > 60_000


@pytest.mark.parametrize("grid", [GLOBE, FIJI, UTM, ARCTIC], ids=["globe", "fiji", "utm", "arctic"])
@pytest.mark.parametrize("kind", ["equal-earth", "plate-carree", "grid"])
def test_pixels_show_the_places_that_the_projection_says(grid: Grid, kind: Kind) -> None:
    chart = Chart(grid, kind)
    west, _, east, _ = grid.lonlat_bounds
    centre = (west + east) / 2
    worlds = {"equal-earth": f"+proj=eqearth +lon_0={centre}", "plate-carree": f"+proj=eqc +lon_0={centre}"}
    crs = worlds.get(kind) or (grid.crs if not grid.geographic else worlds["plate-carree"])
    forward = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform
    height, width = 37, 61
    points = chart.points(height, width)
    places = chart.plane.inverse(points)
    left, bottom, right, top = chart.box
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = forward(*places.T)
    there = np.isfinite(places[:, 0])
    scale = max(right - left, top - bottom)
    assert abs(x - (left + cols.ravel() / width * (right - left)))[there].max() < 1e-6 * scale
    assert abs(y - (top - rows.ravel() / height * (top - bottom)))[there].max() < 1e-6 * scale
    assert there.mean() > 0.7
    inside = there & grid.contains(np.nan_to_num(places))
    rows, cols = chart.positions(points)
    there_and_back = grid.places_at(rows[inside], cols[inside])
    turned = (there_and_back - places[inside])[:, 0] % 360
    assert np.minimum(turned, 360 - turned).max() < 1e-5
    assert abs((there_and_back - places[inside])[:, 1]).max() < 1e-6


def test_beside_the_globe_there_is_nothing() -> None:
    chart = Chart(GLOBE, "equal-earth")
    places = chart.plane.inverse(chart.points(100, 200))
    # Equal Earth's poles are lines of 0.59 of the equator; Šavrič, Patterson and Jenny (2018).
    assert np.isfinite(places[:200, 0]).mean() == pytest.approx(0.59, abs=0.02)
    assert np.isfinite(places[100 * 99 :][:200, 0]).mean() > 0.98


def test_a_map_across_the_antimeridian_is_whole(path: Path) -> None:
    grid = FIJI
    lon = grid.lonlat()[:, 0].reshape(grid.shape)
    west = np.where(lon > 0, np.array([1, 0, 0])[:, None, None], np.array([0, 0, 1])[:, None, None])
    picture = seen(ArrayField(west, grid), path)
    red, blue = (np.flatnonzero((picture == colour).all(axis=-1).any(axis=0)) for colour in (RED, BLUE))
    assert red.max() < blue.min()
    assert len(red) == pytest.approx(len(blue), abs=2)


@pytest.mark.parametrize("kind", ["equal-earth", "plate-carree", "grid"])
@pytest.mark.parametrize("grid", [UTM, ARCTIC], ids=["utm", "arctic"])
def test_a_projected_field_lies_right_on_any_map(path: Path, grid: Grid, kind: Kind) -> None:
    lat = 47 if grid is UTM else 75
    chart, field = Chart(grid, kind), halves(grid, border=lat)
    picture = seen(field, path, projection=kind)
    inside = (picture == RED).all(axis=-1) | (picture == BLUE).all(axis=-1)
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    west, south, east, north = chart.box
    part = picture[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    assert part.shape[0] / part.shape[1] == pytest.approx((north - south) / (east - west), rel=0.05)
    if kind == "grid":
        # What is red in the middle column is what the grid itself says.
        middle = field.values[0, :, grid.width // 2] > 0.5
        found = (part[:, part.shape[1] // 2] == RED).all(axis=-1)
        assert found.mean() == pytest.approx(middle.mean(), abs=0.03)
    else:
        assert (part[part.shape[0] // 10, part.shape[1] // 2] == RED).all()


def test_places_without_a_value_are_grey_and_those_beside_the_globe_white(path: Path) -> None:
    picture = seen(halves(GLOBE, south=(np.nan,) * 3), path, projection="equal-earth")
    grey, red = share(picture, GREY), share(picture, RED)
    assert red / (red + grey) == pytest.approx(1 / 4, abs=0.008)
    assert share(picture, (255, 255, 255)) > 15_000


@pytest.mark.parametrize(
    "grid",
    [
        Grid(west=3.0, north=50.0, res=1.0, width=1, height=1),
        Grid(west=3.0, north=90.0, res=1.0, width=1, height=180),
        Grid(west=-180.0, north=30.0, res=1.0, width=360, height=1),
        Grid(west=-180.0, north=-80.0, res=1.0, width=360, height=10),
        Grid.from_bounds(10, (100, -90, 90, 90)),
        Grid.from_bounds(500_000, None, "ESRI:54009"),
    ],
    ids=["one pixel", "a column", "a row", "a pole", "350 degrees", "oval"],
)
@pytest.mark.parametrize("empty", [False, True], ids=["red", "empty"])
def test_any_field_has_a_map(path: Path, grid: Grid, empty: bool) -> None:
    values = np.broadcast_to(np.reshape([np.nan if empty else 1, 0, 0], (3, 1, 1)), (3, *grid.shape))
    lonlat = grid.lonlat()[:, 0].reshape(grid.shape)
    picture = seen(ArrayField(np.where(np.isnan(lonlat), np.nan, values), grid), path, coastlines=True, graticule=True)
    assert (share(picture, RED) > 400) != empty
    assert (share(picture, GREY) > 400) or not empty
    band = seen(ArrayField(values, grid), path, colours=None, band=1)
    assert len(np.unique(band.reshape(-1, 3), axis=0)) > 2


def test_coastlines_are_natural_earths() -> None:
    pieces = Chart(GLOBE, "plate-carree").coastlines() / (np.pi / 180 * 6_378_137)
    middles = pieces.mean(axis=1)

    def near(lon: float, lat: float, degrees: float) -> bool:
        return bool((abs(middles - (lon, lat)).max(axis=1) < degrees).any())

    for lon, lat in ((-22.0, 64.1), (18.45, -34.3), (151.3, -33.8), (-5.7, 50.06), (179.99, -16.4)):
        assert near(lon, lat, 0.4), (lon, lat)
    for lon, lat in ((-130, -30), (0, 0), (20, 0), (80, 60), (-40, 40)):
        assert not near(lon, lat, 3), (lon, lat)
    assert COASTLINES.stat().st_size < 300_000


@pytest.mark.parametrize("kind", ["equal-earth", "plate-carree", "grid"])
@pytest.mark.parametrize("grid", [GLOBE, FIJI, ARCTIC, Grid.from_bounds(10, (100, -90, 90, 90))])
def test_no_line_runs_across_the_map(grid: Grid, kind: Kind) -> None:
    chart = Chart(grid, kind)
    west, south, east, north = chart.box
    for pieces in (chart.coastlines(), chart.graticule()):
        lengths = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1)
        assert lengths.max() < 0.2 * max(east - west, north - south)
        assert (pieces.max(axis=1) >= (west, south)).all()
        assert (pieces.min(axis=1) <= (east, north)).all()


def test_meridians_and_parallels_are_named_at_the_frame() -> None:
    parallels, meridians = Chart(GLOBE, "equal-earth").labels()
    assert [words for words, *_ in parallels] == ["90°S", "60°S", "30°S", "0°", "30°N", "60°N", "90°N"]
    assert {words for words, *_ in meridians} == {"180°", "120°W", "60°W", "0°", "60°E", "120°E"}
    _, meridians = Chart(FIJI).labels()
    assert [words for words, *_ in sorted(meridians, key=lambda one: one[1])] == [
        "170°E", "175°E", "180°", "175°W", "170°W",
    ]  # fmt: skip
    parallels, meridians = Chart(UTM).labels()
    assert [words for words, *_ in parallels] == ["46°N", "47°N", "48°N", "49°N"]
    # Zone 32 has 9 degrees east at 500,000 metres.
    eight, ten = (x for words, x, _ in meridians if words in {"8°E", "10°E"})
    assert 500_000 - min(eight, ten) == pytest.approx(max(eight, ten) - 500_000, rel=0.01)


def test_a_band_is_drawn_by_its_values(path: Path) -> None:
    lat = GLOBE.lonlat()[:, 1].reshape(1, *GLOBE.shape)
    field = ArrayField(np.concatenate((np.zeros_like(lat), lat)), GLOBE)
    by_number = seen(field, path, colours=None, band=1, projection="plate-carree")
    by_name = seen(field, path, colours=None, band="array_001", projection="plate-carree")
    np.testing.assert_array_equal(by_number, by_name)
    # viridis: from dark purple to yellow, at percentiles 2 and 98 by area, 73.7 degrees.
    column = by_number[:, 300].astype(int)
    yellow = np.flatnonzero((column == (253, 231, 36)).all(axis=-1))
    purple = np.flatnonzero((column == (68, 1, 84)).all(axis=-1))
    height = (600 - 2 * 28 * (600 / 1600) ** 0.6) / 2
    assert len(yellow) == pytest.approx(height * (90 - 73.7) / 180, abs=4)
    assert yellow.max() < purple.min()
    wide = seen(field, path, colours=None, band=1, projection="plate-carree", limits=(-900, 900))
    assert share(wide, (253, 231, 36)) < 3000 < share(by_number, (253, 231, 36))


@pytest.mark.parametrize("band", [3, -1, "3", "-1", "nothing", "1.5", ""])
def test_a_band_that_is_not_there_is_refused(path: Path, band: int | str) -> None:
    with pytest.raises(FormatError, match=r"is no band of array\. Give a number from 0 to 2, or a name from array_000"):
        write_picture(halves(UTM), path, band=band)
    assert not path.exists()


def test_bands_go_by_number_or_name() -> None:
    assert [band_number(halves(UTM), band) for band in (2, "2", "array_002")] == [2, 2, 2]


def test_a_map_of_components_is_that_of_the_whole_field(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, *UTM.shape)).astype(np.float32)
    whole = ArrayField(values, UTM)
    reduced = ReducedField(whole, Reduction.fit(values.reshape(6, -1).T, 6))
    colours = Colours.fit(values.reshape(6, -1).T, model="array")
    found = seen(reduced, path, colours=colours, title="a").astype(int)
    truth = seen(whole, path, colours=colours, title="a")
    heading = 60
    assert abs(found - truth)[heading:].max() <= 1


def test_words_are_written_as_they_are(path: Path) -> None:
    card = Card(name="array", title="$x^2$ of a _model_ <&>", dim=3, code="a:B", homepage="", code_licence="$MIT$")
    field = ArrayField(halves(UTM).values, UTM, card)
    assert not np.array_equal(seen(field, path), seen(halves(UTM), path))


def test_the_same_field_gives_the_same_bytes_and_nothing_else_is_left(path: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_picture(halves(FIJI), tmp_path / name, PLAIN, width=WIDTH, coastlines=True, graticule=True)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert listing(tmp_path) == ["one.png", "two.png"]


def test_what_cannot_be_drawn_is_refused(path: Path) -> None:
    with pytest.raises(GridError, match="projection='mercator' is not known. Choose from: equal-earth"):
        write_picture(halves(UTM), path, projection="mercator")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="width=300 is too narrow"):
        write_picture(halves(UTM), path, width=300)
    with pytest.raises(FormatError, match="vectors of 3 numbers"):
        write_picture(ArrayField(np.ones((4, 2, 2))), path, PLAIN)


# One door for all pictures.


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("a.jpg", {}, "is no picture that can be drawn. Give one of: .png, .tif, .qml"),
        ("a.tif", {"coastlines": True}, "is no map, and has no coastlines"),
        ("a.qml", {"band": 1}, "is no map, and has no band"),
        ("a.png", {"full": True}, "full is for a .tif"),
        ("a.png", {"band": 1, "own_colours": True}, "has colours of its own"),
        ("a.qml", {"colours": PLAIN}, "has colours of its own"),
        ("a.png", {"colours": PLAIN, "own_colours": True}, "Leave out one of them"),
        ("none/a.png", {}, "none is no folder"),
        ("a.png", {"save_colours": "a.png"}, "no name of colours. Give one that ends in .json"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, name: str, how: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        draw_field(halves(UTM), tmp_path / name, **how)
    assert listing(tmp_path) == []


def test_nothing_is_overwritten_unless_it_is_said(path: Path, tmp_path: Path) -> None:
    path.write_text("mine")
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        draw_field(halves(UTM), path)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        draw_field(halves(UTM), tmp_path / "a.tif", save_colours=tmp_path / "mine.json")
    assert (tmp_path / "mine.json").read_text() == "mine"
    with pytest.raises(OutputExistsError, match="is a folder"):
        draw_field(halves(UTM), _folder(tmp_path), overwrite=True)
    assert path.read_text() == "mine"
    assert draw_field(halves(UTM), path, overwrite=True) == path
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_raster_that_is_read_is_not_replaced_by_its_picture(tmp_path: Path) -> None:
    with write_field(halves(UTM), tmp_path / "field.tif") as field:
        before = field.disk_path.read_bytes()
        (tmp_path / "same.tif").hardlink_to(field.disk_path)
        for name in ("field.tif", "same.tif"):
            with pytest.raises(OutputExistsError, match="is the raster that is read"):
                draw_field(field, tmp_path / name, overwrite=True)
        assert field.disk_path.read_bytes() == before


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    return folder


def test_a_disk_that_fails_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("embedfield.pictures.draw.write_preview", full)
    with pytest.raises(StorageError, match="Cannot write .*: No space left on device"):
        draw_field(halves(UTM), path)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, in a folder of its own."""
    app = typer.Typer()
    app.command()(preview)
    monkeypatch.chdir(tmp_path)

    def given(*words: str | Path) -> str:
        result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    return given


def test_the_command_draws_what_its_output_is_called(tmp_path: Path, command: Any) -> None:
    (tmp_path / "field").mkdir()
    write_field(halves(FIJI), tmp_path / "field" / "halves.tif", dtype="float32")
    assert command("field") == "halves.png"
    assert command("field", "-o", "rgb.tif", "--full", "--save-colours", "colours.json") == "rgb.tif"
    assert command("field", "-o", "style.qml") == "style.qml"
    assert command("field", "-o", "map.png", "--coastlines", "--graticule", "--projection", "equal-earth") == "map.png"
    assert command("field", "-o", "band.png", "--band", "2", "--width", "800") == "band.png"
    assert command("field", "-o", "same.png", "--colours", "colours.json") == "same.png"
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "halves.png").read_bytes()
    with Image.open(tmp_path / "band.png") as image:
        assert image.width == 800


def test_the_command_takes_the_colours_in_the_folder_that_it_is_given(tmp_path: Path, command: Any) -> None:
    (tmp_path / "field").mkdir()
    write_field(halves(FIJI, border=-18), tmp_path / "field" / "halves.tif", dtype="float32")
    Colours("array", np.eye(3), np.zeros(3), np.full(3, 2.0)).write(tmp_path / "field" / "colours.json")
    command("field")
    command("field", "-o", "own.png", "--own-colours")
    half, own = (np.asarray(Image.open(tmp_path / name)) for name in ("halves.png", "own.png"))
    assert half[..., :3].max() == 128
    assert own[..., :3].max() == 255
