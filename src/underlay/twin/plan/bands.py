"""How sure is a plan? What it was reckoned from is drawn again and again, and the plan made anew each time.

Drawn are, each by itself:

* how long steps that decode and steps with prompts take: normal in the logarithm, with the error that profiles had
  against whole runs on real machines (median of runs where there are some, else the usual one of all profiles that
  have them, and never less than the profile's own fit error). How capacity follows is found by runs with each
  changed by two deviations, and taken as a straight line between logarithms;
* how bursty the load is, evenly between what was told and the most to be reckoned with (``demand``), and how high
  its peak, evenly within the error told there;
* what accelerators draw: normal in the logarithm, with the error of the power curves;
* what they cost: evenly between the least list price and their median, and as often between it and the most;
* carbon and electricity: evenly in the logarithm between the ends of what is known (``places``).

For each draw the search is made again with the same kinds in the same regions: replicas, power, money and carbon
are those of the plan that would have been right. TTFT is the other way round, that of the plan as it is, by a run
of its fullest pool. Bands are from the 5th to the 95th percentile; they know nothing of what was not drawn. Draws
are a Latin hypercube (McKay, Beckman and Conover, Technometrics 1979): each quantity is met once in each of as many
equal parts of its spread as there are draws, so some dozens of draws do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import NormalDist, median
from typing import NamedTuple

import numpy as np

from underlay.physics import profiles
from underlay.physics.profiles import Profile
from underlay.physics.step_time import StepCoefficients
from underlay.twin.plan.carriers import Carrier, Watch
from underlay.twin.plan.figures import Pool, Prices, Total, total
from underlay.twin.plan.places import Known, Place
from underlay.twin.plan.problem import Problem, Region
from underlay.twin.plan.question import Question
from underlay.twin.plan.search import search

LOW, HIGH = 5.0, 95.0
#: Of a normal spread: from the mean of the error without sign, and from its median, to the deviation.
_OF_MEAN, _OF_MEDIAN = 1.2533, 1.4826
_DEVIATIONS = 2.0
#: How near to the best the plan of a draw is: more would change no band.
_TIME_LIMIT_S, _GAP = 10.0, 1e-3


class Band(NamedTuple):
    """From the 5th to the 95th percentile."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bands:
    """Bands by the names of ``figures.Total``, and of ``ttft_p99_s``.

    ``kept_share`` is the part of the draws in which the plan as it is keeps its promise, ``fitting_share`` that in
    which there is a plan of these kinds in these regions at all. ``drawn`` says what was drawn, in words.
    """

    bands: Mapping[str, Band]
    samples: int
    kept_share: float
    fitting_share: float
    drawn: tuple[str, ...]


class _Follows(NamedTuple):
    """How the logarithm of a capacity goes with deviations of decode and prompt steps, and with burstiness."""

    decode: float
    prefill: float
    burst: float


class _Draw(NamedTuple):
    """One draw: deviations (normal), places within a range (0 to 1)."""

    decode: float
    prefill: float
    watts: float
    burst: float
    peak: float
    price: float
    carbon: float
    electricity: float


def deviations(profile: Profile) -> tuple[float, float]:
    """The deviation of the logarithm of step times: those that decode, and those with prompts."""
    fit = profile.fit_error
    if profile.method == "assumed":
        return fit.decode_mean * _OF_MEAN, fit.prefill_mean * _OF_MEAN
    usual = median(line.runs_error.tpot_median for line in profiles.lines().values() if line.runs_error)
    runs = (profile.runs_error.tpot_median if profile.runs_error else usual) * _OF_MEDIAN
    return max(runs, fit.decode_mean * _OF_MEAN), max(runs, fit.prefill_mean * _OF_MEAN)


def timed(times: StepCoefficients, decode: float, prefill: float) -> StepCoefficients:
    """Step times with those parts that decode, and those with prompts, times a factor."""
    return times.scaled(decode=decode, prefill=prefill, kv_token=decode)


