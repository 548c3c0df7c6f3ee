"""BucketSite: where a field stands in a catalogue in object storage.

Objects appear whole, and cannot be renamed. So the files of an unfinished
build lie at their last places, and what makes a field of them comes last: of a
Zarr the metadata of its root, of tiles the VRT over them, then the item.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from embedfield.certificate import FILE as CERTIFICATE
from embedfield.errors import BusyError, FormatError, StorageError
from embedfield.formats import ITEM, OPENERS, PICTURE, open_field
from embedfield.formats.bucket_journal import BucketJournal
from embedfield.formats.stored import REDUCTION
from embedfield.plan import PLAN
from embedfield.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from embedfield.formats.bucket import Bucket
    from embedfield.formats.pieces import Pieces
    from embedfield.formats.stored import StoredField

# Of a Zarr: no reader opens one without.
ROOT = "zarr.json"


class BucketSite(Site):
    """A place in a bucket. Each process has a folder of its own where it makes ready what goes there."""

    def __init__(self, out: Bucket, model: str, name: str) -> None:
        """Take the catalogue's folder in a bucket, and the names of the model and of the field."""
        self.out: Bucket = out
        self._names = model, name
        self._field, self._build = out.inside(f"{model}/{name}"), out.inside(f"{model}/.{name}.build")

    def __reduce__(self) -> tuple[type[BucketSite], tuple[Bucket, str, str]]:
        """Pickle without the folder."""
        return type(self), (self.out, *self._names)

    @property
    def place(self) -> str:
        """The field's address."""
        return str(self._field)

    @property
    def unfinished(self) -> str:
        """An address beside it."""
        return str(self._build)

    @cached_property
    def folder(self) -> Path:  # type: ignore[override]  # made when it is asked for
        """A folder of this process, which is removed at its end."""
        root = tempfile.mkdtemp(prefix="embedfield-")
        weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        folder = Path(root).joinpath(*self._names)
        folder.parent.mkdir()
        return folder

    def under(self, out: str | Path) -> BucketSite:  # noqa: ARG002  there is one address alone
        """Return it."""
        return self

    def check(self) -> None:
        """Refuse a bucket that is not there, or may not be listed."""
        self._build.sizes()

    def check_commits(self) -> None:
        """Refuse it: a commit is made of a whole Zarr, which would be in the bucket already."""
        raise FormatError(
            f"zarr_store='icechunk' is written on a disk, and {self.out} is a bucket. Build with --out FOLDER, or "
            "leave --zarr-store out."
        )

    def free(self) -> None:
        """Return that there is no limit."""
        return

    def stands(self) -> bool:
        """Return whether there is an item, which comes last."""
        return self._field.exists(f"{self._names[1]}{ITEM}")

    def open(self) -> StoredField:
        """Open it by its address."""
        return open_field(str(self._field))

    def has_certificate(self) -> bool:
        """Ask for it."""
        return self._field.exists(CERTIFICATE)

    def errors(self) -> AbstractContextManager[None]:
        """Leave them as they are: those of the bucket are ours."""
        return nullcontext()

    def check_idle(self) -> None:
        """Refuse nothing: there is no lock."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep nobody out: two processes that build the same field put the same objects there."""
        yield

    def bring_plan(self) -> None:
        """Fetch it."""
        self.result.mkdir(parents=True, exist_ok=True)
        self._field.get(REDUCTION, self.result / REDUCTION)
        if not self._build.get(PLAN, self.work / PLAN):
            (self.work / PLAN).unlink(missing_ok=True)

    def keep_plan(self) -> None:
        """Put it there, once all is gone that was there before; what readers open goes first."""
        self._build.delete([PLAN])
        self._field.delete([f"{self._names[1]}{ITEM}"])
        self._field.clear("")
        self._build.clear("")
        if (self.result / REDUCTION).exists():
            self._field.put(REDUCTION, self.result / REDUCTION)
        if self._build.replace(PLAN, (self.work / PLAN).read_bytes(), None) is None:
            raise BusyError(f"Another process began to build {self} just now. Give the same command again to share it.")

    @contextmanager
    def journal(self, pieces: Pieces) -> Iterator[BucketJournal]:  # noqa: ARG002  the one of a disk asks for them
        """Yield the one in the bucket."""
        with BucketJournal(self._build, self._field.sizes()) as journal:
            yield journal

    def digests(self, pieces: Pieces) -> dict[str, str]:
        """Look into the journal: another process may have begun the same build anew, and removed what was there."""
        with self.journal(pieces) as journal:
            for piece in chain.from_iterable(pieces.stages()):
                if not all(map(journal.done, pieces.files(piece))):
                    raise StorageError(
                        f"{piece} of {self._field} is gone: another process began the same build anew. Give the same "
                        "command again when that one is done."
                    )
            return journal.digests

    @contextmanager
    def bench(self) -> Iterator[Path]:
        """Lend a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="embedfield-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Get objects."""
        for name in names:
            self._field.get(name, folder / name)

    def deliver(self, folder: Path, names: Iterable[str]) -> None:
        """Put objects."""
        # Of a build that was given up, ended by others or begun anew, nothing may come back.
        plan = self._build.find(PLAN)
        if plan is None or plan.data != (self.work / PLAN).read_bytes():
            raise StorageError(f"{self._build} holds this unfinished build no more. Give the same command again.")
        for name in names:
            self._field.put(name, folder / name)
            (folder / name).unlink()

    def open_written(self, raster: Path) -> StoredField:
        """Put its metadata there, those by which it can be opened last, and open it by its address."""
        files = [path for path in raster.rglob("*") if path.is_file()] if raster.is_dir() else [raster]
        files += raster.parent.glob(f"{raster.name}.vrt")
        for path in sorted(files, key=lambda path: (path == raster / ROOT, path)):
            if path.exists():  # one file alone is a piece, and there already
                self._field.put(self._name(path), path)
        return open_field(str(self._field.address.inside(raster.name)))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.result).as_posix()

    def settle(self) -> None:
        """Put there what belongs to the field; the bookkeeping stays until it is entered, for the item comes then."""
        for path in sorted(self.result.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self._field.put(path.name, path)

    def open_settled(self) -> StoredField:
        """Open the raster that is there."""
        objects, folders = self._field.look()
        there = {*objects, *folders} - {PICTURE}
        rasters = [name for suffix in OPENERS for name in sorted(there) if name.endswith(suffix)]
        if not rasters:
            raise FormatError(f"{self} holds no raster any more. Another process removed it; give the command again.")
        return open_field(str(self._field.address.inside(rasters[0])))

    def sweep(self) -> None:
        """Remove the bookkeeping of a build."""
        self._build.delete([PLAN])
        self._build.clear("")
