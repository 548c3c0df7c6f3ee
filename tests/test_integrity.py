"""Integrity: sha256sum is the truth, and no flipped byte goes unseen."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embedfield.build import build_field
from embedfield.errors import FormatError
from embedfield.integrity import check_sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Done

FORMS: dict[str, dict[str, Any]] = {
    "cog": {},
    "tiles": {"res": 1},
    "zarr": {"format": "zarr", "res": 0.5},
    "pca": {"pca": 2},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of fields of every form."""
    out = tmp_path_factory.mktemp("built")
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for form, asked in FORMS.items():
            patch.setattr("embedfield.formats.cog.BUDGET", 3 * 128 * 128 if form == "tiles" else 2**29)
            call = {"res": 10, "verify": False, **asked}
            with build_field("xyz", out=out / form, device="cpu", **call) as field:
                folders[form] = field.disk_path.parent
    return folders


@pytest.fixture
def copied(built: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of copies that may be damaged."""

    def copy(form: str) -> Path:
        return Path(shutil.copytree(built[form], tmp_path / built[form].name))

    return copy


@pytest.mark.parametrize("form", FORMS)
def test_a_field_as_written_has_no_fault(built: dict[str, Path], form: str) -> None:
    assert check_sums(built[form]) == []


@pytest.mark.parametrize("form", FORMS)
def test_sha256sum_agrees(built: dict[str, Path], form: str) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],  # noqa: S607
        cwd=built[form], check=True, capture_output=True, text=True,
    )  # fmt: skip
    listed = {line.rpartition(": ")[0] for line in done.stdout.splitlines()}
    there = {str(path.relative_to(built[form])) for path in built[form].rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS", f"{built[form].name}.json"}


@pytest.mark.parametrize("form", FORMS)
def test_one_flipped_bit_anywhere_is_found_and_its_file_named(copied: Callable[[str], Path], form: str) -> None:
    folder = copied(form)
    rng = np.random.default_rng(len(form))
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        place = int(rng.integers(len(whole)))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = check_sums(folder)
        path.write_bytes(whole)
        if path.name != f"{folder.name}.json":  # the item has no digest of itself
            assert any(str(path.relative_to(folder)) in fault or path.name == "SHA256SUMS" for fault in found), path
            assert found


def test_a_damaged_shard_or_tile_is_told_by_its_place(copied: Callable[[str], Path]) -> None:
    zarr, tiles = copied("zarr"), copied("tiles")
    (zarr / f"{zarr.name}.zarr" / "embedding" / "c" / "0" / "1" / "2").write_bytes(b"short")
    (tiles / f"{tiles.name}.tiles" / "r000128c000256.tif").unlink()
    assert check_sums(zarr)[0] == (
        f"{zarr.name}.zarr/embedding/c/0/1/2 is damaged: its bytes are not those that were written "
        "(row 1, column 2 of its shards)"
    )
    assert check_sums(tiles)[0] == f"{tiles.name}.tiles/r000128c000256.tif is missing (a tile of the field)"


def test_what_does_not_belong_is_named(copied: Callable[[str], Path]) -> None:
    folder = copied("zarr")
    (folder / f"{folder.name}.zarr" / "embedding" / "c" / "0" / "9").mkdir()
    (folder / f"{folder.name}.zarr" / "embedding" / "c" / "0" / "9" / "9").write_bytes(b"")
    assert "embedding/c/0/9/9 does not belong to the field" in check_sums(folder)[0]


def test_digests_that_were_changed_with_the_files_differ_from_the_item(copied: Callable[[str], Path]) -> None:
    folder = copied("cog")
    (folder / "preview.png").write_bytes(b"another")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    digest = subprocess.check_output(["sha256sum", str(folder / "preview.png")], text=True).split()[0]  # noqa: S607
    changed = [f"{digest}  preview.png" if line.endswith("preview.png") else line for line in lines]
    (folder / "SHA256SUMS").write_text("\n".join(changed) + "\n")
    assert [fault.split(",")[0] for fault in check_sums(folder)] == ["./preview.png", "./SHA256SUMS"]


def test_a_folder_without_digests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="has no SHA256SUMS"):
        check_sums(tmp_path)


def test_the_command_names_each_fault_and_exits_with_1(copied: Callable[[str], Path], run: Callable[..., Done]) -> None:
    folder = copied("cog")
    assert run("verify", folder, "--checksums").code == 0
    raster = folder / f"{folder.name}.tif"
    raster.write_bytes(raster.read_bytes()[:-1] + b"!")
    done = run("verify", raster, "--checksums")
    assert done.code == 1
    assert f"{raster.name} is damaged" in done.err
    assert "is damaged in 1 place. Build it again with --overwrite." in done.err.splitlines()[-1]


def test_the_command_refuses_what_is_not_there(copied: Callable[[str], Path], run: Callable[..., Done]) -> None:
    done = run("verify", copied("cog") / "typo.tif", "--checksums")
    assert (done.code, done.out) == (1, "")
    assert "typo.tif does not exist" in done.err


@pytest.mark.parametrize("form", ["cog", "zarr"])
def test_statistics_of_gdal_are_nobodys_damage(copied: Callable[[str], Path], form: str) -> None:
    folder = copied(form)
    raster = next(path for path in folder.iterdir() if path.suffix in {".tif", ".zarr"})
    for place in (raster.with_name(f"{raster.name}.aux.xml"), folder / "preview.png.aux.xml"):
        place.write_text("<PAMDataset/>")
    assert check_sums(folder) == []


def test_one_damaged_file_is_told_once(copied: Callable[[str], Path]) -> None:
    folder = copied("cog")
    (folder / "preview.png").write_bytes(b"short")
    (folder / "reduction.safetensors").write_bytes(b"new")
    (folder / f"{folder.name}.tif").unlink()
    assert sorted(fault.split()[0] for fault in check_sums(folder)) == [
        "preview.png", "reduction.safetensors", f"{folder.name}.tif",
    ]  # fmt: skip


def test_a_damaged_certificate_can_be_made_anew(copied: Callable[[str], Path]) -> None:
    folder = copied("cog")
    (folder / "certificate.json").write_text("{")
    assert check_sums(folder) == ["certificate.json does not belong to the field ('embedfield verify' makes it anew)"]


@pytest.mark.parametrize("text", [b"\xff\xfe", None])
def test_digests_that_cannot_be_read_are_refused(copied: Callable[[str], Path], text: bytes | None) -> None:
    sums = copied("cog") / "SHA256SUMS"
    sums.unlink()
    if text is None:
        sums.mkdir()
    else:
        sums.write_bytes(text)
    with pytest.raises(FormatError, match="SHA256SUMS cannot be read"):
        check_sums(sums.parent)


@pytest.mark.parametrize("text", [b"", b"\n", b"junk\n", b"a  b\x00\n", "a  \u2028\x1b[1m\n".encode(), b"a  ../../x\n"])
def test_digests_that_are_junk_are_faults_in_printable_lines(copied: Callable[[str], Path], text: bytes) -> None:
    folder = copied("cog")
    (folder / "SHA256SUMS").write_bytes(text)
    found = check_sums(folder)
    assert f"{folder.name}.tif does not belong to the field" in found
    assert all(fault.isprintable() for fault in found)


ITEMS = [
    b"\xff", b"", b"[]", b"1", b'"assets"', b"{}", b"[" * 100_000,
    b'{"assets": null}', b'{"assets": []}', b'{"assets": {}}', b'{"assets": 1}', b'{"assets": "embeddings"}',
]  # fmt: skip


@pytest.mark.parametrize("text", ITEMS, ids=range(len(ITEMS)))
def test_an_item_that_is_none_is_a_fault(copied: Callable[[str], Path], text: bytes) -> None:
    folder = copied("cog")
    (folder / f"{folder.name}.json").write_bytes(text)
    (fault,) = check_sums(folder)
    assert fault.startswith(f"{folder.name}.json is damaged: ")


@pytest.mark.parametrize(
    ("asset", "fault"),
    [
        (1, "its asset 'preview' has no href"),
        ({}, "its asset 'preview' has no href"),
        ({"href": 3}, "its asset 'preview' has no href"),
        ({"href": "../../../etc/passwd"}, "leads out of the field"),
        ({"href": "/etc/passwd"}, "leads out of the field"),
        ({"href": "."}, "leads out of the field"),
        ({"href": "./another.png"}, "is missing"),
        ({"href": "x" * 5000}, "cannot be read"),
        ({"href": "a\x00b"}, ", the asset 'preview', "),
        ({"href": "\ud800"}, ", the asset 'preview', "),
        ({"href": "./preview.png", "file:size": "1", "file:checksum": []}, "its size or digest differs"),
    ],
)
def test_an_asset_of_any_kind_is_a_fault_in_one_line(copied: Callable[[str], Path], asset: object, fault: str) -> None:
    folder = copied("cog")
    path = folder / f"{folder.name}.json"
    item = json.loads(path.read_text())
    path.write_text(json.dumps(item | {"assets": item["assets"] | {"preview": asset}}))
    (found,) = check_sums(folder)
    assert fault in found
    assert found.isprintable()
    assert len(found) < 300
