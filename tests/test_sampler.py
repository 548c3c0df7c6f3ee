"""Fields that are asked for the same places answer side by side, in columns that say what they are."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from fields import ArrayField, bumpy

from embedfield.card import Card
from embedfield.errors import EmbedfieldWarning, PlacesError
from embedfield.evaluate import EncodedField
from embedfield.formats import write_field
from embedfield.grid import Grid
from embedfield.located import Located, warn_off
from embedfield.sampler import Sampler, stems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.sampler import Samples

DEGREES = "EPSG:4326"
# West -10 to 5, north 50 to 40; without values in a hole.
BUMPS = bumpy(3, 100, 150)


def card(name: str, dim: int = 3) -> Card:
    return Card(name=name, title=name, dim=dim, code="none:None", homepage="https://example.org")


def field(name: str = "bumps", dim: int = 3, grid: Grid | None = None) -> ArrayField:
    return ArrayField(BUMPS[:dim], grid, card(name, dim), {"precision": "float32"})


def names(sampler: Sampler) -> list[str]:
    return [column.name for column in sampler.layout()]


def at(sampler: Sampler, *places: tuple[float, float]) -> Samples:
    return sampler.sample(Located(DEGREES, xy=np.array(places, dtype=float).reshape(-1, 2)))


def under(sampler: Sampler, *shapes: Any) -> Samples:
    return sampler.sample(Located(DEGREES, np.array(shapes, dtype=object)))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(PlacesError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_band_is_a_column_named_after_the_model() -> None:
    assert names(Sampler(field())) == ["bumps_000", "bumps_001", "bumps_002"]
    assert names(Sampler(field(), columns="list")) == ["bumps"]
    assert names(Sampler(field(), stats="mean")) == ["bumps_000", "bumps_001", "bumps_002"]


def test_other_statistics_than_the_mean_end_in_their_name() -> None:
    sampler = Sampler(field(dim=2), stats=["coverage", "max", "mean", "count", "std"])
    assert names(sampler) == [
        *("bumps_000", "bumps_001", "bumps_000_std", "bumps_001_std", "bumps_000_max", "bumps_001_max"),
        *("count", "coverage"),
    ]
    assert names(Sampler(field(), stats=["mean", "median", "count"], columns="list")) == [
        "bumps",
        "bumps_median",
        "count",
    ]


def test_columns_of_several_fields_say_which_they_are_of() -> None:
    several = [field("a", 1), field("b", 2)]
    assert names(Sampler(several)) == ["a_000", "b_000", "b_001"]
    assert names(Sampler(several, columns="list")) == ["a", "b"]
    assert names(Sampler(several, stats=["min", "count"])) == [
        "a_000_min",
        "a_count",
        "b_000_min",
        "b_001_min",
        "b_count",
    ]


def test_fields_of_one_model_are_told_apart_by_their_files(tmp_path: Path) -> None:
    coarse, fine = (write_field(field(), tmp_path / f"{name}.tif", dtype="float32") for name in ("coarse", "fine"))
    assert names(Sampler([coarse, fine], columns="list")) == ["coarse", "fine"]
    assert names(Sampler([coarse, field("other", 1), fine]))[2:5] == ["coarse_002", "other_000", "fine_000"]
    for one in (coarse, fine):
        one.close()


def test_fields_of_one_name_are_numbered() -> None:
    assert stems([field("a"), field("b"), field("a")]) == ["a-1", "b", "a-3"]
    assert names(Sampler([field("a", 1), field("a", 1)])) == ["a-1_000", "a-2_000"]


def test_a_model_and_its_components_do_not_become_columns_of_one_name() -> None:
    reduced = field("a", 2)
    reduced.components = 2
    for options in ({"columns": "list"}, {"stats": ("mean", "count")}, {"stats": "mean", "columns": "list"}, {}):
        found = names(Sampler([field("a"), reduced], **options))
        assert len(set(found)) == len(found)
    assert names(Sampler(reduced)) == ["a_pc000", "a_pc001"]


@pytest.mark.parametrize("columns", ["wide", "list"])
@pytest.mark.parametrize("stats", [None, ("mean", "min", "count"), ("coverage",)])
def test_columns_hold_all_numbers_in_their_order(columns: Any, stats: Any) -> None:
    sampler = Sampler([field("a", 3), field("b", 1)], stats=stats, columns=columns)
    bands = [band for column in sampler.layout() for band in range(column.bands.start, column.bands.stop)]
    assert bands == list(range(sampler.width))
    assert at(sampler, (0, 45)).numbers.shape == (1, sampler.width)


def test_a_column_says_its_field_model_band_and_method() -> None:
    layout = Sampler([field("a", 2), field("b", 1)], "bilinear").layout()
    assert [column.about for column in layout] == [
        {"field": 0, "model": "a", "method": "bilinear", "band": 0},
        {"field": 0, "model": "a", "method": "bilinear", "band": 1},
        {"field": 1, "model": "b", "method": "bilinear", "band": 0},
    ]
    layout = Sampler(field("a", 2), stats=("max", "count"), columns="list").layout()
    assert [column.about for column in layout] == [
        {"field": 0, "model": "a", "stat": "max"},
        {"field": 0, "model": "a", "stat": "count"},
    ]
    assert Sampler(field("a", 2)).layout()[0].about["method"] == "nearest"


def test_what_it_says_of_its_fields_is_json(tmp_path: Path) -> None:
    with write_field(field("a"), tmp_path / "möve.tif", dtype="uint8") as stored:
        said = json.loads(Sampler([stored, field("b")]).describe())["fields"]
    assert [about["card"]["name"] for about in said] == ["a", "b"]
    assert said[0]["href"] == str(tmp_path / "möve.tif")
    assert said[0]["name"] == "möve"
    assert said[0]["packing"]["dtype"] == "uint8"
    assert said[0]["grid"]["crs"] == DEGREES
    assert said[1]["provenance"] == {"precision": "float32"}


def test_values_are_those_of_each_field_side_by_side() -> None:
    first, second = field("a"), field("b", 2, Grid(west=-9.0, north=52.0, res=0.2, width=150, height=100))
    places = np.column_stack((np.linspace(-8, 4, 50), np.linspace(41, 49, 50)))
    for method in ("nearest", "bilinear"):
        found = at(Sampler([first, second], method), *map(tuple, places.tolist()))
        wanted = np.hstack([first.at(places, method), second.at(places, method)])
        np.testing.assert_array_equal(found.numbers, wanted)


def test_status_is_the_first_that_is_wrong() -> None:
    # The hole of the one begins at -9.5, 49.7; the other begins 10 degrees further east.
    east = Grid(west=0.0, north=50.0, res=0.1, width=150, height=100)
    both = Sampler([field("a"), field("b", grid=east)])
    places = [(3.0, 45.0), (-9.0, 49.5), (-5.0, 45.0), (9.0, 45.0), (1.0, 49.5), (60.0, 0.0), (np.nan, 0), (0.0, 91.0)]
    found = at(both, *places)
    assert found.status.tolist() == [
        *("valid", "nodata", "outside", "outside", "nodata", "outside", "missing", "invalid"),
    ]
    there = ~np.isnan(found.numbers).any(axis=1)
    assert there.tolist() == [True, *[False] * 7]
    # What one field has it gives, though another has nothing.
    assert not np.isnan(found.numbers[2, :3]).any()
    assert np.isnan(found.numbers[2, 3:]).all()
    shapes = [None if np.isnan(place).any() else shapely.Point(place).buffer(0.01) for place in places]
    assert under(Sampler([field("a"), field("b", grid=east)], stats="mean"), *shapes).status.tolist() == [
        *("valid", "nodata", "outside", "outside", "nodata", "outside", "missing", "invalid"),
    ]


def test_an_encoder_beside_a_stored_field_is_asked_exactly(make_field: Callable[..., EncodedField]) -> None:
    encoder = EncodedField.everywhere(make_field().evaluator)
    both = Sampler([field("a"), encoder])
    assert not both.exact
    assert Sampler(encoder).exact
    assert not Sampler(make_field(), "nearest").exact
    found = at(both, (0.0, 45.0), (100.0, 45.0))
    assert found.status.tolist() == ["valid", "outside"]
    np.testing.assert_allclose(found.numbers[1, 3:], [-0.1228, 0.6964, 0.7071], atol=1e-4)
    assert [column.about["method"] for column in both.layout()] == ["nearest"] * 3 + ["exact"] * 3


def test_no_places_have_no_values() -> None:
    assert at(Sampler(field())).numbers.shape == (0, 3)
    assert under(Sampler(field(), stats=("mean", "count"))).numbers.shape == (0, 4)


def test_nothing_amid_points_is_no_shape() -> None:
    found = under(Sampler(field()), shapely.Point(0, 45), None, shapely.Point(), shapely.from_wkt("POLYGON EMPTY"))
    assert found.status.tolist() == ["valid", "missing", "missing", "missing"]
    assert under(Sampler(field()), None, None).status.tolist() == ["missing"] * 2


@pytest.mark.parametrize("shape", [shapely.box(0, 41, 1, 42), shapely.LineString([(0, 41), (1, 42)])])
def test_shapes_have_no_value_of_points(shape: Any) -> None:
    message = refusal(lambda: under(Sampler(field()), shapely.Point(0, 45), shape))
    assert message.startswith("Not all places are points.")
    assert "zonal_stats" in message


def test_a_shape_from_end_to_end_of_the_plane_is_invalid() -> None:
    with np.errstate(invalid="ignore"):
        endless = shapely.LineString([(-np.inf, 0), (np.inf, 1)])
    found = under(Sampler(field(), stats="mean"), endless, shapely.box(0, 41, 1, 42))
    assert found.status.tolist() == ["invalid", "valid"]


def test_what_cannot_be_asked_is_refused(make_field: Callable[..., EncodedField]) -> None:
    everywhere = EncodedField.everywhere(make_field().evaluator)
    asked: dict[str, Callable[[], object]] = {
        "There is no field to sample. Give one at least.": lambda: Sampler([]),
        "columns='long' is not known. Choose from: wide, list.": lambda: Sampler(field(), columns="long"),  # type: ignore[arg-type]
        "method='cubic' is not to be had from this field.": lambda: Sampler(field(), "cubic"),  # type: ignore[arg-type]
        "method='exact' is not to be had from this field.": lambda: Sampler(field(), "exact"),
        "method='nearest' is not to be had from this field.": lambda: Sampler([field(), everywhere], "nearest"),
        "stats=mode: give one or more, each once, of: mean,": lambda: Sampler(field(), stats="mode"),
        "stats=mean, mean: give one or more, each once": lambda: Sampler(field(), stats=["mean", "mean"]),
        "stats=none: give one or more": lambda: Sampler(field(), stats=[]),
        "method='bilinear' is one for points.": lambda: Sampler(field(), "bilinear", "mean"),
        "xyz by itself has no pixels": lambda: Sampler([field(), everywhere], stats="mean"),
        "buffer=50 makes shapes of points.": lambda: Sampler(field(), buffer=50),
    }
    for message, call in asked.items():
        assert refusal(call).startswith(message)


@pytest.mark.parametrize("buffer", [0, -5, float("nan"), float("inf"), 6e6])
def test_a_buffer_that_cannot_be_drawn_is_refused(buffer: float) -> None:
    assert "buffer" in refusal(lambda: at(Sampler(field(), stats="mean", buffer=buffer), (0, 45)))


@pytest.mark.parametrize(
    ("sampler", "taken"),
    [
        (Sampler(field()), "status"),
        (Sampler(field()), "bumps_001"),
        (Sampler(field(), columns="list"), "bumps"),
        (Sampler(field(), stats=("max", "count")), "bumps_000_max"),
        (Sampler(field(), stats=("max", "count")), "count"),
    ],
)
def test_a_column_that_places_have_already_is_refused(sampler: Sampler, taken: str) -> None:
    assert refusal(lambda: sampler.check_free(["id", taken])) == (
        f"The places have a column {taken!r} already. Rename or remove it."
    )
    sampler.check_free(["id", "Status", "bumps_003"])


def test_most_places_swapped_are_warned_about_and_half_of_them_not() -> None:
    swapped = Located(DEGREES, xy=np.array([[47.0, 108.0], [10.0, -91.0], [8.0, 47.0], [np.nan, 108.0], [95.0, 95.0]]))
    assert swapped.off() == 3
    assert Located("EPSG:3857", xy=swapped.xy).off() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_off(2, 4)
        warn_off(0, 0)
    with pytest.warns(EmbedfieldWarning, match="1,001 of 2,000 places have latitudes beyond 90.*may be swapped"):
        warn_off(1001, 2000)
