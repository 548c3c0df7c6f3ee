"""Positional encodings separate: folded weights give what the features give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyproj import Transformer

from embedfield.encoders.harmonics import Harmonics, PublishedHarmonics
from embedfield.encoders.positional import Separable, UnitVector, fold, lattice_features

LONS = torch.tensor([-180.0, -77.7, 0.0, 45.0, 179.99], dtype=torch.float64)
LATS = torch.tensor([-90.0, -33.3, 0.0, 60.0, 90.0, 89.9], dtype=torch.float64)


def features_by_place(posenc: Separable) -> torch.Tensor:
    lat, lon = torch.meshgrid(LATS, LONS, indexing="ij")
    places = torch.stack((lon.ravel(), lat.ravel()), dim=-1)
    return posenc.encode(places).reshape(len(LATS), len(LONS), -1)


@pytest.mark.parametrize("posenc", [UnitVector(), Harmonics(9), PublishedHarmonics(9)], ids=lambda p: type(p).__name__)
def test_a_folded_layer_equals_the_layer_on_the_features(posenc: Separable) -> None:
    weight = torch.randn(7, posenc.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    along_lon = posenc.along_lon(LONS)
    folded = fold(weight, posenc, LATS, along_lon.shape[1])
    assert folded.shape == (6, 7, along_lon.shape[1])
    expected = features_by_place(posenc) @ weight.T
    torch.testing.assert_close(along_lon @ folded.transpose(1, 2), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("posenc", [UnitVector(), Harmonics(9), PublishedHarmonics(9)], ids=lambda p: type(p).__name__)
def test_features_on_a_lattice_equal_those_of_its_places(posenc: Separable) -> None:
    torch.testing.assert_close(lattice_features(posenc, LONS, LATS), features_by_place(posenc), rtol=0, atol=1e-13)


def test_the_unit_vector_is_that_of_geodesy() -> None:
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (100, 2))
    # On a sphere of radius 1, geocentric coordinates are the unit vector.
    to_xyz = Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +R=1"
    )
    x, y, z = to_xyz.transform(lonlat[:, 0], lonlat[:, 1], np.zeros(100))
    found = UnitVector().encode(torch.from_numpy(lonlat)).numpy()
    np.testing.assert_allclose(found, np.column_stack((x, y, z)), atol=1e-12)
