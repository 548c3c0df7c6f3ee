"""Icechunk: its own package, zarr-python and xarray, used plainly, are the truth."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import WorkerPlugin
from fields import ArrayField, bumpy, listing
from range_server import serving
from s3 import CLOSED, Cloud, bucket, cloud
from small import make_small
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from embedfield import closing
from embedfield.build import build_field
from embedfield.catalog import Catalog
from embedfield.cluster import cluster_of
from embedfield.errors import BusyError, FormatError, OutputExistsError, StorageError
from embedfield.formats import history, icechunk_store, open_field, repository, write_field
from embedfield.formats.address import Address
from embedfield.formats.icechunk_store import IcechunkField, carry_over, to_icechunk
from embedfield.integrity import check_sums, write_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from conftest import Done
    from distributed import Client
    from zarr.abc.store import Store

__all__ = ["bucket", "cloud"]
DIM, HEIGHT, WIDTH = 3, 300, 257
PLACES = np.array([[-5.0, 45.0], [0.5, 30.2], [15.6, 20.1]])
# Whoever gets a pickle opens the repository there, and hears nothing of Icechunk.
UNPICKLING = """
import json, pickle, sys
field = pickle.load(sys.stdin.buffer)
json.dump([field.snapshot, field.at([[0.5, 30.2]]).tolist()], sys.stdout)
"""
LIGHT = """
import sys
import embedfield.cli
from embedfield.formats import open_field
open_field(sys.argv[1]).read()
print("icechunk" in sys.modules)
"""
# Damage, by what of a repository it is done to.
KEPT = ("repo", "snapshots", "manifests", "chunks")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    """Return what most tests write."""
    return bumpy(DIM, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def plain(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Zarr."""
    told = {"embedfield": "0.1", "torch": "2.9", "weights_sha256": "ab" * 32}
    return write_field(ArrayField(values, provenance=told), tmp_path_factory.mktemp("plain") / "field.zarr").disk_path


@pytest.fixture(scope="module")
def later(values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Zarr of a later build, of fewer rows and so of fewer files."""
    return write_field(ArrayField(values[:, :200] + 1), tmp_path_factory.mktemp("later") / "field.zarr").disk_path


@pytest.fixture(scope="module")
def kept(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of one build; no test changes it."""
    path = tmp_path_factory.mktemp("kept") / "field.icechunk"
    to_icechunk(plain, path)
    return path


@pytest.fixture
def there(bucket: str) -> Address:
    """Return where a repository may stand in a bucket."""
    return Address.of(f"s3://{bucket}/some fields/field.icechunk")


def tip(path: Path) -> Store:
    """Return the store of a repository's last commit, as anyone opens it."""
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path))).readonly_session("main").store


def contents(store: Store) -> dict[str, bytes]:
    """Return all that a store of Zarr's has."""

    async def read() -> dict[str, bytes]:
        found = {key: await store.get(key, default_buffer_prototype()) async for key in store.list()}
        return {key: data.to_bytes() for key, data in found.items() if data}

    return sync(read())


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_has_the_very_bytes_of_the_zarr(plain: Path, kept: Path) -> None:
    assert contents(tip(kept)) == files(plain)


