"""Icechunk: a field's Zarr in a repository, one commit a build, so that earlier builds can still be read."""

from __future__ import annotations

import asyncio
import shutil
from itertools import batched
from typing import TYPE_CHECKING, Any

from zarr.buffer.cpu import Buffer
from zarr.core.sync import sync

from embedfield.formats.geozarr import ZarrField
from embedfield.formats.repository import BRANCH, Commit, asking, opened, opened_or_made, writing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from icechunk import IcechunkStore

    from embedfield.formats.address import Address

METADATA = "zarr.json"
# Files of a Zarr that are put into a repository side by side; each is in memory meanwhile.
SIDE_BY_SIDE = 4


class IcechunkField(ZarrField):
    """A field in an Icechunk repository, as one of its commits has it."""

    snapshot: str
    """Id of that commit."""

    def __init__(self, path: str | Path, snapshot: str | None = None) -> None:
        """Open a field.

        Args:
            path: The repository: a path, or an address on a network.
            snapshot: Id of a commit in its history; None for the last one.

        Raises:
            FormatError: If it is no repository with a field of embedfield, has no such commit, or Icechunk is not
                installed.
        """
        self._wanted = snapshot
        super().__init__(path)

    def _store(self) -> IcechunkStore:
        repository = opened(self._file)
        session = (
            repository.readonly_session(BRANCH)
            if self._wanted is None
            else repository.readonly_session(snapshot_id=self._wanted)
        )
        self.snapshot = session.snapshot_id
        return session.store

    def _answering(self) -> AbstractContextManager[None]:
        return asking(self._file)

    def history(self) -> list[Commit]:
        """Return the commits up to the one that is read, the last first.

        Raises:
            FormatError: If they cannot be read.
        """
        with self._answering():
            found = list(opened(self._file).ancestry(snapshot_id=self.snapshot))
        # The first is Icechunk's own, of an empty repository.
        return [Commit.of(commit) for commit in found if commit.parent_id is not None]

    def earlier(self, snapshot: str) -> IcechunkField:
        """Open the field as another commit has it.

        What lies beside a repository is of its last commit: an earlier field of components has no way back to its
        model's vectors, unless that is the same.

        Args:
            snapshot: Id of the commit.

        Raises:
            FormatError: If there is none of that id.
        """
        return type(self)(self.path, snapshot)

    def about(self) -> dict[str, Any]:
        """Return what its numbers are and where they come from, as plain data for JSON."""
        return super().about() | {"snapshot": self.snapshot}

    def describe(self) -> dict[str, str]:
        """Return what a person would want to know of the field, in lines of text."""
        return super().describe() | {"commit": self.snapshot}

    def __reduce__(self) -> tuple[type[IcechunkField], tuple[Path | str, str]]:  # type: ignore[override]  # one more
        """Pickle as a place and a commit: whoever unpickles reads the same, whatever was committed since."""
        _, (place,) = super().__reduce__()
        return type(self), (place, self.snapshot)


def to_icechunk(zarr: Path, repository: Path | Address) -> str:
    """Put a field's Zarr into a repository, as one commit: nothing of it is seen before it is whole.

    Chunks are put there as they are, byte for byte, and memory is bounded by a few of them. What an earlier commit
    has and the Zarr has not is no part of the new one. A process that is killed leaves no commit, but chunks that
    nobody reads.

    Args:
        zarr: A field's folder ``….zarr``, as `write_zarr` makes it; it stays.
        repository: Where a commit is added; made if nothing is there. A path from the root of the disk, or the
            address of a folder in a bucket.

    Returns:
        Id of the commit.

    Raises:
        FormatError: If the Zarr is no field, the repository cannot be read, or Icechunk is not installed.
        BusyError: If another process committed to it meanwhile.
        StorageError: If it cannot be written.
    """
    with ZarrField(zarr) as field:
        message, metadata = _message(field), _metadata(field)
    opened_repository = opened_or_made(repository)
    with writing(repository):
        session = opened_repository.writable_session(BRANCH)
        sync(session.store.clear())
        _put(session.store, zarr)
        # A build that ends in the same bytes is a build all the same.
        return session.commit(message, metadata, allow_empty=True)


def carry_over(old: Path, new: Path) -> None:
    """Put a repository's files in another place too, so that the next commit there follows its own.

    They are shared where the disk can do that: Icechunk changes none of its files but writes others under their
    names, so the old repository stays as it is. What stands at `new`, of a build that was stopped, is removed.

    Args:
        old: The repository.
        new: Where it shall stand too.

    Raises:
        FormatError: If the old one cannot be read: a commit to it would be of no use.
    """
    opened(old)
    shutil.rmtree(new, ignore_errors=True)
    for file in sorted(file for file in old.rglob("*") if file.is_file()):
        target = new / file.relative_to(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        _share(file, target)


def _share(file: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the disk has no second names."""
    try:
        target.hardlink_to(file)
    except OSError:  # of another disk, or of one that does not know it; what is wrong beside that, copying says
        shutil.copy2(file, target)


def _put(store: IcechunkStore, zarr: Path) -> None:
    """Put all files of a Zarr into a store, metadata first: chunks of an array that it does not know are refused."""
    files = sorted((file for file in zarr.rglob("*") if file.is_file()), key=lambda file: (len(file.parts), file))
    for file in files:
        if file.name == METADATA:
            sync(_set(store, zarr, [file]))
    for batch in batched((file for file in files if file.name != METADATA), SIDE_BY_SIDE):
        sync(_set(store, zarr, batch))


async def _set(store: IcechunkStore, zarr: Path, files: Iterable[Path]) -> None:
    named = {file.relative_to(zarr).as_posix(): Buffer.from_bytes(file.read_bytes()) for file in files}
    await asyncio.gather(*(store.set(name, data) for name, data in named.items()))


def _message(field: ZarrField) -> str:
    height, width = field.grid.shape
    return (
        f"{field.card.name}: {width} x {height} pixels of {field.grid.side}, {field.grid.crs}, {field.dim} bands, "
        f"{field.packing.dtype}"
    )


def _metadata(field: ZarrField) -> dict[str, Any]:
    """Return what is known of a build, as plain data for JSON."""
    return {
        "model": field.card.name,
        "title": field.card.title,
        "bands": field.dim,
        "crs": field.grid.crs,
        "res": field.grid.res,
        "bounds": list(field.grid.bounds),
        "shape": list(field.grid.shape),
        "dtype": field.packing.dtype,
        "saturated": field.saturated,
        **field.provenance,
    }
