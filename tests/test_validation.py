"""Whatever is wrong in a catalogue is named where it is, and the rest is checked all the same."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import typer
from rasterio.transform import from_origin
from typer.testing import CliRunner

from embedfield.build import build_field
from embedfield.catalog import Catalog
from embedfield.catalog.validation import check_catalog_files
from embedfield.commands.catalog import catalog as commands
from embedfield.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

COG, ZARR, OTHER = "xyz-30deg-cog-uint8", "xyz-30deg-zarr-uint8", "sh-l10-30deg-cog-uint8"
ITEM = f"xyz/{COG}/{COG}.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of three fields and one registered; to look at, not to change."""
    root = tmp_path_factory.mktemp("built") / "catalog"
    build_field("xyz", 30, device="cpu", out=root).close()
    build_field("xyz", 30, format="zarr", device="cpu", out=root, verify=False).close()
    build_field("sh-l10", 30, device="cpu", out=root, verify=False).close()
    theirs = root.parent / "theirs.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 9, "width": 9, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(theirs, "w", crs="EPSG:4326", transform=from_origin(0, 50, 1, 1), **profile) as file:
        file.write(np.ones((3, 9, 9), dtype="float32"))
    Catalog(root).add(theirs, kind="plain", name="theirs")
    return root


@pytest.fixture
def mine(built: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(built, tmp_path / "mine"))


def change(path: Path, **entries: Any) -> None:
    """Change entries of a JSON file; those of ``properties`` by ``properties={…}``, and so of links and assets."""
    content = json.loads(path.read_text("utf-8"))
    for name, value in entries.items():
        both = isinstance(value, dict) and isinstance(content.get(name), dict)
        content[name] = content[name] | value if both else value
    path.write_text(json.dumps(content))


def asset(path: Path, key: str, **entries: Any) -> None:
    """Change entries of an asset of an item."""
    assets = json.loads(path.read_text("utf-8"))["assets"]
    change(path, assets={key: assets.get(key, {}) | entries})


def drop(path: Path, name: str) -> None:
    content = json.loads(path.read_text("utf-8"))
    del content[name]
    path.write_text(json.dumps(content))


