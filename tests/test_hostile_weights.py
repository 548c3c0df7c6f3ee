"""Whatever a file holds: its encoder works, or the file is refused in one line that names it. It is never run."""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import pickle
import re
import tarfile
import warnings
import zipfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from references import REFERENCE, REFERENCES, Reference
from safetensors.torch import save_file

import embedfield as ef
from embedfield import models
from embedfield.card import UrlWeights
from embedfield.encoders.checkpoint import read_checkpoint
from embedfield.errors import CardError, ChecksumError, InputsError, WeightsError
from embedfield.weights import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

# The last four lie in zones of GPS2Vec's small archives.
PLACES = np.array([[8.54, 47.37], [-180.0, -80.0], [105.0, 5.0], [15.6, 78.2], [5.3, 60.4], [103.8, 1.3]])
LONGEST = 700  # characters of a message

SATCLIP = {
    f"satclip {suffix}": Reference(models.card("satclip-l10"), f"satclip_l10_small.{suffix}", "satclip_l10_small.npz")
    for suffix in ("ckpt", "safetensors")
}
# The same file asked for another month or year is no other file.
ALL = {name: held for name, held in REFERENCES.items() if "month" not in name and name != "mind 2023"} | SATCLIP
# Of TorchSpatial's fifteen one of each way in which a checkpoint makes an encoder.
ONCE = [f"torchspatial {kind}" for kind in ("Space2Vec-grid_noln", "Sphere2Vec-sphereMplus", "rff", "xyz_h2")]
EACH = {name: held for name, held in ALL.items() if not name.startswith(("torchspatial", "csp-inat,")) or name in ONCE}
# RANGE reads its weights as SatCLIP does.
CHECKPOINTS = {name: held for name, held in EACH.items() if not held.weights.endswith(".zip") and not held.database}
TORCH = {name: held for name, held in CHECKPOINTS.items() if not held.weights.endswith(".safetensors")}
WITH_PARAMETERS = {name: TORCH[name] for name in ("csp-fmow", *ONCE[1:3])}
WITH_HYPERPARAMETERS = {name: TORCH[name] for name in ("satclip ckpt", "locationencoder siren over spheremplus")}
GPS2VEC = {name: held for name, held in EACH.items() if held.weights.endswith(".zip")}
DATABASES = {name: held for name, held in EACH.items() if held.database}


def steady(name: str) -> str:
    """Return the name of an object without its address, so that tests have one name in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", name)


def each(references: dict[str, Reference]) -> pytest.MarkDecorator:
    """Run a test with every reference."""
    return pytest.mark.parametrize("reference", references.values(), ids=references)


def attempt(reference: Reference, weights: Path, database: Path | None = None) -> npt.NDArray[np.floating] | str:
    """Return the embeddings that files make, or why they are refused: in one line that names one of them."""
    database = database or (REFERENCE / reference.database if reference.database else None)
    try:
        made = ef.load(reference.card, weights, "cpu", database=database, **reference.asked)
        found = made.encode(PLACES)
    except (WeightsError, InputsError) as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < LONGEST
        assert str(weights) in message or str(database) in message
        return message
    assert found.shape == (len(PLACES), made.dim)
    assert made.encode_lattice([10.0, 105.0], [5.0, 0.0]).shape == (2, 2, made.dim)
    return found


def outcome(reference: Reference, weights: Path, database: Path | None = None) -> str:
    """Return why files are refused; nothing where their encoder works."""
    found = attempt(reference, weights, database)
    return found if isinstance(found, str) else ""


def refused_or_intact(reference: Reference, weights: Path) -> str:
    """Return why a file is refused; nothing where what was changed in it was none of the encoder's."""
    found = attempt(reference, weights)
    if isinstance(found, str):
        return found
    # Where numbers lie in memory moves their last bits.
    official = intact(reference.card.name, reference.weights)
    np.testing.assert_allclose(found, official, rtol=0, atol=1e-9 * np.nanmax(abs(official)))
    return ""


@cache
def intact(model: str, weights: str) -> npt.NDArray[np.floating]:
    """Return the embeddings that an intact file makes."""
    reference = next(held for held in ALL.values() if (held.card.name, held.weights) == (model, weights))
    found = attempt(reference, REFERENCE / weights)
    assert not isinstance(found, str)
    return found


def content(reference: Reference) -> dict[str, Any]:
    """Return what an official file holds, to be changed."""
    held = kept(reference.weights)
    return {name: dict(part) if isinstance(part, dict) else part for name, part in held.items()}


@cache
def kept(weights: str) -> dict[str, Any]:
    """Return what an official file holds."""
    return read_checkpoint(REFERENCE / weights)


def state_of(held: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint that is tensors."""
    found: dict[str, Any] = held.get("state_dict", held)
    return found


def write(held: Any, folder: Path, reference: Reference) -> Path:
    """Write a checkpoint of an official one's kind."""
    path = folder / f"changed{Path(reference.weights).suffix}"
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone().contiguous() for name, tensor in held.items()}, path)
    else:
        torch.save(held, path)
    return path


