"""The README is true: its table of models, its commands, its Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedfield.models import cards

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NEED_NONE = ("sh-l10", "sh-l40", "xyz")


def table_of_models() -> str:
    """Return the README's table, made from the cards: a row for those that differ in their names alone."""
    source = {"hub": "Hugging Face", "package": "its Python package", "url": "its web page"}
    rows: dict[str, list[str]] = {}
    for card in cards():
        names = f"`{card.name}`{''.join(f' (`{short}`)' for short in card.aliases)}"
        origin = source[card.weights.source] if card.weights else "none needed" if card.name in NEED_NONE else "yours"
        rows.setdefault(f"{card.dim:,} | {card.training_data} | {origin} | {card.licence_in_words} |", []).append(names)
    heading = ["| names | dim | trained on | weights from | licence |", "|---|---|---|---|---|"]
    return "\n".join(heading + [f"| {', '.join(names)} | {row}" for row, names in rows.items()])


def test_the_table_of_models_is_that_of_the_cards() -> None:
    assert table_of_models() in README, f"Put this into the README:\n{table_of_models()}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run the README's examples in."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "pipelines").mkdir()
    shutil.copy(ROOT / "pipelines" / "cities.csv", folder / "pipelines")
    shutil.copytree(ROOT / "catalog", folder / "catalog")
    return folder


def run(command: list[str], folder: Path) -> str:
    """Run a command with the project's own cache of weights; return what it printed."""
    environment = os.environ | {"EMBEDFIELD_CACHE": str(ROOT / ".cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_runs_on_a_coarser_grid(folder: Path) -> None:
    commands = re.findall(r"^    (embedfield .*)$", README, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(
            command.replace("--res 1", "--res 30").replace("geoclip-1deg", "geoclip-30deg"), comments=True
        )
        run([sys.executable, "-m", *words], folder)
    assert (folder / "cities.parquet").exists()
    assert (folder / "exact.csv").read_text().startswith("city,country,lon,lat,geoclip_000")


def test_the_python_example_runs_on_a_coarser_grid(folder: Path) -> None:
    example, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shapes = "\nprint(vectors.shape, table.shape, pixels.compute().shape, pixels.rio.crs)"
    printed = run([sys.executable, "-c", example.replace("res=1)", "res=30)") + shapes], folder)
    assert printed.strip() == "(1, 512) (30, 517) (512, 6, 12) EPSG:4326"


def test_the_python_example_of_datasets_runs(folder: Path) -> None:
    _, example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shapes = "\nprint(near.shape, europe[:, ::50, ::50].compute().shape, europe.shape)"
    assert run([sys.executable, "-c", example + shapes], folder).strip() == "(16,) (3, 7, 8) (3, 350, 400)"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_every_path_that_is_linked_or_named_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).exists(), path


def test_the_architecture_names_every_file_of_the_house() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {path.name for path in (ROOT / "embedfield").glob("*.py")} | {"formats/", "encoders/"}
    assert {room for room in rooms if room not in text} <= {"__main__.py"}


def test_the_example_of_a_card_builds_a_field(folder: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (folder / "land-ocean.toml").write_text(example)
    shutil.copy(ROOT / "tests" / "reference" / "locationencoder_siren.ckpt", folder / "land-ocean.ckpt")
    (command,) = re.findall(r"`embedfield (build --card [^`]*)`", README)
    printed = run([sys.executable, "-m", "embedfield", *shlex.split(command.replace("--res 1", "--res 30"))], folder)
    assert "land-ocean-30deg-cog-uint8.tif" in printed
    (call,) = re.findall(r"`(ef\.load\(ef\.read_card[^`]*)`", README)
    assert run([sys.executable, "-c", f"import embedfield as ef\nprint({call}.dim)"], folder).strip() == "5"
