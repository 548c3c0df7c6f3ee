"""The floors of the house, held by reading its imports (see ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "embedfield"
FLOORS: list[set[str]] = [
    {"errors", "card", "window", "kept", "clock", "amounts", "hook", "schemas", "processors"},
    {
        *(
            "places",
            "projection",
            "window",
            "grid",
            "region",
            "weights",
            "downloads",
            "tables",
            "shapes",
            "located",
            "cells",
        ),
        *("medians", "overlay", "encoders", "fidelity", "integrity", "progress", "cluster"),
    },
    {"models", "field", "reduce", "zonal", "sampler", "axes"},
    {
        *("formats", "evaluate", "sample", "parts", "errand", "stream", "array_field", "stac", "catalog", "pictures"),
        "certificate",
    },
    {
        *("precision", "plan", "folder", "order", "trial", "verify", "advice", "advise", "estimate", "build"),
        *("certify", "embedder", "accessor", "backend", "describe", "similar"),
        *("covered", "outlook", "site", "disk_site", "bucket_site", "closing", "builder", "spread"),
    },
    {"cli", "commands", "__init__"},
    {"__main__"},
]
# Rooms of one floor that may see each other: the first may import the second.
WITHIN = {
    *(("card", "errors"), ("window", "errors"), ("grid", "places"), ("tables", "places"), ("weights", "downloads")),
    *(
        ("projection", "places"),
        ("grid", "projection"),
        ("region", "projection"),
        ("region", "grid"),
    ),
    *(
        ("tables", "projection"),
        ("tables", "integrity"),
        ("shapes", "projection"),
        ("located", "shapes"),
        ("located", "tables"),
    ),
    *(("located", "places"), ("located", "projection"), ("cells", "grid"), ("overlay", "cells"), ("overlay", "grid")),
    *(("zonal", "field"), ("sampler", "field"), ("sampler", "zonal"), ("reduce", "field")),
    *(("stream", "parts"), ("stream", "errand"), ("errand", "parts"), ("array_field", "formats")),
    ("pictures", "formats"),
    *(("stac", "formats"), ("catalog", "stac"), ("catalog", "formats"), ("catalog", "certificate")),
    *(("build", "order"), ("build", "builder"), ("build", "closing"), ("build", "spread"), ("folder", "plan")),
    *(("site", "folder"), ("site", "plan"), ("bucket_site", "site"), ("bucket_site", "plan")),
    *(
        ("order", "bucket_site"),
        ("order", "disk_site"),
        ("disk_site", "site"),
        ("disk_site", "folder"),
        ("disk_site", "plan"),
    ),
    *(("closing", "folder"), ("closing", "verify"), ("builder", "closing"), ("builder", "order"), ("order", "site")),
    ("spread", "builder"),
    *(("order", "plan"), ("order", "precision"), ("order", "folder"), ("certify", "folder"), ("certify", "verify")),
    *(("estimate", "order"), ("estimate", "trial"), ("estimate", "covered"), ("estimate", "outlook")),
    ("cli", "commands"),
    *(("advise", "advice"), ("advise", "trial"), ("advise", "verify"), ("backend", "order"), ("backend", "precision")),
}
SEE_TORCH = {"encoders", "evaluate"}
FILES = sorted(HOUSE.rglob("*.py"))


def room(path: Path) -> str:
    """Return the file's name, or that of its folder below the house."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, types aside."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "embedfield"
            }
    return found


def rooms_seen(path: Path) -> set[str]:
    """Return the other rooms of the house that a file imports."""
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("embedfield.")}
    return inner - {room(path)}


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in FILES} == set.union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_arrow_goes_up_or_sideways(path: Path) -> None:
    here = room(path)
    wrong = {
        seen for seen in rooms_seen(path)
        if floor(seen) > floor(here) or (floor(seen) == floor(here) and (here, seen) not in WITHIN)
    }  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_torch_is_imported_in_encoders_and_evaluate_only(path: Path) -> None:
    uses = any(name == "torch" or name.startswith("torch.") for name in imports(path))
    assert not uses or room(path) in SEE_TORCH


@pytest.mark.parametrize("path", sorted((HOUSE / "encoders").glob("*.py")), ids=lambda path: path.name)
def test_encoders_know_only_cards_and_errors(path: Path) -> None:
    assert rooms_seen(path) <= {"card", "errors"}
