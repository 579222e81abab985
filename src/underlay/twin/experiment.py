"""What do several seeds and variants show, and how sure is it?

Every variant is run with the same seeds, and chance comes from named streams, so two variants with one seed meet
the same crowd and the same failures (common random numbers): their differences are taken by seed, which leaves the
weather out (Law, *Simulation Modeling and Analysis*, 11.2). A verdict needs a 95 % interval that does not hold 0;
one seed has none. Each figure is judged by itself: of twenty that do not differ at all, one will seem to.

Runs that were cut short do not count beside whole ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any, Literal, NamedTuple

from underlay.domain.figures import weakest

from .confidence import Interval, interval
from .figures import Figure, better
from .summary import Summary
from .trials import Ended, Trial

Verdict = Literal["better", "worse", "differs", "no difference shown"]

#: What is traded against latency, and which latency that is.
COSTS = ("cost_per_mtok", "energy_per_token")
LATENCY = "ttft_p99"


class Variant(NamedTuple):
    """A scenario file with some of its settings changed; ``name`` is what reports call it."""

    name: str
    file: str
    changes: tuple[tuple[str, Any], ...] = ()


class Estimate(NamedTuple):
    """A figure over several seeds."""

    name: str
    interval: Interval
    unit: str
    method: str


class Difference(NamedTuple):
    """How a figure differs from the first variant's, by seed; ``share`` of the first one's mean, nan for none."""

    name: str
    first: float
    second: float
    interval: Interval
    share: float
    unit: str
    verdict: Verdict


@dataclass(slots=True)
class Experiment:
    """What is known of each variant, in the order asked for. ``planned`` is how many runs that should have been."""

    planned: int
    summaries: dict[str, list[Summary]] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """Whether a run is missing or was cut short."""
        ran = [summary for summaries in self.summaries.values() for summary in summaries]
        return len(ran) < self.planned or any(summary.partial for summary in ran)

    @property
    def warnings(self) -> list[str]:
        """What to distrust: what the runs warn of, once each, and seeds that change nothing."""
        ran = [run for runs in self.summaries.values() for run in runs]
        found = dict.fromkeys(warning for run in ran for warning in run.warnings)
        for variant, runs in self.summaries.items():
            whole = [run.trace_hash for run in runs if not run.partial]
            if len(whole) > 1 and len(set(whole)) == 1:
                found[f"Every seed gives the same run of {variant}: intervals of 0 say nothing of other days."] = (
                    None
                )
        return list(found)

    def counted(self, variant: str) -> list[Summary]:
        """The runs that figures are taken from: whole ones, or cut ones where there is no whole one."""
        ran = self.summaries[variant]
        return [summary for summary in ran if not summary.partial] or ran

    def estimates(self, variant: str) -> list[Estimate]:
        """Every figure of a variant with its interval."""
        runs = self.counted(variant)
        return [_estimate(figure, runs) for figure in runs[0].figures] if runs else []

    def value(self, variant: str, figure: str) -> float:
        """The mean of a figure over a variant's runs; nan where there is none."""
        return interval([run.value(figure) for run in self.counted(variant)]).mean

    def differences(self, first: str, second: str) -> list[Difference]:
        """Every figure of ``second`` beside ``first``, paired by seed."""
        firsts = {run.seed: run for run in self.counted(first)}
        pairs = [(firsts[run.seed], run) for run in self.counted(second) if run.seed in firsts]
        if not pairs:
            return []
        both = {figure.name for figure in pairs[0][1].figures}
        return [_difference(figure, pairs) for figure in pairs[0][0].figures if figure.name in both]

    def front(self) -> tuple[str, list[str]]:
        """The variants that no other one beats in both cost and latency, the cheapest first; before it the cost.

        The cost is the first of ``COSTS`` that is known of any; without one there is no front.
        """
        for cost in COSTS:
            points = {name: (self.value(name, cost), self.value(name, LATENCY)) for name in self.summaries}
            if found := pareto(points):
                return cost, found
        return "", []


def experiment_of(variants: Sequence[Variant], seeds: Sequence[int], ended: Iterable[Ended]) -> Experiment:
    """Sort what came of the trials by variant; each summary carries its variant's name from here on."""
    summaries: dict[str, list[Summary]] = {variant.name: [] for variant in variants}
    for trial, summary, _ in ended:
        summary.variant = trial.variant.name
        summaries[trial.variant.name].append(summary)
    return Experiment(len(variants) * len(seeds), summaries)


def trials_of(variants: Sequence[Variant], seeds: Sequence[int]) -> list[Trial]:
    """Seed by seed, so that whoever stops early has something of every variant."""
    return [Trial(variant, seed) for seed in seeds for variant in variants]


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Those that are beaten by no other in both coordinates (less is better), by the first coordinate."""
    known = {name: point for name, point in points.items() if not any(map(isnan, point))}
    front = []
    lowest = float("inf")
    for name, (_, second) in sorted(known.items(), key=lambda item: item[1]):
        if second < lowest:
            front.append(name)
            lowest = second
    return front


def _estimate(figure: Figure, runs: Sequence[Summary]) -> Estimate:
    same = [other for run in runs for other in run.figures if other.name == figure.name]
    method = weakest(other.method for other in same)
    return Estimate(figure.name, interval([other.value for other in same]), figure.unit, method)


def _difference(figure: Figure, pairs: Sequence[tuple[Summary, Summary]]) -> Difference:
    values = [(first.value(figure.name), second.value(figure.name)) for first, second in pairs]
    known = [(first, second) for first, second in values if not isnan(first) and not isnan(second)]
    apart = interval([second - first for first, second in known])
    first = interval([first for first, _ in known]).mean
    second = interval([second for _, second in known]).mean
    share = apart.mean / abs(first) if known and first else nan
    return Difference(figure.name, first, second, apart, share, figure.unit, _verdict(figure.name, apart))


def _verdict(name: str, apart: Interval) -> Verdict:
    if apart.runs < 2 or apart.low <= 0.0 <= apart.high:
        return "no difference shown"
    direction = better(name)
    if not direction:
        return "differs"
    return "better" if (apart.mean > 0.0) == (direction == "higher") else "worse"
