"""Plan: what an unfinished build is a build of, so that only the same build goes on with it."""

from __future__ import annotations

import json
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
    from pathlib import Path

    from embedfield.field import Field
    from embedfield.formats.packing import Dtype


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
        return self.folder / "field"

    @classmethod
    def open(cls, folder: Path, field: Field, dtype: Dtype, pca: int | None, device: str) -> Plan:
        """Return the plan of a folder; make one if there is none.

        Args:
            folder: Where the build is worked on.
            field: What is built, whole vectors.
            dtype: How numbers are stored.
            pca: How many principal components are kept; None for the vectors themselves.
            device: Kind of device that computes, such as ``cpu``.

        Raises:
            OutputExistsError: If the build that was begun there is another.
            PackingError: If the dtype cannot hold the field, or it has no such components.
        """
        # Another version or kind of device computes other last bits.
        versions = {name: field.provenance.get(name) for name in ("embedfield", "torch")}
        wanted = json.loads(json.dumps({**identity(field), "components": pca, **versions, "device": device}))
        begun = _begun(folder)
        if begun is None:
            sweep(folder)  # without a plan nothing can be used
            return cls._begin(folder, field, dtype, pca, wanted)
        for name, value in wanted.items():
            if begun["identity"].get(name) != value:
                raise OutputExistsError(
                    f"An unfinished build stands in {folder}, and its {name} is {begun['identity'].get(name)!r}; this "
                    f"build's is {value!r}. Give --overwrite to begin anew, or write elsewhere with --out."
                )
        if pca is not None:
            field = ReducedField(field, Reduction.read(folder / "field" / REDUCTION, begun["reduction_sha256"]))
        return cls(folder, field, Packing.from_dict(begun["packing"]), device, resumed=True)

    @classmethod
    def _begin(cls, folder: Path, field: Field, dtype: Dtype, pca: int | None, wanted: dict[str, Any]) -> Plan:
        """Measure what the plan needs of a field, and write it."""
        sha256 = None
        if pca is not None:
            field = ReducedField(field, Reduction.measure(field, pca))
            sha256 = field.reduction.to_dict()["sha256"]
        plan = cls(folder, field, Packing.measure(field, dtype), wanted["device"], resumed=False)
        plan.result.mkdir(parents=True)
        keep_reduction(field, plan.result)
        said = json.dumps({"identity": wanted, "packing": plan.packing.to_dict(), "reduction_sha256": sha256})
        placed(folder / "plan.json", lambda part: part.write_text(said, encoding="utf-8"))
        return plan


def _begun(folder: Path) -> dict[str, Any] | None:
    """Return the plan that an earlier process wrote into a folder; None if it got nowhere, or what it wrote is lost."""
    path, result = folder / "plan.json", folder / "field"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dims = len(Packing.from_dict(found["packing"]).scale)
        if found["reduction_sha256"] is not None:
            Reduction.read(result / REDUCTION, found["reduction_sha256"])
        whole = result.is_dir() and dims == (found["identity"]["components"] or found["identity"]["dim"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # FormatError is a ValueError
        return None
    return found if whole else None


def sweep(folder: Path) -> None:
    """Remove an unfinished build. Its plan goes first: what is left if that is interrupted is never gone on with."""
    (folder / "plan.json").unlink(missing_ok=True)
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
