"""The workers of a cluster sample a file of places, and the table has the same bytes as if one process had."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from distributed import Client, LocalCluster
from fields import ArrayField, bumpy, listing

from embedfield import stream as module
from embedfield.card import Card
from embedfield.commands.options import computed
from embedfield.errors import ClusterError
from embedfield.evaluate import EncodedField
from embedfield.formats import open_field, write_field
from embedfield.grid import Grid
from embedfield.models import card as known
from embedfield.parts import workplace
from embedfield.stream import sample_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from embedfield.field import Field
    from embedfield.formats.stored import StoredField

# Nine blocks over Europe.
GRID = Grid(west=-10.0, north=60.0, res=0.1, width=300, height=260)
PLANE = Grid.from_bounds(20_000, (2_500_000, 1_400_000, 7_400_000, 5_500_000), "EPSG:3035")
STATS = ["mean", "std", "median", "count", "coverage"]


def card(name: str, dim: int = 3) -> Card:
    return Card(name=name, title=name, dim=dim, code="none:None", homepage="https://example.org")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of two workers, each a process of one thread, on loopback."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StoredField]]:
    """A COG in degrees and a Zarr in metres."""
    folder = tmp_path_factory.mktemp("fields")
    found = [
        write_field(ArrayField(bumpy(3, *GRID.shape), GRID, card("bumps")), folder / "bumps.tif", dtype="uint8"),
        write_field(ArrayField(bumpy(2, *PLANE.shape), PLANE, card("plane", 2)), folder / "plane.zarr", dtype="int16"),
    ]
    yield found
    for one in found:
        one.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little memory that places are divided into many parts, and read in many batches."""
    monkeypatch.setattr(module, "HELD", 1)
    monkeypatch.setattr(module, "LEAST", 40)
    monkeypatch.setattr(module, "ROWS", 64)
    monkeypatch.setattr(module, "WRITTEN", 1)


def random_places(count: int, seed: int = 3) -> npt.NDArray[np.float64]:
    """Return places on the fields, and a few beside them; more of them in one block than in others."""
    generator = np.random.default_rng(seed)
    lonlat = generator.uniform([-11, 33], [21, 61], (count, 2))
    lonlat[::3] = generator.uniform([5, 45], [10, 48], (len(lonlat[::3]), 2))
    return lonlat


def points(path: Path, count: int = 500) -> Path:
    lon, lat = random_places(count).round(5).T
    pd.DataFrame({"id": np.arange(count), "lon": lon, "lat": lat}).to_csv(path, index=False)
    return path


def shapes(path: Path, count: int = 200) -> Path:
    centres = shapely.points(random_places(count))
    sizes = np.random.default_rng(5).uniform(0.001, 1, count) ** 3
    rings = shapely.buffer(centres, sizes)
    geometry = np.where(np.arange(count) % 3 == 0, shapely.boundary(rings), rings)
    geopandas.GeoDataFrame({"id": np.arange(count)}, geometry=geometry, crs="EPSG:4326").to_parquet(path)
    return path


def assert_same_table(field: Any, places: Path, client: Any, suffix: str = ".parquet", **options: Any) -> None:
    """Hold a table that workers made to have the bytes of one that no worker did."""
    folder, again = places.parent, options.pop("again", None)
    alone = sample_file(field, places, folder / f"alone{suffix}", **options)
    shared = sample_file(field, places, folder / f"shared{suffix}", client=client, again=again, **options)
    assert shared.path.read_bytes() == alone.path.read_bytes()
    assert (shared.rows, shared.statuses) == (alone.rows, alone.statuses)
    assert listing(folder) == sorted([places.name, alone.path.name, shared.path.name])


# Fields that behave in some way once a worker has them.


class Travelling(ArrayField):
    """A field that becomes another on its way to a worker."""

    def __init__(self, arrive: Callable[..., Field], *words: Any) -> None:
        """Arrive as what a function makes of some words."""
        super().__init__(bumpy(3, *GRID.shape), GRID, card("bumps"), {"version": 1})
        self._way = arrive, words

    def __reduce__(self) -> tuple[Callable[..., Field], tuple[Any, ...]]:
        """Pickle as what arrives."""
        return self._way


class Slow(ArrayField):
    """A field that takes its time, and tells that it has begun."""

    began: Path | None = None
    error: OSError | None = None

    def ask(self, lonlat: npt.ArrayLike, method: Any = None) -> Any:
        """Answer after a while."""
        if self.began:
            self.began.touch()
        if self.error:
            raise self.error
        time.sleep(0.05)
        return super().ask(lonlat, method)


