"""What is asked of a model beside a place, and models of the user's own, through every command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from references import REFERENCE

import embedfield as ef
from embedfield import models
from embedfield.build import build_field
from embedfield.errors import CardError, GridError, InputsError, PackingError, UnknownModelError, WeightsError
from embedfield.folder import field_id
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Done

CLIMPLICIT = REFERENCE / "climplicit_small.safetensors"
MIND = REFERENCE / "mind_small.safetensors"
MIND_YEAR = REFERENCE / "mind_year_small.safetensors"
GPS2VEC = REFERENCE / "gps2vec_tag_small.zip"
MINE = """
name = "land-ocean"
dim = 5

[options]
posenc = "sphericalharmonics"
legendre_polys = 8
network = "siren"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The card of a user's own encoder."""
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    return tmp_path / "mine.toml"


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A table of two places."""
    (tmp_path / "places.csv").write_text("lon,lat\n8.54,47.37\n-70.66,-33.45\n", encoding="utf-8")
    return tmp_path / "places.csv"


# Inputs


def test_a_month_is_part_of_a_fields_name_and_of_its_card(catalog: Path) -> None:
    july = build_field("climplicit", 30, month=7, weights=CLIMPLICIT, out=catalog, device="cpu", dtype="float32")
    year = build_field("climplicit", 30, weights=CLIMPLICIT, out=catalog, device="cpu", dtype="float32")
    assert july.disk_path.parent.name == "climplicit-month7-30deg-cog-float32"
    assert year.disk_path.parent.name == "climplicit-30deg-cog-float32"
    assert (july.dim, year.dim) == (16, 64)
    assert july.card.options == {"month": 7}
    exact = ef.load("climplicit", CLIMPLICIT, "cpu", month=7).encode_lattice(july.grid.lons(), july.grid.lats())
    np.testing.assert_array_equal(july.read(), exact.transpose(2, 0, 1))


def test_a_month_goes_through_the_command_line(run: Callable[..., Done], places: Path) -> None:
    assert run("build", "--model", "climplicit", "--month", 7, "--res", 30, "--weights", CLIMPLICIT).code == 0
    words = ("--model", "climplicit", "--weights", CLIMPLICIT, "-o", "t.csv", "--overwrite")
    assert run("sample", *words, "--month", 7, places).code == 0
    july = pd.read_csv("t.csv")
    assert run("sample", *words, "--input", "month=7", places).code == 0
    pd.testing.assert_frame_equal(pd.read_csv("t.csv"), july)
    exact = ef.load("climplicit", CLIMPLICIT, "cpu", month=7).encode(july[["lon", "lat"]])
    np.testing.assert_allclose(july.filter(like="climplicit_"), exact, rtol=1e-6)


@pytest.mark.parametrize("month", [0, 13, "nan"])
def test_a_month_that_is_none_is_refused_in_one_line(run: Callable[..., Done], month: Any) -> None:
    done = run("build", "--model", "climplicit", "--month", month, "--res", 30)
    assert done.code == 1
    assert "nothing that climplicit takes. Give a number from 1 to 12" in done.err
    assert done.err.count("\n") == 1


def test_an_input_of_a_stored_field_is_a_wrong_use(run: Callable[..., Done], places: Path) -> None:
    run("build", "--model", "xyz", "--res", 30)
    done = run("sample", "catalog/xyz/xyz-30deg-cog-uint8", places, "--month", 3)
    assert done.code == 2
    assert "has been asked already" in done.err


@pytest.mark.parametrize("words", [["--input", "month"], ["--input", "month=may"], ["--input", "="]])
def test_an_input_without_a_number_is_a_wrong_use(run: Callable[..., Done], words: list[str]) -> None:
    done = run("build", "--model", "climplicit", "--res", 30, *words)
    assert done.code == 2
    assert "NAME=VALUE" in done.err


@pytest.mark.parametrize("words", [["--input", "dims=8"], ["--input", "weights=3"], ["--input", "res=3"]])
def test_an_input_named_as_an_option_is_not_taken_for_it(
    run: Callable[..., Done], places: Path, words: list[str]
) -> None:
    for command in (("build", "--res", 30), ("sample", "-o", "t.csv", places)):
        done = run(*command, "--model", "mind", "--weights", MIND, *words)
        assert done.code == 1
        assert "mind takes no input" in done.err


def test_an_input_is_given_once(run: Callable[..., Done]) -> None:
    for words in (["--month", 7, "--input", "month=8"], ["--input", "month=7", "--input", "month=8"]):
        done = run("build", "--model", "climplicit", "--weights", CLIMPLICIT, "--res", 30, *words)
        assert done.code == 2
        assert "month is given twice" in done.err


def test_a_precision_of_a_stored_field_is_a_wrong_use(run: Callable[..., Done], places: Path) -> None:
    run("build", "--model", "xyz", "--res", 30)
    done = run("sample", "catalog/xyz/xyz-30deg-cog-uint8", places, "--precision", "float64")
    assert done.code == 2


def test_numbers_of_numpy_are_numbers() -> None:
    for month in (np.int64(7), np.float32(7), np.float64(7)):
        assert ef.load("climplicit", CLIMPLICIT, month=month).card.options == {"month": 7}
    found = ef.load("mind", MIND, dims=np.int64(8)).card  # type: ignore[arg-type]
    assert json.loads(json.dumps(found.to_dict()))["options"] == {"dims": 8}


def test_what_is_no_name_is_no_model() -> None:
    for thing in (None, 3, ["xyz"]):
        with pytest.raises(UnknownModelError, match="No model named"):
            ef.load(thing)  # type: ignore[arg-type]


def test_a_year_is_asked_of_weights_that_take_one_and_of_no_others() -> None:
    with pytest.raises(InputsError, match="wants a year beside the place. Give one with --year"):
        ef.load("mind", MIND_YEAR)
    with pytest.raises(InputsError, match="takes no year: it was trained on places alone"):
        ef.load("mind", MIND, year=2020)


# Prefixes


def test_a_prefix_is_part_of_a_fields_name(catalog: Path) -> None:
    field = build_field("mind", 30, dims=8, weights=MIND, out=catalog, device="cpu")
    assert field.disk_path.parent.name == "mind-dims8-30deg-cog-uint8"
    assert field.band_names[-1] == "mind_007"


def test_a_prefix_that_was_not_trained_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(InputsError, match="mind was not trained to be cut to 100. Choose from: 64, 128"):
        ef.load("mind", dims=100)
    with pytest.raises(InputsError, match="dims=0 is no length"):
        ef.load("mind", dims=0)


def test_weights_cannot_give_more_than_they_have() -> None:
    assert ef.load("mind", MIND).dim == 24
    with pytest.raises(WeightsError, match="has 24 dimensions, and 64 are asked"):
        ef.load("mind", MIND, dims=64)


def test_names_of_fields_are_sorted_by_what_is_asked() -> None:
    grid = Grid.from_bounds(0.5)
    assert field_id("a", grid, "cog", "uint8", {"month": 6.5, "dims": 64}) == "a-dims64-month6.5-0.5deg-cog-uint8"


# A model with a database


def test_a_database_is_asked_of_models_that_have_one_and_of_no_others(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="xyz looks nothing up, and .* was given. Leave --database out"):
        ef.load("xyz", database=tmp_path)


def test_both_files_of_a_model_are_in_the_record(catalog: Path) -> None:
    database = REFERENCE / "range_db_small.npz"
    options = {**models.card("range").options, "legendre_polys": 10}
    model = ef.Card.from_dict({**models.card("range").to_dict(), "options": options})
    weights = REFERENCE / "satclip_l10_small.ckpt"
    field = build_field(model, 30, weights=weights, database=database, out=catalog, device="cpu")
    assert field.dim == 52
    assert len(field.provenance["database_sha256"]) == len(field.provenance["weights_sha256"]) == 64


# Where a model has no value


def test_pixels_beyond_a_models_latitudes_are_empty(catalog: Path) -> None:
    field = build_field("gps2vec-tag", 2, bounds=(102, -88, 108, 90), weights=GPS2VEC, out=catalog, device="cpu")
    there = np.isfinite(field.read()).all(axis=0)
    lats = field.grid.lats()
    # The archive has zone 48 N there, from the equator to 8 degrees.
    assert (there.all(axis=1) == ((lats > 0) & (lats < 8))).all()
    assert not there[(lats < 0) | (lats > 8)].any()


def test_places_beyond_a_models_latitudes_have_no_data(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "far.csv").write_text("lon,lat\n103.8,1.3\n0,-85\n", encoding="utf-8")
    done = run("sample", "--model", "gps2vec-tag", "--weights", GPS2VEC, "far.csv", "-o", "t.csv")
    assert done.err == "2 places: 1 valid, 1 nodata\n"
    assert pd.read_csv("t.csv")["status"].tolist() == ["valid", "nodata"]


def test_places_in_a_zone_without_photographs_have_no_data(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "sea.csv").write_text("lon,lat\n103.8,1.3\n-150,0\n2,60\n", encoding="utf-8")
    assert run("sample", "--model", "gps2vec-tag", "--weights", GPS2VEC, "sea.csv", "-o", "t.csv").code == 0
    assert pd.read_csv("t.csv")["status"].tolist() == ["valid", "nodata", "nodata"]


def test_a_grid_beyond_a_models_latitudes_is_refused_before_work(catalog: Path) -> None:
    with pytest.raises(GridError, match="gps2vec-tag has values from -80 to 84 .* hold no pixel there"):
        build_field("gps2vec-tag", 1, bounds=(0, -90, 10, -80), out=catalog)
    assert not catalog.exists()


def test_a_grid_without_any_value_is_refused(catalog: Path) -> None:
    with pytest.raises(PackingError, match="has no value anywhere"):
        build_field("gps2vec-tag", 2, bounds=(-160, -10, -140, 10), weights=GPS2VEC, out=catalog, device="cpu")


# A model of the user's own


def test_a_users_card_needs_no_code(run: Callable[..., Done], mine: Path, places: Path) -> None:
    weights = REFERENCE / "locationencoder_siren.ckpt"
    done = run("build", "--card", mine, "--weights", weights, "--res", 30)
    assert done.code == 0
    assert "land-ocean-30deg-cog-uint8" in done.out
    assert "land-ocean: land-ocean" in run("info", done.out.strip()).out
    assert run("sample", "--card", mine, "--weights", weights, places, "-o", "exact.csv").code == 0
    assert run("sample", done.out.strip(), places, "-o", "read.csv").code == 0
    assert list(pd.read_csv("read.csv").columns) == list(pd.read_csv("exact.csv").columns)
    exact = ef.load(ef.read_card(mine), weights, "cpu").encode([[8.54, 47.37]])
    np.testing.assert_allclose(pd.read_csv("exact.csv").filter(like="land-ocean_").iloc[0], exact[0], rtol=1e-6)


def test_conventions_follow_from_the_positional_encoding(mine: Path) -> None:
    found = ef.load(ef.read_card(mine), REFERENCE / "locationencoder_siren.ckpt").card
    assert (found.periodic, found.one_pole) == (True, True)
    torn = MINE.replace("sphericalharmonics", "spheremplus") + "frequency_num = 4\nmin_radius = 1\nmax_radius = 360\n"
    mine.write_text(torn, encoding="utf-8")
    found = ef.load(ef.read_card(mine), REFERENCE / "locationencoder_siren_spheremplus.ckpt").card
    assert (found.periodic, found.one_pole) == (False, False)


def test_a_users_card_may_be_of_any_family(mine: Path) -> None:
    mine.write_text(
        """
        name = "my-satclip"
        dim = 32
        code = "embedfield.encoders.satclip:SatCLIP"
        options = { legendre_polys = 10, vision_layers = "moco_vit16" }
        dtype = "float64"
        """,
        encoding="utf-8",
    )
    model = ef.read_card(mine)
    assert model.paper is None
    reference = np.load(REFERENCE / "satclip_l10_small.npz")
    found = ef.load(model, REFERENCE / "satclip_l10_small.ckpt", "cpu").encode(reference["lonlat"])
    np.testing.assert_allclose(found, reference["float64"], atol=1e-11)


def test_neither_or_both_of_model_and_card_are_a_wrong_use(run: Callable[..., Done], mine: Path) -> None:
    assert "Give --model NAME, or --card FILE" in run("build", "--res", 30).err
    assert run("build", "--res", 30, "--model", "xyz", "--card", mine).code == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'name'"),
        ("name = ", "[Ii]nvalid value"),
        ("dim = 3", "'name'"),
        ('name = "a"', "'dim'"),
        ('name = "Mine"\ndim = 3', "not 'family-variant' in lower case"),
        ('name = "geoclip"\ndim = 3', "is named 'geoclip', as a known model is"),
        ('name = "satclip-l40"\ndim = 3', "is named 'satclip-l40', as a known model is"),
        ('name = "a"\ndim = "3"', "has dim='3'. It is"),
        ('name = "a"\ndim = 0', "dim=0"),
        ('name = "a"\ndim = true', "has dim=True"),
        ('name = "a"\ndim = 3\nperiodic = "yes"', "has periodic='yes'"),
        ('name = "a"\ndim = 3\nlatitudes = [10, 5]', "latitudes"),
        ('name = "a"\ndim = 3\ncolour = 3', "colour"),
        ('name = "a"\ndim = 3\noptions = 3', "options"),
        ('name = "a"\ndim = 3\ninputs = 3', "inputs"),
        ('name = "a"\ndim = 3\n[weights]\nfile = "x"', "source"),
        ('name = "a"\ndim = 3\n[weights]\nsource = "cloud"', "cloud"),
        ('name = "a"\ndim = 3\nweights = "x.ckpt"', "weights"),
        ('name = "a"\ndim = 3\n[weights]\nsource = ["url"]', "source"),
        ('name = "a"\ndim = 3\n[weights]\nsource = "url"\nfile = 3\nurl = "b"\nlicence = "MIT"', "file=3"),
        ('name = "a"\ndim = 3\nlatitudes = ["s", "n"]', "latitudes"),
        ('name = "a"\ndim = 3\nprefixes = ["all"]', "prefixes"),
        ('name = "a"\ndim = 3\ninputs.month = {meaning = "m", minimum = "1", maximum = 12}', "minimum='1'"),
        ('name = "a"\ndim = 3\ninputs.month = {meaning = "m", minimum = 12, maximum = 1}', "from 12 to 1"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_by_its_file(mine: Path, text: str, why: str) -> None:
    mine.write_text(text, encoding="utf-8")
    with pytest.raises(CardError, match=f"(?s)mine.toml.*{why}"):
        ef.read_card(mine)


def test_a_card_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="Cannot read the card .*none.toml: No such file"):
        ef.read_card(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        (("sphericalharmonics", "magic"), CardError, "posenc='magic' in its options. Choose from: direct"),
        (("siren", "transformer"), CardError, "network='transformer' in its options. Choose from: linear"),
        (("legendre_polys = 8", ""), CardError, "legendre_polys=None in its options. Give a number"),
        (("legendre_polys = 8", "legendre_polys = 2.5"), CardError, "legendre_polys=2.5 in its options. Give a whole"),
        (("legendre_polys = 8", "legendre_polys = 99"), CardError, "cannot have 99 degrees"),
        (("legendre_polys = 8", "legendre_polys = 9"), WeightsError, "its legendre_polys is 8, and land-ocean has 9"),
        (("sphericalharmonics", "wrap"), WeightsError, "positional_encoding_name is 'sphericalharmonics'"),
        (("siren", "linear"), WeightsError, "neural_network_name is 'siren', and land-ocean has 'linear'"),
        (
            ("siren", 'siren"\nharmonic_calculation = "closed-form'),
            CardError,
            "has 'harmonic_calculation' in its options",
        ),
        (
            ("[options]", "inputs.month = {meaning = 'm', minimum = 1, maximum = 12}\n[options]\nmonth = 3"),
            CardError,
            "'month'",
        ),
        (("legendre_polys = 8", 'legendre_polys = 8\nzonal_pi = "false"'), CardError, "zonal_pi='false'"),
        (("dim = 5", "dim = 6"), WeightsError, "makes 5 dimensions, and the card says dim = 6"),
    ],
)
def test_a_card_that_does_not_fit_its_checkpoint_is_refused(mine: Path, change: Any, error: Any, why: str) -> None:
    mine.write_text(MINE.replace(*change), encoding="utf-8")
    with pytest.raises(error, match=why):
        ef.load(ef.read_card(mine), REFERENCE / "locationencoder_siren.ckpt")


def test_a_card_whose_code_is_no_encoder_is_refused(mine: Path) -> None:
    abstract = ("embedfield.encoders:Encoder", "is no Encoder")
    for code, why in (
        abstract,
        ("os:getcwd", "is no Encoder"),
        ("no_such:Thing", "cannot be imported"),
        ("os", "Write it"),
    ):
        mine.write_text(f'name = "a"\ndim = 3\ncode = "{code}"', encoding="utf-8")
        with pytest.raises(CardError, match=why):
            ef.load(ef.read_card(mine))


# Cards for people and for programs


def test_a_models_card_is_printed_for_a_person(run: Callable[..., Done]) -> None:
    done = run("models", "satclip-l40")
    assert done.code == 0
    for words in ("satclip-vit16-l40, satclip-l40", "256 numbers", "Klemmer et al.", "c54c794c", "4.5 degrees"):
        assert words in done.out
    assert "1 to 12" in run("models", "climplicit").out
    assert "3,072 (--dims)" in run("models", "mind").out
    assert "-80 to 84 degrees" in run("models", "gps2vec-tag").out
    assert "MVRL/RANGE-database" in run("models", "range").out


def test_cards_are_printed_for_programs(run: Callable[..., Done]) -> None:
    found = json.loads(run("models", "--json").out)
    assert [ef.Card.from_dict(data) for data in found] == list(ef.cards())
    assert json.loads(run("models", "geoclip", "--json").out)["weights"]["source"] == "package"


def test_the_card_of_no_model_is_refused_with_the_nearest_name(run: Callable[..., Done]) -> None:
    done = run("models", "satclip-l4")
    assert done.code == 1
    assert "Did you mean 'satclip-l40'" in done.err


def test_fetch_prints_where_the_weights_are(
    run: Callable[..., Done], released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDFIELD_CACHE", str(released.parents[2]))
    done = run("fetch", "geoclip", "--offline")
    assert (done.code, done.out.strip()) == (0, str(released))
    assert "sha256 94b80ae3" in done.err


def test_fetch_of_a_model_without_released_weights_says_so(run: Callable[..., Done]) -> None:
    for name in ("xyz", "mind-small"):
        done = run("fetch", name)
        assert (done.code, done.out) == (0, "")
        assert f"{name} has no released weights to fetch" in done.err


def test_fetch_without_the_network_names_what_is_missing(run: Callable[..., Done]) -> None:
    done = run("fetch", "climplicit", "--offline")
    assert done.code == 1
    assert "not in the cache" in done.err
    assert "huggingface.co/Jobedo/climplicit" in done.err