def test_xarray_opens_it_plainly_and_decodes_it_in_one_line(plain: Path, kept: Path) -> None:
    with xr.open_zarr(tip(kept), consolidated=False) as ds, open_field(plain) as field:
        np.testing.assert_array_equal(ds.embedding * ds.scale + ds.offset, field.read())
    with xr.open_zarr(tip(kept), group="1", consolidated=False) as ds:
        assert ds.embedding.shape == (DIM, HEIGHT // 2, -(-WIDTH // 2))


def test_a_field_reads_as_from_a_plain_zarr(plain: Path, kept: Path) -> None:
    with open_field(plain) as wanted, open_field(kept) as found:
        assert isinstance(found, IcechunkField)
        assert (found.card, found.grid, found.provenance, found.format) == (
            wanted.card, wanted.grid, wanted.provenance, "zarr",
        )  # fmt: skip
        np.testing.assert_array_equal(found.read(), wanted.read())
        np.testing.assert_array_equal(found.at(PLACES), wanted.at(PLACES))
        assert found.overviews == wanted.overviews == {2: (150, 129)}
        np.testing.assert_array_equal(found.read_overview(2), wanted.read_overview(2))
        np.testing.assert_array_equal(found.to_xarray().compute(), wanted.read())


@pytest.mark.parametrize("name", ["field", "a b", "100 %", "f#1", "wo?", "é"])
def test_it_opens_by_its_folder_and_by_its_item(tmp_path: Path, kept: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(kept, folder / f"{name}.icechunk")
    item = folder / f"{name}.json"
    item.write_text(json.dumps({"type": "Feature", "assets": {"embeddings": {"href": f"./{name}.icechunk"}}}))
    for path in (folder, item, folder / f"{name}.icechunk"):
        with open_field(path) as field:
            assert isinstance(field, IcechunkField)
            assert field.at(PLACES).shape == (3, DIM)


def test_xarray_opens_it_by_our_engine(kept: Path) -> None:
    with xr.open_dataset(kept, engine="embedfield") as ds, open_field(kept) as field:
        np.testing.assert_array_equal(ds.embedding, field.read())


def test_commands_take_it_as_any_field(run: Callable[..., Done], kept: Path, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("lon,lat\n-9,49\n")
    done = run("sample", kept, "places.csv", "-o", "out.csv")
    assert (done.code, len((tmp_path / "out.csv").read_text().splitlines())) == (0, 2)
    told = run("info", kept)
    assert told.code == 0
    assert open_field(kept).about()["snapshot"] in told.out


def test_a_build_is_one_commit_that_says_what_it_is_of(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "field.icechunk"
    snapshot = to_icechunk(plain, path)
    found = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    last, first = found.ancestry(branch="main")
    assert (last.id, last.parent_id, first.parent_id) == (snapshot, first.id, None)
    assert last.message == "array: 257 x 300 pixels of 0.1 degrees, EPSG:4326, 3 bands, uint8"
    assert last.metadata == {
        "model": "array", "title": "An array", "bands": 3, "crs": "EPSG:4326", "res": 0.1,
        "bounds": list(open_field(plain).grid.bounds), "shape": [HEIGHT, WIDTH], "dtype": "uint8",
        "saturated": open_field(plain).saturated, "embedfield": "0.1", "torch": "2.9", "weights_sha256": "ab" * 32,
    }  # fmt: skip


def test_a_rebuild_adds_a_commit_and_the_earlier_one_can_still_be_read(
    plain: Path, later: Path, tmp_path: Path
) -> None:
    path = tmp_path / "field.icechunk"
    first, second = to_icechunk(plain, path), to_icechunk(later, path)
    field = open_field(path)
    assert isinstance(field, IcechunkField)
    assert field.snapshot == second
    assert [commit.id for commit in history(path)] == [second, first]
    assert contents(tip(path)) == files(later)
    np.testing.assert_array_equal(field.read(), open_field(later).read())
    before = field.earlier(first)
    np.testing.assert_array_equal(before.read(), open_field(plain).read())
    np.testing.assert_array_equal(IcechunkField(path, first).read(), open_field(plain).read())
    assert [commit.message for commit in before.history()] == [field.history()[1].message]
    assert before.history()[0].written_at < field.history()[0].written_at


def test_what_a_rebuild_does_not_have_is_gone_from_its_commit(
    values: npt.NDArray[np.float32], plain: Path, tmp_path: Path
) -> None:
    holed = values.copy()
    holed[:, :, 256:] = np.nan
    zarr_ = write_field(ArrayField(holed), tmp_path / "field.zarr").disk_path
    missing = sorted(zarr_.glob("embedding/c/0/*/1"))
    for file in missing:  # a chunk that is not there reads as nodata
        file.unlink()
    path = tmp_path / "field.icechunk"
    to_icechunk(plain, path)
    to_icechunk(zarr_, path)
    assert contents(tip(path)) == files(zarr_)
    assert np.isnan(open_field(path).read()[:, :, 256:]).all()


def test_the_same_build_again_is_a_commit_all_the_same(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "field.icechunk"
    first, second = to_icechunk(plain, path), to_icechunk(plain, path)
    assert first != second
    assert contents(tip(path)) == files(plain)


@pytest.mark.parametrize("linked", [True, False])
def test_a_commit_to_what_was_carried_over_leaves_the_old_repository_as_it_is(
    plain: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not linked:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    old, new = tmp_path / "old" / "field.icechunk", tmp_path / "new" / "field.icechunk"
    first = to_icechunk(plain, old)
    before = files(old)
    (new / "chunks").mkdir(parents=True)
    (new / "chunks" / "left").touch()  # of a build that was stopped
    carry_over(old, new)
    assert files(new) == before
    assert {path.stat().st_nlink for path in old.rglob("*") if path.is_file()} == {2 if linked else 1}
    second = to_icechunk(later, new)
    assert files(old) == before
    shutil.rmtree(old)
    assert [commit.id for commit in IcechunkField(new).history()] == [second, first]
    np.testing.assert_array_equal(IcechunkField(new, first).read(), open_field(plain).read())


def test_a_damaged_repository_is_not_carried_over(kept: Path, tmp_path: Path) -> None:
    old = shutil.copytree(kept, tmp_path / "old")
    (old / "repo").write_bytes(b"")
    with pytest.raises(FormatError, match="damaged or cut short"):
        carry_over(old, tmp_path / "new")
    assert listing(tmp_path / "new") == []


def test_a_build_that_is_stopped_leaves_no_commit(
    plain: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, put = tmp_path / "field.icechunk", icechunk_store._set

    def stop(store: icechunk.IcechunkStore, folder: Path, batch: Any) -> Any:
        if any("/c/" in file.as_posix() for file in batch):
            raise KeyboardInterrupt
        return put(store, folder, batch)

    snapshot = to_icechunk(plain, path)
    with monkeypatch.context() as patch:
        patch.setattr(icechunk_store, "_set", stop)
        with pytest.raises(KeyboardInterrupt):
            to_icechunk(later, path)
    assert contents(tip(path)) == files(plain)
    again = to_icechunk(later, path)
    assert [commit.id for commit in IcechunkField(path).history()] == [again, snapshot]


def test_a_pickle_reads_the_commit_that_was_open_in_silence(plain: Path, later: Path, tmp_path: Path) -> None:
    path = tmp_path / "field.icechunk"
    first = to_icechunk(plain, path)
    field = open_field(path)
    to_icechunk(later, path)
    done = subprocess.run(
        [sys.executable, "-c", UNPICKLING], input=pickle.dumps(field), capture_output=True, check=True, cwd="/"
    )
    assert json.loads(done.stdout) == [first, field.at([[0.5, 30.2]]).tolist()]
    assert done.stderr == b""


def test_icechunk_is_not_imported_for_other_fields(plain: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, plain], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_icechunk_it_is_said_how_to_get_it(
    plain: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "icechunk", None)
    repository.check_installed.cache_clear()
    for ask in (lambda: open_field(kept), lambda: to_icechunk(plain, tmp_path / "x.icechunk")):
        with pytest.raises(FormatError, match="pip install 'embedfield.icechunk.'"):
            ask()
    assert not (tmp_path / "x.icechunk").exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", KEPT)
def test_a_damaged_repository_is_refused(kept: Path, tmp_path: Path, what: str, damage: str) -> None:
    path = shutil.copytree(kept, tmp_path / "field.icechunk")
    for file in [path / what] if what == "repo" else sorted((path / what).iterdir()):
        DAMAGES[damage](file)
    with pytest.raises(FormatError, match=r"field.icechunk.*[Bb]uild") as refusal:
        open_field(path).read()
    assert "\n" not in str(refusal.value)


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.icechunk").mkdir()
    with pytest.raises(FormatError, match="no Icechunk repository, or not a whole one"):
        open_field(tmp_path / "empty.icechunk")
    assert listing(tmp_path / "empty.icechunk") == []
    with pytest.raises(FormatError, match="does not exist"):
        open_field(tmp_path / "none.icechunk")


def test_a_repository_of_others_is_refused(tmp_path: Path) -> None:
    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "other.icechunk")))
    session = made.writable_session("main")
    zarr.open_group(session.store, mode="w")
    session.commit("mine")
    with pytest.raises(FormatError, match="no 'embedfield' header"):
        open_field(tmp_path / "other.icechunk")


@pytest.mark.parametrize("snapshot", ["nothing", "21WNTDH8G0VB5XB0XK6G"])
def test_a_commit_that_is_not_there_is_refused(kept: Path, snapshot: str) -> None:
    with pytest.raises(FormatError, match=f"no such commit: .*{snapshot}"):
        IcechunkField(kept, snapshot)


def test_what_is_no_field_is_not_committed(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(FormatError, match="no 'embedfield' header"):
        to_icechunk(tmp_path / "other.zarr", tmp_path / "x.icechunk")
    assert not (tmp_path / "x.icechunk").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="make it writable"):
        to_icechunk(plain, tmp_path / "sealed" / "x.icechunk")


def test_a_place_in_which_nothing_can_be_is_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="Not a directory .*Look at its name"):
        to_icechunk(plain, tmp_path / "file" / "x.icechunk")


def test_a_disk_that_does_not_take_it_is_named(plain: Path, kept: Path, tmp_path: Path) -> None:
    path = shutil.copytree(kept, tmp_path / "x.icechunk")
    shutil.rmtree(path / "manifests")
    (path / "manifests").touch()  # where a folder must be
    with pytest.raises(StorageError, match="Cannot write .*x.icechunk.*make it writable"):
        to_icechunk(plain, path)


def test_a_flipped_byte_is_found_by_the_list_of_digests(kept: Path, tmp_path: Path) -> None:
    folder = tmp_path / "field"
    shutil.copytree(kept, folder / "field.icechunk")
    write_sums(folder)
    with open_field(folder) as field:
        field.read()
    assert check_sums(folder) == []
    chunk = max((folder / "field.icechunk" / "chunks").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    (fault,) = check_sums(folder)
    assert f"field.icechunk/chunks/{chunk.name} is damaged" in fault


def test_of_a_plain_zarr_there_is_no_history(plain: Path) -> None:
    with pytest.raises(FormatError, match="no Icechunk repository. Build one with"):
        history(plain)


def test_a_field_of_components_has_its_way_back(catalog: Path, tmp_path: Path) -> None:
    built = build_field("sh-l10", res=10, format="zarr", pca=4, out=catalog, verify=False)
    folder = tmp_path / "field"
    folder.mkdir()
    shutil.copy(built.disk_path.parent / "reduction.safetensors", folder)
    to_icechunk(built.disk_path, folder / "field.icechunk")
    with open_field(folder) as field:
        assert field.reduction is not None
        np.testing.assert_array_equal(field.at(PLACES), built.at(PLACES))


def test_nothing_warns_and_nothing_is_printed(plain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_icechunk(plain, tmp_path / "field.icechunk")
        open_field(tmp_path / "field.icechunk").read()
    assert capfd.readouterr() == ("", "")


def test_builds_are_committed_to_a_bucket_and_read_there(plain: Path, later: Path, there: Address) -> None:
    first, second = to_icechunk(plain, there), to_icechunk(later, there)
    field = open_field(str(there))
    assert isinstance(field, IcechunkField)
    assert [commit.id for commit in field.history()] == [second, first]
    np.testing.assert_array_equal(field.read(), open_field(later).read())
    np.testing.assert_array_equal(field.earlier(first).at(PLACES), open_field(plain).at(PLACES))
    again = pickle.loads(pickle.dumps(field))  # noqa: S301  our own
    np.testing.assert_array_equal(again.read(), field.read())


def test_gdals_words_for_a_server_of_s3_are_understood(
    plain: Path, there: Address, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_icechunk(plain, there)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_S3_ENDPOINT", cloud.url.removeprefix("http://"))
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    np.testing.assert_array_equal(open_field(str(there)).at(PLACES), open_field(plain).at(PLACES))


def test_of_two_that_commit_at_once_one_is_told_to_do_it_again(
    plain: Path, later: Path, there: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = icechunk_store._put
    to_icechunk(plain, there)

    def overtaken(store: icechunk.IcechunkStore, folder: Path) -> None:
        put(store, folder)
        monkeypatch.setattr(icechunk_store, "_put", put)
        to_icechunk(later, there)

    monkeypatch.setattr(icechunk_store, "_put", overtaken)
    with pytest.raises(BusyError, match="Give the same command again"):
        to_icechunk(plain, there)
    np.testing.assert_array_equal(open_field(str(there)).read(), open_field(later).read())
    to_icechunk(plain, there)
    assert len(IcechunkField(str(there)).history()) == 3


def test_what_is_not_in_a_bucket_is_refused(plain: Path, there: Address) -> None:
    with pytest.raises(FormatError, match="no Icechunk repository"):
        open_field(str(there))
    with pytest.raises(StorageError, match="NoSuchBucket"):
        to_icechunk(plain, Address.of("s3://nowhere-at-all/field.icechunk"))


def test_a_bucket_that_may_not_be_written_is_refused(plain: Path, there: Address, cloud: Cloud) -> None:
    with pytest.raises(FormatError, match="permission is denied. Set AWS_ACCESS_KEY_ID"):
        to_icechunk(plain, Address.of(f"s3://{cloud.bucket(CLOSED)}/field.icechunk"))


def test_a_server_that_does_not_answer_is_named(there: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FormatError, match="cannot be reached: .*Look at the address and the network"):
        open_field(str(there))


def test_a_repository_on_the_web_is_read(plain: Path, kept: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        shutil.copytree(kept, server.root / "a b" / "field.icechunk")
        address = f"{server.url}/a%20b/field.icechunk"
        np.testing.assert_array_equal(open_field(address).at(PLACES), open_field(plain).at(PLACES))
        with pytest.raises(FormatError, match="holds for one file"):
            open_field(f"{address}?signature=1")


def test_an_account_of_azure_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE")]:
        monkeypatch.delenv(name)
    with pytest.raises(FormatError, match="account is not known. Set AZURE_STORAGE_ACCOUNT"):
        open_field("az://container/field.icechunk")


# Builds from end to end.

# Six shards, and coarser ones.
BUILT: dict[str, Any] = {"model": "sh-l10", "res": 2, "format": "zarr"}
NAME = "sh-l10-2deg-zarr-uint8"
KEPT_NAME = f"{NAME}-icechunk"
# Where a build is stopped, in `closing`.
MOMENTS = {
    "before the commit": "to_icechunk",
    "after the commit": "write_sums",
    "when it gets its place": "_leave_out",
}


class Killed(WorkerPlugin):  # type: ignore[misc]  # Dask is half typed
    """Has the worker that ends a build kill itself at a moment, once; and all make small pieces."""

    def __init__(self, moment: str, mark: Path) -> None:
        """Take the name of a function of `closing`, and a file that notes that it was done."""
        self.name, self._moment, self._mark = f"killed {moment}", moment, mark

    def setup(self, worker: Any) -> None:  # noqa: ARG002  as Dask calls it
        make_small()
        whole = self._whole = getattr(closing, self._moment)

        def kill(*words: Any) -> Any:
            if not self._mark.exists():
                self._mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*words)

        setattr(closing, self._moment, kill)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002  the same
        setattr(closing, self._moment, self._whole)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers."""
    with cluster_of("local:2") as cluster:
        yield cluster.client


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Zarr of a plain build."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr)
        return build_field(**BUILT, out=tmp_path_factory.mktemp("whole")).disk_path


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


def kept_in(out: Path) -> Path:
    """Return the repository of the field that was built."""
    return out / "sh-l10" / KEPT_NAME / f"{KEPT_NAME}.icechunk"


def assert_whole(out: Path, plain: Path, commits: int) -> None:
    """Hold what was built to have the bytes of a plain Zarr, so many commits, and nothing left over beside it."""
    path = kept_in(out)
    assert contents(tip(path)) == files(plain)
    assert len(history(path)) == commits
    for commit in history(path):
        assert contents(IcechunkField(path, commit.id)._store()) == files(plain)
    assert sorted(entry.name for entry in path.parent.iterdir()) == sorted(
        entry.name.replace(NAME, KEPT_NAME).replace(".zarr", ".icechunk") for entry in plain.parent.iterdir()
    )
    for name in ("preview.png", "rgb.tif", "colours.json"):
        assert (path.parent / name).read_bytes() == (plain.parent / name).read_bytes()
    assert not list(out.rglob(".*.build"))
    assert not list(out.rglob(".*.old"))
    assert Catalog(out).validate() == []
    assert check_sums(path.parent) == []


@pytest.mark.usefixtures("_small")
def test_a_build_is_one_commit_and_the_same_again_is_none(whole: Path, catalog: Path) -> None:
    told = list[str]()
    field = build_field(**BUILT, zarr_store="icechunk", out=catalog)
    assert field.path == kept_in(catalog)
    np.testing.assert_array_equal(field.read(), open_field(whole).read())
    build_field(**BUILT, zarr_store="icechunk", out=catalog, report=told.append)
    assert "is there already, and the same" in told[-1]
    assert_whole(catalog, whole, commits=1)


@pytest.mark.usefixtures("_small")
def test_a_field_that_is_replaced_stays_in_the_history(whole: Path, catalog: Path) -> None:
    asked = BUILT | {"zarr_store": "icechunk", "out": catalog}
    first = build_field(**asked, precision="float32")
    assert isinstance(first, IcechunkField)
    before = first.read()
    with pytest.raises(OutputExistsError, match="its precision is 'float32'"):
        build_field(**asked, precision="float64")
    again = build_field(**asked, precision="float64", overwrite=True)
    assert isinstance(again, IcechunkField)
    new, old = again.history()
    assert (old.id, old.metadata["precision"], new.metadata["precision"]) == (first.snapshot, "float32", "float64")
    np.testing.assert_array_equal(again.earlier(old.id).read(), before)
    assert contents(tip(kept_in(catalog))) == files(whole)
    assert Catalog(catalog).validate() == []


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_that_was_stopped_ends_in_one_commit(
    whole: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch, moment: str, *, overwrite: bool
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    asked = BUILT | {"zarr_store": "icechunk", "out": catalog, "overwrite": overwrite}
    told = list[str]()
    if overwrite:
        build_field(**asked)
    with monkeypatch.context() as patch:
        patch.setattr(closing, MOMENTS[moment], stop)
        with pytest.raises(KeyboardInterrupt):
            build_field(**asked)
    if overwrite:
        assert len(history(kept_in(catalog))) == 1
    else:
        assert not kept_in(catalog).exists()
    build_field(**asked, report=told.append)
    assert "Going on with the build" in told[0]
    assert_whole(catalog, whole, commits=1 + overwrite)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_is_killed_at_the_end_leaves_one_whole_commit(
    whole: Path, catalog: Path, client: Client, tmp_path: Path, moment: str
) -> None:
    plugin = Killed(MOMENTS[moment], tmp_path / "mark")
    client.register_plugin(plugin)
    told = list[str]()
    try:
        field = build_field(**BUILT, zarr_store="icechunk", out=catalog, client=client, report=told.append)
    finally:
        client.unregister_worker_plugin(plugin.name)
    assert any("close failed on worker" in line and "the worker was lost" in line for line in told)
    np.testing.assert_array_equal(field.read(), open_field(whole).read())
    assert_whole(catalog, whole, commits=1)


@pytest.mark.usefixtures("_small")
def test_its_item_is_valid_and_leads_to_it(whole: Path, catalog: Path) -> None:
    build_field(**BUILT, zarr_store="icechunk", out=catalog)
    path = kept_in(catalog)
    item = json.loads((path.parent / f"{KEPT_NAME}.json").read_text())
    asset = item["assets"]["embeddings"]
    plain = json.loads((whole.parent / f"{NAME}.json").read_text())
    assert asset["href"] == f"./{KEPT_NAME}.icechunk"
    assert "icechunk" in asset["type"]
    snapshot = history(path)[0].id
    assert snapshot in json.dumps(asset)
    assert (item["bbox"], item["geometry"]) == (plain["bbox"], plain["geometry"])
    assert set(item["stac_extensions"]) < set(plain["stac_extensions"])  # xarray opens no address of Icechunk's
    assert asset["bands"] == plain["assets"]["embeddings"]["bands"]
    assert asset["file:size"] == sum(map(len, files(path).values()))


def test_commands_build_and_read_it(run: Callable[..., Done], tmp_path: Path) -> None:
    done = run("build", "--model", "xyz", "--res", 10, "--format", "zarr", "--zarr-store", "icechunk", "--out", "kept")
    assert done.code == 0, done.err
    path = Path(done.out.strip())
    assert path.suffix == ".icechunk"
    (tmp_path / "places.csv").write_text("lon,lat\n-9,49\n")
    for words in (
        ("info", path.parent), ("verify", path.parent), ("preview", path, "-o", "picture.png"),
        ("sample", path.parent, "places.csv", "-o", "out.csv"), ("catalog", "validate", "--catalog", "kept"),
    ):  # fmt: skip
        done = run(*words)
        assert done.code == 0, (words, done.err)
    with xr.open_dataset(path, engine="embedfield") as ds:
        assert ds.embedding.shape == (3, 18, 36)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "cog"), "zarr_store='icechunk' is one of Zarr"),
        (("--format", "zarr", "--zarr-layout", "flat"), "zarr_store='icechunk' is one of Zarr with shards"),
        (("--format", "zarr", "--out", "s3://nowhere/x"), "is written on a disk, and s3://nowhere/x is a bucket"),
    ],
)
def test_what_it_is_not_for_is_refused(
    run: Callable[..., Done], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = run("build", "--model", "xyz", "--res", 10, "--zarr-store", "icechunk", *words)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err
    assert listing(tmp_path) == []


def test_without_icechunk_no_build_begins(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "icechunk", None)
    repository.check_installed.cache_clear()
    with pytest.raises(FormatError, match="pip install 'embedfield.icechunk.'"):
        build_field("xyz", 10, format="zarr", zarr_store="icechunk", out=catalog)
    assert not catalog.exists()
