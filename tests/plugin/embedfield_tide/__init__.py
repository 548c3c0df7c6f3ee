"""The cards of two encoders of the local time of day: data, no torch, so that a list of models stays quick."""

from __future__ import annotations

from embedfield.card import Card, Input

HOUR = Input(meaning="hour of the day at Greenwich; noon where it is left out", minimum=0, maximum=24)

DAILY = Card(
    name="tide-daily",
    title="the local time of day and the latitude, as points on two circles",
    dim=4,
    code="embedfield_tide.encoder:TideDaily",
    # What is asked beside the place joins the options, and takes the place of what stands here.
    options={"hour": 12},
    inputs={"hour": HOUR},
    units="radians",
    dtype="float64",
    # A pole has every time of day.
    one_pole=False,
    # Half of the one wave around the globe.
    detail=180.0,
    homepage="https://example.org/embedfield-tide",
)

LEARNED = Card(
    name="tide-learned",
    title="a linear layer over tide-daily, trained by yourself",
    dim=3,
    code="embedfield_tide.encoder:TideLearned",
    options={"hour": 12},
    inputs={"hour": HOUR},
    units="radians",
    one_pole=False,
    detail=180.0,
    note="Its weights are your own: --weights FILE.",
    training_data="the user's own",
    homepage="https://example.org/embedfield-tide",
)

CARDS = (DAILY, LEARNED)
