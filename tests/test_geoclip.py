"""GeoCLIP against the official package, on its released weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import embedfield as ef
from embedfield.encoders.geoclip import ROOT3
from embedfield.encoders.positional import EqualEarth
from embedfield.errors import WeightsError
from embedfield.models import card

if TYPE_CHECKING:
    import numpy.typing as npt

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def official() -> dict[str, npt.NDArray[np.floating]]:
    return dict(np.load(REFERENCE / "geoclip.npz"))


def test_float64_matches_the_official_code_everywhere(
    official: dict[str, npt.NDArray[np.floating]], released: Path
) -> None:
    found = ef.load("geoclip", released, "cpu", "float64").encode(official["lonlat"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, official["float64"], rtol=0, atol=1e-12)


def test_float32_is_nearer_to_float64_than_the_official_run_at_every_place(
    official: dict[str, npt.NDArray[np.floating]], released: Path
) -> None:
    found = ef.load("geoclip", released, "cpu").encode(official["lonlat"])
    ours, theirs = (abs(values - official["float64"]).max(axis=1) for values in (found, official["float32"]))
    assert found.dtype == np.float32
    # At (0, 0) every angle is 0, and the official run has no error but that of its sums.
    assert (ours <= np.maximum(theirs, 2**-24)).all()
    assert ours.max() < 2e-7


def test_the_lattice_equals_the_places_that_it_is_made_of(released: Path) -> None:
    encoder = ef.load("geoclip", released, "cpu", "float64")
    lons, lats = np.array([-180.0, -12.5, 0.0, 180.0]), np.array([90.0, 10.0, -90.0])
    places = np.stack(np.broadcast_arrays(lons[None, :], lats[:, None]), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(encoder.encode_lattice(lons, lats).reshape(-1, 512), encoder.encode(places), atol=1e-13)


def test_the_antimeridian_is_torn_as_its_card_says(released: Path) -> None:
    east, west = ef.load("geoclip", released, "cpu").encode([[180, 0], [-180, 0]])
    cosine = east @ west / np.linalg.norm(east) / np.linalg.norm(west)
    assert cosine == pytest.approx(0.27, abs=0.01)
    assert not card("geoclip").periodic


def test_equal_earth_has_the_projections_corners() -> None:
    # Šavrič et al. 2018: half the width of the equator is 2.70663 radii, the height to a pole 1.31738.
    places = torch.tensor([[180.0, 0.0], [0.0, 90.0]], dtype=torch.float64)
    x, y = EqualEarth(ROOT3).encode(places).diagonal().tolist()
    assert (x, y) == pytest.approx((2.70663 * 66.50336 / 180, 1.31738 * 66.50336 / 180), abs=1e-5)


def test_another_familys_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a GeoCLIP checkpoint.*'LocEnc'.*it holds epoch"):
        ef.load("geoclip", REFERENCE / "satclip_l10_small.ckpt")


def test_a_checkpoint_of_other_shapes_is_refused_whole(tmp_path: Path, released: Path) -> None:
    state = torch.load(released, weights_only=True)
    state["LocEnc1.head.0.bias"] = torch.zeros(511)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match="does not fit GeoCLIP.*LocEnc1.head.0.bias"):
        ef.load("geoclip", tmp_path / "wrong.pth")


def test_the_record_of_the_download_says_where_it_came_from(released: Path) -> None:
    record = json.loads(released.with_name(f"{released.name}.json").read_text())
    assert "geoclip==1.3.0" in record["source"]
    assert zipfile.is_zipfile(released)
