"""Cluster: units of work on the workers of Dask.

Dask finds workers, moves tasks and notices who is lost. What is here says how
this house uses it: a worker makes what its units need once and keeps it, works
at one unit at a time, and the scheduler holds a few names and never an array.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embedfield.amounts import first_line
from embedfield.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Client

LOCAL = re.compile(r"local(?::([1-9]\d*))?")
# Seconds in which a scheduler answers.
ANSWER = 15.0


class Shared[S](Protocol):
    """Processes that each keep one thing, by which they do tasks."""

    def ask[*A, R](self, task: Callable[[S, *A], R], *words: *A) -> R:
        """Have one of them do a task, and return its answer; its error is raised here.

        Args:
            task: A function of a module.
            words: Small, and picklable, as the answer is.
        """
        ...

    def each[U, R](
        self, task: Callable[[S, U], R], units: Iterable[U], note: Callable[[str], None] = ...
    ) -> Iterator[tuple[U, R]]:
        """Have a task done for each of many units, and yield units and answers, in any order.

        Args:
            task: A function of a module.
            units: Small, picklable, each with a text that names it; taken one by one.
            note: Told who is slow, again and again; nothing if none is.
        """
        ...


class Alone[S]:
    """This process, as the only one: see `Shared`."""

    def __init__(self, begin: Callable[[], S]) -> None:
        """Make what is kept at the first task."""
        self._begin, self._state = begin, list[S]()

    def ask[*A, R](self, task: Callable[[S, *A], R], *words: *A) -> R:
        """Do a task."""
        return task(self._kept(), *words)

    def each[U, R](
        self, task: Callable[[S, U], R], units: Iterable[U], note: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[U, R]]:
        """Do a task for each unit, in their order."""
        note("")
        for unit in units:
            yield unit, task(self._kept(), unit)

    def _kept(self) -> S:
        if not self._state:
            self._state.append(self._begin())
        return self._state[0]


@contextmanager
def cluster_of(
    where: str | Client, *, gpus: int = 0, report: Callable[[str], None] = lambda _: None
) -> Iterator[Cluster]:
    """Hold a cluster.

    Args:
        where: ``local`` for a worker on each processor or GPU of this machine,
            ``local:N`` for so many; the address of a scheduler
            (``tcp://HOST:PORT``) or the file that it wrote (``….json``); or a
            client of one, which stays open.
        gpus: How many GPUs this machine has.
        report: Told one line of news at a time.

    Raises:
        ClusterError: If there is none, or nobody answers.
    """
    with ExitStack() as held:
        client = _client(where, gpus, held) if isinstance(where, str) else _checked(where)
        cluster = Cluster(client, report)
        cluster.wait()
        yield cluster


def _checked(client: object) -> Client:
    """Return a client that can be used.

    Raises:
        ClusterError: If it cannot, or is none.
    """
    from distributed import Client

    if not isinstance(client, Client):
        raise ClusterError(f"client={client!r} is no distributed.Client. Give one, or the address of a scheduler.")
    if client.asynchronous:
        raise ClusterError("The client is asynchronous. Give one made with asynchronous=False.")
    return client


def check_place(where: str) -> None:
    """Refuse what names no cluster; nothing is started.

    Raises:
        ClusterError: If it is so.
    """
    if not (LOCAL.fullmatch(where) or "://" in where or where.endswith(".json")):
        raise ClusterError(
            f"dask={where!r} is no cluster. Give local, local:N, the address of a scheduler such as tcp://HOST:8786, "
            "or the file that it wrote."
        )
    _address(where)


def _client(where: str, gpus: int, held: ExitStack) -> Client:
    """Return a client of a cluster by its name, both closed with all that is held."""
    from distributed import Client

    check_place(where)
    local = LOCAL.fullmatch(where)
    if local:
        from embedfield.cluster.local import room, started

        wanted = int(local[1]) if local[1] else gpus or room()
        return held.enter_context(Client(held.enter_context(started(wanted, gpus)), set_as_default=False))
    address = _address(where)
    held.enter_context(_silenced())
    try:
        # In a thread of its own: the caller's may have a loop already, as a notebook's has.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, _knock(address)).result()
        return held.enter_context(Client(address, timeout=ANSWER, set_as_default=False))
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {where}: {first_line(error)}. Look at the address, and whether 'dask "
            "scheduler' runs there."
        ) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep Dask from telling at length of a connection that is lost: we say so in a line."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "comm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _address(where: str) -> str:
    """Return the address of a scheduler, which may be written in a file of its own."""
    if not where.endswith(".json"):
        return where
    try:
        return str(json.loads(Path(where).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = "does not exist" if isinstance(error, FileNotFoundError) else "names no scheduler"
        raise ClusterError(f"{where} {fault}. Give the file that 'dask scheduler --scheduler-file' wrote.") from error


async def _knock(address: str) -> None:
    """See whether a scheduler answers: Dask's client waits without end for one who listens and says nothing."""
    from distributed.comm import connect
    from distributed.security import Security

    asked = connect(address, timeout=ANSWER, **Security().get_connection_args("client"))
    (await asyncio.wait_for(asked, ANSWER)).abort()


def lost() -> ClusterError:
    """Return the error that says that a scheduler is lost."""
    return ClusterError(
        "The cluster is lost: its scheduler does not answer any more. Give the same command again; what a build has "
        "finished is kept."
    )


class Cluster:
    """The workers of a scheduler."""

    def __init__(self, client: Client, report: Callable[[str], None]) -> None:
        """Use a client's workers, and tell what goes wrong with them."""
        self.client, self.report = client, report

    @property
    def workers(self) -> int:
        """How many there are now."""
        return len(self.threads())

    def threads(self) -> dict[str, int]:
        """Return how many threads each of them has, by its address.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        with self.asking():
            found: dict[str, int] = self.client.nthreads()
        return found

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn the silence of a scheduler that is asked for something into an error of ours.

        Raises:
            ClusterError: If it is lost.
        """
        self.check_there()
        try:
            yield
        except (OSError, RuntimeError) as error:  # its own, of a connection that is closed, are of both kinds
            raise lost() from error

    def check_there(self) -> None:
        """Refuse to go on without a scheduler.

        Raises:
            ClusterError: If it is lost.
        """
        if self.client.status != "running":
            raise lost()

    def at_work(self) -> bool:
        """Return whether any worker is: those that have too little memory are paused by Dask.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        with self.asking():
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return any(worker.get("status") == "running" for worker in workers)

    def wait(self) -> None:
        """Wait until there is a worker."""
        if not self.workers:
            self.report(f"{self.client.scheduler.address} has no workers yet. Waiting for one.")
            while not self.workers:
                time.sleep(0.2)

    @contextmanager
    def share[S](self, begin: Callable[[], S]) -> Iterator[Shared[S]]:
        """Have each worker keep one thing as long as this lasts, also those that come later.

        Args:
            begin: Makes it, once in a worker's process, when its first task comes; picklable.

        Raises:
            ClusterError: If the workers or the scheduler do not have this software.
        """
        from distributed.protocol.pickle import dumps

        from embedfield.cluster.tasks import Tasks
        from embedfield.cluster.worker import Given

        self._check_software()
        key = f"embedfield-{uuid.uuid4().hex}"
        with suppress(OSError):  # of a worker that is just lost: the scheduler gives it to all others
            self.client.register_plugin(Given(key, dumps(begin)))
        shared: Tasks[S] = Tasks(self, key)
        try:
            yield shared
        finally:
            shared.cancel()
            if self.client.status == "running":
                with suppress(KeyError, OSError):  # of a worker that has just come, or is just lost
                    self.client.unregister_worker_plugin(key)

    def _check_software(self) -> None:
        """Refuse a cluster where embedfield is not installed.

        Raises:
            ClusterError: If it is so.
        """

        def is_there() -> bool:
            # Within, for it is sent as it is written here: what is of a module is looked for there before it is run.
            from importlib.util import find_spec

            return find_spec("embedfield") is not None

        with self.asking():
            found = {"the scheduler": self.client.run_on_scheduler(is_there), **self._run(is_there)}
        without = [place for place, there in found.items() if there is False]
        if without:
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            raise ClusterError(
                f"The cluster cannot work: {without[0]}{more} has no embedfield. Install there what is installed here, "
                "of the same versions."
            )

    def _run(self, function: Callable[[], bool]) -> dict[str, bool]:
        """Return what a function gives in each worker; of one that is just lost something else."""
        found: dict[str, bool] = self.client.run(function, on_error="return")
        return found
