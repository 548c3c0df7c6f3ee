"""Checkpoints: files of tensors, read as data and never run as code."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from embedfield.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a ``.safetensors`` or a torch file holds.

    Torch files are read with ``weights_only=True``: a pickle that would run
    code is refused.

    Raises:
        WeightsError: If the file is damaged, no checkpoint, or would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch goes on "was not an allowed global" or "whose module … is blocked".
        asked = re.search(r"GLOBAL ([\w.]+) w", str(error))
        raise WeightsError(
            f"{path} cannot be read as tensors alone{f': it asks for {asked[1]}' if asked else ''}. "
            "It is no checkpoint, or one that would run code. Give the official file, or a safetensors one."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(
            f"{path} is not a whole checkpoint: {str(error).splitlines()[0] if str(error) else 'it is empty'}. "
            "The file is damaged or cut short. Fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not named tensors. Give the official file.")
    return content


def tensors_below(state: Mapping[str, Any], prefix: str, path: Path, family: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it.

    Raises:
        WeightsError: If there are none: the file is of another family.
    """
    found = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, torch.Tensor)
    }
    if not found:
        held = ", ".join(list(map(str, state))[:3]) or "nothing"
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


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, family: str) -> None:
    """Put tensors into a module, all of them or none.

    Raises:
        WeightsError: If a name is missing or too many, or a shape differs.
    """
    try:
        module.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} does not fit {family}: {reason} Give the file that {family} released.") from error
