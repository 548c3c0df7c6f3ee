"""Outlook: what a build would take on a cluster, by what a small part of it took here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from embedfield.amounts import bytes_text, time_text
from embedfield.errors import ClusterError
from embedfield.formats.geozarr import CHUNK
from embedfield.formats.vrt import BLOCKSIZE
from embedfield.processors import limited

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedfield.order import Order

# Seconds until a worker does its first task, its model aside: Python and torch from a disk that many share, Dask.
STARTING = 10.0
# Seconds of a request to storage that is not this machine's.
REQUEST = 0.02
# Bytes that Dask and its connections take of a worker, or of the process that leads.
DASK = 100 * 2**20
# Bytes of what is known of a file and its task, in memory, and of what is said of a task, there and back.
ENTRY, TOLD = 1000, 2500
# Seconds that a task costs the process that leads, and Dask's scheduler: handed out, answered, entered.
LED = 0.005
# Seconds in which a file is found in a listing, at the end.
LISTED = 0.0005


class Measured(NamedTuple):
    """What a small part of a build told of the whole, made by one process with what a worker has."""

    seconds: Mapping[str, float]
    """What the whole would take it: computing, packing, writing, checking."""
    stored: float
    """Bytes of the raster on the disk, coarser levels among them."""
    memory: int
    """Bytes that the process took before it began to write."""
    loading: float
    """Seconds that loading the model took."""
    asked: int
    """At how many places a certificate would ask the raster."""


@dataclass(frozen=True)
class Outlook:
    """What a build would take by so many workers, each as fast as this process was with what a worker has."""

    workers: int
    """How many."""
    kind: str
    """What each of them has, in words."""
    pieces: int
    """Tasks that are shared out, which do not wait for each other."""
    joined: int
    """Tasks that make coarser levels of finished ones; 0 where each piece has its own."""
    shape: tuple[int, int]
    """Height and width of a whole piece, pixels."""
    making: float
    """Seconds in which one worker would compute, pack and write all pieces."""
    joining: float
    """Seconds in which one worker would make the coarser levels of finished pieces."""
    alone: Mapping[str, float]
    """Seconds of what is not shared out, by what it is."""
    worker_memory: int
    """Bytes of memory that a worker takes at most."""
    leader_memory: int
    """Bytes of memory that the process that leads the build takes at most."""
    written: float
    """Bytes that the workers write into storage."""
    read: Mapping[str, float]
    """Bytes that are read back from there, by what for."""
    told: int
    """Bytes that pass through the scheduler."""

    @classmethod
    def of(cls, order: Order, workers: int, measured: Measured) -> Self:
        """Return what an order takes so many workers, each as fast as this process was with what one of them has.

        Args:
            order: What is to be built.
            workers: How many.
            measured: What a small part told of it.
        """
        computing, packing, writing, checking = measured.seconds.values()
        on_cpu, pieces = order.device == "cpu", order.pieces
        division = pieces.division
        looked = _looked(order, measured)
        piece = replace(pieces, grid=replace(pieces.grid, width=division.width, height=division.height))
        return cls(
            workers=workers,
            kind=_kind(order.device),
            pieces=division.pieces,
            joined=division.joined,
            shape=(division.height, division.width),
            # On a CPU all that a worker does uses the same processor.
            making=computing + packing + writing if on_cpu else max(computing, packing + writing),
            joining=(packing + writing) * division.joined / division.files,
            alone={
                "starting": STARTING + measured.loading,
                "ranges, pictures and certificate": checking + REQUEST * looked.requests,
                "listing files": LISTED * division.files,
            },
            worker_memory=DASK + measured.memory + piece.peak_memory,
            leader_memory=DASK + measured.memory + ENTRY * division.files,
            written=measured.stored,
            read={
                "coarser levels": measured.stored * division.again,
                "the certificate": looked.bytes,
            },
            told=TOLD * (division.pieces + division.joined),
        )

    @property
    def shared(self) -> float:
        """Seconds in which all workers together make all pieces."""
        pieces, joined = (-(-count // self.workers) for count in (self.pieces, self.joined))
        spread = pieces * self.making / self.pieces + (joined * self.joining / self.joined if joined else 0.0)
        return max(spread, self.led)

    @property
    def led(self) -> float:
        """Seconds that the process that leads is busy with handing out tasks: less they cannot take together."""
        return LED * (self.pieces + self.joined)

    @property
    def rest(self) -> float:
        """Seconds of what is not shared out."""
        return sum(self.alone.values())

    @property
    def rate(self) -> float:
        """Bytes a second that a worker writes while it works."""
        return self.written / (self.making + self.joining)

    @property
    def busy(self) -> int:
        """How many workers have something to do at a time, at most."""
        return min(self.workers, self.pieces)

    def describe(self) -> dict[str, str]:
        """Return it in lines of text, by what they are about."""
        return {
            "workers": f"{self.workers:,}, each with {self.kind}{self._idle()}",
            "units": self._units(),
            "memory": f"a worker at most about {bytes_text(self.worker_memory)}; the process that leads "
            f"{bytes_text(self.leader_memory)}",
            "network": f"{self._traffic()}; {bytes_text(self.told)} pass through the scheduler",
            "time": f"about {time_text(self.shared + self.rest)}: tasks {time_text(self.shared)}{self._bound()}, "
            + ", ".join(f"{name} {time_text(spent)}" for name, spent in self.alone.items()),
        }

    def _bound(self) -> str:
        return " (as fast as they are handed out: more workers would gain nothing)" if self.shared == self.led else ""

    def _idle(self) -> str:
        idle = self.workers - self.busy
        return f"; {idle:,} of them with nothing to do" if idle else ""

    def _units(self) -> str:
        high, wide = self.shape
        task = f"{wide:,} x {high:,} pixels, {time_text(self.making / self.pieces)} of a worker"
        if self.pieces == 1:
            return f"one task of {task}"
        joined = f"; then {self.joined:,} of coarser levels" if self.joined else ""
        return f"{self.pieces:,} tasks of {task} each{joined}"

    def _traffic(self) -> str:
        """Return in words what goes between workers, the process that leads, and storage."""
        rates = (f"{bytes_text(rate)}/s" for rate in (self.rate, self.busy * self.rate))
        back = ", ".join(f"{bytes_text(size)} for {name}" for name, size in self.read.items() if size)
        told = f"{bytes_text(self.written)} to storage, {' a worker, '.join(rates)} together"
        return f"{told}; back {back}" if back else told


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers that build nothing.

    Raises:
        ClusterError: If it is less than one.
    """
    if workers is not None and workers < 1:
        raise ClusterError(f"workers={workers} builds nothing. Give at least 1.")


@contextmanager
def like_a_worker() -> Iterator[None]:
    """Let this process keep one processor busy for a while, as a worker of one thread does."""
    from threadpoolctl import threadpool_limits

    with limited(1), threadpool_limits(1):
        yield


class _Looked(NamedTuple):
    """What a certificate reads of a raster."""

    requests: int
    bytes: float


def _looked(order: Order, measured: Measured) -> _Looked:
    """Return what a certificate reads: at each place the block that it lies in."""
    side = BLOCKSIZE if order.format == "cog" else CHUNK
    pixels = order.field.grid.width * order.field.grid.height
    blocks = min(measured.asked, -(-pixels // side**2))
    return _Looked(blocks, min(measured.stored, blocks * side**2 * measured.stored / pixels))


def _kind(device: str) -> str:
    """Return in words what each worker has."""
    if device == "cpu":
        return "one processor as fast as one here"
    return f"one GPU ({device}) and one processor as here"
