"""Checkpoints are data: what is damaged or would run code is refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from embedfield.encoders.checkpoint import fill, read_checkpoint, require, tensors_below
from embedfield.errors import WeightsError

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
