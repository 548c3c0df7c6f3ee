"""Catalogues in object storage: entered, listed, checked, mended, by several at once, and read on the web."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from range_server import serving
from s3 import CLOSED, SEALED, Cloud, bucket, cloud, upload

from embedfield.build import build_field
from embedfield.catalog import Catalog, add_to_catalog, check_catalog, is_entered
from embedfield.catalog.change import changed
from embedfield.catalog.mirror import Mirror
from embedfield.errors import BusyError, FormatError, OutputExistsError, StorageError
from embedfield.formats import cog, open_field
from embedfield.formats.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from conftest import Done

__all__ = ["bucket", "cloud"]
# What is built, by the name of the raster.
CALLS: dict[str, dict[str, Any]] = {
    "xyz/xyz-30deg-cog-uint8/xyz-30deg-cog-uint8.tif": {"model": "xyz", "res": 30},
    "xyz/xyz-30deg-zarr-int16-flat/xyz-30deg-zarr-int16-flat.zarr": {
        "model": "xyz",
        "res": 30,
        "format": "zarr",
        "dtype": "int16",
        "layout": "flat",
    },
    "sh-l10/sh-l10-pca4-10deg-zarr-uint8/sh-l10-pca4-10deg-zarr-uint8.zarr": {
        "model": "sh-l10",
        "res": 10,
        "format": "zarr",
        "pca": 4,
    },
    "xyz/xyz-1deg-cog-uint8/xyz-1deg-cog-uint8.vrt": {"model": "xyz", "res": 1},
}
# What differs between two items of one field.
OWN_TIMES = {"created", "datetime", "processing:datetime", "emb:runtime_parameters"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue on the disk, one of its fields in tiles."""
    root = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 3 * 128**2 - 1)
        patch.setattr(cog, "TILE_BUDGET", 3 * 128**2)
        for asked in CALLS.values():
            build_field(**asked, out=root, verify=False)
    return root


@pytest.fixture
def there(bucket: str) -> Bucket:
    """A folder of a new bucket."""
    return Bucket.of(f"s3://{bucket}/catalogues/mine")


@pytest.fixture
def entered(there: Bucket, built: Path) -> Bucket:
    """The catalogue in a bucket."""
    upload(there, built)
    return there


def put_field(there: Bucket, built: Path, name: str) -> None:
    """Put all of a field there but its item."""
    folder = name.rpartition("/")[0]
    upload(there.inside(folder), built / folder)
    there.delete([item_name(name)])


def item_name(name: str) -> str:
    folder = name.rpartition("/")[0]
    return f"{folder}/{folder.rpartition('/')[2]}.json"


def enter(there: Bucket, name: str) -> None:
    with open_field(f"{there}/{name}") as field:
        add_to_catalog(there, field, {"device": "cpu"})


def said(data: bytes) -> Any:
    item = json.loads(data)
    return item | {"properties": {name: told for name, told in item["properties"].items() if name not in OWN_TIMES}}


def assert_whole(there: Bucket, *names: str) -> None:
    """Check that a catalogue has some fields and no others, and no fault."""
    found = Catalog(str(there)).entries()
    assert sorted(entry.href for entry in found) == sorted(f"{there}/{name}" for name in names)
    assert Catalog(str(there)).validate() == []


def test_a_field_is_entered_as_it_is_on_the_disk(there: Bucket, built: Path) -> None:
    for name in CALLS:
        put_field(there, built, name)
        with open_field(f"{there}/{name}") as field:
            check_catalog(there, field.card.name)
            assert not is_entered(there, field)
            add_to_catalog(there, field, {"device": "cpu"})
            assert is_entered(there, field)
        assert said(there.read(item_name(name))) == said((built / item_name(name)).read_bytes())
    assert_whole(there, *CALLS)
    # No bookkeeping, and nothing that stood in for something.
    assert {name for name in there.sizes() if "/." in f"/{name}"} == set()
    with open_field(f"{there}/{next(iter(CALLS)).rpartition('/')[0]}") as field:
        assert field.card.name == "xyz"


def test_an_item_that_is_there_already_keeps_what_it_says_of_the_run(entered: Bucket) -> None:
    name = next(iter(CALLS))
    before = entered.read(item_name(name))
    enter(entered, name)
    assert entered.read(item_name(name)) == before


