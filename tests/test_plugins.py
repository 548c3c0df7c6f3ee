"""Packages that declare encoders: installed for real, and used by commands in an interpreter of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from embedfield.card import Card

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

HERE = Path(__file__).parent
# Centres of pixels of 30 degrees.
PLACES = np.array([[15.0, 45.0], [-165.0, -75.0], [165.0, 15.0]])
HOUR = 6

Done = subprocess.CompletedProcess[str]


def install(source: Path, folder: Path) -> Path:
    """Install a package into a folder; from a copy, for a build leaves files beside what it builds."""
    copy = shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", folder / "installed")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, copy], check=True, timeout=120)
    return folder / "installed"


@pytest.fixture(scope="module")
def tide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin that works."""
    return install(HERE / "plugin", tmp_path_factory.mktemp("tide"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin that cannot be imported."""
    return install(HERE / "plugin_broken", tmp_path_factory.mktemp("broken"))


def python(*words: str | Path | float, plugins: tuple[Path, ...] = (), folder: Path | None = None) -> Done:
    """Run an interpreter that sees folders of plugins beside what is installed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, plugins))}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=120
    )


@pytest.fixture
def run(tide: Path, tmp_path: Path) -> Callable[..., Done]:
    """A runner of commands in a folder of its own, where the plugin that works is installed."""

    def command(*words: str | Path | float, plugins: tuple[Path, ...] = (tide,)) -> Done:
        return python("-m", "embedfield", *words, plugins=plugins, folder=tmp_path)

    return command


