"""When calls come, and how long things are: the parts of ``crowds`` that the twin draws from, one to one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from underlay.documents.sections import Section, Share
from underlay.twin.scenario.values import Moment, NotNegative, Positive, Span


def _of_kind(usual: str) -> BeforeValidator:
    """``gamma`` is short for ``{kind: gamma}``; a section without a kind is of the ``usual`` one."""

    def told(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": usual, **value} if isinstance(value, dict) else value

    return BeforeValidator(told)


# Gaps between calls.


class PoissonSection(Section):
    """Callers who know nothing of each other."""

    kind: Literal["poisson"] = Field("poisson", description="which process")


class GammaSection(Section):
    """Bursts: gaps with this coefficient of variation."""

    kind: Literal["gamma"] = Field("gamma", description="which process")
    cv: Positive = Field(2.0, description="standard deviation over mean; 1 is Poisson, above it come bursts")


class WeibullSection(Section):
    """Bursts with a heavier tail."""

    kind: Literal["weibull"] = Field("weibull", description="which process")
    shape: Annotated[float, Field(ge=0.1)] = Field(0.7, description="1 is Poisson, below it come bursts")


class EvenSection(Section):
    """One after the other, like a clock."""

    kind: Literal["even"] = Field("even", description="which process")


Process = Annotated[
    Annotated[PoissonSection | GammaSection | WeibullSection | EvenSection, Field(discriminator="kind")],
    _of_kind("poisson"),
]

# How a rate changes.


class RampSection(Section):
    """From one factor to another, and so on from there."""

    kind: Literal["ramp"] = Field("ramp", description="which shape")
    begin: NotNegative = Field(1.0, description="times the rate before it")
    end: NotNegative = Field(description="times the rate after it")
    at: Moment = Field(0.0, description="when it begins")
    lasts: Span = Field(description="how long it takes")


class StepsSection(Section):
    """From certain times on other factors."""

    kind: Literal["steps"] = Field("steps", description="which shape")
    steps: Annotated[tuple[tuple[Moment, NotNegative], ...], Field(min_length=1)] = Field(
        description="pairs of a time and the factor from then on: [[0, 1], [5 min, 3]]"
    )


class SurgeSection(Section):
    """So many times the rate for some time."""

    kind: Literal["surge"] = Field("surge", description="which shape")
    factor: NotNegative = Field(description="times the rate")
    at: Moment = Field(description="when it begins")
    lasts: Span = Field(description="until it begins to fall")
    rise: Moment = Field(0.0, description="time that it takes to rise")
    fall: Moment = Field(0.0, description="time that it takes to fall, after it")


class DiurnalSection(Section):
    """Days and nights, by the callers' clocks (their region's)."""

    kind: Literal["diurnal"] = Field("diurnal", description="which shape")
    peak_hour: Annotated[float, Field(ge=0, lt=24)] = Field(15.0, description="hour of the day with most calls")
    trough_share: Share = Field(0.3, description="rate at night, as a share of that at the peak")


Shape = Annotated[
    Annotated[RampSection | StepsSection | SurgeSection | DiurnalSection, Field(discriminator="kind")],
    _of_kind("surge"),
]


class ArrivalsSection(Section):
    """Calls at a rate."""

    rate_per_s: NotNegative = Field(description="calls per second in the mean; of days and nights, a day's mean")
    process: Process = Field(PoissonSection(), description="how regularly they come: poisson, gamma, weibull, even")
    over_time: tuple[Shape, ...] = Field((), description="how the rate changes: ramp, steps, surge, diurnal")
    start: Moment = Field(0.0, description="when the first may come")
    stop: Moment | None = Field(None, description="when no more come; none: at the end")


# How long things are.


class FixedSection(Section):
    """Always the same; a bare number is short for it."""

    kind: Literal["fixed"] = Field("fixed", description="which spread")
    value: NotNegative = Field(description="the value")


class ExponentialSection(Section):
    """Without memory."""

    kind: Literal["exponential"] = Field("exponential", description="which spread")
    mean: Positive = Field(description="before it is cut")
    low: NotNegative = Field(0.0, description="cut below it")
    high: Positive | None = Field(None, description="cut above it")


class GeometricSection(Section):
    """Whole numbers from 1: after each there is another with the same chance."""

    kind: Literal["geometric"] = Field("geometric", description="which spread")
    mean: Annotated[float, Field(ge=1)] = Field(description="before it is cut")
    low: NotNegative = Field(0.0, description="cut below it")
    high: Positive | None = Field(None, description="cut above it")


class LognormalSection(Section):
    """As lengths of prompts and answers usually are; what is meant where no kind is given."""

    kind: Literal["lognormal"] = Field("lognormal", description="which spread")
    mean: Positive = Field(description="before it is cut")
    cv: Positive = Field(1.0, description="standard deviation over mean")
    low: NotNegative = Field(0.0, description="cut below it")
    high: Positive | None = Field(None, description="cut above it")


class GammaSpreadSection(Section):
    """Gamma."""

    kind: Literal["gamma"] = Field("gamma", description="which spread")
    mean: Positive = Field(description="before it is cut")
    cv: Positive = Field(1.0, description="standard deviation over mean")
    low: NotNegative = Field(0.0, description="cut below it")
    high: Positive | None = Field(None, description="cut above it")


class QuantilesSection(Section):
    """A table."""

    kind: Literal["quantiles"] = Field("quantiles", description="which spread")
    shares: tuple[Share, ...] = Field(min_length=1, description="shares from 0 to 1, rising")
    values: tuple[NotNegative, ...] = Field(min_length=1, description="what that share stays below")


def _spread(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "fixed", "value": value}
    return {"kind": "lognormal", **value} if isinstance(value, dict) else value


Spread = Annotated[
    Annotated[
        FixedSection
        | ExponentialSection
        | GeometricSection
        | LognormalSection
        | GammaSpreadSection
        | QuantilesSection,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_spread),
]