def test_builds_that_finish_at_once_are_all_entered(there: Bucket, built: Path) -> None:
    for name in CALLS:
        put_field(there, built, name)
    with ThreadPoolExecutor(len(CALLS)) as pool:
        list(pool.map(lambda name: enter(there, name), CALLS))
    assert_whole(there, *CALLS)


def test_whoever_comes_second_does_it_again_with_what_is_there_by_then(there: Bucket, built: Path) -> None:
    first, second, *_ = CALLS
    for name in (first, second):
        put_field(there, built, name)
    enter(there, first)
    turns = 0

    def change(mirror: Mirror) -> str:
        nonlocal turns
        turns += 1
        if turns == 1:  # another process is quicker
            enter(there, second)
        path = mirror.folder / "xyz" / "collection.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"title": "Mine"}))
        return path.read_text()

    answer = changed(there, change, [])
    assert (turns, there.read("xyz/collection.json").decode()) == (2, answer)
    assert second.split("/")[1] in answer
    assert_whole(there, first, second)


@pytest.mark.parametrize("own", ["xyz", "sh-l10"])
@pytest.mark.parametrize("step", ["follow", "collection.json", "catalog.json", "items.parquet"])
def test_a_field_that_another_process_enters_between_two_steps_is_in_the_table_too(
    there: Bucket, built: Path, monkeypatch: pytest.MonkeyPatch, own: str, step: str
) -> None:
    names = [name for name in CALLS if "1deg" not in name]
    for name in names:
        put_field(there, built, name)
    enter(there, names[0])
    mine, other = sorted(names[1:], key=lambda name: not name.startswith(f"{own}/"))
    # Steps that are still to come before the other process is quicker.
    coming = [step]

    def come(at: str) -> None:
        if coming == [at]:
            coming.clear()
            enter(there, other)

    follow, replace = Mirror.follow, Bucket.replace

    def following(self: Mirror, models: Iterable[str] = ()) -> None:
        follow(self, models)
        come("follow")

    def replacing(self: Bucket, name: str, *rest: Any) -> Any:
        come(name.rpartition("/")[2])
        return replace(self, name, *rest)

    monkeypatch.setattr(Mirror, "follow", following)
    monkeypatch.setattr(Bucket, "replace", replacing)
    enter(there, mine)
    if coming:  # the catalogue led to the collection already
        assert (own, step) == ("xyz", "catalog.json")
        enter(there, other)
    assert_whole(there, *names)


