"""Plan: what an unfinished build is a build of, so that only the same build goes on with it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfield.errors import OutputExistsError
from embedfield.formats import keep_reduction
from embedfield.formats.packing import Packing
from embedfield.formats.stored import REDUCTION
from embedfield.integrity import placed
from embedfield.reduce import ReducedField, Reduction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedfield.field import Field
    from embedfield.formats.packing import Dtype
    from embedfield.formats.pieces import Units
    from embedfield.grid import Grid

# What an unfinished build is a build of.
PLAN = "plan.json"


@dataclass(frozen=True, eq=False)
class Plan:
    """An unfinished build: the field to write, how its numbers are packed, and the folder where it is worked on.

    The folder has the plan, the journal, and in ``field`` what will be the field's own folder.
    """

    folder: Path
    field: Field
    packing: Packing
    device: str
    """Kind of device that computes it, such as ``cpu``."""
    resumed: bool
    """Whether an earlier process began it."""

    @property
    def result(self) -> Path:
        """The folder that becomes the field's when it is whole."""
        return result_folder(self.folder)

    @classmethod
    def find(cls, folder: Path, field: Field, pca: int | None, device: str, place: str) -> Plan | None:
        """Return the plan that an earlier process wrote into a folder; None if it got nowhere. Nothing is changed.

        Args:
            folder: Where the build is worked on.
            field: What is built, whole vectors.
            pca: How many principal components are kept; None for the vectors themselves.
            device: Kind of device that computes, such as ``cpu``.
            place: Where the build is kept, for those who read of it: the folder may be a copy.

        Raises:
            OutputExistsError: If the build that was begun there is another.
        """
        begun = _begun(folder)
        if begun is None:
            return None
        for name, value in _wanted(field, pca, device).items():
            if begun["identity"].get(name) != value:
                raise OutputExistsError(
                    f"An unfinished build stands in {place}, and its {name} is {begun['identity'].get(name)!r}; this "
                    f"build's is {value!r}. Give --overwrite to begin anew, or write elsewhere with --out."
                )
        if pca is not None:
            field = ReducedField(field, Reduction.read(folder / "field" / REDUCTION, begun["reduction_sha256"]))
        return cls(folder, field, Packing.from_dict(begun["packing"]), device, resumed=True)

    @classmethod
    def begin(cls, folder: Path, field: Field, dtype: Dtype, pca: int | None, device: str) -> Plan:
        """Measure what the plan needs of a field, and write it into a folder, in place of what stood there.

        Args:
            folder: As for `find`.
            field: As for `find`.
            dtype: How numbers are stored.
            pca: As for `find`.
            device: As for `find`.

        Raises:
            PackingError: If the dtype cannot hold the field, or it has no such components.
        """
        sweep(folder)
        wanted, sha256 = _wanted(field, pca, device), None
        if pca is not None:
            field = ReducedField(field, Reduction.measure(field, pca))
            sha256 = field.reduction.to_dict()["sha256"]
        plan = cls(folder, field, Packing.measure(field, dtype), device, resumed=False)
        plan.result.mkdir(parents=True)
        keep_reduction(field, plan.result)
        said = json.dumps({"identity": wanted, "packing": plan.packing.to_dict(), "reduction_sha256": sha256})
        placed(folder / PLAN, lambda part: part.write_text(said, encoding="utf-8"))
        return plan

    def pixels_done(self, units: Units) -> int:
        """Return how many pixels an earlier process finished.

        Args:
            units: The pieces in which the field is written.
        """
        sizes: dict[str, int] = {}
        for entry in _entries(self.folder / "journal" / "journal.jsonl"):
            height, width = _size_of(entry["unit"], self.field.grid, units)
            # A piece that is not whole may have rows that are kept; its last entry tells how many.
            sizes[entry["unit"]] = entry.get("rows", height) * width
        return sum(sizes.values())


def result_folder(folder: Path) -> Path:
    """Return what becomes the field's own folder, by the folder where it is worked on."""
    return folder / "field"


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a journal without touching it, up to the first that is damaged."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            yield {name: entry[name] for name in ("unit", "rows") if name in entry or name == "unit"}
        except (ValueError, KeyError, TypeError):  # of a process that was killed
            return


def _size_of(unit: str, grid: Grid, units: Units) -> tuple[int, int]:
    """Return height and width, in pixels of the field, of a piece by its name in the journal; of others nothing."""
    shard, tile = re.fullmatch(r"0-(\d+)-(\d+)", unit), re.fullmatch(r"r(\d+)c(\d+)\.tif", unit)
    if shard:
        top, left = int(shard[1]) * units.height, int(shard[2]) * units.width
    elif tile:
        top, left = int(tile[1]), int(tile[2])
    elif unit.endswith(".tif"):
        top = left = 0
    else:  # a coarser level, or what has no pixels
        return 0, 0
    return min(units.height, grid.height - top), min(units.width, grid.width - left)


def _wanted(field: Field, pca: int | None, device: str) -> dict[str, Any]:
    """Return what a build must have in common with one that goes on with it."""
    # Another version or kind of device computes other last bits.
    versions = {name: field.provenance.get(name) for name in ("embedfield", "torch")}
    wanted: dict[str, Any] = json.loads(
        json.dumps({**identity(field), "components": pca, **versions, "device": device})
    )
    return wanted


def _begun(folder: Path) -> dict[str, Any] | None:
    """Return the plan that an earlier process wrote into a folder; None if it got nowhere, or what it wrote is lost."""
    path, result = folder / PLAN, folder / "field"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dims = len(Packing.from_dict(found["packing"]).scale)
        if found["reduction_sha256"] is not None:
            Reduction.read(result / REDUCTION, found["reduction_sha256"])
        whole = result.is_dir() and dims == (found["identity"]["components"] or found["identity"]["dim"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # FormatError is a ValueError
        return None
    return found if whole else None


def precision_begun(folder: Path) -> str | None:
    """Return the precision of a build that was begun in a folder; None if there is none to go on with."""
    begun = _begun(folder)
    return begun["identity"].get("precision") if begun else None


def sweep(folder: Path) -> None:
    """Remove an unfinished build. Its plan goes first: what is left if that is interrupted is never gone on with."""
    (folder / PLAN).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def identity(field: Field) -> dict[str, Any]:
    """Return what makes two fields in one folder the same."""
    return {
        "model": field.card.name,
        "dim": field.card.dim,
        "components": field.components,
        "options": json.loads(json.dumps(dict(field.card.options))),
        "weights_sha256": field.provenance.get("weights_sha256"),
        "database_sha256": field.provenance.get("database_sha256"),
        "precision": field.provenance.get("precision"),
        "grid": field.grid.to_dict(),
        "supersample": field.provenance.get("supersample", 1),
        "region": field.provenance.get("region"),
    }
