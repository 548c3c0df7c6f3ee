"""Errand: what the workers of a cluster are told, to sample places for a table."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from embedfield.cluster import cluster_of
from embedfield.errors import ClusterError
from embedfield.parts import sample_group
from embedfield.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from embedfield.cluster import Shared
    from embedfield.field import Field
    from embedfield.parts import Group


@dataclass(frozen=True)
class Errand:
    """How fields are asked, for whoever does it elsewhere; picklable."""

    fields: Callable[[], Iterable[Field]]
    """Opens or loads them, in the process that asks them."""
    asked: tuple[Any, ...]
    """What a `Sampler` is given beside them, in order."""
    crs: str
    """Reference system of the places."""
    folder: Path
    """Where the places are, and what is found goes: from the root of a disk that all share."""
    origins: tuple[Mapping[str, Any], ...]
    """Where the numbers of each field come from, as it will be said in the table."""

    def __call__(self) -> Ready:
        """Make ready to sample.

        Raises:
            ClusterError: If the folder cannot be seen from here, or a field is not the same here.
        """
        if not self.folder.is_dir():
            raise ClusterError(
                f"A worker does not see {self.folder.parent}, where the table is written: it is on no disk that all "
                "share, or elsewhere there. Write to one that is under the same path everywhere, or leave out --dask."
            )
        fields = tuple(self.fields())
        for field, origin in zip(fields, self.origins, strict=True):
            _check_same(field, origin)
        return Ready(Sampler(fields, *self.asked), self.crs)

    @contextmanager
    def sent(self, client: Client | str, gpus: int, report: Callable[[str], None]) -> Iterator[Shared[Ready]]:
        """Give it to the workers of a cluster, one of whom has begun.

        Args:
            client: As for `cluster_of`.
            gpus: The same.
            report: The same.

        Raises:
            ClusterError: If there is no cluster, or its workers cannot do it.
        """
        with cluster_of(client, gpus=gpus, report=report) as cluster, cluster.share(self) as shared:
            shared.ask(begin_to_sample)
            yield shared


class Ready(NamedTuple):
    """A process that can sample."""

    sampler: Sampler
    """Its own fields."""
    crs: str
    """Reference system of the places."""


def begin_to_sample(_: Ready) -> None:
    """Show that a worker can."""


def sample_apart(ready: Ready, group: Group) -> int:
    """Sample a group of places, whose file of what was found appears whole: others may do the same at the same time.

    Returns:
        How many numbers a place got.

    Raises:
        StorageError: If the disk is full.
    """
    part = group.found.with_name(f".{group.found.name}.{uuid.uuid4().hex}")
    try:
        width = sample_group(group, ready.crs, ready.sampler.sample, part)
        part.replace(group.found)
    finally:
        part.unlink(missing_ok=True)
    return width


def origins_of(fields: Iterable[Field]) -> tuple[dict[str, Any], ...]:
    """Return where the numbers of fields come from, for an `Errand`."""
    return tuple(dict(field.provenance) for field in fields)


def _check_same(field: Field, origin: Mapping[str, Any]) -> None:
    """Refuse a field whose numbers come from elsewhere than those of the process that asked for them.

    Raises:
        ClusterError: If it is so.
    """
    here = dict(field.provenance)
    differing = sorted(name for name in {*here, *origin} if here.get(name) != origin.get(name))
    if differing:
        name = differing[0]
        raise ClusterError(
            f"{field.name} is another on a worker: {name} is {here.get(name)!r} there, and {origin.get(name)!r} here. "
            "Give all machines the same files and the same versions of what is installed."
        )
