"""Which reference stands for which model: small checkpoints in official layout, and the official outputs with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import embedfield as ef
from embedfield.models import USERS, card

if TYPE_CHECKING:
    import numpy.typing as npt

    from embedfield.card import Card

REFERENCE = Path(__file__).parent / "reference"
# Larger references, of the released models' real size, where they lie beside the project.
LARGE = Path(__file__).parent.parent.parent / "shared"


@dataclass(frozen=True)
class Reference:
    """A checkpoint, and the official code's outputs with it."""

    card: Card
    weights: str
    numbers: str
    """The file of the outputs."""
    outputs: str = ""
    """What the names of the outputs begin with, before ``float64`` and ``float32``."""
    places: str = "lonlat"
    database: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    """What is asked beside the place."""

    def load(self, precision: Any) -> ef.Evaluator:
        """Return the encoder, on the CPU."""
        database = REFERENCE / self.database if self.database else None
        return ef.load(self.card, REFERENCE / self.weights, "cpu", precision, database=database, **self.asked)

    def official(self, precision: str) -> npt.NDArray[np.floating]:
        """Return the official outputs (N, dim)."""
        found: npt.NDArray[np.floating] = np.load(REFERENCE / self.numbers)[f"{self.outputs}{precision}"]
        return found

    @property
    def lonlat(self) -> npt.NDArray[np.float64]:
        """Return the places (N, 2)."""
        found: npt.NDArray[np.float64] = np.load(REFERENCE / self.numbers)[self.places]
        return found


def with_options(name: str, **options: Any) -> Card:
    """A known model's card with other options."""
    known = card(name)
    return replace(known, options={**known.options, **options})


def users_card(posenc: str, network: str, dim: int = 5, **options: Any) -> Card:
    """The card of an encoder trained with the code of Rußwurm et al. 2024."""
    told = {"name": "mine", "title": "mine", "dim": dim, "options": {"posenc": posenc, "network": network, **options}}
    return ef.Card.from_dict({**USERS, **told})


SCALES = {"frequency_num": 4, "min_radius": 1, "max_radius": 360}


def _torchspatial() -> dict[str, Reference]:
    found = {}
    for path in sorted(REFERENCE.glob("torchspatial_*.pth.tar")):
        kind = path.name.removeprefix("torchspatial_").removesuffix(".pth.tar")
        told = torch.load(path, weights_only=True)["params"]
        model = with_options("torchspatial-fmow-xyz", spa_enc_type=told["spa_enc_type"], dataset=told["dataset"])
        found[f"torchspatial {kind}"] = Reference(model, path.name, "torchspatial_small.npz", f"{kind}_")
    return found


def _range(name: str, outputs: str, weights: str) -> Reference:
    model = with_options(name, legendre_polys=10)
    return Reference(model, weights, "range_small.npz", outputs, database="range_db_small.npz")


REFERENCES: dict[str, Reference] = {
    "sinr": Reference(card("sinr"), "sinr_small.pt", "sinr_small.npz"),
    "sinr safetensors": Reference(card("sinr"), "sinr_small.safetensors", "sinr_small.npz"),
    **{
        f"climplicit month {month}": Reference(
            card("climplicit"),
            "climplicit_small.safetensors",
            "climplicit_small.npz",
            f"month{month}_",
            asked={"month": month},
        )
        for month in (4, 12)
    },
    "climplicit": Reference(card("climplicit"), "climplicit_small.safetensors", "climplicit_small.npz", "year_"),
    "taxabind": Reference(card("taxabind"), "taxabind_small.safetensors", "taxabind_small.npz"),
    "csp-fmow": Reference(card("csp-fmow"), "csp_small.pth.tar", "csp_small.npz"),
    "csp-inat": Reference(card("csp-inat"), "csp_small_leaky.pth.tar", "csp_small_leaky.npz"),
    "csp-inat, numpy's old name": Reference(card("csp-inat"), "numpy_scalar_old.pth.tar", "csp_small_leaky.npz"),
    "mind": Reference(card("mind"), "mind_small.safetensors", "mind_small.npz"),
    **{
        f"mind {year}": Reference(
            card("mind"), "mind_year_small.safetensors", "mind_small.npz", f"year{year}_", asked={"year": year}
        )
        for year in (2020, 2023)
    },
    "range": _range("range", "range_", "satclip_l10_small.ckpt"),
    "range-plus": _range("range-plus", "range_plus_", "satclip_l10_small.safetensors"),
    **{
        f"gps2vec-{kind}": Reference(
            card(f"gps2vec-{kind}"), f"gps2vec_{kind}_small.zip", "gps2vec_small.npz", f"{kind}_", "net_lonlat"
        )
        for kind in ("tag", "visual")
    },
    **{
        f"locationencoder {network}": Reference(
            users_card("sphericalharmonics", network, legendre_polys=8),
            f"locationencoder_{network}.ckpt",
            "locationencoder_small.npz",
            f"{network}_",
        )
        for network in ("linear", "fcnet", "siren")
    },
    "locationencoder siren over spheremplus": Reference(
        users_card("spheremplus", "siren", **SCALES),
        "locationencoder_siren_spheremplus.ckpt",
        "locationencoder_small.npz",
        "siren_spheremplus_",
    ),
    **_torchspatial(),
}


def small_files(model: Card, folder: Path) -> dict[str, Any]:
    """Return what `ef.load` takes to make any known model small: checkpoints of its family, in official layout.

    A checkpoint says of which variant it is; where that is not the model's, a
    copy that says so is written to the folder.
    """
    family = model.code.partition(":")[0].rpartition(".")[2]
    if family == "analytic":
        return {}
    database = {"database": REFERENCE / "range_db_small.npz"} if family == "range" else {}
    return {"weights": _small_weights(model, family, folder), **database}


def _small_weights(model: Card, family: str, folder: Path) -> Path:
    match family:
        case "satclip" | "range":
            return _satclip_like(model, folder)
        case "csp":
            return _told(REFERENCE / "csp_small.pth.tar", folder, dataset=model.options["dataset"])
        case "torchspatial":
            kind = model.options["spa_enc_type"].replace("+", "plus")
            return _told(REFERENCE / f"torchspatial_{kind}.pth.tar", folder, dataset=model.options["dataset"])
        case "gps2vec":
            return REFERENCE / f"{model.name.replace('-', '_')}_small.zip"
        case _:
            return REFERENCE / f"{'taxabind' if family == 'geoclip' else family}_small.safetensors"


def _told(path: Path, folder: Path, **parameters: Any) -> Path:
    """Write a copy of a checkpoint with other parameters."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["params"] |= parameters
    torch.save(checkpoint, folder / path.name)
    return folder / path.name


def _satclip_like(model: Card, folder: Path) -> Path:
    """Write a copy of a small SatCLIP checkpoint that is of a model's tower."""
    checkpoint = torch.load(REFERENCE / f"satclip_l{model.options['legendre_polys']}_small.ckpt", weights_only=True)
    checkpoint["hyper_parameters"] |= {"vision_layers": model.options["vision_layers"]}
    torch.save(checkpoint, folder / "satclip.ckpt")
    return folder / "satclip.ckpt"
