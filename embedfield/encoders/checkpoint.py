"""Checkpoints: files of tensors, read as data and never run as code."""

from __future__ import annotations

import lzma
import pickle
import re
import reprlib
import struct
import tokenize
import warnings
import zipfile
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from embedfield.errors import CardError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from embedfield.card import Card

# What torch, numpy, h5py and the archives below them raise on a file that is damaged, or made up to break them.
DAMAGED: tuple[type[Exception], ...] = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(EOFError, OSError, MemoryError, SyntaxError, struct.error, tokenize.TokenError),
    *(pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What a message quotes of a foreign one, characters.
QUOTED = 300


class _Kind:
    """What numpy calls a kind of number in a pickle; inert, for numpy itself believes what a file says of memory."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = state[1]


def _number(kind: _Kind, data: bytes) -> Any:
    """Return a number that numpy pickled, as one of Python's."""
    if not re.fullmatch(r"b1|[iu][1248]|f[248]", kind.code):
        raise pickle.UnpicklingError(f"{kind.code!r} is no kind of number")
    (number,) = np.frombuffer(data, np.dtype(kind.code).newbyteorder(kind.order))
    return number.item()


# Some training scripts keep numpy's numbers among their parameters, under its old name or its new: data, not code.
NUMBERS: list[Any] = [
    (_Kind, "numpy.dtype"),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


class _Short(reprlib.Repr):
    """Values as a message shows them: a tensor by its kind alone, for it may claim to be huge."""

    def repr_instance(self, x: Any, level: int) -> str:
        return f"a {type(x).__name__}" if isinstance(x, torch.Tensor) else super().repr_instance(x, level)


def brief(message: object) -> str:
    """Return what is foreign, such as another library's message, on one line, printable and short."""
    text = " ".join(str(message).split())
    printable = "".join(character for character in text if character.isprintable())
    return printable if len(printable) <= QUOTED else f"{printable[:QUOTED]}…"


def shown(value: object) -> str:
    """Return a value that a file holds as a message shows it."""
    return brief(_Short(maxstring=80, maxother=80).repr(value))


def given(card: Card, weights: Path | None) -> Path:
    """Return the weights file of a model that needs one.

    Raises:
        WeightsError: If there is none.
    """
    if weights is None:
        raise WeightsError(f"{card.name} needs weights. Give a checkpoint with --weights FILE.")
    return weights


def option[T](card: Card, name: str, kind: type[T]) -> T:
    """Return what a card tells its encoder's code beside the weights.

    Raises:
        CardError: If it does not, or it is of another kind.
    """
    found = card.options.get(name)
    if not isinstance(found, (int, float) if kind is float else kind):
        raise CardError(
            f"Card {card.name!r} has {name}={shown(found)} in its options, and its code wants a value of kind "
            f"{kind.__name__}. Correct the card."
        )
    return found  # type: ignore[return-value]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a ``.safetensors`` or a torch file holds.

    Torch files are read with ``weights_only=True``: a pickle that would run
    code is refused. Beside tensors and plain Python data it may hold numpy's
    numbers, and nothing else.

    Raises:
        WeightsError: If the file is damaged, no checkpoint, or would run code.
    """
    _check_suffix(path)
    try:
        content = _content(path)
    except pickle.UnpicklingError as error:
        # Torch goes on "was not an allowed global" or "whose module … is blocked".
        asked = re.search(r"GLOBAL ([\w.]+) w", str(error))
        raise WeightsError(
            f"{path} cannot be read as tensors alone{f': it asks for {brief(asked[1])}' if asked else ''}. "
            "It is no checkpoint, or one that would run code. Give the official file, or a safetensors one."
        ) from error
    except DAMAGED as error:
        why = brief(str(error).partition("\n")[0]) or "it ends too early"
        raise WeightsError(
            f"{path} is not a whole checkpoint: {why}. The file is damaged or cut short. Fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not named tensors. Give the official file.")
    return content


def _check_suffix(path: Path) -> None:
    """Refuse a file that is of the one kind and has the other's name.

    Raises:
        WeightsError: If it is.
    """
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of a JSON object, in eight bytes.
    tensors = start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    if tensors and not _is_safetensors(path):
        raise WeightsError(f"{path} is a safetensors file by another name. Rename it, so that it ends in .safetensors.")
    if not tensors and _is_safetensors(path) and start.startswith((b"PK", b"\x80\x02")):
        raise WeightsError(f"{path} is a torch file and no safetensors one. Rename it, so that it ends in .pt.")


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _content(path: Path) -> Any:
    """Return what a file holds, read as data."""
    if _is_safetensors(path):
        return load_file(path)
    with warnings.catch_warnings(), torch.serialization.safe_globals(NUMBERS):
        # Of what torch warns, it refuses or we do, in one line.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def tensors_below(state: Mapping[str, Any], prefix: str, path: Path, family: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it.

    They are detached, and so have none of the attributes that a pickle may
    have given them in place of their methods.

    Raises:
        WeightsError: If there are none: the file is of another family.
    """
    found = {
        name.removeprefix(prefix): torch.detach(value)
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, torch.Tensor)
    }
    if not found:
        held = ", ".join(brief(name) for name in islice(state, 3)) or "nothing"
        raise WeightsError(
            f"{path} is not a {family} checkpoint: no tensor's name begins with '{prefix}'; it holds {held}, … "
            f"Give the file that {family} released."
        )
    return found


def require(state: Mapping[str, Tensor], names: Sequence[str], path: Path, family: str) -> None:
    """Check that every tensor of a list is there.

    Raises:
        WeightsError: If one is missing.
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(
            f"{path} is not a {family} checkpoint: it has no tensor '{missing[0]}'"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}. Give the file that {family} released."
        )


def state_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the named tensors of a checkpoint: its ``state_dict``, else the whole, as in a safetensors file."""
    return mapping(checkpoint, "state_dict") or checkpoint


def mapping(checkpoint: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a part of a checkpoint that is named values; empty where it is not there or something else."""
    found = checkpoint.get(name)
    return found if isinstance(found, dict) else {}


def check_variant(card: Card, found: Mapping[str, Any], expected: Mapping[str, object], path: Path) -> None:
    """Check that what a checkpoint says of itself is what a card says; what it does not say is not held against it.

    Raises:
        WeightsError: If it says something else.
    """
    for name, value in expected.items():
        # Whether a tensor differs is another tensor.
        if name in found and (not isinstance(found[name], str | int | float) or found[name] != value):
            raise WeightsError(
                f"{path} is not {card.name}: its {name} is {shown(found[name])}, and {card.name} has {value!r}. "
                "Use the model's own name; 'embedfield models' lists them."
            )


def parameter[T: (int, float, bool, str)](
    parameters: Mapping[str, Any], name: str, kind: type[T], path: Path, family: str
) -> T:
    """Return a number or a word that a checkpoint keeps beside its tensors.

    Raises:
        WeightsError: If it is not there, or is of another kind.
    """
    found = parameters.get(name)
    # An integer that no float can hold stays one, and is refused.
    if kind is float and isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 1000:
        found = float(found)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise WeightsError(
            f"{path} is not a {family} checkpoint: its parameter '{name}' is {shown(found)}, and should be "
            f"{'a number' if kind in (int, float) else kind.__name__}. Give the file that {family} released."
        )
    return found


def sizes(state: Mapping[str, Tensor], layers: Sequence[str], path: Path, family: str) -> list[int]:
    """Return the length of the input of the first of some linear layers, then those of their outputs.

    Raises:
        WeightsError: If a layer is not there, or its weight is no matrix of numbers.
    """
    names = [f"{layer}.weight".removeprefix(".") for layer in layers]
    require(state, names, path, family)
    check_tensors({name: state[name] for name in names}, path, family)
    for name in names:
        if state[name].ndim != 2 or not state[name].numel():
            raise WeightsError(
                f"{path} does not fit {family}: its '{name}' has the shape {tuple(state[name].shape)}, and should be "
                f"a matrix with rows and columns. Give the file that {family} released."
            )
    return [state[names[0]].shape[1], *(state[name].shape[0] for name in names)]


def siren_sizes(state: Mapping[str, Tensor], path: Path, family: str) -> list[int]:
    """Return the sizes of a SIREN, whose layers are ``layers.0``, …, ``last_layer`` in every repository.

    Raises:
        WeightsError: If a layer is not there, or its weight is no matrix of numbers.
    """
    layers = range(max(1, count(state, r"layers\.\d+\.weight")))
    return sizes(state, [*(f"layers.{number}" for number in layers), "last_layer"], path, family)


def count(state: Mapping[str, Any], pattern: str) -> int:
    """Return how many of a checkpoint's names match a regular expression."""
    return sum(re.fullmatch(pattern, str(name)) is not None for name in state)


def check_tensors(state: Mapping[str, Tensor], path: Path, family: str) -> None:
    """Check that tensors are weights: floating-point numbers, every one of them in the file.

    Raises:
        WeightsError: If one is not.
    """
    for name, tensor in state.items():
        if tensor.dtype not in FLOATS:
            fault = f"of {tensor.dtype}, and weights are floating-point numbers"
        elif tensor.layout != torch.strided or tensor.is_meta:
            fault = f"of {tensor.layout} on {tensor.device}, and weights are numbers side by side"
        elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            # Strides of 0 claim any shape for a file of a few bytes.
            fault = f"of the shape {tuple(tensor.shape)}, and the file holds fewer numbers"
        else:
            continue
        raise WeightsError(
            f"{path} does not fit {family}: its tensor {shown(name)} is {fault}. Give the file that {family} released."
        )


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, family: str) -> None:
    """Put tensors into a module, all of them or none.

    Raises:
        WeightsError: If a name is missing or too many, a shape differs, or
            a tensor is not of floating-point numbers.
    """
    require(state, list(module.state_dict()), path, family)
    check_tensors(state, path, family)
    try:
        module.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit {family}: {brief(error)} Give the file that {family} released."
        ) from error
