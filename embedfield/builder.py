"""Builder: one of the processes among which a build is divided."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from embedfield.closing import close, put_back
from embedfield.errors import ClusterError, OutputExistsError
from embedfield.formats.journal import Notes, Work
from embedfield.integrity import sha256_of
from embedfield.order import Order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedfield.formats.journal import Entry
    from embedfield.formats.pieces import Piece, Pieces
    from embedfield.plan import Plan
    from embedfield.site import Site


class Survey(NamedTuple):
    """What is known of a build before it begins."""

    site: Site
    """Where the field goes."""
    pieces: Pieces
    """In which it is written."""
    device: str
    """Kind of device that computes, such as ``cpu``."""
    news: list[str]
    """What was told while the model was loaded."""


class Written(NamedTuple):
    """What writing a piece took."""

    entries: list[Entry]
    """For the journal: a line for each of its units."""
    seconds: dict[str, float]
    """Seconds by what was done, as `Clock` counts them."""


class Builder:
    """A process that computes and writes pieces of a field, and all that is not divided.

    Whoever leads the build keeps the journal; see `spread`.
    """

    def __init__(self, order: Order, news: list[str]) -> None:
        """Take an order, and what was told while it was made out."""
        self.order, self.news = order, news
        self.site = order.site
        self._held = ExitStack()

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Self:
        """Load the model; arguments and errors are those of `build_field`."""
        news = list[str]()
        return cls(Order.of(**asked, report=news.append), news)

    def survey(self) -> Survey:
        """Return what is asked for."""
        order = self.order
        return Survey(self.site, order.pieces, order.device, self.news)

    def begin(self) -> str:
        """Begin a build, or go on with one; return ``there``, ``resumed`` or ``begun``.

        Raises:
            OutputExistsError: If something else stands there, or was begun there.
        """
        if self.order.fulfilled():
            return "there"
        plan = self.order.begun() or self.order.begin()
        put_back(plan, self.order.raster)
        return "resumed" if plan.resumed else "begun"

    @cached_property
    def plan(self) -> Plan:
        """The plan of the build, as it was begun here or elsewhere.

        Raises:
            ClusterError: If it cannot be gone on with here.
        """
        try:
            plan = self.order.begun()
        except OutputExistsError as error:
            raise ClusterError(
                f"This worker is not like the one that began the build: {error} Let all workers have the same software "
                "and devices."
            ) from error
        if plan is None:
            raise ClusterError(
                f"The build of {self.site} that was begun is not to be seen here. Let all workers see the same disk "
                "under the same path, or build into a bucket."
            )
        return plan

    @cached_property
    def _bench(self) -> Path:
        """A folder of this process, with all that the raster has but its pieces."""
        folder = self._held.enter_context(self.site.bench())
        work, _ = self._work(folder)
        self.order.pieces.prepare(work, folder)
        return folder

    def _work(self, folder: Path) -> tuple[Work, Notes]:
        """Return what is written in a folder, and where it is noted that it is."""
        (folder / "notes").mkdir(exist_ok=True)
        notes = Notes(folder / "notes")
        return Work(self.plan.field, self.plan.packing, notes, lambda _: None), notes

    def write(self, piece: Piece) -> Written:
        """Compute and write a piece, and deliver its files.

        Raises:
            StorageError: If a disk is full, or the build is no more.
        """
        with self.site.errors():
            return self._written(piece)

    def _written(self, piece: Piece) -> Written:
        bench, pieces = self._bench, self.order.pieces
        (work, notes), needed = self._work(bench), pieces.needed(piece)
        try:
            self.site.fetch(needed, bench)
            pieces.write(work, bench, piece)
        finally:
            for name in needed:
                (bench / name).unlink(missing_ok=True)
        entries = entries_of(notes, bench)
        self.site.deliver(bench, [name for entry in entries for name in entry["sha256"]])
        return Written(entries, work.clock.seconds)

    def close(self, saturated: int, verify: bool) -> list[str]:
        """Make a whole field of the pieces, in its place; return what its certificate says.

        Args:
            saturated: How many values of the field saturated.
            verify: Hold it against its encoder.

        Raises:
            StorageError: If a piece is gone.
        """
        if self.order.begun() is None and self.site.stands():
            return []  # a worker that was lost at this had all of it done
        pieces, result = self.order.pieces, self.plan.result
        known = self.site.digests(pieces)
        # A worker that was lost at this may have got as far as to commit.
        put_back(self.plan, self.order.raster)
        work, _ = self._work(self._bench)
        pieces.prepare(work, result)
        raster = pieces.finish(work, result, saturated)
        return close(self.order, self.plan, raster, lambda _: None, verify=verify, known=known)


def entries_of(notes: Notes, folder: Path) -> list[Entry]:
    """Return what was done in a folder as the journal has it, with digests of the files.

    Args:
        notes: Of what was done.
        folder: Where files have the names that they have in the field's folder.
    """
    found: list[Entry] = []
    for entry in notes.entries:
        digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in notes.files[entry["unit"]]}
        found.append({**entry, "sha256": digests})
    return found
