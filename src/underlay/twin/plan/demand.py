"""How much is asked, and how long is it? A rate, a trace or the crowds of a scenario as one load.

A load is a mean and a peak rate, pairs of prompt and output lengths that stand for all requests, and how bursty
calls are at the peak (coefficient of variation of the gaps between them; 1 is Poisson). Replicas are sized for the
peak; energy, money and carbon over a year are those of the mean.

Cached beginnings of prompts are not counted: every prompt is computed whole, which errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from underlay.domain.errors import BadRequest
from underlay.twin.crowd import trace_files
from underlay.twin.crowd.lengths import Lengths, Recorded, Separate
from underlay.twin.crowd.spreads import Fixed, Lognormal
from underlay.twin.crowd.surveys import survey
from underlay.twin.scenario import Scenario, build_crowds

Tokens = npt.NDArray[np.int64]

#: So many pairs of lengths stand for all.
PAIRS = 4096
#: Lengths told by their mean are cut at so many times it.
CUT = 8.0
#: How far the peak itself may be off, either way, where nobody says: assumed.
PEAK_ERROR = 0.1
#: How bursty a Poisson load may turn out to be (CV of the gaps): assumed, ServeGen's clients lie between 1 and 12
#: each by itself, and far lower together.
CV_MOST = 2.0
_WINDOW_S = 60
_STEPS = 1440


@dataclass(frozen=True, slots=True)
class Demand:
    """A load in requests per second. ``written`` is how a scenario writes its lengths; ``note`` where it is from.

    ``cv`` is that of gaps between calls at the peak, ``cv_most`` the most that is to be reckoned with;
    ``peak_error`` how far the peak may lie off, either way.
    """

    mean_per_s: float
    peak_per_s: float
    prompt_tokens: Tokens
    output_tokens: Tokens
    written: Mapping[str, Any]
    note: str
    method: str
    cv: float = 1.0
    cv_most: float = CV_MOST
    peak_error: float = PEAK_ERROR

    def __post_init__(self) -> None:
        if not 0 < self.mean_per_s <= self.peak_per_s * (1 + 1e-9):
            raise BadRequest(
                f"The load is {self.mean_per_s:g} requests/s in the mean and {self.peak_per_s:g} at the peak: "
                "both must be above 0, and the peak at least the mean.",
                param="rate",
            )

    def times(self, factor: float) -> Demand:
        """The same load grown by a factor."""
        return replace(self, mean_per_s=self.mean_per_s * factor, peak_per_s=self.peak_per_s * factor)

    @property
    def prompt_mean(self) -> float:
        """Mean tokens of a prompt."""
        return float(self.prompt_tokens.mean())

    @property
    def output_mean(self) -> float:
        """Mean tokens of an answer."""
        return float(self.output_tokens.mean())

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and answer together."""
        return int((self.prompt_tokens + self.output_tokens).max())


def of_rate(
    mean_per_s: float, peak_per_s: float, lengths: Lengths, written: Mapping[str, Any], *, cv: float = 1.0
) -> Demand:
    """A rate. Errors: BadRequest."""
    lengths.check()
    prompts, outputs = lengths.draw(PAIRS, np.random.default_rng(0))
    if isinstance(lengths, Recorded):
        prompts[0], outputs[0] = _longest(trace_files.locate(lengths.trace))
    note = f"{mean_per_s:g} requests/s in the mean, {peak_per_s:g} at the peak, as given"
    return Demand(
        mean_per_s, peak_per_s, prompts, outputs, written, note, "assumed", cv=cv, cv_most=max(cv, CV_MOST)
    )


def told_lengths(
    prompt: tuple[float, float] | None, output: tuple[float, float] | None, recorded: str
) -> tuple[Lengths, dict[str, Any]]:
    """Lengths by mean and coefficient of variation, or recorded ones; and how a scenario writes them.

    Errors: BadRequest where only one of the two is told, or there is no such recording.
    """
    if (prompt is None) != (output is None):
        raise BadRequest("Say the tokens of prompts and of answers, or of neither.", param="tokens")
    if prompt is None or output is None:
        path = trace_files.locate(recorded)
        known = recorded in trace_files.shipped()
        return Recorded(trace=recorded), {"lengths": {"name": recorded} if known else {"path": str(path)}}
    spreads, written = {}, {}
    for name, (mean, cv) in {"prompt": prompt, "output": output}.items():
        spreads[name] = Lognormal(mean=mean, cv=cv, low=1, high=CUT * mean) if cv else Fixed(value=mean)
        written[f"{name}_tokens"] = {"mean": mean, "cv": cv, "low": 1, "high": CUT * mean} if cv else mean
    return Separate(**spreads), written


