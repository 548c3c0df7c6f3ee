"""A preview is a picture that opens, is the right way round, and is cheap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
from fields import ArrayField, Breaking, bumpy, listing
from PIL import Image
from range_server import serving

from embedfield.card import Card
from embedfield.errors import FormatError
from embedfield.field import Field
from embedfield.formats import cog, open_field, write_field
from embedfield.grid import Grid
from embedfield.pictures import look
from embedfield.pictures.colours import Colours
from embedfield.pictures.preview import SIZE, colours_of, stored_colours, write_both, write_preview, write_rgb
from embedfield.places import GLOBE
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.evaluate import EncodedField
    from embedfield.formats.geozarr import Layout
    from embedfield.formats.stored import StoredField
    from embedfield.grid import Bounds
    from embedfield.window import Window

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Drawn(Field):
    """A field of named bands, drawn as they are read."""

    def __init__(self, bands: list[str], res: float, bounds: Bounds | None = GLOBE, crs: str = "EPSG:4326") -> None:
        self.bands, self.grid = bands, Grid.from_bounds(res, bounds, crs)
        self.card = Card(name="drawn", title="", dim=len(bands), code="a:B", homepage="")
        self.reads: list[Window] = []

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        self.reads.append(window or self.grid.window)
        shape = (window.height, window.width) if window else self.grid.shape
        lon, lat = self.grid.lonlat(window).T.reshape(2, *shape)
        lon = np.where(lon < self.grid.bounds[0], lon + 360, lon) if self.grid.geographic else lon
        drawn = {"lon": lon, "lat": lat, "product": lon * lat, "constant": np.full_like(lon, 0.1)}
        drawn |= {"south of 30": np.where(lat > 30, np.nan, lat), "nothing": np.full_like(lon, np.nan)}
        return np.stack([drawn[band] for band in self.bands]).astype(np.float32)


def picture(field: Field, path: Path) -> Pixels:
    """The preview of a field as (height, width, 4), uint8."""
    write_preview(field, path)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        return np.asarray(image)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the picture goes."""
    return tmp_path / "preview.png"


def test_a_small_field_is_enlarged_to_sharp_pixels(make_field: Callable[..., EncodedField], path: Path) -> None:
    seen = picture(make_field(10), path)
    assert seen.shape == (540, 1080, 4)
    assert (seen[..., 3] == 255).all()
    np.testing.assert_array_equal(seen, seen[::30, ::30].repeat(30, axis=0).repeat(30, axis=1))


def test_the_same_field_gives_the_same_bytes(
    make_field: Callable[..., EncodedField], path: Path, tmp_path: Path
) -> None:
    write_preview(make_field(10), path)
    write_preview(make_field(10), tmp_path / "again.png")
    assert path.read_bytes() == (tmp_path / "again.png").read_bytes()


def test_one_band_is_a_grey_picture_with_the_north_at_its_top(path: Path) -> None:
    seen = picture(Drawn(["lat"], 10), path)
    np.testing.assert_array_equal(seen[..., 0], seen[..., 1])
    np.testing.assert_array_equal(seen[..., 0], seen[..., 2])
    falling = seen[::30, 0, 0].astype(int)
    assert (falling[0], falling[-1]) == (255, 0)
    assert (np.diff(falling) <= 0).all()
    # By area, percentiles 2 and 98 lie at asin(0.96) = 73.7 degrees: in the pixels of 75.
    assert falling[[2, 8]].tolist() == pytest.approx([255 * (65 + 75) / 150, 255 * (5 + 75) / 150], abs=1)


@pytest.mark.parametrize("bounds", [GLOBE, (160, -10, -160, 10), (100, -20, 90, 20)], ids=["globe", "fiji", "turned"])
def test_the_west_is_at_the_left_even_across_the_antimeridian(path: Path, bounds: Bounds) -> None:
    seen = picture(Drawn(["lon"], 10, bounds), path)
    rising = seen[0, :, 0].astype(int)
    assert (rising[0], rising[-1]) == (0, 255)
    assert (np.diff(rising) >= 0).all()


