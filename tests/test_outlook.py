"""What a cluster would take: tasks as a build divides them, times that its workers share, words for a person."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embedfield import estimate as estimating
from embedfield.build import build_field
from embedfield.errors import ClusterError
from embedfield.estimate import estimate_build
from embedfield.formats.pieces import pieces_of
from embedfield.order import Order
from embedfield.processors import given
from embedfield.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Done

    from embedfield.estimate import Estimate
    from embedfield.outlook import Outlook

# A task is one shard, for it has 26 MB of codes.
ONE_SHARD: dict[str, Any] = {"format": "zarr", "dtype": "float32"}
EUROPE = (-20.0, 30.0, 40.0, 70.0)


def estimate(out: Path, model: str = "sh-l10", res: float = 1, workers: int | None = 4, **kwargs: Any) -> Estimate:
    """Estimate a build by workers that have a processor each."""
    return estimate_build(model, res, **{"workers": workers, "out": out, "device": "cpu", **kwargs})


def outlook(out: Path, *words: Any, **kwargs: Any) -> Outlook:
    """Return what it says of the workers."""
    found = estimate(out, *words, **kwargs).outlook
    assert found
    return found


@pytest.mark.parametrize("form", ["cog", "zarr"])
@pytest.mark.parametrize(("dtype", "res"), [("float32", 0.5), ("uint8", 0.1), ("int16", 0.02), ("uint8", 10)])
def test_tasks_are_those_that_a_build_is_divided_into(catalog: Path, dtype: Any, res: float, form: Any) -> None:
    found = estimate(catalog, res=res, format=form, dtype=dtype)
    assert found.outlook
    raster = f"field{'.tif' if form == 'cog' else '.zarr'}"
    pieces = pieces_of(found.grid, found.dim, dtype, format=form, layout="sharded", raster=raster)
    first, *later = [list(stage) for stage in pieces.stages()]
    assert (found.outlook.pieces, found.outlook.joined) == (len(first), sum(map(len, later)))
    window = pieces.windows(first[0])
    rows, cols = ([getattr(part, name) for part in window] for name in ("rows", "cols"))
    assert found.outlook.shape == (max(r.stop for r in rows), max(c.stop for c in cols))


def test_twice_the_workers_halve_the_time_of_what_they_share(catalog: Path) -> None:
    four = replace(outlook(catalog, res=0.1, **ONE_SHARD), making=1000.0, joining=0.0)
    eight, idle = replace(four, workers=8), replace(four, workers=10**6)
    assert (four.pieces, four.shared) == (15 * 8, 250)
    assert eight.shared == 125
    assert eight.rest == four.rest
    # One task each, and all others have none.
    assert idle.shared == pytest.approx(1000 / 120)
    assert idle.describe()["workers"].endswith("999,880 of them with nothing to do")


def test_tasks_are_not_faster_than_they_are_handed_out(catalog: Path) -> None:
    found = replace(outlook(catalog, res=0.1, **ONE_SHARD), making=1e-3, joining=0.0)
    assert found.shared == found.led > 0.1
    assert "more workers would gain nothing" in found.describe()["time"]


def test_coarser_levels_are_read_again_where_no_task_has_all_below_them(catalog: Path) -> None:
    # 3 x 2 shards, above which are 2 and 1; 8 of the 9 are read again.
    zarr = estimate(catalog, res=0.5, **ONE_SHARD)
    assert zarr.outlook
    assert (zarr.outlook.pieces, zarr.outlook.joined) == (6, 3)
    assert zarr.outlook.read["coarser levels"] == pytest.approx(zarr.stored_bytes * 8 / 9)
    # A tile has its own.
    assert outlook(catalog, res=0.5).read["coarser levels"] == 0


def test_what_workers_write_is_the_raster(catalog: Path) -> None:
    found = estimate(catalog)
    assert found.outlook
    assert found.outlook.written == found.stored_bytes
    assert found.outlook.rate * (found.outlook.making + found.outlook.joining) == pytest.approx(found.stored_bytes)


def test_a_certificate_that_nobody_wants_reads_nothing(catalog: Path) -> None:
    assert outlook(catalog).read["the certificate"] > 0
    assert outlook(catalog, verify=False).read["the certificate"] == 0


def test_a_worker_is_measured_with_one_processor(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of, seen = Trial.of, list[int | None]()

    def noted(*words: Any, **named: Any) -> Trial:
        seen.append(given())
        return of(*words, **named)

    monkeypatch.setattr(Trial, "of", noted)
    estimate(catalog)
    estimate(catalog, workers=None)
    assert seen == [1, None]
    assert given() is None


def test_a_worker_needs_memory_for_one_task(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "_memory", lambda: 0)
    continent, globe = (outlook(catalog, res=0.1, bounds=bounds, **ONE_SHARD) for bounds in (EUROPE, None))
    assert globe.worker_memory == pytest.approx(continent.worker_memory, rel=0.01)
    # A shard in floats, and as codes, several times; what Dask takes.
    assert 100 * 256 * 256 * 4 < globe.worker_memory < 1e9
    assert globe.leader_memory > continent.leader_memory


def test_the_time_that_is_left_is_that_of_the_workers(catalog: Path) -> None:
    found = estimate(catalog)
    assert found.outlook
    assert found.total == found.left == found.outlook.shared + found.outlook.rest
    half = replace(found, done=found.grid.width * found.grid.height // 2)
    assert half.left == pytest.approx(found.outlook.shared / 2 + found.outlook.rest)


def test_a_field_that_is_there_takes_no_time(catalog: Path) -> None:
    build_field("xyz", 10, out=catalog, device="cpu")
    assert estimate(catalog, "xyz", 10).left == 0


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_the_globe_at_a_thousandth_of_a_degree_is_told(catalog: Path, form: str) -> None:
    found = estimate(catalog, "sh-l10", 0.001, workers=1000, format=form)
    assert found.raw_bytes == 360_000 * 180_000 * 100
    lines = found.describe()
    assert list(lines)[-7:] == ["workers", "units", "memory", "network", "time", "speed", "folder"]
    assert lines["workers"] == "1,000, each with one processor as fast as one here"
    assert re.match(r"[\d,]+ tasks of [\d,]+ x [\d,]+ pixels, .* of a worker each", lines["units"])
    assert re.match(r"a worker at most about .*B; the process that leads .*B$", lines["memory"])
    assert re.match(
        r".*B to storage, .*B/s a worker, .*B/s together; back .* for the certificate; .*B pass", lines["network"]
    )
    assert re.match(r"about [\d.,]+ \w+: tasks .*, starting .*, ranges, pictures and certificate .*, ", lines["time"])


def test_a_field_of_one_task_is_told_so(catalog: Path) -> None:
    assert outlook(catalog, "xyz", 10).describe()["units"] == "one task of 36 x 18 pixels, under 1 s of a worker"


def test_workers_of_a_gpu_are_told_so(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "device", property(lambda _: "cuda"))
    found = estimate(catalog, workers=1)
    assert found.describe()["workers"] == "1, each with one GPU (cuda) and one processor as here"
    # It computes while the processor packs and writes.
    assert found.outlook
    assert found.outlook.making == max(found.seconds["computing"], found.seconds["packing"] + found.seconds["writing"])


@pytest.mark.parametrize("workers", [0, -3])
def test_no_worker_is_refused(catalog: Path, workers: int) -> None:
    with pytest.raises(ClusterError, match=f"workers={workers} builds nothing. Give at least 1."):
        estimate(catalog, workers=workers)
    assert not catalog.exists()


def test_the_command_line_prints_it(run: Callable[..., Done]) -> None:
    done = run("build", "--model", "xyz", "--res", 10, "--dry-run", "--workers", 3)
    assert (done.code, done.err) == (0, "")
    assert "\nworkers  3, each with one processor as fast as one here; 2 of them with nothing to do\n" in done.out


def test_the_scripts_of_the_documentation_ask_for_what_there_is() -> None:
    text = (Path(__file__).parent.parent / "docs" / "clusters.md").read_text()
    scripts = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(scripts) == 3
    calls = [
        node
        for script in scripts
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ef.build_field"
    ]
    assert len(calls) == 3
    assert {word.arg for call in calls for word in call.keywords} <= set(inspect.signature(build_field).parameters)
