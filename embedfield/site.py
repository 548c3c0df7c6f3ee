"""Site: where a field stands in a catalogue, on a disk, and where the files of its build are gathered."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from embedfield.certificate import FILE as CERTIFICATE
from embedfield.errors import OutputExistsError, StorageError
from embedfield.folder import check_idle, held, old_folder, put_in_place, remove, work_folder
from embedfield.formats import open_field
from embedfield.formats.journal import Journal
from embedfield.integrity import storage_errors, sync_file, sync_folder
from embedfield.plan import PLAN, result_folder, sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.bucket_journal import BucketJournal
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
        """Make a whole field of what was gathered, and of what is in `result`; sweep up. It is not entered yet."""

    @abstractmethod
    def open_settled(self) -> StoredField:
        """Open a field that is whole, entered or not."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what is left of builds of a field that stands."""


class DiskSite(Site):
    """A place on a disk, which all processes see."""

    def __init__(self, out: Path, model: str, name: str) -> None:
        """Take the catalogue's folder, and the names of the model and of the field."""
        self.out: Path = out
        self.folder = out / model / name

    @property
    def place(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def unfinished(self) -> str:
        """The folder beside it."""
        return str(self.work)

    def check(self) -> None:
        """Refuse a place below a file."""
        above = standing(self.folder)
        if not above.is_dir():
            raise OutputExistsError(f"{above} is a file, and a folder should go there. Write elsewhere with --out.")

    def check_commits(self) -> None:
        """Refuse nothing."""

    def free(self) -> int:
        """Return what the disk has free."""
        return shutil.disk_usage(standing(self.folder)).free

    def stands(self) -> bool:
        """Return whether there is such a folder, or anything else."""
        with self.errors():
            return self.folder.exists()

    def open(self) -> StoredField:
        """Open the folder."""
        return open_field(self.folder)

    def has_certificate(self) -> bool:
        """Look into the folder."""
        return (self.folder / CERTIFICATE).exists()

    def errors(self) -> AbstractContextManager[None]:
        """Say which folder it was, and how to go on."""
        return storage_errors(self.folder)

    def check_idle(self) -> None:
        """Look for the lock."""
        check_idle(self.folder)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a lock beside the folder."""
        with self.errors(), held(self.folder):
            yield

    def bring_plan(self) -> None:
        """Do nothing: it is on the disk."""

    def keep_plan(self) -> None:
        """Do nothing: it is on the disk."""

    @contextmanager
    def journal(self, pieces: Pieces) -> Iterator[Journal]:
        """Yield the journal on the disk."""
        self._check_there()
        journal = Journal(self.work / "journal")
        pieces.claim(journal, self.result)
        yield journal

    @contextmanager
    def bench(self) -> Iterator[Path]:
        """Lend a folder on the same disk."""
        self._check_there()
        with TemporaryDirectory(dir=self.work, prefix="worker-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copy files."""
        for name in names:
            source, target = self.result / name, folder / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def deliver(self, folder: Path, names: Iterable[str]) -> None:
        """Move files, each once it is on the disk."""
        for name in names:
            target = self.result / name
            sync_file(folder / name)
            # Of a build that was given up, or ended by others, nothing may come back.
            self._check_there()
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).replace(target)
            sync_folder(target.parent)

    def _check_there(self) -> None:
        if not (self.work / PLAN).exists():
            raise StorageError(
                f"{self.work} holds no unfinished build as seen from here. Let all machines see the same disk under "
                "the same path, or build into a bucket."
            )

    def open_written(self, raster: Path) -> StoredField:
        """Open it where it is."""
        return open_field(raster)

    def settle(self) -> None:
        """Give the field its folder."""
        put_in_place(self.folder)

    def open_settled(self) -> StoredField:
        """Open its folder."""
        return open_field(self.folder)

    def sweep(self) -> None:
        """Remove a field that was replaced, and what a build left that got nowhere."""
        remove(old_folder(self.folder))
        if not self.result.exists():
            sweep(self.work)


def standing(folder: Path) -> Path:
    """Return the nearest thing above a folder that is there."""
    return next(path for path in folder.absolute().parents if path.exists())
