"""Builds into a bucket: the bytes of a build onto a disk, by one process or several, stopped or not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rasterio
import zarr
from s3 import CLOSED, Cloud, bucket, cloud
from small import Small, make_small

import embedfield as ef
from embedfield.builder import Builder
from embedfield.cluster import Alone, cluster_of
from embedfield.errors import FormatError, OutputExistsError, StorageError
from embedfield.formats.bucket import Bucket
from embedfield.formats.geozarr import store_of
from embedfield.spread import Spread, portable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bucket", "cloud"]
HERE = Path(__file__).parent
KINDS: dict[str, dict[str, Any]] = {
    "tiles": {"model": "sh-l10", "res": 1, "bounds": (100, -90, 290, 50)},
    "one file": {"model": "xyz", "res": 10, "dtype": "float32"},
    "zarr": {"model": "sh-l10", "res": 1, "format": "zarr"},
    "flat": {"model": "xyz", "res": 3, "format": "zarr", "layout": "flat"},
    "components": {"model": "sh-l10", "res": 1, "pca": 7, "dtype": "int16"},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


def contents(out: str, field: Path) -> dict[str, str]:
    """Return the digests of what lies in a catalogue's bucket in a field's folder, but for its item."""
    found = Bucket.of(f"{out}/{field.parent.name}/{field.name}")
    return {
        name: hashlib.sha256(found.read(name)).hexdigest() for name in found.sizes() if name != f"{field.name}.json"
    }


def assert_same(out: str, field: Path) -> None:
    """Hold a field in a bucket against one on the disk, object by object, and see that nothing is left beside it."""
    files = [path for path in field.rglob("*") if path.is_file() and path != field / f"{field.name}.json"]
    assert contents(out, field) == {
        path.relative_to(field).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    assert not [name for name in Bucket.of(out).sizes() if "/." in name]
    assert ef.Catalog(out).validate() == []
    assert [(entry.model, entry.id) for entry in ef.Catalog(out).entries()] == [(field.parent.name, field.name)]
    held = {key: (asset["file:size"], asset["file:checksum"]) for key, asset in assets(out, field).items()}
    assert held == {
        key: (asset["file:size"], asset["file:checksum"])
        for key, asset in json.loads((field / f"{field.name}.json").read_text())["assets"].items()
    }


def assets(out: str, field: Path) -> dict[str, Any]:
    """Return the assets of the item of a field in a bucket."""
    item: dict[str, Any] = json.loads(Bucket.of(out).read(f"{field.parent.name}/{field.name}/{field.name}.json"))
    return dict(item["assets"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_into_a_bucket_has_the_bytes_of_one_onto_a_disk(kind: str, bucket: str, tmp_path: Path) -> None:
    plain = ef.build_field(**KINDS[kind], out=tmp_path)
    out = f"s3://{bucket}/some/catalog"
    with ef.build_field(**KINDS[kind], out=out) as field:
        assert (field.read() == plain.read())[~_nan(plain.read())].all()
        again = ef.build_field(**KINDS[kind], out=out)
        assert again.path == field.path
    assert_same(out, plain.disk_path.parent)


def _nan(values: Any) -> Any:
    return values != values  # noqa: PLR0124  NaN is no number that equals itself


@pytest.mark.parametrize("kind", ["tiles", "zarr"])
def test_a_cluster_builds_into_a_bucket(kind: str, bucket: str, tmp_path: Path) -> None:
    plain = ef.build_field(**KINDS[kind], out=tmp_path)
    with cluster_of("local:2") as cluster:
        cluster.client.register_plugin(Small())
        ef.build_field(**KINDS[kind], out=f"s3://{bucket}", client=cluster.client)
    assert_same(f"s3://{bucket}", plain.disk_path.parent)


def test_gdal_and_zarr_open_what_was_built(bucket: str) -> None:
    cog = ef.build_field(**KINDS["tiles"], out=f"s3://{bucket}")
    with (
        rasterio.Env(AWS_S3_ENDPOINT=_endpoint(), AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE"),
        rasterio.open(str(cog.path).replace("s3://", "/vsis3/")) as raster,
    ):
        assert raster.count == 100
        assert raster.shape == (140, 190)
        assert (raster.read(1) > 0).all()
    made = ef.build_field(**KINDS["zarr"], out=f"s3://{bucket}")
    group = zarr.open_group(store_of(made._file), mode="r", zarr_format=3)
    embedding = group["embedding"]
    assert isinstance(embedding, zarr.Array)
    assert embedding.shape == (100, 180, 360)


def _endpoint() -> str:
    return os.environ["AWS_ENDPOINT_URL"].partition("://")[2]


def stopped(out: str, where: str, until: Callable[[], bool], how: int) -> None:
    """Lead a build in a process of its own, which gets a signal at some time."""
    command = [sys.executable, str(HERE / "spread_process.py"), out, "zarr", where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not until():
        time.sleep(0.02)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0, said


@pytest.mark.parametrize(("where", "how"), [("plain", signal.SIGKILL), ("local:2", signal.SIGINT)])
def test_a_build_that_was_stopped_goes_on_and_is_no_field_before(
    where: str, how: int, bucket: str, tmp_path: Path
) -> None:
    out, told = f"s3://{bucket}", list[str]()
    name = "sh-l10/sh-l10-0.5deg-zarr-uint8"
    lies = Bucket.of(f"{out}/{name}")
    stopped(out, where, lambda: sum("/embedding/c/" in key for key in lies.sizes()) > 6, how)
    for place in (f"{out}/{name}", f"{out}/{name}/sh-l10-0.5deg-zarr-uint8.zarr"):
        with pytest.raises(FormatError):
            ef.open_field(place)
    ef.build_field("sh-l10", 0.5, format="zarr", out=out, report=told.append)
    assert told[0] == f"Going on with the build that was begun in {out}/sh-l10/.sh-l10-0.5deg-zarr-uint8.build."
    plain = ef.build_field("sh-l10", 0.5, format="zarr", out=tmp_path)
    assert_same(out, plain.disk_path.parent)


def test_another_field_is_replaced_only_if_that_is_asked_for(bucket: str, tmp_path: Path) -> None:
    out = f"s3://{bucket}"
    asked: dict[str, Any] = {"model": "xyz", "res": 30, "precision": "float64"}
    ef.build_field(**asked, out=out)
    with pytest.raises(OutputExistsError, match=f"{out}/xyz/xyz-30deg-cog-uint8 holds another field: its precision"):
        ef.build_field(**asked | {"precision": "float32"}, out=out)
    ef.build_field(**asked | {"precision": "float32"}, out=out, overwrite=True)
    plain = ef.build_field(**asked | {"precision": "float32"}, out=tmp_path)
    assert_same(out, plain.disk_path.parent)


def test_what_stands_in_the_way_is_said_before_work_begins(bucket: str, cloud: Cloud) -> None:
    with pytest.raises(FormatError, match="s3://no-such-bucket-here"):
        ef.build_field("xyz", 30, out="s3://no-such-bucket-here/catalog")
    with pytest.raises(StorageError, match="may not be written: permission is denied"):
        ef.build_field("xyz", 30, out=f"s3://{cloud.bucket(CLOSED)}")
    Bucket.of(f"s3://{bucket}").put("catalog.json", b"{}")
    with pytest.raises(FormatError, match="is no STAC catalogue"):
        ef.build_field("xyz", 30, out=f"s3://{bucket}")
    assert list(Bucket.of(f"s3://{bucket}").sizes()) == ["catalog.json"]


def test_a_build_whose_pieces_another_removed_does_not_become_a_field(bucket: str) -> None:
    begin = partial(Builder.of, portable({"model": "sh-l10", "res": 1, "format": "zarr", "out": f"s3://{bucket}/c"}))
    slow, quick = Alone(begin), Alone(begin)
    survey, done = quick.ask(Builder.survey), list[int]()
    slow.ask(Builder.survey)
    assert quick.ask(Builder.begin) == "begun"

    def meanwhile(pixels: int, total: int) -> None:
        if pixels > total / 2 and not done:
            done.append(pixels)
            slow.ask(lambda builder: builder.order.begin())  # it saw no plan, and measured until now

    tally = Spread(quick, survey, lambda: 0).write(meanwhile, lambda _: None)
    with pytest.raises(StorageError, match="is gone: another process began the same build anew"):
        quick.ask(Builder.close, tally.saturated, False)


def test_a_build_that_is_stopped_before_its_item_is_there_need_not_be_done_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"model": "sh-l10", "res": 1, "format": "zarr", "out": f"s3://{bucket}/c"}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embedfield.build.add_to_catalog", stop)
        with pytest.raises(KeyboardInterrupt):
            ef.build_field(**asked)
    shares = list[float]()
    ef.build_field(**asked, progress=lambda done, total: shares.append(done / total))
    assert shares[0] == 1
