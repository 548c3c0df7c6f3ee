"""Checkpoints of real size and random numbers, in the layout of the official ones: for measuring speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import embedfield as ef

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedfield.evaluate import Evaluator

State = dict[str, torch.Tensor]


class _Layers:
    """A maker of random layers, always the same."""

    def __init__(self) -> None:
        self._random = torch.Generator().manual_seed(0)

    def __call__(self, name: str, outputs: int, inputs: int, bound: float | None = None) -> State:
        """Return weight and bias under a name, evenly spread up to a bound; (6 / inputs)^(1/2) if None."""
        bound = (6 / inputs) ** 0.5 if bound is None else bound
        weight, bias = ((torch.rand(outputs, size, generator=self._random) * 2 - 1) * bound for size in (inputs, 1))
        return {f"{name}.weight": weight, f"{name}.bias": bias[:, 0]}


def satclip(folder: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return SatCLIP with 40 harmonic degrees."""
    layer, tower = _Layers(), "model.location.nnet."
    state = {
        # As SIRENs begin: Sitzmann et al. 2020, arXiv 2006.09661.
        **layer(f"{tower}layers.0", 512, 1600, 1 / 1600),
        **layer(f"{tower}layers.1", 512, 512),
        **layer(f"{tower}last_layer", 256, 512),
    }
    told = {"vision_layers": "moco_vit16", "harmonics_calculation": "analytic"}
    path = folder / "satclip.ckpt"
    torch.save({"hyper_parameters": told, "state_dict": state}, path)
    return ef.load("satclip-l40", path, device, precision)


def csp(folder: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return CSP as trained on fMoW."""
    layer, net = _Layers(), "loc_enc.spa_enc.ffn.layers."
    state = {
        **layer(f"{net}0.linear", 512, 128),
        f"{net}0.layernorm.weight": torch.ones(512),
        f"{net}0.layernorm.bias": torch.zeros(512),
        **layer(f"{net}1.linear", 256, 512),
    }
    told = {
        "spa_enc_type": "gridcell",
        "dataset": "fmow",
        "frequency_num": 32,
        "min_radius": 0.1,
        "max_radius": 360,
        "spa_f_act": "gelu",
        "use_layn": True,
        "skip_connection": True,
    }
    path = folder / "csp.pth.tar"
    torch.save({"params": told, "state_dict": state}, path)
    return ef.load("csp-fmow", path, device, precision)


def sinr(folder: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return SINR."""
    layer = _Layers()
    state = layer("feats.0", 256, 4)
    for number in range(2, 6):
        state |= layer(f"feats.{number}.w1", 256, 256) | layer(f"feats.{number}.w2", 256, 256)
    path = folder / "sinr.pt"
    torch.save({"params": {}, "state_dict": state}, path)
    return ef.load("sinr", path, device, precision)


def climplicit(folder: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return Climplicit in one month."""
    layer, tower = _Layers(), "location_encoder."
    state = layer(f"{tower}layers.0", 512, 4, 1 / 4)
    for number in range(1, 16):
        state |= layer(f"{tower}layers.{number}", 512, 512)
    state |= layer(f"{tower}last_layer", 256, 512)
    path = folder / "climplicit.pt"
    torch.save(state, path)
    return ef.load("climplicit", path, device, precision, month=7)


def mind(folder: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return MIND, its first 64 dimensions."""
    layer = _Layers()
    state = layer("first.linear", 3072, 2, 0.5)
    for number in range(12):
        state |= layer(f"blocks.{number}.linear", 3072, 3072)
    path = folder / "mind.pt"
    torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    return ef.load("mind", path, device, precision)


def geoclip(_: Path, precision: Any = "float32", device: str = "cpu") -> Evaluator:
    """Return GeoCLIP, with its released weights."""
    return ef.load("geoclip", device=device, precision=precision)


ENCODERS: dict[str, tuple[Callable[..., Evaluator], int]] = {
    "satclip-l40": (satclip, 79 * 512 + 512 * 512 + 512 * 256),
    "geoclip": (geoclip, 3 * (512 * 1024 + 1024 * 1024 + 1024 * 1024 + 1024 * 512)),
    "csp": (csp, 65 * 512 + 512 * 256),
    "sinr": (sinr, 3 * 256 + 8 * 256 * 256),
    "climplicit": (climplicit, 2 * 512 + 15 * 512 * 512 + 512 * 256),
    "mind": (mind, 2 * 3072 + 11 * 3072 * 3072 + 3072 * 64),
}
"""By name: what makes the encoder, and how many multiply-adds a pixel of a lattice takes, its first layer folded."""
