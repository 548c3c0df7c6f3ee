"""DiskSite: where a field stands in a catalogue on a disk, which all processes of a build see."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from embedfield.certificate import FILE as CERTIFICATE
from embedfield.errors import OutputExistsError, StorageError
from embedfield.folder import check_idle, held, old_folder, put_in_place, remove
from embedfield.formats import open_field
from embedfield.formats.journal import Journal
from embedfield.integrity import storage_errors, sync_file, sync_folder
from embedfield.plan import PLAN, sweep
from embedfield.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from embedfield.formats.pieces import Pieces
    from embedfield.formats.stored import StoredField


class DiskSite(Site):
    """A folder in a catalogue's folder."""

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

    def under(self, out: str | Path) -> DiskSite:
        """Return it with another path to the same folder."""
        return DiskSite(Path(out).expanduser(), self.folder.parent.name, self.folder.name)

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

    def digests(self, pieces: Pieces) -> dict[str, str]:  # noqa: ARG002  a lock keeps all of them there
        """Look into the journal."""
        self._check_there()
        return Journal(self.work / "journal").digests

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
