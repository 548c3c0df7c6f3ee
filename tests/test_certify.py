"""Certify: what was found is kept in the field's own folder, and hides no damage that is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embedfield import certify as certifying
from embedfield.build import build_field
from embedfield.certify import certify
from embedfield.errors import FormatError, StorageError
from embedfield.formats import raster_in
from embedfield.integrity import check_sums, update_sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Done

FORMS: dict[str, dict[str, Any]] = {"cog": {}, "zarr": {"format": "zarr"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a catalogue with a field of each form, without certificates."""
    root = tmp_path_factory.mktemp("built") / "catalog"
    for asked in FORMS.values():
        build_field("xyz", 10, out=root, device="cpu", verify=False, **asked).close()
    return root


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of copies of a field, in a catalogue."""

    def copy(form: str) -> Path:
        root = Path(shutil.copytree(built, tmp_path / "catalog", dirs_exist_ok=True))
        return root / "xyz" / f"xyz-10deg-{form}-uint8"

    return copy


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(folder: Path) -> str:
    """Change a field so that it can still be read; return the name of the file."""
    shards = sorted(folder.glob("*.zarr/embedding/c/*/*/*"))
    if shards:
        shards[0].unlink()
        return str(shards[0].relative_to(folder))
    raster = folder / f"{folder.name}.tif"
    raster.write_bytes(raster.read_bytes() + b"!")
    return raster.name


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_field_stays_sound_and_its_item_tells_of_the_certificate(
    copied: Callable[[str], Path], form: str
) -> None:
    folder = copied(form)
    for places in (20, 30):  # the second is kept in place of the first
        certificate, kept = certify(folder, places=places)
        assert kept == folder / "certificate.json"
        assert check_sums(folder) == []
        item = json.loads((folder / f"{folder.name}.json").read_text())
        summary = json.loads(json.dumps(certificate.to_dict()["summary"]))
        assert item["properties"]["embedfield:certificate"] == summary


@pytest.mark.parametrize("form", FORMS)
def test_verifying_a_damaged_field_does_not_hide_the_damage(copied: Callable[[str], Path], form: str) -> None:
    folder = copied(form)
    name = damage(folder)
    (folder / "preview.png").write_bytes(b"junk")
    (folder / "stranger.txt").write_text("mine")
    before = check_sums(folder)
    assert len(before) == 3
    certify(folder, places=20)
    assert check_sums(folder) == before
    assert any(name in fault for fault in before)


@pytest.mark.parametrize("form", FORMS)
def test_digests_that_were_changed_with_a_file_are_still_found_by_the_item(
    copied: Callable[[str], Path], form: str
) -> None:
    folder = copied(form)
    (folder / "preview.png").write_bytes(b"another")
    update_sums(folder, ["preview.png"])
    before = check_sums(folder)
    assert {fault.split(",")[0] for fault in before} >= {"./preview.png", "./SHA256SUMS"}
    certify(folder, places=20)
    assert check_sums(folder) == before


def test_a_verification_that_was_killed_before_the_item_is_mended_by_the_next(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("zarr")
    with monkeypatch.context() as patch:
        patch.setattr(certifying, "refresh", lambda *_: None)
        certify(folder, places=20)
    assert check_sums(folder) != []
    certify(folder, places=30)
    assert check_sums(folder) == []


def test_a_field_is_verified_from_within_its_folder(
    copied: Callable[[str], Path], run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("cog")
    monkeypatch.chdir(folder)
    done = run("verify", ".", "--places", 20, "--device", "cpu")
    assert (done.code, done.out) == (0, "certificate.json\n")
    assert check_sums(Path()) == check_sums(folder) == []
    for path in (".", f"{folder.name}.tif", f"../{folder.name}"):
        assert run("verify", path, "--checksums").code == 0


def test_beside_a_raster_without_a_folder_of_its_own_nothing_is_written(
    copied: Callable[[str], Path], run: Callable[..., Done], tmp_path: Path
) -> None:
    other, raster = tmp_path / "other", raster_in(copied("cog"))
    other.mkdir()
    shutil.copy(raster, other)
    (other / "certificate.json").write_text("mine")
    before = content(other)
    assert certify(other / raster.name, places=20)[1] is None
    done = run("verify", other / raster.name, "--places", 20, "--device", "cpu")
    assert (done.code, done.out) == (0, "")
    assert "Nothing was kept: " in done.err.splitlines()[-1]
    assert content(other) == before


def test_digests_of_somebody_else_are_left_alone(copied: Callable[[str], Path], tmp_path: Path) -> None:
    raster = raster_in(copied("cog"))
    folder = tmp_path / raster.stem
    folder.mkdir()
    shutil.copy(raster, folder)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  thesis.pdf\n")
    before = content(folder)
    assert certify(folder, places=20)[1] is None
    assert content(folder) == before


def test_digests_that_cannot_be_read_stop_it_before_anything_is_written(copied: Callable[[str], Path]) -> None:
    folder = copied("cog")
    (folder / "SHA256SUMS").write_bytes(b"\xff")
    before = content(folder)
    with pytest.raises(FormatError, match="SHA256SUMS cannot be read"):
        certify(folder, places=20)
    assert content(folder) == before


def test_a_full_disk_is_told_in_one_line(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = copied("cog")
    monkeypatch.setattr(certifying, "write_certificate", full)
    with pytest.raises(StorageError, match=r"Cannot write .*: No space left on device\. Make room") as caught:
        certify(folder, places=20)
    assert "\n" not in str(caught.value)
    assert check_sums(folder) == []
