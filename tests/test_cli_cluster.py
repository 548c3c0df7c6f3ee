"""Commands on a cluster, as processes of their own: what they say, how they end, and what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from fields import listing

import embedfield as ef
from embedfield.integrity import check_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import Done

COMMAND = (sys.executable, "-m", "embedfield")
# Shards of 64 x 64 pixels in every process that finds this on its path, so that a build can be stopped among many.
SMALL = "from embedfield.formats import geozarr, shards\ngeozarr.SHARD = 64\nshards.ROW = 2 * 100 * 64 * 64\n"
FAILING = "from small import Broken, make_small\nmake_small()\nBroken().setup(None)\n"
FEW_PLACES = "from embedfield import stream\nstream.HELD, stream.LEAST, stream.ROWS = 1, 40, 64\n"
BUILD = "build", "--model", "sh-l10", "--res", "1", "--format", "zarr", "--out", "kept"
FOLDER = Path("kept/sh-l10/sh-l10-1deg-zarr-uint8")
WORK = FOLDER.with_name(f".{FOLDER.name}.build")


def asked(folder: Path, *words: str, own: str) -> subprocess.Popen[str]:
    """Begin a command in a folder, in a group of processes of its own, as a terminal does.

    All its processes do something of our own at their start.
    """
    (folder / "own").mkdir(exist_ok=True)
    # As a terminal has it: what a shell runs in the background is deaf to Ctrl-C.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (folder / "own" / "sitecustomize.py").write_text(heard + own)
    path = [str(folder / "own"), str(Path(__file__).parent), str(Path(ef.__file__).parent.parent)]
    return subprocess.Popen(
        [*COMMAND, *words], cwd=folder, start_new_session=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(folder)},
    )  # fmt: skip


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; return its exit code and what it said, once no process of its group is left."""
    out, err = process.communicate(timeout=100)
    left = group(process.pid)
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []
    return process.returncode, out, err


def group(leader: int) -> list[psutil.Process]:
    """Return the processes of a group that are there."""
    return [process for process in psutil.process_iter() if _group_of(process.pid) == leader]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def stopped(folder: Path, words: Sequence[str], how: int, *, whole: bool) -> tuple[int, str, str]:
    """Stop a build in the middle: all processes of its group, as Ctrl-C does, or its own alone, as ``kill`` does."""
    process, journal = asked(folder, *words, own=SMALL), folder / WORK / "journal" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 4):
        time.sleep(0.01)
    (os.killpg if whole else os.kill)(process.pid, how)
    code, out, err = done(process)
    # How far it is, is said where it took long.
    return code, out, "".join(line for line in err.splitlines(keepends=True) if not line.startswith("building "))


def assert_nothing_else(folder: Path, *names: str) -> None:
    """Hold a folder, which is that of temporary files too, to have only some things."""
    assert {path.name for path in folder.iterdir()} - {"own", "dask-scratch-space", *names} == set()
    assert [name for name in listing(folder / "dask-scratch-space") if not name.endswith(".lock")] == []


def assert_kept(folder: Path) -> None:
    """Hold a folder to have an unfinished build and nothing else."""
    assert not (folder / FOLDER).exists()
    assert (folder / WORK / "plan.json").exists()
    assert [name for name in listing(folder / WORK) if name.startswith("worker-")] == []
    assert_nothing_else(folder, "kept")


def test_ctrl_c_ends_a_build_on_a_cluster_as_any_and_it_goes_on(tmp_path: Path) -> None:
    plain, spread = tmp_path / "plain", tmp_path / "spread"
    plain.mkdir()
    spread.mkdir()
    wanted = stopped(plain, BUILD, signal.SIGINT, whole=True)
    assert stopped(spread, (*BUILD, "--dask", "local:2"), signal.SIGINT, whole=True) == wanted
    assert "Traceback" not in wanted[2]
    assert_kept(plain)
    assert_kept(spread)
    code, out, err = done(asked(spread, *BUILD, "--dask", "local:2", own=SMALL))
    assert (code, spread / out.strip()) == (0, spread / FOLDER / f"{FOLDER.name}.zarr")
    assert "Going on with the build that was begun in " in err
    assert check_sums(spread / FOLDER) == []
    assert not (spread / WORK).exists()


def test_a_build_that_a_batch_system_ends_leaves_no_worker(tmp_path: Path) -> None:
    code, out, err = stopped(tmp_path, (*BUILD, "--dask", "local:2"), signal.SIGTERM, whole=False)
    assert (code, out, err) == (128 + signal.SIGTERM, "", "")
    assert_kept(tmp_path)


def test_a_table_is_sampled_by_workers(tmp_path: Path) -> None:
    ef.build_field("xyz", 10, out=tmp_path / "kept", verify=False)
    (tmp_path / "places.csv").write_text("lon,lat\n" + "".join(f"{lon},{lon / 4}\n" for lon in range(-170, 170)))
    words = "sample", "kept/xyz/xyz-10deg-cog-uint8", "places.csv", "-o"
    said = list[str]()
    for more in (("alone.csv",), ("shared.csv", "--dask", "local:2")):
        code, out, err = done(asked(tmp_path, *words, *more, own=FEW_PLACES))
        assert (code, out) == (0, f"{more[0]}\n"), err
        said.append(err.replace(more[0], "it"))
    assert said[0] == said[1]
    assert (tmp_path / "shared.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert_nothing_else(tmp_path, "kept", "places.csv", "alone.csv", "shared.csv")


@pytest.mark.parametrize(
    ("words", "where", "said"),
    [
        (BUILD, "nowhere", "dask='nowhere' is no cluster. Give local, local:N, the address of a scheduler"),
        (BUILD, "none.json", "none.json does not exist. Give the file"),
        (("sample", "no field", "places.csv", "-o", "out.csv"), "nowhere", "dask='nowhere' is no cluster."),
    ],
)
def test_what_is_no_cluster_is_said_in_one_line_before_anything_is_made(
    run: Callable[..., Done], tmp_path: Path, words: tuple[str, ...], where: str, said: str
) -> None:
    ended = run(*words, "--dask", where)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith(f"embedfield: {said}")
    assert listing(tmp_path) == []


def test_workers_are_counted_for_a_plan_only(run: Callable[..., Done], tmp_path: Path) -> None:
    refused = run(*BUILD, "--workers", "3")
    assert (refused.code, refused.out) == (2, "")
    assert "--workers N is for --dry-run" in " ".join(refused.err.replace("│", " ").split())
    planned = run(*BUILD, "--dry-run", "--workers", "3")
    assert (planned.code, "Traceback" in planned.err) == (0, False)
    lines = dict(line.split(maxsplit=1) for line in planned.out.splitlines() if line and not line.startswith(" "))
    assert {"workers", "time"} <= set(lines), planned.out
    assert lines["workers"].startswith("3")
    assert listing(tmp_path) == []


def test_units_that_fail_are_named_with_worker_and_error(tmp_path: Path) -> None:
    words = (*BUILD, "--format", "cog", "--res", "0.5", "--dask", "local:2")
    code, out, err = done(asked(tmp_path, *words, own=FAILING))
    assert (code, out) == (1, "")
    *again, last = [line for line in err.splitlines() if "r000128c000256.tif" in line]
    where = r"r000128c000256\.tif failed on worker tcp://127\.0\.0\.1:\d+: RuntimeError: no such luck\. It "
    assert [bool(re.match(rf"{where}is tried again", line)) for line in again] == [True, True]
    assert re.match(rf"embedfield: {where}failed 3 times\. Mend that, and give the same command again", last)
    assert err.splitlines()[-1] == last
    assert "Traceback" not in err
