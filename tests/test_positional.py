"""Positional encodings separate: folded weights give what the features give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyproj import Transformer

from embedfield.encoders.harmonics import Harmonics
from embedfield.encoders.lattice import pairs
from embedfield.encoders.locationencoder import ClosedForm
from embedfield.encoders.positional import (
    Angles,
    EqualEarth,
    Folding,
    GridCells,
    Separable,
    Sphere2Vec,
    TheoryCells,
    UnitVector,
    Wrap,
    geometric,
    spread,
)
from embedfield.encoders.published import PublishedHarmonics
from embedfield.encoders.torchspatial import RandomFourier

LONS = torch.tensor([-180.0, -77.7, 0.0, 45.0, 179.99, 180.0], dtype=torch.float64)
LATS = torch.tensor([-90.0, -33.3, 0.0, 60.0, 90.0, 89.9], dtype=torch.float64)
SCALES = geometric(5, 0.01, 360)
DIRECTIONS = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
POSENCS: dict[str, Separable] = {
    "xyz": UnitVector(),
    "direct": Angles((0.1, 0.2), (-1.0, 0.5)),
    "wrap": Wrap((360, 360), sines_first=False),
    "sinr": Wrap((360, 180), sines_first=True),
    "grid": GridCells(SCALES),
    "theory": TheoryCells(SCALES, halves=False),
    "theory, halves": TheoryCells(SCALES, halves=True),
    **{kind: Sphere2Vec(kind, SCALES, unit=1.0, repeats=2) for kind in Sphere2Vec.COUNTS},
    "rff": RandomFourier(DIRECTIONS, DIRECTIONS[0], (-180, 180, -90, 90)),
    "equal earth": EqualEarth(3**0.5),
    "harmonics": Harmonics(9),
    "published harmonics": PublishedHarmonics(9),
    "closed form": ClosedForm(9),
}
each = pytest.mark.parametrize("posenc", POSENCS.values(), ids=POSENCS)


def features_by_place(posenc: Separable) -> torch.Tensor:
    return posenc.encode(pairs(LONS, LATS)).reshape(len(LATS), len(LONS), -1)


@each
def test_a_folded_layer_equals_the_layer_on_the_features(posenc: Separable) -> None:
    random = torch.Generator().manual_seed(1)
    weight, bias = (torch.randn(*shape, dtype=torch.float64, generator=random) for shape in ((7, posenc.dim), (7,)))
    along_lon = posenc.along_lon(LONS)
    folded = Folding(posenc, weight, bias).at(LATS)
    assert folded.shape == (6, along_lon.shape[1], 7)
    expected = features_by_place(posenc) @ weight.T + bias
    torch.testing.assert_close(along_lon @ folded, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@each
def test_features_on_a_lattice_equal_those_of_its_places(posenc: Separable) -> None:
    found = spread(posenc, posenc.along_lon(LONS), posenc.along_lat(LATS))
    # An angle of 36,000 radians has 12 digits after the point.
    torch.testing.assert_close(found, features_by_place(posenc), rtol=0, atol=1e-10)


@each
def test_the_first_function_of_longitude_takes_the_bias(posenc: Separable) -> None:
    assert isinstance(posenc, Separable)
    assert torch.equal(posenc.along_lon(LONS)[:, 0], torch.ones(len(LONS), dtype=torch.float64))
    assert posenc.columns.shape == posenc.features.shape == posenc.along_lat(LATS).shape[1:]
    assert posenc.along_lon(LONS[:0]).shape[0] == posenc.along_lat(LATS[:0]).shape[0] == 0


def test_the_unit_vector_is_that_of_geodesy() -> None:
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (100, 2))
    # On a sphere of radius 1, geocentric coordinates are the unit vector.
    to_xyz = Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +R=1"
    )
    x, y, z = to_xyz.transform(lonlat[:, 0], lonlat[:, 1], np.zeros(100))
    found = UnitVector().encode(torch.from_numpy(lonlat)).numpy()
    np.testing.assert_allclose(found, np.column_stack((x, y, z)), atol=1e-12)