def of_trace(trace: str, mean_per_s: float | None = None) -> Demand:
    """A recording, at its own rate or scaled to another mean. The peak is its busiest minute.

    Errors: BadRequest, TraceError.
    """
    path = trace_files.locate(trace)
    whole = survey(path)
    last_s = max(whole.last_s, 1.0)
    minutes = [whole.between(at, at + _WINDOW_S) for at in range(0, max(1, int(last_s) - _WINDOW_S + 1), _WINDOW_S)]
    recorded_per_s = whole.count / last_s
    peak_per_s = max(max(minutes) / min(_WINDOW_S, last_s), recorded_per_s)
    scale = 1.0 if mean_per_s is None else mean_per_s / recorded_per_s
    pairs = np.array(trace_files.lengths(path), dtype=np.int64)
    drawn = pairs[np.random.default_rng(0).integers(0, len(pairs), PAIRS)]
    drawn[0] = _longest(path)
    cv, cv_most = _burstiness(path)
    known = trace in trace_files.shipped()
    note = f"{trace}: {whole.count:,} calls in {last_s / 60:.0f} min, busiest minute {peak_per_s:.3g}/s"
    if mean_per_s is not None:
        note += f"; scaled to {mean_per_s:g}/s in the mean"
    return Demand(
        recorded_per_s * scale,
        peak_per_s * scale,
        drawn[:, 0],
        drawn[:, 1],
        {"lengths": {"name": trace} if known else {"path": str(path)}},
        note,
        "measured" if mean_per_s is None else "modelled",
        cv=cv,
        cv_most=max(cv_most, cv),
    )


def of_scenario(scenario: Scenario) -> Demand:
    """All calls of a scenario's crowds, as they are to be expected over its duration. Errors: ScenarioMistake."""
    dice = Random(scenario.seed)  # noqa: S311 -- typical lengths, no secrets
    crowds = [callers.crowd for callers in build_crowds.crowds(scenario)]
    step_s = max(scenario.duration / _STEPS, min(scenario.duration, 1.0))
    times = np.arange(0.5 * step_s, scenario.duration, step_s)
    rates = np.array([[crowd.rate_per_s(float(at)) for at in times] for crowd in crowds])
    means = rates.mean(axis=1)
    if not means.sum():
        raise BadRequest(f"Nobody calls in {scenario.name}.", param="scenario")
    calls = [
        call
        for crowd, mean in zip(crowds, means, strict=True)
        for call in crowd.sample(max(1, round(PAIRS * float(mean / means.sum()))), dice)
    ]
    prompts = np.array([call.prompt_tokens for call in calls], dtype=np.int64)
    outputs = np.array([call.output_tokens for call in calls], dtype=np.int64)
    cv = max((getattr(each.arrivals.process, "cv", 1.0) for each in scenario.crowds if each.arrivals), default=1.0)
    peak = float(rates.sum(axis=0).max())
    note = f"the crowds of {scenario.name} over {scenario.duration / 60:.0f} min: peak {peak:.3g}/s"
    written = {"prompt_tokens": _quantiles(prompts), "output_tokens": _quantiles(outputs)}
    return Demand(
        float(means.sum()), peak, prompts, outputs, written, note, "modelled", cv=cv, cv_most=max(cv, CV_MOST)
    )


def _longest(path: Path) -> tuple[int, int]:
    """The longest request of a recording: replicas must have room for it."""
    return max(trace_files.lengths(path), key=sum)


def _burstiness(path: Path) -> tuple[float, float]:
    """The coefficient of variation of gaps within minutes: the usual one, and what 95 % of minutes stay below."""
    gaps: dict[int, list[float]] = {}
    before = 0.0
    for row in trace_files.read(path):
        gaps.setdefault(int(row.at_s // _WINDOW_S), []).append(row.at_s - before)
        before = row.at_s
    spreads = sorted(
        float(np.std(each) / np.mean(each)) for each in gaps.values() if len(each) > 20 and np.mean(each) > 0
    )
    if not spreads:
        return 1.0, CV_MOST
    return max(0.1, median(spreads)), max(0.1, spreads[min(len(spreads) - 1, int(0.95 * len(spreads)))])


def _quantiles(tokens: Tokens) -> dict[str, Any]:
    """As a table, which keeps their spread and forgets which prompt had which answer."""
    shares = [round(0.01 * percent, 2) for percent in range(101)]
    return {
        "kind": "quantiles",
        "shares": shares,
        "values": [float(value) for value in np.quantile(tokens, shares)],
    }
