"""SatCLIP's published basis, bit for bit."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from embedfield.encoders.harmonics import Basis
from embedfield.encoders.printed import printed_numbers
from embedfield.encoders.workers import Workers
from embedfield.errors import CardError

if TYPE_CHECKING:
    from torch import Tensor

_PUBLISHED_DEGREES = 40
# Places whose functions are computed together: their powers and waves stay in a processor's cache.
_BLOCK = 1024
# Exponents for which torch has a routine of their own, if all numbers are raised to the same one.
_SINGULAR = (0.0, 0.5, 1.0, 2.0, 3.0)
# Exponents at a time: torch divides more than 32768 numbers among its threads.
_ROWS = 32_768 // _BLOCK


class PublishedHarmonics(Basis):
    """The basis that SatCLIP was trained on, with its printed coefficients; with its slip, or without.

    Y_lm = prefactor * sin(theta)^m * polynomial(cos theta) * cos or sin(|m| phi),
    with phi = lon + 180 deg and theta = lat + 90 deg, from the SOUTH pole. Every
    Y_l0 is pi times the orthonormal one: that slip is part of SatCLIP, and was
    later mended in the repository that the code came from. The coefficients have 15 digits and the
    polynomials are expanded in powers, which cancel near the poles: there the
    published Y_39,0 is off by 0.6, and that is part of the trained model.

    It is computed by processors, wherever its places are. Where those have AVX-512 the features
    have the bits of the official code's output, wherever a place stands in its batch. Elsewhere
    `pow` and `cos` may differ in the last bit, which cancellation raises to about 0.02 at the poles.
    A latitude beyond a pole is not refused: the caller checks its places.

    Source: Klemmer et al. 2023, "SatCLIP", arXiv 2311.17179 (its "analytic" variant).
    """

    _first_meridian = -180.0

    def __init__(self, degrees: int, *, zonal_pi: bool = True) -> None:
        """Take the functions of degree l = 0 .. degrees - 1.

        Args:
            degrees: Number of degrees L, 1 to 40.
            zonal_pi: Whether Y_l0 has the factor pi too much.

        Raises:
            CardError: If `degrees` is out of that range.
        """
        if not 1 <= degrees <= _PUBLISHED_DEGREES:
            message = (
                f"SatCLIP's published harmonics cannot have {degrees} degrees: their printed coefficients are "
                f"known here for 1 to {_PUBLISHED_DEGREES}. Choose a number in that range, or the orthonormal basis."
            )
            raise CardError(message)
        super().__init__(degrees)
        self._printed = printed_numbers(degrees, zonal_pi=zonal_pi)

    def _features(self, lons: Tensor | None, lats: Tensor, dtype: torch.dtype) -> Tensor:
        if lats.device.type == "cpu":  # one of several threads, as a rule
            return self._computed(lons, lats, dtype, Workers(1))
        here = None if lons is None else lons.cpu()
        return self._computed(here, lats.cpu(), dtype, _all_threads()).to(lats.device)

    def _computed(self, lons: Tensor | None, lats: Tensor, dtype: torch.dtype, workers: Workers) -> Tensor:
        """Return the features (dim, N) at degrees (N,), block by block."""
        features = torch.empty(self.dim, len(lats), dtype=dtype)
        workers.each(partial(self._write, features, lons, lats), range(0, len(lats), _BLOCK))
        return features

    def _write(self, features: Tensor, lons: Tensor | None, lats: Tensor, start: int) -> None:
        """Write the features (dim, N) of the block of places that begins at `start`."""
        from embedfield.encoders.loops import Tables, write_published

        block = slice(start, start + _BLOCK)
        x = torch.cos(torch.deg2rad(lats[block] + 90))
        orders = torch.arange(self.degrees, dtype=x.dtype)
        waves = x.new_ones(2 * self.degrees - 1, len(x)) if lons is None else self._waves(lons[block])
        sines, powers = _powers(1.0 - x**2, orders / 2), _powers(x, orders)
        write_published(features.numpy(), start, Tables(waves.numpy(), sines.numpy(), powers.numpy()), self._printed)


@cache
def _all_threads() -> Workers:
    return Workers(torch.get_num_threads())


def _powers(base: Tensor, exponents: Tensor) -> Tensor:
    """Return base (N,), of one block at most, to each exponent: (exponents, N), or some columns more."""
    # On a CPU, torch raises what does not fill a vector register, at the end of each
    # thread's share, with another routine, whose last bits differ. Padded, nothing is
    # left over, and what is raised at once is one thread's; so the features of a place
    # do not depend on where it stands in its batch.
    padded = pad(base, (0, -len(base) % 64))
    powers = padded.new_empty(len(exponents), len(padded))
    for some, results in zip(torch.split(exponents, _ROWS), torch.split(powers, _ROWS), strict=True):
        torch.pow(padded, some[:, None], out=results)
    for row, exponent in zip(powers, exponents.tolist(), strict=True):
        if exponent in _SINGULAR:
            torch.pow(padded, exponent, out=row)
    return powers
