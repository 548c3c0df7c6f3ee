"""Folders in object storage: what is put there is whole, what goes wrong is said, and fields there are read."""

from __future__ import annotations

import json
import pickle
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from fields import ArrayField, bumpy
from s3 import CLOSED, SEALED, Cloud, bucket, cloud, upload

from embedfield import accessor
from embedfield.errors import FormatError, StorageError
from embedfield.formats import cog, open_field, write_field
from embedfield.formats.address import Address
from embedfield.formats.bucket import PART, Bucket, NetworkFolder
from embedfield.formats.bucket_journal import BucketJournal
from embedfield.verify import verify_field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Done

    from embedfield.evaluate import EncodedField

__all__ = ["accessor", "bucket", "cloud"]
PLACES = np.array([[-9.42, 49.77], [-9.41, 49.76], [-6.01, 45.03]])


@pytest.fixture
def there(bucket: str) -> Bucket:
    """A folder of a new bucket."""
    return Bucket.of(f"s3://{bucket}/some/where")


# Objects.


def test_what_is_put_is_listed_read_and_deleted(there: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    there.put("a/bytes", b"as they are")
    there.put("a/b/file", tmp_path / "file")
    there.put("ab", b"")
    assert there.sizes() == {"a/bytes": 11, "a/b/file": 11, "ab": 0}
    assert there.sizes("a") == {"a/bytes": 11, "a/b/file": 11}
    objects, folders = there.look("a")
    assert (list(objects), folders) == (["a/bytes"], ["a/b"])
    assert there.read("a/b/file") == b"from a file"
    assert there.inside("a").read("bytes") == b"as they are"
    there.delete(["a/bytes", "never there"])
    there.clear("a")
    assert there.sizes() == {"ab": 0}


def test_a_file_is_fetched_whole_or_not_at_all(there: Bucket, tmp_path: Path) -> None:
    there.put("file", b"data")
    assert there.get("file", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert not there.get("nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert (there.exists("file"), there.exists("nothing")) == (True, False)


def test_a_large_file_goes_in_parts_and_arrives_as_it_was(there: Bucket, tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(2 * PART + 12_345)
    (tmp_path / "large").write_bytes(data)
    there.put("large", tmp_path / "large")
    assert b"".join(there.pieces("large")) == data
    # What was put in parts has a tag that ends in their number.
    assert str(there.objects()["large"].version["e_tag"]).strip('"').endswith("-3")


def test_an_object_is_replaced_only_if_it_is_the_one_that_was_seen(there: Bucket) -> None:
    first = there.replace("document", b"1", None)
    assert first
    assert there.replace("document", b"mine", None) is None
    found = there.find("document")
    assert found == (b"1", first)
    second = there.replace("document", b"2", first)
    assert second
    assert there.replace("document", b"late", first) is None
    assert there.find("document") == (b"2", second)
    assert there.find("nothing") is None


def test_a_bucket_pickles_as_its_address(there: Bucket) -> None:
    there.put("a", b"1")
    again = pickle.loads(pickle.dumps(there))  # noqa: S301  our own
    assert (str(again), again.read("a")) == (str(there), b"1")


@pytest.mark.parametrize("text", ["s3://{}", "s3://{}/", "S3://{}/deep/er", "s3://{}/deep/er/"])
def test_a_folder_may_be_a_whole_bucket(bucket: str, text: str) -> None:
    found = Bucket.of(text.format(bucket))
    found.put("x/y", b"1")
    store = Bucket.of(f"s3://{bucket}")
    assert str(found) == text.format(bucket).lower().rstrip("/")
    assert store.sizes() == {("deep/er/x/y" if "deep" in text else "x/y"): 1}
    assert str(found.address.inside("x/y")) == f"{found}/x/y"


# What goes wrong.


@pytest.mark.parametrize("text", ["ftp://a/b", "s3://", "s3:///a", "s3://a/../b", "folder"])
def test_what_can_be_no_folder_on_a_network_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="not known here|names no file or folder"):
        Bucket.of(text)


def test_the_web_is_only_read() -> None:
    with pytest.raises(FormatError, match=r"https://example\.org/a is on the web.*s3://, gs://, az://"):
        Bucket.of("https://example.org/a")


WRITES: dict[str, Callable[[Bucket], object]] = {
    "put": lambda there: there.put("a", b"1"),
    "parts": lambda there: there.put("a", b"1" * (PART + 1)),
    "replace": lambda there: there.replace("a", b"1", None),
    "delete": lambda there: there.delete(["a"]),
}
READS: dict[str, Callable[[Bucket], object]] = {
    "read": lambda there: there.read("a"),
    "find": lambda there: there.find("a"),
    "list": Bucket.sizes,
    "look": Bucket.look,
}


@pytest.mark.parametrize("how", [*WRITES, *READS])
def test_a_bucket_that_is_not_there_is_named(bucket: str, how: str) -> None:
    error = StorageError if how in WRITES else FormatError
    with pytest.raises(error, match="there is no bucket 'never-made'. Make it, or look at its name"):
        (WRITES | READS)[how](Bucket.of("s3://never-made/a"))


@pytest.mark.parametrize("how", WRITES)
def test_a_bucket_that_may_not_be_written_says_so(cloud: Cloud, bucket: str, how: str) -> None:
    there = Bucket.of(f"s3://{cloud.bucket(CLOSED)}/a")
    with pytest.raises(StorageError, match="may not be written: permission is denied. Set AWS_ACCESS_KEY_ID"):
        WRITES[how](there)
    assert there.sizes() == {}


@pytest.mark.parametrize("how", READS)
def test_a_bucket_that_may_not_be_listed_says_so(cloud: Cloud, bucket: str, how: str) -> None:
    with pytest.raises(FormatError, match="may not be read, or does not exist: permission is denied"):
        READS[how](Bucket.of(f"s3://{cloud.bucket(SEALED)}/a"))


@pytest.mark.parametrize("how", WRITES)
def test_a_server_that_does_not_answer_is_named(bucket: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"s3://a/b/a cannot be written.*give the same command to go on"):
        WRITES[how](Bucket.of("s3://a/b"))


def test_a_file_that_is_not_there_is_no_matter_of_the_bucket(there: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        there.put("a", tmp_path / "nothing")


# The journal.


def entry(unit: str, size: int = 3, *names: str) -> Any:
    return {"unit": unit, "saturated": 7, "bytes": size, "sha256": dict.fromkeys(names or (f"{unit}.tif",), "ab" * 32)}


def test_units_that_were_entered_are_done_for_whoever_goes_on(there: Bucket) -> None:
    with BucketJournal(there, {}) as journal:
        journal.enter(entry("a"), entry("b", 5, "b/0", "b/1"))
        journal.enter(entry("empty", 0, *()) | {"sha256": {}})
        assert journal.done("a") == entry("a")
    again = BucketJournal(there, {"a.tif": 3, "b/0": 2, "b/1": 3, "other": 9})
    assert again.entries == [entry("a"), entry("b", 5, "b/0", "b/1"), entry("empty") | {"bytes": 0, "sha256": {}}]
    assert again.digests == dict.fromkeys(["a.tif", "b/0", "b/1"], "ab" * 32)
    assert again.done("c") is None


@pytest.mark.parametrize("sizes", [{}, {"a.tif": 2}])
def test_a_unit_whose_files_are_not_there_as_they_were_is_not_done(there: Bucket, sizes: dict[str, int]) -> None:
    with BucketJournal(there, {}) as journal:
        journal.enter(entry("a"))
    assert BucketJournal(there, sizes).entries == []


def test_what_was_entered_is_kept_whatever_ends_a_build(there: Bucket) -> None:
    def stopped() -> None:
        with BucketJournal(there, {}) as journal:
            journal.enter(entry("a"))
            journal.enter(entry("b"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(BucketJournal(there, {"a.tif": 3, "b.tif": 3}).entries) == 2


def test_batches_are_put_from_time_to_time_and_not_for_each_unit(
    there: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    journal = BucketJournal(there, {})
    for number in range(1000):
        now[0] += 0.1
        journal.enter(entry(f"u{number}"))
    assert 10 <= len(there.sizes()) <= 21
    journal.flush()
    assert len(BucketJournal(there, {f"u{number}.tif": 3 for number in range(1000)}).entries) == 1000


def test_two_processes_have_batches_of_their_own_and_the_later_entry_holds(there: Bucket) -> None:
    for size in (3, 4):
        with BucketJournal(there, {}) as journal:
            journal.enter(entry("a", size))
    names = sorted(there.objects(), key=lambda name: (there.objects()[name].written, name))
    assert len(names) == 2
    last = json.loads(there.read(names[-1]))
    assert BucketJournal(there, {"a.tif": last["bytes"]}).entries == [last]


def test_a_batch_that_is_damaged_is_as_if_it_had_not_been_done(there: Bucket) -> None:
    lines = [b"{", b"[]", b'{"unit": "b"}', b'{"unit": "c", "saturated": 0, "bytes": 1, "sha256": 3}', b"\xff"]
    whole = json.dumps(entry("a")).encode()
    there.put("journal/damaged-000001.jsonl", b"\n".join([*lines, whole]))
    assert BucketJournal(there, {"a.tif": 3}).entries == [entry("a")]


# Fields.


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fields of every kind."""
    root = tmp_path_factory.mktemp("fields")
    field = ArrayField(bumpy(3, 60, 70))
    found = {
        "cog": write_field(field, root / "field.tif"),
        "zarr": write_field(field, root / "field.zarr"),
        "flat": write_field(field, root / "flat.zarr", layout="flat", dtype="int16"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "BUDGET", 3 * 32**2 - 1)
        patch.setattr(cog, "TILE_BUDGET", 3 * 32**2)
        patch.setattr(cog, "BLOCKSIZE", 32)
        found["tiles"] = write_field(field, root / "tiles.tif")
    return {kind: each.disk_path for kind, each in found.items()}


@pytest.mark.parametrize("kind", ["cog", "zarr", "flat", "tiles"])
def test_a_field_in_a_bucket_is_read_as_it_is_on_the_disk(
    stored: dict[str, Path], there: Bucket, kind: str, run: Callable[..., Done], tmp_path: Path
) -> None:
    upload(there, stored[kind].parent)
    address = f"{there}/{stored[kind].name}"
    with open_field(stored[kind]) as wanted, open_field(address) as found:
        np.testing.assert_array_equal(found.read(), wanted.read())
        again = pickle.loads(pickle.dumps(found))  # noqa: S301  our own
        np.testing.assert_array_equal(again.at(PLACES), wanted.at(PLACES))
        assert found.describe() | {"file": ""} == wanted.describe() | {"file": ""}
    with xr.open_dataset(address, engine="embedfield") as dataset:
        assert dataset.sizes["y"] == 60
    (tmp_path / "places.csv").write_text("lon,lat\n-9.42,49.77\n-6.01,45.03\n")
    sampled = [
        run("sample", name, "places.csv", "-o", out) for name, out in ((address, "a.csv"), (stored[kind], "b.csv"))
    ]
    assert [done.code for done in sampled] == [0, 0], sampled
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert address in "".join(run("info", address).out.split())


def test_a_field_in_a_bucket_is_held_against_its_encoder(
    make_field: Callable[..., EncodedField], there: Bucket, tmp_path: Path
) -> None:
    field = make_field(5.0)
    write_field(field, tmp_path / "field.zarr")
    upload(there, tmp_path)
    with open_field(tmp_path / "field.zarr") as here, open_field(f"{there}/field.zarr") as found:
        assert verify_field(found, field.evaluator).lines == verify_field(here, field.evaluator).lines


def test_a_zarr_is_no_field_before_its_last_object_is_there(stored: dict[str, Path], there: Bucket) -> None:
    upload(there, stored["zarr"].parent)
    there.delete(["field.zarr/zarr.json"])
    with pytest.raises(FormatError, match=r"field\.zarr does not exist"):
        open_field(f"{there}/field.zarr")


def test_shards_without_values_need_a_bucket_that_may_be_listed(
    cloud: Cloud, bucket: str, stored: dict[str, Path]
) -> None:
    # Of what is not there such a bucket says that it may not be read.
    for kind in ("", SEALED):
        there = Bucket.of(f"s3://{cloud.bucket(kind)}/flat.zarr")
        upload(there, stored["flat"])
        there.delete(["embedding/c/0/0/0"])
        with open_field(str(there)) as field:
            if kind:
                with pytest.raises(FormatError, match="permission is denied"):
                    field.read()
            else:
                assert np.isnan(field.read()[:, :, :64]).all()


def test_addresses_of_folders_are_those_of_files_above_them() -> None:
    assert Address.of_folder("https://example.org/a b/?key=1").path == "a%20b"
    assert NetworkFolder(Address.of_folder("gs://bucket")).address == Address("gs", "bucket", "")