def slow(began: Path | None = None, error: OSError | None = None) -> Slow:
    """Return a slow field of the same values."""
    found = Slow(bumpy(3, *GRID.shape), GRID, card("bumps"), {"version": 1})
    found.began, found.error = began, error
    return found


def counted(log: Path) -> Slow:
    """Note in a file which process makes the field."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return slow()


def newer() -> ArrayField:
    """Return a field that another version made."""
    return ArrayField(bumpy(3, *GRID.shape), GRID, card("bumps"), {"version": 2})


# 1. The table is the same.


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".csv", {}),
        (".parquet", {"method": "bilinear", "columns": "list"}),
        (".parquet", {"buffer": 20_000, "stats": STATS}),
    ],
)
def test_points_that_workers_sampled_are_in_the_same_table(
    fields: list[StoredField], tmp_path: Path, client: Client, suffix: str, options: dict[str, Any]
) -> None:
    assert_same_table(fields, points(tmp_path / "places.csv"), client, suffix, **options)


def test_shapes_that_workers_sampled_are_in_the_same_table(
    fields: list[StoredField], tmp_path: Path, client: Client
) -> None:
    assert_same_table(fields[::-1], shapes(tmp_path / "places.parquet"), client, stats=STATS, columns="list")


def test_exact_values_that_workers_computed_are_in_the_same_table(
    make_field: Callable[..., EncodedField], tmp_path: Path, client: Client
) -> None:
    everywhere = EncodedField.everywhere(make_field(model="sh-l10").evaluator)
    places = points(tmp_path / "places.csv", 5000)
    assert_same_table(everywhere, places, client, ".csv")


def test_a_model_beside_a_field_is_made_anew_by_workers(
    fields: list[StoredField], tmp_path: Path, client: Client
) -> None:
    places, load = points(tmp_path / "places.csv"), partial(computed, known("sh-l10"))
    assert_same_table([fields[0], load()], places, client, again=partial(_both, fields[0], load))


def _both(stored: Field, load: Callable[[], Field]) -> list[Field]:
    return [stored, load()]


def test_workers_in_another_folder_find_fields_and_output_by_relative_paths(
    fields: list[StoredField], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    points(Path("places.csv"))
    with open_field(os.path.relpath(fields[0].path)) as here:
        for name, helpers in (("alone.parquet", None), ("shared.parquet", client)):
            sample_file(here, "places.csv", name, client=helpers)
    assert Path("shared.parquet").read_bytes() == Path("alone.parquet").read_bytes()


def test_fields_reach_each_worker_once(tmp_path: Path, client: Client) -> None:
    places, told = points(tmp_path / "places.csv"), list[tuple[int, int]]()
    sample_file(
        Travelling(counted, tmp_path / "log"),
        places,
        tmp_path / "table.csv",
        client=client,
        progress=lambda *counts: told.append(counts),
    )
    processes = (tmp_path / "log").read_text().split()
    assert len(processes) == len(set(processes)) <= 2
    assert str(os.getpid()) not in processes
    # There were many parts.
    assert len(set(told)) > 15


def test_progress_goes_to_the_end_of_each_step(fields: list[StoredField], tmp_path: Path, client: Client) -> None:
    told = list[Any]()
    sample_file(
        fields, points(tmp_path / "places.csv", 300), tmp_path / "table.csv", client=client,
        step=told.append, progress=lambda *counts: told.append(counts),
    )  # fmt: skip
    steps = [word for word in told if isinstance(word, str)]
    assert "sampling" in steps
    for before, word in zip(told, [*told[1:], "end"], strict=True):
        assert not isinstance(word, str) or isinstance(before, str) or before == (300, 300)


# 2. Few places, and what cannot be done.


def test_few_places_are_sampled_here_and_that_is_said(fields: list[StoredField], tmp_path: Path) -> None:
    told = list[str]()
    places = points(tmp_path / "places.csv", 30)
    # Where nobody answers.
    sample_file(fields, places, tmp_path / "table.csv", client="tcp://127.0.0.1:1", report=told.append)
    assert told == ["30 places are too few to be divided between workers: sampled here."]


def test_what_is_no_cluster_is_refused_before_anything_is_read(fields: list[StoredField], tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"dask='everywhere' is no cluster\. Give local"):
        sample_file(fields, tmp_path / "none.csv", tmp_path / "table.csv", client="everywhere")


def test_a_folder_that_workers_do_not_see_is_said_before_places_are_divided(
    fields: list[StoredField], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(PosixPath):
        """A path on a disk that another machine does not have."""

        def __reduce__(self) -> tuple[type[Path], tuple[str]]:
            return Path, ("/of/another/machine",)

    @contextmanager
    def hidden(path: Path) -> Iterator[Path]:
        with workplace(path) as folder:
            yield Elsewhere(folder)

    monkeypatch.setattr(module, "workplace", hidden)
    told = list[str]()
    places = points(tmp_path / "places.csv")
    with pytest.raises(ClusterError, match=r"A worker does not see /of/another.*under the same path everywhere"):
        sample_file(fields, places, tmp_path / "table.csv", client=client, step=told.append)
    assert told == ["reading the places", "waiting for workers"]
    assert listing(tmp_path) == ["places.csv"]


def test_a_field_that_another_version_made_on_a_worker_is_refused(tmp_path: Path, client: Client) -> None:
    places = points(tmp_path / "places.csv")
    with pytest.raises(ClusterError, match=r"bumps is another on a worker: version is 2 there, and 1 here\. Give all"):
        sample_file(Travelling(newer), places, tmp_path / "table.csv", client=client)
    assert listing(tmp_path) == ["places.csv"]


def test_a_part_that_cannot_be_sampled_is_named_with_its_worker_and_leaves_no_table(
    tmp_path: Path, client: Client
) -> None:
    told = list[str]()
    field = Travelling(slow, None, OSError("the disk is gone"))
    places = points(tmp_path / "places.csv")
    with pytest.raises(ClusterError, match=r"part \d+(\.\d+)? failed on worker tcp://.*OSError: the disk is gone"):
        sample_file(field, places, tmp_path / "table.csv", client=client, report=told.append)
    assert any("tried again" in line for line in told)
    assert listing(tmp_path) == ["places.csv"]


# 3. Workers are lost, and people stop.


def test_workers_that_are_killed_at_random_moments_change_no_byte(tmp_path: Path, client: Client) -> None:
    places, chance = points(tmp_path / "places.csv"), random.Random(7)  # noqa: S311  no secret
    moments = sorted(chance.sample(range(1, 450), 3))

    def kill(done: int, _: int) -> None:
        if steps[-1] == "sampling" and moments and done >= moments[0]:
            moments.pop(0)
            # Of one that was just killed the next process may not be there yet.
            processes = [nanny.pid for nanny in client.cluster.workers.values() if nanny.pid]
            os.kill(chance.choice(processes), signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.3))

    steps = [""]
    alone = sample_file(slow(), places, tmp_path / "alone.parquet")
    shared = sample_file(
        Travelling(slow), places, tmp_path / "shared.parquet", client=client,
        progress=kill, step=steps.append,
    )  # fmt: skip
    assert not moments
    assert shared.path.read_bytes() == alone.path.read_bytes()
    assert listing(tmp_path) == ["alone.parquet", "places.csv", "shared.parquet"]
    client.wait_for_workers(2)


def test_who_stops_it_finds_no_half_table_and_no_folder(
    fields: list[StoredField], tmp_path: Path, client: Client
) -> None:
    places = points(tmp_path / "places.csv")

    def stop(done: int, _: int) -> None:
        if steps[-1] == "sampling" and done:
            raise KeyboardInterrupt

    steps = [""]
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        sample_file(
            Travelling(slow), places, tmp_path / "table.csv", client=client, overwrite=True,
            progress=stop, step=steps.append,
        )  # fmt: skip
    assert (tmp_path / "table.csv").read_text() == "mine"
    assert listing(tmp_path) == ["places.csv", "table.csv"]
    # Workers may have been in the middle of parts. They end them, and leave nothing; and they go on working.
    (tmp_path / "table.csv").unlink()
    assert_same_table(fields, places, client)


# 4. The command.


def test_the_command_gives_large_tables_to_workers(run: Callable[..., Any], tmp_path: Path, client: Client) -> None:
    points(tmp_path / "places.csv", 2500)
    words = ("sample", "--model", "sh-l10", "places.csv", "-o")
    assert run(*words, "alone.csv").code == 0
    assert run(*words, "shared.csv", "--dask", client.scheduler_info()["address"]).code == 0
    assert (tmp_path / "shared.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    wrong = run(*words, "wrong.csv", "--dask", "everywhere")
    assert wrong.code == 1
    assert "dask='everywhere' is no cluster" in wrong.err
    assert listing(tmp_path) == ["alone.csv", "places.csv", "shared.csv"]
