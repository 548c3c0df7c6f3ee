"""LocationEmbedder keeps scikit-learn's rules, and gives what the model or the field gives."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from embedfield import embedder, evaluate
from embedfield.embedder import LocationEmbedder
from embedfield.errors import FormatError, InputsError, PlacesError, UnknownModelError
from embedfield.evaluate import EncodedField, load
from embedfield.formats import write_field
from embedfield.grid import Grid
from embedfield.models import card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

# Of scikit-learn.
CHECKS = {
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_mixin_order",
    "check_estimators_overwrite_params",
    "check_estimators_fit_returns_self",
    "check_fit_check_is_fitted",
    "check_fit1d",
    "check_n_features_in",
    "check_readonly_memmap_input",
}


def places(count: int = 60) -> npt.NDArray[np.float64]:
    """Return places all over the globe, the same at every call."""
    generator = np.random.default_rng(7)
    return np.column_stack((generator.uniform(-180, 180, count), generator.uniform(-90, 90, count)))


def unit_vector(lonlat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return places as vectors, by the formula of any textbook."""
    lon, lat = np.deg2rad(lonlat).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


@pytest.fixture
def raster(tmp_path: Path, make_field: Callable[..., EncodedField]) -> Path:
    """Return a stored field of pixels 10 degrees wide, without the far north."""
    write_field(make_field(bounds=(-180, -90, 180, 60)), tmp_path / "xyz.tif", dtype="float32").close()
    return tmp_path / "xyz.tif"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of models that were loaded since."""
    names: list[str] = []
    embedder._opened.cache_clear()

    def counted(model: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(model.name)
        return load(model, *args, **kwargs)

    monkeypatch.setattr(evaluate, "load", counted)
    return names


def test_a_model_is_asked_at_each_place() -> None:
    found = LocationEmbedder("xyz").fit_transform(places())
    assert (found.dtype, found.shape) == (np.float32, (60, 3))
    np.testing.assert_allclose(found, unit_vector(places()), rtol=0, atol=1e-7)


def test_lists_tables_and_points_in_any_system_are_places() -> None:
    expected = unit_vector(np.array([[8.5, 47.4], [-60.0, -33.0]]))
    lon, lat = [8.5, -60.0], [47.4, -33.0]
    points = geopandas.GeoSeries.from_xy(lon, lat, crs="EPSG:4326")
    table = pd.DataFrame({"id": [3, 4], "latitude": lat, "longitude": lon})
    located = geopandas.GeoDataFrame({"id": [3, 4]}, geometry=points).to_crs("EPSG:3857")
    for given in ([[8.5, 47.4], [-60.0, -33.0]], table, points, points.to_crs("EPSG:8857"), located):
        np.testing.assert_allclose(LocationEmbedder("xyz").fit(given).transform(given), expected, rtol=0, atol=1e-6)


def test_a_stored_field_answers_by_the_method_asked_for(raster: Path) -> None:
    nearest = LocationEmbedder(raster).transform([[3.0, 13.0], [3.0, 70.0]])
    np.testing.assert_allclose(nearest[0], unit_vector(np.array([[5.0, 15.0]]))[0], rtol=0, atol=1e-7)
    assert np.isnan(nearest[1]).all()
    between = LocationEmbedder(str(raster), method="bilinear").transform([[10.0, 15.0]])
    centres = unit_vector(np.array([[5.0, 15.0], [15.0, 15.0]]))
    np.testing.assert_allclose(between[0], centres.mean(axis=0), rtol=0, atol=1e-6)


def test_an_open_field_a_card_and_an_alias_are_sources(make_field: Callable[..., EncodedField]) -> None:
    for source in (make_field(), card("xyz"), "xyz"):
        found = LocationEmbedder(source).transform(places())
        np.testing.assert_allclose(found, unit_vector(places()), rtol=0, atol=1e-7)


def test_columns_have_the_names_of_bands(raster: Path) -> None:
    assert list(LocationEmbedder("sh-l10").get_feature_names_out())[:2] == ["sh-l10_000", "sh-l10_001"]
    assert list(LocationEmbedder(raster).get_feature_names_out(["a", "b"])) == ["xyz_000", "xyz_001", "xyz_002"]


def test_pandas_output_keeps_the_index() -> None:
    table = pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 4.0]}, index=["a", "b"])
    found = LocationEmbedder("xyz").set_output(transform="pandas").fit_transform(table)
    assert list(found) == ["xyz_000", "xyz_001", "xyz_002"]
    assert list(found.index) == ["a", "b"]
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([1], [2]), index=[9], crs="EPSG:4326")
    assert list(clone(LocationEmbedder("xyz").set_output(transform="pandas")).fit_transform(points).index) == [9]


def test_scikit_learns_own_checks_pass_where_any_table_will_do() -> None:
    # Most others fit tables of several columns, of any numbers, which are no places.
    found = check_estimator(LocationEmbedder("xyz"), on_fail=None, on_skip=None)
    assert {result["check_name"] for result in found if result["status"] == "passed"} >= CHECKS


def test_it_works_in_a_pipeline_and_a_search_over_sources(loaded: list[str]) -> None:
    # Height above the plane through the equator: one of the coordinates of xyz, no polynomial of lon and lat.
    target = unit_vector(places(200))[:, 2] * unit_vector(places(200))[:, 0]
    pipeline = make_pipeline(LocationEmbedder("xyz"), StandardScaler(), Ridge(1e-2))
    search = GridSearchCV(pipeline, {"locationembedder__source": ["xyz", "sh-l10"]}, cv=3, error_score="raise")
    search.fit(places(200), target)
    assert search.best_params_ == {"locationembedder__source": "sh-l10"}
    assert search.best_score_ > 0.99
    assert sorted(loaded) == ["sh-l10", "xyz"]


def test_a_search_over_methods_of_a_field_finds_the_better_one(raster: Path) -> None:
    there = places(300)[:, :] * (1, 0.5)
    pipeline = make_pipeline(LocationEmbedder(raster), Ridge(1e-6))
    search = GridSearchCV(pipeline, {"locationembedder__method": ["nearest", "bilinear"]}, cv=3, error_score="raise")
    search.fit(there, unit_vector(there)[:, 0])
    assert search.best_params_ == {"locationembedder__method": "bilinear"}


def test_a_model_is_loaded_once_for_all_clones(loaded: list[str]) -> None:
    first = LocationEmbedder("sh-l10", precision="float32")
    for one in (first, clone(first), copy.deepcopy(first), LocationEmbedder(card("sh-l10"), precision="float32")):
        one.fit(places()).transform(places())
        clone(one).transform(places())
    assert loaded == ["sh-l10"]
    first.set_params(precision="float64").transform(places())
    assert loaded == ["sh-l10"] * 2


def test_other_parameters_are_another_source() -> None:
    one = LocationEmbedder("xyz")
    assert one.transform(places()).shape[1] == 3
    assert one.set_params(source="sh-l10").transform(places()).shape[1] == 100
    with pytest.raises(InputsError, match="takes no input 'month'"):
        one.set_params(inputs={"month": 7}).transform(places())


def test_a_field_that_was_built_again_is_opened_again(tmp_path: Path, make_field: Callable[..., EncodedField]) -> None:
    path = tmp_path / "field.tif"
    write_field(make_field(), path, dtype="float32").close()
    one = LocationEmbedder(path)
    assert one.fit_transform(places()).shape[1] == 3
    path.unlink()
    write_field(make_field(model="sh-l10"), path, dtype="float32").close()
    assert one.transform(places()).shape[1] == 100
    assert clone(one).transform(places()).shape[1] == 100


@pytest.mark.parametrize("fitted", [False, True])
def test_it_is_pickled_without_what_is_open(raster: Path, *, fitted: bool) -> None:
    for source in ("sh-l10", raster):
        one = LocationEmbedder(source).set_output(transform="pandas")
        if fitted:
            one.fit(places())
        data = pickle.dumps(one)
        assert len(data) < 2000
        again = pickle.loads(data)  # noqa: S301  our own
        pd.testing.assert_frame_equal(again.transform(places()), one.transform(places()))


def test_another_process_loads_a_pickled_one_by_itself(tmp_path: Path, raster: Path) -> None:
    (tmp_path / "embedder.pkl").write_bytes(pickle.dumps(make_pipeline(LocationEmbedder(raster)).fit(places())))
    code = (
        "import pickle, sys, pathlib\n"
        "one = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(one.transform([[5.0, 15.0]])[0].tolist())\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "embedder.pkl"], check=True, capture_output=True, text=True
    )
    expected = LocationEmbedder(raster).transform([[5.0, 15.0]])[0]
    assert done.stdout.strip() == str(expected.tolist())


def test_a_clone_has_the_open_field_itself(make_field: Callable[..., EncodedField]) -> None:
    field = make_field()
    twin = clone(LocationEmbedder(field, method="nearest", stat="max").set_output(transform="pandas"))
    assert twin.source is field
    assert (twin.method, twin.stat) == ("nearest", "max")
    assert isinstance(twin.transform(places()), pd.DataFrame)


def test_clones_may_be_used_in_several_threads(loaded: list[str]) -> None:
    first = LocationEmbedder("sh-l10")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: one.fit_transform(places()), [clone(first) for _ in range(16)]))
    assert loaded == ["sh-l10"]
    for values in found:
        np.testing.assert_array_equal(values, load("sh-l10").encode(places()).astype(np.float32))


def test_polygons_take_a_statistic_of_a_fields_pixels(raster: Path) -> None:
    zones = geopandas.GeoDataFrame(
        {"id": [1, 2]}, geometry=[box(0, -10, 20, 10), box(0, 61, 5, 80)], crs="EPSG:4326", index=["a", "b"]
    )
    found = LocationEmbedder(raster).fit_transform(zones)
    # Four pixels of one area: at 5 and 15 degrees east, 5 degrees north and south.
    corners = unit_vector(np.array([[5.0, 5.0], [15.0, 5.0], [5.0, -5.0], [15.0, -5.0]]))
    np.testing.assert_allclose(found[0], corners.mean(axis=0), rtol=0, atol=1e-6)
    assert np.isnan(found[1]).all()
    largest = LocationEmbedder(raster, stat="max").set_output(transform="pandas").transform(zones)
    np.testing.assert_allclose(largest.loc["a"], corners.max(axis=0), rtol=0, atol=1e-6)
    with pytest.raises(PlacesError, match="stat='count' is nothing to take of embeddings. Choose from: mean,"):
        LocationEmbedder(raster, stat="count").transform(zones)


def test_polygons_take_it_of_a_model_over_a_grid_too() -> None:
    zone = geopandas.GeoSeries([box(0, -10, 20, 10)], crs="EPSG:4326")
    over = EncodedField(load("xyz"), Grid.from_bounds(10))
    corners = unit_vector(np.array([[5.0, 5.0], [15.0, 5.0], [5.0, -5.0], [15.0, -5.0]]))
    np.testing.assert_allclose(LocationEmbedder(over).transform(zone)[0], corners.mean(axis=0), rtol=0, atol=1e-6)
    with pytest.raises(PlacesError, match="not points, and xyz has no pixels to take the mean of"):
        LocationEmbedder("xyz").transform(zone)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("sh-l11", {}, UnknownModelError, "No model named 'sh-l11'. Did you mean"),
        ("no/field.tif", {}, FormatError, "no/field.tif does not exist"),
        ("field.zarr", {}, FormatError, "field.zarr does not exist"),
        ("xyz", {"method": "bilinear"}, PlacesError, "method='bilinear' is one of stored fields, and xyz is a model"),
    ],
)
def test_a_source_that_cannot_answer_is_told_at_fit(
    source: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    one = LocationEmbedder(source, **options)
    with pytest.raises(error, match=message):
        one.fit(places())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((3, 3)), r"Places of shape \(3, 3\). Give \(N, 2\)"),
        (np.zeros(2), r"Places of shape \(2,\)"),
        (pd.DataFrame({"a": [1], "b": [2]}), "no column of longitudes"),
        ([[1.0, np.nan]], "is not a pair of finite numbers"),
        ([[1.0, 91.0]], r"latitude outside \[-90, 90\]"),
    ],
)
def test_what_are_no_places_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(PlacesError, match=message):
        LocationEmbedder("xyz").fit_transform(wrong)


def test_no_places_have_no_embeddings() -> None:
    assert LocationEmbedder("xyz").transform(np.empty((0, 2))).shape == (0, 3)


def test_importing_embedfield_imports_neither_scikit_learn_nor_torch() -> None:
    code = "import embedfield, sys; assert not {'sklearn', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
