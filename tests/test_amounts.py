"""Amounts are said in words that a person would use."""

from __future__ import annotations

import pytest

from embedfield.amounts import bytes_text, rate_text, time_text


@pytest.mark.parametrize(
    ("size", "said"),
    [(700, "0.7 kB"), (1500, "1.5 kB"), (42e6, "42 MB"), (9.96e8, "1.0 GB"), (3.2e11, "320 GB"), (4.6e12, "4.6 TB")],
)
def test_sizes_have_a_unit_of_their_own(size: float, said: str) -> None:
    assert bytes_text(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "under 1 s"), (1.5, "1.5 s"), (42, "42 s"), (130, "2.2 min"), (11_520, "3.2 h"), (86_400 * 14, "14 d")],
)
def test_times_have_a_unit_of_their_own(seconds: float, said: str) -> None:
    assert time_text(seconds) == said


@pytest.mark.parametrize(
    ("rate", "said"),
    [(2.34, "2.3"), (9.96, "10"), (976.4, "976"), (9_843, "9,840"), (1.2e6, "1,200,000")],
)
def test_rates_have_three_digits_at_most(rate: float, said: str) -> None:
    assert rate_text(rate) == said
