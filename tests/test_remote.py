"""Fields that are opened where they lie: on the web, in buckets, by their STAC items."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from fields import ArrayField, bumpy
from range_server import Server, serving
from rasterio.transform import from_origin

from embedfield.build import build_field
from embedfield.errors import FormatError
from embedfield.formats import cog, open_field, write_field
from embedfield.formats.address import Address, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedfield.formats.stored import StoredField

# Every way in which a field is kept, by what is asked of a build.
KINDS: dict[str, dict[str, Any]] = {
    "cog": {"model": "xyz", "res": 5.0},
    "tiles": {"model": "xyz", "res": 1.0},
    "zarr": {"model": "xyz", "res": 5.0, "format": "zarr"},
    "flat": {"model": "xyz", "res": 5.0, "format": "zarr", "layout": "flat", "dtype": "int16"},
    "pca": {"model": "sh-l10", "res": 5.0, "pca": 4},
}
PLACES = np.array([[7.4, 46.9], [7.5, 46.8], [-179.9, 89.0], [151.2, -33.9]])
# What a person who asks for the public reads of a bucket sets, as GDAL names it and as obstore does.
BUCKETS: dict[str, dict[str, str]] = {
    "s3, as GDAL": {
        "AWS_S3_ENDPOINT": "{host}",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    },
    "s3, as obstore": {"AWS_ENDPOINT_URL": "http://{host}", "AWS_SKIP_SIGNATURE": "true"},
    "gs, as GDAL": {"GS_NO_SIGN_REQUEST": "YES"},
    "gs, as obstore": {"GOOGLE_SKIP_SIGNATURE": "true"},
    "az, as GDAL": {"AZURE_STORAGE_ACCOUNT": "someone", "AZURE_NO_SIGN_REQUEST": "YES"},
    "az, as obstore": {"AZURE_STORAGE_ACCOUNT_NAME": "someone", "AZURE_SKIP_SIGNATURE": "true"},
}
# Where a server stands in for Google's and Microsoft's.
ENDPOINTS = {
    "CPL_GS_ENDPOINT": "http://{host}/",
    "GOOGLE_BASE_URL": "http://{host}",
    "CPL_AZURE_ENDPOINT": "http://{host}",
    "AZURE_STORAGE_ENDPOINT": "http://{host}",
}
# Whoever gets a pickle opens the field there.
UNPICKLING = """
import json, pickle, sys
field = pickle.load(sys.stdin.buffer)
json.dump(field.at([[7.4, 46.9]]).tolist(), sys.stdout)
"""
LIGHT = """
import sys
from embedfield.formats import open_field
open_field(sys.argv[1]).at([[7.4, 46.9]])
assert "obstore" not in sys.modules
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a folder."""
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def fields(server: Server) -> dict[str, StoredField]:
    """Fields of every kind, in a catalogue that is served."""
    made = {}
    for kind, asked in KINDS.items():
        with pytest.MonkeyPatch.context() as patch:
            if kind == "tiles":  # of 256 by 256 pixels, with coarser levels
                patch.setattr(cog, "BUDGET", 2 * 3 * 256**2 - 1)
                patch.setattr(cog, "TILE_BUDGET", 3 * 256**2)
            made[kind] = build_field(**asked, out=server.root / "catalog", verify=False)
    return made


@pytest.fixture(scope="module")
def large(server: Server) -> dict[str, StoredField]:
    """Fields of several megabytes: all of one is not had by the way as it is opened."""
    return {
        kind: write_field(ArrayField(bumpy(32, 600, 700)), server.root / f"large.{kind}") for kind in ("tif", "zarr")
    }


every_kind = pytest.mark.parametrize("kind", KINDS)
every_format = pytest.mark.parametrize("kind", ["cog", "zarr"])


def below(field: StoredField, server: Server) -> str:
    """Return the path of a field below what is served."""
    return field.disk_path.relative_to(server.root).as_posix()


def address(field: StoredField, server: Server) -> str:
    """Return the address of a field."""
    return f"{server.url}/{below(field, server)}"


def assert_same(found: StoredField, field: StoredField) -> None:
    """Hold a field that was opened elsewhere against the one on the disk."""
    np.testing.assert_array_equal(found.at(PLACES, "bilinear"), field.at(PLACES, "bilinear"))
    np.testing.assert_array_equal(found.read(), field.read())
    assert found.overviews == field.overviews
    for factor in field.overviews:
        np.testing.assert_array_equal(found.read_overview(factor), field.read_overview(factor))
    assert (found.grid, found.card, found.provenance) == (field.grid, field.card, field.provenance)


def assert_same_way_back(found: StoredField, field: StoredField) -> None:
    """Hold the way back to vectors that was read elsewhere against that on the disk."""
    ours, other = field.reduction, found.reduction
    assert (ours and ours.to_bytes()) == (other and other.to_bytes())


@contextmanager
def assert_refused(*words: str, named: str) -> Iterator[None]:
    """Expect a refusal of one line that has these words and an address in it, and nothing of how it was read."""
    with pytest.raises(FormatError) as caught:
        yield
    said = str(caught.value)
    assert "\n" not in said
    assert all(word in said for word in (*words, named)), said
    assert not any(inner in said for inner in ("vsi", "GDAL", "CURL", "Debug", "obstore")), said


def item(folder: Path, href: str, name: str = "some.json") -> Path:
    """Write a STAC item that has no more than the asset of a field."""
    path = folder / name
    path.write_text(json.dumps({"type": "Feature", "assets": {"embeddings": {"href": href}}}))
    return path


# Opening.


@every_kind
@pytest.mark.parametrize("way", ["raster", "item", "folder", "folder/"])
def test_a_field_on_the_web_is_the_one_on_the_disk(
    fields: dict[str, StoredField], server: Server, kind: str, way: str
) -> None:
    raster = address(fields[kind], server)
    folder = raster.rpartition("/")[0]
    whole = {"raster": raster, "folder": folder, "folder/": f"{folder}/"}
    with open_field(whole.get(way) or f"{folder}/{folder.rpartition('/')[2]}.json") as found:
        assert found.path == raster
        assert raster in found.describe()["file"]
        assert_same(found, fields[kind])


@every_kind
@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_field_in_a_bucket_is_the_one_on_the_disk(
    fields: dict[str, StoredField], server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, bucket: str
) -> None:
    host = server.url.removeprefix("http://")
    for name, value in (ENDPOINTS | BUCKETS[bucket]).items():
        monkeypatch.setenv(name, value.format(host=host))
    raster = f"{bucket[:2]}://{below(fields[kind], server)}"
    for way in (raster, raster.rpartition("/")[0]):
        with open_field(way) as found:
            assert found.path == raster
            assert_same(found, fields[kind])
            assert_same_way_back(found, fields[kind])


def test_components_are_turned_back_by_the_file_beside_them_which_is_fetched_once(
    fields: dict[str, StoredField], server: Server
) -> None:
    found = open_field(address(fields["pca"], server))
    server.asked()
    assert_same_way_back(found, fields["pca"])
    assert_same_way_back(found, fields["pca"])
    assert len(server.asked()) == 1


def test_a_damaged_way_back_is_refused_by_its_address(fields: dict[str, StoredField], server: Server) -> None:
    shutil.copytree(fields["pca"].disk_path.parent, server.root / "damaged")
    (server.root / "damaged" / "reduction.safetensors").write_bytes(b"other")
    found = open_field(f"{server.url}/damaged/{fields['pca'].disk_path.name}")
    with assert_refused(
        "is not the file that its field was made with", named=f"{server.url}/damaged/reduction.safetensors"
    ):
        assert found.reduction


@every_format
@pytest.mark.parametrize("name", ["a b", "ä#é", "100%", "a+b&c=d"])
def test_names_may_have_any_characters(
    fields: dict[str, StoredField], server: Server, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    source = fields[kind].disk_path
    folder = server.root / "names" / name
    target = folder / f"{name}{source.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    quoted = {"a b": "a%20b", "ä#é": "%C3%A4%23%C3%A9", "100%": "100%25"}.get(name, name)
    for way in (f"s3://names/{name}/{target.name}", f"{server.url}/names/{quoted}/{quoted}{source.suffix}"):
        assert_same(open_field(way), fields[kind])


@every_format
def test_a_signature_goes_with_all_that_is_read(fields: dict[str, StoredField], server: Server, kind: str) -> None:
    base = f"{server.url}/signed/{below(fields[kind], server)}"
    with assert_refused("permission is denied", named=base):
        open_field(base)
    folder = base.rpartition("/")[0]
    for way in (base, folder, f"{folder}/{folder.rpartition('/')[2]}.json"):
        assert_same(open_field(f"{way}?key=a%20b"), fields[kind])


def test_a_signature_goes_with_the_way_back_to_vectors(fields: dict[str, StoredField], server: Server) -> None:
    found = open_field(f"{server.url}/signed/{below(fields['pca'], server)}?key=a%20b")
    assert found.reduction


def test_a_signature_stays_with_its_server() -> None:
    signed = Address.of("https://here.example/a/item.json?key=1")
    assert str(signed.beside("./b c.tif")) == "https://here.example/a/b%20c.tif?key=1"
    assert str(signed.beside("../b.tif?key=2")) == "https://here.example/b.tif?key=2"
    assert str(signed.beside("//there.example/b.tif")) == "https://there.example/b.tif"
    assert str(signed.beside("https://there.example/b.tif")) == "https://there.example/b.tif"


def test_hrefs_in_a_bucket_are_relative_to_the_item() -> None:
    held = Address.of("s3://bucket/a/b/item.json")
    assert str(held.beside("./c d.tif")) == "s3://bucket/a/b/c d.tif"
    assert str(held.beside("../c.tif")) == "s3://bucket/a/c.tif"
    assert str(held.beside("/c.tif")) == "s3://bucket/c.tif"
    with pytest.raises(FormatError, match="names no file"):
        held.beside("../../../c.tif")


# By an item on this disk.


def test_an_item_on_the_disk_opens_its_raster_wherever_that_is(
    fields: dict[str, StoredField], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fields["cog"].disk_path
    assert open_field(here.parent / f"{here.parent.name}.json").path == here
    for href in (str(here), here.as_uri(), address(fields["cog"], server)):
        assert_same(open_field(item(tmp_path, href)), fields["cog"])
    shutil.copy(here, tmp_path / "field.tif")
    item(tmp_path, "./field.tif")
    monkeypatch.chdir(tmp_path)
    found = open_field("some.json")
    assert found.path == Path("field.tif")
    monkeypatch.chdir("/")
    assert_same(found, fields["cog"])
    assert_same(pickle.loads(pickle.dumps(found)), fields["cog"])  # noqa: S301  our own


def test_the_file_scheme_is_this_disk(fields: dict[str, StoredField]) -> None:
    path = fields["zarr"].disk_path
    assert place_of(path.as_uri()) == path
    assert open_field(path.as_uri()).path == path


def test_an_item_of_a_raster_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"gone\.tif does not exist"):
        open_field(item(tmp_path, "./gone.tif"))


# Once it is open.


@every_format
def test_a_pickle_opens_the_field_in_another_process(fields: dict[str, StoredField], server: Server, kind: str) -> None:
    data = pickle.dumps(open_field(address(fields[kind], server)))
    done = subprocess.run([sys.executable, "-c", UNPICKLING], check=True, input=data, capture_output=True, timeout=60)
    np.testing.assert_array_equal(np.float32(json.loads(done.stdout)), fields[kind].at(PLACES[:1]))


def test_what_is_kept_beside_a_field_needs_it_on_this_disk(fields: dict[str, StoredField], server: Server) -> None:
    found = open_field(address(fields["cog"], server))
    with assert_refused("is not on this disk", "Copy its folder here", named=address(fields["cog"], server)):
        assert found.disk_path
    assert fields["cog"].disk_path == fields["cog"].path


def test_a_field_on_this_disk_loads_nothing_for_networks(fields: dict[str, StoredField]) -> None:
    for kind in ("cog", "zarr"):
        words = [sys.executable, "-c", LIGHT, str(fields[kind].path)]
        assert subprocess.run(words, check=False, timeout=60).returncode == 0


def test_a_missing_chunk_is_nodata(fields: dict[str, StoredField], server: Server) -> None:
    shutil.copytree(fields["flat"].disk_path, server.root / "holed.zarr")
    (server.root / "holed.zarr/embedding/c/0/0/0").unlink()
    found = open_field(f"{server.url}/holed.zarr")
    assert np.isnan(found.read()[:, :, :64]).all()
    np.testing.assert_array_equal(found.read()[:, :, 64:], fields["flat"].read()[:, :, 64:])


@every_format
def test_what_is_replaced_is_read_anew_and_what_came_late_is_found(
    fields: dict[str, StoredField], server: Server, kind: str, tmp_path: Path
) -> None:
    suffix = fields[kind].disk_path.suffix
    target = server.root / f"late{suffix}"
    name = f"{server.url}/{target.name}"
    with assert_refused("does not exist", named=name):
        open_field(name)
    for number, values in enumerate((bumpy(3, 60, 70), bumpy(3, 60, 70)[:, ::-1] * 7)):
        written = write_field(ArrayField(values), tmp_path / f"{number}{suffix}")
        shutil.rmtree(target, ignore_errors=True)
        (shutil.copytree if target.suffix == ".zarr" else shutil.copy)(written.disk_path, target)
        with open_field(name) as found:
            np.testing.assert_array_equal(found.read(), written.read())


# What it costs.


def counted(server: Server, doing: Callable[[], Any]) -> int:
    """Return how many requests something makes."""
    server.asked()
    doing()
    return len(server.asked())


@pytest.mark.parametrize(("suffix", "most"), [("tif", 2), ("zarr", 3)])
def test_opening_costs_two_requests_or_three(
    large: dict[str, StoredField], server: Server, suffix: str, most: int
) -> None:
    # How long the file is, and its beginning; or the metadata, scales and offsets.
    assert 1 <= counted(server, lambda: open_field(f"{server.url}/large.{suffix}")) <= most


def test_opening_by_the_folder_costs_one_request_more(fields: dict[str, StoredField], server: Server) -> None:
    folder = address(fields["zarr"], server).rpartition("/")[0]
    assert counted(server, lambda: open_field(folder)) == 4


@pytest.mark.parametrize("suffix", ["tif", "zarr"])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_points_of_one_block_cost_two_requests_at_most(
    large: dict[str, StoredField], server: Server, suffix: str, method: Any
) -> None:
    found = open_field(f"{server.url}/large.{suffix}")
    side, grid = found.blocksize, found.grid
    # Within a block, half a pixel from its edges: so that the neighbours are in it too.
    row, col = np.random.default_rng(1).uniform(2 * side + 1, 3 * side - 1, (2, 500))
    lonlat = np.column_stack([grid.west + col * grid.res, grid.north - row * grid.res])
    values: list[Any] = []
    assert 1 <= counted(server, lambda: values.append(found.at(lonlat, method))) <= 2
    np.testing.assert_array_equal(values[0], large[suffix].at(lonlat, method))


def test_no_byte_of_a_raster_is_fetched_for_nothing(large: dict[str, StoredField], server: Server) -> None:
    # What lies beside a raster, and whatever else a library might look for.
    found = open_field(f"{server.url}/large.tif")
    server.asked()
    found.read()
    asked = server.asked()
    assert {request.status for request in asked} <= {200, 206}
    assert Counter(request.path for request in asked).keys() == {"/large.tif"}
    spans = [request.range.removeprefix("bytes=").split("-") for request in asked if request.method == "GET"]
    fetched = sum(int(last) + 1 - int(first) for first, last in spans)
    assert fetched < 1.2 * large["tif"].disk_path.stat().st_size


# What goes wrong.


@pytest.mark.parametrize("name", ["field.tif", "field.zarr", "field"])
@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("nowhere", ("does not exist", ".tif, .vrt, .zarr or STAC item")),
        ("401", ("may not be read", "permission is denied")),
        ("403", ("may not be read", "permission is denied")),
        ("500", ("cannot be reached", "500", "Look at the address")),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_address(
    server: Server, monkeypatch: pytest.MonkeyPatch, part: str, words: tuple[str, ...], name: str
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    place = f"{server.url}/{part}/{name}"
    with assert_refused(*words, named=place):
        open_field(place)


@pytest.mark.parametrize(
    ("bucket", "hint"),
    [("s3", "AWS_NO_SIGN_REQUEST"), ("gs", "GS_NO_SIGN_REQUEST"), ("az", "AZURE_STORAGE_SAS_TOKEN")],
)
@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_bucket_that_is_closed_says_how_to_open_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, bucket: str, hint: str, suffix: str
) -> None:
    for name, value in (ENDPOINTS | BUCKETS[f"{bucket}, as obstore"]).items():
        monkeypatch.setenv(name, value.format(host=server.url.removeprefix("http://")))
    with assert_refused("permission is denied", hint, named=f"{bucket}://403/field{suffix}"):
        open_field(f"{bucket}://403/field{suffix}")


def test_a_container_without_its_account_says_what_to_set() -> None:
    with assert_refused("permission is denied", "AZURE_STORAGE_ACCOUNT", named="az://container/field.zarr"):
        open_field("az://container/field.zarr")


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ""])
def test_a_server_that_does_not_answer_is_refused(suffix: str) -> None:
    with assert_refused("cannot be reached", "Look at the address and the network", named="http://127.0.0.1:1/field"):
        open_field(f"http://127.0.0.1:1/field{suffix}")


@pytest.mark.parametrize("suffix", ["tif", "zarr"])
def test_a_server_that_goes_away_is_named_when_more_is_read(
    large: dict[str, StoredField], tmp_path: Path, suffix: str
) -> None:
    with serving(tmp_path) as server:
        source, target = large[suffix].disk_path, server.root / f"field.{suffix}"
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        found = open_field(f"{server.url}/{target.name}")
    with assert_refused("cannot be reached", named=f"{server.url}/{target.name}"):
        found.read()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://example.org/field.tif", ("ftp:// is not known here", "https://, http://, s3://, gs://, az://")),
        ("https://example.org", ("names no file",)),
        ("https://example.org/", ("names no file",)),
        ("s3://bucket", ("names no file",)),
        ("s3://bucket/a/../b.tif", ("names no file",)),
        ("https:///field.tif", ("names no file",)),
    ],
)
def test_an_address_that_can_be_none_is_refused(text: str, words: tuple[str, ...]) -> None:
    with assert_refused(*words, named=text):
        open_field(text)


def test_a_file_of_somebody_else_is_refused(server: Server) -> None:
    (server.root / "text.tif").write_text("no raster")
    with assert_refused("cannot be opened", "no raster", named=f"{server.url}/text.tif"):
        open_field(f"{server.url}/text.tif")
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": 5, "height": 4, "crs": "EPSG:4326"}
    with rasterio.open(server.root / "other.tif", "w", transform=from_origin(0, 4, 1, 1), **profile) as dataset:
        dataset.write(np.ones((1, 4, 5), dtype=np.uint8))
    for _ in range(2):  # a second time what is known of it is forgotten first
        with assert_refused("is no field of embedfield", "embedfield build", named=f"{server.url}/other.tif"):
            open_field(f"{server.url}/other.tif")


def test_a_raster_that_is_cut_short_is_refused(large: dict[str, StoredField], server: Server) -> None:
    (server.root / "short.tif").write_bytes(large["tif"].disk_path.read_bytes()[:2_000_000])
    found = open_field(f"{server.url}/short.tif")
    with assert_refused("damaged or cut short", named=f"{server.url}/short.tif"):
        found.read()


def test_a_zarr_without_its_scales_is_refused(fields: dict[str, StoredField], server: Server) -> None:
    shutil.copytree(fields["zarr"].disk_path, server.root / "poor.zarr")
    shutil.rmtree(server.root / "poor.zarr/scale")
    with assert_refused("lost how its numbers are packed", named=f"{server.url}/poor.zarr"):
        open_field(f"{server.url}/poor.zarr")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("no JSON", ("is no STAC item", "no JSON")),
        ("[]", ("is no STAC item with an asset 'embeddings'",)),
        ('{"type": "Feature", "assets": {"image": {"href": "a.tif"}}}', ("no STAC item with an asset 'embeddings'",)),
        ('{"type": "Collection", "assets": {}}', ("is a STAC Collection", "one of the items")),
        ('{"type": "Catalog"}', ("is a STAC Catalog", "one of the items")),
        ('{"assets": {"embeddings": {"href": 3}}}', ("names no file", "3")),
        ('{"assets": {"embeddings": {"href": "a.parquet"}}}', ("a.parquet is of no format known here",)),
        ('{"assets": {"embeddings": {"href": "some.json"}}}', ("some.json is of no format known here",)),
    ],
)
def test_a_document_that_is_no_item_of_a_field_is_refused(
    server: Server, document: str, words: tuple[str, ...]
) -> None:
    path = server.root / "some.json"
    path.write_text(document)
    for place in (f"{server.url}/some.json", str(path)):
        with assert_refused(*words, named=place.rpartition("/")[0]):
            open_field(place)


def test_an_item_elsewhere_opens_nothing_of_this_disk(fields: dict[str, StoredField], server: Server) -> None:
    item(server.root, fields["cog"].disk_path.as_uri(), "sly.json")
    with assert_refused("file:// is not known here", named="file://"):
        open_field(f"{server.url}/sly.json")
    item(server.root, str(fields["cog"].disk_path), "sly.json")
    with assert_refused("does not exist", named=server.url):
        open_field(f"{server.url}/sly.json")
