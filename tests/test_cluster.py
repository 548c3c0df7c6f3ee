"""Clusters: real workers on loopback, which are given units, killed, kept waiting and left without a scheduler."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info

import embedfield
from embedfield import cluster as module
from embedfield.cluster import Alone, Cluster, check_place, cluster_of, local, tasks
from embedfield.errors import ClusterError, GridError
from embedfield.processors import processors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers, of one thread each."""
    with cluster_of("local:2") as started:
        yield started.client


@pytest.fixture
def told() -> list[str]:
    """The news of `cluster`."""
    return []


@pytest.fixture
def cluster(client: Client, told: list[str]) -> Iterator[Cluster]:
    """The two workers, both there."""
    client.wait_for_workers(2, timeout=60)
    with cluster_of(client, report=told.append) as found:
        yield found


# What workers make, keep, and do.


class State:
    """What a worker keeps; processes count how many they have."""

    alive: ClassVar[int] = 0

    def __init__(self, log: Path | None = None) -> None:
        """Note in a file which process made it."""
        type(self).alive += 1
        self.tasks = 0
        if log:
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")

    def __del__(self) -> None:
        """Count."""
        type(self).alive -= 1


class Did(NamedTuple):
    """What a worker says of a unit."""

    answer: int
    pid: int
    number: int
    """How many tasks its state had seen."""
    begun: float
    ended: float


def square(state: State, unit: int, seconds: float = 0.01) -> Did:
    begun = time.monotonic()
    state.tasks += 1
    time.sleep(seconds)
    return Did(unit * unit, os.getpid(), state.tasks, begun, time.monotonic())


def slow_square(state: State, unit: int) -> Did:
    return square(state, unit, 0.1)


def at_once(_: State, unit: int) -> int:
    return unit


def refuse(_: State, unit: str = "it") -> None:
    raise GridError(f"{unit} is refused.\nLine two.")


def refuse_three(state: State, unit: int) -> Did:
    if unit == 3:
        raise GridError("three is refused.\nLine two.")
    return square(state, unit)


def refuse_once(mark: Path, unit: int) -> int:
    if unit == 3 and not mark.exists():
        mark.touch()
        raise GridError("not yet")
    return unit


def die(mark: Path, unit: int = 0) -> int:
    """Kill the own process, unless that was done before."""
    if unit == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def always_die(_: Path, unit: int) -> int:
    if unit == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def fall_behind(released: Path, unit: str) -> str:
    """Return once a file is there, if this is the snail."""
    while unit == "snail" and not released.exists():
        time.sleep(0.01)
    return unit


def cores(_: State, *__: object) -> tuple[int, set[int]]:
    return processors(), {pool["num_threads"] for pool in threadpool_info()}


def broken() -> State:
    raise GridError("no state here")


def alive() -> int:
    return State.alive


def given_names(dask_worker: Any) -> list[str]:
    return [name for name in dask_worker.plugins if name.startswith("embedfield")]


def names_kept(dask_scheduler: Any) -> int:
    """Return how many names of tasks a scheduler remembers that are done."""
    from dask.utils import key_split

    spans = dask_scheduler.extensions["spans"].spans.values()
    noted = [len(span._metadata["collections"]) for span in spans if span._metadata is not None]
    return key_split.cache_info().currsize + sum(noted) + len(dask_scheduler.tasks)


# 1. Answers.


def test_a_task_is_done_in_the_process_of_a_worker(cluster: Cluster) -> None:
    with cluster.share(State) as shared:
        did = shared.ask(square, 7)
    assert did.answer == 49
    assert psutil.Process(did.pid).parent() != psutil.Process().parent()
    assert did.pid != os.getpid()


def test_all_workers_share_the_units_and_each_is_done_once(cluster: Cluster) -> None:
    with cluster.share(State) as shared:
        found = list(shared.each(square, range(100)))
        assert sorted((unit, did.answer) for unit, did in found) == [(unit, unit**2) for unit in range(100)]
        assert len({did.pid for _, did in found}) == cluster.workers == 2
        assert list(shared.each(square, [])) == []
        # Of one thing that is kept, all may be asked, time and again.
        assert {unit for unit, _ in shared.each(square, range(5))} == set(range(5))
        assert shared.ask(square, 3).number > 1


def test_this_process_alone_does_the_same_in_order() -> None:
    alone, notes = Alone(State), list[str]()
    assert [(unit, did.answer) for unit, did in alone.each(square, range(5), notes.append)] == [
        (unit, unit**2) for unit in range(5)
    ]
    assert alone.ask(square, 3)[:3] == (9, os.getpid(), 6)
    assert notes == [""]
    with pytest.raises(GridError, match="it is refused"):
        alone.ask(refuse)