def bands(
    question: Question,
    problem: Problem,
    places: Sequence[Place],
    carriers: Sequence[Carrier],
    made: Sequence[Pool],
    watch: Watch,
) -> Bands:
    """How sure a plan is that consists of these pools."""
    used = sorted({pool.kind for pool in made})
    follows = {}
    for number, kind in enumerate(used):
        watch(f"how {carriers[kind].offer.name} follows its step times", number, len(used))
        follows[kind] = _follows(carriers[kind])
    dice = np.random.default_rng([question.seed, 7])
    rows, late = [], []
    fullest = max(made, key=lambda pool: pool.peak_load)
    way_s = fullest.ttft_p99_s - fullest.seen.ttft_p99_s
    for number, draw in enumerate(_draws(question.samples, dice)):
        watch("drawing what it rests on", number, question.samples)
        rows.append(_again(question, problem, places, carriers, made, follows, draw))
        late.append(_late(fullest, draw, number, way_s))
    watch("drawn", question.samples, question.samples)
    known = [row for row in rows if row is not None]
    found = {name: _band([getattr(row, name) for row in known]) for name in (known[0]._fields if known else ())}
    found["ttft_p99_s"] = _band([ttft_s for ttft_s, _ in late])
    kept = sum(kept for _, kept in late) / len(late)
    drawn = _said(question, [carriers[kind] for kind in used])
    return Bands(found, question.samples, kept, len(known) / len(rows), drawn)


def _draws(count: int, dice: np.random.Generator) -> Iterator[_Draw]:
    """A Latin hypercube: three deviations and five places."""
    parts = np.array([dice.permutation(count) for _ in _Draw._fields])
    places = (parts + dice.random(parts.shape)) / count
    normal = NormalDist()
    for row in places.T.tolist():
        yield _Draw(*(normal.inv_cdf(max(place, 1e-9)) for place in row[:3]), *row[3:])


def _follows(carrier: Carrier) -> _Follows:
    """Run it with each thing changed by itself, with the same dice."""
    bench, guess = carrier.bench, carrier.seen.rate_per_s
    decode, prefill = (exp(_DEVIATIONS * deviation) for deviation in deviations(carrier.offer.profile))

    def per_deviation(rate_per_s: float | None) -> float:
        return log((rate_per_s or guess * 0.5) / guess) / _DEVIATIONS

    slower = [replace(bench, times=timed(bench.times, *factors)) for factors in ((decode, 1.0), (1.0, prefill))]
    runs = [each.highest(guess) for each in slower]
    decoding, prompting = (per_deviation(seen.rate_per_s if seen else None) for seen in runs)
    bursty = bench.highest(guess, cv=bench.demand.cv_most) if bench.demand.cv_most > bench.demand.cv else None
    burst = log(bursty.rate_per_s / guess) if bursty else 0.0
    return _Follows(decoding, prompting, min(burst, 0.0))


def _again(
    question: Question,
    problem: Problem,
    places: Sequence[Place],
    carriers: Sequence[Carrier],
    made: Sequence[Pool],
    follows: Mapping[int, _Follows],
    draw: _Draw,
) -> Total | None:
    """The plan that this draw asks for, and what it comes to; None if there is none."""
    kinds = list(follows)
    drawn = [_drawn(carriers[kind], follows[kind], draw) for kind in kinds]
    prices = _prices(places, drawn, draw)
    peak = 1.0 + question.demand.peak_error * (2.0 * draw.peak - 1.0)
    servers = {
        name: replace(server, per_hour=server.per_hour and prices.usd_per_hour[name] * server.accelerators)
        for name, server in problem.servers.items()
        if name in prices.usd_per_hour
    }
    changed = replace(
        problem,
        kinds=tuple(carrier.kind() for carrier in drawn),
        servers=servers,
        regions=_regions(question, problem.regions, prices),
        peak_per_s=problem.peak_per_s * peak,
        one_kind=False,
        allowed=frozenset((pool.region, kinds.index(pool.kind)) for pool in made),
        mean_per_s=min(problem.mean_per_s, problem.peak_per_s * peak),
    )
    found = search(changed, _TIME_LIMIT_S, gap=_GAP)
    return total(question, changed, found, drawn, prices) if found.replicas else None