def changes(reference: Reference, change: Callable[[torch.Tensor], list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield a checkpoint for each of its tensors that has something to be changed into."""
    for name, tensor in state_of(content(reference)).items():
        for changed in change(tensor):
            held = content(reference)
            state_of(held)[name] = changed
            yield held


# Damaged files


@each(ALL)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, reference: Reference) -> None:
    data = (REFERENCE / reference.weights).read_bytes()
    path = tmp_path / f"short{Path(reference.weights).suffix}"
    for share in (0, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(data[: max(1, int(share * len(data)))])
        assert re.search("Fetch it again|Give the", outcome(reference, path))


@each(ALL)
def test_an_empty_file_is_refused(tmp_path: Path, reference: Reference) -> None:
    path = tmp_path / reference.weights
    path.touch()
    assert "are an empty file" in outcome(reference, path)


@each(EACH)
def test_what_is_no_such_file_is_refused(tmp_path: Path, reference: Reference) -> None:
    path = tmp_path / reference.weights
    for junk in (
        bytes(3000),
        b"<!DOCTYPE html>\n<html>\n" * 50,
        b"version https://git-lfs\n",
        b"x",
        b"PK\3\4",
        b"{" * 99,
    ):
        path.write_bytes(junk)
        assert outcome(reference, path)


@each(EACH)
def test_damaged_bytes_are_refused_or_do_not_matter(tmp_path: Path, reference: Reference) -> None:
    data = (REFERENCE / reference.weights).read_bytes()
    random = np.random.default_rng(5)
    path = tmp_path / reference.weights
    for _ in range(12):
        damaged = bytearray(data)
        for position in random.integers(min(len(data), 3000), size=3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        assert len(attempt(reference, path))


def test_a_released_file_with_another_checksum_is_refused() -> None:
    released = UrlWeights(url="https://127.0.0.1/a.ckpt", file="a.ckpt", licence="MIT", sha256="0" * 64)
    # Kept in the cache, as if it had been fetched.
    file = Path(os.environ["EMBEDFIELD_CACHE"]) / "weights" / "satclip" / "a.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes((REFERENCE / "satclip_l10_small.ckpt").read_bytes())
    with pytest.raises(ChecksumError, match="a.ckpt.*0000"):
        fetch(released, model="satclip", offline=True)


@each(CHECKPOINTS)
def test_the_other_kinds_name_is_found_out(tmp_path: Path, reference: Reference) -> None:
    state = {name: tensor.clone().contiguous() for name, tensor in state_of(content(reference)).items()}
    save_file(state, tmp_path / "a.pt")
    assert "is a safetensors file by another name. Rename it" in outcome(reference, tmp_path / "a.pt")
    for zipped in (True, False):
        torch.save(state, tmp_path / "a.safetensors", _use_new_zipfile_serialization=zipped)
        assert "is a torch file and no safetensors one. Rename it" in outcome(reference, tmp_path / "a.safetensors")


def test_a_header_that_begins_like_a_torch_file_is_still_one_of_safetensors(tmp_path: Path) -> None:
    data = (REFERENCE / "sinr_small.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    for start in (b"PK\0\0", b"\x80\x02\x01\0"):
        longer = int.from_bytes(start, "little")
        header = data[8 : 8 + size].ljust(longer)
        (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
        assert not refused_or_intact(ALL["sinr safetensors"], tmp_path / "a.safetensors")


TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
HEADERS = [
    *(b"", b"{", b"[]", b"null", b"{}" * 9, b'{"a": 3}', b"{" * 5000, b"\xff" * 40),
    *(
        json.dumps({"feats.0.weight\n\x1b[31m": TENSOR | changed}).encode()
        for changed in (
            {},
            {"dtype": "X9"},
            {"dtype": "I64", "shape": [2, 1]},
            {"shape": [-1, 2]},
            {"shape": [2**40, 2**40]},
            {"shape": "big"},
            {"data_offsets": [0, 10**15], "shape": [10**15 // 4]},
            {"data_offsets": [16, 0]},
        )
    ),
]


def test_a_bad_header_of_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for header in HEADERS:
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
        assert outcome(ALL["sinr safetensors"], path), header


@pytest.mark.parametrize("claim", [0, 1, 10**6, 10**12, 2**64 - 1])
def test_a_header_that_claims_another_length_is_refused(tmp_path: Path, claim: int) -> None:
    data = (REFERENCE / "sinr_small.safetensors").read_bytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(claim.to_bytes(8, "little") + data[8:])
    assert "is not a whole checkpoint" in outcome(ALL["sinr safetensors"], path)


# Tensors that are not those of the model


@each(CHECKPOINTS)
def test_a_missing_tensor_is_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    refused = []
    for name in state_of(content(reference)):
        held = content(reference)
        del state_of(held)[name]
        refused.append(refused_or_intact(reference, write(held, tmp_path, reference)))
    assert any("it has no tensor" in why for why in refused)
    assert not any("Missing key" in why for why in refused)


SHAPES: dict[str, Callable[[torch.Tensor], list[Any]]] = {
    "transposed": lambda tensor: [tensor.T] if tensor.ndim == 2 and len(set(tensor.shape)) == 2 else [],
    "one row more": lambda tensor: [torch.cat((tensor, tensor[:1]))] if tensor.ndim else [],
    "one column less": lambda tensor: [tensor[..., 1:]] if tensor.ndim else [],
    "flat": lambda tensor: [tensor.flatten()] if tensor.ndim > 1 else [],
    "a number": lambda tensor: [tensor.flatten()[0]] if tensor.ndim else [],
    "deep": lambda tensor: [tensor[None, None]],
    "empty": lambda tensor: [tensor[:0]] if tensor.ndim else [],
    "without columns": lambda tensor: [tensor[..., :0]] if tensor.ndim else [],
}


@each(CHECKPOINTS)
def test_another_shape_is_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    for name, shape in SHAPES.items():
        refused = [refused_or_intact(reference, write(held, tmp_path, reference)) for held in changes(reference, shape)]
        assert any(refused), name


@each(CHECKPOINTS)
def test_numbers_of_another_kind_are_refused(tmp_path: Path, reference: Reference) -> None:
    for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn):
        refused = [
            refused_or_intact(reference, write(held, tmp_path, reference))
            for held in changes(reference, lambda tensor, dtype=dtype: [tensor.to(dtype)])  # type: ignore[misc]
        ]
        assert any(f"is of {dtype}, and weights are floating-point numbers" in why for why in refused)


@each(CHECKPOINTS | DATABASES)
def test_every_floating_point_precision_is_read_and_also_mixed(tmp_path: Path, reference: Reference) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        held = content(reference)
        for name in list(state_of(held))[::2]:
            state_of(held)[name] = state_of(held)[name].to(dtype)
        assert not outcome(reference, write(held, tmp_path, reference))


@each(CHECKPOINTS)
def test_weights_that_are_nan_are_read_as_they_are(tmp_path: Path, reference: Reference) -> None:
    held = content(reference)
    for name, tensor in state_of(held).items():
        state_of(held)[name] = torch.full_like(tensor, torch.nan)
    found = attempt(reference, write(held, tmp_path, reference))
    assert not isinstance(found, str)
    assert np.isnan(found).any()


@each(CHECKPOINTS)
def test_unknown_tensors_are_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    names = list(state_of(content(reference)))
    weight = next(name for name in names if "weight" in name)
    odd = [f"{names[0]}{end}" for end in (".x", ".linear.x.linear.y", "\n\x1b[0m")]
    for extra in ("extra", "layers.99.weight", "last.linear.weight", weight.replace("weight", "more"), *odd):
        held = content(reference)
        state_of(held)[extra] = torch.ones(4, 4)
        assert len(refused_or_intact(reference, write(held, tmp_path, reference))) < LONGEST


@each({name: held for name, held in CHECKPOINTS.items() if "torchspatial" not in name})
def test_layers_with_odd_numbers_are_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    first = next(name for name in state_of(content(reference)) if "weight" in name)
    for layer in ("layers.{}.weight", "blocks.{}.linear.weight", "LocEnc0.capsule.{}.weight", "{}.w1.weight"):
        for number in ("9" * 5000, "٣", "07", "-1", "2\n"):
            held = content(reference)
            for prefix in ("", first[: max(0, first.find(layer.partition(".")[0]))]):
                state_of(held)[prefix + layer.format(number)] = torch.ones(24, 24)
            assert len(refused_or_intact(reference, write(held, tmp_path, reference))) < LONGEST


def test_hidden_layers_of_several_widths_are_refused_where_they_are_added_up(tmp_path: Path) -> None:
    held = content(ALL["climplicit"])
    held["location_encoder.layers.1.weight"] = torch.ones(30, 24)
    held["location_encoder.layers.1.bias"] = torch.ones(30)
    held["location_encoder.layers.2.weight"] = torch.ones(24, 30)
    assert "should be of one width" in outcome(ALL["climplicit"], write(held, tmp_path, ALL["climplicit"]))


def test_half_a_pair_of_fourier_features_is_refused(tmp_path: Path) -> None:
    held = content(ALL["taxabind"])
    (name,) = (name for name in held if name.endswith("LocEnc0.capsule.1.weight"))
    held[name] = torch.cat((held[name], held[name][:, :1]), dim=1)
    path = write(held, tmp_path, ALL["taxabind"])
    assert "they come in pairs of cosine and sine" in outcome(ALL["taxabind"], path)


# What only a torch file can hold


OTHERS: list[Any] = [
    *(None, "weights\n\x1b[31m", [1.0, 2.0], {"weight": torch.ones(2)}, torch.ones(2).untyped_storage()),
]


@each(TORCH)
def test_what_stands_in_a_tensors_place_is_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    for other in OTHERS:
        refused = [
            refused_or_intact(reference, write(held, tmp_path, reference))
            for held in changes(reference, lambda _, other=other: [other])  # type: ignore[misc]
        ]
        assert any(refused)
        held = content(reference)
        state_of(held).update(dict.fromkeys(state_of(held), other))
        assert "no tensor's name begins with" in outcome(reference, write(held, tmp_path, reference))


@each(TORCH)
def test_names_that_are_no_words_are_not_looked_at(tmp_path: Path, reference: Reference) -> None:
    held = content(reference)
    odd: dict[Any, Any] = dict.fromkeys([0, None, (1, 2), 2.5, torch.float32, 1 << 2000], torch.ones(2))
    for part in (held, state_of(held)):
        part.update(odd)
    assert not refused_or_intact(reference, write(held, tmp_path, reference))
    assert "it holds 0, None" in outcome(reference, write({"state_dict": odd}, tmp_path, reference))


@each(TORCH)
def test_a_checkpoint_whose_parts_are_something_else_is_refused(tmp_path: Path, reference: Reference) -> None:
    others: list[Any] = [None, [], {}, "x", 3, torch.ones(2), [{"weight": torch.ones(2)}]]
    for other in others:
        held = content(reference)
        if "state_dict" in held:
            assert outcome(reference, write({**held, "state_dict": other}, tmp_path, reference))
        assert outcome(reference, write(other, tmp_path, reference))


def sparse_rows(tensor: torch.Tensor) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch calls them a prototype.
        return [tensor.reshape(len(tensor), -1).to_sparse_csr()] if tensor.ndim else []


@each(TORCH)
def test_tensors_without_numbers_side_by_side_are_refused(tmp_path: Path, reference: Reference) -> None:
    kinds: list[Callable[[torch.Tensor], list[Any]]] = [
        lambda tensor: [tensor.to_sparse()] if tensor.ndim else [],
        sparse_rows,
        lambda tensor: [tensor.to("meta")],
    ]
    for kind in kinds:
        refused = [refused_or_intact(reference, write(held, tmp_path, reference)) for held in changes(reference, kind)]
        assert any("weights are numbers side by side" in why for why in refused)


@pytest.mark.filterwarnings("ignore")
@each(TORCH)
def test_quantised_tensors_are_refused(tmp_path: Path, reference: Reference) -> None:
    def quantised(tensor: torch.Tensor) -> list[Any]:
        return [torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)]

    refused = [refused_or_intact(reference, write(held, tmp_path, reference)) for held in changes(reference, quantised)]
    assert any("is of torch.qint8" in why for why in refused)


@each(TORCH)
def test_a_shape_that_is_claimed_by_strides_of_zero_takes_no_memory(tmp_path: Path, reference: Reference) -> None:
    # 10^13 rows: to make room for them would fail at once.
    def huge(tensor: torch.Tensor) -> list[Any]:
        return [torch.zeros(1).expand(10**13, *tensor.shape[1:])] if tensor.ndim else []

    refused = [refused_or_intact(reference, write(held, tmp_path, reference)) for held in changes(reference, huge)]
    assert any("and the file holds fewer numbers" in why for why in refused)


@each(TORCH)
def test_tensors_that_share_their_numbers_are_read(tmp_path: Path, reference: Reference) -> None:
    held = content(reference)
    whole = torch.cat([tensor.double().flatten() for tensor in state_of(held).values()])
    parts = torch.split(whole, [tensor.numel() for tensor in state_of(held).values()])
    for (name, tensor), part in zip(state_of(held).items(), parts, strict=True):
        state_of(held)[name] = part.reshape(tensor.shape)
    assert not outcome(reference, write(held, tmp_path, reference))


@each(TORCH)
def test_attributes_of_tensors_are_not_read(tmp_path: Path, reference: Reference) -> None:
    # Data where a tensor's methods should be.
    names = ("double", "float", "to", "numel", "untyped_storage", "element_size", "is_floating_point", "detach")
    kind: Any = torch.nn.Parameter
    held = content(reference)
    for name, tensor in state_of(held).items():
        made: tuple[Any, ...] = (torch._utils._rebuild_parameter, kind, (tensor, False, collections.OrderedDict()))
        state_of(held)[name] = Call(torch._tensor._rebuild_from_type_v2, *made, dict.fromkeys(names, "not callable"))
    assert not refused_or_intact(reference, write(held, tmp_path, reference))


# Parameters of a checkpoint


ODD_VALUES: list[Any] = [
    *(None, [], {}, "x", "\n\x1b[31m" * 99, b"x", True, (1, 2), [[[[[[[[]]]]]]]], torch.ones(3), torch.ones(())),
    *(0, 1, -5, 2.5, 10**12, 10**400, 5e-324, 1e308, float("nan"), float("inf"), -float("inf")),
]
PARAMETERS = (
    *("frequency_num", "min_radius", "max_radius", "spa_f_act", "use_layn", "skip_connection"),
    *("map_range", "spa_enc_type", "dataset"),
)


@each(WITH_PARAMETERS)
def test_an_absurd_parameter_is_refused_or_makes_numbers(tmp_path: Path, reference: Reference) -> None:
    for name in PARAMETERS:
        for value in ODD_VALUES:
            held = content(reference)
            held["params"][name] = value
            found = attempt(reference, write(held, tmp_path, reference))
            # Another radius, or no skips, are another model that works.
            assert isinstance(found, str) or np.isfinite(found).all(), (name, value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("frequency_num", [0, 1, -5, 10**12, 10**400, "x", float("nan"), 8.5, None]),
        ("min_radius", [0, -1.0, float("inf"), float("nan"), 10**400, 5e-324, 400.0, "x"]),
        ("max_radius", [0, 0.01, -1.0, float("inf"), float("nan"), 10**400, "x", torch.ones(())]),
        ("spa_f_act", ["x", "", None, ["relu"], "relu\n"]),
        ("use_layn", [None, 1, "yes", False]),
        ("skip_connection", [None, 1, "yes"]),
        ("spa_enc_type", ["x", ["gridcell"], None, torch.ones(3), {}]),
        ("dataset", ["x", ["fmow"], torch.ones(2, 2), float("nan")]),
    ],
)
def test_a_parameter_that_makes_no_encoder_is_refused(tmp_path: Path, name: str, values: list[Any]) -> None:
    for value in values:
        held = content(TORCH["csp-fmow"])
        held["params"][name] = value
        assert outcome(TORCH["csp-fmow"], write(held, tmp_path, TORCH["csp-fmow"])), value


@pytest.mark.parametrize(
    "corners",
    [
        *([-180, 180, -90], [-180, 180, -90, None], [-180, -180, -90, 90], [-180, 180, 90, 90], [180, -180, -90, 90]),
        *([-180, 180, -90, float("inf")], [float("nan")] * 4, [10**400] * 4, "abcd", [torch.ones(2)] * 4, None, {1: 2}),
    ],
)
def test_corners_that_make_no_map_are_refused(tmp_path: Path, corners: Any) -> None:
    held = content(TORCH["torchspatial rff"])
    held["params"]["map_range"] = corners
    assert "map" in outcome(TORCH["torchspatial rff"], write(held, tmp_path, TORCH["torchspatial rff"]))


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (8, 1)])
def test_random_directions_and_shifts_of_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    held = content(TORCH["torchspatial rff"])
    state_of(held)["spa_enc.position_encoder.dirvec"] = torch.ones((2, *shape))
    state_of(held)["spa_enc.position_encoder.shift"] = torch.ones(shape)
    assert "does not fit" in outcome(TORCH["torchspatial rff"], write(held, tmp_path, TORCH["torchspatial rff"]))


@each(WITH_PARAMETERS)
def test_a_checkpoint_without_its_parameters_is_refused(tmp_path: Path, reference: Reference) -> None:
    held = content(reference)
    for value in ODD_VALUES:
        assert outcome(reference, write({**held, "params": value}, tmp_path, reference))
    del held["params"]
    assert outcome(reference, write(held, tmp_path, reference))


@each(WITH_HYPERPARAMETERS)
def test_absurd_hyperparameters_are_refused_or_not_needed(tmp_path: Path, reference: Reference) -> None:
    held = content(reference)
    told = held["hyper_parameters"]
    names = ("vision_layers", "harmonics_calculation", "positional_encoding_name", "neural_network_name", "hparams")
    scales = ("legendre_polys", "max_radius", "min_radius", "frequency_num")
    for value in ODD_VALUES:
        changed = [{**told, name: value} for name in names]
        changed += [{**told, "hparams": {**told.get("hparams", {}), name: value}} for name in scales]
        for parameters in (value, *changed):
            assert (
                len(refused_or_intact(reference, write({**held, "hyper_parameters": parameters}, tmp_path, reference)))
                < LONGEST
            )


# Pickles that are code


class Call:
    """A pickle that calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def calls(target: Path) -> dict[str, Call]:
    """Return pickles that would make a file."""
    code = f"open({str(target)!r}, 'w')"
    return {
        "write_text": Call(target.write_text, "ran"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "system": Call(os.system, f"touch {target}"),
        "mkdir": Call(os.mkdir, str(target)),
        "open": Call(io.open, str(target), "w"),
        "partial": Call(partial, Path.touch, target),
        "memmap": Call(np.memmap, str(target), "u1", "w+", 0, (9,)),
        "in a number": Call(np.float64().__reduce__()[0], np.dtype("O"), Call(eval, code)),
        "in an array": Call(np.array, [Call(eval, code)]),
    }


@each(TORCH)
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, reference: Reference) -> None:
    target = tmp_path / "ran"
    for name, call in calls(target).items():
        for part in ("top", "state_dict", "params", "hyper_parameters"):
            held = content(reference)
            (held if part == "top" else held.setdefault(part, {}))["evil"] = call
            why = outcome(reference, write(held, tmp_path, reference))
            assert re.search("cannot be read as tensors alone.*or a safetensors one", why), name
            assert not target.exists(), name


@each(TORCH)
def test_no_protocol_of_pickle_runs_code(tmp_path: Path, reference: Reference) -> None:
    target, path = tmp_path / "ran", tmp_path / "a.pt"
    for protocol in range(6):
        held = {**content(reference), "evil": calls(target)["eval"]}
        path.write_bytes(pickle.dumps(held, protocol=protocol))
        assert outcome(reference, path)
        for zipped in (True, False):
            torch.save(held, path, pickle_protocol=max(protocol, 1), _use_new_zipfile_serialization=zipped)
            assert outcome(reference, path)
        assert not target.exists()


def test_an_archive_of_the_old_kind_is_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.pth.tar", "w") as made:
        for name in ("../evil", "storages", "tensors", "pickle"):
            made.addfile(tarfile.TarInfo(name))
    assert "is not a whole checkpoint" in outcome(TORCH["csp-fmow"], tmp_path / "a.pth.tar")
    assert not (tmp_path.parent / "evil").exists()


def test_a_compiled_model_is_refused(tmp_path: Path) -> None:
    path = members(tmp_path, dict.fromkeys(("a/constants.pkl", "a/data.pkl", "a/code/x.py", "a/version"), b"3"))
    assert "is not a whole checkpoint" in outcome(TORCH["sinr"], path.rename(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (Path("a"), "pathlib"),
        (argparse.Namespace(a=1), "argparse.Namespace"),
        (np.ones(3), "numpy"),
        (np.ones(3, dtype=object), "numpy"),
        (collections.deque(), "collections.deque"),
        (np.str_("a"), ""),
        (np.datetime64(0, "s"), ""),
        (np.clongdouble(1), ""),
        (slice(1), "slice"),
        (type, "type"),
        (torch.load, "torch.serialization.load"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
    ids=lambda value: steady(str(value))[:40],
)
def test_other_classes_than_numbers_are_refused(tmp_path: Path, value: Any, asked: str) -> None:
    held = content(TORCH["csp-fmow"])
    held["params"]["extra"] = value
    why = outcome(TORCH["csp-fmow"], write(held, tmp_path, TORCH["csp-fmow"]))
    assert re.search(f"cannot be read as tensors alone{asked and ': it asks for '}{asked}", why)


@each(TORCH)
def test_plain_data_beside_the_tensors_are_read(tmp_path: Path, reference: Reference) -> None:
    plain = [
        collections.OrderedDict(a=1),
        collections.Counter("aa"),
        {1, 2},
        2 + 1j,
        torch.Size([1]),
        torch.device("cpu"),
    ]
    held = {**content(reference), "extra": plain}
    assert not refused_or_intact(reference, write(held, tmp_path, reference))


# Numbers of numpy's

SCALAR: Any = np.float64().__reduce__()[0]


@pytest.mark.parametrize("kind", "?bhilqBHILQefd")
def test_numpys_numbers_are_read_as_numbers(tmp_path: Path, kind: str) -> None:
    torch.save({"a": np.dtype(kind).type(3)}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")["a"]
    assert found == np.dtype(kind).type(3)
    assert type(found) in (bool, int, float)


def test_numpys_numbers_have_the_order_of_bytes_that_they_say(tmp_path: Path) -> None:
    torch.save({"a": Call(SCALAR, np.dtype(">f8"), np.array(0.1, dtype=">f8").tobytes())}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["a"] == 0.1


@pytest.mark.parametrize("name", ["csp-inat", "csp-inat, numpy's old name"])
def test_numpys_numbers_are_read_under_either_name(name: str) -> None:
    assert type(content(ALL[name])["params"]["min_radius"]) is float
    assert not outcome(ALL[name], REFERENCE / ALL[name].weights)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (3, b"12345678"),
        (np.dtype("f8"),),
        (np.dtype("f8"), b""),
        (np.dtype("f8"), b"1234567"),
        (np.dtype("f8"), b"12345678" * 2),
        (np.dtype("f8"), "12345678"),
        (np.dtype("f8"), 12345678),
        (np.dtype("O"),),
        (np.dtype("O"), None),
        (np.dtype("O"), b"12345678"),
        (np.dtype("V8"), b"12345678"),
        (np.dtype("S8"), b"12345678"),
        (np.dtype([("a", "O")]), b"12345678"),
        (np.dtype(("f8", (2,))), b"12345678" * 2),
        (Call(np.dtype), b"12345678"),
        (Call(np.dtype, []), b"12345678"),
        (Call(np.dtype, "f8,O"), b"12345678"),
        (Call(np.dtype, "f8", state=(3, "?", None, None, None, -1, -1, 0)), b"12345678"),
        (Call(np.dtype, "f8", state=7), b"12345678"),
        (Call(np.dtype, "f8", state=(3,)), b"12345678"),
    ],
    ids=lambda value: steady(repr(value)),
)
def test_numbers_that_are_made_up_are_refused(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    held = content(TORCH["csp-fmow"])
    held["params"]["min_radius"] = Call(SCALAR, *arguments)
    assert outcome(TORCH["csp-fmow"], write(held, tmp_path, TORCH["csp-fmow"]))


def test_what_a_pickle_says_of_a_numbers_memory_is_not_believed(tmp_path: Path) -> None:
    # Numpy itself would take a million numbers for the eight bytes of one.
    lie = (4, "<", (np.dtype("f8"), (10**6,)), None, None, 8 * 10**6, 8, 0)
    held = content(TORCH["csp-fmow"])
    held["params"]["min_radius"] = Call(SCALAR, Call(np.dtype, "f8", state=lie), np.float64(0.1).tobytes())
    assert not refused_or_intact(TORCH["csp-fmow"], write(held, tmp_path, TORCH["csp-fmow"]))


# GPS2Vec's archives


def members(folder: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(folder / "a.zip", "w", method) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return folder / "a.zip"


def unpacked(path: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    with zipfile.ZipFile(path) as held:
        return {name: held.read(name) for name in held.namelist()}


def networks(reference: Reference, change: Callable[[Any], Any] | None = None) -> dict[str, bytes]:
    """Return the networks of an official archive, each of them changed."""
    return {name: network(data, change) for name, data in unpacked(REFERENCE / reference.weights).items()}


def network(data: bytes, change: Callable[[Any], Any] | None) -> bytes:
    """Return a changed network."""
    held = io.BytesIO(data)
    if change:
        with h5py.File(held, "r+") as file:
            change(file.get("model_weights", file))
    return held.getvalue()


def names_of(group: Any) -> list[str]:
    """Return the names of a layer's two arrays."""
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs["weight_names"]]


def kernel(make: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    """Return a change of the first layer's kernel into something else."""

    def change(file: Any) -> None:
        name = names_of(file["layer1"])[0]
        del file["layer1"][name]
        make(file["layer1"], name)

    return change


def layer(make: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    """Return a change of the first layer into something else."""

    def change(file: Any) -> None:
        del file["layer1"]
        make(file, "layer1")

    return change


def named(names: Any) -> Callable[[Any], Any]:
    """Return a change of what the first layer says its arrays are called."""

    def change(file: Any) -> None:
        del file["layer1"].attrs["weight_names"]
        if names is not None:
            file["layer1"].attrs["weight_names"] = names

    return change


def value(found: Any) -> Callable[[Any, str], Any]:
    """Return a maker of a value or a link."""
    return lambda group, name: group.__setitem__(name, found)


def array(**options: Any) -> Callable[[Any, str], Any]:
    """Return a maker of an array."""
    return lambda group, name: group.create_dataset(name, **{"shape": (400, 8), "dtype": "f4"} | options)


ELSEWHERE = "/etc/hostname"


def virtual(group: Any, name: str) -> None:
    layout = h5py.VirtualLayout(shape=(400, 8), dtype="f4")
    layout[:] = h5py.VirtualSource(ELSEWHERE, "x", shape=(400, 8))
    group.create_virtual_dataset(name, layout)


NAMES = [None, 3, "kernel", [], ["a"], ["a", "b"], ["a", "b", "c"], [1, 2], ["", ""], ["..", "/"], [b"\xff", b"\xfe"]]
DTYPES = ["i4", "c8", "S4", "bool", h5py.string_dtype(), h5py.vlen_dtype(np.dtype("f4")), [("a", "f4")], h5py.ref_dtype]
NETWORKS: dict[str, Callable[[Any], Any]] = {
    "layer missing": layer(lambda _group, _name: None),
    "layer an array": layer(value(np.ones(3))),
    "layer a number": layer(value(3)),
    "layer in another file": layer(value(h5py.ExternalLink(ELSEWHERE, "/"))),
    "layer a loop": layer(value(h5py.SoftLink("/"))),
    **{f"names {names!r}": named(names) for names in NAMES},
    "names nothing": named(h5py.Empty("f")),
    "array missing": kernel(lambda _group, _name: None),
    "array a group": kernel(lambda group, name: group.create_group(name)),
    "array a soft link": kernel(value(h5py.SoftLink("/nowhere"))),
    "array in another file": kernel(value(h5py.ExternalLink(ELSEWHERE, "x"))),
    "array elsewhere": kernel(array(external=[(ELSEWHERE, 0, 12800)])),
    "array virtual": kernel(virtual),
    "array huge": kernel(array(shape=(400, 10**13), chunks=(400, 8))),
    **{
        f"kernel of {shape}": kernel(array(shape=shape))
        for shape in ((), (400,), (8, 400), (399, 8), (400, 0), (0, 0), (1, 400, 8))
    },
    **{f"kernel of {dtype}": kernel(array(dtype=dtype)) for dtype in DTYPES},
}


@pytest.mark.parametrize("change", NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_is_none_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    for reference in GPS2VEC.values():
        assert re.search("Fetch|Use|Give", outcome(reference, members(tmp_path, networks(reference, change))))


@each(GPS2VEC)
def test_numbers_of_another_file_are_not_read_through_a_link(tmp_path: Path, reference: Reference) -> None:
    other = tmp_path / "other.h5"
    other.write_bytes(next(iter(networks(reference).values())))
    with h5py.File(other) as file:
        inside = "/model_weights/layer1" if "model_weights" in file else "/layer1"
    for link in (h5py.ExternalLink(str(other), inside), h5py.SoftLink(inside.replace("1", "2"))):
        path = members(tmp_path, networks(reference, layer(value(link))))
        assert "it holds no" in outcome(reference, path)


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]


@pytest.mark.parametrize("method", METHODS)
@each(GPS2VEC)
def test_a_member_whose_bytes_are_damaged_is_refused(tmp_path: Path, reference: Reference, method: int) -> None:
    path = members(tmp_path, networks(reference), method)
    assert not refused_or_intact(reference, path)
    whole = path.read_bytes()
    for start in (60, 200, 2000):
        path.write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
        assert "Fetch" in outcome(reference, path)


# Of an entry in an archive's directory: where something stands, and what.
LIES = {
    "a later version": (6, b"\xff"),
    "encrypted": (8, b"\1"),
    "strongly encrypted": (8, b"\x41"),
    "a patch": (8, b"\x20"),
    "an unknown method": (10, b"\x63\0"),
    "another checksum": (16, b"\0\0\0\0"),
    "unpacked size": (24, b"\xff\xff\xff\x7f"),
    "where it begins": (42, b"\xff\xff\xff\x7f"),
    "another name": (46, b"model_1 C.h5\0\0"),
}


def lie(path: Path, offset: int, told: bytes) -> None:
    """Write into every entry of an archive's directory."""
    data = bytearray(path.read_bytes())
    for entry in re.finditer(rb"PK\x01\x02", data):
        data[entry.start() + offset : entry.start() + offset + len(told)] = told
    path.write_bytes(data)


@pytest.mark.parametrize("told", LIES.values(), ids=LIES)
@each(GPS2VEC)
def test_an_archives_directory_that_lies_is_refused(
    tmp_path: Path, reference: Reference, told: tuple[int, bytes]
) -> None:
    path = members(tmp_path, networks(reference))
    lie(path, *told)
    assert outcome(reference, path)


@each(GPS2VEC)
def test_an_archive_without_networks_is_refused(tmp_path: Path, reference: Reference) -> None:
    for names in (
        [],
        ["a.txt"],
        ["model_48 N.txt"],
        ["model_48 I.h5", "model_N.h5"],
        ["model_48 N.h5\n"],
        ["amodel_48 N.h5"],
    ):
        path = members(tmp_path, dict.fromkeys(names, b"x"))
        assert "is no GPS2Vec archive" in outcome(reference, path)


@pytest.mark.parametrize("folder", ["", "a/b/", "../../", "/", "a\n\x1b[31m/"])
@each(GPS2VEC)
def test_names_with_folders_are_names_and_nothing_is_unpacked(
    tmp_path: Path, reference: Reference, folder: str
) -> None:
    data = next(iter(networks(reference).values()))
    inner = tmp_path / "x" / "y"
    inner.mkdir(parents=True)
    assert not outcome(reference, members(inner, {f"{folder}model_48 N.h5": data}))
    assert outcome(reference, members(inner, {f"{folder}model_48 N.h5": data[:900]}))
    assert not list(tmp_path.rglob("*.h5"))


@each(GPS2VEC)
def test_a_network_that_is_met_later_is_checked_as_the_first(tmp_path: Path, reference: Reference) -> None:
    head = reference.card.options["heads"][0]

    def one_class(file: Any) -> None:
        for name in names_of(file[head]):
            found = file[head][name][...]
            del file[head][name]
            file[head][name] = found[..., :1]

    held = networks(reference)
    (last,) = (name for name in held if "33 X" in name)
    changed = {**held, last: network(held[last], one_class)}
    assert "dimensions in zone 33 X" in outcome(reference, members(tmp_path, changed))
    assert "33 X.h5, is not a whole network" in outcome(reference, members(tmp_path, {**held, last: b"damaged"}))


def test_the_other_variants_archive_is_refused_with_the_right_name() -> None:
    tag, visual = GPS2VEC["gps2vec-tag"], GPS2VEC["gps2vec-visual"]
    for reference, other in ((tag, visual), (visual, tag)):
        assert "gps2vec-tag or gps2vec-visual" in outcome(reference, REFERENCE / other.weights)


# RANGE's database


def arrays() -> dict[str, Any]:
    return dict(np.load(REFERENCE / "range_db_small.npz"))


def database(folder: Path, held: dict[str, Any]) -> Path:
    np.savez(folder / "a.npz", allow_pickle=True, **held)
    return folder / "a.npz"


def refused(reference: Reference, path: Path) -> str:
    """Return why a database is refused; nothing where it works."""
    return outcome(reference, REFERENCE / reference.weights, path)


def with_entry(array: Any, number: float) -> Any:
    """Return an array with a number all through its fourth entry."""
    changed = array.copy()
    changed[3] = number
    return changed


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "objects": lambda array: array.astype(object),
    "whole numbers": lambda array: array.astype(np.int32),
    "complex": lambda array: array.astype(np.complex64),
    "text": lambda array: array.astype("S8"),
    "truth": lambda array: array > 0,
    "structured": lambda array: np.ones(len(array), dtype=[("a", "f4")]),
    "long": lambda array: array.astype(np.longdouble),
    "shorter": lambda array: array[:-1],
    "longer": lambda array: np.concatenate((array, array[:1])),
    "no entries": lambda array: array[:0],
    "no columns": lambda array: array[:, :0],
    "flat": lambda array: array.ravel(),
    "a number": lambda array: array[0, 0],
    "deep": lambda array: array[None],
    "nan": lambda array: with_entry(array, np.nan),
    "infinite": lambda array: with_entry(array, np.inf),
}


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS)
@each(DATABASES)
def test_a_database_with_another_array_is_refused(
    tmp_path: Path, reference: Reference, change: Callable[[Any], Any]
) -> None:
    for name, found in arrays().items():
        why = refused(reference, database(tmp_path, arrays() | {name: change(found)}))
        assert "RANGE database" in why


@each(DATABASES)
def test_a_database_without_an_array_is_refused_with_what_it_should_hold(tmp_path: Path, reference: Reference) -> None:
    for name in arrays():
        held = arrays()
        del held[name]
        why = refused(reference, database(tmp_path, held))
        assert f"{name} is not a file in the archive. It should hold locs, satclip_embeddings, image_embeddings" in why


@each(DATABASES)
def test_a_database_with_entries_of_no_length_is_refused(tmp_path: Path, reference: Reference) -> None:
    held = arrays()
    held["satclip_embeddings"][7] = 0
    assert "entries of length 0" in refused(reference, database(tmp_path, held))


@each(DATABASES)
def test_databases_of_other_widths_are_refused(tmp_path: Path, reference: Reference) -> None:
    held = arrays()
    wide = {**held, "satclip_embeddings": np.tile(held["satclip_embeddings"], 2)}
    assert "of 64 dimensions" in refused(reference, database(tmp_path, wide))
    wide = {**held, "locs": np.tile(held["locs"], 2)}
    assert "its places have 4 coordinates" in refused(reference, database(tmp_path, wide))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@each(DATABASES)
def test_databases_of_any_precision_and_order_are_read(tmp_path: Path, reference: Reference, dtype: str) -> None:
    held = {name: np.asfortranarray(array.astype(dtype)) for name, array in arrays().items()}
    assert not refused(reference, database(tmp_path, held))


@each(DATABASES)
def test_a_database_that_is_cut_short_is_refused(tmp_path: Path, reference: Reference) -> None:
    data = (REFERENCE / "range_db_small.npz").read_bytes()
    for share in (0.001, 0.3, 0.9, 0.999):
        (tmp_path / "a.npz").write_bytes(data[: int(share * len(data))])
        assert "is not a whole RANGE database" in refused(reference, tmp_path / "a.npz")


@each(DATABASES)
def test_what_is_no_database_is_refused(tmp_path: Path, reference: Reference) -> None:
    np.save(tmp_path / "one.npy", np.ones((3, 2)))
    assert "one array without a name" in refused(reference, tmp_path / "one.npy")
    (tmp_path / "empty.npz").touch()
    assert "are an empty file" in refused(reference, tmp_path / "empty.npz")
    (tmp_path / "a.npz").write_bytes(pickle.dumps(arrays()))
    assert "it could run code" in refused(reference, tmp_path / "a.npz")
    for name in ("sinr_small.pt", "sinr_small.safetensors", "gps2vec_tag_small.zip", "sinr_small.npz"):
        assert "RANGE database" in refused(reference, REFERENCE / name)


@each(DATABASES)
def test_a_database_of_pickles_does_not_run(tmp_path: Path, reference: Reference) -> None:
    evil = np.array([calls(tmp_path / "ran")["eval"]], dtype=object)
    assert "it could run code" in refused(reference, database(tmp_path, {**arrays(), "locs": evil}))
    assert not (tmp_path / "ran").exists()


@each(DATABASES)
def test_a_database_that_is_not_given_is_asked_for(reference: Reference) -> None:
    with pytest.raises(WeightsError, match="--database FILE"):
        models._encoder_class(reference.card).from_card(reference.card, REFERENCE / reference.weights)


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (40, 2), }"


@pytest.mark.parametrize(
    "header",
    [
        *("", "{", "(" * 2000, "3", "{}", "[1, 2]", "__import__('os')", "{'descr': 'x'}", "'" * 3, "\n\n"),
        *(HEADER.replace("'<f4'", kind) for kind in ("'|O'", "'<f3'", "None", "[('a', 'O')]", "3", "'V8'")),
        *(HEADER.replace("(40, 2)", shape) for shape in ("None", "(-1, 2)", "(10**15, 2)", f"({10**15}, 2)", "40")),
        *(HEADER.replace("False", order) for order in ("None", "3")),
        HEADER + " " * 20_000,
    ],
    ids=lambda header: header[:60],
)
def test_an_array_with_a_bad_header_is_refused(tmp_path: Path, header: str) -> None:
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(320)
    held = unpacked(REFERENCE / "range_db_small.npz") | {"locs.npy": npy}
    assert "RANGE database" in refused(ALL["range"], members(tmp_path, held))
    (tmp_path / "a.npy").write_bytes(npy)
    assert "RANGE database" in refused(ALL["range"], tmp_path / "a.npy")


@pytest.mark.parametrize("method", METHODS)
def test_a_database_whose_archive_is_damaged_is_refused(tmp_path: Path, method: int) -> None:
    path = members(tmp_path, unpacked(REFERENCE / "range_db_small.npz"), method)
    whole = path.read_bytes()
    assert not refused(ALL["range"], path)
    path.write_bytes(whole[:60] + bytes(40) + whole[100:])
    assert "is not a whole RANGE database" in refused(ALL["range"], path)
    for told in ("encrypted", "an unknown method", "another checksum", "where it begins"):
        path.write_bytes(whole)
        lie(path, *LIES[told])
        assert "is not a whole RANGE database" in refused(ALL["range"], path)


# Another family's files


def may_read(one: Reference, other: Reference) -> bool:
    """Whether a model may read another reference's file."""
    if one.card.code != other.card.code:
        # RANGE is SatCLIP and more.
        return one.weights.startswith("satclip") and other.weights.startswith("satclip")
    return one.card.options.get("spa_enc_type") == other.card.options.get("spa_enc_type")


@each(ALL)
def test_every_other_familys_file_is_refused(reference: Reference) -> None:
    for other in ALL.values():
        why = outcome(reference, REFERENCE / other.weights)
        assert why or may_read(reference, other), other.weights


@each(EACH)
def test_outputs_databases_and_prose_are_no_weights(reference: Reference) -> None:
    for name in ("sinr_small.npz", "range_db_small.npz", "README.md"):
        assert outcome(reference, REFERENCE / name)


@pytest.mark.parametrize("model", ["xyz", "sh-l10"])
def test_a_model_without_weights_takes_none(model: str) -> None:
    with pytest.raises(WeightsError, match="has no weights.*Leave --weights out"):
        ef.load(model, REFERENCE / "sinr_small.pt")


# Cards that do not say enough


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("satclip ckpt", {"legendre_polys": None}),
        ("satclip ckpt", {"legendre_polys": "10"}),
        ("satclip ckpt", {"vision_layers": 3}),
        ("csp-fmow", {"dataset": None}),
        ("torchspatial rff", {"spa_enc_type": ["rff"]}),
        ("gps2vec-tag", {"heads": "tag"}),
        ("range", {"temperature": "hot"}),
    ],
)
def test_a_card_without_an_option_of_its_code_is_at_fault(name: str, options: dict[str, Any]) -> None:
    database = REFERENCE / "range_db_small.npz" if name == "range" else None
    card = replace(ALL[name].card, options={**ALL[name].card.options, **options})
    with pytest.raises(CardError, match=f"{next(iter(options))}=.*Correct the card"):
        ef.load(card, REFERENCE / ALL[name].weights, "cpu", database=database)
