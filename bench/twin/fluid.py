"""How quick is the twin as flows, and how far from the request level?

The shipped scenario of 100,000 accelerators is run once for its time. Worlds small enough for both levels are run
at both, with the same seeds; differences are those of the figures' means over the seeds. Levels of load, a day
pressed into a quarter of an hour, the loss of a region, and a lack of power beside slow replicas must agree; more
calls than can be served for some minutes need not, as flows say themselves that they are less sure there.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import Figures

from underlay.twin import scenario as scenarios
from underlay.twin import simulation
from underlay.twin.summary import summarise

SEEDS = (1, 2, 3)
COMPARED = ("throughput", "output_token_rate", "ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99", "e2e_p50", "e2e_p99",
            "slo_attainment", "refused", "failed", "energy_feeder", "carbon")  # fmt: skip
#: What must agree, in per cent.
MUST = {"throughput": 2.0, "ttft_p99": 10.0, "tpot_p99": 10.0, "e2e_p99": 10.0}

REGIONS = """
    - {name: america, like: azure/westus2}
    - {name: europe, like: azure/westeurope}
    - {name: asia, like: azure/japaneast}"""
MODEL = "{{name: chat, model: llama-3.1-70b, parallelism: tp4, replicas: {replicas}}}"


def _text(regions: str, replicas: int, arrivals: str, duration_s: int) -> str:
    return _world(regions, replicas, duration_s) + f"\n  - arrivals: {arrivals}\n    lengths: azure-2023-conv"


def _world(regions: str, replicas: int, duration_s: int) -> str:
    model = MODEL.format(replicas=replicas)
    return f"duration: {duration_s} s\nworld:\n  regions:{regions}\nmodels:\n  - {model}\ncrowds:"


def one(rate: float) -> str:
    """One region of 32 replicas, each offered so many calls a second (it can serve 10)."""
    return _text("\n    - {name: west, like: azure/westeurope}", 32, f"{{rate_per_s: {32 * rate}}}", 300)


def day() -> str:
    """Three regions, each with its own morning and night, 100 s apart."""
    crowds = "".join(
        f"""
  - region: {region}
    arrivals:
      rate_per_s: {16 * 4.5}
      over_time:
        - {{kind: ramp, end: 1.8, at: {150 + late}, lasts: 200}}
        - {{kind: ramp, end: 0.4, at: {450 + late}, lasts: 250}}
    lengths: azure-2023-conv"""
        for region, late in (("america", 0), ("europe", 100), ("asia", 200))
    )
    return _world(REGIONS, 16, 900) + crowds


def surge() -> str:
    """For three minutes 12 calls a second to each replica, of which it can serve 10."""
    arrivals = f"{{rate_per_s: {48 * 5}, over_time: [{{kind: surge, factor: 2.4, at: 300, lasts: 180}}]}}"
    return _text(REGIONS, 16, arrivals, 900)


def struck(*faults: str) -> str:
    """Three regions under a steady load, and what befalls them."""
    listed = "".join(f"\n  - {fault}" for fault in faults)
    return _text(REGIONS, 16, f"{{rate_per_s: {48 * 4.5}}}", 900) + f"\nfaults:{listed}\n"


WORLDS = {
    "30 % of what it can serve": (one(3.0), True),
    "65 % of it": (one(6.5), True),
    "85 % of it": (one(8.5), True),
    "92 % of it": (one(9.2), True),
    "a day in 15 minutes": (day(), True),
    "a region lost": (struck("{kind: outage, at: 300, lasts: 200, where: europe}"), True),
    "a lack of power, slow replicas": (
        struck(
            "{kind: power, at: 300, lasts: 300, where: europe, left: 0.6}",
            "{kind: slow, at: 200, lasts: 400, where: asia, share: 0.25, slower: 1.5}",
        ),
        True,
    ),
    "more than it can serve": (surge(), False),
}


def fluid(figures: Figures) -> None:
    """The time of the large scenario, then the differences."""
    began_s = time.process_time()
    result = simulation.run(scenarios.read("hundred-thousand"), 1)
    took_s = time.process_time() - began_s
    how = f"24 h of {result.requests.weights().sum():,.0f} requests over 37,500 replicas in three regions; one core"
    figures.add("fluid: a day of 100,000 accelerators", took_s, "s", at_most=120, aim=30, how=how)
    worst = dict.fromkeys(MUST, 0.0)
    for name, (text, must) in WORLDS.items():
        differences = compare(name, text)
        for figure, difference in differences.items() if must else ():
            if figure in MUST:
                worst[figure] = max(worst[figure], abs(difference), key=abs)
    count = sum(must for _, must in WORLDS.values())
    for figure, most in MUST.items():
        how = f"furthest from the request level in {count} worlds, means over {len(SEEDS)} seeds"
        figures.add(f"fluid: {figure.replace('_', ' ')}, difference", worst[figure], "%", at_most=most, how=how)


def compare(name: str, text: str) -> dict[str, float]:
    """Run a world at both levels and print their figures; differences in per cent of the request level's."""
    requests, flows = (levels(text, level) for level in ("requests", "fluid"))
    times = f"{requests.pop('cpu_s'):.1f} s and {flows.pop('cpu_s'):.1f} s a run"
    print(f"\n{name}: at request level, as flows ({times})", file=sys.stderr)
    differences = {}
    for figure, value in requests.items():
        differences[figure] = 100.0 * (flows[figure] / value - 1.0) if value else 0.0
        line = f"  {figure:18} {value:12.4f} {flows[figure]:12.4f} {differences[figure]:+8.2f} %"
        print(line, file=sys.stderr, flush=True)
    return differences


def levels(text: str, level: str) -> dict[str, float]:
    """The means over all seeds at one level."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.yaml"
        path.write_text(f"level: {level}\n{text}", encoding="utf-8")
        scenario = scenarios.read(path)
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        began_s = time.process_time()
        summary = summarise(simulation.run(scenario, seed))
        found.setdefault("cpu_s", []).append(time.process_time() - began_s)
        for figure in COMPARED:
            found.setdefault(figure, []).append(summary.value(figure))
    return {figure: statistics.fmean(values) for figure, values in found.items()}
