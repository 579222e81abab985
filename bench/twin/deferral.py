"""How much carbon does it save to send work that can wait elsewhere, or to begin it later?

The scenario is ``deferrable-day``, which ships: three regions with published carbon, each by its own clock; 30 % of
the work has eight hours to be done in. The same calls, by seed, meet the same fleet with and without the policy;
differences have 95 % intervals (``twin.experiment``). Energy is as the twin has it: what runs draws by its batch,
what waits draws its idle power, and neither hosts nor idle accelerators are switched off.

Then what it hangs on, with two seeds each: accelerators that idle lower, replicas that both kinds of work share, a
grid of half the spread, less work that can wait. And the same runs by marginal instead of average carbon (what the
last power station emits that comes on, as the Green Software Foundation tells it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import Figures

from underlay.ledger.footprint import region_rates
from underlay.twin import simulation
from underlay.twin.confidence import interval
from underlay.twin.experiment import Difference, Experiment
from underlay.twin.scenario import read
from underlay.twin.summary import Summary, summarise

SCENARIO = "deferrable-day"
SEEDS = range(5)
FEW_SEEDS = range(2)
CALM = "none"
VARIANTS: dict[str, dict[str, Any]] = {
    CALM: {"policies.deferral": "none"},
    "region": {"policies.deferral_moves": "region"},
    "hour": {"policies.deferral_moves": "time"},
    "region and hour": {"policies.deferral_moves": "both"},
}
#: Half way from each region's carbon to the mean of the three.
_HALF = {
    f"world.regions.{region}.carbon_g_per_kwh": (grams + (412.72 + 39.32 + 366.85) / 3) / 2
    for region, grams in (("iowa", 412.72), ("finland", 39.32), ("singapore", 366.85))
}
_TP4 = {f"models.{name}.parallelism": "tp4" for name in ("chat", "batch")}
OTHERS: dict[str, dict[str, Any]] = {
    "on B200, which idle lower beside what they draw": {
        "world.servers": [{"accelerator": "b200-sxm"}],
        "models.chat.replicas": 4,
        "models.batch.replicas": 2,
        **_TP4,
    },
    "on replicas that both kinds of work share": {
        "models.chat.replicas": 3,
        "models.batch.replicas": 0,
        "crowds.jobs.model": "chat",
    },
    "with half the spread of carbon": _HALF,
    "with 15 % of the work able to wait": {"crowds.jobs.deferrable": {"within": "8 h", "share": 0.5}},
}


def deferral(figures: Figures) -> None:
    """What each variant saves; then what that hangs on."""
    found = experiment(VARIANTS, {}, SEEDS)
    for name in list(VARIANTS)[1:]:
        must = 15.0 if name == "region" else None
        saved = difference(found, name, "carbon")
        figures.add(
            f"deferral: carbon saved by {name}",
            -100.0 * (saved.interval.mean + saved.interval.half) / saved.first,
            "%",
            at_least=must,
            how=f"lower end of 95 % over {saved.interval.runs} seeds; {_told(saved)}; {_beside(found, name)}",
        )
        _say_marginal(figures, found, name)
    _say_service(figures, found)
    for name, settings in OTHERS.items():
        few = experiment({each: VARIANTS[each] for each in (CALM, "region")}, settings, FEW_SEEDS)
        saved = difference(few, "region", "carbon")
        how = f"mean of {saved.interval.runs} seeds; {_told(saved)}; {_beside(few, 'region')}"
        figures.add(f"deferral: by region, {name}", -100.0 * saved.share, "%", how=how)


def _say_service(figures: Figures, found: Experiment) -> None:
    """Equal service is what the saving must not cost."""
    for name in list(VARIANTS)[1:]:
        slo = difference(found, name, "slo_attainment")
        lost = 100.0 * (slo.interval.half - slo.interval.mean)  # at the worse end
        figures.add(f"deferral: SLO attainment lost by {name}", lost, "points", at_most=0.1, how=_told(slo))
        in_time = 100.0 * found.value(name, "deferrable_in_time")
        held_h = found.value(name, "held_mean") / 3600.0
        how = f"put off {held_h:.1f} h on average; {found.value(name, 'moved_share'):.0%} answered elsewhere"
        figures.add(f"deferral: wanted answers in time, {name}", in_time, "%", at_least=99.9, how=how)


def _say_marginal(figures: Figures, found: Experiment, name: str) -> None:
    """The same energy, by what the last power station emits in each region."""
    pairs = zip(found.counted(CALM), found.counted(name), strict=True)
    shares = [100.0 * (1.0 - _marginal_g(second) / _marginal_g(first)) for first, second in pairs]
    told = interval(shares)
    how = f"95 %: {told.low:.1f} to {told.high:.1f} %; {_by_region(found, name)}"
    figures.add(f"deferral: marginal carbon saved by {name}", told.mean, "%", how=how)


def _marginal_g(run: Summary) -> float:
    rates = {region: region_rates(like).carbon_marginal for region, like in _likes().items()}
    return sum(kwh * rate.value for region, kwh in _energy_kwh(run).items() if (rate := rates[region]) is not None)


def _likes() -> dict[str, str]:
    return {region.name: region.like or "" for region in read(SCENARIO).world.regions}


def _energy_kwh(run: Summary) -> dict[str, float]:
    return {each.place: each.value for each in run.accounts if each.name == "energy_feeder" and each.place}


def _by_region(found: Experiment, name: str) -> str:
    regions = list(_likes())
    mean = {
        variant: {
            region: interval([_energy_kwh(run)[region] for run in found.counted(variant)]).mean
            for region in regions
        }
        for variant in (CALM, name)
    }
    return ", ".join(f"{region} {mean[CALM][region]:.0f} -> {mean[name][region]:.0f} kWh" for region in regions)


def _beside(found: Experiment, name: str) -> str:
    energy = difference(found, name, "energy_feeder")
    idle = found.value(CALM, "accelerators_idle") + found.value(CALM, "host")
    of_it = idle / found.value(CALM, "energy_it")
    return f"energy {100.0 * energy.share:+.1f} %; {of_it:.0%} of IT energy is hosts and idle accelerators"


def _told(apart: Difference) -> str:
    low, high = apart.interval.low, apart.interval.high
    return f"{apart.first:.4g} to {apart.second:.4g} {apart.unit} ({low:+.3g} to {high:+.3g})"


def difference(found: Experiment, name: str, figure: str) -> Difference:
    """How a figure of a variant differs from that without a policy."""
    return next(each for each in found.differences(CALM, name) if each.name == figure)


def experiment(variants: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any], seeds: range) -> Experiment:
    """Every variant by every seed, in a world with these settings."""
    summaries = {name: [run({**settings, **told}, seed) for seed in seeds] for name, told in variants.items()}
    return Experiment(len(variants) * len(seeds), summaries)


def run(settings: Mapping[str, Any], seed: int) -> Summary:
    """One day."""
    return summarise(simulation.run(read(SCENARIO, settings), seed))