def test_two_bands_are_red_and_cyan(path: Path) -> None:
    seen = picture(Drawn(["lon", "lat"], 10), path)
    assert seen.shape == (540, 1080, 4)
    np.testing.assert_array_equal(seen[..., 1], seen[..., 2])
    # The stronger component, longitude, is red; the other is latitude.
    assert (np.ptp(seen[..., 0], axis=0) <= 2).all()
    assert (np.ptp(seen[..., 1], axis=1) <= 2).all()
    assert seen[0, 0].tolist() == [0, 255, 255, 255]


def test_places_without_a_value_are_transparent(path: Path) -> None:
    field = Drawn(["south of 30", "lon"], 10)
    seen = picture(field, path)
    assert (seen[:180, :, 3] == 0).all()  # 90 to 30 north
    assert (seen[180:, :, 3] == 255).all()


def test_a_field_without_any_value_is_transparent_throughout(path: Path) -> None:
    seen = picture(Drawn(["nothing"] * 2, 10), path)
    assert seen.shape == (540, 1080, 4)
    assert (seen[..., 3] == 0).all()


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_a_field_of_one_value_has_one_opaque_colour(path: Path, bands: int) -> None:
    seen = picture(Drawn(["constant"] * bands, 10), path)
    assert len(np.unique(seen.reshape(-1, 4), axis=0)) == 1
    assert (seen[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("res", "bounds", "shape"),
    [
        (1, (10, 20, 11, 21), (1080, 1080)),
        (0.1, (10, -53.9, 10.1, 54), (1079, 1)),
        (0.1, (10, -54, 10.1, 54), (1080, 2)),  # every second of 1080, twice
        (0.05, (-180, 20, 180, 20.05), (1, 900)),  # every eighth of 7200
        (0.05, (10, -90, 10.1, 90), (900, 1)),  # every fourth of 3600
        (1, (0, 0, 3, 90), (1080, 36)),
    ],
    ids=["one pixel", "one column", "a longer one", "one long row", "a tall column", "a tall strip"],
)
def test_a_picture_is_shaped_like_its_grid(path: Path, res: float, bounds: Bounds, shape: tuple[int, int]) -> None:
    seen = picture(Drawn(["lon", "lat", "product"], res, bounds), path)
    assert seen.shape == (*shape, 4)
    assert (seen[..., 3] == 255).all()


def test_a_large_field_is_read_by_blocks_and_shown_by_even_steps(path: Path) -> None:
    field = Drawn(["lon", "lat", "product"], 0.1)
    seen = picture(field, path)
    assert seen.shape == (450, 900, 4)
    assert max(read.width * read.height for read in field.reads) <= field.blocksize**2


def test_a_picture_shows_directions_and_not_lengths(path: Path) -> None:
    class Longer(Drawn):
        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            drawn = super().read(window)
            return (drawn * (1 + (drawn[:1] / 90) ** 2)).astype(np.float32)

    bands = ["lon", "lat", "constant", "product"]
    plain = picture(Drawn(bands, 10), path)
    np.testing.assert_allclose(picture(Longer(bands, 10), path).astype(int), plain, atol=1)


def test_a_map_of_the_world_is_transparent_beside_the_globe(path: Path) -> None:
    seen = picture(Drawn(["lon", "lat", "product"], 200_000, None, "ESRI:54009"), path)
    height, width = 92, 182
    assert seen.shape == (height * 5, width * 5, 4)
    opaque = (seen[::5, ::5, 3] == 255).mean()
    assert opaque == pytest.approx(np.pi / 4, abs=0.03)  # an ellipse in its box
    assert seen[0, 0, 3] == 0


def test_a_projected_picture_has_the_colours_of_its_places(path: Path) -> None:
    seen = picture(Drawn(["lat"], 200_000, None, "EPSG:3413"), path)
    grey = seen[..., 0].astype(int)
    middle = len(grey) // 2
    assert grey[middle, middle] > 250  # the pole
    assert (np.diff(grey[middle, :middle]) >= 0).all()
    assert (seen[..., 3] == 255).all()


def test_a_region_small_in_its_bounds_is_shown_in_all_its_colours(path: Path) -> None:
    class Speck(Drawn):
        """Four pixels far apart, as a stored field of a small region: it does not know of the region."""

        def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
            drawn = super().read(window)
            lon, lat = self.grid.lonlat(window).T.reshape(2, *drawn.shape[1:])
            few = (abs(lon) % 120 < 1) & (abs(lat - 50) < 1)
            return np.where(few, drawn, np.float32(np.nan))

    seen = picture(Speck(["lon"], 1), path)
    shown = seen[seen[..., 3] == 255][:, 0]
    assert 0 < len(shown) < seen[..., 0].size / 1000
    assert (shown.min(), shown.max()) == (0, 255)


# Fields on disk, which have coarser levels.

RES = 0.25
SHAPE = 360, 720
# A picture of the globe at a quarter of a degree, by one of its four levels.
HOLE = np.s_[:, 400:480, 600:800]


def waves() -> npt.NDArray[np.float32]:
    """Return four bands over the globe, (4, 720, 1440), with a hole."""
    grid = Grid.from_bounds(RES)
    lon, lat = np.deg2rad(grid.lonlat()).T.reshape(2, *grid.shape)
    values = np.stack([np.sin(3 * lon) * np.cos(lat), np.sin(5 * lat), np.cos(2 * lon) * np.cos(lat), 0 * lon + 0.3])
    values[HOLE] = np.nan
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same field on disk in every form."""
    field, folder = ArrayField(waves(), Grid.from_bounds(RES)), tmp_path_factory.mktemp("kept")
    forms: list[tuple[str, str, Layout]] = [
        ("cog", ".tif", "sharded"),
        ("zarr", ".zarr", "sharded"),
        ("flat", ".zarr", "flat"),
    ]
    paths = {
        name: write_field(field, folder / name / f"field{suffix}", layout=layout).disk_path
        for name, suffix, layout in forms
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 512 * 512 * 4)
        paths["tiles"] = write_field(field, folder / "tiles" / "field.tif").disk_path
    with rasterio.open(paths["cog"]) as source:
        paths["foreign"] = folder / "foreign.tif"
        rasterio.shutil.copy(source, paths["foreign"], driver="GTiff")
    return paths


# A tile of 512 x 512 pixels has two levels.
@pytest.mark.parametrize(("form", "fitted"), [("cog", 8), ("zarr", 8), ("flat", 8), ("tiles", 4)])
def test_a_field_on_disk_is_shown_by_a_coarser_level_alone(
    kept: dict[str, Path], path: Path, form: str, fitted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int | None] = []
    with open_field(kept[form]) as field:
        read = field._codes

        def counted(window: Window, overview: int | None = None) -> npt.NDArray[Any]:
            levels.append(overview)
            codes: npt.NDArray[Any] = read(window, overview)
            return codes

        monkeypatch.setattr(field, "_codes", counted)
        seen = picture(field, path)
    assert seen.shape == (*SHAPE, 4)
    assert set(levels) == {fitted, 2}


@pytest.mark.parametrize(("form", "tolerance"), [("zarr", 0), ("flat", 0), ("tiles", 8)])
def test_every_form_of_a_field_has_the_same_picture(
    kept: dict[str, Path], path: Path, form: str, tolerance: int
) -> None:
    with open_field(kept["cog"]) as one, open_field(kept[form]) as other:
        found, truth = picture(other, path).astype(int), picture(one, path)
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance)


def test_a_field_without_levels_has_nearly_the_same_picture(kept: dict[str, Path], path: Path) -> None:
    with open_field(kept["cog"]) as one, open_field(kept["foreign"]) as other:
        assert other.overviews == {}
        with_levels, without = picture(one, path).astype(int), picture(other, path).astype(int)
    assert with_levels.shape == without.shape
    # Means of 2 x 2 pixels, and one of the four.
    assert abs(with_levels - without)[..., :3].max() <= 12
    assert abs(with_levels - without)[..., :3].mean() < 2


@pytest.mark.parametrize("form", ["cog", "zarr", "foreign"])
def test_a_masked_region_is_transparent_in_the_picture_of_a_level(kept: dict[str, Path], path: Path, form: str) -> None:
    with open_field(kept[form]) as field:
        seen = picture(field, path)
    hidden = np.zeros(SHAPE, dtype=bool)
    hidden[200:240, 300:400] = True
    np.testing.assert_array_equal(seen[..., 3] == 0, hidden)


def test_colours_are_the_components_of_what_is_shown_stretched_by_area(kept: dict[str, Path], path: Path) -> None:
    with open_field(kept["cog"]) as field:
        shown = field.read_overview(2).reshape(4, -1).T.astype(np.float64)
        seen = picture(field, path).reshape(-1, 4)[:, :3]
    there = ~np.isnan(shown).any(axis=1)
    directions = shown[there] / np.linalg.norm(shown[there], axis=1, keepdims=True)
    area = np.repeat(np.cos(np.deg2rad(90 - (np.arange(360) + 0.5) / 2)), 720)[there]
    centred = directions - np.average(directions, axis=0, weights=area)
    _, axes = np.linalg.eigh(centred.T @ (centred * area[:, None]))
    for colour in range(3):
        component = centred @ axes[:, -1 - colour]
        order = np.argsort(component)
        shares = np.cumsum(area[order]) / area.sum()
        low, high = np.interp((0.02, 0.98), shares, component[order])
        truth = 255 * ((component - low) / (high - low)).clip(0, 1)
        found = seen[there, colour].astype(float)
        # Colours are fitted on a coarser level, and either sign of a component would do.
        assert min(abs(found - truth).mean(), abs(255 - found - truth).mean()) < 4


def noted(field: StoredField, monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """Return a list that takes note of all windows that are read from now on."""
    windows: list[Window] = []
    read = field._codes

    def codes(window: Window, *level: int) -> npt.NDArray[Any]:
        windows.append(window)
        found: npt.NDArray[Any] = read(window, *level)
        return found

    monkeypatch.setattr(field, "_codes", codes)
    return windows


def test_a_picture_is_drawn_in_parts(kept: dict[str, Path], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_field(kept["cog"]) as field:
        whole = picture(field, path)
        monkeypatch.setattr(look, "HELD", 4 * 128 * 128)
        windows = noted(field, monkeypatch)
        np.testing.assert_array_equal(picture(field, path), whole)
    assert max(window.width * window.height for window in windows) == 128 * 128


# Colours of a model, and GeoTIFFs in them.


def made(west: float, width: int, folder: Path, values: npt.NDArray[np.float32] | None = None) -> StoredField:
    """A stored field of eight bands over a part of the globe, a pixel a degree, as float32."""
    grid = Grid(west=west, north=60.0, res=1.0, width=width, height=40)
    lon, lat = np.deg2rad(grid.lonlat()).T.reshape(2, *grid.shape)
    drawn = [np.sin(lon * (band % 3 + 1) + band) * np.cos(lat) + np.sin(band * lat) for band in range(8)]
    given = np.stack(drawn).astype(np.float32) if values is None else values
    return write_field(ArrayField(given, grid), folder / "field.tif", dtype="float32")


@pytest.fixture
def colours() -> Colours:
    """Colours of vectors of eight numbers, of the model of `ArrayField`."""
    return Colours.fit(np.random.default_rng(8).normal(size=(1000, 8)) + 1, model="array", fitted_on="chance")


def rgb(field: Field, path: Path, colours: Colours | None, **how: Any) -> Pixels:
    """The GeoTIFF of a field as (height, width, 4), uint8."""
    write_rgb(field, path, colours, **how)
    with rasterio.open(path) as source:
        return np.moveaxis(source.read(), 0, -1)


def test_neighbours_in_the_colours_of_their_model_make_one_picture(tmp_path: Path, colours: Colours) -> None:
    parts = [rgb(made(west, 30, tmp_path / str(west)), tmp_path / "part.tif", colours) for west in (-10, 20)]
    whole = rgb(made(-10, 60, tmp_path / "whole"), tmp_path / "whole.tif", colours)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_stored_colours_are_those_beside_the_field_then_those_of_its_model(tmp_path: Path, colours: Colours) -> None:
    field = made(0, 20, tmp_path / "model" / "a")
    assert stored_colours(field) is None
    other = tmp_path / "model" / "b"
    other.mkdir()
    colours.write(other / "colours.json")
    found = stored_colours(field)
    assert found
    assert found.to_json() == colours.to_json()
    nearer = colours.stretched(colours.components(np.ones((8, 5)) * np.arange(5)))
    nearer.write(tmp_path / "model" / "a" / "colours.json")
    found = stored_colours(field)
    assert found
    assert found.to_json() == nearer.to_json()


@pytest.mark.parametrize("change", [{"model": "other"}, {"weights_sha256": "ab"}, {"axes": np.eye(3)}])
def test_colours_of_another_model_are_not_taken(tmp_path: Path, colours: Colours, change: dict[str, Any]) -> None:
    field = made(0, 20, tmp_path / "model" / "a")
    (tmp_path / "model" / "b").mkdir()
    for folder in ("a", "b"):
        replace(colours, **change).write(tmp_path / "model" / folder / "colours.json")
    assert stored_colours(field) is None


def test_damaged_colours_beside_a_field_are_named_and_those_of_others_do_not_matter(
    tmp_path: Path, path: Path, colours: Colours
) -> None:
    field = made(0, 20, tmp_path / "model" / "b")
    for name in "ac":
        (tmp_path / "model" / name).mkdir()
    (tmp_path / "model" / "a" / "colours.json").write_text("{")
    colours.write(tmp_path / "model" / "c" / "colours.json")
    assert stored_colours(field) is not None
    (tmp_path / "model" / "b" / "colours.json").write_text("{")
    with pytest.raises(FormatError, match=r"b/colours\.json holds no colours"):
        write_preview(field, path)


def test_colours_are_looked_for_beside_an_item_that_stands_elsewhere(tmp_path: Path, colours: Colours) -> None:
    field = made(0, 20, tmp_path / "raster")
    (tmp_path / "items").mkdir()
    colours.write(tmp_path / "items" / "colours.json")
    assert stored_colours(field, tmp_path / "items") is not None


def test_colours_of_other_vectors_are_refused(tmp_path: Path, path: Path, colours: Colours) -> None:
    field = ArrayField(np.ones((5, 3, 3)))
    for write in (write_preview, write_rgb):
        with pytest.raises(FormatError, match="vectors of 8 numbers, and those of array have 5"):
            write(field, path, colours)
    assert not path.exists()


def test_own_colours_are_those_of_the_preview(tmp_path: Path, path: Path) -> None:
    field = made(0, 20, tmp_path / "field")
    own = colours_of(field)
    np.testing.assert_array_equal(picture(field, path), picture_in(field, path, own))
    own.write(tmp_path / "field" / "colours.json")
    assert colours_of(field).to_json() == colours_of(field, own=True).to_json()


def picture_in(field: Field, path: Path, colours: Colours) -> Pixels:
    """The preview of a field in given colours."""
    write_preview(field, path, colours)
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_field_of_components_has_the_colours_of_the_whole_one(tmp_path: Path, colours: Colours) -> None:
    field = made(0, 30, tmp_path / "whole")
    reduced = ReducedField(field, Reduction.fit(field.read().reshape(8, -1).T, 8))
    stored = write_field(reduced, tmp_path / "reduced" / "field.tif", dtype="float32")
    one, other = (rgb(each, tmp_path / "rgb.tif", colours).astype(int) for each in (field, stored))
    assert abs(one - other).max() <= 1


@pytest.mark.parametrize("form", ["cog", "zarr", "foreign", "tiles"])
def test_a_geotiff_lies_where_the_field_lies(kept: dict[str, Path], tmp_path: Path, form: str) -> None:
    with open_field(kept[form]) as field:
        write_rgb(field, tmp_path / "rgb.tif", size=500)
        colours, grid = colours_of(field), field.grid
        sample = field.pixels([100, 600], [300, 1300])
    with rasterio.open(tmp_path / "rgb.tif") as source:
        assert (source.crs, source.bounds) == (grid.crs, grid.bounds)
        assert source.shape == (360, 720)
        assert source.overviews(1) == [2, 4]
        assert [interp.name for interp in source.colorinterp] == ["red", "green", "blue", "alpha"]
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        seen = source.read()
    # A pixel of four; those that are picked where there are no levels lie in it.
    truth = colours.of(sample.T[:, None])[0].astype(int)
    assert abs(seen[:, [50, 300], [150, 650]].T - truth).max() <= 12
    assert (seen[3, 200:240, 300:400] == 0).all()
    assert (seen[3] == 0).sum() == 40 * 100


def test_all_pixels_are_written_block_by_block(
    kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    with open_field(kept["cog"]) as field:
        colours = colours_of(field)
        truth = colours.of(field.read())
        monkeypatch.setattr(look, "HELD", 4 * 128 * 128)
        windows = noted(field, monkeypatch)
        seen = rgb(field, tmp_path / "rgb.tif", colours, full=True, progress=lambda *now: told.append(now))
    np.testing.assert_array_equal(seen, truth)
    assert max(window.width * window.height for window in windows) <= 256 * 256
    assert told[-1] == (720 * 1440, 720 * 1440)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (Grid(west=170.0, north=5.0, res=0.5, width=41, height=21), (21, 41)),
        (Grid.from_bounds(100_000, (-500_000, -500_000, 500_000, 500_000), "EPSG:3413"), (10, 10)),
        (Grid.from_bounds(1000, (300_000, 5_000_000, 310_000, 5_020_000), "EPSG:32632"), (20, 10)),
        (Grid(west=3.0, north=50.0, res=1.0, width=1, height=1), (1, 1)),
        (Grid(west=3.0, north=50.0, res=0.01, width=2100, height=3), (2, 1050)),
    ],
    ids=["antimeridian", "pole", "utm", "one pixel", "a long row of odd height"],
)
def test_a_geotiff_of_any_grid_has_its_pixels(tmp_path: Path, colours: Colours, grid: Grid, shape: Any) -> None:
    field = ArrayField(np.random.default_rng(1).normal(size=(8, *grid.shape)), grid)
    seen = rgb(field, tmp_path / "rgb.tif", colours)
    assert seen.shape == (*shape, 4)
    with rasterio.open(tmp_path / "rgb.tif") as source:
        assert source.crs == grid.crs
        west, north = source.transform @ (0, 0)
        step = round(grid.width / shape[1])
        assert (west, north, source.transform.a) == (grid.west, grid.north, pytest.approx(step * grid.res))
    if step == 1:
        np.testing.assert_array_equal(seen, colours.of(field.read()))


def test_a_geotiff_of_nothing_is_transparent(tmp_path: Path) -> None:
    assert not rgb(ArrayField(np.full((8, 10, 20), np.nan)), tmp_path / "rgb.tif", None).any()


def test_the_same_field_gives_the_same_geotiff_and_nothing_else_is_left(
    kept: dict[str, Path], tmp_path: Path, colours: Colours
) -> None:
    with open_field(kept["zarr"]) as field:
        for name in ("one.tif", "two.tif"):
            write_rgb(field, tmp_path / name)
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()
    assert listing(tmp_path) == ["one.tif", "two.tif"]


def test_a_geotiff_that_fails_leaves_nothing(tmp_path: Path, colours: Colours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "HELD", 8 * 256 * 256)
    field = Breaking(np.ones((8, 600, 4)), FormatError, rows=256)
    with pytest.raises(FormatError, match="in the middle"):
        write_rgb(field, tmp_path / "rgb.tif", colours)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("size", [20, 700, 1300])
def test_both_pictures_are_those_that_are_written_alone(tmp_path: Path, colours: Colours, size: int) -> None:
    field = ArrayField(np.resize(bumpy(colours.dim, 90, 110), (colours.dim, size // 2, size)))
    write_both(field, tmp_path / "both.png", tmp_path / "both.tif", colours)
    write_preview(field, tmp_path / "alone.png", colours)
    write_rgb(field, tmp_path / "alone.tif", colours, size=SIZE)
    for suffix in (".png", ".tif"):
        assert (tmp_path / f"both{suffix}").read_bytes() == (tmp_path / f"alone{suffix}").read_bytes()


def test_colours_beside_a_field_on_a_network_are_taken(tmp_path: Path, colours: Colours) -> None:
    with serving(tmp_path) as server:
        made(0, 20, server.root / "field")
        with open_field(f"{server.url}/field/field.tif") as field:
            assert stored_colours(field) is None
            colours.write(server.root / "field" / "colours.json")
            found = stored_colours(field)
            assert found
            assert found.to_json() == colours.to_json()
            (server.root / "field" / "colours.json").write_text("{")
            with pytest.raises(FormatError, match="holds no colours"):
                stored_colours(field)