def test_a_change_that_is_overtaken_each_time_ends_with_an_error(
    entered: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedfield.catalog.change.WAIT", 0)
    turns = 0

    def change(mirror: Mirror) -> None:
        nonlocal turns
        turns += 1
        entered.put("catalog.json", json.dumps({"title": str(turns)}).encode())
        (mirror.folder / "catalog.json").write_text("mine")

    with pytest.raises(BusyError, match="Other processes change s3://"):
        changed(entered, change, [])
    assert json.loads(entered.read("catalog.json")) == {"title": str(turns)}


def test_a_field_whose_entering_was_stopped_halfway_is_entered_by_the_next(
    there: Bucket, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = CALLS
    for name in (first, second):
        put_field(there, built, name)
    replace = Bucket.replace

    def stops(self: Bucket, name: str, *rest: Any) -> Any:
        if name == "catalog.json":
            raise StorageError("stopped")
        return replace(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "replace", stops)
        with pytest.raises(StorageError, match="stopped"):
            enter(there, first)
    with open_field(f"{there}/{first}") as field:
        assert not is_entered(there, field)
    enter(there, second)
    assert_whole(there, first, second)


def test_a_bucket_that_may_not_be_written_says_so(cloud: Cloud, entered: Bucket) -> None:
    closed = Catalog(f"s3://{cloud.bucket(CLOSED)}")
    with pytest.raises(StorageError, match="may not be written: permission is denied"):
        closed.add(f"{entered}/{next(iter(CALLS))}")


def test_commands_take_an_address(entered: Bucket, run: Callable[..., Done]) -> None:
    found = run("catalog", "list", "--catalog", entered, "--json")
    assert found.code == 0, found
    assert {entry["href"] for entry in json.loads(found.out)} == {f"{entered}/{name}" for name in CALLS}
    assert all(entry["path"].startswith(f"{entered}/") for entry in json.loads(found.out))


def test_a_catalogue_that_may_not_be_listed_can_be_read(cloud: Cloud, bucket: str, built: Path) -> None:
    there = Bucket.of(f"s3://{cloud.bucket(SEALED)}/mine")
    upload(there, built)
    assert len(Catalog(str(there)).entries("xyz")) == 3
    with pytest.raises(FormatError, match="permission is denied"):
        Catalog(str(there)).validate()


def test_a_catalogue_on_the_web_can_be_read(built: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        shutil.copytree(built, server.root / "mine", ignore=shutil.ignore_patterns(".*"))
        entries = Catalog(f"{server.url}/mine").entries()
        assert {entry.href for entry in entries} == {f"{server.url}/mine/{name}" for name in CALLS}
        with pytest.raises(FormatError, match="on the web"):
            Catalog(f"{server.url}/mine").rebuild()
        with pytest.raises(FormatError, match="holds no catalogue"):
            Catalog(f"{server.url}/other").entries()


def test_what_is_wrong_is_found_by_its_name(entered: Bucket) -> None:
    cog_name, flat, pca, tiles = CALLS
    entered.put(cog_name, entered.read(cog_name)[:-1] + b"?")
    shard = next(name for name in entered.sizes() if name.startswith(f"{flat}/embedding/c/"))
    entered.put(shard, entered.read(shard) + b"more")
    entered.delete([f"{pca.rpartition('/')[0]}/preview.png", item_name(tiles)])
    found = "\n".join(map(str, Catalog(str(entered)).validate()))
    assert f"{cog_name.rpartition('/')[2]} is damaged" in found
    assert f"{shard.removeprefix(flat.rpartition('/')[0] + '/')} is damaged" in found
    assert "preview.png is missing" in found
    assert "leads nowhere" in found
    without = "\n".join(map(str, Catalog(str(entered)).validate(checksums=False)))
    assert "is damaged" not in without
    assert "bytes and not" in without


def test_a_catalogue_is_made_anew_from_what_is_there(entered: Bucket, built: Path) -> None:
    items = {name: entered.read(item_name(name)) for name in CALLS}
    entered.delete(["catalog.json", "items.parquet", "xyz/collection.json"])
    assert Catalog(str(entered)).rebuild() == []
    assert_whole(entered, *CALLS)
    assert {name: entered.read(item_name(name)) for name in CALLS} == items


def test_a_field_is_taken_out_and_registered_again(entered: Bucket) -> None:
    name = "xyz/xyz-30deg-zarr-int16-flat/xyz-30deg-zarr-int16-flat.zarr"
    rest = [each for each in CALLS if each != name]
    before = entered.sizes()
    there = Catalog(str(entered))
    assert str(there.remove("xyz-30deg-zarr-int16-flat")) == f"{entered}/{name.rpartition('/')[0]}"
    assert_whole(entered, *rest)
    assert before.keys() - entered.sizes().keys() == {item_name(name)}
    assert str(there.add(f"{entered}/{name}")) == f"{entered}/{item_name(name)}"
    with pytest.raises(OutputExistsError, match=f"{entered}/{item_name(name)} exists"):
        there.add(f"{entered}/{name}")
    assert_whole(entered, *CALLS)
    there.remove("xyz-30deg-zarr-int16-flat", delete=True)
    assert [left for left in entered.sizes() if left.startswith(name.rpartition("/")[0])] == []
    assert_whole(entered, *rest)


def test_the_last_field_of_a_model_takes_its_collection_along(entered: Bucket) -> None:
    Catalog(str(entered)).remove("sh-l10-pca4-10deg-zarr-uint8", delete=True)
    assert entered.sizes("sh-l10") == {}
    assert_whole(entered, *(name for name in CALLS if name.startswith("xyz")))


def test_a_field_elsewhere_is_registered_by_its_address_alone(entered: Bucket, there: Bucket, built: Path) -> None:
    other = Bucket.of(str(there).replace("mine", "other"))
    name = next(iter(CALLS))
    Catalog(str(other)).add(f"{entered}/{name}")
    (found,) = Catalog(str(other)).entries()
    assert (found.href, Catalog(str(other)).validate()) == (f"{entered}/{name}", [])
    with pytest.raises(FormatError, match="lies on this disk"):
        Catalog(str(other)).add(built / name)
    Catalog(str(other)).remove(found.id)
    assert entered.exists(name)
