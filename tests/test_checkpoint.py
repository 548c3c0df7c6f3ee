"""Checkpoints are data: what is damaged or would run code is refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from embedfield.encoders.checkpoint import (
    brief,
    check_tensors,
    check_variant,
    fill,
    option,
    parameter,
    read_checkpoint,
    require,
    shown,
    tensors_below,
)
from embedfield.errors import CardError, WeightsError
from embedfield.models import card

if TYPE_CHECKING:
    from pathlib import Path

STATE = {"tower.weight": torch.ones(2, 3), "tower.bias": torch.zeros(2)}


class _Malice:
    """A pickle that would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (self.path.write_text, ("ran",))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_both_kinds_of_file_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
    assert torch.equal(read_checkpoint(path)["tower.weight"], STATE["tower.weight"])


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _Malice(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="cannot be read as tensors alone: it asks for getattr.*safetensors"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"(not a whole checkpoint|no checkpoint)"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"<!DOCTYPE html><html>", pickle.dumps([1, 2], protocol=2)])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_of_one_tensor_has_no_names_and_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="holds a Tensor, not named tensors"):
        read_checkpoint(tmp_path / "a.pt")


def test_tensors_below_a_prefix_lose_it_and_others_are_left_out(tmp_path: Path) -> None:
    found = tensors_below({**STATE, "other.weight": torch.ones(1), "tower.epoch": 3}, "tower.", tmp_path, "X")
    assert set(found) == {"weight", "bias"}


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="it has no tensor 'scale' and 1 more"):
        require(STATE, ["tower.bias", "scale", "shift"], tmp_path, "X")


def test_a_module_is_filled_whole_or_not_at_all(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(WeightsError, match="does not fit X.*size mismatch for bias"):
        fill(module, {"weight": torch.ones(2, 3), "bias": torch.ones(4)}, tmp_path, "X")
    fill(module, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, tmp_path, "X")
    assert module.bias.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.ones(2, dtype=torch.int64), "is of torch.int64, and weights are floating-point numbers"),
        (torch.ones(2).to_sparse(), "is of torch.sparse_coo on cpu, and weights are numbers side by side"),
        (torch.ones(2, device="meta"), "is of torch.strided on meta, and weights are numbers side by side"),
        (torch.ones(1).expand(10**13), "is of the shape .10000000000000,., and the file holds fewer numbers"),
    ],
)
def test_tensors_that_are_no_weights_are_named(tmp_path: Path, tensor: torch.Tensor, why: str) -> None:
    with pytest.raises(WeightsError, match=f"its tensor 'scale' {why}"):
        check_tensors({"bias": torch.ones(2), "scale": tensor}, tmp_path, "X")


def test_what_is_quoted_is_printable_short_and_on_one_line() -> None:
    assert brief("one\n\ttwo\x1b[31m") == "one two[31m"
    assert len(brief("long" * 1000)) == 301
    assert len(shown("long" * 1000)) < 100
    assert shown("a\nb") == r"'a\nb'"
    assert shown([torch.ones(1).expand(10**13), 0.5]) == "[a Tensor, 0.5]"


def test_a_variant_is_told_by_words_and_numbers_alone(tmp_path: Path) -> None:
    check_variant(card("xyz"), {"kind": "a"}, {"kind": "a", "size": 3}, tmp_path)
    for found in ("b", 3, None, ["a"], torch.ones(2)):
        with pytest.raises(WeightsError, match="is not xyz: its kind is .*, and xyz has 'a'"):
            check_variant(card("xyz"), {"kind": found}, {"kind": "a"}, tmp_path)


def test_a_whole_number_is_a_number_unless_no_float_can_hold_it(tmp_path: Path) -> None:
    assert parameter({"radius": 360}, "radius", float, tmp_path, "X") == 360.0
    with pytest.raises(WeightsError, match="'radius' is 1000.*, and should be a number"):
        parameter({"radius": 10**400}, "radius", float, tmp_path, "X")


def test_an_option_of_another_kind_is_the_cards_fault() -> None:
    assert option(card("sh-l10"), "legendre_polys", int) == 10
    with pytest.raises(CardError, match="Card 'sh-l10' has legendre_polys=10 .* kind str. Correct the card"):
        option(card("sh-l10"), "legendre_polys", str)
