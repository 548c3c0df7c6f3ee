"""Resume: a build that is killed goes on, and ends in the bytes of one that was not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pystac
import pytest
from interrupted import KINDS

from embedfield.formats.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
# Kills tried for each kind of raster between touches of files, and as many by the clock.
KILLS = 6


def run(kind: str, folder: Path, moment: str) -> list[float] | None:
    """Write a raster in a process of its own, killed at a moment.

    Returns:
        How often it touched a file, and the seconds it took; None if it was killed.
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "interrupted.py"), kind, str(folder), moment]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return [float(word) for word in done.stdout.split()] or None


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def moments(touches: float, seconds: float) -> Iterator[str]:
    """Yield random moments: between two touches of a file, and by the clock, when GDAL may be writing."""
    rng = np.random.default_rng(int(touches))
    for _ in range(KILLS):
        yield str(int(rng.uniform(1, touches)))
        yield f"{rng.uniform(0, seconds):.3f}s"


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_killed_at_many_moments_ends_in_the_same_bytes(tmp_path: Path, kind: str) -> None:
    measured = run(kind, tmp_path / "whole", "never")
    assert measured
    whole = contents(tmp_path / "whole" / "field")
    kills = attempts = 0
    for moment in (*moments(*measured), "never"):
        ended = run(kind, tmp_path / str(attempts), moment)
        kills += ended is None
        if ended:
            killed = contents(tmp_path / str(attempts) / "field")
            assert killed.keys() == whole.keys()
            assert [name for name in whole if killed[name] != whole[name]] == []
            attempts += 1
    assert kills >= KILLS


def command(catalog: Path, *words: str) -> list[str]:
    """Return a build of some seconds, of many shards."""
    build = [sys.executable, "-m", "embedfield", "build", "--model", "sh-l10", "--res", "0.3", "--out", str(catalog)]
    return [*build, "--bounds", "-60", "-90", "90", "90", *words]


def files_of(catalog: Path) -> dict[str, bytes]:
    """Return the files of a catalogue but for those that tell the time: items, and what is made of them."""
    timed = {"catalog.json", "collection.json", "model.json", "items.parquet"}
    return {
        name: data
        for name, data in contents(catalog).items()
        if (path := Path(name)).name not in timed
        and path.suffix != ".lock"
        and name != f"{path.parent}/{path.parent.name}.json"
    }


def killed_after(delay: float, words: list[str], folder: Path) -> bool:
    """Run a build and kill it some seconds after its ranges are known; return whether it was still at work."""
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(folder.glob(".*.build/plan.json")):
            time.sleep(0.02)
        time.sleep(delay)
        process.kill()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("words", [("--format", "zarr"), ("--pca", "5", "--dtype", "int16")])
def test_a_whole_build_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path, words: tuple[str, ...]) -> None:
    subprocess.run(command(tmp_path / "whole", *words), check=True, capture_output=True, timeout=120)
    rng, kills = np.random.default_rng(len(words)), 0
    for delay in (0.0, *rng.uniform(0, 3, 3)):
        kills += killed_after(delay, command(tmp_path / "killed", *words), tmp_path / "killed" / "sh-l10")
    done = subprocess.run(command(tmp_path / "killed", *words), check=True, capture_output=True, text=True, timeout=120)
    assert kills
    assert done.stdout
    whole, killed = files_of(tmp_path / "whole"), files_of(tmp_path / "killed")
    assert killed.keys() == whole.keys()
    assert [name for name in whole if killed[name] != whole[name]] == []
    assert not any(name.startswith("sh-l10/.") for name in killed)
    items = list(pystac.Catalog.from_file(str(tmp_path / "killed" / "catalog.json")).get_items(recursive=True))
    assert [item.id for item in items] == [next((tmp_path / "whole" / "sh-l10").glob("sh-*")).name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["cut", "gone"])
def test_a_unit_whose_file_was_lost_is_written_again(tmp_path: Path, kind: str, loss: str) -> None:
    assert run(kind, tmp_path / "whole", "never")
    whole = contents(tmp_path / "whole" / "field")
    units = [name for name in whole if "embedding/c/" in name or name.endswith(".tif")]
    for name in units[:: max(1, len(units) // 5)]:
        path = tmp_path / "whole" / "field" / name
        path.unlink() if loss == "gone" else path.write_bytes(whole[name][:-3])
    assert run(kind, tmp_path / "whole", "never")
    assert contents(tmp_path / "whole" / "field") == whole


@pytest.mark.parametrize("kind", ["zarr", "flat"])
@pytest.mark.parametrize("when", ["killed", "finished"])
def test_whatever_is_lost_of_the_structure_of_a_group_is_made_anew(tmp_path: Path, kind: str, when: str) -> None:
    measured = run(kind, tmp_path / "whole", "never")
    assert measured
    whole = contents(tmp_path / "whole" / "field")
    names = ["zarr.json", "1/zarr.json", "embedding/zarr.json", "1/embedding/zarr.json", "scale/c/0", "x/c/0"]
    for loss in ("gone", "empty", "all gone"):
        folder = tmp_path / loss
        ended = run(kind, folder, "never" if when == "finished" else str(int(measured[0] * 0.7)))
        assert (ended is None) == (when == "killed")
        for path in (folder / "field" / "field.zarr" / name for name in names):
            path.write_bytes(b"") if loss == "empty" else path.unlink()
        if loss == "all gone":
            (folder / "field" / "field.zarr" / "embedding" / "c" / "0" / "0" / "0").unlink()
            shutil.rmtree(folder / "field" / "field.zarr" / "offset")
        (folder / "field" / "field.zarr" / "x" / "zarr.json.0.partial").write_bytes(b"cut")
        assert run(kind, folder, "never")
        assert contents(folder / "field") == whole


@pytest.mark.parametrize("tail", [b"{", b'{"unit": "0-0-0", "satur', b"\0" * 512, b"[1]\n", b"\xff\xfe\n"])
def test_what_a_journal_did_not_finish_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    journal = Journal(tmp_path / "journal")
    journal.add("a")
    path = tmp_path / "journal" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    again = Journal(tmp_path / "journal")
    assert path.read_bytes() == whole
    assert again.done("a")
    again.add("b")
    assert Journal(tmp_path / "journal").done("b")
