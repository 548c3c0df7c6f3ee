"""Site: where a field stands in a catalogue, and where the files of its build are gathered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedfield.folder import work_folder
from embedfield.plan import result_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.bucket_journal import BucketJournal
    from embedfield.formats.journal import Journal
    from embedfield.formats.pieces import Pieces
    from embedfield.formats.stored import StoredField


class Site(ABC):
    """Where a field stands, or will: ``<catalogue>/<model>/<id>``. Picklable; several processes may work at one.

    A build of several processes gathers whole files here, each under its name
    in the field's folder.
    """

    out: Path | Bucket
    """The catalogue's folder."""
    folder: Path
    """The field's own, or one of this disk where that of a bucket is made ready."""

    def __str__(self) -> str:
        """Return where the field stands, as text."""
        return str(self.place)

    @property
    @abstractmethod
    def place(self) -> Path | str:
        """Where the field stands; a text where it is an address."""

    @property
    @abstractmethod
    def unfinished(self) -> str:
        """Where a build is kept that was begun."""

    @abstractmethod
    def under(self, out: str | Path) -> Site:
        """Return the same place, by a catalogue's folder as it was named.

        Args:
            out: A path, relative or not; or an address.
        """

    @property
    def work(self) -> Path:
        """Where this process keeps an unfinished build."""
        return work_folder(self.folder)

    @property
    def result(self) -> Path:
        """What becomes the field's folder."""
        return result_folder(self.work)

    @abstractmethod
    def check(self) -> None:
        """Refuse a place where no field can go.

        Raises:
            OutputExistsError: If something else is in the way.
            StorageError: If it cannot be written to.
        """

    @abstractmethod
    def check_commits(self) -> None:
        """Refuse a place where no repository of Icechunk's can be written.

        Raises:
            FormatError: If it is so.
        """

    @abstractmethod
    def free(self) -> int | None:
        """Return how many bytes there is room for; None where there is no limit."""

    @abstractmethod
    def stands(self) -> bool:
        """Return whether something stands there already."""

    @abstractmethod
    def open(self) -> StoredField:
        """Open the field that stands there.

        Raises:
            FormatError: If it is none.
        """

    @abstractmethod
    def has_certificate(self) -> bool:
        """Return whether the field that stands there has a certificate."""

    @abstractmethod
    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of the disk into ours."""

    @abstractmethod
    def check_idle(self) -> None:
        """Refuse a place where another process is at work, where that can be told; nothing is made there.

        Raises:
            BusyError: If one is.
        """

    @abstractmethod
    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep others out while a field is built, where that can be done.

        Raises:
            BusyError: If another process is building it.
            StorageError: If it cannot be written to.
        """

    @abstractmethod
    def bring_plan(self) -> None:
        """Have the plan of an unfinished build in this process's folder, if there is one."""

    @abstractmethod
    def keep_plan(self) -> None:
        """Let other processes see a plan that was just made, and nothing of what was there before."""

    @abstractmethod
    @contextmanager
    def journal(self, pieces: Pieces) -> Iterator[Journal | BucketJournal]:
        """Yield the journal of the unfinished build."""

    @abstractmethod
    def digests(self, pieces: Pieces) -> dict[str, str]:
        """Return the digests that are known of the files of pieces, all delivered, by their names.

        Raises:
            StorageError: If one is gone.
        """

    @abstractmethod
    @contextmanager
    def bench(self) -> Iterator[Path]:
        """Lend a folder to this process alone, from which files can be delivered."""

    @abstractmethod
    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copy files into a folder under their names; those that are not there are left out."""

    @abstractmethod
    def deliver(self, folder: Path, names: Iterable[str]) -> None:
        """Move whole files from a folder, where they have these names, to their places.

        Raises:
            StorageError: If the build is no more, or cannot be seen from here.
        """

    @abstractmethod
    def open_written(self, raster: Path) -> StoredField:
        """Open a raster all of whose pieces were delivered.

        Args:
            raster: In `result`, with all that is no piece.
        """

    @abstractmethod
    def settle(self) -> None:
        """Make a whole field of what was gathered, and of what is in `result`. It is not entered yet."""

    @abstractmethod
    def open_settled(self) -> StoredField:
        """Open a field that is whole, entered or not."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what is left of builds of a field that stands."""