def flip(path: Path) -> None:
    """Change one byte of a file in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path, rel: str, href: str) -> None:
    """Add a link to a document."""
    links = json.loads(path.read_text("utf-8"))["links"]
    change(path, links=[*links, {"rel": rel, "href": href}])


def faults(root: Path, **options: Any) -> list[str]:
    return [str(fault) for fault in check_catalog_files(root, **options)]


def test_a_catalogue_as_it_was_built_has_no_fault(built: Path) -> None:
    told = list[tuple[int, int]]()
    assert faults(built, progress=lambda done, total: told.append((done, total))) == []
    assert told[-1][0] == told[-1][1] > 0
    assert told == sorted(told)


def test_a_catalogue_that_was_moved_has_no_fault(built: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(built, tmp_path / "to a#b" / "elsewhere")
    assert faults(Path(moved)) == []


# What is done to a catalogue: where the fault is, and what is said of it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a catalogue that is no JSON": (lambda root: (root / "catalog.json").write_text("{"), "catalog.json", "is no JSON"),
    "no catalogue": (lambda root: (root / "catalog.json").unlink(), "catalog.json", "does not exist"),
    "a catalogue of another type": (
        lambda root: change(root / "catalog.json", type="Feature"), "catalog.json", "its type is 'Feature'",
    ),
    "a catalogue without id": (
        lambda root: drop(root / "catalog.json", "id"), "catalog.json", r"catalog\.json asks: 'id' is a required",
    ),
    "a collection that is gone": (
        lambda root: (root / "xyz" / "collection.json").unlink(), "catalog.json", r"'child' to \./xyz/.* leads nowhere",
    ),
    "a collection that is no JSON": (
        lambda root: (root / "xyz" / "collection.json").write_bytes(b"\xff"), "xyz/collection.json", "is no JSON",
    ),
    "a collection that its extension refuses": (
        lambda root: change(root / "xyz" / "collection.json", **{"emb:dimensions": 0}), "xyz/collection.json",
        r"\$\['emb:dimensions'\] is not as .*embeddings",
    ),
    "a collection that no catalogue links to": (
        lambda root: change(root / "catalog.json", links=[{"rel": "root", "href": "./catalog.json"}]),
        "xyz/collection.json", "the catalogue does not lead to it",
    ),
    "an item that is gone": (
        lambda root: (root / ITEM).unlink(), "xyz/collection.json", rf"'item' to \./{COG}/{COG}\.json leads nowhere",
    ),
    "an item that is no JSON": (lambda root: (root / ITEM).write_text("damaged"), ITEM, "is no JSON"),
    "an item that is a list": (lambda root: (root / ITEM).write_text("[]"), ITEM, "holds no JSON object, but a list"),
    "an item too deep": (lambda root: (root / ITEM).write_text("[" * 100_000), ITEM, "is no JSON"),
    "an item of a newer version": (
        lambda root: change(root / ITEM, properties={"embedfield:version": 2}), ITEM, r"newer embedfield.*Update",
    ),
    "an item of another id": (lambda root: change(root / ITEM, id="another"), ITEM, "its id is 'another'"),
    "an item of another collection": (
        lambda root: change(root / ITEM, collection="sh-l10"), ITEM, "its collection is 'sh-l10'",
    ),
    "an item that its extension refuses": (
        lambda root: change(root / ITEM, properties={"proj:shape": [1]}), ITEM, r"proj:shape'\] is not as .*projection",
    ),
    "an item with an extension unheard of": (
        lambda root: change(root / ITEM, stac_extensions=["https://example.org/x.json"]), ITEM,
        "names the schema 'https://example.org/x.json', which is not kept here",
    ),
    "an item without a link to its collection": (
        lambda root: change(root / ITEM, links=[{"rel": "root", "href": "../../catalog.json"}]), ITEM,
        r"no link 'collection' to xyz/collection\.json",
    ),
    "an item with a link to nowhere": (lambda root: link(root / ITEM, "about", "./no.html"), ITEM, "leads nowhere"),
    "a link out of the catalogue": (
        lambda root: link(root / ITEM, "about", "../../../../etc/passwd"), ITEM, "'about' .* leads out of the catal",
    ),
    "a link to a path of this computer": (
        lambda root: link(root / ITEM, "about", "file:///etc/passwd"), ITEM, "leads out of the catalogue",
    ),
    "a child that is an address": (
        lambda root: link(root / "catalog.json", "child", "https://example.org/c.json"), "catalog.json",
        "leads out of the catalogue: make it relative",
    ),
    "an item that no collection links to": (
        lambda root: shutil.copytree(root / "xyz" / COG, root / "xyz" / "copy")
        and (root / "xyz" / "copy" / f"{COG}.json").rename(root / "xyz" / "copy" / "copy.json"),
        "xyz/copy/copy.json", "no collection links to it",
    ),
    "an asset out of the catalogue": (
        lambda root: asset(root / ITEM, "preview", href="../../../outside.png"), ITEM,
        r"'preview', \.\./\.\./\.\./outside\.png, leads out of the catalogue",
    ),
    "an asset at a path of this computer": (
        lambda root: asset(root / ITEM, "preview", href="/etc/passwd"), ITEM, "'preview', /etc/passwd, leads out",
    ),
    "a raster at an address": (
        lambda root: asset(root / ITEM, "preview", href="https://example.org/p.png"), ITEM, "leads out of the catalog",
    ),
    "an asset that is gone": (
        lambda root: (root / "xyz" / COG / "preview.png").unlink(), ITEM, r"'preview', \./preview\.png, is missing",
    ),
    "an asset of another size": (
        lambda root: asset(root / ITEM, "preview", **{"file:size": 7}), ITEM, "'preview', .* bytes and not 7",
    ),
    "a flipped byte of a raster": (
        lambda root: flip(root / "xyz" / COG / f"{COG}.tif"), f"xyz/{COG}", f"{COG}.tif is damaged",
    ),
    "a flipped byte of a shard": (
        lambda root: flip(root / "xyz" / ZARR / f"{ZARR}.zarr" / "embedding" / "c" / "0" / "0" / "0"), f"xyz/{ZARR}",
        r"embedding/c/0/0/0 is damaged.*row 0, column 0",
    ),
    "no checksums": (lambda root: (root / "xyz" / COG / "SHA256SUMS").unlink(), f"xyz/{COG}", "has no SHA256SUMS"),
    "a raster that cannot be opened": (
        lambda root: (root / "xyz" / COG / f"{COG}.tif").write_bytes(b"no raster"), ITEM, "raster cannot be opened",
    ),
    "a raster of another model": (
        lambda root: shutil.copy(root / "sh-l10" / OTHER / f"{OTHER}.tif", root / "xyz" / COG / f"{COG}.tif"), ITEM,
        "do not agree on the model",
    ),
    "another transform": (
        lambda root: change(root / ITEM, properties={"proj:transform": [30, 0, -170, 0, -30, 90]}), ITEM,
        "do not agree on the transform",
    ),
    "another packing": (
        lambda root: change(root / ITEM, properties={"emb:quantization": {"method": "x", "original_dtype": "float32"}}),
        ITEM, "do not agree on the packing",
    ),
    "no table": (lambda root: (root / "items.parquet").unlink(), "items.parquet", "it is missing"),
    "a table that is none": (
        lambda root: (root / "items.parquet").write_bytes(b"PAR1"), "items.parquet", "cannot be read",
    ),
    "a table out of step": (
        lambda root: change(root / ITEM, properties={"title": "another"}), "items.parquet", "not in step with",
    ),
    "a model's item that is none": (
        lambda root: change(root / "xyz" / "model.json", properties={"mlm:input": 3}), "xyz/model.json", "mlm:input",
    ),
    "a registered raster that is gone": (
        lambda root: asset(root / "theirs" / "theirs" / "theirs.json", "embeddings", href=str(root / "gone.tif")),
        "theirs/theirs/theirs.json", r"'embeddings', .*gone\.tif, is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_where_it_is(mine: Path, what: str) -> None:
    damage, where, said = DAMAGE[what]
    damage(mine)
    found = faults(mine)
    assert all(len(line.splitlines()) == 1 for line in found)
    said_there = [line.removeprefix(f"{where}: ") for line in found if line.startswith(f"{where}: ")]
    assert said_there, found
    assert any(re.search(said, line) for line in said_there), found


def test_all_that_is_wrong_is_named_at_once(mine: Path) -> None:
    (mine / ITEM).write_text("damaged")
    flip(mine / "sh-l10" / OTHER / f"{OTHER}.tif")
    (mine / "items.parquet").unlink()
    (mine / "xyz" / "model.json").unlink()
    where = {fault.where for fault in check_catalog_files(mine)}
    assert where == {ITEM, f"sh-l10/{OTHER}", "items.parquet", "catalog.json", "xyz/collection.json"}


@pytest.mark.parametrize("name", ["catalog.json", "xyz/collection.json"])
def test_what_lies_below_a_damaged_document_is_checked_and_not_blamed(mine: Path, name: str) -> None:
    (mine / name).write_text("{")
    flip(mine / "xyz" / COG / f"{COG}.tif")
    where = [fault.where for fault in check_catalog_files(mine)]
    assert where == [name, f"xyz/{COG}", *(["items.parquet"] if name != "catalog.json" else [])]


def test_how_to_mend_a_document_is_said_with_it(mine: Path) -> None:
    registered = mine / "theirs" / "theirs" / "theirs.json"
    for path in (mine / "xyz" / "collection.json", mine / ITEM, registered):
        path.write_text("{")
    found = {fault.where: fault.what for fault in check_catalog_files(mine)}
    assert "catalog rebuild" in found["xyz/collection.json"]
    assert "catalog rebuild" in found[ITEM]
    assert "register the field again" in found["theirs/theirs/theirs.json"]


def test_a_raster_that_is_gone_is_said_once_of_the_item(mine: Path) -> None:
    (mine / "xyz" / COG / f"{COG}.tif").unlink()
    (line,) = [fault.what for fault in check_catalog_files(mine) if fault.where == ITEM]
    assert "'embeddings'" in line


def test_a_folder_that_may_not_be_looked_into_is_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = os.stat

    def refuse(path: Any, **options: Any) -> Any:
        if f"{COG}{os.sep}" in str(path):
            raise PermissionError(13, "Permission denied")
        return ask(path, **options)

    # As the system does it; who runs the tests may be one who may look everywhere.
    monkeypatch.setattr(os, "stat", refuse)
    found = {fault.where: fault.what for fault in check_catalog_files(mine)}
    assert "cannot be followed: Permission denied" in found["xyz/collection.json"]


def test_bytes_are_left_out_if_so_wished(mine: Path) -> None:
    flip(mine / "xyz" / COG / "preview.png")
    assert faults(mine, checksums=False) == []
    assert any("preview.png is damaged" in line for line in faults(mine))


def test_a_rebuild_mends_what_follows_from_the_files(mine: Path) -> None:
    for path in (*mine.glob("*/*.json"), mine / "catalog.json", mine / "items.parquet", mine / ITEM):
        path.write_text("damaged")
    assert len(faults(mine)) > 0
    Catalog(mine).rebuild()
    assert faults(mine) == []


def values(content: Any) -> list[tuple[Any, Any]]:
    """Return every place in a JSON document, as the thing that holds it and its key or index."""
    if isinstance(content, dict):
        return [(content, key) for key in content] + [place for value in content.values() for place in values(value)]
    if isinstance(content, list):
        return [(content, key) for key in range(len(content))] + [place for value in content for place in values(value)]
    return []


@pytest.mark.parametrize(
    "name", ["catalog.json", "xyz/collection.json", ITEM, "xyz/model.json", "theirs/theirs/theirs.json"]
)
def test_no_value_of_a_wrong_type_breaks_the_validation_or_the_list(mine: Path, name: str) -> None:
    whole, fields = (mine / name).read_text("utf-8"), len(Catalog(mine).entries())
    count = len(values(json.loads(whole)))
    rng = np.random.default_rng(7)
    for number in rng.permutation(count)[:6]:
        content = json.loads(whole)
        holder, key = values(content)[number]
        holder[key] = [None, 7, "text", [], {}, [[1]], {"href": 3}, -1e308, True][int(rng.integers(9))]
        (mine / name).write_text(json.dumps(content))
        found = check_catalog_files(mine, checksums=False)
        assert all(fault.where and fault.what for fault in found)
        # A catalogue that is none is refused; all else is named, and the rest listed.
        try:
            entries, faults = Catalog(mine).survey()
        except FormatError:
            assert name == "catalog.json"
            assert found
        else:
            assert len(entries) <= fields
            assert all(fault.where and fault.what for fault in faults)


app = typer.Typer()
app.add_typer(commands)


def run(*words: str | Path, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["catalog", *map(str, words)], input=given)


def test_the_command_lists_fields_as_table_and_as_json(built: Path) -> None:
    shown = run("list", "--catalog", built)
    assert shown.exit_code == 0
    assert [line.split()[1] for line in shown.stdout.splitlines()[1:]] == [OTHER, "theirs", COG, ZARR]
    found = json.loads(run("list", "--catalog", built, "--model", "xyz", "--json").stdout)
    assert [(entry["id"], entry["grade"], entry["bands"]) for entry in found] == [(COG, "good", 3), (ZARR, None, 3)]
    assert found[0]["path"] == str(built / ITEM)
    near = run("list", "--catalog", built, "--bounds", "0", "42", "5", "45", "--res", "0.5", "2", "--json")
    assert [entry["id"] for entry in json.loads(near.stdout)] == ["theirs"]
    assert "no such field" in run("list", "--catalog", built, "--model", "geoclip").stderr


def test_the_command_says_a_line_for_each_fault(mine: Path) -> None:
    assert run("validate", "--catalog", mine).stdout == f"{mine} is whole: 4 fields of 3 models.\n"
    (mine / ITEM).write_text("damaged")
    flip(mine / "sh-l10" / OTHER / f"{OTHER}.tif")
    shown = run("validate", "--catalog", mine)
    assert isinstance(shown.exception, FormatError)
    assert shown.exit_code == 1
    assert [line.split(": ")[0] for line in shown.stdout.splitlines()] == [ITEM, f"sh-l10/{OTHER}", "items.parquet"]
    assert isinstance(run("validate", "--catalog", mine / "nothing").exception, FormatError)


def test_the_command_asks_before_it_deletes(mine: Path) -> None:
    folder = mine / "xyz" / ZARR
    assert run("remove", ZARR, "--catalog", mine, "--delete", given="n\n").exit_code == 1
    assert folder.exists()
    assert run("remove", ZARR, "--catalog", mine, "--delete", given="y\n").exit_code == 0
    assert not folder.exists()
    assert "Its files stay" in run("remove", COG, "--catalog", mine).stdout
    assert (mine / "xyz" / COG / f"{COG}.tif").exists()
    assert run("rebuild", "--catalog", mine).stdout == f"{mine}: 3 fields of 3 models.\n"
    assert faults(mine) == []


def test_the_command_registers_a_field_with_its_preview(mine: Path, built: Path) -> None:
    theirs = built.parent / "theirs.tif"
    shown = run("add", theirs, "--catalog", mine, "--as", "plain", "--name", "more", "--id", "here", "--licence", "MIT")
    assert shown.stdout == f"{mine}/more/here/here.json\n"
    assert (mine / "more" / "here" / "preview.png").exists()
    assert json.loads((mine / "more" / "collection.json").read_text("utf-8"))["license"] == "MIT"
    assert faults(mine) == []
