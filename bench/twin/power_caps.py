"""How much energy of accelerators do caps save that follow the service, and does anybody notice?

The scenario ``power-caps-day``: three regions with a day and a night each, 30 % of the work can wait, a surge of
twelve times the usual for ten minutes. Five seeds; the same crowd asks the same fleet with and without caps, so
differences are taken by seed, with 95 % intervals. What a cap does to a step is modelled (``physics.power``,
``physics.step_time``): the last figures tell what the result owes to each assumption. They are of the first six
hours and one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness import Figures

from underlay.physics import power
from underlay.twin import modelled, simulation
from underlay.twin.experiment import Difference, Experiment
from underlay.twin.scenario import read
from underlay.twin.summary import Summary, summarise

SCENARIO = "power-caps-day"
MODES = ("none", "slo")
SEEDS = range(5)
#: Percentage points of requests that caps may cost their objectives: equal, as far as anybody would notice.
LOST_MAX = 0.1
SAVED_MIN = 10.0
ENERGY, SERVED = "energy_accelerators", "slo_attainment"

#: What else might be so: settings of the scenario, and what is assumed of accelerators.
SETTINGS: Mapping[str, dict[str, Any]] = {
    "as shipped": {},
    "floor 70 %": {"policies.power_caps.floor": 0.7},
    "floor 60 %": {"policies.power_caps.floor": 0.6},
    "floor 40 %": {"policies.power_caps.floor": 0.4},
    "TTFT within 1.5 s": {"slo.ttft": 1.5},
    "TTFT within 1 s": {"slo.ttft": 1.0},
    "twice the load": {"crowds.people.arrivals.rate_per_s": 1.4, "crowds.jobs.arrivals.rate_per_s": 0.6},
}
ASSUMED: Mapping[str, dict[str, float]] = {
    "clock exponent 1.2": {"CLOCK_EXPONENT": 1.2},
    "clock exponent 2.4": {"CLOCK_EXPONENT": 2.4},
    "70 % of decoding's power fixed": {"DECODE_FIXED_SHARE": 0.7},
    "85 % of decoding's power fixed": {"DECODE_FIXED_SHARE": 0.85},
    "decoding draws 0.6 of what it does": {"decode": 0.6},
}


def power_caps(figures: Figures) -> None:
    """With caps and without; then what the result owes to what."""
    found = experiment()
    saved, lost = difference(found, ENERGY), difference(found, SERVED)
    share = 100.0 / saved.first
    told = f"{-share * saved.interval.mean:.1f} % +- {share * saved.interval.half:.1f} of {saved.first:.1f} kWh"
    how = f"lower end of the 95 % interval over {saved.interval.runs} seeds: {told}"
    least = -share * saved.interval.high
    figures.add("power caps: energy of accelerators saved", least, "%", at_least=SAVED_MIN, how=how)
    told = f"{lost.first:.3%} become {lost.second:.3%}, by {lost.interval.mean:+.4%} +- {lost.interval.half:.4%}"
    how = f"upper end of the 95 % interval: {told}"
    most = -100.0 * lost.interval.low
    figures.add("power caps: SLO attainment lost", most, "points", at_most=LOST_MAX, how=how)
    for name, called in (("ttft_p99", "TTFT p99"), ("tpot_p99", "time per token p99"), ("energy_feeder", "energy")):
        apart = difference(found, name)
        how = f"{apart.first:.4g} {apart.unit} become {apart.second:.4g}"
        figures.add(f"power caps: {called} changes by", 100.0 * apart.interval.mean / apart.first, "%", how=how)
    for called, settings, assumed in _otherwise():
        with assuming(assumed):
            plain, capped = (_run(mode, 0, {**settings, "duration": "6h"}) for mode in MODES)
        how = f"SLO attainment {plain.value(SERVED):.3%} becomes {capped.value(SERVED):.3%}; six hours, one seed"
        figures.add(f"power caps: saved, {called}", _saved(plain, capped), "%", how=how)


def experiment(seeds: range = SEEDS, **settings: Any) -> Experiment:
    """The day with and without caps, of every seed."""
    summaries = {mode: [_run(mode, seed, settings) for seed in seeds] for mode in MODES}
    return Experiment(len(MODES) * len(seeds), summaries)


def difference(found: Experiment, figure: str) -> Difference:
    """How a figure with caps differs from that without."""
    return next(each for each in found.differences(*MODES) if each.name == figure)


def _run(mode: str, seed: int, settings: Mapping[str, Any]) -> Summary:
    scenario = read(SCENARIO, {**settings, "policies.power_caps.mode": mode})
    summary = summarise(simulation.run(scenario, seed))
    summary.variant = mode
    return summary


def _saved(plain: Summary, capped: Summary) -> float:
    return 100.0 * (1.0 - capped.value(ENERGY) / plain.value(ENERGY))


def _otherwise() -> Iterator[tuple[str, dict[str, Any], dict[str, float]]]:
    yield from ((called, settings, {}) for called, settings in SETTINGS.items())
    yield from ((called, {}, assumed) for called, assumed in ASSUMED.items())


@contextmanager
def assuming(assumed: Mapping[str, float]) -> Iterator[None]:
    """Let other constants of ``physics.power`` hold for a while; ``decode`` scales what decoding draws."""
    constants = {name: value for name, value in assumed.items() if name != "decode"}
    usual = {name: getattr(power, name) for name in constants}
    fits = power.fits()
    scale = assumed.get("decode", 1.0)
    scaled = {key: fit._replace(low_w=fit.low_w * scale, rise_w=fit.rise_w * scale) for key, fit in fits.items()}
    usual_fits = power.fits
    vars(power).update(constants, fits=lambda: scaled)
    _forget()
    try:
        yield
    finally:
        vars(power).update(usual, fits=usual_fits)
        _forget()


def _forget() -> None:
    """What was reckoned by other constants is not kept."""
    modelled._watts_of.cache_clear()  # noqa: SLF001
    modelled._adjusted.cache_clear()  # noqa: SLF001
