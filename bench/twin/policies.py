"""Do policies of routing come out in the order that was published, and does the default one beat the others?

The load is Mooncake's public trace of conversations (12,031 requests in 59 minutes, with hashes of their prefixes),
made twice as dense; each seed is another tenth of an hour of it, and loads the policies' dice. Eight replicas of
Llama 3.1 70B on four H200 each begin cold, with what memory is left for their prefix caches: 1.1 million tokens.
Prompts have 12,000 tokens on average, and 27 % of all was asked before in the same part, so what is computed once
more decides. The trace knows no sessions, so ``session`` falls back to the least score; ``consistent_hash`` goes by
the first 512 tokens, which are the same in all of these prompts.

Published: prefix-aware routing beats load-aware, which beats random (SGLang's router, llm-d, Preble, Mooncake).
Differences are taken by seed, with 95 % intervals (``twin.experiment``).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from harness import Figures

from underlay.control.routing import POLICIES
from underlay.twin import simulation
from underlay.twin.experiment import Difference, Experiment
from underlay.twin.scenario import Scenario
from underlay.twin.summary import Summary, summarise

DEFAULT = "sticky"
ORDER = ("prefix", "least_requests", "random")
SEEDS = range(6)
PART_S = 589.0  # of the trace's own time: 6 of them
REPLICAS = 8
#: How much denser the trace is made: 3.4 requests a second become 6.8.
SPEED = 2.0
SLO = {"ttft": 5.0, "tpot": 0.2}


def policies(figures: Figures) -> None:
    """All policies on all parts; then the published order, and the default one beside each other."""
    found = experiment({name: {"routing": name} for name in POLICIES})
    for name in sorted(POLICIES, key=lambda name: -found.value(name, "goodput")):
        _say(figures, found, name)
    for better, worse in pairwise(ORDER):
        for figure, called in (("goodput", "goodput"), ("ttft_mean", "mean TTFT")):
            apart = difference(found, worse, better, figure)
            sign = 1.0 if figure == "goodput" else -1.0
            least = 100 * (sign * apart.interval.mean - apart.interval.half) / apart.first
            how = f"lower end of the 95 % interval of what is gained; the difference is {_told(apart)}"
            figures.add(f"policies: {better} over {worse}, {called}", least, "%", at_least=0.0, how=how)
    apart_from = {name: difference(found, name, DEFAULT, "goodput") for name in POLICIES if name != DEFAULT}
    lost = [name for name, apart in apart_from.items() if apart.verdict == "worse"]
    how = f"{DEFAULT} less each: " + "; ".join(f"{name} {_told(apart)}" for name, apart in apart_from.items())
    figures.add(f"policies: that beat {DEFAULT} in goodput", len(lost), "", at_most=0, how=how)


def _say(figures: Figures, found: Experiment, name: str) -> None:
    estimates = {estimate.name: estimate for estimate in found.estimates(name)}
    goodput = estimates["goodput"].interval
    ttft = " ".join(f"{q} {estimates[f'ttft_{q}'].interval.mean:.2f} s" for q in ("mean", "p50", "p90", "p99"))
    how = (
        f"+- {goodput.half:.2f}, {goodput.runs} parts; SLO {estimates['slo_attainment'].interval.mean:.1%}; "
        f"TTFT {ttft}; {estimates['cached_share'].interval.mean:.1%} of prompts cached"
    )
    figures.add(f"policies: goodput, {name}", goodput.mean, "/s", how=how)


def _told(apart: Difference) -> str:
    low, high = apart.interval.low, apart.interval.high
    return f"{apart.interval.mean:+.3f} {apart.unit} ({low:+.3f} to {high:+.3f})"


def difference(found: Experiment, first: str, second: str, figure: str) -> Difference:
    """How a figure of ``second`` differs from that of ``first``."""
    return next(each for each in found.differences(first, second) if each.name == figure)


def experiment(variants: dict[str, dict[str, Any]], seeds: range = SEEDS, **more: Any) -> Experiment:
    """Every variant of the policies on every part of the trace."""
    summaries = {name: [_run(name, told, seed, more) for seed in seeds] for name, told in variants.items()}
    return Experiment(len(variants) * len(seeds), summaries)


def _run(name: str, told: dict[str, Any], seed: int, more: dict[str, Any]) -> Summary:
    summary = summarise(simulation.run(scenario(told, seed, **more), seed))
    summary.variant = name
    return summary


def scenario(
    policies: dict[str, Any],
    seed: int,
    *,
    speed: float = SPEED,
    replicas: int = REPLICAS,
    slo: dict[str, float] | None = None,
    model: dict[str, Any] | None = None,
) -> Scenario:
    """One part of the trace, by its number."""
    trace = {
        "name": "mooncake-conversation",
        "start": PART_S * seed,
        "stop": PART_S * (seed + 1),
        "speed": speed,
    }
    served = {"model": "llama-3.1-70b", "parallelism": "tp4", "accelerator": "h200-sxm", **(model or {})}
    return Scenario.model_validate(
        {
            "name": "policies",
            "duration": PART_S / speed,
            "seed": seed,
            "slo": slo or SLO,
            "models": [{"name": "chat", "replicas": replicas, "context_tokens": 131_072, **served}],
            "world": {"servers": [{"accelerator": served["accelerator"]}]},
            "crowds": [{"trace": trace}],
            "policies": policies,
        }
    )
