"""Linear layers, whose products are most of what encoders cost."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  of a field that is there at run time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Products = Literal["full", "tf32", "bf16"]
"""How numbers are multiplied: in their own precision, or rounded to 11 or 8 binary digits before."""

# Torch multiplies matrices by MKL, which on processors that are not Intel's leaves half of their speed unused.
# oneDNN, by which compiled models run, does not, and is as fast elsewhere.
_ONEDNN = (
    torch.ops.mkldnn._linear_pointwise  # noqa: SLF001  no other name leads to it without a compiler
    if torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else None
)


class Activation(NamedTuple):
    """What follows a linear layer, number by number."""

    apply: Callable[[Tensor], Tensor]
    """Of the layer's output, which may be overwritten."""
    fused: tuple[str, list[float], str] | None = None
    """What oneDNN calls it: done along with the product, it costs next to nothing. None where oneDNN does it wrong."""


_NOTHING: tuple[str, list[float], str] = ("none", [], "")
# oneDNN makes 0 of what is not a number, and weights that are damaged would not be found out.
RELU = Activation(torch.relu_)
NONE = Activation(lambda x: x, _NOTHING)


class Linear(nn.Linear):
    """A linear layer and its activation: x → a(W x + b)."""

    products: Products = "full"

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, then: Activation | None = None, exact: bool = False
    ) -> None:
        """Make an unfilled layer, to be filled from a checkpoint.

        Args:
            inputs: Length of its input.
            outputs: Length of its output.
            bias: Whether it adds b.
            then: The activation a; None for none.
            exact: Whether it multiplies in full precision whatever `multiply`
                asks, as a layer must whose output is the argument of a fast sine.
        """
        super().__init__(inputs, outputs, bias=bias, device="meta")
        self.then = then
        self.exact = exact

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (..., outputs) for input (..., inputs)."""
        return product(x, self.weight, self.bias, self.products, self.then)

    def bandwise(self, x: Tensor) -> Tensor:
        """Return the same for (n, inputs), lying in memory output by output, as rasters do."""
        result = product(self.weight, x, None, self.products)
        if self.bias is not None:
            result.add_(self.bias[:, None])
        return (self.then or NONE).apply(result).T


def linears(sizes: Sequence[int], then: Activation | None = None) -> list[Linear]:
    """Return unfilled layers from each size to the next; the first multiplies in full precision."""
    return [Linear(*pair, then=then, exact=not number) for number, pair in enumerate(pairwise(sizes))]


def multiply(module: nn.Module, products: Products) -> None:
    """Choose how a module's layers multiply, those aside that do it in full precision always."""
    for layer in _layers(module):
        layer.products = products


def choosable(module: nn.Module) -> bool:
    """Return whether a module has a layer of which that can be chosen."""
    return bool(_layers(module))


def _layers(module: nn.Module) -> list[Linear]:
    return [layer for layer in module.modules() if isinstance(layer, Linear) and not layer.exact]


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    products: Products = "full",
    then: Activation | None = None,
) -> Tensor:
    """Return x weight' + bias, activated.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,).
        products: How numbers are multiplied. They are added up in full precision.
        then: What follows.

    Returns:
        (..., outputs), of x's dtype.
    """
    then = then or NONE
    if products == "bf16":
        sums = functional.linear(x.bfloat16(), weight.bfloat16()).to(x.dtype)
        return then.apply(sums if bias is None else sums.add_(bias))
    if products == "tf32":
        with _tf32():
            return then.apply(functional.linear(x, weight, bias))
    if _ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu" and x.numel():
        result: Tensor = _ONEDNN(x, weight, bias, *(then.fused or _NOTHING))
        return result if then.fused else then.apply(result)
    return then.apply(functional.linear(x, weight, bias))


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
