"""Spread: a build whose pieces are written by several processes, as the one that leads it sees it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedfield.builder import Builder
from embedfield.region import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.builder import Survey, Written
    from embedfield.cluster import Shared
    from embedfield.formats.bucket_journal import BucketJournal
    from embedfield.formats.journal import Journal
    from embedfield.formats.pieces import Piece, Pieces


def portable(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked of a build so that another process understands it: whole paths, and a region as it is.

    Args:
        asked: Arguments of `build_field`, by name.

    Raises:
        PlacesError: If the region cannot be read.
    """
    region, layer = asked.get("region"), asked.get("layer")
    read = Region.read(region, layer) if isinstance(region, str | Path) else region
    paths = {
        name: str(Path(asked[name]).expanduser().absolute())
        for name in ("weights", "database", "out")
        if asked.get(name) is not None and "://" not in str(asked[name])
    }
    return {**asked, **paths, "region": read, "layer": None}


class Spread(NamedTuple):
    """A build under way."""

    shared: Shared[Builder]
    """Those who write."""
    survey: Survey
    """What is built."""
    workers: Callable[[], int]
    """How many of them there are; 0 where it is this process alone."""

    def write(self, count: Callable[[int, int], None], note: Callable[[str], None]) -> _Tally:
        """Have all pieces written that are missing, and enter them into the journal; return what that took.

        Args:
            count: Told (pixels done, pixels in all).
            note: Told what else is known: units done, and which are slow.

        Raises:
            ClusterError: If a unit fails several times, or the cluster is lost.
            StorageError: If the unfinished build is not to be seen from here.
        """
        site, pieces = self.survey.site, self.survey.pieces
        with site.journal(pieces) as journal:
            tally = _Tally(pieces, journal, site.result)
            for stage in pieces.stages():
                self._write_stage(stage, tally, count, note)
        return tally

    def _write_stage(
        self,
        stage: Iterator[Piece],
        tally: _Tally,
        count: Callable[[int, int], None],
        note: Callable[[str], None],
    ) -> None:
        """Have the missing pieces of a stage written."""
        pieces = self.survey.pieces
        workers, slow, made = self.workers(), "", 0
        missing = [piece for piece in stage if not tally.has(piece)]
        # Of coarser levels no pixel is left to count.
        coarser = bool(missing and missing[0].level)

        def tell() -> None:
            count(tally.pixels, pieces.grid.width * pieces.grid.height)
            done = f"{made:,} of {len(missing):,} coarser" if coarser else f"{tally.done:,} of {pieces.units.count:,}"
            who = f" on {workers:,} worker{'s' * (workers != 1)}" if workers else ""
            note(", ".join(filter(None, [f"{done} units{who}", slow])))

        def look(found: str) -> None:
            nonlocal workers, slow
            workers, slow = self.workers(), found
            tell()

        tell()
        for piece, written in self.shared.each(Builder.write, missing, look):
            tally.add(piece, written)
            made += 1
            tell()


class _Tally:
    """What is done of a build."""

    def __init__(self, pieces: Pieces, journal: Journal | BucketJournal, folder: Path) -> None:
        self.pieces, self.journal, self.folder = pieces, journal, folder
        self.pixels = self.done = 0
        self.seconds = Counter[str]()
        self._saturated = Counter[str]()

    @property
    def saturated(self) -> int:
        """How many values of the field saturated."""
        return self._saturated.total()

    def has(self, piece: Piece) -> bool:
        """Return whether a piece is whole, and take note of it if it is."""
        found = {
            unit: self.journal.done(unit, *(self.folder / name for name in files))
            for unit, files in self.pieces.files(piece).items()
        }
        whole = [entry for entry in found.values() if entry]
        if len(whole) < len(found):
            return False
        self._take(piece, {entry["unit"]: entry["saturated"] for entry in whole})
        return True

    def add(self, piece: Piece, written: Written) -> None:
        """Enter a piece."""
        self.journal.enter(*written.entries)
        self.seconds.update(written.seconds)
        self._take(piece, {entry["unit"]: entry["saturated"] for entry in written.entries})

    def _take(self, piece: Piece, saturated: dict[str, int]) -> None:
        windows = self.pieces.windows(piece)
        self.pixels += sum(window.width * window.height for window in windows)
        self.done += len(windows)
        self._saturated.update(saturated)
