"""Precision: the fastest that packing hides is taken, what it costs is told, and what is asked is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from references import small_files

import embedfield as ef
from embedfield import models, order
from embedfield.build import build_field
from embedfield.errors import DeviceError
from embedfield.evaluate import Evaluator
from embedfield.formats import open_field
from embedfield.grid import Grid
from embedfield.precision import SHARE, choose

if TYPE_CHECKING:
    from pathlib import Path

    from embedfield.evaluate import EncodedField, Precision


@pytest.fixture(params=["satclip-l10", "sinr", "climplicit"])
def field(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncodedField:
    """A computed field, on a processor that is fast in bfloat16."""
    monkeypatch.setattr("embedfield.evaluate._has_bf16", lambda _: True)
    files = small_files(models.card(request.param), tmp_path)
    return ef.EncodedField(ef.load(request.param, device="cpu", **files), Grid.from_bounds(5))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_the_fastest_is_taken_whose_error_is_a_tenth_of_the_packings(field: EncodedField, dtype: Any) -> None:
    chosen = choose(field, field.evaluator, dtype, None)
    places = field.places(256)
    official = field.evaluator.encode(places).astype(np.float64)
    packing = ef_packing_error(official, dtype)
    errors = {name: rms(field.evaluator.at(name).encode(places), official) for name in field.evaluator.faster}
    good = [name for name, error in errors.items() if error < SHARE * packing]
    assert chosen.evaluator.precision == (good or [field.evaluator.precision])[0]
    assert chosen.error == (pytest.approx(errors[good[0]]) if good else None)
    # bfloat16 has 8 binary digits, as uint8 has: it is never good enough.
    assert chosen.evaluator.precision != "bf16"
    if field.card.dtype == "float64":
        assert chosen.evaluator.precision == ("float64" if dtype == "float32" else "float32")


def rms(found: Any, official: Any) -> float:
    return float(np.sqrt((((found - official) / official.std(axis=0)) ** 2).mean()))


def ef_packing_error(values: Any, dtype: str) -> float:
    """What storing values in a band's own range costs, by arithmetic of its own."""
    if dtype.startswith("float"):
        return rms(values.astype(dtype).astype(np.float64), values)
    low, high = values.min(axis=0), values.max(axis=0)
    step = (high - low) / (254 if dtype == "uint8" else 65534)
    return rms(low + np.rint((values - low) / step) * step, values)


@pytest.mark.parametrize("wanted", ["bf16", "float32", "float64"])
def test_what_is_asked_is_done_and_its_error_is_told(field: EncodedField, wanted: Precision) -> None:
    chosen = choose(field, field.evaluator, "uint8", wanted)
    assert chosen.evaluator.precision == wanted
    low, high = {"bf16": (1e-4, 0.1), "float32": (1e-9, 1e-5), "float64": (1e-9, 1e-5)}[wanted]
    official = wanted == field.evaluator.precision
    assert chosen.error is None if official else low < float(chosen.error or 0) < high


def test_a_region_without_places_takes_the_official_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    field = ef.EncodedField(ef.load("sh-l10", device="cpu"), Grid.from_bounds(10))
    monkeypatch.setattr(field, "places", lambda _: np.empty((0, 2)))
    assert choose(field, field.evaluator, "uint8", None).evaluator is field.evaluator


def test_a_build_tells_its_precision_and_what_it_costs(tmp_path: Path) -> None:
    files = small_files(models.card("satclip-l10"), tmp_path)
    with build_field("satclip-l10", 10, out=tmp_path / "out", device="cpu", **files) as stored:
        assert stored.provenance["precision"] == "float32"
        assert 0 < stored.provenance["precision_error"] < 1e-5
        folder = stored.disk_path.parent
    again = build_field("satclip-l10", 10, out=tmp_path / "out", device="cpu", precision="float32", **files)
    assert again.disk_path.parent == folder
    again.close()


def test_rounding_is_seen_by_the_certificate(tmp_path: Path) -> None:
    files = small_files(models.card("sinr"), tmp_path)
    losses = {}
    for precision in ("float32", "bf16"):
        out = tmp_path / precision
        build_field("sinr", 10, out=out, dtype="float32", precision=precision, device="cpu", **files).close()
        (told,) = out.glob("sinr*/*/certificate.json")
        losses[precision] = json.loads(told.read_text())
    assert losses["bf16"]["precision"] == losses["float32"]["precision"] == "float32"
    costs = [losses[name]["area"]["nearest"]["packing"]["relative_rmse"] for name in ("float32", "bf16")]
    assert costs[0] < 1e-6
    assert costs[1] > 1e-4


def test_a_build_goes_on_at_the_precision_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_files(models.card("satclip-l10"), tmp_path)
    asked: Any = {"out": tmp_path / "out", "device": "cpu", **files}
    build_field("satclip-l10", 10, precision="float32", **asked).close()
    # Another machine would choose another one.
    monkeypatch.setattr(order, "choose", lambda _, official, __, wanted: choose(_, official, __, wanted or "float64"))
    with build_field("satclip-l10", 10, **asked) as stored:
        assert stored.provenance["precision"] == "float32"


def test_a_precision_that_is_none_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="precision='half'. Choose from: float64, float32, tf32, bf16"):
        build_field("geoclip", 10, precision="half", out=tmp_path, offline=True)  # type: ignore[arg-type]


def test_a_field_of_a_gpu_is_verified_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small_files(models.card("sinr"), tmp_path)
    evaluator = ef.load("sinr", device="cpu", **files)
    at = Evaluator.at

    def pretend(self: Evaluator, precision: Precision) -> Evaluator:
        other = at(self, "float32" if precision == "tf32" else precision)
        other.precision = precision
        return other

    monkeypatch.setattr(Evaluator, "at", pretend)
    field = build_field("sinr", 10, out=tmp_path / "out", precision="tf32", verify=False, device="cpu", **files)
    field.close()
    monkeypatch.undo()
    with open_field(field.disk_path) as stored:
        assert stored.provenance["precision"] == "tf32"
        certificate = ef.verify_field(stored, weights=files["weights"], device="cpu", places=64)
    assert evaluator.precision == "float32"
    assert "float32" in json.dumps(certificate.to_dict())