def test_units_are_taken_one_by_one_as_workers_need_them(cluster: Cluster) -> None:
    taken = count()
    with cluster.share(State) as shared:
        units = (next(taken) for _ in count())  # without end
        for done, _ in enumerate(shared.each(square, units), 1):
            ahead = next(taken) - done
            taken = count(done + ahead)
            assert ahead <= tasks.LEAST
            if done == 60:
                break
    assert not cluster.client.futures


def test_a_unit_may_be_asked_for_by_whoever_hears_an_answer(cluster: Cluster) -> None:
    with cluster.share(State) as shared:
        for unit, did in shared.each(square, range(20)):
            assert did.answer == unit**2
            assert shared.ask(square, -unit - 100).answer == (unit + 100) ** 2


# 2. What workers keep.


def test_a_worker_makes_what_it_keeps_once_and_lets_go_of_it(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with cluster.share(partial(State, log)) as shared:
        assert not log.exists()
        found = [did for _, did in shared.each(square, range(40))]
        made = log.read_text().split()
        assert set(cluster.client.run(alive).values()) == {1}
    assert sorted(made) == sorted({str(did.pid) for did in found})
    assert len(made) == 2
    assert set(cluster.client.run(alive).values()) == {0}
    assert list(cluster.client.run(given_names).values()) == [[], []]


def test_what_cannot_be_made_is_said_as_it_is(cluster: Cluster) -> None:
    with cluster.share(broken) as shared, pytest.raises(GridError, match="no state here"):
        shared.ask(square, 1)


def test_two_that_share_the_workers_do_not_meet(cluster: Cluster) -> None:
    with cluster.share(State) as first, cluster.share(State) as second:
        pairs = zip(first.each(square, range(20)), second.each(square, range(100, 120)), strict=True)
        for (one, did), (other, done) in pairs:
            assert (did.answer, done.answer) == (one**2, other**2)
    with cluster.share(State) as shared:
        assert shared.ask(square, 2).number == 1


# 3. What goes wrong in a worker.


def test_an_error_of_what_is_asked_comes_as_it_is_and_says_where(cluster: Cluster) -> None:
    with cluster.share(State) as shared:
        with pytest.raises(GridError, match="it is refused") as refusal:
            shared.ask(refuse)
        assert refusal.value.__notes__[0].removeprefix("on worker ") in cluster.client.nthreads()
        assert shared.ask(square, 2).answer == 4


def test_a_unit_that_fails_once_is_tried_again(cluster: Cluster, told: list[str], tmp_path: Path) -> None:
    with cluster.share(partial(Path, tmp_path / "mark")) as shared:
        assert dict(shared.each(refuse_once, range(10))) == {unit: unit for unit in range(10)}
    (line,) = told
    assert line.startswith("3 failed on worker tcp://127.0.0.1:")
    assert line.endswith(": GridError: not yet. It is tried again (2 of 3).")


def test_a_unit_that_fails_three_times_ends_it_and_all_else_is_done(cluster: Cluster, told: list[str]) -> None:
    done = list[int]()
    with (
        cluster.share(State) as shared,
        pytest.raises(ClusterError, match=r"^3 failed on worker tcp://.*: GridError: three is refused\.") as refusal,
    ):
        done.extend(unit for unit, _ in shared.each(refuse_three, range(8)))
    assert "It failed 3 times. Mend that, and give the same command again" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert isinstance(refusal.value.__cause__, GridError)
    assert ["tried again (2 of 3)." in line for line in told] == [True, False]
    assert set(range(8)) - {3} >= set(done)


def test_a_worker_that_is_killed_at_a_unit_costs_that_unit_only(
    cluster: Cluster, told: list[str], tmp_path: Path
) -> None:
    with cluster.share(partial(Path, tmp_path / "mark")) as shared:
        assert dict(shared.each(die, range(20))) == {unit: unit for unit in range(20)}
    (line,) = [line for line in told if line.startswith("0 ")]
    assert line.startswith("0 failed on worker tcp://127.0.0.1:")
    assert line.endswith(": the worker was lost. It is tried again (2 of 3).")
    assert [line for line in told if "the worker was lost" not in line] == []


def test_what_is_asked_of_a_worker_that_is_killed_is_asked_again(
    cluster: Cluster, told: list[str], tmp_path: Path
) -> None:
    with cluster.share(partial(Path, tmp_path / "mark")) as shared:
        assert shared.ask(die) == 0
    (line,) = told
    assert line.startswith("die failed on worker tcp://127.0.0.1:")


def test_a_unit_that_kills_three_workers_ends_it(cluster: Cluster, told: list[str]) -> None:
    with (
        cluster.share(partial(Path, "x")) as shared,
        pytest.raises(ClusterError, match=r"^0 failed on worker tcp://.*: the worker was lost\. It failed 3 times"),
    ):
        list(shared.each(always_die, [0]))
    assert [line.startswith("0 failed on worker tcp://") for line in told] == [True, True]


def test_workers_that_are_killed_between_units_and_those_that_come_make_what_they_need(
    cluster: Cluster, tmp_path: Path
) -> None:
    log, found = tmp_path / "log", list[Did]()
    with cluster.share(partial(State, log)) as shared:
        for _, did in shared.each(slow_square, range(60)):
            found.append(did)
            if len(found) == 10:
                os.kill(did.pid, signal.SIGKILL)
    assert sorted(did.answer for did in found) == [unit**2 for unit in range(60)]
    made = log.read_text().split()
    assert len(made) == len(set(made)) >= len({did.pid for did in found})


def test_who_is_slow_is_told_until_it_is_done(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LOOK", 0.05)
    monkeypatch.setattr(tasks, "SLOW", 0.3)
    released, notes = tmp_path / "released", list[str]()

    def note(slow: str) -> None:
        notes.append(slow)
        if slow:
            released.touch()

    with cluster.share(partial(Path, released)) as shared:
        found = [unit for unit, _ in shared.each(fall_behind, ["snail", *"abcdefgh"], note)]
    assert sorted(found) == [*"abcdefgh", "snail"]
    assert notes[0] == ""
    slow = next(filter(None, notes))
    assert slow.startswith("slow: snail on tcp://127.0.0.1:")
    assert slow.endswith(" for under 1 s")


# 4. Processors.


def test_a_worker_has_a_processor_for_each_of_its_threads(cluster: Cluster) -> None:
    with cluster.share(State) as shared:
        assert shared.ask(cores) == (1, {1})


def test_a_process_of_several_threads_does_one_task_at_a_time() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, host="127.0.0.1", dashboard_address="127.0.0.1:0") as found,
        Client(found) as own,
        cluster_of(own) as cluster,
        cluster.share(State) as shared,
    ):
        answers = sorted((did for _, did in shared.each(square, range(20))), key=lambda did: did.begun)
        assert shared.ask(cores)[0] == 4
    assert {did.pid for did in answers} == {answers[0].pid}
    assert all(one.ended <= other.begun for one, other in pairwise(answers))
    assert [did.number for did in answers] == list(range(1, 21))