def _drawn(carrier: Carrier, follows: _Follows, draw: _Draw) -> Carrier:
    capacity = exp(follows.decode * draw.decode + follows.prefill * draw.prefill + follows.burst * draw.burst)
    return carrier.scaled(capacity, exp(carrier.offer.curve.error_mean * _OF_MEAN * draw.watts))


def _prices(places: Sequence[Place], drawn: Sequence[Carrier], draw: _Draw) -> Prices:
    offers = [carrier.offer for carrier in drawn]
    return Prices(
        {
            offer.accelerator: _around(draw.price, offer.price.least_usd, offer.price.usd, offer.price.most_usd)
            for offer in offers
        },
        tuple(_between(place.price, draw.electricity) for place in places),
        tuple(_between(place.carbon, draw.carbon) for place in places),
    )


def _regions(question: Question, regions: Sequence[Region], prices: Prices) -> tuple[Region, ...]:
    """What a kWh counts in what is made least."""
    per_kwh = {
        "cost": prices.usd_kwh,
        "energy": tuple(1.0 for _ in regions),
        "carbon": tuple(grams * 1e-3 for grams in prices.carbon_g_kwh),
    }[question.objective]
    return tuple(replace(region, per_kwh=value) for region, value in zip(regions, per_kwh, strict=True))


def _late(pool: Pool, draw: _Draw, number: int, way_s: float) -> tuple[float, bool]:
    """The p99 of TTFT at the callers of a pool as it is planned, and whether the promise is kept."""
    bench = pool.carrier.bench
    decode, prefill = deviations(pool.carrier.offer.profile)
    demand = bench.demand
    peak = 1.0 + demand.peak_error * (2.0 * draw.peak - 1.0)
    cv = demand.cv + (demand.cv_most - demand.cv) * draw.burst
    times = timed(bench.times, exp(decode * draw.decode), exp(prefill * draw.prefill))
    seen = replace(bench, times=times, seed=bench.seed + 1 + number).run(
        pool.peak_per_s / pool.replicas * peak, cv=cv
    )
    return seen.ttft_p99_s + way_s, bench.target.kept(seen)


def _around(place: float, least: float, middle: float, most: float) -> float:
    """Half of all draws lie evenly below the middle, half above."""
    if place < 0.5:
        return least + 2.0 * place * (middle - least)
    return middle + (2.0 * place - 1.0) * (most - middle)


def _between(known: Known, place: float) -> float:
    return known.value if known.least == known.most else known.least * (known.most / known.least) ** place


def _band(values: Sequence[float]) -> Band:
    low, high = np.percentile(values, [LOW, HIGH])
    return Band(float(low), float(high))


def _said(question: Question, used: Sequence[Carrier]) -> tuple[str, ...]:
    """What was drawn, in words."""
    demand = question.demand
    said = [
        f"CV of the gaps at the peak {demand.cv:.2g} to {demand.cv_most:.2g}",
        f"peak {demand.peak_error:.0%} up or down",
    ]
    for carrier in used:
        decode, prefill = deviations(carrier.offer.profile)
        price = carrier.offer.price
        said.append(
            f"{carrier.offer.name}: decode steps {decode:.1%}, prompt steps {prefill:.1%}, watts"
            f" {carrier.offer.curve.error_mean * _OF_MEAN:.1%} (a deviation each); {price.least_usd:g} to"
            f" {price.most_usd:g} USD/h"
        )
    return tuple(said)
