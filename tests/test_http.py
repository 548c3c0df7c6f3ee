"""How many requests a field costs over the network, counted by a server on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import zarr
from fields import ArrayField, bumpy
from zarr.storage import LocalStore

from embedfield.card import Card
from embedfield.field import Field
from embedfield.formats import write_field
from embedfield.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from embedfield.window import Window

DIM, SIDE = 256, 1200
POINT, OTHER = (777, 555), (77, 155)
# What GDAL's own guide to reading over a network asks for.
PLAIN = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif", "VSI_CACHE": "NO"}
# And, since the place of each of 25,600 blocks stands in the header, half a megabyte of it at once.
AHEAD = PLAIN | {"GDAL_INGESTED_BYTES_AT_OPEN": "524288"}
# In a process of its own: rasterio keeps Python's lock while it opens, and the server must answer.
READING = """
import json, sys
import rasterio
from rasterio.windows import Window
address, cases = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name, (settings, steps) in cases.items():
    with rasterio.Env(**settings), rasterio.open(f"/vsicurl/{address}/{name}/field.tif") as dataset:
        for step in steps:
            if isinstance(step, int):
                found[name] = dataset.read(step, out_shape=(300, 300)).tolist()
            else:
                found[name] = dataset.read(window=Window(*step, 1, 1)).ravel().tolist()
json.dump(found, sys.stdout)
"""
BAND = 17
STEPS: dict[str, list[Any]] = {"open": [], "point": [POINT], "points": [POINT, OTHER], "overview": [BAND]}
# Each under its own address, which no cache of GDAL's knows yet.
CASES: dict[str, tuple[dict[str, str], list[Any]]] = {
    f"{kind}-{name}": (settings, steps)
    for kind, settings in (("plain", PLAIN), ("ahead", AHEAD))
    for name, steps in STEPS.items()
}


class Waves(Field):
    """Smooth waves, computed as they are read."""

    def __init__(self) -> None:
        """Spread 256 bands over 120 by 120 degrees."""
        self.card = Card(name="waves", title="Waves", dim=DIM, code="none:None", homepage="https://example.org")
        self.grid = Grid(west=-60.0, north=60.0, res=0.1, width=SIDE, height=SIDE)

    def read(self, window: Window | None = None) -> npt.NDArray[np.float32]:
        """Return products of a wave in each direction."""
        window, band = window or self.grid.window, np.arange(DIM)[:, None]
        row, col = (np.arange(part.start, part.stop) / 300 for part in (window.rows, window.cols))
        down, across = np.sin((band % 7 + 1) * row + band), np.cos((band % 5 + 1) * col - band)
        return down.astype(np.float32)[:, :, None] * across.astype(np.float32)[:, None, :]


@contextmanager
def serve(body: bytes) -> Iterator[tuple[str, Counter[str]]]:
    """Serve bytes under every path, whole or in ranges; yield the address, and how often each path was asked for."""
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def _answer(self) -> bytes:
            asked[self.path.split("/")[1]] += 1
            first, last, told = 0, len(body) - 1, self.headers.get("Range")
            self.send_response(206 if told else 200)
            if told:
                start, _, stop = told.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(stop or last), last)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            return body[first : last + 1]

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a COG of real size."""
    return write_field(Waves(), tmp_path_factory.mktemp("cog") / "field.tif").disk_path


@pytest.fixture(scope="module")
def over_the_network(cog: Path) -> tuple[dict[str, Any], Counter[str]]:
    """Return what each case read, and how many requests it made."""
    with serve(cog.read_bytes()) as (address, asked):
        words = [sys.executable, "-c", READING, address, json.dumps(CASES)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout), asked


@pytest.mark.parametrize("kind", ["plain", "ahead"])
def test_what_comes_over_the_network_is_what_is_stored(
    kind: str, cog: Path, over_the_network: tuple[dict[str, Any], Counter[str]]
) -> None:
    found, _ = over_the_network
    with rasterio.open(cog) as dataset:
        for name, place in (("point", POINT), ("points", OTHER)):
            window = rasterio.windows.Window(*place, 1, 1)
            assert found[f"{kind}-{name}"] == dataset.read(window=window).ravel().tolist()
        assert found[f"{kind}-overview"] == dataset.read(BAND, out_shape=(300, 300)).tolist()


def test_opening_costs_two_requests(over_the_network: tuple[dict[str, Any], Counter[str]]) -> None:
    # How long the file is, and its beginning.
    assert over_the_network[1]["ahead-open"] <= 2


def test_all_bands_of_a_point_cost_one_request(over_the_network: tuple[dict[str, Any], Counter[str]]) -> None:
    _, asked = over_the_network
    assert 1 <= asked["ahead-point"] - asked["ahead-open"] <= 2
    assert asked["ahead-points"] - asked["ahead-point"] == 1


def test_a_band_at_a_glance_costs_a_request_for_each_of_nine_blocks(
    over_the_network: tuple[dict[str, Any], Counter[str]],
) -> None:
    _, asked = over_the_network
    assert 1 <= asked["ahead-overview"] - asked["ahead-open"] <= 10


def test_without_reading_ahead_the_first_point_pays_for_the_places_of_the_blocks(
    over_the_network: tuple[dict[str, Any], Counter[str]],
) -> None:
    _, asked = over_the_network
    assert asked["plain-open"] <= 4
    assert asked["plain-point"] - asked["plain-open"] <= 4
    assert asked["plain-points"] - asked["plain-point"] == 1
    assert asked["plain-overview"] - asked["plain-open"] <= 11


class Counted(LocalStore):
    """A Zarr store that writes down what is asked of it: over a network each is a request."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)
        self.asked: list[str] = []

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return what the store holds, and write down that it was asked."""
        self.asked.append(key)
        return await super().get(key, *args, **kwargs)

    def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Do the same for a caller that does not wait."""
        self.asked.append(key)
        return super().get_sync(key, *args, **kwargs)


@pytest.fixture
def counted(tmp_path: Path) -> Callable[..., Counted]:
    """A maker of counted stores of a field in a layout."""

    def make(**options: Any) -> Counted:
        path = write_field(ArrayField(bumpy(12, 600, 700)), tmp_path / "field.zarr", **options).disk_path
        return Counted(path)

    return make


def test_opening_a_zarr_costs_one_request(counted: Callable[..., Counted]) -> None:
    store = counted()
    group = zarr.open_group(store, mode="r", zarr_format=3)
    assert {"embedding", "scale", "offset", "1"} <= set(group)
    assert group["1/embedding"].attrs["grid_mapping"] == "spatial_ref"
    assert store.asked == ["zarr.json"]


@pytest.mark.parametrize(("layout", "requests"), [("sharded", 2), ("flat", 1)])
def test_all_bands_of_a_point_of_a_zarr_cost_two_requests_or_one(
    counted: Callable[..., Counted], layout: str, requests: int
) -> None:
    # The index of a shard, and a chunk of it; or the chunk alone.
    store = counted(layout=layout)
    embedding: Any = zarr.open_group(store, mode="r", zarr_format=3)["embedding"]
    store.asked.clear()
    assert embedding[:, 300, 400].shape == (12,)
    assert len(store.asked) == requests
    assert {key.rpartition("/c/")[0] for key in store.asked} == {"embedding"}