def test_each_worker_of_a_machine_with_gpus_sees_its_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = [local._options(number, 3)["env"] for number in range(4)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["0,1,2", "1,2,0", "2,0,1", "0,1,2"]
    assert {env["EMBEDFIELD_PROCESSORS"] for env in seen} == {"5"}
    assert local._options(0, 0)["env"] == {}


def test_workers_see_no_gpus_but_those_that_this_process_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8932f937")
    monkeypatch.setenv("EMBEDFIELD_PROCESSORS", "3")
    seen = [local._options(number, 2)["env"] for number in range(2)]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in seen] == ["4,GPU-8932f937", "GPU-8932f937,4"]
    assert {env["EMBEDFIELD_PROCESSORS"] for env in seen} == {"3"}


# 5. Which cluster.


def test_a_client_of_yours_stays_open_and_works_on(cluster: Cluster, client: Client) -> None:
    with cluster_of(client) as again, again.share(State) as shared:
        running = client.submit(pow, 3, 4)
        assert shared.ask(square, 3).answer == 9
    assert client.status == "running"
    assert running.result() == 81
    assert client.submit(pow, 2, 5).result() == 32


def test_a_file_of_a_scheduler_leads_there(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": client.scheduler.address}))
    for where in (str(file), client.scheduler.address):
        with cluster_of(where) as found, found.share(State) as shared:
            assert found.workers == 2
            assert shared.ask(square, 3).answer == 9
        assert found.client.status == "closed"
    assert client.status == "running"


@pytest.mark.parametrize("where", ["nowhere", "", "local:0", "local:-1", "local:two", "Local", "localhost:8786"])
def test_what_names_no_cluster_is_refused(where: str) -> None:
    with pytest.raises(ClusterError, match=r"is no cluster\. Give local, local:N, the address"):
        check_place(where)
    with pytest.raises(ClusterError, match="is no cluster"), cluster_of(where):
        """Never reached."""


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"address": "tcp://127.0.0.1:9"}'])
def test_a_file_that_leads_nowhere_is_refused(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.5)
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClusterError, match=r"scheduler\.json|127\.0\.0\.1:9") as refusal, cluster_of(str(file)):
        """Never reached."""
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "where", ["tcp://127.0.0.1:9", "tcp://127.0.0.1:port", "gopher://127.0.0.1:9", "tls://127.0.0.1:9"]
)
def test_an_address_at_which_nobody_answers_is_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.5)
    said = f"No Dask scheduler answers at {where}: .+dask scheduler"
    with pytest.raises(ClusterError, match=said) as refusal, cluster_of(where):
        """Never reached."""
    assert "\n" not in str(refusal.value)