@pytest.fixture(scope="module", params=["cog", "zarr"])
def stored(tide: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A field of the plugin's, built by the command."""
    folder = tmp_path_factory.mktemp("stored")
    words = ("--model", "tide-daily", "--res", 30, "--input", f"hour={HOUR}", "--dtype", "float32", "--out", "catalog")
    done = python("-m", "embedfield", "build", *words, "--format", request.param, plugins=(tide,), folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.removesuffix("\n")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A CSV of the places."""
    pd.DataFrame(PLACES, columns=["lon", "lat"]).to_csv(tmp_path / "places.csv", index=False)
    return tmp_path / "places.csv"


def expected(lonlat: npt.NDArray[np.float64], hour: float) -> npt.NDArray[np.float64]:
    """Return what tide-daily is: the local time of day and the latitude on two circles."""
    time, lat = np.deg2rad(lonlat[:, 0] + 15 * hour), np.deg2rad(lonlat[:, 1])
    return np.column_stack((np.cos(time), np.sin(time), np.sin(lat), np.cos(lat)))


def assert_holds(table: Path, wanted: npt.NDArray[np.floating], model: str) -> None:
    """Check that a table has a model's values at the places."""
    found = pd.read_csv(table)
    columns = [f"{model}_{number:03d}" for number in range(wanted.shape[1])]
    assert list(found.columns) == ["lon", "lat", *columns, "status"]
    np.testing.assert_allclose(found[columns], wanted, rtol=0, atol=1e-6)


def assert_refused(done: Done, message: str) -> None:
    """Check that a command ended in one line of embedfield's."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert re.search(f"^embedfield: .*{message}", done.stderr)


def test_a_plugins_models_are_listed_without_a_warning(run: Callable[..., Done]) -> None:
    done = run("models")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^tide-daily +4 +none .*the local time of day", done.stdout, re.MULTILINE)
    assert re.search(r"^tide-learned +3 ", done.stdout, re.MULTILINE)


def test_without_the_plugin_its_models_are_not_there(run: Callable[..., Done]) -> None:
    assert "tide" not in run("models", plugins=()).stdout


def test_a_broken_plugin_is_named_and_left_out_and_the_others_stay(
    run: Callable[..., Done], tide: Path, broken: Path
) -> None:
    done = run("models", plugins=(broken, tide))
    assert done.returncode == 0
    assert re.search("plugin 'broken'.*left out.*libtide is not installed", done.stderr)
    assert "broken" not in done.stdout
    assert done.stdout == run("models").stdout


def test_the_warning_is_one_line_without_files_and_code(run: Callable[..., Done], broken: Path) -> None:
    done = run("models", plugins=(broken,))
    assert re.fullmatch(r"embedfield: .*'broken'.*\n", done.stderr)
    assert not re.search(r"Warning|\.py|line \d", done.stderr)


def test_a_list_with_a_plugin_imports_no_torch(tide: Path) -> None:
    code = "import sys; from embedfield.models import card; print(card('tide-daily').dim, 'torch' in sys.modules)"
    assert python("-c", code, plugins=(tide,)).stdout == "4 False\n"


def test_the_list_for_programs_has_the_whole_card(run: Callable[..., Done], tide: Path, broken: Path) -> None:
    done = run("models", "--json", plugins=(broken, tide))
    assert done.returncode == 0, done.stderr
    found = {card["name"]: card for card in json.loads(done.stdout)}
    assert {"tide-daily", "tide-learned", "xyz"} <= set(found)
    assert found["tide-daily"]["inputs"]["hour"]["maximum"] == 24
    assert json.loads(json.dumps(Card.from_dict(found["tide-daily"]).to_dict())) == found["tide-daily"]


def test_one_model_is_described(run: Callable[..., Done]) -> None:
    done = run("models", "tide-daily")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tide-daily\nthe local time of day and the latitude")
    assert "hour, 0 to 24: hour of the day at Greenwich" in done.stdout


def test_there_is_nothing_to_fetch_for_a_model_without_weights(run: Callable[..., Done]) -> None:
    done = run("fetch", "tide-daily", "--offline")
    assert done.returncode == 0, done.stderr
    assert re.search("tide-daily has no .*weights", done.stdout + done.stderr)


def test_a_stored_field_describes_itself(stored: Path, run: Callable[..., Done]) -> None:
    assert re.match(rf"tide-daily-hour{HOUR}-30deg-(cog|zarr)-float32\.", stored.name)
    done = run("info", stored)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tide-daily: the local time of day" in done.stdout
    assert "12 x 6 pixels" in done.stdout


def test_a_stored_field_is_sampled(stored: Path, run: Callable[..., Done], places: Path, tmp_path: Path) -> None:
    assert run("sample", stored, places, "-o", "t.csv").returncode == 0
    assert_holds(tmp_path / "t.csv", expected(PLACES, HOUR), "tide-daily")


def test_a_stored_field_needs_no_plugin(stored: Path, run: Callable[..., Done], places: Path, tmp_path: Path) -> None:
    assert "tide-daily" in run("info", stored, plugins=()).stdout
    assert run("sample", stored, places, "-o", "t.csv", plugins=()).returncode == 0
    assert_holds(tmp_path / "t.csv", expected(PLACES, HOUR), "tide-daily")


def test_a_model_is_sampled_at_an_hour(run: Callable[..., Done], places: Path, tmp_path: Path) -> None:
    done = run("sample", "--model", "tide-daily", "--input", "hour=7.5", places, "-o", "t.csv")
    assert done.returncode == 0, done.stderr
    assert_holds(tmp_path / "t.csv", expected(PLACES, 7.5), "tide-daily")


@pytest.mark.parametrize(("hour", "means"), [("hour=6", 6), ("", 12)])
def test_a_model_is_loaded_in_python(tide: Path, hour: str, means: float) -> None:
    code = f"import embedfield as ef; print(ef.load('tide-daily', {hour}).encode({PLACES.tolist()}).tolist())"
    done = python("-c", code, plugins=(tide,))
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected(PLACES, means), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hour", [-0.5, 24.5, "nan"])
def test_an_hour_that_no_day_has_is_refused(run: Callable[..., Done], tmp_path: Path, hour: Any) -> None:
    done = run("build", "--model", "tide-daily", "--res", 30, "--input", f"hour={hour}")
    assert_refused(done, f"hour={hour} is nothing that tide-daily takes. Give a number from 0 to 24")
    assert list(tmp_path.iterdir()) == []


def test_an_input_of_another_name_is_refused(run: Callable[..., Done], places: Path) -> None:
    done = run("sample", "--model", "tide-daily", "--input", "month=3", places, "-o", "t.csv")
    assert_refused(done, "takes no input 'month'. It takes: hour")


def test_a_plugins_weights_are_the_users_own(run: Callable[..., Done], places: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    save_file({"network.weight": weight, "network.bias": bias}, tmp_path / "mine.safetensors")
    done = run("sample", "--model", "tide-learned", "--weights", "mine.safetensors", places, "-o", "t.csv")
    assert done.returncode == 0, done.stderr
    # Nobody named an hour: noon.
    assert_holds(tmp_path / "t.csv", expected(PLACES, 12) @ weight.T + bias, "tide-learned")


def test_a_plugins_weights_that_are_missing_are_asked_for(run: Callable[..., Done], places: Path) -> None:
    assert_refused(run("sample", "--model", "tide-learned", places, "-o", "t.csv"), "tide-learned needs weights")


def test_weights_of_another_shape_are_refused(run: Callable[..., Done], places: Path, tmp_path: Path) -> None:
    tensors = {"network.weight": np.zeros((3, 5), np.float32), "network.bias": np.zeros(3, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    done = run("sample", "--model", "tide-learned", "--weights", "w.safetensors", places, "-o", "t.csv")
    assert_refused(done, "w.safetensors does not fit tide")
