"""Builds on a cluster: the bytes of one process alone, whoever is killed, and whoever began."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from small import Broken, Small, make_small

import embedfield as ef
from embedfield.cluster import cluster_of
from embedfield.errors import ClusterError, DeviceError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

HERE = Path(__file__).parent
# Of an item, what differs from run to run.
RUN = ("created", "datetime", "processing:datetime", "emb:runtime_parameters")
KINDS: dict[str, dict[str, Any]] = {
    "tiles": {"model": "sh-l10", "res": 0.5},
    "tiles across the antimeridian": {"model": "sh-l10", "res": 0.5, "bounds": (100, -90, -110, 50), "dtype": "int16"},
    "one file": {"model": "xyz", "res": 10, "dtype": "float32"},
    "one pixel": {"model": "xyz", "res": 10, "bounds": (0, 0, 10, 10), "format": "zarr"},
    "zarr": {"model": "sh-l10", "res": 0.5, "format": "zarr"},
    "zarr of floats": {"model": "sh-l10", "res": 1, "format": "zarr", "dtype": "float32", "supersample": 2},
    "flat": {"model": "sh-l10", "res": 1, "format": "zarr", "layout": "flat"},
    "components": {"model": "sh-l10", "res": 0.5, "format": "zarr", "pca": 7, "dtype": "int16"},
    "projected": {"model": "sh-l10", "res": 50_000, "crs": "EPSG:3035", "format": "zarr", "verify": False},
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers, of one thread each."""
    with cluster_of("local:2") as cluster:
        cluster.client.register_plugin(Small())
        yield cluster.client


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a field but its item's, by its name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != f"{folder.name}.json"
    }


def item(folder: Path) -> dict[str, Any]:
    """Return the item of a field, without what differs from run to run."""
    found: dict[str, Any] = json.loads((folder / f"{folder.name}.json").read_text())
    found["properties"] = {name: value for name, value in found["properties"].items() if name not in RUN}
    return found


def assert_same(found: Path, plain: Path) -> None:
    """Hold a field's folder against another: file by file, and nothing left beside it."""
    assert digests(found) == digests(plain)
    assert item(found) == item(plain)
    assert not list(found.parent.glob(".*.build"))


def workers() -> list[psutil.Process]:
    """Return the processes of the workers that this process started."""
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def _kill(process: psutil.Process) -> None:
    """Kill a process, unless it was killed meanwhile."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of fields that one process built, by their kind."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr)
        out = tmp_path_factory.mktemp("plain")
        return {kind: ef.build_field(**KINDS[kind], out=out).disk_path.parent for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_on_two_workers_has_the_bytes_of_a_plain_one(
    kind: str, client: Client, plain: dict[str, Path], tmp_path: Path
) -> None:
    field = ef.build_field(**KINDS[kind], out=tmp_path, client=client)
    assert_same(field.disk_path.parent, plain[kind])
    assert item(field.disk_path.parent)["collection"] == KINDS[kind]["model"]


@pytest.mark.parametrize("kind", ["tiles", "zarr"])
def test_workers_that_are_killed_cost_their_units_only(
    kind: str, client: Client, plain: dict[str, Path], tmp_path: Path
) -> None:
    chance, killed, told = random.Random(kind), list[int](), list[str]()  # noqa: S311  no secret

    def kill(done: int, total: int) -> None:
        # Between two units, while others are computed, written and told.
        if done and done < total and len(killed) < 3 and chance.random() < 0.2:
            process = chance.choice(workers())
            threading.Timer(chance.uniform(0, 0.3), _kill, (process,)).start()
            killed.append(process.pid)

    field = ef.build_field(**KINDS[kind], out=tmp_path, client=client, progress=kill, report=told.append)
    assert len(killed) >= 2
    assert_same(field.disk_path.parent, plain[kind])
    assert not [line for line in told if "failed" in line and "lost" not in line]


def led(out: Path, kind: str, where: str, until: int, how: int) -> str:
    """Lead a build in a process of its own, which gets a signal once so many units are done; return what it said."""
    command = [sys.executable, str(HERE / "spread_process.py"), str(out), kind, where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    journal = out / "sh-l10" / f".sh-l10-0.5deg-{kind}-uint8.build" / "journal" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > until):
        time.sleep(0.01)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0, said
    return said


@pytest.mark.parametrize(("kind", "how"), [("cog", signal.SIGINT), ("zarr", signal.SIGKILL)])
def test_a_build_that_was_stopped_goes_on_with_workers_or_without(
    kind: str, how: int, client: Client, plain: dict[str, Path], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"model": "sh-l10", "res": 0.5, "format": kind}
    whole = plain["tiles" if kind == "cog" else "zarr"]
    first, told = (("plain", "local:2") if how == signal.SIGINT else ("local:2", "plain")), list[str]()
    led(tmp_path, kind, first[0], 4, how)
    led(tmp_path, kind, first[1], 12, how)
    field = ef.build_field(**asked, out=tmp_path, client=client, report=told.append)
    assert any("Going on with the build" in line for line in told)
    assert_same(field.disk_path.parent, whole)
    again = ef.build_field(**asked, out=tmp_path, client=client, report=told.append)
    assert "is there already" in told[-1]
    assert again.path == field.path


def test_a_unit_that_fails_three_times_ends_the_build_and_all_else_is_kept(
    client: Client, plain: dict[str, Path], tmp_path: Path
) -> None:
    client.register_plugin(Broken())
    told = list[str]()
    try:
        with pytest.raises(
            ClusterError, match=r"r000128c000256\.tif failed on worker tcp://.*RuntimeError: no such luck"
        ):
            ef.build_field(**KINDS["tiles"], out=tmp_path, client=client, report=told.append)
    finally:
        client.unregister_worker_plugin("broken")
    assert sum("is tried again" in line for line in told) == 2
    assert list(tmp_path.rglob("*.tiles/*.tif"))
    field = ef.build_field(**KINDS["tiles"], out=tmp_path, client=client)
    assert_same(field.disk_path.parent, plain["tiles"])


def test_what_is_wrong_is_said_before_work_begins(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfield.cluster.ANSWER", 1.0)
    with pytest.raises(UnknownModelError):
        ef.build_field("nobody", 1, out=tmp_path, client=client)
    with pytest.raises(DeviceError):
        ef.build_field("xyz", 1, out=tmp_path, client=client, device="cuda:7")
    with pytest.raises(ClusterError, match="no cluster"):
        ef.build_field("xyz", 1, out=tmp_path, client="nowhere")
    with pytest.raises(ClusterError, match="No Dask scheduler answers at tcp://127"):
        ef.build_field("xyz", 1, out=tmp_path, client="tcp://127.0.0.1:9")
    assert not list(tmp_path.iterdir())