def test_one_who_listens_and_says_nothing_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"No Dask scheduler answers at {where}"), cluster_of(where):
            """Never reached."""


def test_an_asynchronous_client_is_refused(client: Client) -> None:
    async def ask() -> None:
        async with Client(client.scheduler.address, asynchronous=True) as other:
            with pytest.raises(ClusterError, match="asynchronous=False"), cluster_of(other):
                """Never reached."""

    asyncio.run(ask())


# 6. A scheduler of another process.

# Of all that is installed nothing but this project: it is known by another file there.
ELSEWHERE = str(Path(dask.__file__).parent.parent)
HERE = os.pathsep.join([str(Path(embedfield.__file__).parent.parent), *sys.path])


@contextmanager
def running(*words: str, path: str = HERE, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of Dask's, which imports from a path, and end it."""
    command = [sys._base_executable, "-m", "dask", *words]  # type: ignore[attr-defined]  # outside of the environment
    with subprocess.Popen(
        [*command, "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(folder / "scheduler.json")],
        env={**os.environ, "PYTHONPATH": path}, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def scheduler(folder: Path, path: str = HERE) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a scheduler without workers, and yield its file."""
    with running("scheduler", "--port", "0", path=path, folder=folder) as process:
        file = folder / "scheduler.json"
        while not file.exists() or not file.read_text().endswith("}"):
            time.sleep(0.02)
        yield str(file), process


WORKER = "worker", "--nthreads", "1", "--no-nanny"


@pytest.mark.parametrize("lacking", ["scheduler", "worker"])
def test_machines_without_this_software_are_refused(lacking: str, tmp_path: Path) -> None:
    paths = {"scheduler": HERE, "worker": HERE, lacking: ELSEWHERE}
    has_none = "the scheduler" if lacking == "scheduler" else r"tcp://127\.0\.0\.1:\d+"
    with (
        scheduler(tmp_path, paths["scheduler"]) as (file, _),
        running(*WORKER, path=paths["worker"], folder=tmp_path),
        cluster_of(file) as cluster,
        pytest.raises(ClusterError, match=rf"cannot work: {has_none} has no embedfield\. Install there") as refusal,
        cluster.share(State) as shared,
    ):
        shared.ask(square, 3)
    assert "\n" not in str(refusal.value)


def test_a_cluster_waits_for_its_first_worker_and_says_when_its_scheduler_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "LOOK", 0.2)
    told = list[str]()
    with scheduler(tmp_path) as (file, process), ExitStack() as stack:

        def come(line: str) -> None:
            told.append(line)
            stack.enter_context(running(*WORKER, folder=tmp_path))

        cluster = stack.enter_context(cluster_of(file, report=come))
        assert told == [f"{cluster.client.scheduler.address} has no workers yet. Waiting for one."]
        with cluster.share(State) as shared:
            assert shared.ask(square, 3).answer == 9
            found = shared.each(slow_square, range(1000))
            next(found)
            process.kill()
            with pytest.raises(ClusterError, match="The cluster is lost: its scheduler does not answer any more"):
                list(found)


# 7. What a scheduler remembers.


def test_a_scheduler_forgets_the_names_of_what_is_done(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TIDY", 50)
    sizes, before = list[int](), set(cluster.client.futures)
    with cluster.share(State) as shared:
        for unit, _ in shared.each(at_once, range(501)):
            if unit % 100 == 0:
                sizes.append(cluster.client.run_on_scheduler(names_kept))
    assert max(sizes[1:]) < 200, sizes
    assert set(cluster.client.futures) <= before
